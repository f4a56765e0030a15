//! What a server is started with: defaults, then the configuration file, then the command line,
//! each over the one before it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use sparetire_builder::exit::{ExitCode, WithCode};

use super::ServeArgs;
use super::listen::Limits;
use super::sessions::SessionLimits;

/// Read when `--config` is not given; need not exist then.
pub const DEFAULT_CONFIG: &str = "/etc/sparetire/server.toml";

/// Everything a server is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Addresses to listen on; port 0 takes any free port.
    pub listen: Vec<SocketAddr>,
    /// The image store to serve.
    pub store: PathBuf,
    /// Where the session database and the operator's token lie.
    pub state: PathBuf,
    /// A file with the operator's token; without it one is made in the state folder.
    pub operator_token_file: Option<PathBuf>,
    /// Certificate chain and private key, PEM; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// What connections may cost.
    pub limits: Limits,
    /// What sessions may cost.
    pub sessions: SessionLimits,
}

/// Where certificate and key lie.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate chain, the server's own first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    listen: Vec<SocketAddr>,
    store: Option<PathBuf>,
    state: Option<PathBuf>,
    operator_token_file: Option<PathBuf>,
    tls: Option<TlsFiles>,
    limits: FileLimits,
    sessions: FileSessions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileLimits {
    connections: Option<usize>,
    connections_per_peer: Option<usize>,
    head_seconds: Option<u64>,
    stall_seconds: Option<u64>,
    drain_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileSessions {
    live: Option<u64>,
    lifetime_seconds: Option<u64>,
    max_lifetime_seconds: Option<u64>,
    keep_days: Option<u64>,
}

impl Settings {
    /// Puts the three layers together.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or understood, or the outcome makes no sense.
    pub fn load(args: &ServeArgs) -> anyhow::Result<Self> {
        let file = match &args.config {
            Some(path) => read(path).code(ExitCode::Usage)?,
            None if Path::new(DEFAULT_CONFIG).exists() => {
                read(Path::new(DEFAULT_CONFIG)).code(ExitCode::Usage)?
            }
            None => File::default(),
        };
        merge(file, args).code(ExitCode::Usage)
    }
}

fn read(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading configuration {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("reading configuration {}", path.display()))
}

fn merge(file: File, args: &ServeArgs) -> anyhow::Result<Settings> {
    let limits = Limits::default();
    let sessions = SessionLimits::default();
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => Some(TlsFiles {
            cert: cert.clone(),
            key: key.clone(),
        }),
        (None, None) => file.tls,
        // clap asks for both.
        _ => bail!("certificate and private key go together"),
    };
    let settings = Settings {
        listen: match (args.listen.is_empty(), file.listen.is_empty()) {
            (false, _) => args.listen.clone(),
            (true, false) => file.listen,
            (true, true) => vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
        },
        store: match args.store.clone().or(file.store) {
            Some(store) => store,
            None => sparetire_builder::cli::default_store()?,
        },
        state: match args.state.clone().or(file.state) {
            Some(state) => state,
            None => default_state()?,
        },
        operator_token_file: args
            .operator_token_file
            .clone()
            .or(file.operator_token_file),
        tls,
        limits: Limits {
            connections: file.limits.connections.unwrap_or(limits.connections),
            connections_per_peer: file
                .limits
                .connections_per_peer
                .unwrap_or(limits.connections_per_peer),
            head: duration(file.limits.head_seconds, limits.head),
            stall: duration(file.limits.stall_seconds, limits.stall),
            drain: duration(file.limits.drain_seconds, limits.drain),
        },
        sessions: SessionLimits {
            live: file.sessions.live.unwrap_or(sessions.live),
            lifetime: duration(file.sessions.lifetime_seconds, sessions.lifetime),
            max_lifetime: duration(file.sessions.max_lifetime_seconds, sessions.max_lifetime),
            keep: duration(
                file.sessions
                    .keep_days
                    .map(|days| days.saturating_mul(24 * 3600)),
                sessions.keep,
            ),
            ..sessions
        },
    };
    settings.check()?;
    Ok(settings)
}

impl Settings {
    fn check(&self) -> anyhow::Result<()> {
        let Limits {
            connections,
            connections_per_peer,
            head,
            stall,
            ..
        } = self.limits;
        if connections == 0 || connections_per_peer == 0 {
            bail!("a server without connections serves nobody; raise [limits] connections");
        }
        // What the semaphore can count; more file descriptors than that there are not.
        if connections > tokio::sync::Semaphore::MAX_PERMITS {
            bail!("[limits] connections is too large");
        }
        if head.is_zero() || stall.is_zero() {
            bail!("[limits] head_seconds and stall_seconds must be at least 1");
        }
        if self.sessions.lifetime.is_zero() || self.sessions.max_lifetime < self.sessions.lifetime {
            bail!("[sessions] lifetime_seconds must be between 1 and max_lifetime_seconds");
        }
        Ok(())
    }
}

fn duration(seconds: Option<u64>, default: Duration) -> Duration {
    // A hundred years: as good as for ever, and far from every overflow.
    seconds.map_or(default, |seconds| {
        Duration::from_secs(seconds.min(100 * 365 * 24 * 3600))
    })
}

/// `$SPARETIRE_STATE`, or `sparetire` below the user's state directory (XDG base directories).
///
/// # Errors
///
/// When neither is set nor a home directory known.
pub fn default_state() -> anyhow::Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(state) = variable("SPARETIRE_STATE") {
        return Ok(PathBuf::from(state));
    }
    if let Some(base) = variable("XDG_STATE_HOME").map(PathBuf::from)
        && base.is_absolute()
    {
        return Ok(base.join("sparetire"));
    }
    match variable("HOME") {
        Some(home) => Ok(PathBuf::from(home).join(".local/state/sparetire")),
        None => bail!("neither XDG_STATE_HOME nor HOME is set; name the folder with --state"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> ServeArgs {
        ServeArgs {
            store: Some("/args/store".into()),
            state: Some("/args/state".into()),
            ..ServeArgs::default()
        }
    }

    fn file(text: &str) -> anyhow::Result<Settings> {
        merge(toml::from_str(text)?, &args())
    }

    #[test]
    fn without_a_file_it_listens_on_loopback_only() {
        let settings = file("").unwrap();
        assert_eq!(settings.listen, ["127.0.0.1:8080".parse().unwrap()]);
        assert_eq!(settings.limits, Limits::default());
        assert_eq!(settings.sessions, SessionLimits::default());
    }

    #[test]
    fn command_line_wins_over_file() {
        let text = r#"
            listen = ["192.0.2.1:80"]
            store = "/file/store"
            operator_token_file = "/file/token"
            [tls]
            cert = "/file/cert"
            key = "/file/key"
        "#;
        let settings = file(text).unwrap();
        assert_eq!(settings.listen, ["192.0.2.1:80".parse().unwrap()]);
        assert_eq!(settings.store, Path::new("/args/store"));
        assert_eq!(
            settings.operator_token_file.as_deref(),
            Some(Path::new("/file/token"))
        );
        assert_eq!(settings.tls.unwrap().cert, Path::new("/file/cert"));
        let args = ServeArgs {
            listen: vec!["[::1]:81".parse().unwrap()],
            ..args()
        };
        let settings = merge(toml::from_str(text).unwrap(), &args).unwrap();
        assert_eq!(settings.listen, ["[::1]:81".parse().unwrap()]);
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for text in [
            "lisen = []",
            "listen = [\"localhost\"]",
            "[limits]\nconnections = 0",
            "[limits]\nhead_seconds = 0",
            "[sessions]\nlifetime_seconds = 0",
            "[sessions]\nlifetime_seconds = 10\nmax_lifetime_seconds = 9",
            "[tls]\ncert = \"/x\"",
        ] {
            assert!(file(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_come_from_the_file() {
        let settings = file(
            "[limits]\nconnections_per_peer = 7\nstall_seconds = 9223372036854775807\n[sessions]\nkeep_days = 1",
        )
        .unwrap();
        assert_eq!(settings.limits.connections_per_peer, 7);
        assert_eq!(settings.limits.stall.as_secs(), 100 * 365 * 24 * 3600);
        assert_eq!(settings.sessions.keep.as_secs(), 24 * 3600);
    }
}
