//! A real QEMU with SeaBIOS: power, redirected drives, what the guest does by itself.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

use crate::boot_cd::{GREETING, Memory, Then, iso};
use crate::qemu_missing;
use virtual_pc::config::Pc;
use virtual_pc::host::nbd::Server;
use virtual_pc::host::{BootFrom, Drive, Host, HostEvent, Media, Medium, Screen};

const CD: BootFrom = BootFrom::Redirected(Drive::Cd);

/// A PC that is off, with an image that its redirected drive would read.
struct Bench {
    host: Host,
    events: Receiver<HostEvent>,
    _server: Server,
    media: Media,
    _directory: TempDir,
}

fn bench(pc: Pc, image: Vec<u8>) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let (host, events) = Host::new(pc, directory.path());
    let media = Media {
        cd: Some(Medium {
            size: image.len() as u64,
            writable: false,
        }),
        floppy: None,
    };
    let server = Server::listen(&host.drive_socket(Drive::Cd), Arc::new(Memory(image))).unwrap();
    Bench {
        host,
        events,
        _server: server,
        media,
        _directory: directory,
    }
}

fn small() -> Pc {
    Pc {
        memory_mib: 64,
        ..Pc::default()
    }
}

async fn wait_for(host: &Host, text: &str, from: u64) -> u64 {
    let patience = Instant::now() + Duration::from_secs(30);
    host.serial().wait_for(text, from, patience).await.unwrap()
}

#[tokio::test]
async fn a_pc_with_nothing_to_boot_says_so_on_screen_and_serial_port() {
    if qemu_missing() {
        return;
    }
    let bench = bench(small(), iso(Then::Hang));
    assert_eq!(bench.host.screen().await.unwrap(), Screen::Off);
    // The drive is there, but nobody asked to boot from it.
    bench.host.set_media(bench.media).await.unwrap();
    bench.host.power_on(BootFrom::Usual).await.unwrap();
    wait_for(&bench.host, "No bootable device", 0).await;
    let Screen::Text { lines } = bench.host.screen().await.unwrap() else {
        panic!("no text screen");
    };
    assert!(
        lines.iter().any(|line| line.contains("No bootable device")),
        "{lines:#?}"
    );
    let process = format!("/proc/{}", bench.host.process_id().await.unwrap());
    bench.host.power_off().await.unwrap();
    assert!(!Path::new(&process).exists());
    assert!(!*bench.host.powered().borrow());
}

#[tokio::test]
async fn a_drive_plugged_into_a_running_pc_boots_at_the_next_reset_and_not_at_the_one_after() {
    if qemu_missing() {
        return;
    }
    let bench = bench(small(), iso(Then::Hang));
    bench.host.power_on(BootFrom::Usual).await.unwrap();
    let at = wait_for(&bench.host, "No bootable device", 0).await;
    bench.host.set_media(bench.media).await.unwrap();
    bench.host.reset(CD).await.unwrap();
    let at = wait_for(&bench.host, GREETING, at).await;
    // It hangs with interrupts off now; a reset does not ask it.
    bench.host.reset(BootFrom::Usual).await.unwrap();
    let at = wait_for(&bench.host, "No bootable device", at).await;
    bench.host.set_media(Media::default()).await.unwrap();
    bench.host.set_media(bench.media).await.unwrap();
    bench.host.reset(CD).await.unwrap();
    wait_for(&bench.host, GREETING, at).await;
}

#[tokio::test]
async fn a_guest_that_resets_itself_waits_to_be_told_what_to_boot() {
    if qemu_missing() {
        return;
    }
    let mut bench = bench(small(), iso(Then::Reset));
    bench.host.set_media(bench.media).await.unwrap();
    bench.host.power_on(CD).await.unwrap();
    let at = wait_for(&bench.host, GREETING, 0).await;
    assert_eq!(bench.events.recv().await, Some(HostEvent::GuestReset));
    bench.host.reset(BootFrom::Usual).await.unwrap();
    wait_for(&bench.host, "No bootable device", at).await;
}

#[tokio::test]
async fn the_setup_screen_opens_when_asked_for() {
    if qemu_missing() {
        return;
    }
    let bench = bench(small(), iso(Then::Hang));
    bench.host.power_on(BootFrom::Setup).await.unwrap();
    wait_for(&bench.host, "Select boot device", 0).await;
}

#[tokio::test]
async fn a_killed_qemu_is_a_pc_that_lost_its_power() {
    if qemu_missing() {
        return;
    }
    let mut bench = bench(small(), iso(Then::Hang));
    bench.host.power_on(BootFrom::Usual).await.unwrap();
    let process = bench.host.process_id().await.unwrap();
    let killed = std::process::Command::new("kill")
        .args(["-9", &process.to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    assert!(matches!(
        bench.events.recv().await,
        Some(HostEvent::Crashed(_))
    ));
    assert!(!*bench.host.powered().borrow());
    bench.host.power_on(BootFrom::Usual).await.unwrap();
    wait_for(&bench.host, "SeaBIOS", 0).await;
}

#[tokio::test]
async fn a_dropped_pc_leaves_no_qemu_behind() {
    if qemu_missing() {
        return;
    }
    let bench = bench(small(), iso(Then::Hang));
    bench.host.power_on(BootFrom::Usual).await.unwrap();
    let process = bench.host.process_id().await.unwrap();
    drop(bench);
    let stat = format!("/proc/{process}/stat");
    let end = Instant::now() + Duration::from_secs(20);
    // Gone, or killed and about to be reaped.
    while std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z ")) {
        assert!(Instant::now() < end, "QEMU still runs");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_qemu_refuses_is_told_in_its_words() {
    if qemu_missing() {
        return;
    }
    let bench = bench(
        Pc {
            qemu_options: vec!["-nonsense".into()],
            ..small()
        },
        Vec::new(),
    );
    let error = bench
        .host
        .power_on(BootFrom::Usual)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("nonsense"), "{error}");
}
