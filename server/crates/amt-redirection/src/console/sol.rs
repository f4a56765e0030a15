//! The console's side of serial over LAN: bytes of the host's serial port, both ways (reference, section 6).
//!
//! Timers: the reply to StartSOL (10 s), the reply to EndSOL (2 s), an own heartbeat when nothing was sent for a
//! fifth of rx_timeout, and a watchdog of three heartbeats of the firmware. The last two are off when their
//! interval is 0.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::session;
use crate::sol::{ConsoleMessage, Controls, FirmwareMessage, Frame, Settings};
use crate::wire::{DecodeError, Decoded, Inbox, Payload};

const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// A heartbeat is answered at most this often, lest two ends that answer each other go on for ever.
const HEARTBEAT_ANSWER_GAP: Duration = Duration::from_millis(100);
/// Most bytes in one message to the host: pasted text in larger pieces has overrun real firmware.
const MAX_PIECE: usize = 1000;
/// Most messages and events that wait to be polled.
const MAX_PENDING: usize = 1024;

/// How a session is to be held.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Sent in StartSOL.
    pub settings: Settings,
}

impl Default for Options {
    /// The settings of the widespread consoles, and a heartbeat of 5 s, as amtterm asks for.
    fn default() -> Self {
        Self {
            settings: Settings {
                max_tx_buffer: 10_000,
                tx_timeout: 100,
                tx_overflow_timeout: 0,
                rx_timeout: 10_000,
                rx_flush_timeout: 100,
                heartbeat: 5000,
            },
        }
    }
}

/// What happens in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Firmware agreed to the session.
    Started,
    /// What the host has written.
    Data(Vec<u8>),
    /// State of the serial port and of the host.
    Controls(Controls),
    /// The session has ended in order. The connection is to be closed.
    Closed,
}

/// Why a session ended out of order.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Bytes that are no message.
    #[error("the firmware sent something that is not SOL")]
    Decode(#[from] DecodeError),
    /// The session was not granted.
    #[error("the firmware refused the SOL session with status 0x{0:02x}")]
    Refused(u8),
    /// Something other than the reply to StartSOL came first, or the reply came twice.
    #[error("a message of the firmware came out of turn")]
    OutOfTurn,
    /// The reply to StartSOL did not come in time.
    #[error("the firmware did not reply to StartSOL in time")]
    Timeout,
    /// Nothing was heard for three heartbeats.
    #[error("the firmware was silent for {0:?}")]
    Silence(Duration),
    /// Messages came faster than events and answers were taken.
    #[error("the firmware sent too many messages at once")]
    Flood,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Starting { deadline: Instant },
    Running,
    Ending { deadline: Instant },
    Over,
}

/// One SOL session, from StartSOL on.
#[derive(Debug)]
pub struct Console {
    settings: Settings,
    state: State,
    inbox: Inbox,
    transmit: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
    sequence: u32,
    last_heard: Instant,
    last_sent: Instant,
    last_answer: Option<Instant>,
}

impl Console {
    /// Begins on a connection that [`super::Opening`] has authenticated.
    pub fn new(options: Options, now: Instant) -> Self {
        let mut console = Self {
            settings: options.settings,
            state: State::Starting {
                deadline: now + REPLY_TIMEOUT,
            },
            inbox: Inbox::default(),
            transmit: VecDeque::new(),
            events: VecDeque::new(),
            sequence: 0,
            last_heard: now,
            last_sent: now,
            last_answer: None,
        };
        console.transmit(now, ConsoleMessage::Start(options.settings));
        console
    }

    /// Takes bytes from the connection. An error ends the session: nothing more will come out of it.
    pub fn handle_input(&mut self, now: Instant, input: &[u8]) -> Result<(), Error> {
        if self.is_over() {
            return Ok(());
        }
        self.last_heard = now;
        let mut inbox = mem::take(&mut self.inbox);
        inbox.push(input);
        let result = self.decode(now, &mut inbox);
        self.inbox = inbox;
        self.ended_by(result)
    }

    /// To be called when [`Console::poll_timeout`] says so; earlier calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        let result = match self.state {
            State::Over => Ok(()),
            State::Starting { deadline } if deadline <= now => Err(Error::Timeout),
            State::Ending { deadline } if deadline <= now => {
                self.closed(now);
                Ok(())
            }
            State::Starting { .. } | State::Ending { .. } => Ok(()),
            State::Running => {
                if self.watchdog().is_some_and(|deadline| deadline <= now) {
                    Err(Error::Silence(
                        now.saturating_duration_since(self.last_heard),
                    ))
                } else {
                    if self.keep_alive().is_some_and(|at| at <= now) {
                        self.transmit(now, ConsoleMessage::Heartbeat);
                    }
                    Ok(())
                }
            }
        };
        self.ended_by(result)
    }

    /// When [`Console::handle_timeout`] is due; none once the session is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Starting { deadline } | State::Ending { deadline } => Some(deadline),
            State::Running => [self.keep_alive(), self.watchdog()]
                .into_iter()
                .flatten()
                .min(),
            State::Over => None,
        }
    }

    /// Bytes to send, in order.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.pop_front()
    }

    /// What has happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Types `text` on the host's serial port. Without effect before [`Event::Started`]. All of it is queued: the
    /// caller offers more only after it was sent.
    pub fn write(&mut self, now: Instant, text: &[u8]) {
        if !matches!(self.state, State::Running) {
            return;
        }
        let piece = usize::from(self.settings.max_tx_buffer).clamp(1, MAX_PIECE);
        for bytes in text.chunks(piece) {
            self.transmit(now, ConsoleMessage::Data(Payload::split(bytes).0));
        }
    }

    /// Ends the session in order; [`Event::Closed`] when firmware has agreed or 2 s have passed.
    pub fn close(&mut self, now: Instant) {
        if matches!(self.state, State::Starting { .. } | State::Running) {
            self.transmit(now, ConsoleMessage::End);
            self.state = State::Ending {
                deadline: now + CLOSE_PATIENCE,
            };
        }
    }

    /// Whether the session has ended, by whichever side or error.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn decode(&mut self, now: Instant, inbox: &mut Inbox) -> Result<(), Error> {
        while !self.is_over() {
            let Decoded::Message { message, length } = FirmwareMessage::decode(inbox.unread())?
            else {
                return Ok(());
            };
            self.receive(now, message.message)?;
            inbox.consume(length);
            if self.transmit.len() > MAX_PENDING || self.events.len() > MAX_PENDING {
                return Err(Error::Flood);
            }
        }
        Ok(())
    }

    fn receive(&mut self, now: Instant, message: FirmwareMessage<'_>) -> Result<(), Error> {
        match (self.state, message) {
            (State::Starting { .. }, FirmwareMessage::StartReply(reply)) if reply.status != 0 => {
                return Err(Error::Refused(reply.status));
            }
            (State::Starting { .. }, FirmwareMessage::StartReply(_)) => {
                self.state = State::Running;
                self.events.push_back(Event::Started);
            }
            (State::Running, FirmwareMessage::StartReply(_)) => return Err(Error::OutOfTurn),
            (_, FirmwareMessage::EndReply) => self.closed(now),
            (_, FirmwareMessage::Ping) => self.transmit(now, ConsoleMessage::Pong),
            (_, FirmwareMessage::Pong) => {}
            (State::Running, FirmwareMessage::Heartbeat) => self.answer_heartbeat(now),
            (_, FirmwareMessage::Heartbeat) => {}
            (State::Starting { .. }, FirmwareMessage::Data(_)) => return Err(Error::OutOfTurn),
            // The last words of the host are still worth reading while the session ends.
            (_, FirmwareMessage::Data(data)) => {
                self.events.push_back(Event::Data(data.bytes().to_vec()))
            }
            (_, FirmwareMessage::Controls(controls)) => {
                self.events.push_back(Event::Controls(controls))
            }
            (State::Ending { .. } | State::Over, FirmwareMessage::StartReply(_)) => {}
        }
        Ok(())
    }

    fn answer_heartbeat(&mut self, now: Instant) {
        let due = self
            .last_answer
            .is_none_or(|last| now.saturating_duration_since(last) >= HEARTBEAT_ANSWER_GAP);
        if due {
            self.last_answer = Some(now);
            self.transmit(now, ConsoleMessage::Heartbeat);
        }
    }

    fn keep_alive(&self) -> Option<Instant> {
        let interval = Duration::from_millis(self.settings.rx_timeout.into()) / 5;
        (!interval.is_zero()).then(|| self.last_sent + interval)
    }

    fn watchdog(&self) -> Option<Instant> {
        let interval = Duration::from_millis(self.settings.heartbeat.into()) * 3;
        (!interval.is_zero()).then(|| self.last_heard + interval)
    }

    fn closed(&mut self, now: Instant) {
        // A console that has asked for the end also ends the redirection session around it.
        if matches!(self.state, State::Ending { .. }) {
            let mut bytes = Vec::new();
            session::ConsoleMessage::End.encode(&mut bytes);
            self.transmit.push_back(bytes);
            self.last_sent = now;
        } else {
            self.transmit.clear();
        }
        self.state = State::Over;
        self.events.push_back(Event::Closed);
    }

    fn ended_by(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        if result.is_err() {
            self.state = State::Over;
            self.transmit.clear();
        }
        result
    }

    fn transmit(&mut self, now: Instant, message: ConsoleMessage<'_>) {
        let mut bytes = Vec::new();
        Frame {
            sequence: self.sequence,
            message,
        }
        .encode(&mut bytes);
        self.sequence = self.sequence.wrapping_add(1);
        self.last_sent = now;
        self.transmit.push_back(bytes);
    }
}

#[cfg(test)]
mod tests;
