//! A console offers a CD over IDE-R, sets the boot options and resets the PC; a real SeaBIOS boots
//! from it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::boot_cd::{GREETING, Then, iso};
use crate::console::offer;
use crate::qemu_missing;
use amt_redirection::console::ider::StartMode;
use virtual_pc::VirtualPc;
use virtual_pc::config::{Config, Firmware, Pc};
use virtual_pc::firmware::{BOOT_FLAGS, BootFlag, BootPut, BootReturn, PowerReturn};

const PATIENCE: Duration = Duration::from_secs(60);

async fn start() -> VirtualPc {
    let pc = Pc {
        memory_mib: 64,
        ..Pc::default()
    };
    VirtualPc::start(Config {
        pc,
        ..Config::on_free_ports()
    })
    .await
    .unwrap()
}

/// What a console does over WS-MAN, in the order that works (amt-redirection 3.13).
fn use_ider(pc: &VirtualPc, power: u32) {
    let flags = BOOT_FLAGS
        .iter()
        .map(|row| (row.flag, row.flag == BootFlag::UseIder))
        .collect();
    let put = BootPut {
        flags,
        ider_boot_device: Some(1),
        boot_media_index: Some(0),
        firmware_verbosity: Some(0),
    };
    pc.controls().firmware().with(|firmware| {
        let now = Instant::now();
        assert_eq!(
            firmware.change_boot_order(now, None),
            Ok(BootReturn::Completed)
        );
        firmware.put_boot_settings(now, &put).unwrap();
        assert_eq!(
            firmware.set_boot_config_role(now, 1),
            Ok(BootReturn::Completed)
        );
        assert_eq!(
            firmware.request_power_state(now, power),
            PowerReturn::Completed
        );
    });
}

async fn wait_for(pc: &VirtualPc, text: &str, from: u64) -> u64 {
    pc.wait_for_serial(text, from, Instant::now() + PATIENCE)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_pc_that_is_off_boots_the_cd_of_a_console_once() {
    if qemu_missing() {
        return;
    }
    let pc = start().await;
    let mut session = offer(
        pc.addresses().redirection,
        iso(Then::Hang),
        StartMode::OnReboot,
    )
    .await;
    session
        .attached
        .wait_for(|attached| *attached)
        .await
        .unwrap();
    use_ider(&pc, 2);
    let at = wait_for(&pc, GREETING, 0).await;
    assert!(session.sent.load(Ordering::Relaxed) > 0);
    let snapshot = pc.controls().snapshot();
    assert!(!snapshot.boot_forced, "{snapshot:?}");
    assert!(snapshot.ider_attached);

    // Hung with interrupts off; a reset without options boots what it always boots.
    let reset = |firmware: &mut virtual_pc::firmware::Firmware| {
        firmware.request_power_state(Instant::now(), 10)
    };
    assert_eq!(pc.controls().firmware().with(reset), PowerReturn::Completed);
    wait_for(&pc, "No bootable device", at).await;

    let counters = pc.controls().redirection().media().counters();
    assert_eq!(counters.violation_list, []);
    pc.shutdown().await;
}

#[tokio::test]
async fn a_running_pc_is_reset_into_the_cd_and_loses_it_with_the_session() {
    if qemu_missing() {
        return;
    }
    let pc = start().await;
    pc.controls().press_power_button();
    let at = wait_for(&pc, "No bootable device", 0).await;
    let mut session = offer(pc.addresses().redirection, iso(Then::Hang), StartMode::Now).await;
    session
        .attached
        .wait_for(|attached| *attached)
        .await
        .unwrap();
    use_ider(&pc, 10);
    let at = wait_for(&pc, GREETING, at).await;
    let mut drives = pc.controls().redirection().media().watch();
    pc.controls().drop_redirection();
    tokio::time::timeout(PATIENCE, drives.wait_for(|state| !state.attached))
        .await
        .unwrap()
        .unwrap();
    // Without a session nothing is redirected, whatever the options say.
    use_ider(&pc, 10);
    wait_for(&pc, "No bootable device", at).await;
    assert!(!pc.controls().snapshot().boot_forced);
    pc.shutdown().await;
}

#[tokio::test]
async fn a_guest_that_resets_itself_boots_normally_afterwards() {
    if qemu_missing() {
        return;
    }
    let pc = start().await;
    let mut session = offer(
        pc.addresses().redirection,
        iso(Then::Reset),
        StartMode::OnReboot,
    )
    .await;
    session
        .attached
        .wait_for(|attached| *attached)
        .await
        .unwrap();
    use_ider(&pc, 2);
    let at = wait_for(&pc, GREETING, 0).await;
    wait_for(&pc, "No bootable device", at).await;
    pc.shutdown().await;
}

/// Needs an ISO that boots under UEFI and prints: `SPARETIRE_STAGE1=stage1.iso`. Slow.
#[tokio::test]
#[ignore = "a minute of emulation, and an ISO that only `cargo xtask` makes"]
async fn stage_one_boots_under_uefi() {
    let Some(path) = std::env::var_os("SPARETIRE_STAGE1") else {
        eprintln!("SKIPPED: SPARETIRE_STAGE1 names no ISO");
        return;
    };
    let hardware = Pc {
        firmware: Firmware::Uefi,
        memory_mib: 512,
        ..Pc::default()
    };
    let pc = VirtualPc::start(Config {
        pc: hardware,
        ..Config::on_free_ports()
    })
    .await
    .unwrap();
    let cd = std::fs::read(path).unwrap();
    let mut session = offer(pc.addresses().redirection, cd, StartMode::OnReboot).await;
    session
        .attached
        .wait_for(|attached| *attached)
        .await
        .unwrap();
    use_ider(&pc, 2);
    pc.wait_for_serial(
        "sparetire stage one",
        0,
        Instant::now() + Duration::from_secs(300),
    )
    .await
    .unwrap();
    pc.shutdown().await;
}
