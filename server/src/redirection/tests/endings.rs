//! Losing a connection, coming back, and ending for good.

use std::sync::Arc;
use std::time::Duration;

use amt_redirection::console::OpenError;
use amt_redirection::console::ider::Error;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::firmware::{CD, Firmware, PATIENCE, cd, config, pattern, read_10};
use crate::redirection::block_source::BlockSource;
use crate::redirection::connect::ConnectError;
use crate::redirection::ider::{Config, EndReason, Event, IderHandle, IderServer, Loss, State};

async fn call(calls: &mut UnboundedReceiver<DuplexStream>) -> DuplexStream {
    calls.recv().await.unwrap()
}

fn spawn(change: impl FnOnce(&mut Config)) -> (IderHandle, UnboundedReceiver<DuplexStream>) {
    let (mut config, calls) = config(Some(cd(1 << 20)));
    change(&mut config);
    (IderServer::spawn(config).unwrap(), calls)
}

#[tokio::test(start_paused = true)]
async fn a_session_dropped_in_the_middle_of_a_read_comes_back() {
    let (handle, mut calls) = spawn(|_| {});
    let mut events = handle.events();
    let (mut firmware, start_mode) = Firmware::attach(call(&mut calls).await).await;
    assert_eq!(start_mode, 0x09);
    assert_eq!(firmware.read(CD, 0, 1).await.data, pattern(2048));
    firmware.command(CD, &read_10(1, 32)).await;
    firmware.receive(5000).await;
    drop(firmware);
    // The host is in the middle of its boot: it needs the drives now.
    let (mut firmware, start_mode) = Firmware::attach(call(&mut calls).await).await;
    assert_eq!(start_mode, 0x19);
    let read = firmware.read(CD, 1, 32).await;
    assert_eq!(read.data, pattern(1 << 20)[2048..33 * 2048]);
    let statistics = handle.statistics();
    assert_eq!((statistics.attachments, statistics.reads), (2, 3));

    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        seen.push(match event {
            Event::Opened { read_buffer, .. } => format!("opened {read_buffer}"),
            Event::Attached => "attached".to_owned(),
            Event::Lost { retry_in, .. } => format!("lost {retry_in:?}"),
            other => format!("{other:?}"),
        });
    }
    let once = ["opened 8192", "attached"];
    assert_eq!(seen, [&once[..], &["lost 1s"], &once[..]].concat());
}

#[tokio::test(start_paused = true)]
async fn each_vain_attempt_waits_longer_until_it_is_given_up() {
    let (handle, mut calls) = spawn(|config| config.retry.give_up = Duration::from_secs(100));
    let mut events = handle.events();
    let (firmware, _) = Firmware::attach(call(&mut calls).await).await;
    drop(firmware);
    let mut waits = Vec::new();
    loop {
        tokio::select! {
            // No one answers.
            end = calls.recv() => drop(end),
            event = events.recv() => match event.unwrap() {
                Event::Lost { retry_in, .. } => waits.push(retry_in.as_secs()),
                Event::Ended(EndReason::GaveUp(Loss::Connect(_))) => break,
                Event::Opened { .. } | Event::Attached => {}
                other => panic!("{other:?}"),
            },
        }
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
    assert!(matches!(handle.ended().await, EndReason::GaveUp(_)));
}

#[tokio::test]
async fn a_first_attempt_that_fails_is_the_last() {
    let (handle, mut calls) = spawn(|_| {});
    let mut firmware = Firmware::new(call(&mut calls).await);
    firmware.receive(8).await;
    firmware.send(&[0x11, 2, 0, 0]).await;
    match handle.ended().await {
        EndReason::Failed(Loss::Connect(error)) => {
            assert!(matches!(*error, ConnectError::Open(OpenError::Busy)));
        }
        other => panic!("{other:?}"),
    }
    assert!(calls.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn another_console_is_waited_for_when_coming_back() {
    let (_handle, mut calls) = spawn(|_| {});
    let (firmware, _) = Firmware::attach(call(&mut calls).await).await;
    drop(firmware);
    // Firmware has not noticed yet that the old connection is gone.
    let mut firmware = Firmware::new(call(&mut calls).await);
    firmware.receive(8).await;
    firmware.send(&[0x11, 2, 0, 0]).await;
    Firmware::attach(call(&mut calls).await).await;
}

#[tokio::test(start_paused = true)]
async fn wrong_credentials_are_not_tried_again() {
    let (handle, mut calls) = spawn(|_| {});
    let (firmware, _) = Firmware::attach(call(&mut calls).await).await;
    drop(firmware);
    // Someone changed the password meanwhile.
    let mut firmware = Firmware::new(call(&mut calls).await);
    firmware.challenge(b"IDER").await;
    firmware.send(&[0x14, 0x01, 0, 0, 0x04, 0, 0, 0, 0]).await;
    match handle.ended().await {
        EndReason::Failed(Loss::Connect(error)) => {
            assert!(matches!(
                *error,
                ConnectError::Open(OpenError::BadCredentials)
            ));
        }
        other => panic!("{other:?}"),
    }
    assert!(calls.recv().await.is_none());
}

/// The orderly end as firmware sees it.
async fn closes(firmware: &mut Firmware<DuplexStream>) {
    assert_eq!(firmware.message().await[0], 0x42);
    firmware.numbered(&[0x43, 0, 0, 0, 0, 0, 0, 0]).await;
    assert_eq!(firmware.receive(4).await, [0x12, 0, 0, 0]);
    let mut rest = Vec::new();
    firmware.stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn an_end_that_was_asked_for_is_close_end_and_fin() {
    let (handle, mut calls) = spawn(|_| {});
    let (mut firmware, _) = Firmware::attach(call(&mut calls).await).await;
    assert!(matches!(*handle.state().borrow(), State::Serving));
    handle.end();
    closes(&mut firmware).await;
    assert!(matches!(handle.ended().await, EndReason::Asked));
    assert!(calls.recv().await.is_none());
}

#[tokio::test]
async fn a_dropped_handle_ends_the_session_as_well() {
    let (handle, mut calls) = spawn(|_| {});
    let (mut firmware, _) = Firmware::attach(call(&mut calls).await).await;
    drop(handle);
    closes(&mut firmware).await;
}

#[tokio::test(start_paused = true)]
async fn firmware_that_does_not_agree_to_the_end_is_left() {
    let (handle, mut calls) = spawn(|_| {});
    let (mut firmware, _) = Firmware::attach(call(&mut calls).await).await;
    handle.end();
    assert_eq!(firmware.message().await[0], 0x42);
    assert!(matches!(handle.ended().await, EndReason::Asked));
    assert_eq!(firmware.receive(4).await, [0x12, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_end_can_be_asked_for_while_connecting_and_waiting() {
    let (handle, mut calls) = spawn(|_| {});
    let _silent = call(&mut calls).await;
    handle.end();
    assert!(matches!(handle.ended().await, EndReason::Asked));

    let (handle, mut calls) = spawn(|_| {});
    let (firmware, _) = Firmware::attach(call(&mut calls).await).await;
    drop(firmware);
    let mut state = handle.state();
    state
        .wait_for(|state| matches!(state, State::Waiting))
        .await
        .unwrap();
    handle.end();
    assert!(matches!(handle.ended().await, EndReason::Asked));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_reads_nothing_ends_when_idle() {
    let (handle, mut calls) = spawn(|config| {
        config.limits.idle = Some(Duration::from_secs(60));
    });
    let (mut firmware, _) = Firmware::attach(call(&mut calls).await).await;
    tokio::time::advance(Duration::from_secs(30)).await;
    let begun = tokio::time::Instant::now();
    firmware.read(CD, 0, 1).await;
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(11)).await;
        // An operating system polls for ever.
        let ready = firmware.ask(CD, &[0]).await;
        assert_eq!(ready.sense, None);
    }
    closes(&mut firmware).await;
    assert!(matches!(handle.ended().await, EndReason::Idle));
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(60) && waited < Duration::from_secs(61));
}

#[tokio::test(start_paused = true)]
async fn silence_of_the_firmware_is_a_loss() {
    let (handle, mut calls) = spawn(|_| {});
    let mut events = handle.events();
    let (mut firmware, _) = Firmware::attach(call(&mut calls).await).await;
    loop {
        match events.recv().await.unwrap() {
            Event::Lost {
                loss: Loss::Protocol(Error::Silence(_)),
                ..
            } => break,
            Event::Opened { .. } | Event::Attached => {}
            other => panic!("{other:?}"),
        }
    }
    // Heartbeats had gone out all the while.
    let mut sent = Vec::new();
    firmware.stream.read_to_end(&mut sent).await.unwrap();
    assert!(sent.len() >= 3 * 8 && sent.chunks(8).all(|message| message[0] == 0x4b));
    Firmware::attach(call(&mut calls).await).await;
}

#[tokio::test(start_paused = true)]
async fn firmware_that_takes_nothing_is_a_loss() {
    let (mut config, _calls) = config(Some(cd(4 << 20)));
    let (dial, mut calls) = super::firmware::inside(4096);
    config.dial = dial;
    // The firmware keeps talking, so that the watchdog has nothing to say.
    config.options.heartbeat = Duration::ZERO;
    let handle = IderServer::spawn(config).unwrap();
    let mut events = handle.events();
    let (mut firmware, _) = Firmware::attach(call(&mut calls).await).await;
    firmware.command(CD, &read_10(0, 64)).await;
    loop {
        match events.recv().await.unwrap() {
            Event::Lost {
                loss: Loss::Stalled(_),
                ..
            } => break,
            Event::Opened { .. } | Event::Attached => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_does_not_wait_for_a_peer_that_takes_nothing() {
    let (mut config, _calls) = config(Some(cd(4 << 20)));
    let (dial, mut calls) = super::firmware::inside(4096);
    config.dial = dial;
    let handle = IderServer::spawn(config).unwrap();
    let (mut firmware, _) = Firmware::attach(call(&mut calls).await).await;
    firmware.command(CD, &read_10(0, 64)).await;
    firmware.receive(100).await;
    let asked = tokio::time::Instant::now();
    handle.end();
    assert!(matches!(handle.ended().await, EndReason::Asked));
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn refused_drives_are_a_failure() {
    let (handle, mut calls) = spawn(|_| {});
    let mut firmware = Firmware::open(call(&mut calls).await, b"IDER").await;
    firmware.message().await;
    let mut reply = [0; 30];
    reply[0] = 0x41;
    reply[16..20].copy_from_slice(&[0x00, 0x20, 0x00, 0x20]);
    firmware.numbered(&reply).await;
    firmware.message().await;
    firmware
        .numbered(&[0x49, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0])
        .await;
    let reason = handle.ended().await;
    assert!(matches!(reason, EndReason::Failed(Loss::AttachRefused(0))));
}

/// Panics when it is read.
struct Bomb;

impl BlockSource for Bomb {
    fn bytes(&self) -> u64 {
        4096
    }

    fn read_now(&self, _offset: u64, _into: &mut [u8]) -> std::io::Result<()> {
        panic!("as the test wants it")
    }
}

#[tokio::test]
async fn a_panic_ends_its_own_session_and_says_so() {
    let (good, mut good_calls) = spawn(|_| {});
    let (bad, mut bad_calls) = spawn(|config| config.cd = Some(Arc::new(Bomb)));
    let (mut bad_firmware, _) = Firmware::attach(call(&mut bad_calls).await).await;
    let (mut good_firmware, _) = Firmware::attach(call(&mut good_calls).await).await;
    bad_firmware.command(CD, &read_10(0, 1)).await;
    let ended = timeout(PATIENCE, bad.ended()).await.unwrap();
    assert!(matches!(ended, EndReason::Panicked));
    assert_eq!(
        good_firmware.read(CD, 1, 1).await.data,
        pattern(4096)[2048..]
    );
    assert!(matches!(*good.state().borrow(), State::Serving));
}
