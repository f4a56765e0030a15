//! A console's IDE-R session under a list of operations: what firmware sends, what the caller answers, what time does.
//! Numbers have no gaps, every command is answered at most once, what is sent is made of whole messages.
#![no_main]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use amt_redirection::console::ider::{CommandId, Console, Event, Options, StartMode};
use amt_redirection::ider::{ConsoleMessage, Frame};
use amt_redirection::wire::Decoded;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
enum Operation {
    OpenReply {
        read_buffer: u16,
        write_buffer: u16,
    },
    FeaturesReply {
        subcommand: u8,
        value: u8,
    },
    Command {
        drive: u8,
        feature: u8,
        cdb: [u8; 16],
        long: bool,
    },
    Written {
        length: u16,
    },
    Reset,
    Heartbeat,
    Ping,
    CloseReply,
    Garbage {
        bytes: Vec<u8>,
    },
    Advance {
        milliseconds: u16,
    },
    Finish {
        which: u8,
    },
    Check {
        which: u8,
    },
    Data {
        which: u8,
        last: bool,
        length: u16,
        fails: bool,
    },
    Fetch {
        which: u8,
        length: u16,
    },
    Attach {
        now: bool,
    },
    Close,
}

struct Session {
    console: Console,
    now: Instant,
    from_firmware: u32,
    from_console: u32,
    commands: Vec<CommandId>,
    done: HashSet<CommandId>,
    completed_on_wire: usize,
}

impl Session {
    fn say(&mut self, body: &[u8]) {
        let mut bytes = body.to_vec();
        bytes[4..8].copy_from_slice(&self.from_firmware.to_le_bytes());
        self.from_firmware = self.from_firmware.wrapping_add(1);
        let _ = self.console.handle_input(self.now, &bytes);
    }

    fn pick(&self, which: u8) -> Option<CommandId> {
        let last = self.commands.len().checked_sub(1)?;
        // Mostly the latest, sometimes one that is over.
        self.commands
            .get(last.saturating_sub(usize::from(which % 4)))
            .copied()
    }

    fn completed(&mut self, id: CommandId, accepted: bool) {
        if accepted {
            assert!(self.done.insert(id), "answered twice");
        }
    }

    fn look(&mut self) {
        while let Some(event) = self.console.poll_event() {
            if let Event::Command(command) = event {
                self.commands.push(command.id);
            }
        }
        while let Some(bytes) = self.console.poll_transmit() {
            if bytes == [0x12, 0, 0, 0] {
                continue;
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let Ok(Decoded::Message { message, length }) = ConsoleMessage::decode(rest) else {
                    panic!("sent what is no message: {rest:02x?}");
                };
                self.check(&message);
                rest = &rest[length..];
            }
        }
    }

    fn check(&mut self, frame: &Frame<ConsoleMessage<'_>>) {
        assert_eq!(frame.header.sequence, self.from_console, "{frame:?}");
        self.from_console = self.from_console.wrapping_add(1);
        match frame.message {
            ConsoleMessage::DataToHost { data, .. } => assert!(!data.is_empty()),
            ConsoleMessage::CommandEnd(_) => assert!(frame.header.attributes.is_last()),
            _ => assert!(!frame.header.attributes.is_last()),
        }
        self.completed_on_wire += usize::from(frame.header.attributes.is_last());
        assert!(self.completed_on_wire <= self.done.len());
    }

    fn run(&mut self, operation: Operation) {
        match operation {
            Operation::OpenReply {
                read_buffer,
                write_buffer,
            } => {
                let mut reply = vec![0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0, 12, 0, 0, 0, 0, 0];
                reply.extend(read_buffer.to_le_bytes());
                reply.extend(write_buffer.to_le_bytes());
                reply.extend([0, 0, 0, 0, 0, 0x57, 1, 0, 0, 0]);
                self.say(&reply);
            }
            Operation::FeaturesReply { subcommand, value } => {
                self.say(&[0x49, 0, 0, 0, 0, 0, 0, 0, subcommand, value, 0, 0, 0]);
            }
            Operation::Command {
                drive,
                feature,
                cdb,
                long,
            } => {
                let mut bytes = vec![
                    0x50, 0, 0, 0, 0, 0, 0, 0, 0, feature, 0, 0, 0xfe, 0xff, drive, 0xa0,
                ];
                bytes.extend(&cdb[..if long { 16 } else { 12 }]);
                self.say(&bytes);
            }
            Operation::Written { length } => {
                let mut bytes = vec![0x53, 0, 0, 0, 0, 0, 0, 0, 0];
                bytes.extend(length.to_le_bytes());
                bytes.resize(14 + usize::from(length), 0);
                self.say(&bytes);
            }
            Operation::Reset => self.say(&[0x46, 0, 0, 0, 0, 0, 0, 0, 1]),
            Operation::Heartbeat => self.say(&[0x4b, 0, 0, 0, 0, 0, 0, 0]),
            Operation::Ping => self.say(&[0x44, 0, 0, 0, 0, 0, 0, 0]),
            Operation::CloseReply => self.say(&[0x43, 0, 0, 0, 0, 0, 0, 0]),
            Operation::Garbage { bytes } => {
                let _ = self.console.handle_input(self.now, &bytes);
            }
            Operation::Advance { milliseconds } => {
                self.now += Duration::from_millis(milliseconds.into());
                let _ = self.console.handle_timeout(self.now);
                if let Some(due) = self.console.poll_timeout() {
                    assert!(due > self.now, "a timer that was handled is over");
                }
            }
            Operation::Finish { which } => {
                if let Some(id) = self.pick(which) {
                    let accepted = self.console.finish(id);
                    self.completed(id, accepted);
                }
            }
            Operation::Check { which } => {
                if let Some(id) = self.pick(which) {
                    let accepted = self.console.check(id, 3, 0x11, 0);
                    self.completed(id, accepted);
                }
            }
            Operation::Data {
                which,
                last,
                length,
                fails,
            } => {
                if let Some(id) = self.pick(which) {
                    let fill = |piece: &mut [u8]| {
                        piece.fill(0xaa);
                        if fails { Err(()) } else { Ok(()) }
                    };
                    let sent = self.console.data(id, last, length.into(), fill);
                    self.completed(id, last && sent == Ok(true));
                }
            }
            Operation::Fetch { which, length } => {
                if let Some(id) = self.pick(which) {
                    let _ = self.console.fetch(id, length.into());
                }
            }
            Operation::Attach { now } => {
                let mode = if now {
                    StartMode::Now
                } else {
                    StartMode::OnReboot
                };
                self.console.attach(mode, self.now);
            }
            Operation::Close => self.console.close(self.now),
        }
        self.look();
    }
}

fuzz_target!(|operations: Vec<Operation>| {
    let now = Instant::now();
    let mut session = Session {
        console: Console::new(Options::default(), now),
        now,
        from_firmware: 0,
        from_console: 0,
        commands: Vec::new(),
        done: HashSet::new(),
        completed_on_wire: 0,
    };
    session.look();
    for operation in operations {
        session.run(operation);
    }
});
