use amt_redirection::console::sol::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use super::firmware::{Firmware, PATIENCE};
use crate::redirection::sol::{EndReason, Sol, State, spawn};

/// A running session and its firmware's end.
async fn running() -> (Sol, Firmware<DuplexStream>) {
    running_over(1 << 20).await
}

async fn running_over(buffer: usize) -> (Sol, Firmware<DuplexStream>) {
    let (near, far) = duplex(buffer);
    let sol = spawn(near, Vec::new(), Options::default());
    let mut firmware = Firmware::new(far);
    let start = firmware.receive(24).await;
    assert_eq!(start[..4], [0x20, 0, 0, 0]);
    let mut reply = [0; 23];
    reply[0] = 0x21;
    reply[8] = 1;
    firmware.send(&reply).await;
    let mut state = sol.control.state();
    state
        .wait_for(|state| matches!(state, State::Running))
        .await
        .unwrap();
    (sol, firmware)
}

#[tokio::test]
async fn bytes_pass_both_ways() {
    let (mut sol, mut firmware) = running().await;
    let mut data = vec![0x2a, 0, 0, 0, 0, 0, 0, 0, 7, 0];
    data.extend(b"login: ");
    firmware.send(&data).await;
    let mut printed = [0; 7];
    sol.terminal.read_exact(&mut printed).await.unwrap();
    assert_eq!(&printed, b"login: ");
    sol.terminal.write_all(b"root\r").await.unwrap();
    let typed = firmware.receive(15).await;
    assert_eq!(typed[0], 0x28);
    assert_eq!(typed[8..], *b"\x05\x00root\r");
    // Power on, RTS and DTR.
    let mut controls = sol.control.controls();
    firmware.send(&[0x29, 0, 0, 0, 0, 0, 0, 0, 3, 4]).await;
    let told = controls.wait_for(Option::is_some).await.unwrap();
    assert!(told.unwrap().powered_on());
}

#[tokio::test]
async fn an_end_that_was_asked_for_is_in_order() {
    let (mut sol, mut firmware) = running().await;
    sol.control.end();
    assert_eq!(firmware.receive(8).await[0], 0x22);
    let mut last = vec![0x2a, 0, 0, 0, 0, 0, 0, 0, 3, 0];
    last.extend(b"bye");
    firmware.send(&last).await;
    firmware.send(&[0x23, 0, 0, 0, 0, 0, 0, 0]).await;
    assert_eq!(firmware.receive(4).await, [0x12, 0, 0, 0]);
    let mut rest = Vec::new();
    firmware.stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    let mut printed = Vec::new();
    sol.terminal.read_to_end(&mut printed).await.unwrap();
    assert_eq!(printed, b"bye");
    assert!(matches!(sol.control.ended().await, EndReason::Asked));
}

#[tokio::test]
async fn a_dropped_terminal_ends_the_session() {
    let (sol, mut firmware) = running().await;
    drop(sol.terminal);
    assert_eq!(firmware.receive(8).await[0], 0x22);
    firmware.send(&[0x23, 0, 0, 0, 0, 0, 0, 0]).await;
    assert!(matches!(sol.control.ended().await, EndReason::Asked));
}

#[tokio::test]
async fn firmware_that_ends_or_vanishes_is_told_apart() {
    let (sol, mut firmware) = running().await;
    firmware.send(&[0x23, 0, 0, 0, 0, 0, 0, 0]).await;
    assert!(matches!(sol.control.ended().await, EndReason::Closed));
    let (sol, firmware) = running().await;
    drop(firmware);
    assert!(matches!(
        sol.control.ended().await,
        EndReason::HungUp | EndReason::Io(_)
    ));
    let (sol, mut firmware) = running().await;
    firmware.send(&[0x77]).await;
    assert!(matches!(sol.control.ended().await, EndReason::Protocol(_)));
}

#[tokio::test]
async fn output_that_nobody_reads_is_dropped_from_its_front() {
    let (mut sol, mut firmware) = running().await;
    let mut sent = Vec::new();
    for number in 0..100_u8 {
        let mut data = vec![0x2a, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x27];
        data.extend([number; 10_000]);
        sent.extend([number; 10_000]);
        firmware.send(&data).await;
    }
    // All of it has arrived when something behind it was answered.
    firmware.send(&[0x24, 0, 0, 0, 0, 0, 0, 0]).await;
    loop {
        let message = firmware.receive(8).await;
        if message[0] == 0x25 {
            break;
        }
    }
    let dropped = *sol.control.dropped().borrow();
    assert!(dropped > 0);
    let mut rest = vec![0; sent.len() - dropped as usize];
    let read = sol.terminal.read_exact(&mut rest);
    timeout(PATIENCE, read).await.unwrap().unwrap();
    // What was already in the stream came first, then a gap, then the newest.
    let kept = 256 << 10;
    assert_eq!(rest[rest.len() - kept..], sent[sent.len() - kept..]);
}

#[tokio::test(start_paused = true)]
async fn the_end_does_not_wait_for_firmware_that_takes_nothing() {
    let (mut sol, _firmware) = running_over(64).await;
    sol.terminal.write_all(&[b'x'; 10_000]).await.unwrap();
    let asked = tokio::time::Instant::now();
    sol.control.end();
    assert!(matches!(sol.control.ended().await, EndReason::Asked));
    assert!(asked.elapsed() < std::time::Duration::from_secs(10));
}
