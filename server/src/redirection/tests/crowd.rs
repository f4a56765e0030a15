//! Many sessions in one process, some of them with a peer that wants to do harm.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::firmware::{CD, FLOPPY, Firmware, PATIENCE, cd, credentials, pattern, read_10};
use crate::redirection::block_source::{BlockSource, MemoryImage};
use crate::redirection::connect::Tcp;
use crate::redirection::ider::{Config, EndReason, IderHandle, IderServer, Loss};

const GOOD: u32 = 200;

fn serve(address: SocketAddr, image: Arc<dyn BlockSource>) -> IderHandle {
    let dial = Tcp {
        host: address.ip().to_string(),
        port: address.port(),
    };
    let mut config = Config::new(Arc::new(dial), credentials(), Some(image));
    config.retry.give_up = std::time::Duration::ZERO;
    IderServer::spawn(config).unwrap()
}

/// A session over TCP, both ends.
async fn pair(image: Arc<dyn BlockSource>) -> (IderHandle, Firmware<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let handle = serve(listener.local_addr().unwrap(), image);
    let (stream, _) = listener.accept().await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (firmware, _) = Firmware::attach(stream).await;
    (handle, firmware)
}

/// Harm, one kind after the other, until the good sessions are through.
async fn hostile(kind: u32) {
    let (handle, mut firmware) = pair(cd(1 << 20)).await;
    match kind {
        // Garbage.
        0 => firmware.send(&[0xee; 4096]).await,
        // Commands without end, none of whose answers is taken.
        1 => {
            let mut flood = Vec::new();
            for sequence in 2_u32..5000 {
                let mut message = vec![0x50, 0, 0, 0];
                message.extend(sequence.to_le_bytes());
                message.extend([0, 0, 0, 0, 0xfe, 0xff, CD, 0xa0]);
                message.extend(read_10(0, 512));
                message.resize(message.len().next_multiple_of(28), 0);
                flood.extend(message);
            }
            // The session may be over before all of it is sent.
            let _ = firmware.stream.write_all(&flood).await;
        }
        // Half a message, then nothing.
        2 => firmware.send(&[0x50, 0, 0, 0, 2, 0]).await,
        // Data that nobody asked for, resets, pings.
        _ => {
            let mut flood = Vec::new();
            for sequence in (2_u32..20_000).step_by(2) {
                flood.extend([0x46, 0, 0, 0]);
                flood.extend(sequence.to_le_bytes());
                flood.push(1);
                flood.extend([0x44, 0, 0, 0]);
                flood.extend((sequence + 1).to_le_bytes());
            }
            let _ = firmware.stream.write_all(&flood).await;
        }
    }
    if kind == 2 {
        handle.end();
        let mut sink = vec![0; 4096];
        while !matches!(firmware.stream.read(&mut sink).await, Ok(0) | Err(_)) {}
        assert!(matches!(handle.ended().await, EndReason::Asked));
    } else if kind < 2 {
        let reason = handle.ended().await;
        let harmed = matches!(
            reason,
            EndReason::Failed(Loss::Protocol(_) | Loss::Io(_) | Loss::HungUp)
        );
        assert!(harmed, "{reason:?}");
    }
}

async fn good(number: u32, image: Arc<[u8]>) {
    let source = MemoryImage::new(image.clone(), Vec::new()).unwrap();
    let (handle, mut firmware) = pair(Arc::new(source)).await;
    for round in 0..20 {
        let lba = (number * 31 + round * 17) % 480;
        let read = firmware.read(CD, lba, 32).await;
        let from = lba as usize * 2048;
        assert_eq!(read.data, image[from..from + (64 << 10)]);
        assert_eq!(firmware.ask(FLOPPY, &[0]).await.sense, None);
    }
    handle.end();
    assert_eq!(firmware.message().await[0], 0x42);
    firmware.numbered(&[0x43, 0, 0, 0, 0, 0, 0, 0]).await;
    assert!(matches!(handle.ended().await, EndReason::Asked));
    assert_eq!(handle.statistics().commands, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_sessions_do_not_notice_a_hostile_one() {
    let hostile_one = tokio::spawn(async {
        let mut kind = 0;
        loop {
            hostile(kind % 4).await;
            kind += 1;
        }
    });
    let image: Arc<[u8]> = pattern(1 << 20).into();
    let mut sessions = JoinSet::new();
    for number in 0..GOOD {
        sessions.spawn(good(number, image.clone()));
    }
    let through = timeout(PATIENCE, async {
        while let Some(session) = sessions.join_next().await {
            session.unwrap();
        }
    });
    through.await.unwrap();
    // It had neither stopped nor failed in what it does.
    assert!(!hostile_one.is_finished());
    hostile_one.abort();
}

#[tokio::test]
async fn each_kind_of_harm_ends_the_session_that_it_comes_through() {
    for kind in 0..4 {
        timeout(PATIENCE, hostile(kind)).await.unwrap();
    }
}
