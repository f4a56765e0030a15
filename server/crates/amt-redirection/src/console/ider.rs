//! The console's side of IDE-R: serves two drives to a host that firmware speaks for (reference, section 3).
//!
//! Commands come one at a time as [`Event::Command`]; the next only after the former was completed with one of
//! [`Console::finish`], [`Console::check`] or a last [`Console::data`]. Each completes a command exactly once,
//! and a [`CommandId`] from before a reset completes nothing.
//!
//! Timers (all optional ones are off when their interval is 0):
//!
//! | Timer | Length | Ends in |
//! |---|---|---|
//! | reply to OpenSession | [`Options::reply_timeout`] | [`Error::Timeout`] |
//! | reply to SetRegisterState | the same; none with [`StartMode::OnReboot`] | [`Error::Timeout`] |
//! | reply to Close | 2 s | [`Event::Closed`] |
//! | own heartbeat | nothing sent for a third of rx_timeout | a 0x4B |
//! | watchdog | nothing heard for three heartbeats | [`Error::Silence`] |
//! | rest of a 16-byte CDB | 50 ms | a 12-byte CDB |

mod answers;
mod options;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

pub use crate::ider::{DriveSelect, StartMode, SuccessMask};
pub use answers::FetchError;
pub use options::{Command, CommandId, Error, Event, Options, Step};

use crate::ider::{
    CommandForm, CommandWritten, ConsoleMessage, FeatureReply, FeatureRequest, Frame, Header,
    OpenReply, OpenSession, command_form, id,
};
use crate::ider::{FirmwareMessage, HEADER_LENGTH};
use crate::session;
use crate::wire::{Decoded, Inbox};
use answers::Running;

/// Length of a 0x50 with a 12-byte CDB.
const COMMAND_LENGTH: usize = 28;
/// How long the last four bytes of a 16-byte CDB may take.
const CDB_PATIENCE: Duration = Duration::from_millis(50);
/// How long the reply to Close may take.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// A heartbeat is answered at most this often, lest two ends that answer each other go on for ever.
const HEARTBEAT_ANSWER_GAP: Duration = Duration::from_millis(100);
/// Smallest read buffer that is believed; each frame costs 34 bytes.
const MIN_READ_BUFFER: u16 = 512;
/// Most messages and events that wait to be polled. Only a flood of pings or resets gets there.
const MAX_PENDING: usize = 256;

/// One IDE-R session, from OpenSession on.
#[derive(Debug)]
pub struct Console {
    options: Options,
    state: State,
    inbox: Inbox,
    /// Sequence number of the next message from firmware.
    expected: u32,
    transmit: VecDeque<Outgoing>,
    /// Sequence number of our next message.
    sequence: u32,
    spare: Vec<u8>,
    events: VecDeque<Event>,
    queue: VecDeque<CommandWritten>,
    running: Option<Running>,
    generation: u32,
    commands: u64,
    cdb_deadline: Option<Instant>,
    attach_deadline: Option<Instant>,
    attached: bool,
    last_heard: Instant,
    last_answer: Option<Instant>,
    /// Checked twice per third of rx_timeout: whether anything was sent since.
    keep_alive: Option<Instant>,
    sent_since_check: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Opening { deadline: Instant },
    Open { read_buffer: u16, write_buffer: u16 },
    Closing { deadline: Instant },
    Over,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    /// Sequence number of its first message.
    first: u32,
    /// Belongs to a command, and is void once the host was reset.
    of_command: bool,
}

impl Console {
    /// Begins on a connection that [`super::Opening`] has authenticated.
    pub fn new(options: Options, now: Instant) -> Self {
        let mut console = Self {
            state: State::Opening {
                deadline: now + options.reply_timeout,
            },
            inbox: Inbox::default(),
            expected: 0,
            transmit: VecDeque::new(),
            sequence: 0,
            spare: Vec::new(),
            events: VecDeque::new(),
            queue: VecDeque::new(),
            running: None,
            generation: 0,
            commands: 0,
            cdb_deadline: None,
            attach_deadline: None,
            attached: false,
            last_heard: now,
            last_answer: None,
            keep_alive: None,
            sent_since_check: false,
            options,
        };
        console.keep_alive = console.keep_alive_step().map(|step| now + step);
        console.send(ConsoleMessage::OpenSession(OpenSession {
            rx_timeout: options::wire_millis(console.options.rx_timeout),
            tx_timeout: 0,
            heartbeat: options::wire_millis(console.options.heartbeat),
            version: 1,
        }));
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
        let result = self.decode(now, &mut inbox, true);
        self.inbox = inbox;
        self.ended_by(result)
    }

    /// To be called when [`Console::poll_timeout`] says so; earlier calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        let result = self.expire(now);
        self.ended_by(result)
    }

    /// When [`Console::handle_timeout`] is due; none once the session is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match self.state {
            State::Opening { deadline } | State::Closing { deadline } => Some(deadline),
            State::Open { .. } => self.attach_deadline,
            State::Over => return None,
        };
        [phase, self.keep_alive, self.watchdog(), self.cdb_deadline]
            .into_iter()
            .flatten()
            .min()
    }

    /// Bytes to send, in order. A reply with data is one buffer, to be sent with one write.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.pop_front().map(|outgoing| outgoing.bytes)
    }

    /// Gives back a buffer of [`Console::poll_transmit`] after it was sent, for the next reply.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() > self.spare.capacity() {
            self.spare = buffer;
        }
    }

    /// What has happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Asks firmware to attach the drives, again or in another mode: after [`Event::AttachRefused`], or to have
    /// the drives back after the firmware was reset. Without effect before [`Event::Opened`].
    pub fn attach(&mut self, mode: StartMode, now: Instant) {
        if !matches!(self.state, State::Open { .. }) {
            return;
        }
        self.options.start_mode = mode;
        self.attached = false;
        // Nobody has seen when the answer to OnReboot comes: now, or with the reset.
        self.attach_deadline = match mode {
            StartMode::OnReboot => None,
            StartMode::Graceful | StartMode::Now => Some(now + self.options.reply_timeout),
        };
        self.send_attach();
    }

    /// Ends the session in order: Close, then [`Event::Closed`] when firmware has agreed or 2 s have passed.
    /// Commands that are not completed stay without an answer.
    pub fn close(&mut self, now: Instant) {
        match self.state {
            State::Opening { .. } | State::Open { .. } => {
                self.abandon_commands();
                self.send(ConsoleMessage::Close);
                self.state = State::Closing {
                    deadline: now + CLOSE_PATIENCE,
                };
            }
            State::Closing { .. } | State::Over => {}
        }
    }

    /// Whether the session has ended, by whichever side or error.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn decode(&mut self, now: Instant, inbox: &mut Inbox, patient: bool) -> Result<(), Error> {
        self.cdb_deadline = None;
        while !self.is_over() {
            let bytes = inbox.unread();
            let mut form = CommandForm::Twelve;
            if bytes.first() == Some(&id::COMMAND_WRITTEN) {
                match command_form(bytes, self.expected.wrapping_add(1)) {
                    Decoded::Message { message, .. } => form = message,
                    Decoded::NeedMore if bytes.len() < COMMAND_LENGTH => return Ok(()),
                    Decoded::NeedMore if patient => {
                        self.cdb_deadline = Some(now + CDB_PATIENCE);
                        return Ok(());
                    }
                    Decoded::NeedMore => {}
                }
            }
            let Decoded::Message { message, length } = FirmwareMessage::decode(bytes, form)? else {
                return Ok(());
            };
            self.number(message.header)?;
            self.receive(now, message.message)?;
            inbox.consume(length);
            if self.transmit.len() > MAX_PENDING || self.events.len() > MAX_PENDING {
                return Err(Error::Flood);
            }
        }
        Ok(())
    }

    fn number(&mut self, header: Header) -> Result<(), Error> {
        if header.sequence != self.expected && self.options.strict_sequence {
            return Err(Error::Sequence {
                expected: self.expected,
                found: header.sequence,
            });
        }
        self.expected = header.sequence.wrapping_add(1);
        Ok(())
    }

    fn receive(&mut self, now: Instant, message: FirmwareMessage<'_>) -> Result<(), Error> {
        match message {
            FirmwareMessage::OpenReply(reply) => self.opened(now, &reply),
            FirmwareMessage::CloseReply => {
                self.closed();
                Ok(())
            }
            FirmwareMessage::Ping => {
                self.send(ConsoleMessage::Pong);
                Ok(())
            }
            FirmwareMessage::Pong => Ok(()),
            FirmwareMessage::Heartbeat => {
                self.answer_heartbeat(now);
                Ok(())
            }
            FirmwareMessage::ErrorOccurred { code } => {
                self.events.push_back(Event::FirmwareError(code));
                Ok(())
            }
            // While the session closes, what firmware had sent before it knew is of no interest.
            _ if matches!(self.state, State::Closing { .. }) => Ok(()),
            _ if matches!(self.state, State::Opening { .. }) => Err(Error::BeforeOpen),
            FirmwareMessage::ResetOccurred { mask } => {
                self.reset(mask);
                Ok(())
            }
            FirmwareMessage::FeaturesReply(reply) => {
                self.features(reply);
                Ok(())
            }
            FirmwareMessage::Command(command) => self.command(command),
            FirmwareMessage::DataFromHost(data) => self.written(data.bytes()),
        }
    }

    fn opened(&mut self, now: Instant, reply: &OpenReply<'_>) -> Result<(), Error> {
        match self.state {
            State::Opening { .. } => {}
            State::Closing { .. } | State::Over => return Ok(()),
            State::Open { .. } => return Err(Error::OpenedTwice),
        }
        if reply.status != 0 {
            return Err(Error::OpenRefused(reply.status));
        }
        if reply.protocol != 0 {
            return Err(Error::Protocol(reply.protocol));
        }
        if reply.read_buffer < MIN_READ_BUFFER {
            return Err(Error::ReadBuffer(reply.read_buffer));
        }
        self.state = State::Open {
            read_buffer: reply.read_buffer,
            write_buffer: reply.write_buffer,
        };
        self.events.push_back(Event::Opened {
            version: reply.version,
            firmware_version: reply.firmware,
            read_buffer: reply.read_buffer,
            write_buffer: reply.write_buffer,
            oem: reply.oem,
        });
        self.attach(self.options.start_mode, now);
        Ok(())
    }

    fn features(&mut self, reply: FeatureReply) {
        match reply {
            // Other consoles ask again when firmware says, unasked, that it has the registers after all.
            FeatureReply::SupportedFeatures(features) if features & 1 != 0 && !self.attached => {
                self.send_attach()
            }
            FeatureReply::SupportedFeatures(_) | FeatureReply::RegisterState(_) => {}
            FeatureReply::SetRegisterState(1) => {
                self.attach_deadline = None;
                if !mem::replace(&mut self.attached, true) {
                    self.events.push_back(Event::Attached);
                }
            }
            FeatureReply::SetRegisterState(value) => {
                self.attach_deadline = None;
                self.attached = false;
                self.events.push_back(Event::AttachRefused(value));
            }
        }
    }

    fn send_attach(&mut self) {
        let value = self.options.start_mode.enable();
        self.send(ConsoleMessage::Features(FeatureRequest::SetRegisterState(
            value,
        )));
    }

    fn reset(&mut self, mask: u8) {
        self.abandon_commands();
        self.send(ConsoleMessage::ResetResponse);
        self.events.push_back(Event::Reset { mask });
    }

    /// Forgets the running command and all that wait, with whatever of their answers was not yet polled.
    fn abandon_commands(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.queue.clear();
        self.running = None;
        self.events
            .retain(|event| !matches!(event, Event::Command(_) | Event::Written { .. }));
        // From the back only: the numbers of later messages would no longer follow on.
        while let Some(last) = self.transmit.pop_back_if(|outgoing| outgoing.of_command) {
            self.sequence = last.first;
        }
    }

    fn answer_heartbeat(&mut self, now: Instant) {
        let due = self
            .last_answer
            .is_none_or(|last| now.saturating_duration_since(last) >= HEARTBEAT_ANSWER_GAP);
        if due && !matches!(self.state, State::Closing { .. }) {
            self.last_answer = Some(now);
            self.send(ConsoleMessage::Heartbeat);
        }
    }

    fn expire(&mut self, now: Instant) -> Result<(), Error> {
        match self.state {
            State::Over => return Ok(()),
            State::Opening { deadline } if deadline <= now => {
                return Err(Error::Timeout(Step::Open));
            }
            State::Open { .. } if self.attach_deadline.is_some_and(|deadline| deadline <= now) => {
                return Err(Error::Timeout(Step::Attach));
            }
            State::Closing { deadline } if deadline <= now => {
                self.closed();
                return Ok(());
            }
            _ => {}
        }
        if self.cdb_deadline.is_some_and(|deadline| deadline <= now) {
            let mut inbox = mem::take(&mut self.inbox);
            let result = self.decode(now, &mut inbox, false);
            self.inbox = inbox;
            result?;
        }
        if self.watchdog().is_some_and(|deadline| deadline <= now) {
            return Err(Error::Silence(
                now.saturating_duration_since(self.last_heard),
            ));
        }
        if self.keep_alive.is_some_and(|at| at <= now) {
            if !mem::take(&mut self.sent_since_check) {
                self.send(ConsoleMessage::Heartbeat);
                self.sent_since_check = false;
            }
            self.keep_alive = self.keep_alive_step().map(|step| now + step);
        }
        Ok(())
    }

    /// Half of what may pass in silence: a check sees only what was sent since the check before.
    fn keep_alive_step(&self) -> Option<Duration> {
        let step = self.options.rx_timeout / 6;
        (!step.is_zero()).then_some(step)
    }

    fn watchdog(&self) -> Option<Instant> {
        let heartbeat = self.options.heartbeat;
        match self.state {
            State::Open { .. } if !heartbeat.is_zero() => {
                self.last_heard.checked_add(heartbeat.checked_mul(3)?)
            }
            _ => None,
        }
    }

    fn closed(&mut self) {
        // A console that has asked for the end also ends the redirection session around it.
        if matches!(self.state, State::Closing { .. }) {
            let mut bytes = Vec::new();
            session::ConsoleMessage::End.encode(&mut bytes);
            self.queue_bytes(bytes, self.sequence, false);
        } else {
            self.transmit.clear();
        }
        self.abandon_commands();
        self.state = State::Over;
        self.events.push_back(Event::Closed);
    }

    fn ended_by(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        if result.is_err() {
            self.state = State::Over;
            self.transmit.clear();
            self.abandon_commands();
        }
        result
    }

    fn send(&mut self, message: ConsoleMessage<'_>) {
        self.send_for(message, false);
    }

    fn send_for(&mut self, message: ConsoleMessage<'_>, of_command: bool) {
        let first = self.next_sequence();
        let mut bytes = Vec::with_capacity(4 * HEADER_LENGTH);
        Frame {
            header: Header {
                attributes: answers::attributes_of(&message),
                sequence: first,
            },
            message,
        }
        .encode(&mut bytes);
        self.queue_bytes(bytes, first, of_command);
    }

    fn queue_bytes(&mut self, bytes: Vec<u8>, first: u32, of_command: bool) {
        self.sent_since_check = true;
        self.transmit.push_back(Outgoing {
            bytes,
            first,
            of_command,
        });
    }

    fn next_sequence(&mut self) -> u32 {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        sequence
    }
}
