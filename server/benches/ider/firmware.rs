//! The firmware's end, as little of it as the server needs to see.

use std::sync::Arc;

use sparetire_server::redirection::block_source::{BlockSource, MemoryImage};
use sparetire_server::redirection::connect::{Credentials, Tcp};
use sparetire_server::redirection::ider::{Config, IderHandle, IderServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

/// Data bytes of one frame: what firmware is believed to take.
const READ_BUFFER: u16 = 8192;
/// Header of each frame.
const FRAME_HEADER: usize = 34;

/// Starts a session that dials this port.
pub(crate) fn spawn(port: u16, cd: Arc<dyn BlockSource>) -> IderHandle {
    let dial = Tcp {
        host: "127.0.0.1".to_owned(),
        port,
    };
    let credentials = Credentials {
        user: "admin".to_owned(),
        password: Zeroizing::new("P@ssw0rd".to_owned()),
    };
    IderServer::spawn(Config::new(Arc::new(dial), credentials, Some(cd))).unwrap()
}

/// An image whose bytes tell where they stand, about the size of a stage-one ISO.
pub(crate) fn image() -> Arc<dyn BlockSource> {
    Arc::new(MemoryImage::new(pattern().into(), Vec::new()).unwrap())
}

pub(crate) const IMAGE: u32 = 16 << 20;

pub(crate) fn pattern() -> Vec<u8> {
    (0..IMAGE)
        .map(|at| (at ^ at >> 8 ^ at >> 16) as u8)
        .collect()
}

/// Takes a fresh connection to attached drives.
pub(crate) async fn attach(stream: &mut TcpStream) {
    stream.set_nodelay(true).unwrap();
    receive(stream, 8).await;
    stream
        .write_all(&[0x11, 0, 0, 0, 1, 0, 12, 0, 0x57, 1, 0, 0, 0])
        .await
        .unwrap();
    receive(stream, 9).await;
    stream
        .write_all(&[0x14, 0, 0, 0, 0, 1, 0, 0, 0, 4])
        .await
        .unwrap();
    receive(stream, 41).await;
    // Realm, nonce, quality of protection, each behind its length.
    let challenge = b"\x14\x01\0\0\x04\x13\0\0\0\x04test\x08a nonce!\x04auth";
    stream.write_all(challenge).await.unwrap();
    let header = receive(stream, 9).await;
    receive(stream, header[5].into()).await;
    stream
        .write_all(&[0x14, 0, 0, 0, 4, 0, 0, 0, 0])
        .await
        .unwrap();
    receive(stream, 18).await;
    let mut opened = [0; 30];
    opened[0] = 0x41;
    opened[16..18].copy_from_slice(&READ_BUFFER.to_le_bytes());
    opened[18..20].copy_from_slice(&READ_BUFFER.to_le_bytes());
    stream.write_all(&opened).await.unwrap();
    receive(stream, 13).await;
    stream
        .write_all(&[0x49, 0, 0, 0, 1, 0, 0, 0, 3, 1, 0, 0, 0])
        .await
        .unwrap();
}

async fn receive(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// READ(10) from the CD; the first is number 2, behind the two messages of `attach`.
pub(crate) fn read(sequence: u32, lba: u32, blocks: u16) -> [u8; 28] {
    let mut message = [0; 28];
    message[0] = 0x50;
    message[4..8].copy_from_slice(&sequence.to_le_bytes());
    message[14] = 0xb0;
    message[15] = 0xa0;
    message[16] = 0x28;
    message[18..22].copy_from_slice(&lba.to_be_bytes());
    message[23..25].copy_from_slice(&blocks.to_be_bytes());
    message
}

/// Bytes of the whole reply to a read.
pub(crate) fn reply_length(data: usize) -> usize {
    data + data.div_ceil(READ_BUFFER.into()) * FRAME_HEADER
}

/// Stops the bench if a reply is not the data at that place of the image, in frames, the last of which says so.
pub(crate) fn check(reply: &[u8], image: &[u8], offset: usize) {
    let mut data = Vec::new();
    let mut frames = reply
        .chunks(FRAME_HEADER + usize::from(READ_BUFFER))
        .peekable();
    while let Some(frame) = frames.next() {
        assert_eq!(frame[0], 0x54);
        assert_eq!(frame[3] & 2 != 0, frames.peek().is_none());
        data.extend_from_slice(&frame[FRAME_HEADER..]);
    }
    assert!(data == image[offset..offset + data.len()], "wrong data");
}
