//! IDE-R against scripted firmware, on a made-up clock. Firmware's bytes are written by hand here.

use proptest::prelude::*;

use super::*;
use crate::wire::DecodeError;

const MILLIS: Duration = Duration::from_millis(1);

/// What the scripted firmware says: body by hand, header numbered for it.
struct Bench {
    console: Console,
    now: Instant,
    number: u32,
}

fn open_reply(read_buffer: u16, write_buffer: u16) -> Vec<u8> {
    let mut reply = vec![0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0, 12, 0, 0, 0, 0, 0];
    reply.extend(read_buffer.to_le_bytes());
    reply.extend(write_buffer.to_le_bytes());
    reply.extend([0, 0, 0, 0, 0, 0x57, 1, 0, 0, 0]);
    reply
}

fn packet(drive: u8, feature: u8, cdb: &[u8]) -> Vec<u8> {
    let mut bytes = vec![
        0x50, 0, 0, 0, 0, 0, 0, 0, 0, feature, 0, 0, 0xfe, 0xff, drive, 0xa0,
    ];
    bytes.extend(cdb);
    bytes.resize(28, 0);
    bytes
}

const READ_10: [u8; 10] = [0x28, 0, 0, 0, 0, 16, 0, 0, 1, 0];
const WRITE_10: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const ATTACHED: [u8; 13] = [0x49, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0, 0];
const RESET: [u8; 9] = [0x46, 0, 0, 0, 0, 0, 0, 0, 3];
const HEARTBEAT: [u8; 8] = [0x4b, 0, 0, 0, 0, 0, 0, 0];
const SUCCESS_TAIL: [u8; 11] = [0xc5, 0, 3, 0, 0, 0, 0xb0, 0x50, 0, 0, 0];

impl Bench {
    fn new(options: Options) -> Self {
        let now = Instant::now();
        Self {
            console: Console::new(options, now),
            now,
            number: 0,
        }
    }

    /// Open and attached, with these buffers and everything said so far taken.
    fn attached(read_buffer: u16, write_buffer: u16) -> Self {
        Self::attached_with(Options::default(), read_buffer, write_buffer)
    }

    fn attached_with(options: Options, read_buffer: u16, write_buffer: u16) -> Self {
        let mut bench = Self::new(options);
        bench.say(&open_reply(read_buffer, write_buffer));
        bench.say(&ATTACHED);
        bench.events();
        bench.sent();
        bench
    }

    fn numbered(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes[4..8].copy_from_slice(&self.number.to_le_bytes());
        self.number += 1;
        bytes
    }

    fn try_say(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let bytes = self.numbered(bytes);
        self.console.handle_input(self.now, &bytes)
    }

    fn say(&mut self, bytes: &[u8]) {
        self.try_say(bytes).unwrap();
    }

    fn command(&mut self, bytes: &[u8]) -> Command {
        self.say(bytes);
        self.next_command()
    }

    fn next_command(&mut self) -> Command {
        match self.console.poll_event() {
            Some(Event::Command(command)) => command,
            other => panic!("{other:?} instead of a command"),
        }
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.console.poll_transmit()).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.console.poll_event()).collect()
    }

    /// Lets the next timer run out.
    fn tick(&mut self) -> Result<(), Error> {
        self.now = self.console.poll_timeout().unwrap();
        self.console.handle_timeout(self.now)
    }

    fn data(&mut self, id: CommandId, last: bool, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        let filled = self.console.data(id, last, bytes.len(), |piece| {
            let (now, later) = rest.split_at(piece.len());
            piece.copy_from_slice(now);
            rest = later;
            Ok::<(), ()>(())
        });
        assert!(rest.is_empty() || filled == Ok(false));
        filled.unwrap()
    }
}

fn number_of(message: &[u8]) -> u32 {
    u32::from_le_bytes(message[4..8].try_into().unwrap())
}

#[test]
fn opens_and_attaches() {
    for (mode, value) in [
        (StartMode::OnReboot, 0x09),
        (StartMode::Graceful, 0x11),
        (StartMode::Now, 0x19),
    ] {
        let mut bench = Bench::new(Options {
            start_mode: mode,
            ..Options::default()
        });
        let open = [
            0x40, 0, 0, 0, 0, 0, 0, 0, 0x30, 0x75, 0, 0, 0x20, 0x4e, 1, 0, 0, 0,
        ];
        assert_eq!(bench.sent(), [open]);
        bench.say(&open_reply(8192, 4096));
        assert_eq!(
            bench.sent(),
            [[0x48, 0, 0, 0, 1, 0, 0, 0, 3, value, 0, 0, 0]]
        );
        let opened = Event::Opened {
            version: (1, 0),
            firmware_version: (12, 0),
            read_buffer: 8192,
            write_buffer: 4096,
            oem: 343,
        };
        assert_eq!(bench.events(), [opened]);
        bench.say(&ATTACHED);
        assert_eq!(bench.events(), [Event::Attached]);
        bench.say(&ATTACHED);
        assert_eq!(bench.events(), [], "said once");
    }
}

#[test]
fn a_refused_attach_is_told_and_may_be_tried_again() {
    let mut bench = Bench::new(Options::default());
    bench.say(&open_reply(8192, 8192));
    bench.events();
    bench.sent();
    bench.say(&[0x49, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0]);
    assert_eq!(bench.events(), [Event::AttachRefused(0)]);
    bench.console.attach(StartMode::Now, bench.now);
    assert_eq!(
        bench.sent(),
        [[0x48, 0, 0, 0, 2, 0, 0, 0, 3, 0x19, 0, 0, 0]]
    );
    bench.say(&ATTACHED);
    assert_eq!(bench.events(), [Event::Attached]);
}

#[test]
fn news_of_available_registers_makes_it_ask_again() {
    let mut bench = Bench::new(Options::default());
    bench.say(&open_reply(8192, 8192));
    bench.sent();
    bench.say(&[0x49, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(bench.sent(), Vec::<Vec<u8>>::new());
    bench.say(&[0x49, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0]);
    assert_eq!(
        bench.sent(),
        [[0x48, 0, 0, 0, 2, 0, 0, 0, 3, 0x09, 0, 0, 0]]
    );
}

#[test]
fn lost_replies_time_out() {
    let mut bench = Bench::new(Options::default());
    let began = bench.now;
    while bench.now - began < Duration::from_secs(9) {
        assert_eq!(
            bench.tick().is_err(),
            bench.now - began >= Duration::from_secs(10)
        );
    }
    assert_eq!(bench.now - began, Duration::from_secs(10));
    assert!(bench.console.is_over());

    let mut bench = Bench::new(Options {
        start_mode: StartMode::Graceful,
        ..Options::default()
    });
    bench.say(&open_reply(8192, 8192));
    let error = loop {
        if let Err(error) = bench.tick() {
            break error;
        }
    };
    assert_eq!(error, Error::Timeout(Step::Attach));

    // The answer to OnReboot may come with the reset.
    let mut bench = Bench::new(Options::default());
    bench.say(&open_reply(8192, 8192));
    bench.now += Duration::from_secs(50);
    assert_eq!(bench.console.handle_timeout(bench.now), Ok(()));
}

#[test]
fn success_and_check_condition_are_the_hand_written_bytes() {
    let mut bench = Bench::attached(8192, 8192);
    let command = bench.command(&packet(0xb0, 0, &[0]));
    assert_eq!(command.drive, DriveSelect::Cd);
    assert!(!command.dma);
    assert_eq!(command.cdb_len, 12);
    assert!(bench.console.finish(command.id));
    let head = [
        0x51, 0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(bench.sent(), [[&head[..], &SUCCESS_TAIL].concat()]);
    assert!(!bench.console.finish(command.id), "answered once");
    assert!(bench.sent().is_empty());

    let command = bench.command(&packet(0xa0, 0, &[0xff]));
    assert_eq!(command.drive, DriveSelect::Floppy);
    assert!(bench.console.check(command.id, 5, 0x20, 0));
    let mut head = head;
    head[4] = 3;
    let tail = [0x87, 0x50, 3, 0, 0, 0, 0xa0, 0x51, 5, 0x20, 0];
    assert_eq!(bench.sent(), [[&head[..], &tail].concat()]);
}

#[test]
fn data_is_framed_by_the_read_buffer_in_one_buffer() {
    for dma in [false, true] {
        let mut bench = Bench::attached(512, 512);
        let command = bench.command(&packet(0xb0, u8::from(dma), &READ_10));
        assert_eq!(command.dma, dma);
        let content: Vec<u8> = (0..1300u32).map(|byte| byte as u8).collect();
        assert!(bench.data(command.id, true, &content));
        let sent = bench.sent();
        assert_eq!(sent.len(), 1, "one write");
        let mut rest = &sent[0][..];
        let mut seen = Vec::new();
        for (number, length, last) in [(2, 512, false), (3, 512, false), (4, 276, true)] {
            let (header, after) = rest.split_at(34);
            let (data, after) = after.split_at(length);
            assert_eq!(header[0], 0x54);
            assert_eq!(header[3], u8::from(dma) | if last { 2 } else { 0 });
            assert_eq!(number_of(header), number);
            assert_eq!(header[9..11], (length as u16).to_le_bytes());
            assert_eq!(header[12], if dma { 0xb4 } else { 0xb5 });
            assert_eq!(
                header[16..18],
                if dma {
                    [0, 0]
                } else {
                    (length as u16).to_le_bytes()
                }
            );
            assert_eq!(
                header[20..28],
                if last {
                    [0x85, 0, 3, 0, 0, 0, 0xb0, 0x50]
                } else {
                    [0; 8]
                }
            );
            seen.extend_from_slice(data);
            rest = after;
        }
        assert!(rest.is_empty());
        assert_eq!(seen, content);
        assert!(!bench.data(command.id, true, b"again"), "answered once");
    }
}

#[test]
fn a_reply_may_come_in_several_calls_and_reuse_buffers() {
    let mut bench = Bench::attached(512, 512);
    let command = bench.command(&packet(0xb0, 0, &READ_10));
    assert!(bench.data(command.id, false, &[1; 1024]));
    let first = bench.sent().remove(0);
    assert_eq!(first.len(), 2 * (34 + 512));
    assert_eq!((first[3], first[34 + 512 + 3]), (0, 0));
    bench.console.recycle(first);
    assert!(bench.data(command.id, true, &[2; 100]));
    let second = bench.sent().remove(0);
    assert_eq!(second.len(), 134);
    assert_eq!((second[3], number_of(&second)), (2, 4));
    assert_eq!(second[34..], [2; 100]);
}

#[test]
fn an_empty_reply_is_a_success_without_data() {
    let mut bench = Bench::attached(512, 512);
    let command = bench.command(&packet(0xb0, 0, &READ_10));
    assert!(bench.data(command.id, true, b""));
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0][0], 0x51);
    assert_eq!(sent[0][20..], SUCCESS_TAIL);
}

#[test]
fn a_failed_read_sends_nothing_and_keeps_the_numbering() {
    let mut bench = Bench::attached(512, 512);
    let command = bench.command(&packet(0xb0, 0, &READ_10));
    let mut pieces = 0;
    let result = bench.console.data(command.id, true, 2048, |_| {
        pieces += 1;
        if pieces == 3 {
            Err("broken disk")
        } else {
            Ok(())
        }
    });
    assert_eq!(result, Err("broken disk"));
    assert!(bench.sent().is_empty());
    assert!(bench.console.check(command.id, 3, 0x11, 0));
    let sent = bench.sent();
    assert_eq!((sent[0][0], number_of(&sent[0])), (0x51, 2));
    assert_eq!(sent[0][28..31], [3, 0x11, 0]);
}

#[test]
fn commands_wait_for_their_turn() {
    let mut bench = Bench::attached(8192, 8192);
    let first = bench.command(&packet(0xb0, 0, &[0]));
    bench.say(&packet(0xa0, 0, &[0x25]));
    bench.say(&packet(0xb0, 0, &READ_10));
    assert_eq!(bench.events(), []);
    bench.console.finish(first.id);
    let second = bench.next_command();
    assert_eq!((second.drive, second.cdb[0]), (DriveSelect::Floppy, 0x25));
    assert_eq!(bench.events(), []);
    bench.data(second.id, true, &[0; 8]);
    let third = bench.next_command();
    assert_eq!(third.cdb[..10], READ_10);
}

#[test]
fn too_many_waiting_commands_end_the_session() {
    let mut bench = Bench::attached(8192, 8192);
    for _ in 0..17 {
        bench.say(&packet(0xb0, 0, &[0]));
    }
    let error = bench.try_say(&packet(0xb0, 0, &[0]));
    assert_eq!(error, Err(Error::TooManyCommands { limit: 16 }));
    assert!(bench.console.is_over());
}

mod writes {
    use super::*;

    fn from_host(data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x53, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend((data.len() as u16).to_le_bytes());
        bytes.extend([0; 3]);
        bytes.extend(data);
        bytes
    }

    fn asked(bench: &mut Bench) -> Vec<usize> {
        bench
            .sent()
            .iter()
            .map(|bytes| {
                assert_eq!(bytes[0], 0x52);
                assert_eq!(bytes[9..11], bytes[16..18]);
                usize::from(u16::from_le_bytes([bytes[9], bytes[10]]))
            })
            .collect()
    }

    #[test]
    fn are_fetched_in_pieces_of_the_write_buffer_one_after_the_other() {
        let mut bench = Bench::attached(8192, 1024);
        let command = bench.command(&packet(0xa0, 0, &WRITE_10));
        assert_eq!(bench.console.fetch(command.id, 2560), Ok(true));
        assert_eq!(
            bench.console.fetch(command.id, 512),
            Ok(false),
            "one at a time"
        );
        assert_eq!(asked(&mut bench), [1024]);
        // Firmware may cut a piece up further.
        bench.say(&from_host(&[1; 1000]));
        assert_eq!(asked(&mut bench), [0; 0]);
        bench.say(&from_host(&[1; 24]));
        assert_eq!(asked(&mut bench), [1024]);
        bench.say(&from_host(&[2; 1024]));
        assert_eq!(asked(&mut bench), [512]);
        assert_eq!(bench.events(), []);
        bench.say(&from_host(&[3; 512]));
        let data = [vec![1; 1024], vec![2; 1024], vec![3; 512]].concat();
        let id = command.id;
        assert_eq!(bench.events(), [Event::Written { id, data }]);
        assert!(bench.console.finish(id));
    }

    #[test]
    fn larger_than_the_limit_are_to_be_fetched_in_steps() {
        let mut bench = Bench::attached(8192, 8192);
        let command = bench.command(&packet(0xa0, 0, &WRITE_10));
        let error = FetchError {
            length: (1 << 20) + 1,
            limit: 1 << 20,
        };
        assert_eq!(bench.console.fetch(command.id, error.length), Err(error));
        for content in [7, 8] {
            assert_eq!(bench.console.fetch(command.id, 512), Ok(true));
            bench.say(&from_host(&[content; 512]));
            let (id, data) = (command.id, vec![content; 512]);
            assert_eq!(bench.events(), [Event::Written { id, data }]);
        }
    }

    #[test]
    fn with_more_data_than_asked_for_end_the_session() {
        let mut bench = Bench::attached(8192, 8192);
        let command = bench.command(&packet(0xa0, 0, &WRITE_10));
        bench.console.fetch(command.id, 512).unwrap();
        let error = bench.try_say(&from_host(&[0; 513]));
        assert_eq!(error, Err(Error::ExcessData { excess: 1 }));
    }

    #[test]
    fn whose_data_nobody_wants_are_ignored() {
        let mut bench = Bench::attached(8192, 8192);
        bench.say(&from_host(&[0; 512]));
        let command = bench.command(&packet(0xa0, 0, &WRITE_10));
        bench.say(&from_host(&[0; 512]));
        assert!(bench.console.check(command.id, 7, 0x27, 0));
        assert_eq!(bench.events(), []);
    }

    #[test]
    fn are_abandoned_at_a_reset() {
        let mut bench = Bench::attached(8192, 1024);
        let command = bench.command(&packet(0xa0, 0, &WRITE_10));
        bench.console.fetch(command.id, 2048).unwrap();
        bench.say(&from_host(&[1; 1000]));
        bench.sent();
        bench.say(&RESET);
        bench.say(&from_host(&[1; 24]));
        assert_eq!(bench.events(), [Event::Reset { mask: 3 }]);
        assert!(!bench.console.finish(command.id));
        assert_eq!(bench.sent(), [[0x47, 0, 0, 0, 3, 0, 0, 0]]);
    }
}

mod resets {
    use super::*;

    #[test]
    fn void_the_running_command_and_those_that_wait() {
        let mut bench = Bench::attached(512, 512);
        let old = bench.command(&packet(0xb0, 0, &READ_10));
        bench.say(&packet(0xb0, 0, &[0]));
        bench.data(old.id, false, &[0; 512]);
        assert_eq!(bench.sent().len(), 1);
        bench.say(&RESET);
        assert_eq!(bench.events(), [Event::Reset { mask: 3 }]);
        assert_eq!(bench.sent(), [[0x47, 0, 0, 0, 3, 0, 0, 0]]);
        assert!(!bench.data(old.id, true, &[0; 512]));
        assert!(!bench.console.check(old.id, 3, 0x11, 0));
        assert_eq!(bench.console.fetch(old.id, 512), Ok(false));
        assert!(bench.sent().is_empty());
        let new = bench.command(&packet(0xb0, 0, &[0]));
        assert_ne!(new.id, old.id);
        assert!(bench.console.finish(new.id));
        assert_eq!(number_of(&bench.sent()[0]), 4);
    }

    #[test]
    fn take_back_answers_that_were_not_yet_sent() {
        let mut bench = Bench::attached(512, 512);
        let command = bench.command(&packet(0xb0, 0, &READ_10));
        bench.data(command.id, true, &[0; 2048]);
        bench.say(&RESET);
        assert_eq!(bench.sent(), [[0x47, 0, 0, 0, 2, 0, 0, 0]], "numbered on");
    }

    #[test]
    fn take_back_commands_that_nobody_has_seen() {
        let mut bench = Bench::attached(512, 512);
        bench.say(&packet(0xb0, 0, &READ_10));
        bench.say(&RESET);
        assert_eq!(bench.events(), [Event::Reset { mask: 3 }]);
    }
}

mod heartbeats {
    use super::*;

    #[test]
    fn are_answered_with_our_own_number() {
        let mut bench = Bench::attached(8192, 8192);
        bench.say(&HEARTBEAT);
        assert_eq!(bench.sent(), [[0x4b, 0, 0, 0, 2, 0, 0, 0]]);
        // A firmware that answers answers does not set off an avalanche.
        bench.say(&HEARTBEAT);
        assert!(bench.sent().is_empty());
        bench.now += Duration::from_millis(100);
        bench.say(&HEARTBEAT);
        assert_eq!(bench.sent(), [[0x4b, 0, 0, 0, 3, 0, 0, 0]]);
    }

    #[test]
    fn keep_an_idle_session_within_a_third_of_rx_timeout() {
        let mut bench = Bench::attached(8192, 8192);
        let mut last_sent = bench.now;
        let until = bench.now + Duration::from_secs(300);
        let mut heard = bench.now;
        while bench.now < until {
            bench.tick().unwrap();
            for bytes in bench.sent() {
                assert_eq!(bytes[0], 0x4b);
                assert!(bench.now - last_sent <= Duration::from_secs(10));
                last_sent = bench.now;
            }
            assert!(bench.now - last_sent <= Duration::from_secs(10));
            // A pong is heard but not answered.
            if bench.now - heard > Duration::from_secs(20) {
                bench.say(&[0x45, 0, 0, 0, 0, 0, 0, 0]);
                heard = bench.now;
            }
        }
    }

    #[test]
    fn are_not_added_to_a_busy_session() {
        let mut bench = Bench::attached(8192, 8192);
        for _ in 0..100 {
            bench.now += Duration::from_secs(4);
            let command = bench.command(&packet(0xb0, 0, &[0]));
            bench.console.finish(command.id);
            bench.console.handle_timeout(bench.now).unwrap();
            let sent = bench.sent();
            assert_eq!(sent.len(), 1);
            assert_eq!(sent[0][0], 0x51);
        }
    }

    #[test]
    fn missing_three_times_end_the_session() {
        let mut bench = Bench::attached(8192, 8192);
        let heard = bench.now;
        let error = loop {
            if let Err(error) = bench.tick() {
                break error;
            }
        };
        assert_eq!(error, Error::Silence(Duration::from_secs(60)));
        assert_eq!(bench.now - heard, Duration::from_secs(60));
        assert!(bench.console.is_over());
        assert_eq!(bench.console.poll_timeout(), None);
    }

    #[test]
    fn may_be_switched_off() {
        let options = Options {
            heartbeat: Duration::ZERO,
            rx_timeout: Duration::ZERO,
            ..Options::default()
        };
        let bench = Bench::attached_with(options, 8192, 8192);
        assert_eq!(bench.console.poll_timeout(), None);
    }

    #[test]
    fn pings_are_answered() {
        let mut bench = Bench::attached(8192, 8192);
        bench.say(&[0x44, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bench.sent(), [[0x45, 0, 0, 0, 2, 0, 0, 0]]);
    }
}

mod ends {
    use super::*;

    #[test]
    fn by_the_firmware_unasked() {
        let mut bench = Bench::attached(8192, 8192);
        let command = bench.command(&packet(0xb0, 0, &[0]));
        bench.say(&[0x43, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bench.events(), [Event::Closed]);
        assert!(!bench.console.finish(command.id));
        assert!(bench.sent().is_empty());
        assert!(bench.console.is_over());
        assert_eq!(bench.console.handle_input(bench.now, b"anything"), Ok(()));
        assert_eq!(bench.events(), []);
    }

    #[test]
    fn as_asked_with_and_without_an_answer() {
        for answered in [true, false] {
            let mut bench = Bench::attached(8192, 8192);
            bench.command(&packet(0xb0, 0, &READ_10));
            bench.console.close(bench.now);
            bench.console.close(bench.now);
            assert_eq!(bench.sent(), [[0x42, 0, 0, 0, 2, 0, 0, 0]]);
            // What was on its way does not matter any more.
            bench.say(&packet(0xb0, 0, &[0]));
            bench.say(&HEARTBEAT);
            if answered {
                bench.say(&[0x43, 0, 0, 0, 0, 0, 0, 0]);
            } else {
                bench.tick().unwrap();
            }
            assert_eq!(bench.events(), [Event::Closed]);
            assert_eq!(bench.sent(), [[0x12, 0, 0, 0]]);
        }
    }

    #[test]
    fn firmware_errors_are_told_and_survived() {
        let mut bench = Bench::attached(8192, 8192);
        bench.say(&[0x4a, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0]);
        assert_eq!(bench.events(), [Event::FirmwareError(2)]);
        bench.command(&packet(0xb0, 0, &[0]));
    }

    #[test]
    fn with_a_reason_at_each_breach() {
        let options = Options::default;
        let mut refused = open_reply(8192, 8192);
        refused[1] = 1;
        let mut other_protocol = open_reply(8192, 8192);
        other_protocol[21] = 4;
        for (first, error) in [
            (refused, Error::OpenRefused(1)),
            (other_protocol, Error::Protocol(4)),
            (open_reply(511, 8192), Error::ReadBuffer(511)),
            (packet(0xb0, 0, &[0]), Error::BeforeOpen),
            (ATTACHED.to_vec(), Error::BeforeOpen),
        ] {
            let mut bench = Bench::new(options());
            assert_eq!(bench.try_say(&first), Err(error));
            assert!(bench.console.is_over());
            assert!(bench.sent().is_empty());
        }
        let mut bench = Bench::attached(8192, 8192);
        assert_eq!(
            bench.try_say(&open_reply(8192, 8192)),
            Err(Error::OpenedTwice)
        );
        let mut bench = Bench::attached(8192, 8192);
        let garbage = bench.console.handle_input(bench.now, b"GET / HTTP/1.1");
        assert_eq!(garbage, Err(Error::Decode(DecodeError::UnknownId(b'G'))));
        let mut bench = Bench::attached(8192, 8192);
        let pings = [0x44, 0, 0, 0, 0, 0, 0, 0];
        let flood: Vec<u8> = (0..1000).flat_map(|_| bench.numbered(&pings)).collect();
        assert_eq!(
            bench.console.handle_input(bench.now, &flood),
            Err(Error::Flood)
        );
    }

    #[test]
    fn a_gap_in_the_numbers_matters_only_to_the_strict() {
        let mut bench = Bench::attached(8192, 8192);
        bench.number += 1;
        let error = Error::Sequence {
            expected: 2,
            found: 3,
        };
        assert_eq!(bench.try_say(&HEARTBEAT), Err(error));
        let lenient = Options {
            strict_sequence: false,
            ..Options::default()
        };
        let mut bench = Bench::attached_with(lenient, 8192, 8192);
        bench.number += 1;
        bench.say(&HEARTBEAT);
        bench.say(&HEARTBEAT);
    }
}

mod long_commands {
    use super::*;

    fn capacity_16() -> Vec<u8> {
        let mut bytes = packet(0xb0, 0, &[0x9e, 0x10]);
        bytes.extend([0, 0x20, 0, 0]);
        bytes
    }

    #[test]
    fn are_taken_whole_however_they_arrive() {
        for step in [1, 28, 32] {
            let mut bench = Bench::attached(8192, 8192);
            let bytes = bench.numbered(&capacity_16());
            for part in bytes.chunks(step) {
                bench.console.handle_input(bench.now, part).unwrap();
            }
            let command = bench.next_command();
            assert_eq!(command.cdb_len, 16);
            assert_eq!(command.cdb[12..], [0, 0x20, 0, 0]);
            assert!(bench.console.finish(command.id));
            bench.say(&HEARTBEAT);
        }
    }

    #[test]
    fn are_taken_short_after_a_moment_without_the_rest() {
        let mut bench = Bench::attached(8192, 8192);
        bench.say(&packet(0xb0, 0, &[0x9e, 0x10]));
        assert_eq!(bench.events(), []);
        let before = bench.now;
        bench.tick().unwrap();
        assert_eq!(bench.now - before, 50 * MILLIS);
        assert_eq!(bench.next_command().cdb_len, 12);
        bench.say(&HEARTBEAT);
    }
}

#[test]
fn one_byte_at_a_time_is_the_same_as_all_at_once() {
    let mut script = Bench::new(Options::default());
    let bytes = [
        script.numbered(&open_reply(8192, 8192)),
        script.numbered(&ATTACHED),
        script.numbered(&packet(0xb0, 0, &READ_10)),
        script.numbered(&HEARTBEAT),
        script.numbered(&RESET),
        script.numbered(&packet(0xa0, 1, &[0x25])),
        script.numbered(&[0x4a, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0]),
        script.numbered(&[0x43, 0, 0, 0, 0, 0, 0, 0]),
    ]
    .concat();
    let run = |step: usize| {
        let mut bench = Bench::new(Options::default());
        let mut events = Vec::new();
        let mut sent = Vec::new();
        for part in bytes.chunks(step) {
            bench.console.handle_input(bench.now, part).unwrap();
            events.extend(bench.events());
            sent.extend(bench.sent());
        }
        (events, sent)
    };
    let (bytewise_events, bytewise_sent) = run(1);
    // At once, a command from before the reset is not even seen.
    let (events, sent) = run(bytes.len());
    let seen = |event: &Event| !matches!(event, Event::Command(_));
    assert_eq!(
        bytewise_events
            .iter()
            .filter(|event| seen(event))
            .collect::<Vec<_>>(),
        events
            .iter()
            .filter(|event| seen(event))
            .collect::<Vec<_>>(),
    );
    assert_eq!(
        sent,
        Vec::<Vec<u8>>::new(),
        "closed by the firmware: nothing is left to say"
    );
    assert_eq!(bytewise_sent.len(), 4);
}

proptest! {
    /// Whatever firmware sends and however the caller answers: no panic, numbers without gaps, each command
    /// answered at most once, timers in the future.
    #[test]
    fn random_operations_keep_the_promises(operations in proptest::collection::vec((0u8..12, any::<u8>()), 0..80)) {
        let mut bench = Bench::attached_with(Options { max_fetch: 4096, ..Options::default() }, 512, 512);
        let mut next = 2;
        let mut current = None;
        for (operation, value) in operations {
            let result = match operation {
                0 => bench.try_say(&packet(0xb0, value & 1, &READ_10)),
                1 => bench.try_say(&packet(0xa0, 0, &[0x9e, value])),
                2 => bench.try_say(&RESET),
                3 => bench.try_say(&HEARTBEAT),
                4 => bench.try_say(&[&[0x53, 0, 0, 0, 0, 0, 0, 0, 0, value, 0, 0, 0, 0][..], &vec![0; value.into()]].concat()),
                5 => { bench.now += Duration::from_millis(u64::from(value) * 10); bench.console.handle_timeout(bench.now) }
                6 => { if let Some(id) = current { bench.console.finish(id); } Ok(()) }
                7 => { if let Some(id) = current { bench.data(id, value & 1 == 0, &vec![1; usize::from(value) * 9]); } Ok(()) }
                8 => { if let Some(id) = current { let _ = bench.console.fetch(id, usize::from(value) * 20); } Ok(()) }
                9 => { if let Some(id) = current { bench.console.check(id, 3, 0x11, 0); } Ok(()) }
                10 if value > 250 => { bench.console.close(bench.now); Ok(()) }
                10 => bench.try_say(&[0x44, 0, 0, 0, 0, 0, 0, 0]),
                _ if value > 250 => bench.console.handle_input(bench.now, &[value]),
                _ => Ok(()),
            };
            while let Some(event) = bench.console.poll_event() {
                if let Event::Command(command) = event {
                    current = Some(command.id);
                }
            }
            for bytes in bench.sent() {
                if bytes == [0x12, 0, 0, 0] { continue; }
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    prop_assert_eq!(number_of(rest), next);
                    next += 1;
                    let length = match rest[0] {
                        0x54 => 34 + usize::from(u16::from_le_bytes([rest[9], rest[10]])),
                        _ => rest.len(),
                    };
                    rest = &rest[length..];
                }
            }
            if result.is_err() {
                prop_assert!(bench.console.is_over());
            }
            if operation == 5 && let Some(due) = bench.console.poll_timeout() {
                prop_assert!(due > bench.now, "a timer that was handled is over");
            }
        }
    }
}
