//! What SOL does with bytes and time, without I/O.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use amt_redirection::sol::{
    ConsoleMessage, Controls, FirmwareMessage, Frame, Settings, StartReply,
};
use amt_redirection::wire::{Decoded, Inbox, Payload};

/// How long a console may take to send StartSOL.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// Output of the host that is kept while the console does not take any.
const MAX_HELD: usize = 64 << 10;

#[derive(Debug)]
enum State {
    Waiting { deadline: Instant },
    Running { settings: Settings },
    Over(&'static str),
}

/// One SOL session.
#[derive(Debug)]
pub(super) struct Line {
    state: State,
    inbox: Inbox,
    transmit: VecDeque<Vec<u8>>,
    typed: VecDeque<Vec<u8>>,
    sequence: u32,
    held: Vec<u8>,
    /// When held output goes out though its buffer is not full.
    send_at: Option<Instant>,
    heartbeat_at: Option<Instant>,
    last_heard: Instant,
    powered: bool,
}

impl Line {
    pub(super) fn new(powered: bool, now: Instant) -> Self {
        Self {
            state: State::Waiting {
                deadline: now + START_PATIENCE,
            },
            inbox: Inbox::default(),
            transmit: VecDeque::new(),
            typed: VecDeque::new(),
            sequence: 0,
            held: Vec::new(),
            send_at: None,
            heartbeat_at: None,
            last_heard: now,
            powered,
        }
    }

    /// Why the session is over, if it is.
    pub(super) fn over(&self) -> Option<&'static str> {
        match self.state {
            State::Over(reason) => Some(reason),
            _ => None,
        }
    }

    pub(super) fn handle_input(&mut self, now: Instant, input: &[u8]) {
        self.last_heard = now;
        let mut inbox = mem::take(&mut self.inbox);
        inbox.push(input);
        while self.over().is_none() {
            match ConsoleMessage::decode(inbox.unread()) {
                Ok(Decoded::NeedMore) => break,
                Ok(Decoded::Message { message, length }) => {
                    self.receive(now, message.message);
                    inbox.consume(length);
                }
                Err(_) => self.state = State::Over("the console does not speak SOL"),
            }
        }
        self.inbox = inbox;
    }

    fn receive(&mut self, now: Instant, message: ConsoleMessage<'_>) {
        let running = matches!(self.state, State::Running { .. });
        match message {
            ConsoleMessage::Start(settings) if !running => {
                self.state = State::Running { settings };
                self.heartbeat_at = heartbeat(&settings).map(|every| now + every);
                // Version and limits: the bytes that known consoles were tried with.
                let mut rest = [0; 15];
                rest[..4].copy_from_slice(&[1, 0, 12, 0]);
                self.send(FirmwareMessage::StartReply(StartReply { status: 0, rest }));
                self.controls(0);
            }
            ConsoleMessage::Start(_) => {
                self.state = State::Over("the console started SOL twice");
            }
            ConsoleMessage::End => {
                self.flush();
                self.send(FirmwareMessage::EndReply);
                self.state = State::Over("the console ended it");
            }
            ConsoleMessage::Ping => self.send(FirmwareMessage::Pong),
            ConsoleMessage::Data(data) if running => self.typed.push_back(data.bytes().to_vec()),
            ConsoleMessage::Data(_) => {
                self.state = State::Over("the console typed before StartSOL")
            }
            ConsoleMessage::Pong | ConsoleMessage::Heartbeat | ConsoleMessage::Controls(_) => {}
        }
    }

    /// The host wrote to its serial port.
    pub(super) fn host_wrote(&mut self, now: Instant, text: &[u8]) {
        let State::Running { settings } = self.state else {
            return;
        };
        self.held.extend_from_slice(text);
        if self.held.len() > MAX_HELD {
            self.held.drain(..self.held.len() - MAX_HELD);
            self.controls(Controls::TX_OVERFLOW);
        }
        if self.held.len() >= usize::from(settings.max_tx_buffer) || settings.tx_timeout == 0 {
            self.flush();
        } else if self.send_at.is_none() {
            self.send_at = Some(now + Duration::from_millis(settings.tx_timeout.into()));
        }
    }

    /// Output was lost before it came here.
    pub(super) fn overflowed(&mut self, _now: Instant) {
        self.controls(Controls::TX_OVERFLOW);
    }

    /// Input was lost because the guest did not read.
    pub(super) fn flushed(&mut self, _now: Instant) {
        self.controls(Controls::RX_FLUSH);
    }

    /// How long input waits for the guest; none for ever.
    pub(super) fn flush_patience(&self) -> Option<Duration> {
        match self.state {
            State::Running { settings } if settings.rx_flush_timeout > 0 => {
                Some(Duration::from_millis(settings.rx_flush_timeout.into()))
            }
            _ => None,
        }
    }

    pub(super) fn set_power(&mut self, _now: Instant, powered: bool) {
        if self.powered != powered {
            self.powered = powered;
            self.controls(0);
        }
    }

    /// The firmware ends the session.
    pub(super) fn terminate(&mut self) {
        self.flush();
        self.send(FirmwareMessage::EndReply);
        self.state = State::Over("terminated by the firmware");
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Over(_) => return,
            State::Waiting { deadline } => {
                if deadline <= now {
                    self.state = State::Over("the console did not start SOL");
                }
                return;
            }
            State::Running { settings } => {
                if self.silence_ends(&settings).is_some_and(|at| at <= now) {
                    self.state = State::Over("the console was silent for too long");
                    return;
                }
                if self.heartbeat_at.is_some_and(|at| at <= now) {
                    self.send(FirmwareMessage::Heartbeat);
                    self.heartbeat_at = heartbeat(&settings).map(|every| now + every);
                }
            }
        }
        if self.send_at.is_some_and(|at| at <= now) {
            self.flush();
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Over(_) => None,
            State::Waiting { deadline } => Some(deadline),
            State::Running { settings } => {
                let timers = [
                    self.silence_ends(&settings),
                    self.heartbeat_at,
                    self.send_at,
                ];
                timers.into_iter().flatten().min()
            }
        }
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.pop_front()
    }

    /// What the console typed.
    pub(super) fn poll_input(&mut self) -> Option<Vec<u8>> {
        self.typed.pop_front()
    }

    fn silence_ends(&self, settings: &Settings) -> Option<Instant> {
        let timeout = Duration::from_millis(settings.rx_timeout.into());
        (!timeout.is_zero()).then(|| self.last_heard + timeout)
    }

    fn flush(&mut self) {
        self.send_at = None;
        let State::Running { settings } = self.state else {
            return;
        };
        let held = mem::take(&mut self.held);
        for piece in held.chunks(usize::from(settings.max_tx_buffer).max(1)) {
            self.send(FirmwareMessage::Data(Payload::split(piece).0));
        }
    }

    fn controls(&mut self, status: u8) {
        if !matches!(self.state, State::Running { .. }) {
            return;
        }
        let powered = if self.powered {
            Controls::POWERED_ON
        } else {
            0
        };
        self.send(FirmwareMessage::Controls(Controls {
            lines: Controls::RTS | Controls::DTR,
            status: status | powered,
        }));
    }

    fn send(&mut self, message: FirmwareMessage<'_>) {
        let mut bytes = Vec::new();
        Frame {
            sequence: self.sequence,
            message,
        }
        .encode(&mut bytes);
        self.sequence = self.sequence.wrapping_add(1);
        self.transmit.push_back(bytes);
    }
}

fn heartbeat(settings: &Settings) -> Option<Duration> {
    let every = Duration::from_millis(settings.heartbeat.into());
    (!every.is_zero()).then_some(every)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// StartSOL with MaxTxBuffer 4, TxTimeout 100 ms, RxTimeout 10 s, Heartbeat 3 s.
    const START: [u8; 24] = [
        0x20, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0x64, 0, 0, 0, 0x10, 0x27, 0x64, 0, 0xb8, 0x0b, 0, 0, 0, 0,
    ];

    struct Bench {
        line: Line,
        now: Instant,
    }

    impl Bench {
        fn started() -> Self {
            let now = Instant::now();
            let mut bench = Self {
                line: Line::new(true, now),
                now,
            };
            bench.line.handle_input(now, &START);
            let sent = bench.sent();
            assert_eq!(sent[0][..2], [0x21, 0]);
            assert_eq!(sent[1], [0x29, 0, 0, 0, 1, 0, 0, 0, 3, 4]);
            bench
        }

        fn sent(&mut self) -> Vec<Vec<u8>> {
            std::iter::from_fn(|| self.line.poll_transmit()).collect()
        }

        fn tick(&mut self) {
            self.now = self.line.poll_timeout().unwrap();
            self.line.handle_timeout(self.now);
        }
    }

    #[test]
    fn output_waits_for_a_full_buffer_or_its_timeout() {
        let mut bench = Bench::started();
        bench.line.host_wrote(bench.now, b"ab");
        assert!(bench.sent().is_empty());
        let before = bench.now;
        bench.tick();
        assert_eq!(bench.now - before, Duration::from_millis(100));
        assert_eq!(bench.sent(), [b"\x2a\0\0\0\x02\0\0\0\x02\0ab"]);
        bench.line.host_wrote(bench.now, b"abcdef");
        let lengths: Vec<usize> = bench.sent().iter().map(Vec::len).collect();
        assert_eq!(lengths, [14, 12]);
    }

    #[test]
    fn heartbeats_come_as_asked_until_the_console_is_silent_for_too_long() {
        let mut bench = Bench::started();
        let began = bench.now;
        for beat in 1..=3 {
            bench.tick();
            assert_eq!(bench.now - began, Duration::from_secs(3 * beat));
            assert_eq!(bench.sent().len(), 1);
        }
        bench.tick();
        assert_eq!(bench.now - began, Duration::from_secs(10));
        assert!(bench.line.over().is_some());
        assert_eq!(bench.line.poll_timeout(), None);
    }

    #[test]
    fn lost_input_and_output_are_told() {
        let mut bench = Bench::started();
        bench.line.flushed(bench.now);
        assert_eq!(bench.sent()[0][8..], [3, 4 | 8]);
        bench.line.overflowed(bench.now);
        assert_eq!(bench.sent()[0][8..], [3, 4 | 1]);
        bench.line.set_power(bench.now, false);
        assert_eq!(bench.sent()[0][8..], [3, 0]);
    }

    #[test]
    fn a_console_out_of_turn_is_let_go() {
        for bytes in [&START[..], b"\x41", b"\x22\0\0\0\0\0\0\0"] {
            let mut bench = Bench::started();
            bench.line.handle_input(bench.now, bytes);
            assert!(bench.line.over().is_some(), "{bytes:02x?}");
        }
        let mut early = Line::new(true, Instant::now());
        early.handle_input(Instant::now(), b"\x28\0\0\0\0\0\0\0\x01\0x");
        assert!(early.over().is_some());
        assert_eq!(early.poll_input(), None);
        let now = Instant::now();
        let mut idle = Line::new(true, now);
        idle.handle_timeout(idle.poll_timeout().unwrap());
        assert!(idle.over().is_some());
    }
}
