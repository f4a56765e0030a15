//! Bytes of the session layer, by hand from sections 2.1 to 2.4 of the reference. When this fails, the code is
//! wrong.

use proptest::prelude::*;

use super::*;
use crate::auth::{DigestChallenge, DigestRequest, PasswordRequest, URI};
use crate::golden::golden;
use crate::wire::TooLong;

#[rustfmt::skip]
const START_SOL: &[u8] = &[
    0x10,                   // StartRedirectionSession
    0x00,                   // options
    0x00, 0x00,             // reserved
    b'S', b'O', b'L', b' ', // type
];

#[rustfmt::skip]
const START_IDER: &[u8] = &[
    0x10,                   // StartRedirectionSession
    0x00,                   // options
    0x00, 0x00,             // reserved
    b'I', b'D', b'E', b'R', // type
];

#[rustfmt::skip]
const START_KVM: &[u8] = &[
    0x10,                   // StartRedirectionSession
    0x01,                   // options: 1 for KVM in every console
    0x00, 0x00,             // reserved
    b'K', b'V', b'M', b'R', // type
];

/// Captured from AMT 11.8.
#[rustfmt::skip]
const STARTED: &[u8] = &[
    0x11,                   // StartRedirectionSessionReply
    0x00,                   // status: success
    0x00, 0x00,             // reserved
    0x01,                   // protocol, major
    0x00,                   // protocol, minor
    0x0b,                   // firmware, major
    0x08,                   // firmware, minor
    0x57, 0x01, 0x00, 0x00, // OEM: 343
    0x00,                   // length of OEM data
];

#[rustfmt::skip]
const STARTED_WITH_OEM_DATA: &[u8] = &[
    0x11,                   // StartRedirectionSessionReply
    0x00,                   // status: success
    0x00, 0x00,             // reserved
    0x01,                   // protocol, major
    0x00,                   // protocol, minor
    0x0c,                   // firmware, major
    0x00,                   // firmware, minor
    0x57, 0x01, 0x00, 0x00, // OEM: 343
    0x03,                   // length of OEM data
    0x61, 0x62, 0x63,       // OEM data
];

#[rustfmt::skip]
const BUSY: &[u8] = &[
    0x11,       // StartRedirectionSessionReply
    0x02,       // status: busy
    0x00, 0x00, // reserved
];

#[rustfmt::skip]
const END_SESSION: &[u8] = &[
    0x12,             // EndRedirectionSession
    0x00, 0x00, 0x00, // reserved
];

#[rustfmt::skip]
const QUERY: &[u8] = &[
    0x13,                   // AuthenticateSession
    0x00, 0x00, 0x00,       // reserved
    0x00,                   // method: query
    0x00, 0x00, 0x00, 0x00, // length
];

/// Captured from AMT 12.
#[rustfmt::skip]
const QUERY_REPLY: &[u8] = &[
    0x14,                   // AuthenticateSessionReply
    0x00,                   // status: success
    0x00, 0x00,             // reserved
    0x00,                   // method: query
    0x01, 0x00, 0x00, 0x00, // length
    0x04,                   // digest with qop
];

/// Password authentication as an old console sends it without asking.
#[rustfmt::skip]
const PASSWORD: &[u8] = &[
    0x13,                   // AuthenticateSession
    0x00, 0x00, 0x00,       // reserved
    0x01,                   // method: password
    0x0f, 0x00, 0x00, 0x00, // length: 1 + 5 + 1 + 8
    0x05,                   // length of user name
    0x61, 0x64, 0x6d, 0x69, 0x6e,
    0x08,                   // length of password
    0x50, 0x40, 0x73, 0x73, 0x77, 0x30, 0x72, 0x64,
];

#[rustfmt::skip]
const AUTHENTICATED: &[u8] = &[
    0x14,                   // AuthenticateSessionReply
    0x00,                   // status: success
    0x00, 0x00,             // reserved
    0x04,                   // method: digest with qop
    0x00, 0x00, 0x00, 0x00, // length
];

fn digest_start() -> Vec<u8> {
    [
        [0x13].as_slice(),         // AuthenticateSession
        &[0x00, 0x00, 0x00],       // reserved
        &[0x04],                   // method: digest with qop
        &[0x20, 0x00, 0x00, 0x00], // length: 5 + 19 + 8
        &[0x05],
        b"admin", // user name
        &[0x00],  // realm
        &[0x00],  // nonce
        &[0x13],
        b"/RedirectionService", // address
        &[0x00],                // console nonce
        &[0x00],                // nonce count
        &[0x00],                // response
        &[0x00],                // qop
    ]
    .concat()
}

fn challenge() -> Vec<u8> {
    [
        [0x14].as_slice(),         // AuthenticateSessionReply
        &[0x01],                   // status: challenge
        &[0x00, 0x00],             // reserved
        &[0x04],                   // method: digest with qop
        &[0x4e, 0x00, 0x00, 0x00], // length: 39 + 32 + 4 + 3
        &[0x27],
        b"Digest:A1B2C3D4E5F60718293A4B5C6D7E8F90", // realm
        &[0x20],
        b"0123456789abcdef0123456789abcdef", // nonce
        &[0x04],
        b"auth", // qop
    ]
    .concat()
}

fn response() -> Vec<u8> {
    [
        [0x13].as_slice(),         // AuthenticateSession
        &[0x00, 0x00, 0x00],       // reserved
        &[0x04],                   // method: digest with qop
        &[0xb3, 0x00, 0x00, 0x00], // length: 179
        &[0x05],
        b"admin", // user name
        &[0x27],
        b"Digest:A1B2C3D4E5F60718293A4B5C6D7E8F90", // realm
        &[0x20],
        b"0123456789abcdef0123456789abcdef", // nonce
        &[0x13],
        b"/RedirectionService", // address
        &[0x20],
        b"d4bfc9b9a2482edaa0f2113f9b752514", // console nonce
        &[0x08],
        b"00000002", // nonce count
        &[0x20],
        b"5ddde26e7417ac105c91044df0c1a172", // response
        &[0x04],
        b"auth", // qop
    ]
    .concat()
}

fn field(bytes: &[u8]) -> Field<'_> {
    Field::new(bytes).unwrap()
}

fn data(bytes: &[u8]) -> AuthData<'_> {
    AuthData::new(bytes).unwrap()
}

#[test]
fn console_messages_are_the_hand_written_bytes() {
    golden!(
        ConsoleMessage::decode,
        ConsoleMessage::start(SessionKind::Sol),
        START_SOL
    );
    golden!(
        ConsoleMessage::decode,
        ConsoleMessage::start(SessionKind::Ider),
        START_IDER
    );
    golden!(
        ConsoleMessage::decode,
        ConsoleMessage::start(SessionKind::Kvm),
        START_KVM
    );
    golden!(ConsoleMessage::decode, ConsoleMessage::End, END_SESSION);
    let method = AuthMethod::QUERY;
    let query = ConsoleMessage::Authenticate {
        method,
        data: AuthData::EMPTY,
    };
    golden!(ConsoleMessage::decode, query, QUERY);
    let authenticate = |method, bytes: &'static [u8]| ConsoleMessage::Authenticate {
        method,
        data: data(bytes),
    };
    golden!(
        ConsoleMessage::decode,
        authenticate(AuthMethod::PASSWORD, &PASSWORD[9..]),
        PASSWORD
    );
    for bytes in [digest_start(), response()] {
        let message = ConsoleMessage::Authenticate {
            method: AuthMethod::DIGEST,
            data: data(&bytes[9..]),
        };
        golden!(ConsoleMessage::decode, message, &bytes);
    }
    assert_eq!(digest_start().len(), 41);
    assert_eq!(response().len(), 188);
}

#[test]
fn firmware_messages_are_the_hand_written_bytes() {
    let started = Started {
        protocol: (1, 0),
        firmware: (11, 8),
        oem: OEM_INTEL,
        oem_data: Field::EMPTY,
    };
    golden!(
        FirmwareMessage::decode,
        FirmwareMessage::Started(started),
        STARTED
    );
    let started = Started {
        firmware: (12, 0),
        oem_data: field(b"abc"),
        ..started
    };
    golden!(
        FirmwareMessage::decode,
        FirmwareMessage::Started(started),
        STARTED_WITH_OEM_DATA
    );
    golden!(
        FirmwareMessage::decode,
        FirmwareMessage::Refused(StartStatus::BUSY),
        BUSY
    );
    let query_reply = FirmwareMessage::AuthenticateReply {
        status: AuthStatus::SUCCESS,
        method: AuthMethod::QUERY,
        data: data(&[4]),
    };
    golden!(FirmwareMessage::decode, query_reply, QUERY_REPLY);
    let bytes = challenge();
    let message = FirmwareMessage::AuthenticateReply {
        status: AuthStatus::FAILURE,
        method: AuthMethod::DIGEST,
        data: data(&bytes[9..]),
    };
    golden!(FirmwareMessage::decode, message, &bytes);
    let authenticated = FirmwareMessage::AuthenticateReply {
        status: AuthStatus::SUCCESS,
        method: AuthMethod::DIGEST,
        data: AuthData::EMPTY,
    };
    golden!(FirmwareMessage::decode, authenticated, AUTHENTICATED);
}

#[test]
fn a_refusal_is_complete_after_four_bytes_of_thirteen() {
    let mut long = BUSY.to_vec();
    long.resize(13, 0);
    assert_eq!(
        FirmwareMessage::decode(&long),
        Ok(Decoded::Message {
            message: FirmwareMessage::Refused(StartStatus::BUSY),
            length: 4,
        })
    );
}

#[test]
fn digest_fields_are_the_hand_written_bytes() {
    let method = AuthMethod::DIGEST;
    let start = DigestRequest {
        user: field(b"admin"),
        uri: field(URI),
        ..DigestRequest::default()
    };
    let full = DigestRequest {
        realm: field(b"Digest:A1B2C3D4E5F60718293A4B5C6D7E8F90"),
        nonce: field(b"0123456789abcdef0123456789abcdef"),
        cnonce: field(b"d4bfc9b9a2482edaa0f2113f9b752514"),
        nonce_count: field(b"00000002"),
        response: field(b"5ddde26e7417ac105c91044df0c1a172"),
        qop: field(b"auth"),
        ..start
    };
    for (request, message) in [(start, digest_start()), (full, response())] {
        let bytes = &message[9..];
        assert_eq!(DigestRequest::decode(method, bytes), Ok(request));
        let mut encoded = Vec::new();
        request.encode(method, &mut encoded);
        assert_eq!(encoded, bytes);
        for cut in 0..bytes.len() {
            let cut = DigestRequest::decode(method, &bytes[..cut]);
            assert!(matches!(cut, Err(DecodeError::CutShort { .. })), "{cut:?}");
        }
        let longer = [bytes, &[0]].concat();
        assert_eq!(
            DigestRequest::decode(method, &longer),
            Err(DecodeError::Leftover(1))
        );
    }
    let bytes = &challenge()[9..];
    let fields = DigestChallenge {
        realm: full.realm,
        nonce: full.nonce,
        qop: full.qop,
    };
    assert_eq!(DigestChallenge::decode(method, bytes), Ok(fields));
    let mut encoded = Vec::new();
    fields.encode(method, &mut encoded);
    assert_eq!(encoded, bytes);
    for cut in 0..bytes.len() {
        let cut = DigestChallenge::decode(method, &bytes[..cut]);
        assert!(matches!(cut, Err(DecodeError::CutShort { .. })), "{cut:?}");
    }
}

#[test]
fn the_old_digest_has_no_qop_field() {
    let method = AuthMethod::DIGEST_LEGACY;
    let request = DigestRequest {
        user: field(b"admin"),
        uri: field(URI),
        ..DigestRequest::default()
    };
    let mut encoded = Vec::new();
    request.encode(method, &mut encoded);
    assert_eq!(encoded, &digest_start()[9..40]);
    assert_eq!(DigestRequest::decode(method, &encoded), Ok(request));
    let challenge = [&[2][..], b"re", &[3], b"non"].concat();
    let fields = DigestChallenge::decode(method, &challenge).unwrap();
    assert_eq!(
        (fields.realm.bytes(), fields.nonce.bytes()),
        (&b"re"[..], &b"non"[..])
    );
    assert!(fields.qop.is_empty());
}

#[test]
fn password_fields_are_the_hand_written_bytes() {
    let request = PasswordRequest::decode(&PASSWORD[9..]).unwrap();
    assert_eq!(request.user.bytes(), b"admin");
    assert_eq!(request.password.bytes(), b"P@ssw0rd");
    let mut encoded = Vec::new();
    request.encode(&mut encoded);
    assert_eq!(encoded, &PASSWORD[9..]);
    for cut in 0..encoded.len() {
        assert!(
            PasswordRequest::decode(&encoded[..cut]).is_err(),
            "cut at {cut}"
        );
    }
}

#[test]
fn qop_auth_is_found_in_a_list() {
    for (qop, allowed) in [
        (&b"auth"[..], true),
        (b"auth-int,auth", true),
        (b"auth-int, auth", true),
        (b"auth-int", false),
        (b"", false),
        (b"author", false),
    ] {
        let challenge = DigestChallenge {
            qop: field(qop),
            ..DigestChallenge::default()
        };
        assert_eq!(challenge.allows_auth(), allowed, "{qop:?}");
    }
}

#[test]
fn authentication_data_above_the_limit_is_refused_before_it_arrives() {
    for (header, limit) in [(0x13, MAX_AUTH_DATA), (0x14, MAX_AUTH_DATA)] {
        let mut bytes = vec![header, 0, 0, 0, 4];
        bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        let error = DecodeError::TooLong {
            field: "authentication data",
            length: 0xffff_ffff,
            limit,
        };
        let found = match header {
            0x13 => ConsoleMessage::decode(&bytes).map(|_| ()),
            _ => FirmwareMessage::decode(&bytes).map(|_| ()),
        };
        assert_eq!(found, Err(error));
    }
}

#[test]
fn unknown_ids_are_errors_in_both_directions() {
    for id in 0..=u8::MAX {
        let first = &[id][..];
        let console = ConsoleMessage::decode(first);
        let firmware = FirmwareMessage::decode(first);
        let unknown = DecodeError::UnknownId(id);
        assert_eq!(
            console.is_err(),
            !matches!(id, 0x10 | 0x12 | 0x13),
            "{id:02x}"
        );
        assert_eq!(firmware.is_err(), !matches!(id, 0x11 | 0x14), "{id:02x}");
        assert!(console.is_ok() || console == Err(unknown));
        assert!(firmware.is_ok() || firmware == Err(unknown));
    }
}

#[test]
fn what_does_not_fit_a_length_byte_has_no_type() {
    let long = [b'x'; 256];
    let error = TooLong {
        length: 256,
        limit: 255,
    };
    assert_eq!(Field::new(&long), Err(error));
    assert_eq!(Field::new(&long[..255]).map(Field::len), Ok(255));
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_lengths_stay_inside(bytes in proptest::collection::vec(any::<u8>(), 0..300), id in 0x10u8..0x15) {
        let bytes = [&[id][..], &bytes].concat();
        if let Ok(Decoded::Message { length, .. }) = ConsoleMessage::decode(&bytes) {
            prop_assert!(length > 0 && length <= bytes.len());
        }
        if let Ok(Decoded::Message { length, .. }) = FirmwareMessage::decode(&bytes) {
            prop_assert!(length > 0 && length <= bytes.len());
        }
        let _ = DigestRequest::decode(AuthMethod::DIGEST, &bytes);
        let _ = DigestChallenge::decode(AuthMethod::DIGEST_LEGACY, &bytes);
        let _ = PasswordRequest::decode(&bytes);
    }
}
