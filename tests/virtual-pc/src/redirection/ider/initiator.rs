//! The firmware's side of IDE-R without I/O: registers, commands one at a time, heartbeats, resets (reference,
//! sections 3.3 to 3.11).
//!
//! What real firmware does with a console's mistakes is mostly unknown. Here a mistake that would have overrun a
//! buffer, or left the command channel in an unknown state, closes the session; the others are only noted.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use amt_redirection::ider::{
    CommandForm, CommandWritten, ConsoleMessage, DriveSelect, FeatureReply, FeatureRequest,
    FirmwareMessage, Frame, Header, OpenReply, OpenSession, StartMode,
};
use amt_redirection::session::OEM_INTEL;
use amt_redirection::wire::{Decoded, Field, Inbox, Payload};
use atapi::Sense;
use atapi::cdb::Cdb;

use super::super::knobs::{AttachAnswer, Silence};
use super::counters::{IderCounters, Violation, hex_of};

/// How long a console may take to send OpenSession.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);
/// What amtider's malformed OpenSession, which reads as zeros, is taken to mean.
const DEFAULT_RX_TIMEOUT: u16 = 10_000;
/// Bytes beyond what a command allows that are noted and dropped; with more, the session is closed.
const EXCESS: usize = 64 << 10;

/// What the machine is to be like.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) firmware: (u8, u8),
    pub(super) read_buffer: u16,
    pub(super) write_buffer: u16,
    pub(super) silence: Silence,
    pub(super) strict_sequence: bool,
    pub(super) attach: AttachAnswer,
    pub(super) command_timeout: Duration,
}

/// A command for a drive.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) drive: DriveSelect,
    pub(super) cdb: Cdb,
    pub(super) dma: bool,
    /// Most bytes that the answer may have.
    pub(super) limit: usize,
    /// What the host writes with it.
    pub(super) out: Vec<u8>,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) data: Vec<u8>,
    pub(super) outcome: Result<(), Sense>,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// The drives appeared, or vanished.
    Attached(bool),
    /// The running command is complete.
    Answered(Answer),
    /// The running command was lost to a reset.
    Aborted {
        /// Because the console did not answer it.
        unanswered: bool,
    },
    /// The session is over.
    Over(&'static str),
}

#[derive(Debug)]
struct Running {
    command: Command,
    data: Vec<u8>,
    sent: usize,
    deadline: Instant,
    overlong: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting { deadline: Instant },
    Open { rx_timeout: u16, heartbeat: u16 },
    Over,
}

/// One IDE-R session.
#[derive(Debug)]
pub(super) struct Initiator {
    settings: Settings,
    state: State,
    inbox: Inbox,
    /// Number that the console's next message should have.
    expected: u32,
    sequence: u32,
    transmit: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
    counters: IderCounters,
    running: Option<Running>,
    attached: bool,
    attach_at_reset: bool,
    reset_pending: bool,
    padding_may_follow: bool,
    last_sign_of_life: Instant,
    heartbeat_at: Option<Instant>,
}

impl Initiator {
    pub(super) fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            state: State::Waiting {
                deadline: now + OPEN_PATIENCE,
            },
            inbox: Inbox::default(),
            expected: 0,
            sequence: 0,
            transmit: VecDeque::new(),
            events: VecDeque::new(),
            counters: IderCounters::default(),
            running: None,
            attached: false,
            attach_at_reset: false,
            reset_pending: false,
            padding_may_follow: false,
            last_sign_of_life: now,
            heartbeat_at: None,
        }
    }

    /// What was counted since the last call.
    pub(super) fn take_counters(&mut self) -> IderCounters {
        mem::take(&mut self.counters)
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.pop_front()
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Over => None,
            State::Waiting { deadline } => Some(deadline),
            State::Open { rx_timeout, .. } => {
                let command = self.running.as_ref().map(|running| running.deadline);
                let timers = [self.silence_ends(rx_timeout), self.heartbeat_at, command];
                timers.into_iter().flatten().min()
            }
        }
    }

    /// Whether a command may be sent now.
    pub(super) fn is_free(&self) -> bool {
        self.attached && self.running.is_none() && !self.reset_pending
    }

    /// Sends a command; only when [`Self::is_free`].
    pub(super) fn issue(&mut self, now: Instant, command: Command) {
        if !self.is_free() {
            self.events.push_back(Event::Aborted { unanswered: false });
            return;
        }
        let mut cdb = [0; 16];
        cdb[..command.cdb.len()].copy_from_slice(&command.cdb);
        let form = CommandForm::Twelve;
        let written = CommandWritten::packet(command.drive, command.dma, cdb, form);
        self.send(FirmwareMessage::Command(written));
        self.counters.commands += 1;
        self.counters.bytes_to_console += command.out.len() as u64;
        self.running = Some(Running {
            command,
            data: Vec::new(),
            sent: 0,
            deadline: now + self.settings.command_timeout,
            overlong: false,
        });
    }

    /// The host resets the bus: the running command is lost, and drives that wait for a reset appear.
    pub(super) fn reset(&mut self) {
        self.reset_because(false);
    }

    fn reset_because(&mut self, unanswered: bool) {
        if !matches!(self.state, State::Open { .. }) {
            return;
        }
        if self.running.take().is_some() {
            self.events.push_back(Event::Aborted { unanswered });
        }
        self.counters.resets += 1;
        self.reset_pending = true;
        self.send(FirmwareMessage::ResetOccurred { mask: 1 });
        if mem::take(&mut self.attach_at_reset) {
            self.set_attached(true);
        }
    }

    /// The firmware ends the session.
    pub(super) fn terminate(&mut self, reason: &'static str) {
        if matches!(self.state, State::Open { .. }) {
            self.send(FirmwareMessage::CloseReply);
        }
        self.end(reason);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Over => {}
            State::Waiting { deadline } => {
                if deadline <= now {
                    self.end("the console did not send OpenSession");
                }
            }
            State::Open {
                rx_timeout,
                heartbeat,
            } => {
                if self.silence_ends(rx_timeout).is_some_and(|at| at <= now) {
                    self.terminate("the console was silent for longer than its rx_timeout");
                    return;
                }
                if self.heartbeat_at.is_some_and(|at| at <= now) {
                    self.send(FirmwareMessage::Heartbeat);
                    self.heartbeat_at = every(heartbeat).map(|every| now + every);
                }
                let overdue = self
                    .running
                    .as_ref()
                    .is_some_and(|running| running.deadline <= now);
                if overdue {
                    self.violation("an answer to each command", "none in time");
                    self.reset_because(true);
                }
            }
        }
    }

    pub(super) fn handle_input(&mut self, now: Instant, input: &[u8]) {
        if self.settings.silence == Silence::AnyMessage {
            self.last_sign_of_life = now;
        }
        let mut inbox = mem::take(&mut self.inbox);
        inbox.push(input);
        while self.state != State::Over {
            match ConsoleMessage::decode(inbox.unread()) {
                Ok(Decoded::NeedMore) => break,
                Ok(Decoded::Message { message, length }) => {
                    self.receive(now, &message);
                    inbox.consume(length);
                }
                Err(error) => {
                    self.violation("an IDE-R message", &error.to_string());
                    self.terminate("the console does not speak IDE-R");
                }
            }
        }
        self.inbox = inbox;
    }

    fn receive(&mut self, now: Instant, frame: &Frame<ConsoleMessage<'_>>) {
        let padding_may_follow = mem::take(&mut self.padding_may_follow);
        if frame.message == ConsoleMessage::Padding {
            if !padding_may_follow {
                self.terminate("the console does not speak IDE-R");
            }
            return;
        }
        if frame.header.sequence != self.expected {
            self.counters.sequence_gaps += 1;
            // amtider's first message has other things where the number should be.
            if self.settings.strict_sequence {
                let (expected, got) = (self.expected, frame.header.sequence);
                self.violation(&format!("message {expected}"), &format!("message {got}"));
                self.terminate("the console numbers its messages wrongly");
                return;
            }
        }
        self.expected = frame.header.sequence.wrapping_add(1);
        match (self.state, frame.message) {
            (State::Waiting { .. }, ConsoleMessage::OpenSession(open)) => self.open(now, open),
            (State::Waiting { .. }, _) => self.end("the console did not send OpenSession first"),
            (_, ConsoleMessage::OpenSession(_)) => self.terminate("the console opened twice"),
            (_, ConsoleMessage::Close) => self.terminate("the console closed it"),
            (_, ConsoleMessage::Ping) => {
                self.counters.pings += 1;
                self.last_sign_of_life = now;
                self.send(FirmwareMessage::Pong);
            }
            (_, ConsoleMessage::Heartbeat) => {
                self.counters.heartbeats += 1;
                self.last_sign_of_life = now;
            }
            (_, ConsoleMessage::Pong | ConsoleMessage::Padding) => {}
            (_, ConsoleMessage::ResetResponse) => {
                if mem::take(&mut self.reset_pending) {
                    self.counters.resets_acknowledged += 1;
                } else {
                    self.violation("no ResetOccurredResponse", "one without a reset");
                }
            }
            (_, ConsoleMessage::Features(request)) => self.features(request),
            (_, ConsoleMessage::CommandEnd(end)) => {
                if !frame.header.attributes.is_last() {
                    self.violation("the completion attribute in 0x51", "none");
                }
                let sense = Sense::new(end.sense.key, end.sense.asc, end.sense.ascq);
                let outcome = if end.is_check() { Err(sense) } else { Ok(()) };
                self.complete("0x51", end.output.drive_select, outcome);
            }
            (_, ConsoleMessage::GetData(get)) => self.give_data(get.length),
            (_, ConsoleMessage::DataToHost { input, data, .. }) => {
                self.take_data(data, input.drive_select, frame.header.attributes.is_last());
            }
        }
    }

    fn open(&mut self, now: Instant, open: OpenSession) {
        let rx_timeout = match open {
            OpenSession {
                rx_timeout: 0,
                version: 0,
                ..
            } => DEFAULT_RX_TIMEOUT,
            other => other.rx_timeout,
        };
        self.counters.sessions += 1;
        self.state = State::Open {
            rx_timeout,
            heartbeat: open.heartbeat,
        };
        self.last_sign_of_life = now;
        self.heartbeat_at = every(open.heartbeat).map(|every| now + every);
        let reply = OpenReply {
            status: 0,
            version: (1, 0),
            firmware: self.settings.firmware,
            read_buffer: self.settings.read_buffer,
            write_buffer: self.settings.write_buffer,
            protocol: 0,
            oem: OEM_INTEL,
            oem_data: Field::EMPTY,
        };
        self.send(FirmwareMessage::OpenReply(reply));
    }

    fn features(&mut self, request: FeatureRequest) {
        let reply = match request {
            FeatureRequest::SupportedFeatures => {
                self.padding_may_follow = true;
                FeatureReply::SupportedFeatures(1)
            }
            FeatureRequest::RegisterState => {
                self.padding_may_follow = true;
                FeatureReply::RegisterState(if self.attached { 0b11 } else { 0b01 })
            }
            FeatureRequest::SetRegisterState(value) => {
                let done = match self.settings.attach {
                    AttachAnswer::Silent => return,
                    AttachAnswer::Refuse => false,
                    AttachAnswer::Accept => self.set_registers(value),
                };
                FeatureReply::SetRegisterState(u32::from(done))
            }
        };
        self.send(FirmwareMessage::FeaturesReply(reply));
    }

    fn set_registers(&mut self, value: u32) -> bool {
        let enable = value & 1 != 0;
        match StartMode::from_value(value) {
            None => false,
            Some(StartMode::OnReboot) => {
                self.attach_at_reset = enable;
                true
            }
            Some(StartMode::Graceful) if self.running.is_some() => false,
            Some(StartMode::Graceful | StartMode::Now) => {
                self.set_attached(enable);
                true
            }
        }
    }

    fn set_attached(&mut self, attached: bool) {
        if self.attached != attached {
            self.attached = attached;
            if !attached && self.running.take().is_some() {
                self.events.push_back(Event::Aborted { unanswered: false });
            }
            self.events.push_back(Event::Attached(attached));
        }
    }

    /// 0x52: a piece of what the host writes.
    fn give_data(&mut self, length: u16) {
        if self.reset_pending {
            return;
        }
        let Some(running) = self.running.as_mut() else {
            self.violation("no GetDataFromHost", "one without a command");
            return;
        };
        let from = running.sent;
        let upto = from + usize::from(length);
        let Some(piece) = running
            .command
            .out
            .get(from..upto)
            .filter(|piece| !piece.is_empty())
        else {
            let left = running.command.out.len() - from;
            let wanted = format!("GetDataFromHost for {length} bytes");
            self.violation(&format!("one for at most {left} bytes"), &wanted);
            self.terminate("the console asked for data that the host does not write");
            return;
        };
        running.sent = upto;
        let piece = piece.to_vec();
        for part in piece.chunks(usize::from(self.settings.write_buffer).max(1)) {
            self.send(FirmwareMessage::DataFromHost(Payload::split(part).0));
        }
    }

    /// 0x54: a piece of what the host reads.
    fn take_data(&mut self, data: Payload<'_>, drive_select: u8, last: bool) {
        if self.reset_pending {
            return;
        }
        let most = usize::from(self.settings.read_buffer);
        if data.len() > most {
            let got = format!("{} bytes", data.len());
            self.violation(&format!("at most {most} bytes in a DataToHost"), &got);
            self.terminate("the console overran the read buffer");
            return;
        }
        if data.is_empty() {
            self.violation("data in a DataToHost", "none");
        } else if data.len() < most && !last {
            let got = format!("{} bytes", data.len());
            self.violation("full pieces but for the last", &got);
        }
        let Some(running) = self.running.as_mut() else {
            self.violation("no DataToHost", "one without a command");
            return;
        };
        running.data.extend_from_slice(data.bytes());
        let (length, limit) = (running.data.len(), running.command.limit);
        if length > limit {
            running.data.truncate(limit.saturating_add(EXCESS));
            if !mem::replace(&mut running.overlong, true) {
                let got = format!("{length} bytes");
                self.violation(&format!("at most {limit} bytes"), &got);
            }
            if length > limit.saturating_add(EXCESS) {
                self.terminate("the console sent far more data than was asked for");
                return;
            }
        }
        if last {
            self.complete("0x54", drive_select, Ok(()));
        }
    }

    fn complete(&mut self, what: &str, drive_select: u8, outcome: Result<(), Sense>) {
        if self.reset_pending {
            return;
        }
        let Some(running) = self.running.as_ref() else {
            self.violation("one answer to each command", &format!("another {what}"));
            return;
        };
        if DriveSelect::from_register(drive_select) != running.command.drive {
            let expected = format!("drive {:02x}", running.command.drive.register());
            self.violation(&expected, &format!("drive {drive_select:02x}"));
        }
        let Some(running) = self.running.take() else {
            return;
        };
        let mut data = running.data;
        data.truncate(running.command.limit);
        self.counters.bytes_from_console += data.len() as u64;
        *self.counters.sizes.entry(data.len()).or_default() += 1;
        self.counters.check_conditions += u64::from(outcome.is_err());
        self.events
            .push_back(Event::Answered(Answer { data, outcome }));
    }

    fn end(&mut self, reason: &'static str) {
        if self.state == State::Over {
            return;
        }
        self.state = State::Over;
        self.running = None;
        self.attached = false;
        self.events.push_back(Event::Over(reason));
    }

    fn violation(&mut self, expected: &str, got: &str) {
        let cdb = self
            .running
            .as_ref()
            .map(|running| hex_of(&running.command.cdb));
        self.counters.violated(Violation {
            cdb: cdb.unwrap_or_default(),
            expected: expected.to_owned(),
            got: got.to_owned(),
        });
    }

    fn silence_ends(&self, rx_timeout: u16) -> Option<Instant> {
        if self.settings.silence == Silence::Allowed {
            return None;
        }
        every(rx_timeout).map(|timeout| self.last_sign_of_life + timeout)
    }

    fn send(&mut self, message: FirmwareMessage<'_>) {
        let mut bytes = Vec::new();
        Frame {
            header: Header::numbered(self.sequence),
            message,
        }
        .encode(&mut bytes);
        self.sequence = self.sequence.wrapping_add(1);
        self.transmit.push_back(bytes);
    }
}

fn every(milliseconds: u16) -> Option<Duration> {
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds.into()))
}
