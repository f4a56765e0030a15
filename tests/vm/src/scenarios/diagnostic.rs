//! The diagnostic ISO, booted from memory by its own boot configuration.

use anyhow::{Result, ensure};

use super::{Bench, to_loader, to_menu, to_second};
use crate::cd_drive::{CdDrive, Speed};
use crate::firmware::{Firmware, Nic};
use crate::machine::{Machine, Medium, Running};
use crate::parts::Format;
use crate::second::iso_with_note;
use crate::site::{FIRST_LINE, STOPPED, Site};

/// RAM of the virtual PC: the image twice, its root file system unpacked from neither.
pub(super) const MEMORY_MIB: u32 = 2048;

pub(super) fn boots(bench: &Bench, firmware: Firmware, nic: Nic) -> Result<()> {
    let (mut machine, _drive) = menu_of(bench, "", |medium| {
        Machine::new(firmware, nic, MEMORY_MIB, medium)
    })?;
    // The menu answers.
    machine.console.type_text("p\n")?;
    machine.console.wait_closed(to_second())
}

/// Boots the ISO from memory to its menu, the way it goes on a PC: through stage one, with `append`
/// in the boot session's configuration, on the PC that `machine` makes for the medium. Checks that
/// what runs is this very image.
pub(super) fn menu_of(
    bench: &Bench,
    append: &str,
    machine: impl FnOnce(Medium) -> Machine,
) -> Result<(Running, CdDrive)> {
    let (iso, marker) = iso_with_note(bench.parts.diagnostic()?, &bench.dir)?;
    let mut site = Site::new(bench.parts, &bench.dir)?;
    site.import_iso("diagnostic", &iso, &[])?;
    site.serve()?;
    let session = site.open_session("diagnostic")?;
    let note = format!("test.note={}", crate::host::random_marker()?);
    let stage1 = site.customize(
        &bench.parts.stage1(Format::Iso),
        &session,
        &["--append", format!("{note} {append}").trim()],
    )?;

    let drive = CdDrive::insert(&stage1, Speed::default())?;
    let mut machine = machine(Medium::UsbCd(drive.socket())).start(&bench.dir)?;
    machine.console.wait_for(FIRST_LINE, to_loader())?;
    let found = machine.console.wait_for_any(
        &[
            "handing over",
            "Linux version",
            "kernel command line: ",
            STOPPED,
        ],
        to_menu(),
    )?;
    ensure!(found.which != 3, "the loader failed: {}", found.line);

    machine.console.wait_for("Main menu", to_menu())?;
    let text = machine.console.text();
    let said = |prefix: &str| {
        text.lines()
            .rev()
            .find_map(|line| line.trim().strip_prefix(prefix))
            .unwrap_or_default()
            .to_owned()
    };
    let cmdline = said("kernel command line: ");
    ensure!(
        cmdline.split(' ').any(|word| word == note),
        "the second system's command line is {cmdline:?}, without {note}"
    );
    ensure!(
        cmdline.contains("boot=live"),
        "the second system's command line is {cmdline:?}, without boot=live"
    );
    ensure!(
        said("site note: ") == marker,
        "the second system's note is {:?}, expected {marker:?}",
        said("site note: ")
    );
    ensure!(
        !said("medium: ").contains("/dev/sr"),
        "the second system reads the CD: {:?}",
        said("medium: ")
    );

    machine
        .console
        .wait_for("Choose and press Enter: ", to_second())?;
    Ok((machine, drive))
}
