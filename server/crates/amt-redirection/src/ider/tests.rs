//! Bytes of IDE-R, by hand from section 3 of the reference. When this fails, the code is wrong.

use proptest::prelude::*;

use super::*;
use crate::golden::golden;
use crate::wire::{Decoded, Field, Payload};

#[rustfmt::skip]
const OPEN: &[u8] = &[
    0x40, 0x00, 0x00, 0x00, // OpenSession
    0x00, 0x00, 0x00, 0x00, // sequence
    0x30, 0x75,             // rx_timeout: 30 s
    0x00, 0x00,             // tx_timeout
    0x20, 0x4e,             // heartbeat: 20 s
    0x01, 0x00, 0x00, 0x00, // version
];

#[rustfmt::skip]
const OPEN_REPLY: &[u8] = &[
    0x41,                   // OpenSessionReply
    0x00,                   // status
    0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, // sequence
    0x01, 0x00,             // version
    0x0c, 0x00,             // firmware version
    0x00, 0x00, 0x00, 0x00, // unknown
    0x00, 0x20,             // read buffer: 8,192
    0x00, 0x20,             // write buffer: 8,192
    0x00,                   // unknown
    0x00,                   // protocol
    0x00, 0x00, 0x00,       // unknown
    0x57, 0x01, 0x00, 0x00, // OEM: 343
    0x00,                   // length of OEM data
];

#[rustfmt::skip]
const OPEN_REPLY_WITH_OEM_DATA: &[u8] = &[
    0x41,                   // OpenSessionReply
    0x05,                   // status
    0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, // sequence
    0x01, 0x02,             // version
    0x10, 0x01,             // firmware version
    0x00, 0x00, 0x00, 0x00, // unknown
    0x00, 0x02,             // read buffer: 512
    0x00, 0x10,             // write buffer: 4,096
    0x00,                   // unknown
    0x07,                   // protocol
    0x00, 0x00, 0x00,       // unknown
    0x57, 0x01, 0x00, 0x00, // OEM: 343
    0x02,                   // length of OEM data
    0xca, 0xfe,             // OEM data
];

#[rustfmt::skip]
const SET_REGISTER_STATE_NOW: &[u8] = &[
    0x48, 0x00, 0x00, 0x00, // DisableEnableFeatures
    0x01, 0x00, 0x00, 0x00, // sequence
    0x03,                   // SetRegisterState
    0x19, 0x00, 0x00, 0x00, // enable, now
];

#[rustfmt::skip]
const SET_REGISTER_STATE_DONE: &[u8] = &[
    0x49, 0x00, 0x00, 0x00, // DisableEnableFeaturesReply
    0x01, 0x00, 0x00, 0x00, // sequence
    0x03,                   // SetRegisterState
    0x01, 0x00, 0x00, 0x00, // done
];

#[rustfmt::skip]
const RESET: &[u8] = &[
    0x46, 0x00, 0x00, 0x00, // ResetOccurred
    0x05, 0x00, 0x00, 0x00, // sequence
    0x03,                   // mask
];

#[rustfmt::skip]
const ERROR: &[u8] = &[
    0x4a, 0x00, 0x00, 0x00, // ErrorOccurred
    0x05, 0x00, 0x00, 0x00, // sequence
    0x02,                   // code
    0x00, 0x00,
];

/// READ(10) of block 16 of the CD, by DMA.
#[rustfmt::skip]
const COMMAND: &[u8] = &[
    0x50, 0x00, 0x00, 0x00, // CommandWritten
    0x02, 0x00, 0x00, 0x00, // sequence
    0x00,                   // channel
    0x01,                   // feature: DMA
    0x00,                   // sector count
    0x00,                   // sector number
    0xfe, 0xff,             // byte count limit
    0xb0,                   // Device/Head: CD
    0xa0,                   // PACKET
    0x28,                   // READ(10)
    0x00,
    0x00, 0x00, 0x00, 0x10, // block
    0x00,
    0x00, 0x01,             // blocks
    0x00, 0x00, 0x00,
];

/// READ CAPACITY(16) of the floppy, with a CDB that an ATAPI packet could not hold.
#[rustfmt::skip]
const COMMAND_SIXTEEN: &[u8] = &[
    0x50, 0x00, 0x00, 0x00, // CommandWritten
    0x02, 0x00, 0x00, 0x00, // sequence
    0x00,                   // channel
    0x00,                   // feature: PIO
    0x00,                   // sector count
    0x00,                   // sector number
    0xfe, 0xff,             // byte count limit
    0xa0,                   // Device/Head: floppy
    0xa0,                   // PACKET
    0x9e, 0x10,             // READ CAPACITY(16)
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x20, // allocation length
    0x00, 0x00,
];

#[rustfmt::skip]
const SUCCESS: &[u8] = &[
    0x51, 0x00, 0x00, 0x02, // CommandEndResponse, last
    0x03, 0x00, 0x00, 0x00, // sequence
    0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // input registers
    0xc5,                   // output mask
    0x00,                   // error
    0x03,                   // interrupt reason
    0x00,                   // sector number
    0x00, 0x00,             // byte count
    0xb0,                   // CD
    0x50,                   // status
    0x00, 0x00, 0x00,       // sense
];

#[rustfmt::skip]
const INVALID_OPCODE: &[u8] = &[
    0x51, 0x00, 0x00, 0x02, // CommandEndResponse, last
    0x03, 0x00, 0x00, 0x00, // sequence
    0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // input registers
    0x87,                   // output mask
    0x50,                   // error: sense key 5
    0x03,                   // interrupt reason
    0x00,                   // sector number
    0x00, 0x00,             // byte count
    0xb0,                   // CD
    0x51,                   // status: error
    0x05, 0x20, 0x00,       // sense: invalid operation code
];

#[rustfmt::skip]
const GET_512: &[u8] = &[
    0x52, 0x00, 0x00, 0x00, // GetDataFromHost
    0x04, 0x00, 0x00, 0x00, // sequence
    0x00,
    0x00, 0x02,             // length: 512
    0x00,
    0xb5,                   // input mask
    0x00,                   // error
    0x00,                   // interrupt reason
    0x00,                   // sector number
    0x00, 0x02,             // byte count
    0xb0,                   // device
    0x58,                   // status
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];

#[rustfmt::skip]
const FROM_HOST: &[u8] = &[
    0x53, 0x00, 0x00, 0x00, // DataFromHost
    0x06, 0x00, 0x00, 0x00, // sequence
    0x00,
    0x05, 0x00,             // length
    0x00, 0x00, 0x00,       // unknown
    0x68, 0x65, 0x6c, 0x6c, 0x6f,
];

/// READ CAPACITY of a CD of 64 blocks.
#[rustfmt::skip]
const CAPACITY: &[u8] = &[
    0x54, 0x00, 0x00, 0x02, // DataToHost, last
    0x05, 0x00, 0x00, 0x00, // sequence
    0x00,
    0x08, 0x00,             // length
    0x00,
    0xb5,                   // input mask
    0x00,                   // error
    0x02,                   // interrupt reason: towards the host
    0x00,                   // sector number
    0x08, 0x00,             // byte count
    0xb0,                   // CD
    0x58,                   // status: data
    0x85,                   // output mask
    0x00,                   // error
    0x03,                   // interrupt reason
    0x00,                   // sector number
    0x00, 0x00,             // byte count
    0xb0,                   // CD
    0x50,                   // status: done
    0x00, 0x00, 0x00,       // sense
    0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x3f, // last block
    0x00, 0x00, 0x08, 0x00, // block length
];

/// Before the data of a piece of 4,096 bytes that is not the last, PIO.
#[rustfmt::skip]
const PIECE: [u8; 34] = [
    0x54, 0x00, 0x00, 0x00, // DataToHost
    0x05, 0x00, 0x00, 0x00, // sequence
    0x00,
    0x00, 0x10,             // length: 4,096
    0x00,
    0xb5,                   // input mask
    0x00,                   // error
    0x02,                   // interrupt reason
    0x00,                   // sector number
    0x00, 0x10,             // byte count
    0xb0,                   // CD
    0x58,                   // status
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // output registers
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];

/// The same by DMA, from the floppy.
#[rustfmt::skip]
const PIECE_DMA: [u8; 34] = [
    0x54, 0x00, 0x00, 0x01, // DataToHost, DMA
    0x05, 0x00, 0x00, 0x00, // sequence
    0x00,
    0x00, 0x10,             // length: 4,096
    0x00,
    0xb4,                   // input mask, without interrupt
    0x00,                   // error
    0x02,                   // interrupt reason
    0x00,                   // sector number
    0x00, 0x00,             // byte count
    0xa0,                   // floppy
    0x58,                   // status
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // output registers
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];

const fn bare(id: u8) -> [u8; 8] {
    [id, 0, 0, 0, 0x05, 0, 0, 0]
}

const fn numbered<M>(sequence: u32, message: M) -> Frame<M> {
    Frame {
        header: Header::numbered(sequence),
        message,
    }
}

const fn last<M>(sequence: u32, message: M) -> Frame<M> {
    Frame {
        header: Header {
            attributes: Attributes(Attributes::LAST),
            sequence,
        },
        message,
    }
}

fn decode_twelve(
    bytes: &[u8],
) -> Result<Decoded<Frame<FirmwareMessage<'_>>>, crate::wire::DecodeError> {
    FirmwareMessage::decode(bytes, CommandForm::Twelve)
}

fn decode_sixteen(
    bytes: &[u8],
) -> Result<Decoded<Frame<FirmwareMessage<'_>>>, crate::wire::DecodeError> {
    FirmwareMessage::decode(bytes, CommandForm::Sixteen)
}

#[test]
fn console_messages_are_the_hand_written_bytes() {
    let open = OpenSession {
        rx_timeout: 30_000,
        tx_timeout: 0,
        heartbeat: 20_000,
        version: 1,
    };
    golden!(
        ConsoleMessage::decode,
        numbered(0, ConsoleMessage::OpenSession(open)),
        OPEN
    );
    let features = |request| numbered(1, ConsoleMessage::Features(request));
    let now = FeatureRequest::SetRegisterState(StartMode::Now.enable());
    golden!(
        ConsoleMessage::decode,
        features(now),
        SET_REGISTER_STATE_NOW
    );
    golden!(
        ConsoleMessage::decode,
        numbered(5, ConsoleMessage::Close),
        &bare(0x42)
    );
    golden!(
        ConsoleMessage::decode,
        numbered(5, ConsoleMessage::Ping),
        &bare(0x44)
    );
    golden!(
        ConsoleMessage::decode,
        numbered(5, ConsoleMessage::Pong),
        &bare(0x45)
    );
    golden!(
        ConsoleMessage::decode,
        numbered(5, ConsoleMessage::ResetResponse),
        &bare(0x47)
    );
    golden!(
        ConsoleMessage::decode,
        numbered(5, ConsoleMessage::Heartbeat),
        &bare(0x4b)
    );
    let supported = [0x48, 0, 0, 0, 1, 0, 0, 0, 1];
    golden!(
        ConsoleMessage::decode,
        features(FeatureRequest::SupportedFeatures),
        &supported
    );
    let state = [0x48, 0, 0, 0, 1, 0, 0, 0, 2];
    golden!(
        ConsoleMessage::decode,
        features(FeatureRequest::RegisterState),
        &state
    );
    let success = CommandEnd::success(DriveSelect::Cd, SuccessMask::WithDrive);
    golden!(
        ConsoleMessage::decode,
        last(3, ConsoleMessage::CommandEnd(success)),
        SUCCESS
    );
    let sense = Sense {
        key: 5,
        asc: 0x20,
        ascq: 0,
    };
    let check = CommandEnd::check(DriveSelect::Cd, sense);
    assert!(check.is_check() && !success.is_check());
    golden!(
        ConsoleMessage::decode,
        last(3, ConsoleMessage::CommandEnd(check)),
        INVALID_OPCODE
    );
    let get = GetData::new(DriveSelect::Cd, 512);
    golden!(
        ConsoleMessage::decode,
        numbered(4, ConsoleMessage::GetData(get)),
        GET_512
    );
    let capacity = ConsoleMessage::DataToHost {
        input: Registers {
            mask: 0xb5,
            error: 0,
            interrupt_reason: 2,
            sector_number: 0,
            byte_count: 8,
            drive_select: 0xb0,
            status: 0x58,
        },
        output: Registers {
            mask: 0x85,
            error: 0,
            interrupt_reason: 3,
            sector_number: 0,
            byte_count: 0,
            drive_select: 0xb0,
            status: 0x50,
        },
        data: Payload::new(&CAPACITY[34..]).unwrap(),
    };
    golden!(ConsoleMessage::decode, last(5, capacity), CAPACITY);
}

#[test]
fn firmware_messages_are_the_hand_written_bytes() {
    let reply = OpenReply {
        status: 0,
        version: (1, 0),
        firmware: (12, 0),
        read_buffer: 8192,
        write_buffer: 8192,
        protocol: 0,
        oem: 343,
        oem_data: Field::EMPTY,
    };
    golden!(
        decode_twelve,
        numbered(0, FirmwareMessage::OpenReply(reply)),
        OPEN_REPLY
    );
    let reply = OpenReply {
        status: 5,
        version: (1, 2),
        firmware: (16, 1),
        read_buffer: 512,
        write_buffer: 4096,
        protocol: 7,
        oem: 343,
        oem_data: Field::new(&[0xca, 0xfe]).unwrap(),
    };
    let mut message = numbered(0, FirmwareMessage::OpenReply(reply));
    golden!(decode_twelve, message, OPEN_REPLY_WITH_OEM_DATA);
    message = numbered(
        1,
        FirmwareMessage::FeaturesReply(FeatureReply::SetRegisterState(1)),
    );
    golden!(decode_twelve, message, SET_REGISTER_STATE_DONE);
    for (subcommand, reply) in [
        (1, FeatureReply::SupportedFeatures(0x0403_0201)),
        (2, FeatureReply::RegisterState(0x0403_0201)),
    ] {
        let bytes = [0x49, 0, 0, 0, 1, 0, 0, 0, subcommand, 1, 2, 3, 4];
        golden!(
            decode_twelve,
            numbered(1, FirmwareMessage::FeaturesReply(reply)),
            &bytes
        );
    }
    golden!(
        decode_twelve,
        numbered(5, FirmwareMessage::CloseReply),
        &bare(0x43)
    );
    golden!(
        decode_twelve,
        numbered(5, FirmwareMessage::Ping),
        &bare(0x44)
    );
    golden!(
        decode_twelve,
        numbered(5, FirmwareMessage::Pong),
        &bare(0x45)
    );
    golden!(
        decode_twelve,
        numbered(5, FirmwareMessage::ResetOccurred { mask: 3 }),
        RESET
    );
    golden!(
        decode_twelve,
        numbered(5, FirmwareMessage::ErrorOccurred { code: 2 }),
        ERROR
    );
    golden!(
        decode_twelve,
        numbered(5, FirmwareMessage::Heartbeat),
        &bare(0x4b)
    );
    let mut cdb = [0; 16];
    cdb[..10].copy_from_slice(&[0x28, 0, 0, 0, 0, 16, 0, 0, 1, 0]);
    let command = CommandWritten::packet(DriveSelect::Cd, true, cdb, CommandForm::Twelve);
    assert_eq!((command.drive(), command.dma()), (DriveSelect::Cd, true));
    golden!(
        decode_twelve,
        numbered(2, FirmwareMessage::Command(command)),
        COMMAND
    );
    let cdb = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0];
    let command = CommandWritten::packet(DriveSelect::Floppy, false, cdb, CommandForm::Sixteen);
    let message = numbered(2, FirmwareMessage::Command(command));
    golden!(decode_sixteen, message, COMMAND_SIXTEEN);
    let data = FirmwareMessage::DataFromHost(Payload::new(b"hello").unwrap());
    golden!(decode_twelve, numbered(6, data), FROM_HOST);
}

#[test]
fn data_headers_are_the_hand_written_bytes() {
    assert_eq!(
        data_to_host_header(5, DriveSelect::Cd, false, false, 4096),
        PIECE
    );
    assert_eq!(
        data_to_host_header(5, DriveSelect::Floppy, true, false, 4096),
        PIECE_DMA
    );
    assert_eq!(
        data_to_host_header(5, DriveSelect::Cd, false, true, 8),
        CAPACITY[..34]
    );
    let last_by_dma = data_to_host_header(5, DriveSelect::Cd, true, true, 8);
    assert_eq!(last_by_dma[3], 0x03);
    assert_eq!(last_by_dma[12], 0xb4);
    assert_eq!(last_by_dma[16..18], [0, 0]);
    assert_eq!(last_by_dma[20], 0x85);
}

#[test]
fn every_start_mode_has_its_bits() {
    for (mode, value) in [
        (StartMode::OnReboot, 0x09),
        (StartMode::Graceful, 0x11),
        (StartMode::Now, 0x19),
    ] {
        assert_eq!(mode.enable(), value);
        assert_eq!(StartMode::from_value(value), Some(mode));
        assert_eq!(StartMode::from_value(value & !1), Some(mode));
    }
    assert_eq!(StartMode::from_value(0), None);
    assert_eq!(StartMode::from_value(0x29), None);
}

#[test]
fn the_malformed_open_of_amtider_reads_as_all_zero() {
    let bytes = [
        0x40, 0x64, 0, 0x10, 0x27, 0x88, 0x13, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let Ok(Decoded::Message {
        message,
        length: 18,
    }) = ConsoleMessage::decode(&bytes)
    else {
        panic!("not decoded");
    };
    assert_eq!(
        message.message,
        ConsoleMessage::OpenSession(OpenSession {
            rx_timeout: 0,
            tx_timeout: 0,
            heartbeat: 0,
            version: 0,
        })
    );
}

#[test]
fn a_padded_feature_request_is_a_request_and_padding() {
    let bytes = [0x48, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0];
    let Ok(Decoded::Message { length: 9, .. }) = ConsoleMessage::decode(&bytes) else {
        panic!("not decoded");
    };
    golden!(
        ConsoleMessage::decode,
        numbered(0, ConsoleMessage::Padding),
        &bytes[9..]
    );
    assert!(ConsoleMessage::decode(&[0, 0, 1]).is_err());
}

#[test]
fn unknown_ids_and_subcommands_are_errors() {
    for first in 1..=u8::MAX {
        let console = matches!(
            first,
            0x40 | 0x42 | 0x44 | 0x45 | 0x47 | 0x48 | 0x4b | 0x51 | 0x52 | 0x54
        );
        let firmware = matches!(first, 0x41 | 0x43..=0x46 | 0x49..=0x4b | 0x50 | 0x53);
        assert_eq!(
            ConsoleMessage::decode(&[first]).is_ok(),
            console,
            "{first:02x}"
        );
        assert_eq!(decode_twelve(&[first]).is_ok(), firmware, "{first:02x}");
    }
    for subcommand in [0, 4, 0xff] {
        let error = crate::wire::DecodeError::UnknownSubcommand(subcommand);
        let request = [0x48, 0, 0, 0, 1, 0, 0, 0, subcommand, 0, 0, 0, 0];
        assert_eq!(ConsoleMessage::decode(&request), Err(error));
        let reply = [0x49, 0, 0, 0, 1, 0, 0, 0, subcommand, 0, 0, 0, 0];
        assert_eq!(decode_twelve(&reply), Err(error));
    }
}

mod form {
    use super::*;

    fn decided(bytes: &[u8], form: CommandForm) {
        let length = 16 + form.cdb_length();
        let expected = Decoded::Message {
            message: form,
            length,
        };
        assert_eq!(command_form(bytes, 3), expected, "{bytes:02x?}");
    }

    #[test]
    fn ordinary_commands_have_twelve_bytes_whatever_follows() {
        for cut in 0..COMMAND.len() {
            assert_eq!(
                command_form(&COMMAND[..cut], 3),
                Decoded::NeedMore,
                "cut at {cut}"
            );
        }
        decided(COMMAND, CommandForm::Twelve);
        decided(&[COMMAND, &[0xff; 4]].concat(), CommandForm::Twelve);
    }

    #[test]
    fn a_long_command_is_undecided_until_its_tail_is_there() {
        for cut in 0..COMMAND_SIXTEEN.len() {
            assert_eq!(
                command_form(&COMMAND_SIXTEEN[..cut], 3),
                Decoded::NeedMore,
                "cut at {cut}"
            );
        }
        decided(COMMAND_SIXTEEN, CommandForm::Sixteen);
    }

    #[test]
    fn a_header_with_the_next_number_means_that_there_is_no_tail() {
        let heartbeat = [0x4b, 0, 0, 0, 3, 0, 0, 0];
        let short = [&COMMAND_SIXTEEN[..28], &heartbeat].concat();
        for cut in 28..short.len() {
            assert_eq!(
                command_form(&short[..cut], 3),
                Decoded::NeedMore,
                "cut at {cut}"
            );
        }
        decided(&short, CommandForm::Twelve);
        let long = [COMMAND_SIXTEEN, &heartbeat].concat();
        decided(&long, CommandForm::Sixteen);
        let other_number = [&COMMAND_SIXTEEN[..28], &[0x4b, 0, 0, 0, 4, 0, 0, 0]].concat();
        decided(&other_number, CommandForm::Sixteen);
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_lengths_stay_inside(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        id in 0x40u8..0x55,
        sequence: u32,
    ) {
        let bytes = [&[id][..], &bytes].concat();
        let console = ConsoleMessage::decode(&bytes);
        if let Ok(Decoded::Message { message, length }) = console {
            prop_assert!(length > 0 && length <= bytes.len());
            // What is encoded reads back as the same.
            let mut encoded = Vec::new();
            message.encode(&mut encoded);
            prop_assert_eq!(ConsoleMessage::decode(&encoded), Ok(Decoded::Message { message, length }));
        }
        for form in [CommandForm::Twelve, CommandForm::Sixteen] {
            if let Ok(Decoded::Message { message, length }) = FirmwareMessage::decode(&bytes, form) {
                prop_assert!(length > 0 && length <= bytes.len());
                let mut encoded = Vec::new();
                message.encode(&mut encoded);
                prop_assert_eq!(FirmwareMessage::decode(&encoded, form), Ok(Decoded::Message { message, length }));
            }
        }
        let _ = command_form(&bytes, sequence);
    }
}
