//! The serial console of a virtual PC: keeps everything it prints, without the escape
//! sequences, and waits for texts with a deadline.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Lines shown when a wait fails.
const TAIL: usize = 25;

/// The console, connected.
#[derive(Debug)]
pub struct Console {
    shared: Arc<Shared>,
    stream: UnixStream,
    /// Everything before this has been matched already.
    cursor: usize,
}

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Heard>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Heard {
    text: String,
    /// When the text had which length: one entry per read.
    times: Vec<(usize, Instant)>,
    closed: bool,
}

/// A text that was waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which of the texts, counted from 0.
    pub which: usize,
    /// The line it ended in, as far as it had arrived.
    pub line: String,
    /// When it was complete.
    pub at: Instant,
}

impl Console {
    /// Starts to listen; every byte also goes to the file `transcript`, escape sequences
    /// and all.
    pub fn new(stream: UnixStream, transcript: &Path) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut file = File::create(transcript)
            .with_context(|| format!("creating {}", transcript.display()))?;
        let (mut input, listener) = (
            stream.try_clone().context("duplicating a socket")?,
            Arc::clone(&shared),
        );
        thread::spawn(move || {
            let mut filter = Plain::default();
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = input.read(&mut buffer) {
                // The transcript helps people; a full disk must not end the test.
                let _ = file.write_all(&buffer[..length]);
                listener.hear(|heard| {
                    filter.push(&buffer[..length], &mut heard.text);
                    heard.times.push((heard.text.len(), Instant::now()));
                });
            }
            listener.hear(|heard| heard.closed = true);
        });
        Ok(Console {
            shared,
            stream,
            cursor: 0,
        })
    }

    /// Waits until `text` has been printed after the last match.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<Found> {
        self.wait_for_any(&[text], limit)
    }

    /// Waits for the first of several texts.
    pub fn wait_for_any(&mut self, texts: &[&str], limit: Duration) -> Result<Found> {
        let end = Instant::now() + limit;
        let shared = Arc::clone(&self.shared);
        let mut heard = shared.lock();
        loop {
            let first = texts
                .iter()
                .enumerate()
                .filter_map(|(which, text)| {
                    heard.text[self.cursor..].find(text).map(|at| (at, which))
                })
                .min();
            if let Some((at, which)) = first {
                let stop = self.cursor + at + texts[which].len();
                let found = heard.found(which, stop);
                self.cursor = stop;
                return Ok(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if heard.closed || left.is_zero() {
                let why = if heard.closed {
                    "the machine stopped".to_owned()
                } else {
                    format!("{} s passed", limit.as_secs())
                };
                bail!(
                    "{why} while waiting for {texts:?} on the console; its last lines:\n{}",
                    tail(&heard.text)
                );
            }
            heard = match shared.changed.wait_timeout(heard, left) {
                Ok((heard, _)) => heard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Waits until the machine has ended.
    pub fn wait_closed(&mut self, limit: Duration) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let guard = shared.lock();
        let result = shared
            .changed
            .wait_timeout_while(guard, limit, |heard| !heard.closed);
        let (heard, timeout) = result.unwrap_or_else(std::sync::PoisonError::into_inner);
        if timeout.timed_out() {
            bail!(
                "the machine still runs after {} s; its last lines:\n{}",
                limit.as_secs(),
                tail(&heard.text)
            );
        }
        Ok(())
    }

    /// Everything printed so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.shared.lock().text.clone()
    }

    /// The rest of the first line that starts with `prefix`, once that line is complete.
    pub fn line_after(&mut self, prefix: &str, limit: Duration) -> Result<String> {
        self.wait_for(prefix, limit)?;
        let start = self.cursor;
        self.wait_for("\n", limit)?;
        Ok(self.shared.lock().text[start..self.cursor]
            .trim()
            .to_owned())
    }

    /// Types on the console.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        self.stream
            .write_all(text.as_bytes())
            .context("typing on the serial console")
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn hear(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

impl Heard {
    fn found(&self, which: usize, stop: usize) -> Found {
        let start = self.text[..stop]
            .trim_end_matches('\n')
            .rfind('\n')
            .map_or(0, |at| at + 1);
        let end = self.text[stop..]
            .find('\n')
            .map_or(self.text.len(), |at| stop + at);
        let at = self
            .times
            .iter()
            .find(|(length, _)| *length >= stop)
            .map_or_else(Instant::now, |(_, at)| *at);
        Found {
            which,
            line: self.text[start..end].trim().to_owned(),
            at,
        }
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(TAIL)..]
        .iter()
        .map(|line| format!("  | {line}\n"))
        .collect()
}

/// Removes what moves a terminal's cursor: ECMA-48 control sequences, carriage returns,
/// other control characters. Firmware screens thereby run together, which is fine.
#[derive(Debug, Default)]
struct Plain {
    state: Escape,
    /// Bytes of a character that is not complete yet.
    pending: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// After ESC.
    Started,
    /// After ESC [: until a byte from 0x40 to 0x7e.
    Sequence,
    /// After ESC and an intermediate byte such as `(`: until a byte from 0x30 to 0x7e.
    Intermediate,
    /// After ESC ]: until BEL, or ESC of the string terminator.
    Command,
}

impl Plain {
    fn push(&mut self, bytes: &[u8], text: &mut String) {
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (_, 0x1b) => Escape::Started,
                (Escape::None, _) => {
                    if byte == b'\n' || byte == b'\t' || byte >= 0x20 && byte != 0x7f {
                        self.pending.push(byte);
                    }
                    Escape::None
                }
                (Escape::Started, b'[') => Escape::Sequence,
                (Escape::Started, b']') => Escape::Command,
                (Escape::Started, 0x20..=0x2f) => Escape::Intermediate,
                (Escape::Started, _) => Escape::None,
                (Escape::Sequence, 0x40..=0x7e)
                | (Escape::Intermediate, 0x30..=0x7e)
                | (Escape::Command, 0x07) => Escape::None,
                (state, _) => state,
            };
        }
        self.flush(text);
    }

    /// Moves complete characters over; what can never become one is replaced.
    fn flush(&mut self, text: &mut String) {
        while !self.pending.is_empty() {
            match std::str::from_utf8(&self.pending) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                }
                Err(error) => {
                    let (valid, rest) = self.pending.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let skip = match error.error_len() {
                        None => {
                            self.pending = rest.to_vec();
                            return;
                        }
                        Some(length) => length,
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.pending = rest.get(skip..).unwrap_or_default().to_vec();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn pair() -> (Console, UnixStream, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        (
            Console::new(ours, &dir.path().join("transcript")).unwrap(),
            theirs,
            dir,
        )
    }

    #[test]
    fn a_text_split_over_writes_is_found() {
        let (mut console, mut machine, _dir) = pair();
        machine.write_all(b"noise\r\nhel").unwrap();
        machine.write_all(b"lo world\r\n").unwrap();
        console.wait_for("hello", LIMIT).unwrap();
        assert_eq!(
            console.wait_for("world\n", LIMIT).unwrap().line,
            "hello world"
        );
    }

    #[test]
    fn a_text_is_matched_only_once() {
        let (mut console, mut machine, _dir) = pair();
        machine.write_all(b"again\n").unwrap();
        console.wait_for("again", LIMIT).unwrap();
        let error = console
            .wait_for("again", Duration::from_millis(20))
            .unwrap_err()
            .to_string();
        assert!(error.contains("again"), "{error}");
    }

    #[test]
    fn the_earliest_of_several_texts_wins() {
        let (mut console, mut machine, _dir) = pair();
        machine.write_all(b"second first\n").unwrap();
        console.wait_for("\n", LIMIT).unwrap();
        console.cursor = 0;
        assert_eq!(
            console
                .wait_for_any(&["first", "second"], LIMIT)
                .unwrap()
                .which,
            1
        );
    }

    #[test]
    fn a_stopped_machine_ends_the_wait_at_once_and_shows_its_last_lines() {
        let (mut console, mut machine, _dir) = pair();
        machine.write_all(b"Kernel panic\n").unwrap();
        drop(machine);
        let error = console.wait_for("never", LIMIT).unwrap_err().to_string();
        assert!(
            error.contains("stopped") && error.contains("Kernel panic"),
            "{error}"
        );
    }

    #[test]
    fn line_after_waits_for_the_whole_line() {
        let (mut console, mut machine, _dir) = pair();
        machine.write_all(b"cmdline: a b").unwrap();
        machine.write_all(b" c\r\nnext\r\n").unwrap();
        assert_eq!(console.line_after("cmdline: ", LIMIT).unwrap(), "a b c");
    }

    #[test]
    fn what_moves_the_cursor_is_removed() {
        let mut text = String::new();
        let mut plain = Plain::default();
        plain.push(b"\x1b[2J\x1b[01;01Ha\x1b", &mut text);
        plain.push(b"[0;37mb\x1b(Bc\x1b]0;title\x07d\r\ne\x1b7f", &mut text);
        assert_eq!(text, "abcd\nef");
    }

    #[test]
    fn split_characters_survive_and_broken_ones_are_replaced() {
        let mut text = String::new();
        let mut plain = Plain::default();
        plain.push(&[0xc3], &mut text);
        plain.push(&[0xa9, 0xff, b'x'], &mut text);
        assert_eq!(text, "é\u{fffd}x");
    }
}
