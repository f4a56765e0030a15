//! What consoles send, written by hand from the reference.

use amt_redirection::digest;

use super::*;
use crate::firmware::{ConsentPolicy, LockoutPolicy, Switches};

const START_SOL: &[u8] = b"\x10\0\0\0SOL ";
const START_IDER: &[u8] = b"\x10\0\0\0IDER";
const START_KVM: &[u8] = b"\x10\x01\0\0KVMR";
/// As captured from AMT 11.8.
const STARTED_11: &[u8] = &[0x11, 0, 0, 0, 1, 0, 0x0b, 0x08, 0x57, 1, 0, 0, 0];
/// As captured from AMT 12.0.
const STARTED_12: &[u8] = &[0x11, 0, 0, 0, 1, 0, 0x0c, 0x00, 0x57, 1, 0, 0, 0];
const QUERY: &[u8] = &[0x13, 0, 0, 0, 0, 0, 0, 0, 0];
const REFUSED: &[u8] = &[0x14, 1, 0, 0, 4, 0, 0, 0, 0];
const ACCEPTED: &[u8] = &[0x14, 0, 0, 0, 4, 0, 0, 0, 0];
/// User "admin", password "P@ssw0rd", in clear.
const PASSWORD_MESSAGE: &[u8] = b"\x13\0\0\0\x01\x0f\0\0\0\x05admin\x08P@ssw0rd";
const PASSWORD_ACCEPTED: &[u8] = &[0x14, 0, 0, 0, 1, 0, 0, 0, 0];
const REALM: &str = "Digest:F3EB554784E729164447A89F60B641C5";

impl Script {
    /// As an old console does it: a password in clear, without asking.
    async fn authenticated(pc: &Pc, start: &[u8]) -> Self {
        let mut script = pc.script();
        script.say(start).await;
        script.expect(STARTED_11).await;
        script.say(PASSWORD_MESSAGE).await;
        script.expect(PASSWORD_ACCEPTED).await;
        script
    }

    /// Sends the first digest message; returns the nonce of the challenge.
    async fn challenged(&mut self) -> String {
        self.say(&[0x13, 0, 0, 0, 4, 0x20, 0, 0, 0]).await;
        self.say(b"\x05admin\0\0\x13/RedirectionService\0\0\0\0")
            .await;
        self.expect(&[0x14, 1, 0, 0, 4, 0x4e, 0, 0, 0, 0x27]).await;
        self.expect(REALM.as_bytes()).await;
        self.expect(&[0x20]).await;
        let nonce = self.take(32).await;
        self.expect(b"\x04auth").await;
        String::from_utf8(nonce).unwrap()
    }

    async fn respond(&mut self, nonce: &str, response: &[u8]) {
        let fields: [&[u8]; 8] = [
            b"admin",
            REALM.as_bytes(),
            nonce.as_bytes(),
            b"/RedirectionService",
            b"0a4f113b2c",
            b"00000001",
            response,
            b"auth",
        ];
        let mut data = Vec::new();
        for field in fields {
            data.push(field.len() as u8);
            data.extend_from_slice(field);
        }
        self.say(&[0x13, 0, 0, 0, 4, data.len() as u8, 0, 0, 0])
            .await;
        self.say(&data).await;
    }
}

/// The digest for the fields of [`Script::respond`]; the crate's arithmetic is checked by its own vector.
fn response(password: &str, nonce: &str, qop: &str) -> digest::Hex {
    use amt_redirection::auth::DigestRequest;
    use amt_redirection::session::AuthMethod;
    use amt_redirection::wire::Field;
    fn field(text: &str) -> Field<'_> {
        Field::new(text.as_bytes()).unwrap()
    }
    let request = DigestRequest {
        nonce: field(nonce),
        uri: field("/RedirectionService"),
        cnonce: field("0a4f113b2c"),
        nonce_count: field("00000001"),
        qop: field(qop),
        ..DigestRequest::default()
    };
    let ha1 = digest::ha1(b"admin", REALM.as_bytes(), password.as_bytes());
    digest::response(AuthMethod::DIGEST, &ha1, &request)
}

mod opening {
    use super::*;

    #[tokio::test]
    async fn lists_the_methods_of_its_generation() {
        let pc = Pc::new(config("amt12-nuc"), Knobs::default());
        let mut script = pc.script();
        script.say(START_IDER).await;
        script.expect(STARTED_12).await;
        script.say(QUERY).await;
        script.expect(&[0x14, 0, 0, 0, 0, 1, 0, 0, 0, 4]).await;
        // In clear is not one of them.
        script.say(PASSWORD_MESSAGE).await;
        script.expect(&[0x14, 2, 0, 0, 1, 0, 0, 0, 0]).await;
    }

    #[tokio::test]
    async fn accepts_a_digest_with_its_own_nonce_once() {
        let pc = Pc::new(config("amt12-nuc"), Knobs::default());
        let mut script = pc.script();
        script.say(START_SOL).await;
        script.expect(STARTED_12).await;
        let foreign = "0123456789abcdef0123456789abcdef";
        script
            .respond(foreign, &response(PASSWORD, foreign, "auth"))
            .await;
        script.expect(REFUSED).await;
        let nonce = script.challenged().await;
        script
            .respond(&nonce, &response(PASSWORD, &nonce, "auth"))
            .await;
        script.expect(ACCEPTED).await;
    }

    #[tokio::test]
    async fn refuses_wrong_and_shortened_responses_and_hangs_up_after_three() {
        let pc = Pc::new(config("amt12-nuc"), Knobs::default());
        let mut script = pc.script();
        script.say(START_SOL).await;
        script.expect(STARTED_12).await;
        let nonce = script.challenged().await;
        let wrong = response("wrong", &nonce, "auth");
        script.respond(&nonce, &wrong).await;
        script.expect(REFUSED).await;
        let nonce = script.challenged().await;
        let right = response(PASSWORD, &nonce, "auth");
        script.respond(&nonce, &right[..31]).await;
        script.expect(REFUSED).await;
        let nonce = script.challenged().await;
        let right = response(PASSWORD, &nonce, "auth");
        script.respond(&nonce, &right[..1]).await;
        script.expect(REFUSED).await;
        script.expect_end().await;
        let wrong = pc
            .firmware
            .quietly(|firmware| firmware.counters().wrong_credentials);
        assert_eq!(wrong, 3);
    }

    #[tokio::test]
    async fn does_not_let_even_the_right_password_in_while_locked() {
        let mut config = config("amt11");
        config.lockout = LockoutPolicy {
            attempts: 2,
            duration: Duration::from_secs(600),
        };
        let pc = Pc::new(config, Knobs::default());
        let mut script = pc.script();
        script.say(START_SOL).await;
        script.expect(STARTED_11).await;
        for _ in 0..2 {
            script
                .say(b"\x13\0\0\0\x01\x0f\0\0\0\x05admin\x08p@ssw0rd")
                .await;
            script.expect(&[0x14, 1, 0, 0, 1, 0, 0, 0, 0]).await;
        }
        script.say(PASSWORD_MESSAGE).await;
        script.expect(&[0x14, 1, 0, 0, 1, 0, 0, 0, 0]).await;
        script.expect_end().await;
    }

    #[tokio::test]
    async fn takes_a_stray_space_only_behind_its_knob() {
        for (accept_stray_space, answer) in [(false, REFUSED), (true, ACCEPTED)] {
            let knobs = Knobs {
                accept_stray_space,
                ..Knobs::default()
            };
            let pc = Pc::new(config("amt12-nuc"), knobs);
            let mut script = pc.script();
            script.say(START_SOL).await;
            script.expect(STARTED_12).await;
            let nonce = script.challenged().await;
            script
                .respond(&nonce, &response(PASSWORD, &nonce, "auth "))
                .await;
            script.expect(answer).await;
        }
    }

    #[tokio::test]
    async fn says_why_it_does_not_start() {
        let pc = Pc::new(config("amt11"), Knobs::default());
        let mut script = pc.script();
        script.say(b"\x10\0\0\0TAPE").await;
        script.expect(&[0x11, 1, 0, 0]).await;
        script.expect_end().await;

        let first = Script::authenticated(&pc, START_IDER).await;
        let mut second = pc.script();
        second.say(START_IDER).await;
        second.expect(&[0x11, 2, 0, 0]).await;
        second.expect_end().await;
        // Another kind is free, and so is this one afterwards.
        let _sol = Script::authenticated(&pc, START_SOL).await;
        drop(first.stream);
        first.task.await.unwrap();
        Script::authenticated(&pc, START_IDER).await;

        let mut off = config("amt11");
        off.switches = Switches {
            ider: false,
            ..off.switches
        };
        let pc = Pc::new(off, Knobs::default());
        let mut script = pc.script();
        script.say(START_IDER).await;
        script.expect(&[0x11, 3, 0, 0]).await;
        script.expect_end().await;

        let mut consent = config("amt11");
        consent.consent = ConsentPolicy::All;
        let pc = Pc::new(consent, Knobs::default());
        let mut script = pc.script();
        script.say(START_IDER).await;
        script.expect(&[0x11, 5, 0, 0]).await;
        script.expect_end().await;
    }

    #[tokio::test]
    async fn drops_who_says_nothing_or_something_else() {
        let knobs = Knobs {
            authentication_ms: 50,
            ..Knobs::default()
        };
        let pc = Pc::new(config("amt11"), knobs);
        let mut script = pc.script();
        script.say(START_SOL).await;
        script.expect(STARTED_11).await;
        script.expect_end().await;
        let mut script = pc.script();
        script.say(b"GET / HTTP/1.1\r\n").await;
        script.expect_end().await;
        let mut script = pc.script();
        script.say(QUERY).await;
        script.expect_end().await;
    }

    #[tokio::test]
    async fn one_byte_at_a_time_is_as_good() {
        let pc = Pc::new(config("amt11"), Knobs::default());
        let mut script = pc.script();
        for byte in [START_SOL, PASSWORD_MESSAGE].concat() {
            script.say(&[byte]).await;
        }
        script.expect(STARTED_11).await;
        script.expect(PASSWORD_ACCEPTED).await;
    }
}

mod sol {
    use super::*;

    /// As amtterm 1.4 sends it.
    const START: &[u8] = &[
        0x20, 0, 0, 0, 0, 0, 0, 0, 0xe8, 3, 0x64, 0, 0, 0, 0x10, 0x27, 0, 0, 0x88, 0x13, 0, 0, 0, 0,
    ];
    const REPLY: &[u8] = &[
        0x21, 0, 0, 0, 0, 0, 0, 0, 1, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    /// RTS and DTR; switched off.
    const OFF: &[u8] = &[0x29, 0, 0, 0, 1, 0, 0, 0, 3, 0];

    #[tokio::test]
    async fn carries_text_both_ways() {
        let mut pc = Pc::new(config("amt11"), Knobs::default());
        let mut script = Script::authenticated(&pc, START_SOL).await;
        script.say(START).await;
        script.expect(REPLY).await;
        script.expect(OFF).await;
        pc.serial.output.send(b"hello\r\n"[..].into()).unwrap();
        script.expect(b"\x2a\0\0\0\x02\0\0\0\x07\0hello\r\n").await;
        script.say(b"\x28\0\0\0\0\0\0\0\x03\0ls\r").await;
        assert_eq!(pc.serial.input.recv().await.unwrap(), b"ls\r");
        script.say(b"\x22\0\0\0\0\0\0\0").await;
        script.expect(b"\x23\0\0\0\x03\0\0\0").await;
        script.expect_end().await;
    }

    #[tokio::test]
    async fn tells_of_power_and_ends_when_the_firmware_says_so() {
        let pc = Pc::new(config("amt11"), Knobs::default());
        let mut script = Script::authenticated(&pc, START_SOL).await;
        script.say(START).await;
        script.expect(REPLY).await;
        script.expect(OFF).await;
        pc.firmware
            .with(|firmware| firmware.request_power_state(Instant::now(), 2));
        script.expect(&[0x29, 0, 0, 0, 2, 0, 0, 0, 3, 4]).await;
        pc.firmware
            .with(|firmware| firmware.terminate_session(SessionKind::Sol));
        script.expect(b"\x23\0\0\0\x03\0\0\0").await;
        script.expect_end().await;
    }

    #[tokio::test]
    async fn ends_when_the_console_is_silent_for_too_long() {
        let pc = Pc::new(config("amt11"), Knobs::default());
        let mut script = Script::authenticated(&pc, START_SOL).await;
        let mut start = START.to_vec();
        start[14..16].copy_from_slice(&60u16.to_le_bytes());
        start[18..20].copy_from_slice(&50u16.to_le_bytes());
        script.say(&start).await;
        script.expect(REPLY).await;
        script.expect(OFF).await;
        script.expect(b"\x2b\0\0\0\x02\0\0\0").await;
        script.expect_end().await;
    }
}

mod kvm {
    use super::*;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn is_transparent_after_eight_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("screen");
        let screen = UnixListener::bind(&path).unwrap();
        let pc = Pc::with_screen(config("amt11"), Knobs::default(), Some(path));
        let mut script = Script::authenticated(&pc, START_KVM).await;
        // What follows at once is not lost.
        script.say(b"\x40\0\0\0\0\0\0\0RFB 003.008\n").await;
        let (mut screen, _) = screen.accept().await.unwrap();
        script.expect(&[0x41, 0, 0, 0, 0, 0, 0, 0]).await;
        screen.write_all(b"RFB 004.000\n").await.unwrap();
        script.expect(b"RFB 004.000\n").await;
        let mut version = [0; 12];
        screen.read_exact(&mut version).await.unwrap();
        assert_eq!(&version, b"RFB 003.008\n");
        pc.firmware
            .with(|firmware| firmware.terminate_session(SessionKind::Kvm));
        script.expect_end().await;
    }

    #[tokio::test]
    async fn ends_without_a_screen() {
        let pc = Pc::new(config("amt11"), Knobs::default());
        let mut script = Script::authenticated(&pc, START_KVM).await;
        script.say(&[0x40, 0, 0, 0, 0, 0, 0, 0]).await;
        script.expect_end().await;
    }
}

mod ider {
    use super::*;

    const OPEN: &[u8] = &[
        0x40, 0, 0, 0, 0, 0, 0, 0, 0x30, 0x75, 0, 0, 0x20, 0x4e, 1, 0, 0, 0,
    ];
    const OPENED: &[u8] = &[
        0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0, 11, 8, 0, 0, 0, 0, 0, 0x20, 0, 0x20, 0, 0, 0, 0, 0, 0x57,
        1, 0, 0, 0,
    ];

    /// CommandWritten with this number.
    fn command(number: u8, drive: u8, cdb: &[u8]) -> Vec<u8> {
        let mut bytes = vec![
            0x50, 0, 0, 0, number, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, drive, 0xa0,
        ];
        bytes.extend_from_slice(cdb);
        bytes.resize(28, 0);
        bytes
    }

    fn success(number: u8, drive: u8) -> Vec<u8> {
        let mut bytes = vec![0x51, 0, 0, 2, number, 0, 0, 0];
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&[0xc5, 0, 3, 0, 0, 0, drive, 0x50, 0, 0, 0]);
        bytes
    }

    fn check(number: u8, drive: u8, key: u8, asc: u8, ascq: u8) -> Vec<u8> {
        let mut bytes = vec![0x51, 0, 0, 2, number, 0, 0, 0];
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&[0x87, key << 4, 3, 0, 0, 0, drive, 0x51, key, asc, ascq]);
        bytes
    }

    fn data(number: u8, drive: u8, content: &[u8]) -> Vec<u8> {
        let [low, high] = (content.len() as u16).to_le_bytes();
        let mut bytes = vec![0x54, 0, 0, 2, number, 0, 0, 0, 0, low, high, 0];
        bytes.extend_from_slice(&[0xb5, 0, 2, 0, low, high, drive, 0x58]);
        bytes.extend_from_slice(&[0x85, 0, 3, 0, 0, 0, drive, 0x50, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(content);
        bytes
    }

    fn quiet() -> Knobs {
        Knobs {
            host_models: Vec::new(),
            poll_ms: 0,
            ..Knobs::default()
        }
    }

    /// Attached at once, with a CD of 64 blocks and no floppy.
    async fn attached(pc: &Pc) -> Script {
        let mut script = Script::authenticated(pc, START_IDER).await;
        script.say(OPEN).await;
        script.expect(OPENED).await;
        script
            .say(&[0x48, 0, 0, 0, 1, 0, 0, 0, 3, 0x19, 0, 0, 0])
            .await;
        script
            .expect(&[0x49, 0, 0, 0, 1, 0, 0, 0, 3, 1, 0, 0, 0])
            .await;
        script.expect(&command(2, 0xb0, &[0])).await;
        script.say(&success(2, 0xb0)).await;
        script.expect(&command(3, 0xb0, &[0x25])).await;
        script
            .say(&data(3, 0xb0, &[0, 0, 0, 0x3f, 0, 0, 8, 0]))
            .await;
        script.expect(&command(4, 0xa0, &[0])).await;
        script.say(&check(4, 0xa0, 2, 0x3a, 0)).await;
        script
    }

    #[tokio::test]
    async fn finds_out_what_is_in_the_drives_and_reads_it() {
        let pc = Pc::new(config("amt11"), quiet());
        let media = pc.redirection.media().clone();
        assert_eq!(*media.watch().borrow(), MediaState::default());
        let mut script = attached(&pc).await;
        let mut state = media.watch();
        let found = *state.wait_for(|state| state.attached).await.unwrap();
        let cd = Capacity {
            blocks: 64,
            block_size: 2048,
            writable: false,
        };
        assert_eq!((found.cd, found.floppy), (Some(cd), None));
        let mut buffer = vec![0; 3000];
        let reader = media.clone();
        let read = tokio::spawn(async move {
            reader
                .read(DriveSelect::Cd, 2000, &mut buffer)
                .await
                .map(|()| buffer)
        });
        // Bytes 2,000 to 5,000 are in blocks 0 to 2.
        script
            .expect(&command(5, 0xb0, &[0x28, 0, 0, 0, 0, 0, 0, 0, 3, 0]))
            .await;
        let content: Vec<u8> = (0..6144u32).map(|byte| (byte / 24) as u8).collect();
        script.say(&data(5, 0xb0, &content)).await;
        assert_eq!(read.await.unwrap().unwrap(), content[2000..5000]);
        let mut byte = [0];
        assert_eq!(
            media.read(DriveSelect::Floppy, 0, &mut byte).await,
            Err(DriveError::NoMedium)
        );
        assert_eq!(
            media.read(DriveSelect::Cd, 64 * 2048, &mut byte).await,
            Err(DriveError::OutOfRange)
        );
        script.say(&[0x42, 0, 0, 0, 6, 0, 0, 0]).await;
        script.expect(&[0x43, 0, 0, 0, 6, 0, 0, 0]).await;
        script.expect_end().await;
        assert_eq!(*media.watch().borrow(), MediaState::default());
        let counters = media.counters();
        assert_eq!(
            (counters.commands, counters.violations),
            (4, 0),
            "{counters:?}"
        );
        assert_eq!(counters.bytes_from_console, 8 + 6144);
    }

    #[tokio::test]
    async fn accepts_the_malformed_open_of_amtider() {
        let pc = Pc::new(config("amt11"), quiet());
        let mut script = Script::authenticated(&pc, START_IDER).await;
        script
            .say(&[
                0x40, 0x64, 0, 0x10, 0x27, 0x88, 0x13, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ])
            .await;
        script.expect(OPENED).await;
        script
            .say(&[0x48, 0, 0, 0, 5, 0, 0, 0, 3, 0x19, 0, 0, 0])
            .await;
        script
            .expect(&[0x49, 0, 0, 0, 1, 0, 0, 0, 3, 1, 0, 0, 0])
            .await;
        drop(script.stream);
        script.task.await.unwrap();
        // Its first number is another field, its second counts writes to the socket.
        assert_eq!(pc.redirection.media().counters().sequence_gaps, 2);
    }

    #[tokio::test]
    async fn padded_feature_requests_are_understood() {
        let pc = Pc::new(config("amt11"), quiet());
        let mut script = Script::authenticated(&pc, START_IDER).await;
        script.say(OPEN).await;
        script.expect(OPENED).await;
        script
            .say(&[0x48, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0])
            .await;
        script
            .expect(&[0x49, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0])
            .await;
        script.say(&[0x48, 0, 0, 0, 2, 0, 0, 0, 2]).await;
        script
            .expect(&[0x49, 0, 0, 0, 2, 0, 0, 0, 2, 1, 0, 0, 0])
            .await;
        script.say(&[0, 0, 0, 0, 0x44, 0, 0, 0, 3, 0, 0, 0]).await;
        script.expect(&[0x45, 0, 0, 0, 3, 0, 0, 0]).await;
    }

    #[tokio::test]
    async fn attaches_on_reboot_only_then() {
        let pc = Pc::new(config("amt11"), quiet());
        let mut script = Script::authenticated(&pc, START_IDER).await;
        script.say(OPEN).await;
        script.expect(OPENED).await;
        script
            .say(&[0x48, 0, 0, 0, 1, 0, 0, 0, 3, 0x09, 0, 0, 0])
            .await;
        script
            .expect(&[0x49, 0, 0, 0, 1, 0, 0, 0, 3, 1, 0, 0, 0])
            .await;
        assert!(
            !pc.firmware
                .quietly(|firmware| firmware.snapshot().ider_attached)
        );
        pc.firmware
            .with(|firmware| firmware.request_power_state(Instant::now(), 2));
        script.expect(&[0x46, 0, 0, 0, 2, 0, 0, 0, 1]).await;
        assert!(
            pc.firmware
                .quietly(|firmware| firmware.snapshot().ider_attached)
        );
        script.say(&[0x47, 0, 0, 0, 2, 0, 0, 0]).await;
        script.expect(&command(3, 0xb0, &[0])).await;
    }

    #[tokio::test]
    async fn a_medium_that_goes_and_comes_back_is_noticed() {
        let knobs = Knobs {
            poll_ms: 20,
            ..quiet()
        };
        let pc = Pc::new(config("amt11"), knobs);
        let media = pc.redirection.media().clone();
        let mut state = media.watch();
        let mut script = attached(&pc).await;
        state.wait_for(|state| state.attached).await.unwrap();
        let polled = [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8];
        script.expect(&command(5, 0xb0, &polled)).await;
        // "No event", as consoles say it.
        script.say(&data(5, 0xb0, &[0, 2, 0x80, 0])).await;
        script.expect(&command(6, 0xb0, &[0])).await;
        script.say(&check(6, 0xb0, 2, 0x3a, 0)).await;
        let gone = *state.wait_for(|state| state.cd.is_none()).await.unwrap();
        assert!(gone.attached);
        let mut byte = [0];
        assert_eq!(
            media.read(DriveSelect::Cd, 0, &mut byte).await,
            Err(DriveError::NoMedium)
        );
        script.expect(&command(7, 0xb0, &polled)).await;
        script.say(&data(7, 0xb0, &[0, 2, 0x80, 0])).await;
        script.expect(&command(8, 0xb0, &[0])).await;
        script.say(&success(8, 0xb0)).await;
        script.expect(&command(9, 0xb0, &[0])).await;
        script.say(&success(9, 0xb0)).await;
        script.expect(&command(10, 0xb0, &[0x25])).await;
        script.say(&data(10, 0xb0, &[0, 0, 0, 1, 0, 0, 8, 0])).await;
        let back = *state.wait_for(|state| state.cd.is_some()).await.unwrap();
        assert_eq!(back.cd.map(|cd| cd.bytes()), Some(4096));
    }

    #[tokio::test]
    async fn a_session_that_ends_in_mid_read_is_an_error_to_the_reader() {
        let pc = Pc::new(config("amt11"), quiet());
        let media = pc.redirection.media().clone();
        let mut script = attached(&pc).await;
        media
            .watch()
            .wait_for(|state| state.attached)
            .await
            .unwrap();
        let reader = media.clone();
        let read = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            reader.read(DriveSelect::Cd, 0, &mut buffer).await
        });
        script.take(28).await;
        script.say(&[0x54, 0, 0, 0, 5, 0, 0, 0, 0, 0, 8, 0]).await;
        drop(script.stream);
        assert_eq!(read.await.unwrap(), Err(DriveError::SessionLost));
        script.task.await.unwrap();
        let mut byte = [0];
        assert_eq!(
            media.read(DriveSelect::Cd, 0, &mut byte).await,
            Err(DriveError::NoMedium)
        );
    }

    #[tokio::test]
    async fn a_mistake_of_the_console_is_noted_with_its_command() {
        let knobs = Knobs {
            host_models: vec![HostModel::Probe],
            poll_ms: 0,
            ..Knobs::default()
        };
        let pc = Pc::new(config("amt11"), knobs);
        let mut script = attached(&pc).await;
        // Operation code ff, which is to be refused, as a console does that says yes to everything.
        script.expect(&command(5, 0xb0, &[0xff])).await;
        script.say(&success(5, 0xb0)).await;
        script.expect(&command(6, 0xb0, &[0x9e])).await;
        let counters = pc.redirection.media().counters();
        let violation = &counters.violation_list[0];
        assert_eq!(
            violation.cdb,
            "ff 00 00 00 00 00 00 00 00 00 00 00 (unknown)"
        );
        assert_eq!(violation.expected, "05/20/00");
        assert!(violation.got.starts_with("0 bytes"));
    }
}
