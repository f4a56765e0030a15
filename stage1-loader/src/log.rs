//! The loader's own log: the newest lines, in memory only, for the failure report and the
//! prompt's `log` command.

use std::collections::VecDeque;

/// The newest lines up to a number of bytes.
#[derive(Debug)]
pub struct Log {
    lines: VecDeque<String>,
    bytes: usize,
    cap: usize,
}

/// What the log keeps.
pub const LOG_BYTES: usize = 64 * 1024;

impl Default for Log {
    fn default() -> Self {
        Self::with_cap(LOG_BYTES)
    }
}

impl Log {
    /// An empty log of at most `cap` bytes.
    pub fn with_cap(cap: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            cap,
        }
    }

    /// Adds text, line by line; the oldest lines make room.
    pub fn push(&mut self, text: &str) {
        for line in text.split('\n') {
            let line: String = line.chars().take(self.cap / 4).collect();
            self.bytes += line.len() + 1;
            self.lines.push_back(line);
        }
        while self.bytes > self.cap {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.len() + 1;
        }
    }

    /// The newest lines that fit into `bytes`, oldest first.
    pub fn tail(&self, bytes: usize) -> Vec<String> {
        let mut left = bytes;
        let mut from = self.lines.len();
        while let Some(line) = from.checked_sub(1).and_then(|at| self.lines.get(at)) {
            let Some(rest) = left.checked_sub(line.len() + 1) else {
                break;
            };
            left = rest;
            from -= 1;
        }
        self.lines.iter().skip(from).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_make_room() {
        let mut log = Log::with_cap(12);
        log.push("a\nbbb");
        log.push("ccc");
        assert_eq!(log.tail(usize::MAX), ["a", "bbb", "ccc"]);
        log.push("ddd");
        assert_eq!(log.tail(usize::MAX), ["bbb", "ccc", "ddd"]);
    }

    #[test]
    fn a_tail_holds_whole_lines_only() {
        let mut log = Log::default();
        log.push("one\ntwo\nthree");
        assert_eq!(log.tail(10), ["two", "three"]);
        assert_eq!(log.tail(9), ["three"]);
        assert!(log.tail(3).is_empty());
    }

    #[test]
    fn an_endless_line_cannot_fill_it() {
        let mut log = Log::with_cap(100);
        log.push(&"x".repeat(1000));
        assert_eq!(log.tail(usize::MAX), ["x".repeat(25)]);
    }
}
