//! Keeps the drives of one PC attached: one supervised task, which connects, serves, and connects again after a loss.
//!
//! ```text
//! connecting -> serving -> ended (asked, idle)
//!     ^            |
//!     +- waiting <-+  connection lost; longer each time, until a read was served again
//! ```
//! A first connection that fails ends the task at once: someone waits for the answer. Wrong credentials are never tried twice.
//! A panic ends the task it happens in and no other.

mod sector_map;
mod service;
mod session;
mod statistics;

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amt_redirection::console::AuthPolicy;
use amt_redirection::console::ider::{Console, Error, Options, StartMode};
use amt_redirection::session::SessionKind;
use atapi::{Behaviour, DriveKind, MediumError};
use thiserror::Error as ThisError;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep};

use super::block_source::{Blank, BlockSource};
use super::connect::{self, ConnectError, Credentials, Dial};
pub use sector_map::{SECTOR, SectorMap};
use service::Service;
use session::{End, Reading, Session};
pub use statistics::{Histogram, Statistics};

/// Events that a slow listener may be behind before it misses some.
const EVENTS: usize = 64;

/// A session that lasts longer is not part of a struggle to come back.
const LASTING: Duration = Duration::from_secs(120);

/// What to serve, to whom, and how.
#[derive(Clone)]
pub struct Config {
    /// The way to the PC.
    pub dial: Arc<dyn Dial>,
    /// User and password of its firmware.
    pub credentials: Credentials,
    /// Which weak kinds of authentication are allowed.
    pub policy: AuthPolicy,
    /// What is in the CD drive.
    pub cd: Option<Arc<dyn BlockSource>>,
    /// What is in the floppy drive. Some hosts never come to rest when it is empty.
    pub floppy: Option<Arc<dyn BlockSource>>,
    /// Unproven choices of the drives.
    pub behaviour: Behaviour,
    /// Times and modes of the session.
    pub options: Options,
    /// Start mode after a loss: the host may be in the middle of its boot.
    pub again: StartMode,
    /// Connecting again.
    pub retry: Retry,
    /// What a session may take.
    pub limits: Limits,
}

impl Config {
    /// A CD, a blank floppy, and defaults for everything else.
    pub fn new(
        dial: Arc<dyn Dial>,
        credentials: Credentials,
        cd: Option<Arc<dyn BlockSource>>,
    ) -> Self {
        Self {
            dial,
            credentials,
            policy: AuthPolicy::default(),
            cd,
            floppy: Some(Arc::new(Blank::FLOPPY)),
            behaviour: Behaviour::default(),
            options: Options::default(),
            again: StartMode::Now,
            retry: Retry::default(),
            limits: Limits::default(),
        }
    }
}

/// A medium that its drive cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
#[error("{} image", match .kind { DriveKind::Cd => "CD", DriveKind::Floppy => "floppy" })]
pub struct ConfigError {
    /// Which drive.
    pub kind: DriveKind,
    /// Why.
    #[source]
    pub source: MediumError,
}

/// How to come back after a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Wait before the first attempt; each further one waits twice as long.
    pub first: Duration,
    /// Longest wait.
    pub longest: Duration,
    /// End when no medium could be read for this long. Zero: never come back.
    pub give_up: Duration,
}

impl Default for Retry {
    /// 1 s to 30 s, for ten minutes.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(30),
            give_up: Duration::from_secs(600),
        }
    }
}

/// What a session may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// End in order when no medium was read or written for this long. Questions of the host do not count: an operating
    /// system asks for the state of its drives for ever.
    pub idle: Option<Duration>,
    /// An image that does not yield its bytes for this long has a read error.
    pub read_patience: Duration,
    /// A peer that takes nothing of what was sent for this long is lost.
    pub stall: Duration,
}

impl Default for Limits {
    /// No idle limit; 10 s for a read, below the patience of usual hosts; 60 s for the network.
    fn default() -> Self {
        Self {
            idle: None,
            read_patience: Duration::from_secs(10),
            stall: Duration::from_secs(60),
        }
    }
}

/// What happens, in order.
#[derive(Debug, Clone)]
pub enum Event {
    /// Firmware agreed to the session.
    Opened {
        /// Major and minor.
        firmware_version: (u8, u8),
        /// Most data bytes in one message to it.
        read_buffer: u16,
        /// Most data bytes in one message from it.
        write_buffer: u16,
    },
    /// The drives are there, or will be at the next reset of the host, as the start mode says.
    Attached,
    /// The host was reset.
    Reset {
        /// As received; the meaning of its bits is unknown.
        mask: u8,
    },
    /// Firmware reports an error; no list of them is known.
    FirmwareError(u8),
    /// The connection is gone, or could not be made again.
    Lost {
        /// Why.
        loss: Loss,
        /// The next attempt comes after this.
        retry_in: Duration,
    },
    /// The task has ended.
    Ended(EndReason),
}

/// Where a task is.
#[derive(Debug, Clone)]
pub enum State {
    /// Connecting and authenticating.
    Connecting,
    /// A session is open.
    Serving,
    /// Between a loss and the next attempt.
    Waiting,
    /// Over.
    Ended(EndReason),
}

/// Why a connection ended that nobody wanted to end.
#[derive(Debug, Clone, ThisError)]
pub enum Loss {
    /// It could not be made.
    #[error("no session could be opened")]
    Connect(#[source] Arc<ConnectError>),
    /// Firmware did not attach the drives, and answered this instead of 1.
    #[error("the firmware did not attach the drives (value {0:#x})")]
    AttachRefused(u32),
    /// Firmware broke the protocol, refused, or fell silent.
    #[error("the session failed")]
    Protocol(#[source] Error),
    /// Firmware ended the session in order.
    #[error("the firmware ended the session")]
    Closed,
    /// The connection was closed without a word.
    #[error("the connection was closed")]
    HungUp,
    /// The network failed.
    #[error("the connection broke")]
    Io(#[source] Arc<io::Error>),
    /// Nothing that was sent was taken for this long.
    #[error("the firmware took nothing for {} s", .0.as_secs())]
    Stalled(Duration),
}

/// Why a task ended.
#[derive(Debug, Clone, ThisError)]
pub enum EndReason {
    /// As asked.
    #[error("ended as asked")]
    Asked,
    /// No medium was touched for as long as [`Limits::idle`] allows.
    #[error("no medium was read for a while")]
    Idle,
    /// The first session could not be had, or a later failure cannot be cured.
    #[error("drives could not be attached")]
    Failed(#[source] Loss),
    /// Coming back failed for as long as [`Retry::give_up`] allows; the last failure.
    #[error("the session was lost and did not come back")]
    GaveUp(#[source] Loss),
    /// A bug. Other sessions are not affected.
    #[error("the session task panicked")]
    Panicked,
}

/// Serves one PC.
#[derive(Debug)]
pub struct IderServer;

impl IderServer {
    /// Starts the task. Must be called inside of a tokio runtime.
    pub fn spawn(config: Config) -> Result<IderHandle, ConfigError> {
        let service = Service::new(&config)?;
        let (events, early) = broadcast::channel(EVENTS);
        let (state_sender, state) = watch::channel(State::Connecting);
        let (stop, stopped) = watch::channel(false);
        let handle = IderHandle {
            events: events.clone(),
            early: Mutex::new(Some(early)),
            state,
            stop,
            statistics: service.shared_statistics(),
        };
        let keeper = Keeper {
            config,
            service,
            events: events.clone(),
            state: state_sender.clone(),
            stop: stopped,
        };
        let task = tokio::spawn(keeper.keep());
        tokio::spawn(async move {
            let reason = task.await.unwrap_or_else(|error| {
                tracing::error!(%error, "IDE-R session task");
                EndReason::Panicked
            });
            state_sender.send_replace(State::Ended(reason.clone()));
            let _ = events.send(Event::Ended(reason));
        });
        Ok(handle)
    }
}

/// Watches and ends a task. Dropped, it asks the task to end.
#[derive(Debug)]
pub struct IderHandle {
    events: broadcast::Sender<Event>,
    /// Listens since before the task began: its first words come sooner than its owner can subscribe.
    early: Mutex<Option<broadcast::Receiver<Event>>>,
    state: watch::Receiver<State>,
    stop: watch::Sender<bool>,
    statistics: Arc<Mutex<Statistics>>,
}

impl IderHandle {
    /// Events: for the first caller from the beginning, for others from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        let early = self
            .early
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        early.unwrap_or_else(|| self.events.subscribe())
    }

    /// Where the task is, now and whenever that changes.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// What was counted so far.
    pub fn statistics(&self) -> Statistics {
        service::lock(&self.statistics).clone()
    }

    /// Asks the task to end in order: Close, end of session, FIN. Ask [`IderHandle::ended`] whether it has.
    pub fn end(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the task has ended.
    pub async fn ended(&self) -> EndReason {
        let mut state = self.state.clone();
        let ended = state.wait_for(|state| matches!(state, State::Ended(_)));
        match ended.await.as_deref() {
            Ok(State::Ended(reason)) => reason.clone(),
            // The supervisor went without a word: the runtime is being shut down.
            _ => EndReason::Panicked,
        }
    }
}

/// The task.
struct Keeper {
    config: Config,
    service: Service,
    events: broadcast::Sender<Event>,
    state: watch::Sender<State>,
    stop: watch::Receiver<bool>,
}

impl Keeper {
    async fn keep(mut self) -> EndReason {
        let mut options = self.config.options.clone();
        let mut wait = self.config.retry.first;
        let mut attached = false;
        let mut good = Instant::now();
        let mut stuck = Vec::new();
        loop {
            self.state.send_replace(State::Connecting);
            let began = Instant::now();
            let reads = self.service.statistics().reads;
            let attachments = self.service.statistics().attachments;
            let loss = match self.session(options.clone(), &mut stuck).await {
                None | Some(End::Asked) => return EndReason::Asked,
                Some(End::Idle) => return EndReason::Idle,
                Some(End::Lost(loss)) => loss,
            };
            attached |= self.service.statistics().attachments > attachments;
            // A session that lasted was a good one, even if nobody read in it: a PC may start tomorrow.
            if self.service.statistics().reads > reads || began.elapsed() > LASTING {
                wait = self.config.retry.first;
                good = Instant::now();
            }
            if !attached || loss.cannot_be_cured() || self.config.retry.give_up.is_zero() {
                return EndReason::Failed(loss);
            }
            if good.elapsed() >= self.config.retry.give_up {
                return EndReason::GaveUp(loss);
            }
            tracing::info!(%loss, ?wait, "IDE-R session lost");
            self.state.send_replace(State::Waiting);
            let _ = self.events.send(Event::Lost {
                loss,
                retry_in: wait,
            });
            if unless_asked(&mut self.stop, sleep(wait)).await.is_none() {
                return EndReason::Asked;
            }
            wait = (wait * 2).min(self.config.retry.longest);
            options.start_mode = self.config.again;
        }
    }

    /// One connection; nothing if the end was asked for before it was there.
    async fn session(&mut self, options: Options, stuck: &mut Vec<Reading>) -> Option<End> {
        let connecting = async {
            let mut stream = self.config.dial.dial().await?;
            let (credentials, policy) = (&self.config.credentials, self.config.policy);
            let opened = connect::open(&mut stream, SessionKind::Ider, credentials, policy).await?;
            Ok::<_, ConnectError>((stream, opened))
        };
        let (stream, opened) = match unless_asked(&mut self.stop, connecting).await? {
            Ok(connected) => connected,
            Err(error) => return Some(End::Lost(Loss::Connect(Arc::new(error)))),
        };
        self.state.send_replace(State::Serving);
        let session = Session {
            service: &mut self.service,
            limits: &self.config.limits,
            events: &self.events,
            stop: &mut self.stop,
            stuck,
        };
        let console = Console::new(options, Instant::now().into_std());
        Some(session.run(stream, console, &opened.rest).await)
    }
}

impl Loss {
    fn cannot_be_cured(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_final(),
            other => other.is_final(),
        }
    }
}

/// The future's output, or nothing when the end is asked for first.
async fn unless_asked<T>(
    stop: &mut watch::Receiver<bool>,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        output = future => Some(output),
        // An error means that nobody is left who could want the session.
        _ = stop.wait_for(|&stop| stop) => None,
    }
}
