//! The initiator alone, on a made-up clock: timers, resets, and what it does with a console's mistakes.

use std::time::{Duration, Instant};

use amt_redirection::ider::DriveSelect;
use atapi::{Sense, cdb};

use super::super::knobs::{AttachAnswer, Silence};
use super::initiator::{Answer, Command, Event, Initiator, Settings};

const OPEN: [u8; 18] = [
    0x40, 0, 0, 0, 0, 0, 0, 0, 0x30, 0x75, 0, 0, 0x20, 0x4e, 1, 0, 0, 0,
];
const ATTACH_NOW: [u8; 13] = [0x48, 0, 0, 0, 0, 0, 0, 0, 3, 0x19, 0, 0, 0];
const SUCCESS: [u8; 31] = [
    0x51, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xc5, 0, 3, 0, 0, 0, 0xb0, 0x50,
    0, 0, 0,
];

fn settings() -> Settings {
    Settings {
        firmware: (12, 0),
        read_buffer: 8192,
        write_buffer: 512,
        silence: Silence::AnyMessage,
        strict_sequence: true,
        attach: AttachAnswer::Accept,
        command_timeout: Duration::from_secs(40),
    }
}

struct Bench {
    initiator: Initiator,
    now: Instant,
    number: u32,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self {
            initiator: Initiator::new(settings, now),
            now,
            number: 0,
        }
    }

    fn attached(settings: Settings) -> Self {
        let mut bench = Self::new(settings);
        bench.say(&OPEN);
        bench.say(&ATTACH_NOW);
        assert_eq!(bench.events(), [Event::Attached(true)]);
        bench.sent();
        bench
    }

    /// Says this, with the next number in its header.
    fn say(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        bytes[4..8].copy_from_slice(&self.number.to_le_bytes());
        self.number += 1;
        self.initiator.handle_input(self.now, &bytes);
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.initiator.poll_transmit()).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.initiator.poll_event()).collect()
    }

    fn tick(&mut self) {
        self.now = self.initiator.poll_timeout().unwrap();
        self.initiator.handle_timeout(self.now);
    }

    fn issue(&mut self, cdb: cdb::Cdb, limit: usize, out: &[u8]) {
        let command = Command {
            drive: DriveSelect::Cd,
            cdb,
            dma: false,
            limit,
            out: out.to_vec(),
        };
        self.initiator.issue(self.now, command);
    }

    fn violations(&mut self) -> Vec<String> {
        let counters = self.initiator.take_counters();
        counters
            .violation_list
            .into_iter()
            .map(|violation| violation.expected)
            .collect()
    }
}

/// A DataToHost of the CD.
fn data(length: usize, last: bool) -> Vec<u8> {
    let [low, high] = (length as u16).to_le_bytes();
    let mut bytes = vec![
        0x54,
        0,
        0,
        if last { 2 } else { 0 },
        0,
        0,
        0,
        0,
        0,
        low,
        high,
        0,
    ];
    bytes.extend([0xb5, 0, 2, 0, low, high, 0xb0, 0x58]);
    bytes.resize(34, 0);
    bytes.resize(34 + length, 7);
    bytes
}

fn get_data(length: u16) -> Vec<u8> {
    let [low, high] = length.to_le_bytes();
    let mut bytes = vec![
        0x52, 0, 0, 0, 0, 0, 0, 0, 0, low, high, 0, 0xb5, 0, 0, 0, low, high, 0xb0, 0x58,
    ];
    bytes.resize(31, 0);
    bytes
}

#[test]
fn sends_heartbeats_as_asked_and_drops_a_silent_console() {
    let mut bench = Bench::attached(settings());
    let began = bench.now;
    bench.tick();
    assert_eq!(bench.now - began, Duration::from_secs(20));
    assert_eq!(bench.sent(), [[0x4b, 0, 0, 0, 2, 0, 0, 0]]);
    bench.tick();
    assert_eq!(bench.now - began, Duration::from_secs(30));
    assert_eq!(bench.sent(), [[0x43, 0, 0, 0, 3, 0, 0, 0]]);
    assert!(matches!(bench.events()[..], [Event::Over(_)]));
    assert_eq!(bench.initiator.poll_timeout(), None);
}

#[test]
fn heartbeats_alone_count_where_that_is_asked_for() {
    for (silence, survives) in [
        (Silence::Allowed, true),
        (Silence::AnyMessage, true),
        (Silence::HeartbeatsOnly, false),
    ] {
        let mut bench = Bench::attached(Settings {
            silence,
            ..settings()
        });
        bench.now += Duration::from_secs(20);
        bench.say(&[0x45, 0, 0, 0, 0, 0, 0, 0]);
        bench.now += Duration::from_secs(15);
        bench.initiator.handle_timeout(bench.now);
        assert_eq!(bench.events().is_empty(), survives, "{silence:?}");
    }
    let mut bench = Bench::attached(Settings {
        silence: Silence::HeartbeatsOnly,
        ..settings()
    });
    for beat in [0x4b, 0x44] {
        bench.now += Duration::from_secs(29);
        bench.say(&[beat, 0, 0, 0, 0, 0, 0, 0]);
        bench.initiator.handle_timeout(bench.now);
    }
    assert_eq!(bench.events(), []);
}

#[test]
fn an_answer_in_pieces_completes_with_the_last() {
    let mut bench = Bench::attached(settings());
    bench.issue(cdb::read_10(0, 6), 6 * 2048, &[]);
    assert!(!bench.initiator.is_free());
    bench.say(&data(8192, false));
    assert_eq!(bench.events(), []);
    bench.say(&data(4096, true));
    let answer = Answer {
        data: vec![7; 12288],
        outcome: Ok(()),
    };
    assert_eq!(bench.events(), [Event::Answered(answer)]);
    assert!(bench.initiator.is_free());
    assert_eq!(bench.violations(), [""; 0]);
}

#[test]
fn an_unanswered_command_resets_the_bus() {
    let mut bench = Bench::attached(Settings {
        silence: Silence::Allowed,
        ..settings()
    });
    bench.issue(cdb::test_unit_ready(), 0, &[]);
    bench.sent();
    bench.tick();
    bench.tick();
    assert_eq!(bench.events(), [Event::Aborted { unanswered: true }]);
    assert_eq!(bench.sent().last().unwrap()[0], 0x46);
    assert_eq!(bench.violations(), ["an answer to each command"]);
    // What belongs to the time before is dropped until the console has said that it knows.
    bench.say(&SUCCESS);
    bench.say(&data(100, true));
    assert!(!bench.initiator.is_free());
    bench.say(&[0x47, 0, 0, 0, 0, 0, 0, 0]);
    assert!(bench.initiator.is_free());
    assert_eq!(bench.events(), []);
    assert_eq!(bench.violations(), [""; 0]);
}

#[test]
fn writes_are_given_piece_by_piece_as_asked() {
    let mut bench = Bench::attached(settings());
    bench.issue(cdb::write_10(0, 3), 0, &[9; 1536]);
    bench.sent();
    bench.say(&get_data(1024));
    let sent = bench.sent();
    let lengths: Vec<usize> = sent.iter().map(Vec::len).collect();
    assert_eq!(lengths, [14 + 512, 14 + 512], "pieces of the write buffer");
    assert_eq!(sent[0][..14], [0x53, 0, 0, 0, 3, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
    bench.say(&get_data(512));
    assert_eq!(bench.sent().len(), 1);
    bench.say(&SUCCESS);
    assert!(matches!(
        &bench.events()[..],
        [Event::Answered(Answer {
            outcome: Ok(()),
            ..
        })]
    ));
}

#[test]
fn graceful_is_refused_while_a_command_runs_and_unknown_modes_always() {
    let mut bench = Bench::attached(settings());
    bench.issue(cdb::test_unit_ready(), 0, &[]);
    bench.sent();
    for (value, done) in [(0x11, 0), (0x29, 0), (0x19, 1)] {
        bench.say(&[0x48, 0, 0, 0, 0, 0, 0, 0, 3, value, 0, 0, 0]);
        assert_eq!(bench.sent()[0][8..], [3, done, 0, 0, 0], "{value:02x}");
    }
    bench.say(&[0x48, 0, 0, 0, 0, 0, 0, 0, 3, 0x18, 0, 0, 0]);
    let gone = [Event::Aborted { unanswered: false }, Event::Attached(false)];
    assert_eq!(bench.events(), gone);
    let mut bench = Bench::new(Settings {
        attach: AttachAnswer::Refuse,
        ..settings()
    });
    bench.say(&OPEN);
    bench.sent();
    bench.say(&ATTACH_NOW);
    assert_eq!(bench.sent()[0][8..], [3, 0, 0, 0, 0]);
    assert_eq!(bench.events(), []);
}

#[test]
fn mistakes_are_noted_and_the_dangerous_ones_end_it() {
    let capacity = cdb::read_capacity;
    let cases: [(&[&[u8]], &str, bool); 9] = [
        (
            &[&data(8193, true)],
            "at most 8192 bytes in a DataToHost",
            true,
        ),
        (&[&data(9, true)], "at most 8 bytes", false),
        (&[&data(0, true)], "data in a DataToHost", false),
        (
            &[&data(4, false), &data(4, true)],
            "full pieces but for the last",
            false,
        ),
        (&[&SUCCESS, &SUCCESS], "one answer to each command", false),
        (&[&get_data(512)], "one for at most 0 bytes", true),
        (
            &[&[0x47, 0, 0, 0, 0, 0, 0, 0]],
            "no ResetOccurredResponse",
            false,
        ),
        (&[&[0x41, 0, 0, 0, 0, 0, 0, 0]], "an IDE-R message", true),
        (&[&OPEN], "", true),
    ];
    for (messages, violation, ends) in cases {
        let mut bench = Bench::attached(settings());
        bench.issue(capacity(), 8, &[]);
        for message in messages {
            bench.say(message);
        }
        let found = bench.violations();
        assert_eq!(found.first().map_or("", String::as_str), violation);
        let over = bench
            .events()
            .iter()
            .any(|event| matches!(event, Event::Over(_)));
        assert_eq!(over, ends, "{violation}");
    }
    let mut wrong_drive = SUCCESS;
    wrong_drive[26] = 0xa0;
    let mut bench = Bench::attached(settings());
    bench.issue(capacity(), 8, &[]);
    bench.say(&wrong_drive);
    assert_eq!(bench.violations(), ["drive b0"]);
}

#[test]
fn a_check_condition_is_told_with_its_sense() {
    let mut bench = Bench::attached(settings());
    bench.issue(cdb::read_capacity(), 8, &[]);
    let mut check = SUCCESS;
    check[20..].copy_from_slice(&[0x87, 0x20, 3, 0, 0, 0, 0xb0, 0x51, 2, 0x3a, 0]);
    bench.say(&check);
    let answer = Answer {
        data: Vec::new(),
        outcome: Err(Sense::NO_MEDIUM),
    };
    assert_eq!(bench.events(), [Event::Answered(answer)]);
}

#[test]
fn numbers_matter_only_to_the_strict() {
    for strict_sequence in [true, false] {
        let mut bench = Bench::attached(Settings {
            strict_sequence,
            ..settings()
        });
        bench.number += 1;
        bench.say(&[0x4b, 0, 0, 0, 0, 0, 0, 0]);
        bench.say(&[0x4b, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bench.events().is_empty(), !strict_sequence);
        assert_eq!(bench.initiator.take_counters().sequence_gaps, 1);
    }
}
