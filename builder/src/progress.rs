//! How far a long operation is: a bar with rate and remaining time for people, plain lines when
//! nobody watches a terminal, NDJSON with `--json`, nothing with `--quiet`.
//!
//! Reporting never fails and never slows the work: lines are limited to a few per second.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};
use serde::Serialize;

/// Who reads the progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Human,
    Json,
    Quiet,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Steps,
}

/// The display of one operation. Shared by reference between worker threads.
#[derive(Debug)]
pub struct Progress {
    name: String,
    total: u64,
    done: AtomicU64,
    started: Instant,
    unit: Unit,
    output: Output,
}

#[derive(Debug)]
enum Output {
    Bar(ProgressBar),
    /// Next moment at which a line may be printed.
    Lines(Mutex<Instant>),
    Json(Mutex<Instant>),
    Quiet,
}

#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    name: &'a str,
    done: u64,
    total: u64,
    unit: &'a str,
    /// Units per second since the start.
    rate: u64,
    elapsed_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    eta_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

impl Progress {
    /// Tells nobody.
    pub fn silent(total: u64) -> Self {
        Self::new(Mode::Quiet, "", total, Unit::Bytes)
    }

    pub(crate) fn new(mode: Mode, name: &str, total: u64, unit: Unit) -> Self {
        let now = Instant::now();
        let output = match mode {
            Mode::Quiet => Output::Quiet,
            Mode::Json => Output::Json(Mutex::new(now)),
            Mode::Human if std::io::stderr().is_terminal() => Output::Bar(bar(name, total, unit)),
            Mode::Human => Output::Lines(Mutex::new(now + LINE_INTERVAL)),
        };
        Self {
            name: name.to_owned(),
            total,
            done: AtomicU64::new(0),
            started: now,
            unit,
            output,
        }
    }

    /// Sets how much is done in all.
    pub fn set(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.show(None);
    }

    /// How much is done in all.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Adds to what is done.
    pub fn inc(&self, more: u64) {
        self.done.fetch_add(more, Ordering::Relaxed);
        self.show(None);
    }

    /// Says what is being worked on now. Always shown.
    pub fn message(&self, text: &str) {
        self.show(Some(text));
    }

    /// Ends the display; with `text`, leaves that line behind.
    pub fn finish(self, text: &str) {
        match &self.output {
            Output::Quiet => {}
            Output::Bar(bar) => {
                bar.finish_and_clear();
                err_line(&format!("{}: {text}", self.name));
            }
            Output::Lines(_) => err_line(&format!("{}: {text}", self.name)),
            Output::Json(_) => self.json_line("done", Some(text)),
        }
    }

    fn show(&self, message: Option<&str>) {
        let done = self.done.load(Ordering::Relaxed);
        match &self.output {
            Output::Quiet => {}
            Output::Bar(bar) => {
                bar.set_position(done);
                if let Some(text) = message {
                    bar.set_message(text.to_owned());
                }
            }
            Output::Lines(next) => {
                if message.is_some() || due(next, LINE_INTERVAL) {
                    err_line(&self.plain(done, message));
                }
            }
            Output::Json(next) => {
                if message.is_some() || due(next, JSON_INTERVAL) {
                    self.json_line("progress", message);
                }
            }
        }
    }

    fn plain(&self, done: u64, message: Option<&str>) -> String {
        let mut text = format!("{}:", self.name);
        match self.unit {
            Unit::Bytes => {
                text.push_str(&format!(" {}", HumanBytes(done)));
                if self.total > 0 {
                    text.push_str(&format!(" of {}", HumanBytes(self.total)));
                }
                text.push_str(&format!(", {}/s", HumanBytes(self.rate(done))));
            }
            Unit::Steps => text.push_str(&format!(" step {done} of {}", self.total)),
        }
        if let (Unit::Bytes, Some(eta)) = (self.unit, self.eta(done)) {
            text.push_str(&format!(", {} left", HumanDuration(eta)));
        }
        if let Some(message) = message {
            text.push_str(&format!(", {message}"));
        }
        text
    }

    fn json_line(&self, event: &str, message: Option<&str>) {
        let done = self.done.load(Ordering::Relaxed);
        let line = Line {
            event,
            name: &self.name,
            done,
            total: self.total,
            unit: match self.unit {
                Unit::Bytes => "bytes",
                Unit::Steps => "steps",
            },
            rate: self.rate(done),
            elapsed_ms: millis(self.started.elapsed()),
            eta_ms: self.eta(done).map(millis),
            message,
        };
        if let Ok(text) = serde_json::to_string(&line) {
            let _ = writeln!(std::io::stdout().lock(), "{text}");
        }
    }

    fn rate(&self, done: u64) -> u64 {
        let elapsed = self.started.elapsed().as_millis().max(1);
        u64::try_from(u128::from(done) * 1000 / elapsed).unwrap_or(u64::MAX)
    }

    /// Remaining time at the average rate; unknown before anything is done.
    fn eta(&self, done: u64) -> Option<Duration> {
        let left = self.total.checked_sub(done).filter(|_| self.total > 0)?;
        if done == 0 {
            return None;
        }
        let elapsed = self.started.elapsed().as_millis();
        u64::try_from(elapsed * u128::from(left) / u128::from(done))
            .ok()
            .map(Duration::from_millis)
    }
}

const LINE_INTERVAL: Duration = Duration::from_secs(5);
const JSON_INTERVAL: Duration = Duration::from_millis(500);

fn bar(name: &str, total: u64, unit: Unit) -> ProgressBar {
    let bar = if total == 0 && unit == Unit::Bytes {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::new(total)
    };
    let template = match unit {
        Unit::Bytes if total == 0 => "{prefix} {spinner} {bytes} {bytes_per_sec} {msg}",
        Unit::Bytes => "{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left {msg}",
        Unit::Steps => "{prefix} [{bar:30}] {pos}/{len} {elapsed} {msg}",
    };
    // A template that does not parse is our own slip and only costs the layout.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// Whether a line may be printed now; books the next one.
fn due(next: &Mutex<Instant>, interval: Duration) -> bool {
    let Ok(mut next) = next.lock() else {
        return false;
    };
    let now = Instant::now();
    if now < *next {
        return false;
    }
    *next = now + interval;
    true
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn err_line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(total: u64) -> Progress {
        Progress::new(Mode::Quiet, "test", total, Unit::Bytes)
    }

    #[test]
    fn remaining_time_is_unknown_before_anything_is_done() {
        assert_eq!(quiet(100).eta(0), None);
        assert_eq!(quiet(0).eta(5), None);
    }

    #[test]
    fn remaining_time_is_zero_at_the_end() {
        assert_eq!(quiet(100).eta(100), Some(Duration::ZERO));
    }

    #[test]
    fn doing_more_than_announced_is_no_underflow() {
        let progress = quiet(10);
        progress.inc(25);
        assert_eq!(progress.eta(25), None);
        assert!(progress.plain(25, None).contains("25 B of 10 B"));
    }

    #[test]
    fn lines_are_limited_in_rate() {
        let next = Mutex::new(Instant::now());
        assert!(due(&next, Duration::from_secs(3600)));
        assert!(!due(&next, Duration::from_secs(3600)));
    }
}
