//! The guest's serial port: what it prints is kept as text and passed on to whoever listens;
//! what is typed goes to the guest while the PC is on.

mod plain;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;

use plain::Plain;

/// Characters that are kept; the oldest half goes when there are more.
const KEPT: usize = 1 << 20;
/// Pieces of output that a slow listener may lag behind before it loses some, as a UART does.
const OUTPUT_QUEUE: usize = 1024;
/// Pieces of input that wait for a guest that does not read.
const INPUT_QUEUE: usize = 64;

/// A piece of what the guest printed.
pub type Output = Arc<[u8]>;

/// The port. It outlives the QEMU processes that it is connected to.
#[derive(Debug, Clone)]
pub struct Serial {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    printed: Mutex<Printed>,
    changed: watch::Sender<u64>,
    output: broadcast::Sender<Output>,
    input: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
}

#[derive(Debug, Default)]
struct Printed {
    text: String,
    /// Bytes of text that were dropped before `text`.
    dropped: u64,
}

/// Why a wait for a text ended without it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the serial port did not print {text:?} in time; its last lines:\n{tail}")]
pub struct NotPrinted {
    /// What was waited for.
    pub text: String,
    /// What came last.
    pub tail: String,
}

impl Default for Serial {
    fn default() -> Self {
        Serial {
            shared: Arc::new(Shared {
                printed: Mutex::default(),
                changed: watch::Sender::new(0),
                output: broadcast::Sender::new(OUTPUT_QUEUE),
                input: Mutex::default(),
            }),
        }
    }
}

impl Serial {
    /// Connects the port to a machine that starts.
    pub(crate) fn attach(&self, stream: UnixStream) -> Attached {
        let (mut reader, mut writer) = stream.into_split();
        let (input, mut queue) = mpsc::channel::<Vec<u8>>(INPUT_QUEUE);
        *lock(&self.shared.input) = Some(input);
        let shared = Arc::clone(&self.shared);
        let read = tokio::spawn(async move {
            let mut filter = Plain::default();
            let mut buffer = vec![0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer).await {
                shared.print(buffer.get(..length).unwrap_or_default(), &mut filter);
            }
        });
        let write = tokio::spawn(async move {
            while let Some(bytes) = queue.recv().await {
                if writer.write_all(&bytes).await.is_err() {
                    break;
                }
            }
        });
        Attached {
            shared: Arc::clone(&self.shared),
            tasks: [read, write],
        }
    }

    /// What the guest prints from now on, byte for byte.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Output> {
        self.shared.output.subscribe()
    }

    /// Types on the port. Waits while the guest does not read; lost while the PC is off.
    pub async fn send(&self, bytes: Vec<u8>) {
        let input = lock(&self.shared.input).clone();
        if let Some(input) = input {
            // The machine may stop while we wait.
            let _ = input.send(bytes).await;
        }
    }

    /// How many bytes of text were printed so far: a position for [`Serial::wait_for`].
    #[must_use]
    pub fn position(&self) -> u64 {
        lock(&self.shared.printed).end()
    }

    /// The text since `position`, without escape sequences, as far as it is kept.
    #[must_use]
    pub fn text_since(&self, position: u64) -> String {
        lock(&self.shared.printed).since(position).to_owned()
    }

    /// The last `lines` lines that are not blank.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        let printed = lock(&self.shared.printed);
        let all: Vec<&str> = printed
            .text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let last = all
            .get(all.len().saturating_sub(lines)..)
            .unwrap_or_default();
        last.join("\n")
    }

    /// Waits until `text` was printed after `position`; returns the position behind it.
    pub async fn wait_for(
        &self,
        text: &str,
        position: u64,
        deadline: Instant,
    ) -> Result<u64, NotPrinted> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(end) = lock(&self.shared.printed).find(text, position) {
                return Ok(end);
            }
            let more = tokio::time::timeout_at(deadline.into(), changed.changed()).await;
            if !matches!(more, Ok(Ok(()))) {
                return Err(NotPrinted {
                    text: text.to_owned(),
                    tail: self.tail(25),
                });
            }
        }
    }
}

impl Shared {
    fn print(&self, bytes: &[u8], filter: &mut Plain) {
        lock(&self.printed).push(bytes, filter);
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
        // Nobody needs to listen.
        let _ = self.output.send(Arc::from(bytes));
    }
}

impl Printed {
    fn push(&mut self, bytes: &[u8], filter: &mut Plain) {
        filter.push(bytes, &mut self.text);
        if self.text.len() > KEPT {
            let middle = self.text.floor_char_boundary(self.text.len() / 2);
            self.text.drain(..middle);
            self.dropped += to_u64(middle);
        }
    }

    fn end(&self) -> u64 {
        self.dropped + to_u64(self.text.len())
    }

    fn since(&self, position: u64) -> &str {
        let skip = usize::try_from(position.saturating_sub(self.dropped)).unwrap_or(usize::MAX);
        self.text.get(skip..).unwrap_or_default()
    }

    fn find(&self, text: &str, position: u64) -> Option<u64> {
        let at = self.since(position).find(text)?;
        Some(position.max(self.dropped) + to_u64(at + text.len()))
    }
}

fn to_u64(length: usize) -> u64 {
    // A usize has at most 64 bits on every machine that runs QEMU.
    length as u64
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A machine's end of the port; dropping it disconnects.
#[derive(Debug)]
pub(crate) struct Attached {
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Attached {
    fn drop(&mut self) {
        *lock(&self.shared.input) = None;
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[tokio::test]
    async fn a_text_is_found_once_across_pieces_and_by_position() {
        let serial = Serial::default();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let _attached = serial.attach(ours);
        theirs.write_all(b"hel").await.unwrap();
        theirs.write_all(b"lo hello\r\n").await.unwrap();
        let first = serial.wait_for("hello", 0, later()).await.unwrap();
        assert_eq!(first, 5);
        let second = serial.wait_for("hello", first, later()).await.unwrap();
        assert_eq!(second, 11);
        let error = serial
            .wait_for("hello", second, Instant::now())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("hello hello"), "{error}");
    }

    #[tokio::test]
    async fn listeners_get_every_byte_and_typing_reaches_the_guest() {
        let serial = Serial::default();
        let mut output = serial.subscribe();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let _attached = serial.attach(ours);
        theirs.write_all(b"\x1b[2Jhi").await.unwrap();
        assert_eq!(&*output.recv().await.unwrap(), b"\x1b[2Jhi");
        serial.send(b"ls\r".to_vec()).await;
        let mut typed = [0; 3];
        theirs.read_exact(&mut typed).await.unwrap();
        assert_eq!(&typed, b"ls\r");
    }

    #[tokio::test]
    async fn typing_at_a_pc_that_is_off_is_lost() {
        let serial = Serial::default();
        serial.send(vec![0]).await;
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(serial.attach(ours));
        serial.send(vec![0]).await;
        drop(theirs);
    }

    #[test]
    fn old_text_is_dropped_and_positions_stay_valid() {
        let mut printed = Printed::default();
        let mut filter = Plain::default();
        for _ in 0..40 {
            printed.push(&[b'x'; KEPT / 16], &mut filter);
        }
        let end = printed.end();
        assert_eq!(end, 40 * KEPT as u64 / 16);
        assert!(printed.text.len() <= KEPT);
        printed.push(b"end", &mut filter);
        assert_eq!(printed.find("end", 0), Some(end + 3));
        assert_eq!(printed.find("end", end), Some(end + 3));
        assert_eq!(printed.find("end", end + 1), None);
    }
}
