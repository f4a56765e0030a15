//! Bytes of serial over LAN, by hand from section 6 of the reference. When this fails, the code is wrong.

use proptest::prelude::*;

use super::*;
use crate::golden::golden;

/// As MeshCommander sends it.
#[rustfmt::skip]
const START_MESHCOMMANDER: &[u8] = &[
    0x20, 0x00, 0x00, 0x00, // StartSOL
    0x01, 0x00, 0x00, 0x00, // sequence
    0x10, 0x27,             // MaxTxBuffer: 10,000
    0x64, 0x00,             // TxTimeout: 100 ms
    0x00, 0x00,             // TxOverflowTimeout: none
    0x10, 0x27,             // RxTimeout: 10 s
    0x64, 0x00,             // RxFlushTimeout: 100 ms
    0x00, 0x00,             // Heartbeat: none
    0x00, 0x00, 0x00, 0x00,
];

/// As amtterm 1.4 sends it.
#[rustfmt::skip]
const START_AMTTERM: &[u8] = &[
    0x20, 0x00, 0x00, 0x00, // StartSOL
    0x00, 0x00, 0x00, 0x00, // sequence
    0xe8, 0x03,             // MaxTxBuffer: 1,000
    0x64, 0x00,             // TxTimeout: 100 ms
    0x00, 0x00,             // TxOverflowTimeout: none
    0x10, 0x27,             // RxTimeout: 10 s
    0x00, 0x00,             // RxFlushTimeout: none
    0x88, 0x13,             // Heartbeat: 5 s
    0x00, 0x00, 0x00, 0x00,
];

/// Accepted by both.
#[rustfmt::skip]
const REPLY: &[u8] = &[
    0x21,                   // StartSOLReply
    0x00,                   // status
    0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, // sequence
    0x01, 0x00, 0x0c, 0x00, // versions, presumably
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];

#[rustfmt::skip]
const CONTROLS_TO: &[u8] = &[
    0x27, 0x00, 0x00, 0x00, // ControlsToHost
    0x02, 0x00, 0x00, 0x00, // sequence
    0x00, 0x00, 0x1b, 0x00, 0x00, 0x00,
];

#[rustfmt::skip]
const KEYS: &[u8] = &[
    0x28, 0x00, 0x00, 0x00, // DataToHost
    0x03, 0x00, 0x00, 0x00, // sequence
    0x03, 0x00,             // length
    0x6c, 0x73, 0x0d,       // "ls\r"
];

#[rustfmt::skip]
const CONTROLS_FROM: &[u8] = &[
    0x29, 0x00, 0x00, 0x00, // ControlsFromHost
    0x01, 0x00, 0x00, 0x00, // sequence
    0x03,                   // RTS, DTR
    0x04,                   // system powered on
];

#[rustfmt::skip]
const HELLO: &[u8] = &[
    0x2a, 0x00, 0x00, 0x00, // DataFromHost
    0x02, 0x00, 0x00, 0x00, // sequence
    0x07, 0x00,             // length
    0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x0d, 0x0a,
];

const fn bare(id: u8) -> [u8; 8] {
    [id, 0, 0, 0, 0x05, 0, 0, 0]
}

#[test]
fn console_messages_are_the_hand_written_bytes() {
    let framed = |sequence, message| Frame { sequence, message };
    let settings = Settings {
        max_tx_buffer: 10_000,
        tx_timeout: 100,
        tx_overflow_timeout: 0,
        rx_timeout: 10_000,
        rx_flush_timeout: 100,
        heartbeat: 0,
    };
    golden!(
        ConsoleMessage::decode,
        framed(1, ConsoleMessage::Start(settings)),
        START_MESHCOMMANDER
    );
    let settings = Settings {
        max_tx_buffer: 1000,
        rx_flush_timeout: 0,
        heartbeat: 5000,
        ..settings
    };
    golden!(
        ConsoleMessage::decode,
        framed(0, ConsoleMessage::Start(settings)),
        START_AMTTERM
    );
    golden!(
        ConsoleMessage::decode,
        framed(5, ConsoleMessage::End),
        &bare(0x22)
    );
    golden!(
        ConsoleMessage::decode,
        framed(5, ConsoleMessage::Ping),
        &bare(0x24)
    );
    golden!(
        ConsoleMessage::decode,
        framed(5, ConsoleMessage::Pong),
        &bare(0x25)
    );
    let controls = ConsoleMessage::Controls([0, 0, 0x1b, 0, 0, 0]);
    golden!(ConsoleMessage::decode, framed(2, controls), CONTROLS_TO);
    let keys = ConsoleMessage::Data(Payload::new(b"ls\r").unwrap());
    golden!(ConsoleMessage::decode, framed(3, keys), KEYS);
    golden!(
        ConsoleMessage::decode,
        framed(5, ConsoleMessage::Heartbeat),
        &bare(0x2b)
    );
}

#[test]
fn firmware_messages_are_the_hand_written_bytes() {
    let framed = |sequence, message| Frame { sequence, message };
    let reply = StartReply {
        status: 0,
        rest: [1, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    };
    golden!(
        FirmwareMessage::decode,
        framed(0, FirmwareMessage::StartReply(reply)),
        REPLY
    );
    golden!(
        FirmwareMessage::decode,
        framed(5, FirmwareMessage::EndReply),
        &bare(0x23)
    );
    golden!(
        FirmwareMessage::decode,
        framed(5, FirmwareMessage::Ping),
        &bare(0x24)
    );
    golden!(
        FirmwareMessage::decode,
        framed(5, FirmwareMessage::Pong),
        &bare(0x25)
    );
    let controls = Controls {
        lines: 3,
        status: 4,
    };
    assert!(controls.powered_on());
    golden!(
        FirmwareMessage::decode,
        framed(1, FirmwareMessage::Controls(controls)),
        CONTROLS_FROM
    );
    let hello = FirmwareMessage::Data(Payload::new(b"hello\r\n").unwrap());
    golden!(FirmwareMessage::decode, framed(2, hello), HELLO);
    golden!(
        FirmwareMessage::decode,
        framed(5, FirmwareMessage::Heartbeat),
        &bare(0x2b)
    );
}

#[test]
fn unknown_ids_are_errors_in_both_directions() {
    for id in 0..=u8::MAX {
        let console = matches!(id, 0x20 | 0x22 | 0x24 | 0x25 | 0x27 | 0x28 | 0x2b);
        let firmware = matches!(id, 0x21 | 0x23 | 0x24 | 0x25 | 0x29 | 0x2a | 0x2b);
        assert_eq!(ConsoleMessage::decode(&[id]).is_ok(), console, "{id:02x}");
        assert_eq!(FirmwareMessage::decode(&[id]).is_ok(), firmware, "{id:02x}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_lengths_stay_inside(bytes in proptest::collection::vec(any::<u8>(), 0..300), id in 0x20u8..0x2c) {
        let bytes = [&[id][..], &bytes].concat();
        if let Ok(Decoded::Message { length, .. }) = ConsoleMessage::decode(&bytes) {
            prop_assert!(length > 0 && length <= bytes.len());
        }
        if let Ok(Decoded::Message { length, .. }) = FirmwareMessage::decode(&bytes) {
            prop_assert!(length > 0 && length <= bytes.len());
        }
    }
}
