//! The loader's voice: every line goes to all terminals of the machine and into the log. A
//! terminal that takes no bytes loses them; it never holds the boot up.

pub mod devices;
pub mod painter;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::log::Log;
use crate::sequence::Step;
use crate::sys::{self, Waiting};
use crate::text;
use devices::{Device, Source};
use painter::{Kind, Painter};

/// What a terminal may owe. At 115,200 baud this is 1.5 seconds of text.
const MAX_BACKLOG: usize = 16 * 1024;

/// One open terminal.
#[derive(Debug)]
struct Output {
    name: String,
    painter: Painter,
    file: File,
    backlog: VecDeque<u8>,
}

impl Output {
    fn send(&mut self, text: &str) {
        self.backlog.extend(text.bytes());
        self.push();
        if self.backlog.len() > MAX_BACKLOG {
            // The oldest goes: what a person wants to see is the newest.
            let excess = self.backlog.len() - MAX_BACKLOG;
            self.backlog.drain(..excess);
        }
    }

    /// Writes what the terminal takes now. Errors other than "not now" lose the backlog: a line
    /// that was unplugged must not fill memory.
    fn push(&mut self) {
        loop {
            let (bytes, _) = self.backlog.as_slices();
            if bytes.is_empty() {
                return;
            }
            match self.file.write(bytes) {
                Ok(0) => return,
                Ok(taken) => {
                    self.backlog.drain(..taken);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.backlog.clear(),
            }
        }
    }

    fn owes(&self) -> bool {
        !self.backlog.is_empty() || sys::terminal_backlog(self.file.as_fd()) > 0
    }
}

#[derive(Debug, Default)]
struct Inner {
    outputs: Vec<Output>,
    log: Log,
}

/// A handle to all terminals and the log; clones speak to the same ones.
#[derive(Debug, Clone, Default)]
pub struct Console(Arc<Mutex<Inner>>);

impl Console {
    /// A console without terminals: lines go to the log only.
    pub fn new() -> Self {
        Self::default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic ends the program; whoever still speaks then may see half a state of the log.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens those of `devices` that are not open yet. Returns the names of the new ones and
    /// their keyboards.
    pub fn open(&self, root: &Path, devices: &[Device]) -> Vec<(String, File)> {
        let mut opened = Vec::new();
        for device in devices {
            if self.inner().outputs.iter().any(|o| o.name == device.name) {
                continue;
            }
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(root.join("dev").join(&device.name));
            let Ok(file) = file else { continue };
            // The kernel has set its own serial consoles up already; their speed stays.
            let set_up_line = device.kind == Kind::Serial && device.source != Source::Kernel;
            let raw = sys::make_terminal_raw(file.as_fd(), set_up_line);
            if raw.is_err() && set_up_line {
                // ttyS0 to ttyS7 exist in /dev whether there is a UART or not.
                continue;
            }
            if let Ok(keyboard) = file.try_clone() {
                opened.push((device.name.clone(), keyboard));
            }
            self.add(&device.name, device.kind, file);
        }
        opened
    }

    /// Adds an open terminal.
    pub fn add(&self, name: &str, kind: Kind, file: File) {
        self.inner().outputs.push(Output {
            name: name.to_owned(),
            painter: Painter::new(kind),
            file,
            backlog: VecDeque::new(),
        });
    }

    /// Names of the open terminals.
    pub fn names(&self) -> Vec<String> {
        let inner = self.inner();
        inner.outputs.iter().map(|o| o.name.clone()).collect()
    }

    /// A line that stays.
    pub fn line(&self, line: &str) {
        let line = text::printable(line);
        let mut inner = self.inner();
        inner.log.push(&line);
        for output in &mut inner.outputs {
            let text = output.painter.line(&line);
            output.send(&text);
        }
    }

    /// A status line of a step, with the time since the kernel started.
    pub fn status(&self, step: Step, line: &str) {
        self.line(&format!(
            "{} {:8} {line}",
            text::stamp(sys::uptime()),
            step.name()
        ));
    }

    /// Redraws the line at the bottom; it is not logged.
    pub fn bottom(&self, line: &str) {
        self.bottom_at(sys::uptime(), line);
    }

    fn bottom_at(&self, now: Duration, line: &str) {
        let line = text::printable(line);
        for output in &mut self.inner().outputs {
            match output.painter.bottom(now, &line) {
                Some(text) => output.send(&text),
                None => output.push(),
            }
        }
    }

    /// Text as it is, without line break or log: what a person types at the prompt.
    pub fn echo(&self, text: &str) {
        for output in &mut self.inner().outputs {
            output.send(text);
        }
    }

    /// Waits a little when a terminal is behind, so that long text is not cut.
    pub fn pace(&self) {
        let behind = |inner: &Inner| {
            inner
                .outputs
                .iter()
                .any(|o| o.backlog.len() > MAX_BACKLOG / 2)
        };
        if behind(&self.inner()) {
            self.flush(Duration::from_secs(2));
        }
    }

    /// The newest lines of the log, at most `bytes` of them.
    pub fn log_tail(&self, bytes: usize) -> Vec<String> {
        self.inner().log.tail(bytes)
    }

    /// Waits until every terminal has sent what it owes, but not longer than `limit`.
    pub fn flush(&self, limit: Duration) {
        let ends = sys::uptime() + limit;
        let mut inner = self.inner();
        loop {
            for output in &mut inner.outputs {
                output.push();
            }
            let now = sys::uptime();
            let owing: Vec<&Output> = inner.outputs.iter().filter(|o| o.owes()).collect();
            if owing.is_empty() || now >= ends {
                return;
            }
            // No event tells that a UART's buffer ran empty, and tcdrain(3) waits for ever on a
            // dead line; hence short waits. A full buffer does wake poll when it has room.
            let mut waiting: Vec<Waiting<'_>> = owing
                .iter()
                .filter(|output| !output.backlog.is_empty())
                .map(|output| Waiting {
                    fd: output.file.as_fd(),
                    write: true,
                    ready: false,
                })
                .collect();
            let pause = Duration::from_millis(10).min(ends - now);
            if sys::poll(&mut waiting, pause).is_err() {
                return;
            }
        }
    }

    /// Tries to write without waiting for whoever holds the console: for the panic hook, which
    /// may have been called by the holder.
    pub fn try_line(&self, line: &str) -> bool {
        let Ok(mut inner) = self.0.try_lock() else {
            return false;
        };
        let line = text::printable(line);
        for output in &mut inner.outputs {
            let text = output.painter.line(&line);
            output.send(&text);
        }
        !inner.outputs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    /// A console with one terminal, and what arrives there.
    fn recorded(kind: Kind) -> (Console, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        let console = Console::new();
        console.add("test", kind, File::from(OwnedFd::from(writer)));
        (console, reader)
    }

    fn text_of(console: Console, mut reader: std::io::PipeReader) -> String {
        drop(console);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_boot_looks_like_this() {
        let (console, reader) = recorded(Kind::Serial);
        console.line("sparetire stage one 1.0.0");
        console.bottom_at(Duration::from_secs(1), "10.0 MiB of 20.0 MiB  50 %");
        console.bottom_at(Duration::from_millis(1500), "15.0 MiB of 20.0 MiB  75 %");
        console.bottom_at(Duration::from_secs(2), "20.0 MiB of 20.0 MiB  100 %");
        console.line("done");
        assert_eq!(
            text_of(console, reader),
            "sparetire stage one 1.0.0\n\
             10.0 MiB of 20.0 MiB  50 %\
             \r20.0 MiB of 20.0 MiB  100 %\
             \rdone                       \n"
        );
    }

    #[test]
    fn a_status_line_has_time_step_and_text() {
        let (console, reader) = recorded(Kind::Screen);
        console.status(Step::HandOff, "to \x1b[1mthe image");
        let text = text_of(console, reader);
        let (stamp, rest) = text.split_at(text.find(']').unwrap() + 1);
        assert!(stamp.starts_with('['), "{text}");
        assert_eq!(rest, " hand-off to ?[1mthe image\n");
    }

    #[test]
    fn redrawn_lines_stay_out_of_the_log() {
        let console = Console::new();
        console.line("one");
        console.bottom("50 %");
        console.line("two");
        assert_eq!(console.log_tail(1000), ["one", "two"]);
    }

    #[test]
    fn a_terminal_that_takes_nothing_never_blocks_and_keeps_only_the_newest() {
        let (reader, writer) = std::io::pipe().unwrap();
        let writer = File::from(OwnedFd::from(writer));
        // Through /proc the same pipe opens non-blocking, as terminals are opened.
        use std::os::fd::AsRawFd;
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(format!("/proc/self/fd/{}", writer.as_raw_fd()))
            .unwrap();
        drop(writer);
        let console = Console::new();
        console.add("dead", Kind::Serial, file);
        for number in 0..20_000 {
            console.line(&format!("line {number}"));
        }
        assert!(console.inner().outputs[0].backlog.len() <= MAX_BACKLOG);
        let started = sys::uptime();
        console.flush(Duration::from_millis(50));
        assert!(sys::uptime() - started < Duration::from_secs(5));
        let mut tail = console.inner().outputs[0].backlog.clone();
        let tail = String::from_utf8(tail.make_contiguous().to_vec()).unwrap();
        assert!(tail.ends_with("line 19999\n"));
        drop(reader);
    }

    #[test]
    fn a_terminal_that_went_away_is_no_error() {
        let (console, reader) = recorded(Kind::Serial);
        drop(reader);
        console.line("nobody hears this");
        console.flush(Duration::from_secs(60));
        assert!(console.inner().outputs[0].backlog.is_empty());
    }
}
