//! What the loader must not boot, and what it says instead.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Bench, to_loader, to_second};
use crate::cd_drive::{CdDrive, Speed};
use crate::firmware::{Firmware, Nic};
use crate::host;
use crate::machine::{Machine, Medium, Running};
use crate::parts::Format;
use crate::second::{CMDLINE, Pair};
use crate::site::{FIRST_LINE, STOPPED, Session, Site};

pub(super) fn wrong_key(bench: &Bench) -> Result<()> {
    let (site, session) = site_with_pair(bench, 0, &[])?;
    let stranger = site.generate_key("stranger")?;
    let iso =
        site.customize_trusting(&bench.parts.stage1(Format::Iso), &session, &stranger, &[])?;
    let (_drive, mut machine) = start(bench, &iso, |_| {})?;
    let screen = refused_in_step(&mut machine, "manifest")?;
    ensure!(
        screen.contains("key") || screen.contains("signature"),
        "the screen names no key or signature:\n{screen}"
    );
    nothing_fetched(&site, &session)
}

pub(super) fn wrong_chunk(bench: &Bench) -> Result<()> {
    let (site, session) = site_with_pair(bench, 0, &[])?;
    flip_byte_in_pack(&site.store().join("packs"))?;
    let iso = site.customize(&bench.parts.stage1(Format::Iso), &session, &[])?;
    let (_drive, mut machine) = start(bench, &iso, |_| {})?;
    let screen = refused_in_step(&mut machine, "fetch")?;
    ensure!(
        screen.contains("chunk") || screen.contains("digest"),
        "the screen names no chunk or digest:\n{screen}"
    );
    Ok(())
}

pub(super) fn too_little_ram(bench: &Bench) -> Result<()> {
    // 400 MiB of zeros: nothing to fetch, but twice that is more than the PC has.
    let (site, session) = site_with_pair(bench, 400 << 20, &[])?;
    let iso = site.customize(&bench.parts.stage1(Format::Iso), &session, &[])?;
    let (_drive, mut machine) = start(bench, &iso, |_| {})?;
    let screen = refused_in_step(&mut machine, "target")?;
    let numbers = screen
        .split_whitespace()
        .filter(|word| *word == "MiB" || *word == "GiB")
        .count();
    ensure!(
        numbers >= 2,
        "the screen does not say how much is needed and how much there is:\n{screen}"
    );
    nothing_fetched(&site, &session)
}

pub(super) fn expired(bench: &Bench) -> Result<()> {
    let (site, session) = site_with_pair(bench, 0, &["--expires-days", "30"])?;
    let iso = site.customize(&bench.parts.stage1(Format::Iso), &session, &[])?;
    let (_drive, mut machine) = start(bench, &iso, |machine| {
        machine.clock = Some("2040-01-01".into())
    })?;
    let screen = refused_in_step(&mut machine, "manifest")?;
    ensure!(
        screen.contains("expired"),
        "the screen does not say that something expired:\n{screen}"
    );
    nothing_fetched(&site, &session)
}

pub(super) fn damaged_slot(bench: &Bench) -> Result<()> {
    let (site, session) = site_with_pair(bench, 0, &[])?;
    let iso = site.customize(&bench.parts.stage1(Format::Iso), &session, &[])?;
    let shown = host::capture(
        bench
            .parts
            .sparetire()
            .args(["stage1", "show", "--json"])
            .arg(&iso),
    )?;
    let shown: Value = serde_json::from_str(shown.trim()).context("understanding `stage1 show`")?;
    let slots = shown["slots"]
        .as_array()
        .context("`stage1 show` lists no config slots")?;
    ensure!(!slots.is_empty(), "`stage1 show` lists no config slots");
    for slot in slots {
        // Past the header, inside the text.
        flip_byte(
            &iso,
            slot["offset"].as_u64().context("a slot has no offset")? + 80,
        )?;
    }
    let (_drive, mut machine) = start(bench, &iso, |_| {})?;
    let screen = refused_in_step(&mut machine, "config")?;
    ensure!(
        screen.contains("slot"),
        "the screen does not name the config slot:\n{screen}"
    );
    Ok(())
}

fn site_with_pair<'a>(
    bench: &Bench<'a>,
    padding: u64,
    more: &[&str],
) -> Result<(Site<'a>, Session)> {
    let pair = Pair::make(&bench.dir)?;
    pair.pad(padding)?;
    let mut site = Site::new(bench.parts, &bench.dir)?;
    site.import_pair("pair", &pair, more)?;
    site.serve()?;
    let session = site.open_session("pair")?;
    Ok((site, session))
}

/// The quickest PC there is.
fn start(
    bench: &Bench,
    iso: &Path,
    change: impl FnOnce(&mut Machine),
) -> Result<(CdDrive, Running)> {
    let drive = CdDrive::insert(iso, Speed::default())?;
    let mut machine = Machine::new(
        Firmware::Bios,
        Nic::Virtio,
        512,
        Medium::UsbCd(drive.socket()),
    );
    change(&mut machine);
    let mut running = machine.start(&bench.dir)?;
    running.console.wait_for(FIRST_LINE, to_loader())?;
    Ok((drive, running))
}

/// Waits for the failure screen of the step and returns its text.
fn refused_in_step(machine: &mut Running, step: &str) -> Result<String> {
    let found = machine
        .console
        .wait_for_any(&[STOPPED, CMDLINE], to_second())?;
    ensure!(found.which == 0, "the second system was started");
    let stopped_in = machine.console.line_after("", to_second())?;
    ensure!(
        stopped_in == step,
        "the loader stopped in step {stopped_in}, expected {step}"
    );
    let before = machine.console.text().len();
    machine.console.wait_for("Trying again", to_second())?;
    let text = machine.console.text();
    let start = text[..before].rfind(STOPPED).unwrap_or(0);
    Ok(text[start..].to_owned())
}

/// That the refusal came before any part of the image crossed the network.
fn nothing_fetched(site: &Site, session: &Session) -> Result<()> {
    let events = site.events(session)?;
    let fetching = events
        .iter()
        .any(|event| event["report"]["kind"] == "progress" || event["report"]["step"] == "fetch");
    ensure!(
        !fetching,
        "the image was fetched although it was going to be refused"
    );
    Ok(())
}

/// Changes one byte in the middle of the largest pack.
fn flip_byte_in_pack(packs: &Path) -> Result<()> {
    let list = host::capture(
        std::process::Command::new("find")
            .arg(packs)
            .args(["-name", "*.pack", "-printf", "%s %p\\n"]),
    )?;
    let largest = list
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(size, path)| Some((size.parse::<u64>().ok()?, path)))
        .max()
        .with_context(|| format!("{} holds no packs", packs.display()))?;
    flip_byte(Path::new(largest.1), largest.0 / 2)
}

fn flip_byte(path: &Path, offset: u64) -> Result<()> {
    let changing = || format!("changing byte {offset} of {}", path.display());
    // The store's files are read-only on purpose.
    let mut permissions = fs::metadata(path).with_context(changing)?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    fs::set_permissions(path, permissions).with_context(changing)?;
    let mut file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .with_context(changing)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset))
        .and_then(|_| file.read_exact(&mut byte))
        .with_context(changing)?;
    byte[0] ^= 0xff;
    file.seek(SeekFrom::Start(offset))
        .and_then(|_| file.write_all(&byte))
        .with_context(changing)
}
