//! A site: signing key, image store, server, and stage-one files customized for it. All of
//! it made by the commands a user would type.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::host::{self, Background, Lines};
use crate::parts::Parts;
use crate::second::Pair;

/// The host's address inside QEMU's user network.
pub const HOST: &str = "10.0.2.2";
/// What the loader's first line starts with.
pub const FIRST_LINE: &str = "sparetire stage one";
/// What its failure screen says before the step's name.
pub const STOPPED: &str = "stopped in step: ";

/// A site, with its server running once [`Site::serve`] was called.
#[derive(Debug)]
pub struct Site<'a> {
    parts: &'a Parts,
    dir: PathBuf,
    server: Option<Server>,
}

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Server {
    _process: Background,
    _log: Lines,
    port: u16,
}

impl Server {
    /// URL of its store for HTTPS, seen from the virtual PC.
    #[must_use]
    pub fn guest_https_store(&self) -> String {
        format!("https://{HOST}:{}/store", self.port)
    }
}

/// Files with what a server needs for HTTPS.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// A boot session that was opened.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// Configuration for `stage1 customize`, with the token.
    pub config: PathBuf,
}

impl<'a> Site<'a> {
    /// A site below `dir` with a key and an empty store.
    pub fn new(parts: &'a Parts, dir: &Path) -> Result<Self> {
        let site = Site {
            parts,
            dir: dir.to_owned(),
            server: None,
        };
        site.generate_key("site")?;
        Ok(site)
    }

    /// Makes a key pair; returns the public key's file.
    pub fn generate_key(&self, name: &str) -> Result<PathBuf> {
        let secret = self.dir.join(format!("{name}.key"));
        let mut command = self.parts.sparetire();
        command
            .args(["key", "generate", "--no-password", "--key"])
            .arg(&secret);
        host::capture(&mut command).context("making a signing key")?;
        Ok(secret.with_extension("pub"))
    }

    /// The public key this site signs with.
    #[must_use]
    pub fn public_key(&self) -> PathBuf {
        self.dir.join("site.pub")
    }

    /// The store's directory.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// The server's state directory.
    fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Imports a kernel and its initramfs.
    pub fn import_pair(&self, name: &str, pair: &Pair, more: &[&str]) -> Result<()> {
        let mut command = self.parts.sparetire();
        command
            .args([
                "image",
                "import",
                "--kind",
                "linux-netboot",
                "--name",
                name,
                "--kernel",
            ])
            .arg(&pair.kernel);
        command
            .arg("--initrd")
            .arg(&pair.initrd)
            .args(["--cmdline", &pair.cmdline]);
        self.import(command.args(more))
    }

    /// Imports a live ISO.
    pub fn import_iso(&self, name: &str, iso: &Path, more: &[&str]) -> Result<()> {
        let mut command = self.parts.sparetire();
        command.args(["image", "import", "--name", name]).arg(iso);
        self.import(command.args(more))
    }

    /// Builds a recipe into `output` and imports it.
    pub fn build_image(&self, recipe: &Path, output: &Path, more: &[&str]) -> Result<()> {
        let mut command = self.parts.sparetire();
        command.args(["image", "build"]).arg(recipe);
        self.import(command.arg("--output").arg(output).args(more))
    }

    fn import(&self, command: &mut std::process::Command) -> Result<()> {
        command
            .arg("--key")
            .arg(self.dir.join("site.key"))
            .arg("--store")
            .arg(self.store());
        host::capture(command)
            .context("importing the image")
            .map(drop)
    }

    /// Size of an image in bytes, from the store.
    pub fn image_size(&self, name: &str) -> Result<u64> {
        let mut command = self.parts.sparetire();
        command
            .args(["image", "show", name, "--json", "--store"])
            .arg(self.store());
        let text = host::capture(&mut command).context("showing the image")?;
        let value = last_json(&text)?;
        let size = value
            .pointer("/manifest/size")
            .or_else(|| value.get("size"))
            .and_then(Value::as_u64);
        size.with_context(|| format!("`image show` names no size: {text}"))
    }

    /// The file with its operator's token.
    #[must_use]
    pub fn operator_token(&self) -> PathBuf {
        self.state().join("operator-token")
    }

    /// Kills the server, as a power cut would, and starts it again on the same port.
    pub fn restart(&mut self) -> Result<()> {
        let port = self.kill_server()?;
        self.serve_again(port)
    }

    /// Kills the server, as a power cut would; returns its port.
    pub fn kill_server(&mut self) -> Result<u16> {
        let port = self.port()?;
        self.server = None;
        Ok(port)
    }

    /// Starts the server again on the port it had.
    pub fn serve_again(&mut self, port: u16) -> Result<()> {
        self.server = Some(self.start_server(port, "state", None)?);
        Ok(())
    }

    /// Starts the server on a free port of the loopback interface.
    pub fn serve(&mut self) -> Result<()> {
        self.serve_again(0)
    }

    /// Another server on the same store, for HTTPS with this identity.
    pub fn serve_https(&self, identity: &Identity) -> Result<Server> {
        self.start_server(0, "state-https", Some(identity))
    }

    fn start_server(&self, port: u16, state: &str, identity: Option<&Identity>) -> Result<Server> {
        let mut command = self.parts.sparetire();
        command
            .args([
                "serve",
                "--json",
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--store",
            ])
            .arg(self.store())
            .arg("--state")
            .arg(self.dir.join(state));
        if let Some(identity) = identity {
            command.arg("--tls-cert").arg(&identity.certificate);
            command.arg("--tls-key").arg(&identity.key);
        }
        let mut process = Background::start(&command)?;
        let (said, log) = (process.stdout()?, process.stderr()?);
        let line = said
            .next_within(host::patient(Duration::from_secs(60)))?
            .with_context(|| {
                format!(
                    "the server ended: {}",
                    log.rest_within(Duration::from_secs(5))
                )
            })?;
        let value: Value =
            serde_json::from_str(&line).with_context(|| format!("understanding {line:?}"))?;
        let url = value["url"]
            .as_str()
            .with_context(|| format!("the server named no URL: {line}"))?;
        let port = url
            .rsplit(':')
            .next()
            .and_then(|port| port.trim_end_matches('/').parse().ok());
        let port = port.with_context(|| format!("{url} has no port"))?;
        Ok(Server {
            _process: process,
            _log: log,
            port,
        })
    }

    /// The server's port on the loopback interface.
    pub fn port(&self) -> Result<u16> {
        Ok(self
            .server
            .as_ref()
            .context("the site's server was not started")?
            .port)
    }

    /// The server's URL on the host.
    pub fn url(&self) -> Result<String> {
        Ok(format!("http://127.0.0.1:{}", self.port()?))
    }

    /// The same, seen from the virtual PC.
    pub fn guest_url(&self) -> Result<String> {
        Ok(format!("http://{HOST}:{}", self.port()?))
    }

    /// Opens a boot session.
    pub fn open_session(&self, image: &str) -> Result<Session> {
        let config = self.dir.join("session.toml");
        let mut command = self.session_command("create")?;
        command
            .args([
                "--json",
                "--image",
                image,
                "--loader-server",
                &self.guest_url()?,
                "--config-out",
            ])
            .arg(&config);
        let text = host::capture(&mut command).context("opening a boot session")?;
        let value = last_json(&text)?;
        let id = value["id"]
            .as_str()
            .with_context(|| format!("`session create` named no id: {text}"))?
            .to_owned();
        Ok(Session { id, config })
    }

    /// A `session` command as the operator of this site.
    pub fn session_command(&self, verb: &str) -> Result<std::process::Command> {
        let mut command = self.parts.sparetire();
        command.args([
            "session",
            verb,
            "--server",
            &self.url()?,
            "--operator-token-file",
        ]);
        command.arg(self.operator_token());
        Ok(command)
    }

    /// The events of a session so far.
    pub fn events(&self, session: &Session) -> Result<Vec<Value>> {
        let token =
            fs::read_to_string(self.operator_token()).context("reading the operator's token")?;
        let mut command = std::process::Command::new("curl");
        let url = format!("{}/api/v1/sessions/{}/events", self.url()?, session.id);
        command.args([
            "--silent",
            "--show-error",
            "--fail",
            "--header",
            &format!("Authorization: Bearer {}", token.trim()),
        ]);
        let text = host::capture(command.arg(url)).context("asking for the session's events")?;
        serde_json::from_str(&text).with_context(|| format!("understanding {text:?}"))
    }

    /// A copy of the stage-one file `from`, customized with a session.
    pub fn customize(&self, from: &Path, session: &Session, more: &[&str]) -> Result<PathBuf> {
        self.customize_trusting(from, session, &self.public_key(), more)
    }

    /// The same with another key to trust.
    pub fn customize_trusting(
        &self,
        from: &Path,
        session: &Session,
        key: &Path,
        more: &[&str],
    ) -> Result<PathBuf> {
        let to = self
            .dir
            .join(from.file_name().context("the stage-one file has no name")?);
        let mut command = self.parts.sparetire();
        command
            .args(["stage1", "customize"])
            .arg(from)
            .arg("--config")
            .arg(&session.config);
        command
            .arg("--trust-key")
            .arg(key)
            .args(more)
            .arg("--output")
            .arg(&to);
        host::capture(&mut command).context("customizing stage one")?;
        Ok(to)
    }
}

/// The last line of output with `--json` is the result.
fn last_json(text: &str) -> Result<Value> {
    let line = text
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .context("the command printed no result")?;
    serde_json::from_str(line).with_context(|| format!("understanding {line:?}"))
}
