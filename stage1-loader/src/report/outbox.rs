//! Reports on their way to the server: what to send next, when to try again, when to give up.
//! Pure; the shell in `report` does the posting.
//!
//! Reports never hold the boot up and never fill memory: progress overtakes older progress, and
//! when the server stays silent the oldest reports go.

use std::collections::VecDeque;
use std::time::Duration;

use boot_api::{EventBatch, Report, ReportKind};

/// Reports kept while the server does not answer.
const MAX_QUEUED: usize = 512;
/// Reports in one batch; the server takes 256.
const MAX_BATCH_REPORTS: usize = 64;
/// Text in one batch. The server takes 64 KiB of JSON, which may be twice the text.
const MAX_BATCH_TEXT: usize = 24 * 1024;
/// Pause between two batches, so that progress does not become a request each.
const PAUSE: Duration = Duration::from_millis(500);
/// Pauses after failures; the last one repeats.
const BACK_OFF: [u64; 5] = [1, 2, 4, 8, 15];

/// How a POST ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Taken.
    Taken,
    /// No answer, or the server's own trouble: again later.
    Later,
    /// This batch is not wanted; the next one may be.
    Rejected,
    /// The session or its token is not known (any more): no use to go on.
    Closed,
}

impl Answer {
    /// The meaning of an HTTP status that is no success.
    pub fn of_status(status: u16) -> Self {
        match status {
            401 | 403 | 404 | 410 => Answer::Closed,
            408 | 425 | 429 => Answer::Later,
            400..=499 => Answer::Rejected,
            _ => Answer::Later,
        }
    }
}

/// What to do now.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Post this, then call [`Outbox::answered`].
    Send(EventBatch),
    /// Nothing before this time, unless something is pushed.
    WaitUntil(Duration),
    /// Nothing until something is pushed.
    Idle,
    /// Nothing any more.
    Closed,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Report>,
    in_flight: usize,
    failures: usize,
    not_before: Duration,
    closed: bool,
}

impl Outbox {
    /// Adds a report.
    pub fn push(&mut self, report: Report) {
        if self.closed {
            return;
        }
        if self.queue.len() > self.in_flight
            && let Some(last) = self.queue.back_mut()
            && let (
                ReportKind::Progress { phase: old, .. },
                ReportKind::Progress { phase: new, .. },
            ) = (&last.kind, &report.kind)
            && old == new
        {
            *last = report;
            return;
        }
        if self.queue.len() >= MAX_QUEUED {
            // The first that is not being sent right now.
            self.queue.remove(self.in_flight);
        }
        self.queue.push_back(report);
    }

    /// What is queued goes at once: one try without any pause.
    pub fn hurry(&mut self) {
        self.not_before = Duration::ZERO;
    }

    /// What to do now.
    pub fn poll(&mut self, now: Duration) -> Action {
        if self.closed {
            return Action::Closed;
        }
        if self.queue.is_empty() || self.in_flight > 0 {
            return Action::Idle;
        }
        if now < self.not_before {
            return Action::WaitUntil(self.not_before);
        }
        let mut text = 0;
        let events: Vec<Report> = self
            .queue
            .iter()
            .take(MAX_BATCH_REPORTS)
            .take_while(|report| {
                let first = text == 0;
                text += weight(&report.kind);
                first || text <= MAX_BATCH_TEXT
            })
            .cloned()
            .collect();
        self.in_flight = events.len();
        Action::Send(EventBatch { events })
    }

    /// Takes the end of a POST in. True the first time that the server stays silent, so that it
    /// is said once.
    pub fn answered(&mut self, now: Duration, answer: Answer) -> bool {
        let sent = std::mem::take(&mut self.in_flight);
        match answer {
            Answer::Taken | Answer::Rejected => {
                self.queue.drain(..sent.min(self.queue.len()));
                self.failures = 0;
                self.not_before = now + PAUSE;
                false
            }
            Answer::Later => {
                let seconds = BACK_OFF[self.failures.min(BACK_OFF.len() - 1)];
                self.not_before = now + Duration::from_secs(seconds);
                self.failures += 1;
                self.failures == 1
            }
            Answer::Closed => {
                self.close();
                true
            }
        }
    }

    /// Forgets everything and takes nothing any more.
    pub fn close(&mut self) {
        self.queue.clear();
        self.closed = true;
    }

    /// Whether everything has been delivered, or never will be.
    pub fn is_done(&self) -> bool {
        self.queue.is_empty()
    }
}

/// Roughly the bytes of a report's text; at least 1.
fn weight(kind: &ReportKind) -> usize {
    match kind {
        ReportKind::Log { lines } => lines.iter().map(|line| line.len() + 4).sum::<usize>() + 64,
        ReportKind::StepFailed {
            input,
            cause,
            advice,
            ..
        } => input.len() + cause.len() + advice.len() + 64,
        ReportKind::StepDone { detail, .. } => detail.len() + 64,
        _ => 256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn report(kind: ReportKind) -> Report {
        Report { at_ms: 0, kind }
    }

    fn started(step: &str) -> Report {
        report(ReportKind::StepStarted { step: step.into() })
    }

    fn progress(done: u64) -> Report {
        report(ReportKind::Progress {
            phase: "fetch".into(),
            done,
            total: 100,
            rate: 1,
        })
    }

    fn sent(action: Action) -> Vec<Report> {
        match action {
            Action::Send(batch) => batch.events,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reports_go_in_order_and_together() {
        let mut outbox = Outbox::default();
        for step in ["mount", "config", "network"] {
            outbox.push(started(step));
        }
        let batch = sent(outbox.poll(at(1)));
        assert_eq!(batch.len(), 3);
        assert_eq!(outbox.poll(at(1)), Action::Idle, "one POST at a time");
        assert!(!outbox.answered(at(2), Answer::Taken));
        assert!(outbox.is_done());
        outbox.push(started("manifest"));
        assert_eq!(outbox.poll(at(2)), Action::WaitUntil(at(2) + PAUSE));
        outbox.hurry();
        assert_eq!(sent(outbox.poll(at(2))).len(), 1);
    }

    #[test]
    fn newer_progress_takes_the_place_of_older_but_not_of_what_is_being_sent() {
        let mut outbox = Outbox::default();
        outbox.push(progress(1));
        outbox.push(progress(2));
        assert_eq!(sent(outbox.poll(at(0))), [progress(2)]);
        outbox.push(progress(3));
        outbox.push(progress(4));
        outbox.answered(at(1), Answer::Taken);
        assert_eq!(sent(outbox.poll(at(9))), [progress(4)]);
    }

    #[test]
    fn a_silent_server_is_asked_less_and_less_often_and_loses_nothing_that_fits() {
        let mut outbox = Outbox::default();
        outbox.push(started("network"));
        let mut now = at(100);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert_eq!(sent(outbox.poll(now)).len(), 1);
            let first = outbox.answered(now, Answer::Later);
            assert_eq!(first, pauses.is_empty(), "said once");
            let Action::WaitUntil(next) = outbox.poll(now) else {
                panic!("no back-off");
            };
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 15, 15, 15]);
    }

    #[test]
    fn a_server_that_stays_silent_cannot_fill_memory() {
        let mut outbox = Outbox::default();
        for number in 0..2000 {
            outbox.push(started(&number.to_string()));
        }
        assert_eq!(outbox.queue.len(), MAX_QUEUED);
        assert_eq!(outbox.queue.back(), Some(&started("1999")));
    }

    #[test]
    fn a_dead_token_ends_it_and_a_bad_batch_does_not() {
        let mut outbox = Outbox::default();
        outbox.push(started("a"));
        outbox.poll(at(0));
        outbox.answered(at(0), Answer::of_status(413));
        outbox.push(started("b"));
        assert_eq!(sent(outbox.poll(at(9))), [started("b")]);
        assert!(outbox.answered(at(9), Answer::of_status(401)));
        outbox.push(started("c"));
        assert_eq!(outbox.poll(at(99)), Action::Closed);
        assert!(outbox.is_done());
    }

    #[test]
    fn batches_stay_below_what_the_server_takes() {
        let mut outbox = Outbox::default();
        let lines = vec!["\u{7}\"".repeat(500); 20];
        for _ in 0..5 {
            outbox.push(report(ReportKind::Log {
                lines: lines.clone(),
            }));
        }
        let mut batches = 0;
        while !outbox.is_done() {
            let events = sent(outbox.poll(at(1000 * batches)));
            assert_eq!(events.len(), 1);
            outbox.answered(at(1000 * batches), Answer::Taken);
            batches += 1;
        }
        assert_eq!(batches, 5);
    }
}
