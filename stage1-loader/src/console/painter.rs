//! What one output shows: lines that stay, and one line at the bottom that is redrawn in place.
//! Pure: text and time in, terminal text out. Plain `\r` and spaces, so that it works on a dumb
//! serial terminal too.

use std::time::Duration;

/// One column less than the narrowest terminal, so that a redrawn line never wraps.
pub const WIDTH: usize = 79;

/// The kinds of outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Takes any amount of text at once.
    Screen,
    /// A few kilobytes per second, and often recorded.
    Serial,
}

impl Kind {
    /// Shortest time between two drawings of the bottom line.
    fn pause(self) -> Duration {
        match self {
            Kind::Screen => Duration::from_millis(200),
            // A second, less what timers are late by.
            Kind::Serial => Duration::from_millis(950),
        }
    }
}

/// The state of one output.
#[derive(Debug)]
pub struct Painter {
    kind: Kind,
    /// Columns of the bottom line that carry text now.
    shown: usize,
    drawn: Option<Duration>,
}

impl Painter {
    /// A painter for an output whose cursor stands at the start of a line.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            shown: 0,
            drawn: None,
        }
    }

    /// Text that stays; a line break is added. It takes the bottom line's place.
    pub fn line(&mut self, text: &str) -> String {
        let mut out = self.covered(text.split('\n').next().unwrap_or_default());
        out.extend(text.split('\n').skip(1).flat_map(|line| ["\n", line]));
        out.push('\n');
        self.shown = 0;
        self.drawn = None;
        out
    }

    /// Redraws the bottom line, unless it was drawn a moment ago.
    pub fn bottom(&mut self, now: Duration, text: &str) -> Option<String> {
        if self
            .drawn
            .is_some_and(|drawn| now < drawn + self.kind.pause())
        {
            return None;
        }
        let text: String = text.chars().take(WIDTH).collect();
        let out = self.covered(&text);
        self.shown = text.chars().count();
        self.drawn = Some(now);
        Some(out)
    }

    /// Text from column one, with spaces over the rest of what stood there.
    fn covered(&self, text: &str) -> String {
        if self.shown == 0 {
            return text.to_owned();
        }
        let rest = self.shown.saturating_sub(text.chars().count());
        format!("\r{text}{:rest$}", "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_line_takes_the_place_of_the_redrawn_one() {
        let mut painter = Painter::new(Kind::Screen);
        let mut out = painter.line("first");
        out += &painter.bottom(at(0), "10 % done").unwrap();
        out += &painter.bottom(at(300), "9 %").unwrap();
        out += &painter.line("ok");
        out += &painter.line("last");
        assert_eq!(out, "first\n10 % done\r9 %      \rok \nlast\n");
    }

    #[test]
    fn a_serial_line_is_redrawn_once_a_second_and_a_screen_five_times() {
        let draws = |kind| {
            let mut painter = Painter::new(kind);
            (0..9500)
                .filter(|&t| painter.bottom(at(t), "x").is_some())
                .count()
        };
        assert_eq!(draws(Kind::Serial), 10);
        assert_eq!(draws(Kind::Screen), 48);
    }

    #[test]
    fn a_redrawn_line_never_wraps() {
        let mut painter = Painter::new(Kind::Serial);
        let out = painter.bottom(at(0), &"x".repeat(200)).unwrap();
        assert_eq!(out.len(), WIDTH);
    }

    #[test]
    fn several_lines_at_once_cover_the_redrawn_line_only_once() {
        let mut painter = Painter::new(Kind::Screen);
        painter.bottom(at(0), "abcdef");
        assert_eq!(painter.line("12\n34"), "\r12    \n34\n");
    }
}
