//! Serial over LAN as a terminal sees it: a byte stream both ways, and events beside it.
//!
//! What the host prints and nobody reads is kept up to a limit; then the oldest goes, as on a serial line. What is typed waits
//! in the stream until the connection takes it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use amt_redirection::console::sol::{Console, Error, Event, Options};
use amt_redirection::sol::Controls;
use thiserror::Error as ThisError;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// Bytes that wait in the stream, each way.
const STREAM: usize = 16 << 10;
/// Most output of the host that is kept for a slow reader.
const BACKLOG: usize = 256 << 10;
/// How long the last bytes and the end of the connection may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where a session is.
#[derive(Debug, Clone)]
pub enum State {
    /// Firmware has not agreed yet.
    Starting,
    /// Bytes flow.
    Running,
    /// Over.
    Ended(EndReason),
}

/// Why a session ended.
#[derive(Debug, Clone, ThisError)]
pub enum EndReason {
    /// As asked, or because the terminal was dropped.
    #[error("ended as asked")]
    Asked,
    /// Firmware ended it in order.
    #[error("the firmware ended the session")]
    Closed,
    /// The connection was closed without a word.
    #[error("the connection was closed")]
    HungUp,
    /// The network failed.
    #[error("the connection broke")]
    Io(#[source] Arc<io::Error>),
    /// Firmware broke the protocol, refused, or fell silent.
    #[error("the session failed")]
    Protocol(#[source] Error),
    /// A bug. Other sessions are not affected.
    #[error("the session task panicked")]
    Panicked,
}

/// A session that runs. Dropped, it is asked to end.
#[derive(Debug)]
pub struct Sol {
    /// Read: what the host prints. Write: what is typed. Its end is the end of the session, both ways.
    pub terminal: DuplexStream,
    /// The rest.
    pub control: Control,
}

/// Watches and ends a session.
#[derive(Debug)]
pub struct Control {
    state: watch::Receiver<State>,
    controls: watch::Receiver<Option<Controls>>,
    dropped: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
}

impl Control {
    /// Where the session is.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Lines of the serial port and power state of the host, once firmware has told.
    pub fn controls(&self) -> watch::Receiver<Option<Controls>> {
        self.controls.clone()
    }

    /// Bytes of the host that were thrown away because nobody read.
    pub fn dropped(&self) -> watch::Receiver<u64> {
        self.dropped.clone()
    }

    /// Asks the session to end in order.
    pub fn end(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the session has ended.
    pub async fn ended(&self) -> EndReason {
        let mut state = self.state.clone();
        let ended = state.wait_for(|state| matches!(state, State::Ended(_)));
        match ended.await.as_deref() {
            Ok(State::Ended(reason)) => reason.clone(),
            _ => EndReason::Panicked,
        }
    }
}

/// Starts a session on a connection that [`super::connect::open`] has opened; `rest` are the bytes that it left over.
pub fn spawn<S>(stream: S, rest: Vec<u8>, options: Options) -> Sol
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (terminal, inner) = duplex(STREAM);
    let (state_sender, state) = watch::channel(State::Starting);
    let (controls_sender, controls) = watch::channel(None);
    let (dropped_sender, dropped) = watch::channel(0);
    let (stop, stopped) = watch::channel(false);
    let shell = Shell {
        state: state_sender.clone(),
        controls: controls_sender,
        dropped: dropped_sender,
        stop: stopped,
    };
    let task = tokio::spawn(shell.run(stream, inner, rest, options));
    tokio::spawn(async move {
        let reason = task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "SOL session task");
            EndReason::Panicked
        });
        state_sender.send_replace(State::Ended(reason));
    });
    Sol {
        terminal,
        control: Control {
            state,
            controls,
            dropped,
            stop,
        },
    }
}

struct Shell {
    state: watch::Sender<State>,
    controls: watch::Sender<Option<Controls>>,
    dropped: watch::Sender<u64>,
    stop: watch::Receiver<bool>,
}

/// Bytes on their way, and how many of them are through.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    sent: usize,
}

impl Pending {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    fn through(&mut self, length: usize) {
        self.sent += length;
        if self.is_empty() {
            self.bytes.clear();
            self.sent = 0;
        }
    }

    /// Appends, and says how much of the oldest had to go for it.
    fn push(&mut self, bytes: &[u8]) -> usize {
        self.bytes.drain(..self.sent);
        self.sent = 0;
        self.bytes.extend_from_slice(bytes);
        let excess = self.bytes.len().saturating_sub(BACKLOG);
        self.bytes.drain(..excess);
        excess
    }
}

impl Shell {
    async fn run<S: AsyncRead + AsyncWrite>(
        mut self,
        stream: S,
        terminal: DuplexStream,
        rest: Vec<u8>,
        options: Options,
    ) -> EndReason {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut terminal = tokio::io::split(terminal);
        let now = Instant::now().into_std();
        let mut console = Console::new(options, now);
        let reason = match console.handle_input(now, &rest) {
            Ok(()) => {
                self.relay(&mut reader, &mut writer, &mut terminal, &mut console)
                    .await
            }
            Err(error) => EndReason::Protocol(error),
        };
        let last = async {
            while let Some(bytes) = console.poll_transmit() {
                writer.write_all(&bytes).await?;
            }
            writer.shutdown().await
        };
        // The session is over either way.
        let _ = timeout(FAREWELL, last).await;
        reason
    }

    async fn relay<S: AsyncRead + AsyncWrite>(
        &mut self,
        reader: &mut ReadHalf<S>,
        writer: &mut WriteHalf<S>,
        (typed, printed): &mut (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>),
        console: &mut Console,
    ) -> EndReason {
        let mut input = vec![0; 4096];
        let mut keys = vec![0; 1000];
        let mut to_firmware = Pending::default();
        let mut to_terminal = Pending::default();
        let mut asked = false;
        let mut running = false;
        loop {
            while let Some(event) = console.poll_event() {
                match event {
                    Event::Started => {
                        running = true;
                        self.state.send_replace(State::Running);
                    }
                    Event::Data(bytes) => {
                        let lost = to_terminal.push(&bytes);
                        if lost > 0 {
                            self.dropped.send_modify(|dropped| *dropped += lost as u64);
                        }
                    }
                    Event::Controls(controls) => {
                        self.controls.send_replace(Some(controls));
                    }
                    // Seen below, once the last bytes are out.
                    Event::Closed => {}
                }
            }
            if console.is_over() {
                if !to_firmware.is_empty() {
                    // The peer takes no more; the end of the session cannot be said in the middle of a message.
                    while console.poll_transmit().is_some() {}
                }
                // The host's last words; a terminal that does not take them is not waited for.
                let words = printed.write_all(to_terminal.rest());
                let _ = timeout(FAREWELL, words).await;
                return if asked {
                    EndReason::Asked
                } else {
                    EndReason::Closed
                };
            }
            if to_firmware.is_empty()
                && let Some(bytes) = console.poll_transmit()
            {
                to_firmware = Pending { bytes, sent: 0 };
            }
            if !asked && *self.stop.borrow() {
                asked = true;
                console.close(Instant::now().into_std());
                continue;
            }
            let due = console.poll_timeout().map(Instant::from_std);
            let due = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            let result = tokio::select! {
                length = reader.read(&mut input) => match length {
                    Ok(0) if asked => return EndReason::Asked,
                    Ok(0) => return EndReason::HungUp,
                    Ok(length) => console.handle_input(Instant::now().into_std(), &input[..length]),
                    Err(error) => return EndReason::Io(Arc::new(error)),
                },
                length = writer.write(to_firmware.rest()), if !to_firmware.is_empty() => match length {
                    Ok(0) => return EndReason::HungUp,
                    Ok(length) => {
                        to_firmware.through(length);
                        Ok(())
                    }
                    Err(error) => return EndReason::Io(Arc::new(error)),
                },
                length = printed.write(to_terminal.rest()), if !to_terminal.is_empty() => {
                    match length {
                        Ok(length) if length > 0 => to_terminal.through(length),
                        // Nobody reads any more.
                        _ => {
                            to_terminal = Pending::default();
                            asked = true;
                            console.close(Instant::now().into_std());
                        }
                    }
                    Ok(())
                }
                // One piece at a time: more is taken only when this one is with the kernel.
                length = typed.read(&mut keys), if running && !asked && to_firmware.is_empty() => {
                    match length {
                        Ok(length) if length > 0 => {
                            console.write(Instant::now().into_std(), &keys[..length]);
                        }
                        // The terminal was dropped.
                        _ => {
                            asked = true;
                            console.close(Instant::now().into_std());
                        }
                    }
                    Ok(())
                }
                changed = self.stop.changed(), if !asked => {
                    if changed.is_err() {
                        asked = true;
                        console.close(Instant::now().into_std());
                    }
                    Ok(())
                }
                () = sleep_until(due) => console.handle_timeout(Instant::now().into_std()),
            };
            if let Err(error) = result {
                return EndReason::Protocol(error);
            }
        }
    }
}
