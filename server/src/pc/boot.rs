//! `sparetire pc boot`: the technician's one command, from whatever state the PC is in to its running second system.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use boot_api::{ImageName, Target};
use reqwest::Url;
use sparetire_builder::cli::{Ui, default_store};
use sparetire_builder::exit::{ExitCode, coded};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::course::{Arrived, Course};
use self::live::Live;
use self::reach::Reach;
use super::{PcArgs, explained};
use crate::session::client::ServerArgs;

mod course;
pub(super) mod explain;
mod live;
mod medium;
pub(super) mod reach;
mod serial;
mod site;

/// Options of `pc boot`.
#[derive(Debug, clap::Args)]
pub struct BootArgs {
    /// The PC.
    #[command(flatten)]
    pub pc: PcArgs,
    /// Image to boot: stage one goes over storage redirection and fetches it over HTTP
    #[arg(long, value_name = "NAME", required_unless_present = "iso")]
    pub image: Option<ImageName>,
    /// Version of the image [default: the newest]
    #[arg(long, value_name = "VERSION", requires = "image")]
    pub image_version: Option<u64>,
    /// Any ISO instead, whole over storage redirection: slow, but nothing else is needed
    #[arg(long, value_name = "FILE", conflicts_with = "image")]
    pub iso: Option<PathBuf>,
    /// Where the image goes: ram, usb or disk
    #[arg(long, default_value = "ram", value_parser = crate::session::target)]
    pub target: Target,
    /// How the PC is started
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// Ask for the consent code, if the PC wants its user's consent
    ///
    /// The PC shows six digits; its user reads them out. One line on standard input is the code.
    #[arg(long)]
    pub consent: bool,
    /// With --server: stay until the hand-off, not just until stage one runs
    #[arg(long)]
    pub wait: bool,
    /// Show what the PC prints on its serial line (serial over LAN), its firmware's text included
    #[arg(long)]
    pub sol: bool,
    /// Stage-one ISO [default: $SPARETIRE_STAGE1, else stage1.iso beside the default store: ~/.local/share/sparetire]
    #[arg(long, value_name = "FILE", env = "SPARETIRE_STAGE1")]
    pub stage1: Option<PathBuf>,
    /// Public key that must have signed the image, a file or the key itself; repeatable [default: those built into stage
    /// one, else your own]
    #[arg(long, value_name = "KEY")]
    pub trust_key: Vec<String>,
    /// Image store, served to the PC for this boot [default: $SPARETIRE_STORE, else as for `image`]
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    pub store: Option<PathBuf>,
    /// A running server with the image, instead of serving the store for this boot
    #[arg(long, value_name = "URL", env = "SPARETIRE_SERVER")]
    pub server: Option<Url>,
    /// File with the operator's token of that server
    #[arg(long, value_name = "FILE", requires = "server")]
    pub operator_token_file: Option<PathBuf>,
    /// Certificate (PEM) of an authority to trust besides the system's, for that server
    #[arg(long, value_name = "FILE", requires = "server")]
    pub ca: Option<PathBuf>,
    /// Address or URL under which the PC reaches the image, if it is not this machine's own address
    #[arg(long, value_name = "ADDRESS|URL")]
    pub advertise: Option<String>,
    /// Serial console for stage one, such as ttyS0; repeatable
    #[arg(long, value_name = "DEVICE")]
    pub console: Vec<String>,
    /// Text to add to the second system's kernel command line
    #[arg(long, value_name = "TEXT", requires = "image")]
    pub append: Option<String>,
    /// Seconds after which the boot session ends by itself [default: the server's choice]
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<u64>,
    /// Seconds without any sign of life from the PC after which it is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub patience: u64,
    /// With --iso: end when nothing was read for this long [default: never]
    #[arg(long, value_name = "SECONDS", requires = "iso")]
    pub until_idle: Option<u64>,
    /// Stop at the first failed step of stage one instead of waiting for its next try
    #[arg(long)]
    pub stop_on_failure: bool,
}

/// How the PC comes to its next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Mode {
    /// Reset it, or switch it on
    #[default]
    Now,
    /// Let its operating system shut down first, where there is an agent for that
    Graceful,
    /// Wait until it starts the next time, whoever causes it
    NextBoot,
}

impl BootArgs {
    fn store(&self) -> anyhow::Result<PathBuf> {
        self.store.clone().map_or_else(default_store, Ok)
    }

    fn stage1(&self) -> anyhow::Result<PathBuf> {
        match &self.stage1 {
            Some(path) => Ok(path.clone()),
            // Beside the store's default place.
            None => Ok(default_store()?.with_file_name("stage1.iso")),
        }
    }

    fn server_args(&self, server: Url) -> ServerArgs {
        ServerArgs {
            server,
            operator_token_file: self.operator_token_file.clone(),
            ca: self.ca.clone(),
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// When the PC does not get to where it was sent, or the user stops it. The PC's condition is told before that.
pub(super) fn run(args: &BootArgs, ui: Ui) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    // Before anything starts, since it may ask for a password.
    let reach = Reach::of(&args.pc)?;
    let result = runtime.block_on(boot(args, &reach, ui));
    // A prompt that nobody answers any more must not hold the program.
    runtime.shutdown_background();
    result
}

async fn boot(args: &BootArgs, reach: &Reach, ui: Ui) -> anyhow::Result<()> {
    let mut stop = Stop::new()?;
    let mut course = Course::new(args, reach, Live::new(ui));
    let result = tokio::select! {
        result = course.run() => result,
        () = stop.next() => Err(coded(ExitCode::Failed, anyhow!("stopped"))),
    };
    // Serving an ISO has no other end than being stopped: what it was for has been done.
    let served = args.iso.is_some() && course.was_read();
    let result = match result {
        Err(_) if served && stop.came => Ok(Arrived::Served),
        result => result,
    };
    let arrived = result.as_ref().ok().copied();
    // A second signal ends the program without further ado.
    let said = tokio::select! {
        said = course.leave(arrived) => said,
        () = stop.next() => vec![format!(
            "left at once: the PC's next start may be forced; clear that with: sparetire pc bios {} --clear",
            args.pc.host
        )],
    };
    let outcome = match &result {
        Ok(arrived) => arrived.as_str(),
        Err(_) if stop.came => "stopped",
        Err(_) => "failed",
    };
    course.tell(outcome, &said)?;
    result.map(drop)
}

/// SIGINT and SIGTERM: someone wants this to end.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    came: bool,
}

impl Stop {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("handling SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("handling SIGTERM")?,
            came: false,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
        }
        self.came = true;
    }
}

/// One line from standard input: the consent code.
async fn consent_line() -> anyhow::Result<String> {
    tokio::task::spawn_blocking(|| {
        use std::io::{BufRead, Read, Write};
        let mut line = String::new();
        let _ = write!(std::io::stderr().lock(), "consent code: ");
        let read = std::io::stdin()
            .lock()
            .take(256)
            .read_line(&mut line)
            .context("reading the consent code")?;
        if read == 0 {
            return Err(coded(
                ExitCode::Refused,
                anyhow!("no consent code was given"),
            ));
        }
        Ok(line)
    })
    .await
    .context("reading the consent code")?
}
