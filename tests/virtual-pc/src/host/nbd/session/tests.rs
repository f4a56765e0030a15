//! Golden bytes of doc/proto.md, one field per line. When one fails, the code is wrong.

use super::*;
use proptest::prelude::*;

const CD: Export = Export {
    size: 0x10_0000,
    block_size: 2048,
    writable: false,
};
const FLOPPY: Export = Export {
    size: 1_474_560,
    block_size: 512,
    writable: true,
};

/// C: client flags.
const FLAGS: &[u8] = b"\0\0\0\x03";

/// C: NBD_OPT_GO for the default export, no information requests.
const GO: &[u8] = &[
    b'I', b'H', b'A', b'V', b'E', b'O', b'P', b'T', // magic
    0, 0, 0, 7, // option
    0, 0, 0, 6, // length
    0, 0, 0, 0, // name length
    0, 0, // information requests
];

/// A session past the handshake.
fn transmitting(export: Export) -> Session {
    let mut session = Session::new(Some(export));
    session.push(FLAGS);
    session.push(GO);
    assert!(matches!(session.step(), Ok(Action::Send(_))));
    assert!(matches!(session.step(), Ok(Action::Send(_))));
    assert_eq!(session.step(), Ok(Action::Read));
    session
}

fn request(kind: u8, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = vec![
        0x25, 0x60, 0x95, 0x13, // magic
        0, 0, // flags
        0, kind, // type
        1, 2, 3, 4, 5, 6, 7, 8, // cookie
    ];
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

const COOKIE: u64 = 0x0102_0304_0506_0708;

#[test]
fn the_server_speaks_first() {
    let mut session = Session::new(Some(CD));
    let greeting = [
        b'N', b'B', b'D', b'M', b'A', b'G', b'I', b'C', // magic
        b'I', b'H', b'A', b'V', b'E', b'O', b'P', b'T', // magic of newstyle
        0, 3, // fixed newstyle, no zeroes
    ];
    assert_eq!(session.step(), Ok(Action::Send(greeting.to_vec())));
    assert_eq!(session.step(), Ok(Action::Read));
}

#[test]
fn go_answers_size_and_block_sizes_then_starts() {
    let mut session = Session::new(Some(CD));
    session.step().unwrap();
    session.push(FLAGS);
    session.push(GO);
    let answer = [
        0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9, // magic
        0, 0, 0, 7, // option
        0, 0, 0, 3, // NBD_REP_INFO
        0, 0, 0, 12, // length
        0, 0, // NBD_INFO_EXPORT
        0, 0, 0, 0, 0, 0x10, 0, 0, // size
        0, 3, // has flags, read only
        0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9, // magic
        0, 0, 0, 7, // option
        0, 0, 0, 3, // NBD_REP_INFO
        0, 0, 0, 14, // length
        0, 3, // NBD_INFO_BLOCK_SIZE
        0, 0, 8, 0, // minimum
        0, 0, 0x10, 0, // preferred
        0, 0x10, 0, 0, // maximum
        0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9, // magic
        0, 0, 0, 7, // option
        0, 0, 0, 1, // NBD_REP_ACK
        0, 0, 0, 0, // length
    ];
    assert_eq!(session.step(), Ok(Action::Send(answer.to_vec())));
    session.push(&request(0, 0, 2048));
    assert!(matches!(session.step(), Ok(Action::Execute { .. })));
}

#[test]
fn export_name_answers_without_ceremony() {
    let mut session = Session::new(Some(FLOPPY));
    session.step().unwrap();
    session.push(FLAGS);
    session.push(b"IHAVEOPT\0\0\0\x01\0\0\0\x05drive");
    let answer = [
        0, 0, 0, 0, 0, 0x16, 0x80, 0, // size
        0, 5, // has flags, flush
    ];
    assert_eq!(session.step(), Ok(Action::Send(answer.to_vec())));
}

#[test]
fn export_name_pads_for_clients_that_want_it() {
    let mut session = Session::new(Some(FLOPPY));
    session.step().unwrap();
    session.push(b"\0\0\0\x01");
    session.push(b"IHAVEOPT\0\0\0\x01\0\0\0\0");
    let Ok(Action::Send(answer)) = session.step() else {
        panic!("no answer");
    };
    assert_eq!(answer.len(), 8 + 2 + 124);
    assert!(answer[10..].iter().all(|byte| *byte == 0));
}

#[test]
fn list_names_the_export_and_abort_ends() {
    let mut session = Session::new(Some(CD));
    session.step().unwrap();
    session.push(FLAGS);
    session.push(b"IHAVEOPT\0\0\0\x03\0\0\0\0IHAVEOPT\0\0\0\x02\0\0\0\0");
    let list = [
        0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9, // magic
        0, 0, 0, 3, // option
        0, 0, 0, 2, // NBD_REP_SERVER
        0, 0, 0, 9, // length
        0, 0, 0, 5, // name length
        b'd', b'r', b'i', b'v', b'e', // name
        0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9, // magic
        0, 0, 0, 3, // option
        0, 0, 0, 1, // NBD_REP_ACK
        0, 0, 0, 0, // length
    ];
    assert_eq!(session.step(), Ok(Action::Send(list.to_vec())));
    let abort = [
        0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9, // magic
        0, 0, 0, 2, // option
        0, 0, 0, 1, // NBD_REP_ACK
        0, 0, 0, 0, // length
    ];
    assert_eq!(session.step(), Ok(Action::Send(abort.to_vec())));
    assert_eq!(session.step(), Ok(Action::Close));
}

/// The type of the last option reply to `option`.
fn option_answer(export: Option<Export>, option: &[u8]) -> Result<u32, SessionError> {
    let mut session = Session::new(export);
    session.step().unwrap();
    session.push(FLAGS);
    session.push(option);
    loop {
        match session.step()? {
            Action::Send(bytes) => {
                let last = &bytes[bytes.len() - 20..];
                return Ok(u32::from_be_bytes(*last[12..].first_chunk().unwrap()));
            }
            Action::Read => session.push(&[0; 4096]),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_not_understood_is_refused_and_the_connection_goes_on() {
    let structured_reply = b"IHAVEOPT\0\0\0\x08\0\0\0\0";
    assert_eq!(option_answer(Some(CD), structured_reply), Ok(REP_ERR_UNSUP));
    let list_with_data = b"IHAVEOPT\0\0\0\x03\0\0\0\x01x";
    assert_eq!(option_answer(Some(CD), list_with_data), Ok(REP_ERR_INVALID));
    let other_export = b"IHAVEOPT\0\0\0\x07\0\0\0\x07\0\0\0\x01x\0\0";
    assert_eq!(option_answer(Some(CD), other_export), Ok(REP_ERR_UNKNOWN));
    let name_too_long = b"IHAVEOPT\0\0\0\x07\0\0\0\x07\0\0\0\x09x\0\0";
    assert_eq!(option_answer(Some(CD), name_too_long), Ok(REP_ERR_INVALID));
    let requests_missing = b"IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\x02";
    assert_eq!(
        option_answer(Some(CD), requests_missing),
        Ok(REP_ERR_INVALID)
    );
    let empty = b"IHAVEOPT\0\0\0\x07\0\0\0\0";
    assert_eq!(option_answer(Some(CD), empty), Ok(REP_ERR_INVALID));
    let endless = b"IHAVEOPT\0\0\0\x07\0\x01\0\0";
    assert_eq!(option_answer(Some(CD), endless), Ok(REP_ERR_TOO_BIG));
}

#[test]
fn without_a_medium_there_is_no_export() {
    assert_eq!(option_answer(None, GO), Ok(REP_ERR_UNKNOWN));
    let by_name = b"IHAVEOPT\0\0\0\x01\0\0\0\0";
    assert_eq!(
        option_answer(None, by_name),
        Err(SessionError::UnknownExport)
    );
}

#[test]
fn requests_are_executed_in_order_and_answered_by_cookie() {
    let mut session = transmitting(FLOPPY);
    let mut bytes = request(0, 1024, 512);
    bytes.extend(request(1, 512, 512));
    bytes.extend([7; 512]);
    bytes.extend(request(3, 0, 0));
    bytes.extend(request(2, 0, 0));
    session.push(&bytes);
    let execute = |operation| {
        Ok(Action::Execute {
            cookie: COOKIE,
            operation,
        })
    };
    assert_eq!(
        session.step(),
        execute(Operation::Read {
            offset: 1024,
            length: 512
        })
    );
    assert_eq!(
        session.step(),
        execute(Operation::Write {
            offset: 512,
            data: vec![7; 512]
        })
    );
    assert_eq!(session.step(), execute(Operation::Flush));
    assert_eq!(session.step(), Ok(Action::Close));
}

#[test]
fn replies_carry_data_or_an_error() {
    let data = [
        0x67, 0x44, 0x66, 0x98, // magic
        0, 0, 0, 0, // error
        1, 2, 3, 4, 5, 6, 7, 8, // cookie
        0xaa, 0xbb, // data
    ];
    assert_eq!(reply(COOKIE, Ok(vec![0xaa, 0xbb])), data);
    let error = [
        0x67, 0x44, 0x66, 0x98, // magic
        0, 0, 0, 5, // EIO
        1, 2, 3, 4, 5, 6, 7, 8, // cookie
    ];
    assert_eq!(reply(COOKIE, Err(Failure::InputOutput)), error);
}

#[test]
fn requests_outside_the_medium_never_reach_the_drive() {
    let cases = [
        (CD, request(0, CD.size, 2048), Failure::Invalid),
        (CD, request(0, CD.size - 2048, 4096), Failure::Invalid),
        (CD, request(0, u64::MAX - 2047, 2048), Failure::Invalid),
        (CD, request(0, 512, 2048), Failure::Invalid),
        (CD, request(0, 0, 512), Failure::Invalid),
        (CD, request(0, 0, 0), Failure::Invalid),
        (CD, request(0, 0, u32::MAX), Failure::TooLong),
        (CD, request(1, 0, 0), Failure::NotPermitted),
        (CD, request(4, 0, 2048), Failure::Invalid),
        (FLOPPY, request(1, FLOPPY.size, 0), Failure::Invalid),
    ];
    for (export, bytes, failure) in cases {
        let mut session = transmitting(export);
        session.push(&bytes);
        let refused = Action::Send(reply(COOKIE, Err(failure)));
        assert_eq!(session.step(), Ok(refused), "{bytes:02x?}");
        assert_eq!(session.step(), Ok(Action::Read));
    }
    let mut session = transmitting(FLOPPY);
    let mut beyond = request(1, FLOPPY.size, 512);
    beyond.extend([0; 512]);
    session.push(&beyond);
    assert_eq!(
        session.step(),
        Ok(Action::Send(reply(COOKIE, Err(Failure::NoSpace))))
    );
}

#[test]
fn the_last_block_is_inside() {
    let mut session = transmitting(CD);
    session.push(&request(0, CD.size - 2048, 2048));
    assert!(matches!(session.step(), Ok(Action::Execute { .. })));
}

#[test]
fn what_is_no_nbd_ends_the_connection() {
    let mut session = Session::new(Some(CD));
    session.step().unwrap();
    session.push(b"GET ");
    assert_eq!(session.step(), Err(SessionError::ClientFlags(0x4745_5420)));

    let mut session = Session::new(Some(CD));
    session.step().unwrap();
    session.push(FLAGS);
    session.push(b"NOOPTION\0\0\0\0\0\0\0\0");
    assert_eq!(session.step(), Err(SessionError::OptionMagic(*b"NOOPTION")));

    let mut session = transmitting(CD);
    session.push(&[0; 28]);
    assert_eq!(session.step(), Err(SessionError::RequestMagic(0)));

    let mut session = transmitting(FLOPPY);
    session.push(&request(1, 0, u32::MAX));
    assert_eq!(session.step(), Err(SessionError::WriteTooLong(u32::MAX)));
}

/// Everything a session wants to do with `bytes`, delivered in pieces of `piece`.
fn run(export: Export, bytes: &[u8], piece: usize) -> (Vec<String>, Option<SessionError>) {
    let mut session = Session::new(Some(export));
    let mut pieces = bytes.chunks(piece.max(1));
    let mut actions = Vec::new();
    loop {
        match session.step() {
            Ok(Action::Read) => match pieces.next() {
                Some(piece) => session.push(piece),
                None => return (actions, None),
            },
            Ok(Action::Close) => return (actions, None),
            Ok(action) => actions.push(format!("{action:?}")),
            Err(error) => return (actions, Some(error)),
        }
    }
}

fn conversation() -> Vec<u8> {
    let mut bytes = FLAGS.to_vec();
    bytes.extend(b"IHAVEOPT\0\0\0\x03\0\0\0\0");
    bytes.extend(GO);
    bytes.extend(request(0, 1024, 512));
    bytes.extend(request(1, 512, 512));
    bytes.extend([7; 512]);
    bytes.extend(request(3, 0, 0));
    bytes.extend(request(2, 0, 0));
    bytes
}

#[test]
fn delivery_in_any_pieces_means_the_same() {
    let bytes = conversation();
    let whole = run(FLOPPY, &bytes, bytes.len());
    assert_eq!(whole.0.len(), 6);
    for piece in [1, 2, 3, 7, 28, 100] {
        assert_eq!(run(FLOPPY, &bytes, piece), whole, "pieces of {piece}");
    }
}

#[test]
fn a_conversation_cut_anywhere_waits_for_more() {
    let bytes = conversation();
    let whole = run(FLOPPY, &bytes, bytes.len()).0;
    for length in 0..bytes.len() {
        let (actions, error) = run(FLOPPY, &bytes[..length], 4096);
        assert_eq!(error, None, "cut at {length}");
        assert!(whole.starts_with(&actions), "cut at {length}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), piece in 1usize..64) {
        run(FLOPPY, &bytes, piece);
        let mut handshake = FLAGS.to_vec();
        handshake.extend(GO);
        handshake.extend(bytes);
        run(CD, &handshake, piece);
    }

    #[test]
    fn every_executed_range_is_inside(offset in any::<u64>(), length in any::<u32>()) {
        let mut session = transmitting(CD);
        session.push(&request(0, offset, length));
        if let Action::Execute { operation: Operation::Read { offset, length }, .. } = session.step().unwrap() {
            prop_assert!(offset + length as u64 <= CD.size);
        }
    }
}
