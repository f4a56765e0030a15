//! Cables, DHCP and adapters.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{SLOW, SOME, Scene};
use crate::firmware::Firmware;
use crate::machine::network::{ADAPTER, DEAD_END, LEASED, LEASES, Network};
use crate::mirror::Habit;
use crate::scenarios::{Bench, to_second};

/// How long the network is away: not a wait for something, but the fault itself.
const AWAY: Duration = Duration::from_secs(20);

/// What the loader says while it fetches and the cable is pulled.
const LINK_LOST: &str = "no link; waiting for it";

pub(super) fn link_down(bench: &Bench, firmware: Firmware) -> Result<()> {
    let scene = Scene::new(bench, firmware)?;
    let mirror = scene.mirror(Habit::Honest, Some(SLOW))?;
    let mut boot = scene.start(&["--store", &mirror.guest_url()])?;
    mirror.wait_until(|tally| tally.pack_bytes >= SOME, to_second())?;
    boot.pc.set_link(ADAPTER, false)?;
    boot.pc.console.wait_for(LINK_LOST, to_second())?;
    thread::sleep(AWAY);
    boot.pc.set_link(ADAPTER, true)?;
    boot.reaches_second(&scene)?;
    boot.never_stopped()
}

pub(super) fn dhcp_late(bench: &Bench, firmware: Firmware) -> Result<()> {
    let scene = Scene::new(bench, firmware)?;
    let mut boot = scene.start_with(&[], |machine| machine.network = Network::HeldBack)?;
    boot.pc
        .console
        .wait_for("waiting for an address", to_second())?;
    thread::sleep(AWAY);
    boot.pc.let_through()?;
    boot.reaches_second(&scene)?;
    boot.never_stopped()
}

pub(super) fn lease_changed(bench: &Bench, firmware: Firmware) -> Result<()> {
    let scene = Scene::new(bench, firmware)?;
    let mirror = scene.mirror(Habit::Honest, Some(SLOW))?;
    let [first, second] = LEASES;
    let medium = scene.prepare(&["--store", &mirror.guest_url()])?;
    let mut boot = scene.switch_on(&medium, |machine| machine.network = Network::TwoLeases)?;
    // The firmware has not yet looked at the medium: far too early for DHCP.
    boot.pc.set_link(second, false)?;
    boot.wait_for_loader()?;
    mirror.wait_until(|tally| tally.pack_bytes >= SOME, to_second())?;
    boot.pc.set_link(ADAPTER, false)?;
    boot.pc.console.wait_for(LINK_LOST, to_second())?;
    boot.pc.set_link(first, false)?;
    boot.pc.set_link(second, true)?;
    boot.pc.set_link(ADAPTER, true)?;
    boot.reaches_second(&scene)?;
    boot.never_stopped()?;
    for address in LEASED {
        addressed(&scene, address)?;
    }
    Ok(())
}

pub(super) fn two_adapters(bench: &Bench, firmware: Firmware) -> Result<()> {
    let scene = Scene::new(bench, firmware)?;
    let mut boot = scene.start_with(&["--retry-seconds", "1"], |machine| {
        machine.network = Network::DeadEndFirst;
    })?;
    boot.reaches_second(&scene)?;
    let text = boot.pc.console.text();
    ensure!(
        text.contains(DEAD_END),
        "the network that leads nowhere gave no address"
    );
    Ok(())
}

/// That the PC had this address at some time.
fn addressed(scene: &Scene, address: &str) -> Result<()> {
    let had = scene.events()?.iter().any(|event| {
        event["report"]["kind"] == "address"
            && event["report"]["address"]
                .as_str()
                .is_some_and(|text| text.starts_with(address))
    });
    ensure!(had, "the server was not told of the address {address}");
    Ok(())
}
