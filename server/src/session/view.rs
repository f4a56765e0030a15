//! Shows a followed session: a line per event, a bar while bytes arrive; plain lines when the
//! output is no terminal; every event as one line of JSON with `--json`.

use std::io::IsTerminal;

use boot_api::{Event, ReportKind, State};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sparetire_builder::cli::Ui;

use super::client::printable;
use super::follow::Watch;
use super::story::{Outcome, Story, seconds, sentence};

#[derive(Debug)]
pub(super) struct View {
    ui: Ui,
    terminal: bool,
    bar: Option<ProgressBar>,
    /// Tenths of the download that plain lines have told.
    tenths: u64,
}

impl View {
    pub(super) fn new(ui: Ui) -> Self {
        Self {
            ui,
            terminal: std::io::stderr().is_terminal(),
            bar: None,
            tenths: 0,
        }
    }

    pub(super) fn outcome(&mut self, id: &str, state: &State, story: &Story) -> anyhow::Result<()> {
        self.end_bar();
        if self.ui.json {
            return self.ui.print_json(&Outcome {
                event: "outcome",
                id,
                state,
                story,
            });
        }
        self.ui.line(format!("session {id}: {state}"));
        for line in story.table() {
            self.ui.line(line);
        }
        Ok(())
    }

    fn line(&self, event: &Event) {
        let text = format!(
            "{:>9}  {}",
            seconds(event.report.at_ms),
            sentence(&event.report.kind)
        );
        self.above_bar(|ui| ui.line(&text));
    }

    fn above_bar(&self, print: impl FnOnce(Ui)) {
        match &self.bar {
            Some(bar) => bar.suspend(|| print(self.ui)),
            None => print(self.ui),
        }
    }

    fn progress(&mut self, event: &Event, phase: &str, done: u64, total: u64) {
        if self.ui.quiet {
            return;
        }
        if self.terminal {
            let bar = self.bar.get_or_insert_with(|| bar(phase));
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        let tenths = done.saturating_mul(10).checked_div(total).unwrap_or(0);
        // A new try starts over.
        if tenths != self.tenths {
            self.tenths = tenths;
            self.line(event);
        }
    }

    fn end_bar(&mut self) {
        self.tenths = 0;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Watch for View {
    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        if self.ui.json {
            let mut line = serde_json::to_value(event)?;
            if let Some(fields) = line.as_object_mut() {
                fields.insert("event".to_owned(), json!("report"));
            }
            return self.ui.print_json(&line);
        }
        match &event.report.kind {
            ReportKind::Progress {
                phase, done, total, ..
            } => self.progress(event, phase, *done, *total),
            kind => {
                if matches!(
                    kind,
                    ReportKind::StepStarted { .. } | ReportKind::StepDone { .. }
                ) {
                    self.end_bar();
                }
                // A started step says little; its end says it all.
                if !matches!(
                    kind,
                    ReportKind::StepStarted { .. } | ReportKind::Inventory { .. }
                ) {
                    self.line(event);
                }
            }
        }
        Ok(())
    }

    fn state(&mut self, state: &State) -> anyhow::Result<()> {
        if self.ui.json {
            return self
                .ui
                .print_json(&json!({ "event": "state", "state": state }));
        }
        Ok(())
    }

    fn remark(&mut self, text: &str) -> anyhow::Result<()> {
        if self.ui.json {
            return self
                .ui
                .print_json(&json!({ "event": "remark", "text": text }));
        }
        self.above_bar(|ui| ui.note(text));
        Ok(())
    }
}

fn bar(phase: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template =
        "           {prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
    // A template that does not parse is our own slip and only costs the layout.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(printable(phase));
    bar
}
