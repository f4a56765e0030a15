//! Servers and connections that fail or lie in mid-download.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::{Boot, SLOW, SOME, Scene, says};
use crate::firmware::Firmware;
use crate::mirror::{Habit, Mirror};
use crate::scenarios::{Bench, to_second};

/// What a cut connection may cost: the largest chunk.
const LOST_PER_CUT: u64 = 256 << 10;

pub(super) fn cut_ranges(bench: &Bench, firmware: Firmware) -> Result<()> {
    let scene = Scene::new(bench, firmware)?;
    let mirror = scene.mirror(Habit::CutsEachRange { seed: 1 }, None)?;
    let mut boot = scene.start(&["--store", &mirror.guest_url()])?;
    boot.reaches_second(&scene)?;
    boot.never_stopped()?;
    let tally = mirror.tally();
    ensure!(tally.cuts >= 3, "the mirror cut too little: {tally:?}");
    let stored = packs_length(&scene)?;
    let most = stored + stored / 100 + tally.cuts * LOST_PER_CUT;
    ensure!(
        tally.pack_bytes <= most,
        "{} bytes crossed the network for an image of {stored} and {} cuts",
        tally.pack_bytes,
        tally.cuts
    );
    Ok(())
}

pub(super) fn server_killed(bench: &Bench, firmware: Firmware) -> Result<()> {
    let mut scene = Scene::new(bench, firmware)?;
    let mirror = scene.mirror(Habit::Honest, Some(SLOW))?;
    let mut boot = scene.start(&["--store", &mirror.guest_url()])?;
    mirror.wait_until(|tally| tally.pack_bytes >= SOME, to_second())?;
    let port = scene.site.kill_server()?;
    mirror.wait_until(|tally| tally.unanswered > 0, to_second())?;
    let before = mirror.tally().pack_bytes;
    scene.site.serve_again(port)?;
    boot.reaches_second(&scene)?;
    boot.never_stopped()?;
    let (after, stored) = (mirror.tally().pack_bytes, packs_length(&scene)?);
    ensure!(
        after < stored + before,
        "the download began anew: {after} bytes for {stored}, {before} of them before the server died"
    );
    Ok(())
}

pub(super) fn one_mirror_lies(bench: &Bench, firmware: Firmware) -> Result<()> {
    let scene = Scene::new(bench, firmware)?;
    let liar = scene.mirror(Habit::ChangesByte, Some(SLOW))?;
    let honest = scene.mirror(Habit::Honest, Some(SLOW))?;
    let mut boot = start(&scene, &[&liar, &honest])?;
    boot.reaches_second(&scene)?;
    boot.never_stopped()?;
    ensure!(liar.tally().ranges > 0, "the liar was never asked");
    scene.told_of_fault(&liar.guest_url(), "chunk")
}

pub(super) fn all_mirrors_lie(bench: &Bench, firmware: Firmware) -> Result<()> {
    let scene = Scene::new(bench, firmware)?;
    let liars = [
        scene.mirror(Habit::ChangesByte, None)?,
        scene.mirror(Habit::ChangesByte, None)?,
    ];
    let mut boot = start(&scene, &[&liars[0], &liars[1]])?;
    let screen = boot.refused_in("fetch")?;
    says(&screen, &["chunk"])?;
    for liar in &liars {
        says(&screen, &[&liar.guest_url()])?;
        scene.told_of_fault(&liar.guest_url(), "chunk")?;
    }
    Ok(())
}

fn start(scene: &Scene, mirrors: &[&Mirror; 2]) -> Result<Boot> {
    let [first, second] = mirrors.map(Mirror::guest_url);
    scene.start(&["--store", &first, "--store", &second])
}

/// Bytes of all packs of the store, which holds one image.
fn packs_length(scene: &Scene) -> Result<u64> {
    let mut total = 0;
    let packs = scene.site.store().join("packs");
    let listing = || format!("listing {}", packs.display());
    for folder in fs::read_dir(&packs).with_context(listing)? {
        for pack in fs::read_dir(folder.with_context(listing)?.path()).with_context(listing)? {
            total += pack
                .and_then(|pack| pack.metadata())
                .with_context(listing)?
                .len();
        }
    }
    Ok(total)
}
