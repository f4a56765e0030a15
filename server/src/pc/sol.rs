//! `sparetire pc sol`: the PC's serial line in this terminal.

use std::io::{IsTerminal, Read};
use std::time::Duration;

use amt_redirection::console::sol::Options;
use amt_redirection::session::SessionKind;
use amt_wsman::flow::provisioning::require_provisioned;
use amt_wsman::flow::redirection::{Wanted, enable_redirection};
use anyhow::{Context, anyhow};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use sparetire_builder::cli::Ui;
use sparetire_builder::exit::{ExitCode, coded};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::boot::explain;
use super::boot::reach::Reach;
use super::{PcArgs, explained};
use crate::failure::advise;
use crate::redirection::connect;
use crate::redirection::sol::{self, EndReason, Sol};

/// Options of `pc sol`.
#[derive(Debug, clap::Args)]
pub struct SolArgs {
    /// The PC.
    #[command(flatten)]
    pub pc: PcArgs,
    /// End after this many seconds [default: at Ctrl-], or when the PC's firmware ends the session]
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<u64>,
}

/// Runs the command.
///
/// # Errors
///
/// When the session cannot be had, or breaks.
pub(super) fn run(args: &SolArgs, ui: Ui) -> anyhow::Result<()> {
    let reach = Reach::of(&args.pc)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(connected(args, &reach, ui));
    // Whoever still waits for a key must not hold the program.
    runtime.shutdown_background();
    result
}

async fn connected(args: &SolArgs, reach: &Reach, ui: Ui) -> anyhow::Result<()> {
    let wanted = Wanted {
        storage: false,
        serial: true,
    };
    let host = &args.pc.host;
    let mut device = reach.device();
    require_provisioned(&mut device)
        .await
        .map_err(explained)
        .with_context(|| format!("asking {host}"))?;
    enable_redirection(&mut device, wanted, &mut |_| ())
        .await
        .map_err(explained)
        .with_context(|| format!("switching serial over LAN on at {host}"))?;
    drop(device);
    let (dial, credentials) = reach.redirection();
    let opened = async {
        let mut stream = dial.dial().await?;
        let policy = Default::default();
        let opened = connect::open(&mut stream, SessionKind::Sol, &credentials, policy).await?;
        Ok((stream, opened.rest))
    };
    let (stream, rest) = opened.await.map_err(|error| {
        let (code, advice) = explain::connection(&error);
        let error = anyhow::Error::new(error).context(format!("opening the serial line of {host}"));
        coded(
            code,
            match advice {
                Some(advice) => advise(error, advice),
                None => error,
            },
        )
    })?;
    ui.note(format!("serial line of {host}; Ctrl-] ends it"));
    let session = sol::spawn(stream, rest, Options::default());
    let raw = Raw::enter()?;
    let result = relay(session, args.seconds.map(Duration::from_secs)).await;
    drop(raw);
    ui.note("");
    result
}

/// Copies both ways until someone ends it.
async fn relay(session: Sol, limit: Option<Duration>) -> anyhow::Result<()> {
    let Sol { terminal, control } = session;
    let (mut from_pc, mut to_pc) = tokio::io::split(terminal);
    let mut keys = keys();
    let mut typing = true;
    let mut terminate = signal(SignalKind::terminate()).context("handling SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("handling SIGINT")?;
    let mut output = tokio::io::stdout();
    let mut buffer = [0; 4096];
    let limit = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(limit);
    loop {
        tokio::select! {
            read = from_pc.read(&mut buffer) => match read {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    output.write_all(&buffer[..length]).await.context("writing to the terminal")?;
                    output.flush().await.context("writing to the terminal")?;
                }
            },
            typed = keys.recv(), if typing => match typed {
                Some(bytes) => {
                    let (bytes, leave) = until_escape(&bytes);
                    if to_pc.write_all(bytes).await.is_err() || leave {
                        break;
                    }
                }
                // The end of a piped input is not the end of what the PC has to say.
                None => typing = false,
            },
            () = &mut limit => break,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    control.end();
    match control.ended().await {
        EndReason::Asked | EndReason::Closed => Ok(()),
        reason @ (EndReason::HungUp | EndReason::Io(_)) => {
            Err(coded(ExitCode::Unreachable, anyhow!(reason)))
        }
        reason => Err(anyhow!(reason)),
    }
}

/// What is to be sent of `typed`, and whether Ctrl-] came after it.
fn until_escape(typed: &[u8]) -> (&[u8], bool) {
    match typed.iter().position(|&byte| byte == ESCAPE) {
        Some(at) => (&typed[..at], true),
        None => (typed, false),
    }
}

/// What is typed. Standard input can only be read by a thread that waits.
fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::task::spawn_blocking(move || {
        let mut input = std::io::stdin();
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = input.read(&mut buffer) {
            if sender.blocking_send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The terminal without line editing, echo and signals, until dropped; nothing where there is none.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> anyhow::Result<Self> {
        let input = std::io::stdin();
        if !input.is_terminal() {
            return Ok(Self(None));
        }
        let before = tcgetattr(&input).context("reading the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Now, &raw)
            .context("changing the terminal's settings")?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Ctrl-].
const ESCAPE: u8 = 0x1d;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_before_the_escape_is_sent() {
        assert_eq!(until_escape(b"ls\r"), (&b"ls\r"[..], false));
        assert_eq!(until_escape(b"ls\r\x1dmore"), (&b"ls\r"[..], true));
        assert_eq!(until_escape(b"\x1d"), (&b""[..], true));
    }
}
