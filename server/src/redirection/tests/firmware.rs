//! The firmware's end of a connection: golden bytes, no codec of ours.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::redirection::block_source::{BlockSource, MemoryImage};
use crate::redirection::connect::{Channel, ConnectError, Credentials, Dial, Dialing};
use crate::redirection::ider::Config;

pub(super) const REALM: &[u8; 39] = b"Digest:A1B2C3D4E5F60718293A4B5C6D7E8F90";
pub(super) const NONCE: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

/// Dials into the test: the other ends come out of the receiver.
pub(super) struct Inside {
    ends: mpsc::UnboundedSender<DuplexStream>,
    buffer: usize,
}

impl Dial for Inside {
    fn dial(&self) -> Dialing<'_> {
        let (near, far) = duplex(self.buffer);
        let dialed = match self.ends.send(far) {
            Ok(()) => Ok(Box::new(near) as Box<dyn Channel>),
            Err(_) => Err(ConnectError::Closed),
        };
        Box::pin(async { dialed })
    }
}

/// A way to dial, and where the calls arrive.
pub(super) fn inside(buffer: usize) -> (Arc<Inside>, mpsc::UnboundedReceiver<DuplexStream>) {
    let (ends, calls) = mpsc::unbounded_channel();
    (Arc::new(Inside { ends, buffer }), calls)
}

pub(super) fn credentials() -> Credentials {
    Credentials {
        user: "admin".to_owned(),
        password: Zeroizing::new("P@ssw0rd".to_owned()),
    }
}

/// Each byte tells where it stands.
pub(super) fn pattern(bytes: u64) -> Vec<u8> {
    (0..bytes)
        .map(|at| (at ^ at >> 8 ^ at >> 16) as u8)
        .collect()
}

pub(super) fn cd(bytes: u64) -> Arc<dyn BlockSource> {
    Arc::new(MemoryImage::new(pattern(bytes).into(), Vec::new()).unwrap())
}

/// A session that serves `cd` to the receiver's end.
pub(super) fn config(
    cd: Option<Arc<dyn BlockSource>>,
) -> (Config, mpsc::UnboundedReceiver<DuplexStream>) {
    let (dial, calls) = inside(1 << 20);
    (Config::new(dial, credentials(), cd), calls)
}

pub(super) struct Firmware<S> {
    pub(super) stream: S,
    /// Of the next message to the console.
    sequence: u32,
    /// Due in the next message from the console.
    expected: u32,
}

/// What a command came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// All 0x54 in a row.
    pub(super) data: Vec<u8>,
    /// Data bytes of each 0x54.
    pub(super) frames: Vec<usize>,
    /// Of a 0x51 with its error bit.
    pub(super) sense: Option<[u8; 3]>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Firmware<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            sequence: 0,
            expected: 0,
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(super) async fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    /// Start, query and challenge, up to the console's response.
    pub(super) async fn challenge(&mut self, kind: &[u8; 4]) {
        let start = self.receive(8).await;
        assert_eq!(start[..4], [0x10, 0x00, 0x00, 0x00]);
        assert_eq!(start[4..], *kind);
        self.send(&[
            0x11, 0x00, 0x00, 0x00, // StartRedirectionSessionReply, success
            0x01, 0x00, // protocol 1.0
            0x0c, 0x00, // firmware 12.0
            0x57, 0x01, 0x00, 0x00, // Intel
            0x00, // no OEM data
        ])
        .await;
        assert_eq!(self.receive(9).await, [0x13, 0, 0, 0, 0, 0, 0, 0, 0]);
        self.send(&[0x14, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x04])
            .await;
        let initial = self.receive(41).await;
        let mut golden = vec![0x13, 0, 0, 0, 0x04, 0x20, 0, 0, 0, 0x05];
        golden.extend(b"admin");
        golden.extend([0, 0, 0x13]);
        golden.extend(b"/RedirectionService");
        golden.extend([0, 0, 0, 0]);
        assert_eq!(initial, golden);
        let mut challenge = vec![0x14, 0x01, 0, 0, 0x04, 78, 0, 0, 0, 39];
        challenge.extend(REALM);
        challenge.push(32);
        challenge.extend(NONCE);
        challenge.extend(b"\x04auth");
        self.send(&challenge).await;
        let response = self.receive(9).await;
        assert_eq!(response[..5], [0x13, 0, 0, 0, 0x04]);
        self.receive(response[5].into()).await;
    }

    /// The session layer as firmware 12.0 speaks it.
    pub(super) async fn open(stream: S, kind: &[u8; 4]) -> Self {
        let mut firmware = Self::new(stream);
        firmware.challenge(kind).await;
        firmware
            .send(&[0x14, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00])
            .await;
        firmware
    }

    /// Session and drives; returns the value of SetRegisterState as well.
    pub(super) async fn attach(stream: S) -> (Self, u32) {
        let mut firmware = Self::open(stream, b"IDER").await;
        let open = firmware.message().await;
        assert_eq!(open[..8], [0x40, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(open[14..], [1, 0, 0, 0]);
        firmware
            .numbered(&[
                0x41, 0, 0, 0, 0, 0, 0, 0, // header
                0x01, 0x00, 0x0c, 0x00, // version 1.0, firmware 12.0
                0, 0, 0, 0, //
                0x00, 0x20, // read buffer 8,192
                0x00, 0x20, // write buffer 8,192
                0, 0, 0, 0, 0, //
                0x57, 0x01, 0, 0, // Intel
                0,
            ])
            .await;
        let register = firmware.message().await;
        assert_eq!(register[0], 0x48);
        assert_eq!(register[8], 3);
        let value = u32::from_le_bytes(register[9..13].try_into().unwrap());
        firmware
            .numbered(&[0x49, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0, 0])
            .await;
        (firmware, value)
    }

    /// Sends an IDE-R message with its sequence number put in.
    pub(super) async fn numbered(&mut self, message: &[u8]) {
        let mut message = message.to_vec();
        message[4..8].copy_from_slice(&self.sequence.to_le_bytes());
        self.sequence += 1;
        self.send(&message).await;
    }

    /// The console's next IDE-R message but heartbeats, whole. Checks its number.
    pub(super) async fn message(&mut self) -> Vec<u8> {
        loop {
            let mut message = self.receive(8).await;
            let sequence = u32::from_le_bytes(message[4..8].try_into().unwrap());
            assert_eq!(sequence, self.expected);
            self.expected += 1;
            let body = match message[0] {
                0x40 => 10,
                0x48 => 5,
                0x42 | 0x45 | 0x47 | 0x4b => 0,
                0x51 | 0x52 => 23,
                0x54 => 26,
                other => panic!("{other:#x}"),
            };
            message.extend(self.receive(body).await);
            if message[0] == 0x54 {
                let length = u16::from_le_bytes([message[9], message[10]]);
                message.extend(self.receive(length.into()).await);
            }
            if message[0] != 0x4b {
                return message;
            }
        }
    }

    /// CommandWritten: to the CD if `device` is 0xb0, to the floppy if it is 0xa0.
    pub(super) async fn command(&mut self, device: u8, cdb: &[u8]) {
        let mut message = vec![0x50, 0, 0, 0, 0, 0, 0, 0];
        message.extend([0, 0, 0, 0, 0xfe, 0xff, device, 0xa0]);
        message.extend(cdb);
        message.resize(28, 0);
        self.numbered(&message).await;
    }

    pub(super) async fn answer(&mut self) -> Answer {
        let mut answer = Answer {
            data: Vec::new(),
            frames: Vec::new(),
            sense: None,
        };
        loop {
            let message = self.message().await;
            match message[0] {
                0x54 => {
                    answer.frames.push(message.len() - 34);
                    answer.data.extend(&message[34..]);
                    if message[3] & 2 != 0 {
                        return answer;
                    }
                }
                0x51 => {
                    assert_eq!(message[3], 2);
                    if message[27] & 1 != 0 {
                        answer.sense = Some([message[28], message[29], message[30]]);
                    }
                    return answer;
                }
                other => panic!("{other:#x}"),
            }
        }
    }

    pub(super) async fn ask(&mut self, device: u8, cdb: &[u8]) -> Answer {
        self.command(device, cdb).await;
        self.answer().await
    }

    /// READ(10).
    pub(super) async fn read(&mut self, device: u8, lba: u32, blocks: u16) -> Answer {
        self.ask(device, &read_10(lba, blocks)).await
    }
}

pub(super) fn read_10(lba: u32, blocks: u16) -> Vec<u8> {
    let [a, b, c, d] = lba.to_be_bytes();
    let [e, f] = blocks.to_be_bytes();
    vec![0x28, 0, a, b, c, d, 0, e, f, 0]
}

pub(super) const CD: u8 = 0xb0;
pub(super) const FLOPPY: u8 = 0xa0;

/// Only so that a failed test ends: everything that is waited for is an event.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
