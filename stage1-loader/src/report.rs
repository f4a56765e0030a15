//! Tells the server how the boot goes: steps, progress, faults, and the log when a step failed.
//! A task of its own beside the boot; the boot never waits for it, except for a moment before
//! the hand-off.
//!
//! The queue exists from the start, so what happens before there is a network is told later.

pub mod outbox;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boot_api::{Inventory, Report, ReportKind, clip};
use fetch_http::{HttpClient, HttpFailure};
use stage1_config::SessionConfig;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::console::Console;
use crate::failure::Failure;
use crate::sequence::Step;
use crate::sys;
use outbox::{Action, Answer, Outbox};

/// Bytes of log in one report; several follow each other.
const LOG_PART: usize = 12 * 1024;

/// A handle to the queue; clones share it.
#[derive(Debug, Clone)]
pub struct Reports {
    outbox: Arc<Mutex<Outbox>>,
    changed: Arc<Notify>,
    delivered: Arc<Notify>,
    started: Duration,
    /// What the running task posts with.
    client: Option<watch::Sender<HttpClient>>,
}

impl Reports {
    /// An empty queue; times are told relative to `started`.
    pub fn new(started: Duration) -> Self {
        Self {
            outbox: Arc::default(),
            changed: Arc::default(),
            delivered: Arc::default(),
            started,
            client: None,
        }
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a report.
    pub fn tell(&self, kind: ReportKind) {
        let since = sys::uptime().saturating_sub(self.started);
        self.outbox().push(Report {
            at_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            kind,
        });
        self.changed.notify_one();
    }

    /// A step begins.
    pub fn step_started(&self, step: Step) {
        self.tell(ReportKind::StepStarted {
            step: step.name().to_owned(),
        });
    }

    /// A step succeeded.
    pub fn step_done(&self, step: Step, detail: &str) {
        self.tell(ReportKind::StepDone {
            step: step.name().to_owned(),
            detail: clip(detail),
        });
    }

    /// A step failed: the failure and the newest lines of the log.
    pub fn step_failed(&self, failure: &Failure, log: &[String]) {
        self.tell(ReportKind::StepFailed {
            step: failure.step.name().to_owned(),
            input: clip(&failure.input),
            cause: clip(&failure.cause()),
            advice: clip(&failure.advice),
        });
        let mut part = Vec::new();
        let mut bytes = 0;
        for line in log.iter().map(|line| clip(line)) {
            if bytes + line.len() > LOG_PART || part.len() >= boot_api::MAX_LINES {
                self.tell(ReportKind::Log {
                    lines: std::mem::take(&mut part),
                });
                bytes = 0;
            }
            bytes += line.len();
            part.push(line);
        }
        if !part.is_empty() {
            self.tell(ReportKind::Log { lines: part });
        }
    }

    /// Starts the task that posts. If it runs already, it goes on with this client: what is under way with the one before,
    /// whose connections may lead nowhere any more, is posted again.
    pub fn start(
        &mut self,
        client: HttpClient,
        server: &str,
        session: SessionConfig,
        console: Console,
    ) {
        if self.go_on_with(&client) {
            return;
        }
        let (sender, receiver) = watch::channel(client);
        let task = self.clone();
        self.client = Some(sender);
        let path = boot_api::events_path(&session.id);
        let url = format!("{}{path}", server.trim_end_matches('/'));
        tokio::spawn(task.deliver(receiver, url, session, console));
    }

    /// Lets a running task go on with this client, as [`start`](Self::start) says; whether there is one.
    pub fn go_on_with(&self, client: &HttpClient) -> bool {
        let running = self.client.as_ref();
        running.is_some_and(|sender| sender.send(client.clone()).is_ok())
    }

    /// Drops what is queued and takes no more. No connection stays that carried the token.
    pub fn close(&mut self) {
        self.client = None;
        self.outbox().close();
        self.changed.notify_one();
        self.delivered.notify_one();
    }

    /// Waits until the server has everything, at most `limit`. False when it has not.
    pub async fn flush(&self, limit: Duration) -> bool {
        if self.client.is_none() {
            return false;
        }
        let done = async {
            self.outbox().hurry();
            self.changed.notify_one();
            while !self.outbox().is_done() {
                self.delivered.notified().await;
            }
        };
        timeout(limit, done).await.is_ok()
    }

    async fn deliver(
        self,
        mut client: watch::Receiver<HttpClient>,
        url: String,
        session: SessionConfig,
        console: Console,
    ) {
        loop {
            let action = self.outbox().poll(sys::uptime());
            match action {
                Action::Closed => return,
                Action::Idle => self.changed.notified().await,
                Action::WaitUntil(until) => {
                    let pause = until.saturating_sub(sys::uptime());
                    let _ = timeout(pause, self.changed.notified()).await;
                }
                Action::Send(batch) => {
                    let token = session.token.reveal();
                    let answer = loop {
                        let current = client.borrow_and_update().clone();
                        tokio::select! {
                            answer = current.post_json(&url, Some(token), &batch) => break answer,
                            Ok(()) = client.changed() => {}
                        }
                    };
                    let what = answer.err().map(|error| error.what);
                    let meaning = match &what {
                        None => Answer::Taken,
                        Some(HttpFailure::Status(status)) => Answer::of_status(*status),
                        Some(_) => Answer::Later,
                    };
                    let news = self.outbox().answered(sys::uptime(), meaning);
                    self.delivered.notify_one();
                    if let Some(what) = what.filter(|_| news) {
                        let source = std::error::Error::source(&what)
                            .map(|source| format!(": {source}"))
                            .unwrap_or_default();
                        console.status(
                            Step::Report,
                            &format!("{url}: {what}{source}; the boot goes on, reports come later or never"),
                        );
                    }
                }
            }
        }
    }
}

/// What the PC's firmware says about it.
pub fn inventory(root: &Path) -> Inventory {
    let field = |name: &str| {
        let text = std::fs::read_to_string(root.join("sys/class/dmi/id").join(name)).ok()?;
        let text = clip(text.trim());
        (!text.is_empty()).then_some(text)
    };
    let efi = root.join("sys/firmware/efi").is_dir();
    Inventory {
        vendor: field("sys_vendor"),
        product: field("product_name"),
        serial: field("product_serial"),
        uuid: field("product_uuid"),
        bios_version: field("bios_version"),
        bios_date: field("bios_date"),
        firmware: Some(if efi { "uefi" } else { "bios" }.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_takes_the_log_with_it_in_parts() {
        let reports = Reports::new(Duration::ZERO);
        let log: Vec<String> = (0..40)
            .map(|n| format!("{n:02} {}", "x".repeat(997)))
            .collect();
        let failure = Failure::plain(Step::Fetch, "image", "nothing came", "wait");
        reports.step_failed(&failure, &log);
        let mut lines = Vec::new();
        let mut parts = 0;
        loop {
            let action = reports.outbox().poll(Duration::MAX / 2);
            let Action::Send(batch) = action else { break };
            assert!(batch.to_json().unwrap().len() <= boot_api::MAX_BATCH);
            for event in batch.events {
                if let ReportKind::Log { lines: part } = event.kind {
                    parts += 1;
                    lines.extend(part);
                }
            }
            reports.outbox().answered(Duration::ZERO, Answer::Taken);
        }
        assert_eq!(lines, log);
        assert!(parts > 1);
    }

    #[test]
    fn the_inventory_is_what_dmi_says_and_how_it_booted() {
        let root = tempfile::tempdir().unwrap();
        let dmi = root.path().join("sys/class/dmi/id");
        std::fs::create_dir_all(&dmi).unwrap();
        std::fs::write(dmi.join("sys_vendor"), "QEMU\n").unwrap();
        std::fs::write(dmi.join("product_serial"), " \n").unwrap();
        let found = inventory(root.path());
        assert_eq!(found.vendor.as_deref(), Some("QEMU"));
        assert_eq!(found.serial, None);
        assert_eq!(found.firmware.as_deref(), Some("bios"));
        std::fs::create_dir_all(root.path().join("sys/firmware/efi")).unwrap();
        assert_eq!(inventory(root.path()).firmware.as_deref(), Some("uefi"));
    }
}
