//! How much memory stage one takes at its fullest, against twice the image plus 128 MiB.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cd_drive::{CdDrive, Speed};
use crate::firmware::{Firmware, Nic};
use crate::host::patient;
use crate::machine::{Machine, Medium};
use crate::parts::{Format, Parts};
use crate::second::{CMDLINE, Pair};
use crate::site::{STOPPED, Site};
use crate::story::Story;

const ALLOWANCE: u64 = 128 << 20;
const LIMIT: Duration = Duration::from_secs(1200);

/// What a measured boot gave.
struct Row {
    what: &'static str,
    image: u64,
    peak: u64,
    method: String,
}

/// Measures, prints the table; whether all are within the budget.
pub fn run(parts: &Parts) -> Result<bool> {
    println!("measuring two boots, about 10 min");
    let dir = parts.fresh_dir("bench-ram")?;
    let pair = Pair::make(&dir)?;
    let rows = [
        boot(
            parts,
            "pair",
            512,
            |site| site.import_pair("image", &pair, &[]),
            CMDLINE,
        )?,
        boot(
            parts,
            "diagnostic",
            2048,
            |site| site.import_iso("image", parts.diagnostic()?, &[]),
            "Main menu",
        )?,
    ];
    println!(
        "\n{:<12} {:>10} {:>10} {:>10}  hand-off",
        "image", "MiB", "peak MiB", "budget MiB"
    );
    let mut within = true;
    for Row {
        what,
        image,
        peak,
        method,
    } in rows
    {
        let budget = 2 * image + ALLOWANCE;
        within &= peak <= budget;
        let verdict = if peak <= budget { "PASS" } else { "FAIL" };
        println!(
            "{what:<12} {:>10} {:>10} {:>10}  {method}  {verdict}",
            mib(image),
            mib(peak),
            mib(budget)
        );
    }
    Ok(within)
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

fn boot(
    parts: &Parts,
    what: &'static str,
    memory_mib: u32,
    import: impl FnOnce(&Site) -> Result<()>,
    until: &str,
) -> Result<Row> {
    let dir = parts.fresh_dir(&format!("bench-ram-{what}"))?;
    let mut site = Site::new(parts, &dir)?;
    import(&site)?;
    site.serve()?;
    let session = site.open_session("image")?;
    let iso = site.customize(&parts.stage1(Format::Iso), &session, &[])?;
    let drive = CdDrive::insert(&iso, Speed::default())?;
    let mut machine = Machine::new(
        Firmware::Bios,
        Nic::Virtio,
        memory_mib,
        Medium::UsbCd(drive.socket()),
    )
    .start(&dir)?;
    // Only an image that really started says what starting it takes.
    let found = machine
        .console
        .wait_for_any(&[until, STOPPED], patient(LIMIT))?;
    ensure!(found.which == 0, "the loader failed: {}", found.line);
    let story = Story::of(&site.events(&session)?);
    Ok(Row {
        what,
        image: site.image_size("image")?,
        peak: story.peak_memory.context("the loader reported no memory")?,
        method: story
            .handed_off
            .context("the loader reported no hand-off")?
            .1,
    })
}
