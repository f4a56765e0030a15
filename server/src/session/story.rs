//! What a session's events mean in words, and what they add up to: when each step ran, how many
//! bytes came at which rate, which faults there were. No output, no clock: times are the
//! loader's own, in milliseconds since it started.

use boot_api::{Event, ReportKind, State};
use serde::Serialize;

use super::client::printable;

/// One event in words, fit for a terminal.
pub(crate) fn sentence(kind: &ReportKind) -> String {
    let text = match kind {
        ReportKind::StepStarted { step } => format!("{step}: started"),
        ReportKind::StepDone { step, detail } => match detail.is_empty() {
            true => format!("{step}: done"),
            false => format!("{step}: {detail}"),
        },
        ReportKind::StepFailed {
            step,
            input,
            cause,
            advice,
        } => {
            let mut text = format!("{step}: FAILED: {cause}");
            if !input.is_empty() {
                text.push_str(&format!(" (with {input})"));
            }
            if !advice.is_empty() {
                text.push_str(&format!("; {advice}"));
            }
            text
        }
        ReportKind::Progress {
            phase,
            done,
            total,
            rate,
        } => format!(
            "{phase}: {} of {}, {}/s",
            bytes(*done),
            bytes(*total),
            bytes(*rate)
        ),
        ReportKind::Link {
            interface,
            driver,
            mac,
            state,
        } => match driver {
            Some(driver) => format!("link {interface} {mac} ({driver}): {state}"),
            None => format!("link {interface} {mac}: {state}"),
        },
        ReportKind::Address {
            interface,
            address,
            source,
        } => format!("address {address} on {interface} ({source})"),
        ReportKind::Fault { source, what } => format!("fault at {source}: {what}"),
        ReportKind::Memory {
            total,
            available,
            peak_used,
        } => format!(
            "memory: {} in all, {} available, {} used at most",
            bytes(*total),
            bytes(*available),
            bytes(*peak_used)
        ),
        ReportKind::Inventory { .. } => "inventory received".to_owned(),
        ReportKind::Log { lines } => format!("log: {}", lines.join(" | ")),
        ReportKind::HandOff { method } => format!("handed off by {method}"),
        other => serde_json::to_string(other).unwrap_or_default(),
    };
    printable(&text)
}

/// A number of bytes for people.
pub(crate) fn bytes(number: u64) -> String {
    indicatif::BinaryBytes(number).to_string()
}

/// How long a step took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    pub(crate) step: String,
    pub(crate) started_ms: u64,
    /// `None` while it runs, and when it never ended.
    pub(crate) took_ms: Option<u64>,
    pub(crate) failed: bool,
}

/// What has been heard so far.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Story {
    /// In the order in which they started; a repeated try makes new ones.
    pub(crate) steps: Vec<Step>,
    /// Bytes of the image that have arrived, of the last download.
    pub(crate) bytes: u64,
    pub(crate) faults: u64,
    pub(crate) failures: u64,
    /// How the PC left for its image.
    pub(crate) hand_off: Option<String>,
    /// Most memory in use at a time, as the loader measured it.
    pub(crate) peak_memory: Option<u64>,
    /// Time of the last report.
    pub(crate) last_ms: u64,
}

impl Story {
    /// Adds one event.
    pub(crate) fn hear(&mut self, event: &Event) {
        let at_ms = event.report.at_ms;
        self.last_ms = at_ms;
        match &event.report.kind {
            ReportKind::StepStarted { step } if self.steps.len() < MAX_STEPS => {
                self.steps.push(Step {
                    step: printable(step),
                    started_ms: at_ms,
                    took_ms: None,
                    failed: false,
                });
            }
            ReportKind::StepDone { step, .. } => self.end(step, at_ms, false),
            ReportKind::StepFailed { step, .. } => {
                self.failures = self.failures.saturating_add(1);
                self.end(step, at_ms, true);
            }
            ReportKind::Progress { done, .. } => self.bytes = *done,
            ReportKind::Fault { .. } => self.faults = self.faults.saturating_add(1),
            ReportKind::Memory { peak_used, .. } => self.peak_memory = Some(*peak_used),
            ReportKind::HandOff { method } => {
                self.hand_off = Some(printable(method));
                self.end(boot_api::step::HAND_OFF, at_ms, false);
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str, at_ms: u64, failed: bool) {
        let running = self
            .steps
            .iter_mut()
            .rev()
            .find(|step| step.step == name && step.took_ms.is_none());
        if let Some(step) = running {
            step.took_ms = Some(at_ms.saturating_sub(step.started_ms));
            step.failed = failed;
        }
    }

    /// The closing table, a line per step.
    pub(crate) fn table(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .steps
            .iter()
            .map(|step| {
                let took = match step.took_ms {
                    Some(ms) => seconds(ms),
                    None => "-".to_owned(),
                };
                let mark = if step.failed { "  FAILED" } else { "" };
                let line = format!("  {:10} {took:>10}{mark}", step.step);
                match self.rate(step) {
                    Some(rate) => format!("{line}  {} at {}/s", bytes(self.bytes), bytes(rate)),
                    None => line,
                }
            })
            .collect();
        lines.push(format!("  {:10} {:>10}", "in all", seconds(self.last_ms)));
        if let Some(peak) = self.peak_memory {
            lines.push(format!("  memory used at most: {}", bytes(peak)));
        }
        if self.faults > 0 {
            lines.push(format!("  faults overcome: {}", self.faults));
        }
        lines
    }

    fn rate(&self, step: &Step) -> Option<u64> {
        let ms = step.took_ms.filter(|ms| *ms > 0 && !step.failed)?;
        (step.step == boot_api::step::FETCH && self.bytes > 0)
            .then(|| self.bytes.saturating_mul(1000) / ms)
    }
}

/// Milliseconds as seconds with one decimal.
pub(crate) fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

/// A session has at most 10,000 events, of which few are steps.
const MAX_STEPS: usize = 10_000;

/// How a session went, as the last line of `--json`.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome<'a> {
    pub(crate) event: &'static str,
    pub(crate) id: &'a str,
    pub(crate) state: &'a State,
    #[serde(flatten)]
    pub(crate) story: &'a Story,
}
