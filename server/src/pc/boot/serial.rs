//! The PC's serial line beside its boot: what it prints, line by line, without what only a terminal understands.

use amt_redirection::console::sol::Options;
use amt_redirection::session::SessionKind;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use super::reach::Reach;
use crate::redirection::connect;
use crate::redirection::sol;

/// Follows the serial line until the receiver is dropped. A line that cannot be had is told as a line; the boot does
/// not depend on it.
pub(super) fn follow(reach: &Reach) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(256);
    let (dial, credentials) = reach.redirection();
    tokio::spawn(async move {
        let opened = async {
            let mut stream = dial.dial().await?;
            let policy = Default::default();
            let opened = connect::open(&mut stream, SessionKind::Sol, &credentials, policy).await?;
            Ok::<_, connect::ConnectError>((stream, opened.rest))
        };
        let (stream, rest) = match opened.await {
            Ok(opened) => opened,
            Err(error) => {
                let _ = sender.send(format!("(no serial line: {error})")).await;
                return;
            }
        };
        let mut session = sol::spawn(stream, rest, Options::default());
        let mut lines = Lines::default();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = session.terminal.read(&mut buffer).await {
            for line in lines.push(&buffer[..length]) {
                if sender.send(line).await.is_err() {
                    return;
                }
            }
        }
    });
    receiver
}

/// Text cut into lines, escape sequences taken out.
#[derive(Debug, Default)]
struct Lines {
    line: Vec<u8>,
    escape: Escape,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// ESC was seen.
    Begun,
    /// Inside of a control sequence (ECMA-48, section 5.4).
    Sequence,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            match (self.escape, byte) {
                (Escape::None, 0x1b) => self.escape = Escape::Begun,
                (Escape::Begun, b'[') => self.escape = Escape::Sequence,
                (Escape::Begun, _) => self.escape = Escape::None,
                (Escape::Sequence, 0x40..=0x7e) => self.escape = Escape::None,
                (Escape::Sequence, _) => {}
                (Escape::None, b'\r' | b'\n') => lines.extend(self.take()),
                (Escape::None, byte) => {
                    self.line.push(byte);
                    if self.line.len() >= MAX_LINE {
                        lines.extend(self.take());
                    }
                }
            }
        }
        lines
    }

    /// The line, unless there is nothing on it.
    fn take(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        (!text.is_empty()).then_some(text)
    }
}

/// Bytes after which a line is cut.
const MAX_LINE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_without_escape_sequences_however_they_are_cut() {
        let text = b"\x1b[2J\x1b[1;1HSeaBIOS\r\n\r\n\x1b7Boot\x1b[0m it\rrest";
        let mut whole = Lines::default();
        assert_eq!(whole.push(text), ["SeaBIOS", "Boot it"]);
        let mut pieces = Lines::default();
        let found: Vec<_> = text.iter().flat_map(|byte| pieces.push(&[*byte])).collect();
        assert_eq!(found, ["SeaBIOS", "Boot it"]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(&[b'x'; 2 * MAX_LINE]).len(), 2);
        assert!(lines.line.is_empty());
    }
}
