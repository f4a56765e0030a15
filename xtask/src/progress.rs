//! How far a long step is: a bar on a terminal, a line for every tenth otherwise.

use std::io::{IsTerminal, stdout};

use indicatif::{ProgressBar, ProgressStyle};

/// A step with a roughly known number of parts.
pub(crate) struct Steps {
    bar: ProgressBar,
    label: String,
    total: u64,
    at: u64,
    /// Without a terminal: tenths already printed.
    printed: Option<u64>,
}

impl Steps {
    /// Starts at `at` of `total`; `total` may turn out wrong.
    pub(crate) fn start(label: &str, at: u64, total: u64) -> Self {
        let terminal = stdout().is_terminal();
        let bar = if terminal {
            ProgressBar::new(total)
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template(
            "{prefix} [{bar:30}] {percent:>3}%  {elapsed} of about {duration}",
        ) {
            bar.set_style(style);
        }
        bar.set_prefix(label.to_owned());
        bar.set_position(at);
        bar.reset_eta();
        Steps {
            bar,
            label: label.to_owned(),
            total: total.max(1),
            at,
            printed: (!terminal).then_some(0),
        }
    }

    /// One more part is done.
    pub(crate) fn step(&mut self) {
        self.at += 1;
        // A wrong total must not show more than everything.
        let shown = self.at.min(self.total);
        self.bar.set_position(shown);
        let tenths = shown * 10 / self.total;
        if let Some(printed) = self.printed.as_mut().filter(|printed| tenths > **printed) {
            println!("{}: {}0 %", self.label, tenths);
            *printed = tenths;
        }
    }

    /// Ends the display; returns where it stood.
    pub(crate) fn finish(self) -> u64 {
        self.bar.finish_and_clear();
        self.at
    }
}
