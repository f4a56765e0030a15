//! Session start and authentication against scripted firmware, on a made-up clock.

use proptest::prelude::*;

use super::*;

/// As the vector of the reference has it.
const CNONCE: [u8; 16] = [
    0xd4, 0xbf, 0xc9, 0xb9, 0xa2, 0x48, 0x2e, 0xda, 0xa0, 0xf2, 0x11, 0x3f, 0x9b, 0x75, 0x25, 0x14,
];
const STARTED: &[u8] = &[0x11, 0, 0, 0, 1, 0, 12, 0, 0x57, 1, 0, 0, 0];
const QUERY: &[u8] = &[0x13, 0, 0, 0, 0, 0, 0, 0, 0];
const METHODS: &[u8] = &[0x14, 0, 0, 0, 0, 1, 0, 0, 0, 4];
const ACCEPTED: &[u8] = &[0x14, 0, 0, 0, 4, 0, 0, 0, 0];
const REFUSED: &[u8] = &[0x14, 1, 0, 0, 4, 0, 0, 0, 0];

fn digest_start() -> Vec<u8> {
    [
        &[0x13, 0, 0, 0, 4, 0x20, 0, 0, 0][..],
        b"\x05admin\x00\x00",
        b"\x13/RedirectionService",
        &[0; 4],
    ]
    .concat()
}

fn challenge() -> Vec<u8> {
    [
        &[0x14, 1, 0, 0, 4, 0x4e, 0, 0, 0][..],
        b"\x27Digest:A1B2C3D4E5F60718293A4B5C6D7E8F90",
        b"\x200123456789abcdef0123456789abcdef",
        b"\x04auth",
    ]
    .concat()
}

fn response() -> Vec<u8> {
    [
        &[0x13, 0, 0, 0, 4, 0xb3, 0, 0, 0][..],
        b"\x05admin",
        b"\x27Digest:A1B2C3D4E5F60718293A4B5C6D7E8F90",
        b"\x200123456789abcdef0123456789abcdef",
        b"\x13/RedirectionService",
        b"\x20d4bfc9b9a2482edaa0f2113f9b752514",
        b"\x0800000002",
        b"\x205ddde26e7417ac105c91044df0c1a172",
        b"\x04auth",
    ]
    .concat()
}

struct Bench {
    opening: Opening,
    now: Instant,
}

impl Bench {
    fn with(kind: SessionKind, user: &str, policy: AuthPolicy) -> Self {
        let now = Instant::now();
        let credentials = Credentials {
            user: user.to_owned(),
            password: Zeroizing::new("P@ssw0rd".to_owned()),
        };
        Self {
            opening: Opening::new(kind, credentials, policy, CNONCE, now),
            now,
        }
    }

    fn new() -> Self {
        Self::with(SessionKind::Ider, "admin", AuthPolicy::default())
    }

    fn sent(&mut self) -> Vec<u8> {
        self.opening.poll_transmit().unwrap_or_default()
    }

    fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.opening.handle_input(self.now, bytes);
        self.sent()
    }

    fn fails_with(&mut self) -> OpenError {
        assert_eq!(self.opening.poll_timeout(), None);
        self.opening.outcome().unwrap().unwrap_err()
    }
}

#[test]
fn opens_a_session_with_the_published_digest() {
    for (kind, start) in [
        (SessionKind::Sol, b"\x10\0\0\0SOL "),
        (SessionKind::Ider, b"\x10\0\0\0IDER"),
        (SessionKind::Kvm, b"\x10\x01\0\0KVMR"),
    ] {
        let mut bench = Bench::with(kind, "admin", AuthPolicy::default());
        assert_eq!(bench.sent(), start);
        assert_eq!(bench.feed(STARTED), QUERY);
        assert_eq!(bench.feed(METHODS), digest_start());
        assert_eq!(bench.feed(&challenge()), response());
        assert!(bench.opening.outcome().is_none());
        assert_eq!(bench.feed(ACCEPTED), b"");
        let opened = Opened {
            firmware_version: (12, 0),
            oem: 343,
            rest: Vec::new(),
        };
        assert_eq!(bench.opening.outcome(), Some(Ok(opened)));
        assert_eq!(bench.opening.poll_timeout(), None);
        assert_eq!(bench.opening.outcome(), None);
    }
}

#[test]
fn one_byte_at_a_time_is_the_same_as_all_at_once() {
    let script = [STARTED, METHODS, &challenge(), ACCEPTED, b"next"].concat();
    let mut bytewise = Bench::new();
    let mut sent = bytewise.sent();
    for byte in &script {
        sent.extend(bytewise.feed(&[*byte]));
    }
    let mut coalesced = Bench::new();
    let mut sent_at_once = coalesced.sent();
    sent_at_once.extend(coalesced.feed(&script));
    assert_eq!(sent, sent_at_once);
    // What follows the last answer is for the next protocol: kept when it came along, else not taken.
    assert_eq!(bytewise.opening.outcome().unwrap().unwrap().rest, b"");
    assert_eq!(coalesced.opening.outcome().unwrap().unwrap().rest, b"next");
}

#[test]
fn each_start_status_has_its_error() {
    for (status, error) in [
        (1, OpenError::UnknownType),
        (2, OpenError::Busy),
        (3, OpenError::Unsupported),
        (5, OpenError::UserConsentRequired),
        (0xff, OpenError::Internal),
        (4, OpenError::Protocol(ProtocolError::StartStatus(4))),
    ] {
        let mut bench = Bench::new();
        bench.sent();
        assert_eq!(bench.feed(&[0x11, status, 0]), b"");
        assert_eq!(bench.opening.outcome(), None);
        assert_eq!(bench.feed(&[0]), b"");
        assert_eq!(bench.fails_with(), error);
    }
}

#[test]
fn wrong_credentials_are_told_at_either_step() {
    let mut bench = Bench::new();
    bench.feed(&[STARTED, METHODS, &challenge(), REFUSED].concat());
    assert_eq!(bench.fails_with(), OpenError::BadCredentials);
    // Another challenge instead of a verdict.
    let mut bench = Bench::new();
    bench.feed(&[STARTED, METHODS, &challenge(), &challenge()].concat());
    assert_eq!(bench.fails_with(), OpenError::BadCredentials);
    // An unknown user may be refused without a challenge.
    let mut bench = Bench::new();
    bench.feed(&[STARTED, METHODS, REFUSED].concat());
    assert_eq!(bench.fails_with(), OpenError::BadCredentials);
    // A name that cannot be sent.
    let mut bench = Bench::with(SessionKind::Sol, &"x".repeat(256), AuthPolicy::default());
    bench.feed(&[STARTED, METHODS].concat());
    assert_eq!(bench.fails_with(), OpenError::BadCredentials);
}

#[test]
fn weak_methods_are_used_only_where_allowed() {
    let offer = &[0x14, 0, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3];
    let mut bench = Bench::new();
    bench.feed(&[STARTED, offer].concat());
    let error = OpenError::NoCommonAuthentication {
        offered: vec![1, 2, 3],
    };
    assert_eq!(bench.fails_with(), error);

    let policy = AuthPolicy {
        allow_legacy_digest: true,
        allow_clear_password: true,
    };
    let mut bench = Bench::with(SessionKind::Ider, "admin", policy);
    bench.sent();
    bench.feed(STARTED);
    let start = [
        &[0x13, 0, 0, 0, 3, 0x1f, 0, 0, 0][..],
        b"\x05admin\x00\x00\x13/RedirectionService\x00\x00\x00",
    ]
    .concat();
    assert_eq!(bench.feed(offer), start);
    let challenge = [
        &[0x14, 1, 0, 0, 3, 0x49, 0, 0, 0][..],
        b"\x27Digest:A1B2C3D4E5F60718293A4B5C6D7E8F90",
        b"\x200123456789abcdef0123456789abcdef",
    ]
    .concat();
    let sent = bench.feed(&challenge);
    assert!(sent.ends_with(b"\x202dd506906c78405d83cd3142cec8da83"));
    bench.feed(&[0x14, 0, 0, 0, 3, 0, 0, 0, 0]);
    assert!(bench.opening.outcome().unwrap().is_ok());

    let mut bench = Bench::with(SessionKind::Ider, "admin", policy);
    bench.sent();
    bench.feed(STARTED);
    let password = bench.feed(&[0x14, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
    let expected = [
        &[0x13, 0, 0, 0, 1, 0x0f, 0, 0, 0][..],
        b"\x05admin\x08P@ssw0rd",
    ]
    .concat();
    assert_eq!(password, expected);
    bench.feed(&[0x14, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert!(bench.opening.outcome().unwrap().is_ok());
}

#[test]
fn status_2_means_that_the_method_is_not_there() {
    for script in [vec![STARTED, METHODS], vec![STARTED, METHODS, &challenge()]] {
        let mut bench = Bench::new();
        bench.feed(&script.concat());
        bench.feed(&[0x14, 2, 0, 0, 4, 0, 0, 0, 0]);
        let error = OpenError::NoCommonAuthentication {
            offered: Vec::new(),
        };
        assert_eq!(bench.fails_with(), error);
    }
}

#[test]
fn a_lost_answer_times_out_at_its_step() {
    let challenge = challenge();
    let answers: [(&[u8], Step); 4] = [
        (STARTED, Step::Start),
        (METHODS, Step::Methods),
        (&challenge, Step::Challenge),
        (ACCEPTED, Step::Result),
    ];
    for lost in 0..answers.len() {
        let mut bench = Bench::new();
        for (answer, _) in &answers[..lost] {
            bench.now += Duration::from_secs(9);
            bench.feed(answer);
        }
        let due = bench.opening.poll_timeout().unwrap();
        assert_eq!(due, bench.now + Duration::from_secs(10));
        bench.opening.handle_timeout(due - Duration::from_millis(1));
        assert!(bench.opening.outcome().is_none());
        bench.opening.handle_timeout(due);
        assert_eq!(bench.fails_with(), OpenError::Timeout(answers[lost].1));
    }
}

#[test]
fn nonsense_ends_the_session_with_its_reason() {
    let challenge = challenge();
    let no_auth = [
        &[0x14, 1, 0, 0, 4, 0x0b, 0, 0, 0][..],
        b"\x01r\x01n",
        b"\x06author",
    ]
    .concat();
    let cut_short = [&[0x14, 1, 0, 0, 4, 2, 0, 0, 0][..], b"\x05r"].concat();
    let other_method = [0x14, 0, 0, 0, 3, 0, 0, 0, 0];
    let bad_status = [0x14, 9, 0, 0, 4, 0, 0, 0, 0];
    let step = Step::Challenge;
    let cases: [(&[&[u8]], ProtocolError); 9] = [
        (&[b"HTTP"], DecodeError::UnknownId(b'H').into()),
        (&[ACCEPTED], ProtocolError::Unexpected(Step::Start)),
        (
            &[STARTED, STARTED],
            ProtocolError::Unexpected(Step::Methods),
        ),
        (
            &[STARTED, METHODS, STARTED],
            ProtocolError::Unexpected(step),
        ),
        (
            &[STARTED, METHODS, &challenge, STARTED],
            ProtocolError::Unexpected(Step::Result),
        ),
        (&[STARTED, METHODS, &no_auth], ProtocolError::NoQopAuth),
        (
            &[STARTED, METHODS, &cut_short],
            DecodeError::CutShort { field: "realm" }.into(),
        ),
        (
            &[STARTED, METHODS, &other_method],
            ProtocolError::Method {
                expected: 4,
                found: 3,
            },
        ),
        (
            &[STARTED, METHODS, &bad_status],
            ProtocolError::AuthStatus { status: 9, step },
        ),
    ];
    for (script, error) in cases {
        let mut bench = Bench::new();
        bench.feed(&script.concat());
        assert_eq!(
            bench.fails_with(),
            OpenError::Protocol(error),
            "{script:02x?}"
        );
        assert_eq!(bench.feed(STARTED), b"", "nothing is sent after the end");
    }
}

#[test]
fn debug_output_does_not_show_the_password() {
    let bench = Bench::new();
    assert!(!format!("{:?}", bench.opening).contains("P@ss"));
}

proptest! {
    #[test]
    fn random_answers_end_in_an_error_or_in_waiting(
        steps in 0usize..4,
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bench = Bench::new();
        let script = [STARTED.to_vec(), METHODS.to_vec(), challenge()];
        bench.feed(&script[..steps.min(3)].concat());
        bench.feed(&bytes);
        let outcome = bench.opening.outcome();
        prop_assert_eq!(outcome.is_none(), bench.opening.poll_timeout().is_some());
    }
}
