//! One run of QEMU, from power-on to power-off.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::drives::Media;
use super::process::Process;
use super::qemu::{self, Files};
use super::qmp::{Event, Qmp, QmpError};
use super::serial::{Attached, Serial};
use crate::config::Pc;

/// How long QEMU may take to start and to report what it was told to do.
const PATIENCE: Duration = Duration::from_secs(60);
/// After a reset SeaBIOS resets once more by itself, within microseconds, because it finds its
/// memory used. A reset within this time is taken for that one.
const FIRMWARE_RESETS: Duration = Duration::from_secs(1);

/// Why the PC did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// It is off.
    #[error("the PC is off")]
    Off,
    /// QEMU did not start.
    #[error("QEMU did not start: {complaints}")]
    Start {
        /// What it said.
        complaints: String,
        /// What the system said, if that failed.
        #[source]
        source: Option<std::io::Error>,
    },
    /// A file that QEMU needs could not be made.
    #[error("the PC's files cannot be prepared")]
    Files(#[from] std::io::Error),
    /// QEMU did not do what it was told.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// QEMU was told and nothing came of it.
    #[error("QEMU did not report {0} in time")]
    Silent(&'static str),
}

/// What a running machine reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    /// The guest reset itself and waits, paused.
    Reset,
    /// The guest switched itself off and waits, paused.
    SwitchedOff,
    /// The guest sleeps.
    Asleep,
    /// It is awake again.
    Awake,
    /// QEMU is gone.
    Gone(String),
}

/// A PC that is on.
#[derive(Debug)]
pub(super) struct Machine {
    // Dropped in this order: connections, then QEMU.
    qmp: Arc<Qmp>,
    events: mpsc::Receiver<Event>,
    _serial: Attached,
    process: Process,
    /// Redirected drives that the guest sees.
    pub(super) plugged: Media,
    /// When the guest's own resets begin to count.
    armed_at: Option<tokio::time::Instant>,
    /// A report that came while something else was waited for.
    waiting: Option<Report>,
}

impl Machine {
    /// Starts QEMU, paused before its first instruction.
    pub(super) async fn start(
        pc: &Pc,
        files: &Files,
        serial: &Serial,
    ) -> Result<Self, MachineError> {
        files.prepare(pc)?;
        let control = listen(&files.qmp())?;
        let console = listen(&files.serial())?;
        let failed = |complaints: String, source| MachineError::Start { complaints, source };
        let mut process = Process::start(&pc.qemu, &qemu::arguments(pc, files)?)
            .map_err(|error| failed(format!("running {}", pc.qemu.display()), Some(error)))?;
        let connect = async {
            let (control, _) = control.accept().await?;
            let (console, _) = console.accept().await?;
            std::io::Result::Ok((control, console))
        };
        let connected: Result<(UnixStream, UnixStream), _> = tokio::select! {
            connected = connect => connected.map_err(|error| (String::new(), Some(error))),
            ended = process.ended() => Err((ended, None)),
            () = tokio::time::sleep(PATIENCE) => Err(("it does not connect".into(), None)),
        };
        let (control, console) = match connected {
            Ok(connected) => connected,
            Err((why, source)) => {
                process.kill().await;
                // Its words are read by another task, which sees the end of the stream soon.
                for _ in 0..100 {
                    if !process.complaints().is_empty() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                return Err(failed(format!("{why}; {}", process.complaints()), source));
            }
        };
        let attached = serial.attach(console);
        let (qmp, events) = Qmp::connect(control).await?;
        Ok(Machine {
            qmp: Arc::new(qmp),
            events,
            _serial: attached,
            process,
            plugged: Media::default(),
            armed_at: None,
            waiting: None,
        })
    }

    /// The control connection, for what needs no order with the rest.
    pub(super) fn qmp(&self) -> Arc<Qmp> {
        Arc::clone(&self.qmp)
    }

    /// QEMU's process number.
    pub(super) fn process_id(&self) -> Option<u32> {
        self.process.id()
    }

    pub(super) async fn execute(
        &self,
        command: &str,
        arguments: Value,
    ) -> Result<Value, MachineError> {
        Ok(self.qmp.execute(command, arguments).await?)
    }

    /// Runs the guest, from its first instruction or from where it paused.
    pub(super) async fn go(&mut self) -> Result<(), MachineError> {
        // Until armed, QEMU resets the guest by itself.
        self.execute("set-action", json!({ "reboot": "reset" }))
            .await?;
        self.armed_at = Some(tokio::time::Instant::now() + FIRMWARE_RESETS);
        self.execute("cont", Value::Null).await?;
        Ok(())
    }

    /// Resets the guest, whatever it does, and runs it.
    pub(super) async fn reset(&mut self) -> Result<(), MachineError> {
        self.execute("set-action", json!({ "reboot": "reset" }))
            .await?;
        self.execute("system_reset", Value::Null).await?;
        self.wait_for("a reset", |event| {
            event.name == "RESET" && event.data.get("guest") == Some(&Value::Bool(false))
        })
        .await?;
        // A report from before the reset is about a boot that is over.
        if matches!(self.waiting, Some(Report::Reset | Report::SwitchedOff)) {
            self.waiting = None;
        }
        self.go().await
    }

    /// Waits until a device is gone.
    pub(super) async fn wait_deleted(&mut self, device: &str) -> Result<(), MachineError> {
        self.wait_for("a device as unplugged", |event| {
            event.name == "DEVICE_DELETED"
                && event.data.get("device").and_then(Value::as_str) == Some(device)
        })
        .await
    }

    async fn wait_for(
        &mut self,
        what: &'static str,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<(), MachineError> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match tokio::time::timeout_at(deadline, self.events.recv()).await {
                Err(_) => return Err(MachineError::Silent(what)),
                Ok(None) => return Err(QmpError::Closed.into()),
                Ok(Some(event)) if wanted(&event) => return Ok(()),
                Ok(Some(event)) => {
                    if let Some(report) = report(&event) {
                        self.waiting = Some(report);
                    }
                }
            }
        }
    }

    /// What happens next by itself. May be dropped and called again.
    pub(super) async fn next_report(&mut self) -> Report {
        loop {
            if let Some(report) = self.waiting.take() {
                return report;
            }
            let arm = async {
                match self.armed_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.waiting = report(&event),
                    None => {
                        // Its connection closes before it has ended; a closed one is of no use.
                        let last = tokio::time::timeout(Duration::from_secs(5), self.process.ended()).await;
                        let mut text = last.unwrap_or_else(|_| "QEMU no longer answers".into());
                        let complaints = self.process.complaints();
                        if !complaints.is_empty() {
                            text = format!("{text}: {complaints}");
                        }
                        return Report::Gone(text);
                    }
                },
                () = arm => {
                    if let Err(error) = self.execute("set-action", json!({ "reboot": "shutdown" })).await {
                        tracing::warn!(%error, "the guest's resets will not be seen");
                    }
                    // Last: this future may be dropped while it waits, and then has to do it again.
                    self.armed_at = None;
                }
            }
        }
    }

    /// Pulls the plug.
    pub(super) async fn stop(mut self) {
        // So that what it has of a disk image is written.
        let asked = self.qmp.execute("quit", Value::Null);
        if tokio::time::timeout(Duration::from_secs(2), asked)
            .await
            .is_ok()
        {
            let _ = tokio::time::timeout(Duration::from_secs(2), self.process.ended()).await;
        }
        self.process.kill().await;
    }
}

fn report(event: &Event) -> Option<Report> {
    let reason = event.data.get("reason").and_then(Value::as_str);
    match (event.name.as_str(), reason) {
        ("SUSPEND", _) => Some(Report::Asleep),
        ("WAKEUP", _) => Some(Report::Awake),
        ("SHUTDOWN", Some("guest-reset")) => Some(Report::Reset),
        ("SHUTDOWN", Some("guest-shutdown" | "guest-panic")) => Some(Report::SwitchedOff),
        // Other reasons are our own doing.
        _ => None,
    }
}

fn listen(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}
