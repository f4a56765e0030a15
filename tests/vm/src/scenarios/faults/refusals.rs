//! What the loader must not boot, and what it says instead.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Scene, says};
use crate::firmware::Firmware;
use crate::host;
use crate::parts::Format;
use crate::scenarios::{Bench, to_second};
use crate::second::Pair;

pub(super) fn wrong_key(bench: &Bench, firmware: Firmware) -> Result<()> {
    let scene = Scene::new(bench, firmware)?;
    let stranger = scene.site.generate_key("stranger")?;
    let stage1 = bench.parts.stage1(Format::Iso);
    let iso = scene
        .site
        .customize_trusting(&stage1, &scene.session, &stranger, &[])?;
    let mut boot = scene.switch_on(&iso, |_| {})?;
    let screen = boot.refused_in("manifest")?;
    says(&screen, &["key", "signature"])?;
    scene.nothing_fetched()
}

pub(super) fn expired(bench: &Bench, firmware: Firmware) -> Result<()> {
    let scene = Scene::with(bench, firmware, &["--expires-days", "30"], |_| Ok(()))?;
    let mut boot = scene.start_with(&[], |machine| machine.clock = Some("2040-01-01".into()))?;
    says(&boot.refused_in("manifest")?, &["expired"])?;
    scene.nothing_fetched()
}

pub(super) fn damaged_slot(bench: &Bench, firmware: Firmware) -> Result<()> {
    let scene = Scene::new(bench, firmware)?;
    let iso = scene.prepare(&[])?;
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
        let offset = slot["offset"].as_u64().context("a slot has no offset")? + 80;
        change(&iso, offset, |byte: &mut [u8; 1]| byte[0] ^= 0xff)?;
    }
    let mut boot = scene.switch_on(&iso, |_| {})?;
    says(&boot.refused_in("config")?, &["slot"])
}

pub(super) fn too_little_ram(bench: &Bench, firmware: Firmware) -> Result<()> {
    // 400 MiB of zeros: nothing to fetch, but twice that is more than the PC has.
    let scene = Scene::with(bench, firmware, &[], |pair| pair.pad(400 << 20))?;
    let mut boot = scene.start(&[])?;
    let screen = boot.refused_in("target")?;
    let numbers = screen
        .split_whitespace()
        .filter(|word| *word == "MiB" || *word == "GiB")
        .count();
    ensure!(
        numbers >= 2,
        "the screen does not say how much is needed and how much there is:\n{screen}"
    );
    scene.nothing_fetched()
}

/// A kernel that claims to need more memory than there is, so that no place can be found for it.
pub(super) fn kexec_refused(bench: &Bench, firmware: Firmware) -> Result<()> {
    // init_size of the setup header (Documentation/arch/x86/boot.rst).
    const INIT_SIZE: u64 = 0x260;
    let scene = Scene::with(bench, firmware, &[], |pair| {
        let kernel = bench.dir.join("greedy-kernel");
        fs::copy(&pair.kernel, &kernel).context("copying the kernel")?;
        change(&kernel, INIT_SIZE, |size: &mut [u8; 4]| {
            *size = (1u32 << 30).to_le_bytes();
        })?;
        pair.kernel = kernel;
        Ok(())
    })?;
    let mut boot = scene.start(&["--retry-seconds", "1"])?;
    let screen = boot.refused_in("hand-off")?;
    for way in ["kexec_file_load", "kexec_load"] {
        says(&screen, &[way])?;
    }
    // What has arrived is kept: the second attempt fetches nothing and gets as far.
    boot.pc.console.wait_for("are here already", to_second())?;
    says(&boot.refused_in("hand-off")?, &["kexec_load"])
}

/// Nothing vouches for what an initramfs does: the second kernel has to say it.
pub(super) fn broken_initrd(bench: &Bench, firmware: Firmware) -> Result<()> {
    let scene = Scene::with(bench, firmware, &[], |pair: &mut Pair| {
        let length = fs::metadata(&pair.initrd)
            .context("reading the initramfs' size")?
            .len();
        // The first archive's magic: the kernel takes the rest for no archive either.
        fs::write(&pair.initrd, vec![0x55; usize::try_from(length)?])
            .context("breaking the initramfs")
    })?;
    let mut boot = scene.start(&[])?;
    boot.pc.console.wait_for("Kernel panic", to_second())?;
    boot.never_stopped()?;
    let handed_off = scene
        .events()?
        .iter()
        .any(|event| event["report"]["kind"] == "hand-off");
    ensure!(handed_off, "the server heard of no hand-off");
    Ok(())
}

/// Changes bytes of a file.
fn change<const N: usize>(
    path: &Path,
    offset: u64,
    change: impl FnOnce(&mut [u8; N]),
) -> Result<()> {
    let doing = || format!("changing byte {offset} of {}", path.display());
    let mut file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .with_context(doing)?;
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(offset))
        .and_then(|_| file.read_exact(&mut bytes))
        .with_context(doing)?;
    change(&mut bytes);
    file.seek(SeekFrom::Start(offset))
        .and_then(|_| file.write_all(&bytes))
        .with_context(doing)
}
