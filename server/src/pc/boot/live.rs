//! Shows one boot as it happens: phases with their times, what the redirected drive delivers,
//! the loader's reports. Lines and bars for people, plain lines when nobody watches a terminal,
//! NDJSON with `--json`.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use boot_api::{Event, ReportKind, State};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use sparetire_builder::cli::Ui;

use crate::session::client::printable;
use crate::session::follow::Watch;
use crate::session::story::{Story, bytes, seconds, sentence};

/// One step of a boot on this side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Phase {
    /// Its name: part of `--json`.
    name: &'static str,
    /// Since the beginning, in milliseconds.
    started_ms: u64,
    /// `None` while it runs.
    took_ms: Option<u64>,
}

/// What the redirected drive has delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Delivered {
    /// Size of the medium in bytes.
    pub(super) size: u64,
    /// Bytes of data sent, repeated ones too.
    pub(super) bytes: u64,
    /// Commands answered.
    pub(super) commands: u64,
    /// How much of each equal part of the medium was read, 0 to 255.
    #[serde(skip)]
    pub(super) map: Vec<u8>,
}

/// The view of one boot.
#[derive(Debug)]
pub(super) struct Live {
    ui: Ui,
    started: Instant,
    phases: Vec<Phase>,
    story: Story,
    delivered: Delivered,
    /// When the drive was first and last seen to deliver.
    delivering: Option<(Instant, Instant)>,
    /// Bytes that plain lines have told.
    told: u64,
    /// Tenths of the download that plain lines have told.
    tenths: u64,
    terminal: Option<Terminal>,
}

#[derive(Debug)]
struct Terminal {
    bars: MultiProgress,
    phase: ProgressBar,
    drive: ProgressBar,
    download: Option<ProgressBar>,
}

impl Live {
    pub(super) fn new(ui: Ui) -> Self {
        let watched = std::io::stderr().is_terminal() && !ui.json && !ui.quiet;
        Self {
            ui,
            started: Instant::now(),
            phases: Vec::new(),
            story: Story::default(),
            delivered: Delivered::default(),
            delivering: None,
            told: 0,
            tenths: 0,
            terminal: watched.then(Terminal::new),
        }
    }

    /// A phase begins; the one before it has ended.
    pub(super) fn begin(&mut self, name: &'static str, detail: &str) -> anyhow::Result<()> {
        self.end_phase()?;
        self.phases.push(Phase {
            name,
            started_ms: self.now_ms(),
            took_ms: None,
        });
        if self.ui.json {
            return self.ui.print_json(&json!({
                "event": "phase", "name": name, "state": "started",
                "at_ms": self.now_ms(), "detail": detail,
            }));
        }
        if let Some(terminal) = &self.terminal {
            terminal.phase.set_message(format!("{name}  {detail}"));
        }
        self.line(&format!("{name:12} {detail}"));
        Ok(())
    }

    fn end_phase(&mut self) -> anyhow::Result<()> {
        let now = self.now_ms();
        let Some(phase) = self.phases.last_mut().filter(|p| p.took_ms.is_none()) else {
            return Ok(());
        };
        let took = now.saturating_sub(phase.started_ms);
        phase.took_ms = Some(took);
        if self.ui.json {
            let name = phase.name;
            return self.ui.print_json(&json!({
                "event": "phase", "name": name, "state": "done", "at_ms": now, "took_ms": took,
            }));
        }
        Ok(())
    }

    /// Something worth a line that belongs to no event of the loader.
    pub(super) fn say(&self, text: &str) -> anyhow::Result<()> {
        if self.ui.json {
            return self
                .ui
                .print_json(&json!({ "event": "remark", "at_ms": self.now_ms(), "text": text }));
        }
        self.line(&format!("{:12} {}", "", printable(text)));
        Ok(())
    }

    /// A line that the PC printed on its serial line.
    pub(super) fn serial(&self, text: &str) -> anyhow::Result<()> {
        if self.ui.json {
            return self
                .ui
                .print_json(&json!({ "event": "serial", "at_ms": self.now_ms(), "text": text }));
        }
        self.line(&format!("{:12} | {}", "", printable(text)));
        Ok(())
    }

    /// The drive's figures moved.
    pub(super) fn delivered(&mut self, delivered: Delivered) -> anyhow::Result<()> {
        if delivered == self.delivered {
            return Ok(());
        }
        if delivered.bytes != self.delivered.bytes {
            let now = Instant::now();
            let (first, _) = *self.delivering.get_or_insert((now, now));
            self.delivering = Some((first, now));
        }
        self.delivered = delivered;
        if self.ui.json {
            return self.ui.print_json(&json!({
                "event": "drive", "at_ms": self.now_ms(), "bytes": self.delivered.bytes,
                "commands": self.delivered.commands, "size": self.delivered.size,
            }));
        }
        match &self.terminal {
            Some(terminal) => terminal.drive.set_message(self.drive_line()),
            None if self.delivered.bytes >= self.told + TELL_EVERY => {
                self.told = self.delivered.bytes;
                self.line(&format!("{:12} {}", "", self.drive_line()));
            }
            None => {}
        }
        Ok(())
    }

    fn drive_line(&self) -> String {
        let Delivered {
            bytes: number,
            commands,
            map,
            ..
        } = &self.delivered;
        let rate = self
            .delivering
            .map(|(first, last)| last - first)
            .filter(|took| *took > Duration::from_millis(500))
            .map(|took| (*number as f64 / took.as_secs_f64()) as u64);
        let rate = rate.map_or(String::new(), |rate| format!(", {}/s", bytes(rate)));
        format!(
            "drive [{}] {} in {commands} commands{rate}",
            picture(map),
            bytes(*number)
        )
    }

    /// Whether the loader has reported in.
    pub(super) fn loader_reports(&self) -> bool {
        !self.story.steps.is_empty()
    }

    /// The end: the table of times, or everything as one object.
    pub(super) fn outcome(
        &mut self,
        outcome: &str,
        session: Option<&str>,
        said: &[String],
    ) -> anyhow::Result<()> {
        self.end_phase()?;
        if let Some(terminal) = self.terminal.take() {
            terminal.clear();
        }
        if self.ui.json {
            return self.ui.print_json(&json!({
                "event": "outcome", "outcome": outcome, "took_ms": self.now_ms(),
                "phases": self.phases, "drive": self.delivered, "session": session,
                "loader": self.story, "remarks": said,
            }));
        }
        for phase in &self.phases {
            let took = phase.took_ms.map_or_else(|| "-".to_owned(), seconds);
            self.ui.line(format!("  {:12} {took:>10}", phase.name));
        }
        self.ui
            .line(format!("  {:12} {:>10}", "in all", seconds(self.now_ms())));
        if self.delivered.commands > 0 {
            self.ui.line(format!("  {}", self.drive_line()));
        }
        if self.loader_reports() {
            self.ui.line("stage one's own account:");
            for line in self.story.table() {
                self.ui.line(line);
            }
        }
        for remark in said {
            self.ui.line(remark);
        }
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn line(&self, text: &str) {
        if self.ui.quiet {
            return;
        }
        let text = format!("{:>8}  {}", seconds(self.now_ms()), text.trim_end());
        match &self.terminal {
            Some(terminal) => terminal.bars.suspend(|| self.ui.line(&text)),
            None => self.ui.line(&text),
        }
    }

    fn progress(&mut self, event: &Event, done: u64, total: u64) {
        if let Some(terminal) = &mut self.terminal {
            let bar = terminal
                .download
                .get_or_insert_with(|| terminal.bars.add(download_bar()));
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        let tenths = done.saturating_mul(10).checked_div(total).unwrap_or(0);
        if tenths != self.tenths {
            self.tenths = tenths;
            self.line(&format!("{:12} {}", "", sentence(&event.report.kind)));
        }
    }
}

impl Watch for Live {
    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        self.story.hear(event);
        if self.ui.json {
            let mut line = serde_json::to_value(event)?;
            if let Some(fields) = line.as_object_mut() {
                fields.insert("event".to_owned(), json!("report"));
            }
            return self.ui.print_json(&line);
        }
        match &event.report.kind {
            ReportKind::Progress { done, total, .. } => self.progress(event, *done, *total),
            ReportKind::StepStarted { .. } | ReportKind::Inventory { .. } => {}
            kind => {
                if let ReportKind::StepDone { .. } | ReportKind::StepFailed { .. } = kind
                    && let Some(bar) = self.terminal.as_mut().and_then(|t| t.download.take())
                {
                    bar.finish_and_clear();
                }
                self.line(&format!("{:12} {}", "", sentence(kind)));
            }
        }
        Ok(())
    }

    fn state(&mut self, state: &State) -> anyhow::Result<()> {
        if self.ui.json {
            let line = json!({ "event": "state", "state": state });
            return self.ui.print_json(&line);
        }
        Ok(())
    }

    fn remark(&mut self, text: &str) -> anyhow::Result<()> {
        self.say(text)
    }
}

impl Terminal {
    fn new() -> Self {
        let bars = MultiProgress::new();
        let line = |template: &str| {
            let bar = ProgressBar::new_spinner();
            // A template that does not parse is our own slip and only costs the layout.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        };
        let phase = bars.add(line("{spinner} {elapsed:>4}  {msg}"));
        phase.enable_steady_tick(Duration::from_millis(250));
        let drive = bars.add(line("        {msg}"));
        Self {
            bars,
            phase,
            drive,
            download: None,
        }
    }

    fn clear(self) {
        self.phase.finish_and_clear();
        self.drive.finish_and_clear();
        if let Some(bar) = self.download {
            bar.finish_and_clear();
        }
    }
}

fn download_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = "        image [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// A map of read parts, a character each: blank is unread, `#` is read whole.
fn picture(map: &[u8]) -> String {
    map.iter()
        .map(|part| match part {
            0 => ' ',
            1..=84 => '.',
            85..=169 => '-',
            170..=254 => '+',
            255 => '#',
        })
        .collect()
}

/// Bytes between two plain lines about the drive.
const TELL_EVERY: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_shows_how_much_of_it_was_read() {
        assert_eq!(picture(&[0, 1, 100, 200, 255]), " .-+#");
    }

    #[test]
    fn a_phase_ends_where_the_next_begins() {
        let mut live = Live::new(Ui {
            json: false,
            quiet: true,
        });
        live.begin("connect", "").unwrap();
        live.begin("power", "").unwrap();
        let [connect, power] = live.phases.as_slice() else {
            panic!("{:?}", live.phases)
        };
        assert_eq!(
            connect.started_ms + connect.took_ms.unwrap(),
            power.started_ms
        );
        assert_eq!(power.took_ms, None);
    }
}
