//! Serial over LAN against scripted firmware, on a made-up clock.

use proptest::prelude::*;

use super::*;

const REPLY: [u8; 23] = [
    0x21, 0, 0, 0, 0, 0, 0, 0, 1, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

struct Bench {
    console: Console,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            console: Console::new(Options::default(), now),
            now,
        }
    }

    fn started() -> Self {
        let mut bench = Self::new();
        bench.sent();
        bench.feed(&REPLY);
        assert_eq!(bench.events(), [Event::Started]);
        bench
    }

    fn sent(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        while let Some(bytes) = self.console.poll_transmit() {
            sent.extend(bytes);
        }
        sent
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.console.handle_input(self.now, bytes).unwrap();
    }

    fn fails_on(&mut self, bytes: &[u8]) -> Error {
        let error = self.console.handle_input(self.now, bytes).unwrap_err();
        assert!(self.console.is_over());
        assert_eq!(self.console.poll_timeout(), None);
        error
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.console.poll_event()).collect()
    }

    /// Lets the next timer run out.
    fn tick(&mut self) -> Result<(), Error> {
        self.now = self.console.poll_timeout().unwrap();
        self.console.handle_timeout(self.now)
    }
}

#[test]
fn starts_with_its_settings() {
    let mut bench = Bench::new();
    #[rustfmt::skip]
    let start = [
        0x20, 0, 0, 0, // StartSOL
        0, 0, 0, 0,    // sequence
        0x10, 0x27,    // MaxTxBuffer
        0x64, 0,       // TxTimeout
        0, 0,          // TxOverflowTimeout
        0x10, 0x27,    // RxTimeout
        0x64, 0,       // RxFlushTimeout
        0x88, 0x13,    // Heartbeat
        0, 0, 0, 0,
    ];
    assert_eq!(bench.sent(), start);
    bench.console.write(bench.now, b"too early");
    assert_eq!(bench.sent(), b"");
    bench.feed(&REPLY);
    assert_eq!(bench.events(), [Event::Started]);
}

#[test]
fn carries_text_both_ways() {
    let mut bench = Bench::started();
    bench.console.write(bench.now, b"ls\r");
    assert_eq!(bench.sent(), b"\x28\0\0\0\x01\0\0\0\x03\0ls\r");
    bench.feed(b"\x29\0\0\0\x01\0\0\0\x03\x04\x2a\0\0\0\x02\0\0\0\x07\0hello\r\n");
    assert_eq!(
        bench.events(),
        [
            Event::Controls(Controls {
                lines: 3,
                status: 4
            }),
            Event::Data(b"hello\r\n".to_vec())
        ]
    );
}

#[test]
fn long_text_goes_in_pieces_of_a_thousand() {
    let mut bench = Bench::started();
    bench.console.write(bench.now, &[b'x'; 2500]);
    let lengths: Vec<usize> = std::iter::from_fn(|| bench.console.poll_transmit())
        .map(|bytes| bytes.len())
        .collect();
    assert_eq!(lengths, [1010, 1010, 510]);
}

#[test]
fn one_byte_at_a_time_is_the_same_as_all_at_once() {
    let script = [
        &REPLY[..],
        b"\x29\0\0\0\x01\0\0\0\x03\x04",
        b"\x2a\0\0\0\x02\0\0\0\x02\0ok",
        b"\x24\0\0\0\x03\0\0\0",
        b"\x23\0\0\0\x04\0\0\0",
    ]
    .concat();
    let mut coalesced = Bench::new();
    coalesced.feed(&script);
    let mut bytewise = Bench::new();
    for byte in &script {
        bytewise.feed(&[*byte]);
    }
    assert_eq!(coalesced.events(), bytewise.events());
    assert_eq!(coalesced.sent(), bytewise.sent());
}

#[test]
fn sends_a_heartbeat_when_idle_and_answers_those_of_the_firmware() {
    let mut bench = Bench::started();
    let started = bench.now;
    bench.tick().unwrap();
    assert_eq!(bench.now - started, Duration::from_secs(2));
    assert_eq!(bench.sent(), b"\x2b\0\0\0\x01\0\0\0");
    bench.feed(b"\x2b\0\0\0\x05\0\0\0");
    assert_eq!(bench.sent(), b"\x2b\0\0\0\x02\0\0\0");
    // A firmware that answers answers does not set off an avalanche.
    bench.feed(b"\x2b\0\0\0\x06\0\0\0");
    assert_eq!(bench.sent(), b"");
    bench.feed(b"\x24\0\0\0\x07\0\0\0");
    assert_eq!(bench.sent(), b"\x25\0\0\0\x03\0\0\0");
}

#[test]
fn three_heartbeats_of_silence_end_the_session() {
    let mut bench = Bench::started();
    let heard = bench.now;
    let error = loop {
        if let Err(error) = bench.tick() {
            break error;
        }
        assert!(bench.now - heard < Duration::from_secs(15));
    };
    assert_eq!(error, Error::Silence(Duration::from_secs(15)));
}

#[test]
fn a_lost_start_reply_times_out() {
    let mut bench = Bench::new();
    assert_eq!(bench.tick(), Err(Error::Timeout));
    assert!(bench.console.is_over());
}

#[test]
fn closes_in_order_and_without_an_answer() {
    let closing = || {
        let mut bench = Bench::started();
        bench.console.close(bench.now);
        assert_eq!(bench.sent(), b"\x22\0\0\0\x01\0\0\0");
        bench
    };
    let mut bench = closing();
    bench.feed(b"\x2a\0\0\0\x02\0\0\0\x02\0ok\x23\0\0\0\x04\0\0\0");
    assert_eq!(bench.events(), [Event::Data(b"ok".to_vec()), Event::Closed]);
    assert_eq!(bench.sent(), b"\x12\0\0\0");
    let mut bench = closing();
    bench.tick().unwrap();
    assert_eq!(bench.events(), [Event::Closed]);
    assert_eq!(bench.sent(), b"\x12\0\0\0");
    let mut bench = Bench::started();
    bench.feed(b"\x23\0\0\0\x04\0\0\0");
    assert_eq!(bench.events(), [Event::Closed]);
    assert_eq!(bench.sent(), b"", "the firmware has ended it");
}

#[test]
fn nonsense_ends_the_session_with_its_reason() {
    let mut refused = REPLY;
    refused[1] = 3;
    assert_eq!(Bench::new().fails_on(&refused), Error::Refused(3));
    assert_eq!(Bench::started().fails_on(&REPLY), Error::OutOfTurn);
    let early = b"\x2a\0\0\0\x02\0\0\0\x02\0ok";
    assert_eq!(Bench::new().fails_on(early), Error::OutOfTurn);
    let unknown = Error::Decode(DecodeError::UnknownId(0x41));
    assert_eq!(Bench::started().fails_on(&[0x41]), unknown);
    let flood = b"\x24\0\0\0\x03\0\0\0".repeat(2000);
    assert_eq!(Bench::started().fails_on(&flood), Error::Flood);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20)) {
        let mut bench = Bench::started();
        for chunk in chunks {
            let _ = bench.console.handle_input(bench.now, &chunk);
            bench.sent();
            bench.events();
            if let Some(due) = bench.console.poll_timeout() {
                prop_assert!(due > bench.now);
            }
        }
    }
}
