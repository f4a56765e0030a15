//! A kernel and initramfs pair, from the CD to the second system's own words.

use anyhow::{Result, ensure};

use super::{Bench, to_loader, to_second};
use crate::cd_drive::{CdDrive, Speed};
use crate::firmware::{Firmware, Nic};
use crate::machine::{Machine, Medium};
use crate::parts::Format;
use crate::second::{CMDLINE, EMULATED, MARKER, Pair};
use crate::site::{FIRST_LINE, STOPPED, Site};

pub(super) fn boots(bench: &Bench, firmware: Firmware, nic: Nic) -> Result<()> {
    let pair = Pair::make(&bench.dir)?;
    let mut site = Site::new(bench.parts, &bench.dir)?;
    site.import_pair("pair", &pair, &[])?;
    site.serve()?;
    let session = site.open_session("pair")?;
    let iso = site.customize(
        &bench.parts.stage1(Format::Iso),
        &session,
        &["--append", "test.appended=yes"],
    )?;

    let drive = CdDrive::insert(&iso, Speed::default())?;
    let mut machine =
        Machine::new(firmware, nic, 512, Medium::UsbCd(drive.socket())).start(&bench.dir)?;
    machine.console.wait_for(FIRST_LINE, to_loader())?;
    let read_before = drive.log()?.requests();

    let found = machine
        .console
        .wait_for_any(&[CMDLINE, STOPPED], to_second())?;
    ensure!(found.which == 0, "the loader failed: {}", found.line);
    // From the second system's own mouth: the command line of the import, what the config slot
    // adds, and what the loader adds under software emulation.
    let line = machine.console.line_after("", to_second())?;
    ensure!(
        line == format!("{} test.appended=yes {EMULATED}", pair.cmdline),
        "the second system's command line is {line:?}, expected {:?}, test.appended=yes and {EMULATED}",
        pair.cmdline
    );
    let marker = machine.console.line_after(MARKER, to_second())?;
    ensure!(
        marker == pair.marker,
        "the second system's marker is {marker:?}, expected {:?}",
        pair.marker
    );
    machine.console.wait_closed(to_second())?;

    let read_after = drive.log()?.requests();
    ensure!(
        read_after == read_before,
        "the CD was read {} times after the loader had started",
        read_after - read_before
    );
    let handed_off = site
        .events(&session)?
        .iter()
        .any(|event| event["report"]["kind"] == "hand-off");
    ensure!(handed_off, "the server heard of no hand-off");
    Ok(())
}
