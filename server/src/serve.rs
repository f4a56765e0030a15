//! `sparetire serve`: an image store and the boot-session API over HTTP.
//!
//! Who may reach the port may read the images, which are signed and public to the network they
//! serve; sessions need a token. Nothing here writes to the store.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sparetire_builder::cli::Ui;
use sparetire_builder::exit::{ExitCode, WithCode};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use self::api::Api;
pub use self::clock::Clock;
pub use self::listen::Limits;
use self::listen::{Gate, Listener};
use self::sessions::Sessions;
pub use self::sessions::{SessionError, SessionLimits};
pub use self::settings::{DEFAULT_CONFIG, Settings, TlsFiles};
use self::store::StoreRoot;
use self::token::Token;

mod api;
mod clock;
mod http;
mod listen;
pub mod operator;
mod sessions;
pub mod settings;
mod store;
pub(crate) mod stream;
mod tls;
pub mod token;

/// Options of `sparetire serve`.
#[derive(Debug, Default, clap::Args)]
pub struct ServeArgs {
    /// Configuration file [default: /etc/sparetire/server.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port to listen on; repeatable; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Image store to serve under /store/ [default: $SPARETIRE_STORE, else as for `image`]
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Folder for sessions and the operator's token [default: $SPARETIRE_STATE, else ~/.local/state/sparetire]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// File with the operator's token [default: operator-token in the state folder, made on first start]
    ///
    /// $SPARETIRE_OPERATOR_TOKEN, when set, is the token itself and wins over any file.
    #[arg(long, value_name = "FILE")]
    pub operator_token_file: Option<PathBuf>,
    /// Certificate chain (PEM), to serve HTTPS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

/// Runs the server until SIGINT or SIGTERM.
///
/// # Errors
///
/// When it cannot be started.
pub fn run(args: &ServeArgs, ui: Ui) -> anyhow::Result<()> {
    let settings = Settings::load(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        // Before the first connection, so that no signal finds the default handler.
        let mut terminate = signal(SignalKind::terminate()).context("handling SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("handling SIGINT")?;
        let server = Server::start(settings, Clock::system()).await?;
        for url in server.urls() {
            if ui.json {
                ui.print_json(&serde_json::json!({ "event": "listening", "url": url }))?;
            }
            ui.line(format!("listening on {url}"));
        }
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: stopping"),
            _ = interrupt.recv() => info!("SIGINT: stopping"),
        }
        server.stop().await;
        Ok(())
    })
}

/// A running server. Dropping it ends everything at once; [`Server::stop`] ends it in order.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    scheme: &'static str,
    api: Arc<Api>,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
    /// Marks expired sessions.
    _sweeper: JoinSet<()>,
    /// Held as long as the server runs.
    _state_lock: std::fs::File,
}

impl Server {
    /// Opens the state, binds all addresses and starts answering.
    ///
    /// # Errors
    ///
    /// When the state folder, the token, the certificate or an address cannot be used.
    pub async fn start(settings: Settings, clock: Clock) -> anyhow::Result<Self> {
        let state_lock = open_state(&settings.state)?;
        let operator = operator_token(&settings)?;
        let tls = match &settings.tls {
            Some(files) => Some(tls::acceptor(&files.cert, &files.key).code(ExitCode::Usage)?),
            None => None,
        };
        if !settings.store.is_dir() {
            warn!(store = %settings.store.display(), "there is no store yet; every image is missing");
        }
        let database = settings.state.join("sessions.sqlite");
        let sessions = Sessions::open(&database, settings.sessions.clone())
            .await
            .with_context(|| format!("opening {}", database.display()))?;
        let (stop, stopping) = watch::channel(false);
        let api = Arc::new(Api {
            sessions,
            operator: operator.hash(),
            clock,
            body_timeout: settings.limits.head,
            // Each holds a connection as well: the rest stays free for loaders.
            followers: Arc::new(Semaphore::new(settings.limits.connections.div_ceil(4))),
            stop: stopping.clone(),
        });
        let router = http::router(Arc::clone(&api), StoreRoot::new(settings.store.clone()));
        let gate = Gate::new(&settings.limits);
        let mut addresses = Vec::new();
        let mut listeners = JoinSet::new();
        for address in &settings.listen {
            let socket = TcpListener::bind(address)
                .await
                .with_context(|| format!("listening on {address}"))?;
            addresses.push(socket.local_addr().context("reading own address")?);
            let listener = Listener {
                socket,
                tls: tls.clone(),
                router: router.clone(),
                gate: gate.clone(),
                limits: settings.limits.clone(),
            };
            listeners.spawn(listener.run(stopping.clone()));
        }
        let mut sweeper = JoinSet::new();
        sweeper.spawn(sweep(Arc::clone(&api)));
        info!(store = %settings.store.display(), state = %settings.state.display(), "serving");
        Ok(Self {
            addresses,
            scheme: if tls.is_some() { "https" } else { "http" },
            api,
            stop,
            listeners,
            _sweeper: sweeper,
            _state_lock: state_lock,
        })
    }

    /// The addresses it listens on, with the ports that were really taken.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The same as URLs.
    pub fn urls(&self) -> impl Iterator<Item = String> {
        self.addresses
            .iter()
            .map(|address| format!("{}://{address}", self.scheme))
    }

    /// Takes no more connections, lets running requests end within the drain time, then closes
    /// the database.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.listeners.join_next().await.is_some() {}
        self.api.sessions.close().await;
    }
}

/// Creates the state folder, for its owner only, and makes sure that no other server uses it:
/// followers are woken inside one process.
fn open_state(state: &Path) -> anyhow::Result<std::fs::File> {
    let show = state.display();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .with_context(|| format!("creating state folder {show}"))?;
    let lock = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(state.join("lock"))
        .with_context(|| format!("writing to state folder {show}"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(anyhow::anyhow!(
            "another server is using state folder {show}"
        ))
        .code(ExitCode::Refused),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("locking state folder {show}"))
        }
    }
}

fn operator_token(settings: &Settings) -> anyhow::Result<Token> {
    if let Some(token) = operator::from_environment().code(ExitCode::Usage)? {
        return Ok(token);
    }
    if let Some(path) = &settings.operator_token_file {
        return operator::read(path).code(ExitCode::Usage);
    }
    let path = operator::default_file(&settings.state);
    let token = operator::read_or_create(&path)?;
    info!(file = %path.display(), "operator's token");
    Ok(token)
}

/// Expired sessions are refused by the clock alone; this tells their followers, and forgets
/// what is old.
async fn sweep(api: Arc<Api>) {
    let mut turn = tokio::time::interval(Duration::from_secs(1));
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        if let Err(error) = api.sessions.expire(api.clock.now()).await {
            error!(%error, "expiring sessions");
        }
    }
}
