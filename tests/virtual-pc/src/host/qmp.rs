//! QEMU's machine protocol (QEMU, docs/interop/qmp-spec.rst): one connection, any number of
//! commands under way, events beside them.
//!
//! QEMU is our own child, but its answers carry what the guest did; a line that is too long
//! or no QMP at all ends the connection instead of growing a buffer.

mod message;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use message::{Event, MessageError};
use message::{Message, request};

/// Longest line taken from QEMU, in bytes. Its longest answers (`query-*`) stay far below.
const LINE_LIMIT: u64 = 1 << 20;
/// Events waiting to be taken; a guest that causes more than this at once ends the connection.
const EVENT_LIMIT: usize = 1024;
/// How long a command may take. All that are used here answer at once; QEMU itself waits for
/// a block device at most this long because the device answers errors sooner.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// QEMU said no.
    #[error("QEMU refused {command}: {description}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's words.
        description: String,
    },
    /// The connection ended, so QEMU did or will.
    #[error("QEMU's control connection is closed")]
    Closed,
    /// QEMU did not answer.
    #[error("QEMU did not answer {command} within {} s", PATIENCE.as_secs())]
    Timeout {
        /// The command.
        command: String,
    },
    /// The other end does not speak QMP.
    #[error("unexpected greeting on QEMU's control connection")]
    Greeting(#[source] MessageError),
}

type Answer = Result<Value, String>;

/// Commands waiting for an answer. `None` once the connection has ended.
type Pending = Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>;

/// The connection. Dropping it closes it.
#[derive(Debug)]
pub struct Qmp {
    lines: mpsc::Sender<String>,
    pending: Arc<Pending>,
    next: AtomicU64,
    tasks: [JoinHandle<()>; 2],
}

impl Qmp {
    /// Takes the greeting, negotiates, and starts to listen. Events come out of the receiver,
    /// which ends with the connection.
    pub async fn connect<S>(stream: S) -> Result<(Self, mpsc::Receiver<Event>), QmpError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reader, writer) = tokio::io::split(stream);
        let mut reader = BufReader::new(reader);
        let greeting = tokio::time::timeout(PATIENCE, line(&mut reader))
            .await
            .map_err(|_| QmpError::Timeout {
                command: "its greeting".into(),
            })?
            .ok_or(QmpError::Closed)?;
        match message::parse(&greeting) {
            Ok(Message::Greeting) => {}
            Ok(_) => return Err(QmpError::Greeting(MessageError::Unknown)),
            Err(error) => return Err(QmpError::Greeting(error)),
        }
        let pending: Arc<Pending> = Arc::new(Mutex::new(Some(HashMap::new())));
        let (events, receiver) = mpsc::channel(EVENT_LIMIT);
        let (lines, queue) = mpsc::channel(16);
        let qmp = Qmp {
            lines,
            tasks: [
                tokio::spawn(listen(reader, Arc::clone(&pending), events)),
                tokio::spawn(write(writer, queue)),
            ],
            pending,
            next: AtomicU64::new(0),
        };
        qmp.execute("qmp_capabilities", Value::Null).await?;
        Ok((qmp, receiver))
    }

    /// Runs a command and returns its result.
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        match lock(&self.pending).as_mut() {
            Some(pending) => drop(pending.insert(id, sender)),
            None => return Err(QmpError::Closed),
        }
        let exchange = async {
            self.lines
                .send(request(id, command, arguments))
                .await
                .map_err(|_| QmpError::Closed)?;
            answer.await.map_err(|_| QmpError::Closed)
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(answer) => answer?.map_err(|description| QmpError::Refused {
                command: command.to_owned(),
                description,
            }),
            Err(_) => {
                if let Some(pending) = lock(&self.pending).as_mut() {
                    pending.remove(&id);
                }
                Err(QmpError::Timeout {
                    command: command.to_owned(),
                })
            }
        }
    }

    /// Runs a command of QEMU's human monitor, for what QMP has no command for.
    pub async fn monitor(&self, command: &str) -> Result<String, QmpError> {
        let arguments = serde_json::json!({ "command-line": command });
        let answer = self.execute("human-monitor-command", arguments).await?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn lock(
    pending: &Pending,
) -> std::sync::MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Answer>>>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One line, or `None` at the end, on an error, and on a line without end.
async fn line<R: AsyncRead + Unpin>(reader: &mut BufReader<R>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = reader.take(LINE_LIMIT).read_until(b'\n', &mut bytes).await;
    (read.is_ok() && bytes.last() == Some(&b'\n')).then_some(bytes)
}

async fn listen<R: AsyncRead + Unpin>(
    mut reader: BufReader<R>,
    pending: Arc<Pending>,
    events: mpsc::Sender<Event>,
) {
    while let Some(bytes) = line(&mut reader).await {
        let (id, answer) = match message::parse(&bytes) {
            Ok(Message::Return { id, value }) => (id, Ok(value)),
            Ok(Message::Error { id, description }) => (id, Err(description)),
            Ok(Message::Event(event)) => {
                tracing::trace!(name = event.name, "QEMU event");
                if events.try_send(event).is_err() {
                    break;
                }
                continue;
            }
            Ok(Message::Greeting) => continue,
            Err(error) => {
                tracing::warn!(%error, "closing QEMU's control connection");
                break;
            }
        };
        if let Some(waiting) = lock(&pending).as_mut().and_then(|map| map.remove(&id)) {
            // Whoever asked may have given up.
            let _ = waiting.send(answer);
        }
    }
    // Everyone who still waits learns that no answer comes.
    *lock(&pending) = None;
}

async fn write<W: AsyncWrite + Unpin>(mut writer: W, mut queue: mpsc::Receiver<String>) {
    while let Some(line) = queue.recv().await {
        if writer.write_all(line.as_bytes()).await.is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::DuplexStream;

    /// The other end: greets, accepts the negotiation, then hands over its side.
    async fn pair() -> (Qmp, mpsc::Receiver<Event>, BufReader<DuplexStream>) {
        let (ours, theirs) = tokio::io::duplex(4096);
        let mut theirs = BufReader::new(theirs);
        let greet = async {
            say(&mut theirs, "{\"QMP\": {}}").await;
            let asked = hear(&mut theirs).await;
            assert_eq!(asked["execute"], "qmp_capabilities");
            say(
                &mut theirs,
                &json!({"return": {}, "id": asked["id"]}).to_string(),
            )
            .await;
        };
        let (connected, ()) = tokio::join!(Qmp::connect(ours), greet);
        let (qmp, events) = connected.unwrap();
        (qmp, events, theirs)
    }

    async fn say(stream: &mut BufReader<DuplexStream>, line: &str) {
        stream
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }

    async fn hear(stream: &mut BufReader<DuplexStream>) -> Value {
        serde_json::from_slice(&line(stream).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn answers_find_their_commands_whatever_their_order() {
        let (qmp, mut events, mut qemu) = pair().await;
        let serve = async {
            let first = hear(&mut qemu).await;
            let second = hear(&mut qemu).await;
            say(
                &mut qemu,
                "{\"event\": \"RESET\", \"data\": {\"guest\": true}}",
            )
            .await;
            say(
                &mut qemu,
                &json!({"return": "for second", "id": second["id"]}).to_string(),
            )
            .await;
            say(
                &mut qemu,
                &json!({"return": "for first", "id": first["id"]}).to_string(),
            )
            .await;
        };
        let (first, second, ()) = tokio::join!(
            qmp.execute("a", Value::Null),
            qmp.execute("b", json!({"x": 1})),
            serve
        );
        assert_eq!(first.unwrap(), "for first");
        assert_eq!(second.unwrap(), "for second");
        assert_eq!(events.recv().await.unwrap().name, "RESET");
    }

    #[tokio::test]
    async fn a_refusal_carries_qemus_words() {
        let (qmp, _events, mut qemu) = pair().await;
        let serve = async {
            let asked = hear(&mut qemu).await;
            let answer = json!({"error": {"class": "GenericError", "desc": "no such thing"}, "id": asked["id"]});
            say(&mut qemu, &answer.to_string()).await;
        };
        let (answer, ()) = tokio::join!(qmp.execute("nonsense", Value::Null), serve);
        let error = answer.unwrap_err().to_string();
        assert!(
            error.contains("nonsense") && error.contains("no such thing"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_dying_qemu_ends_every_wait() {
        let (qmp, mut events, mut qemu) = pair().await;
        let serve = async {
            hear(&mut qemu).await;
            drop(qemu);
        };
        let (answer, ()) = tokio::join!(qmp.execute("quit", Value::Null), serve);
        assert!(matches!(answer, Err(QmpError::Closed)));
        assert!(events.recv().await.is_none());
        let later = qmp.execute("quit", Value::Null).await;
        assert!(matches!(later, Err(QmpError::Closed)));
    }

    #[tokio::test]
    async fn a_line_without_end_closes_the_connection() {
        let (qmp, mut events, mut qemu) = pair().await;
        let flood = vec![b' '; usize::try_from(LINE_LIMIT).unwrap() + 1];
        // The write fails when the other end has given up, which is what is asked here.
        let _ = qemu.write_all(&flood).await;
        assert!(events.recv().await.is_none());
        assert!(matches!(
            qmp.execute("x", Value::Null).await,
            Err(QmpError::Closed)
        ));
    }

    #[tokio::test]
    async fn another_protocol_is_refused() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(b"RFB 003.008\n").await.unwrap();
        assert!(matches!(
            Qmp::connect(ours).await,
            Err(QmpError::Greeting(_))
        ));
    }
}
