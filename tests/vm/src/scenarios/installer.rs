//! Debian's installer, made from its package by the recipe that is shipped, up to its first question.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::{Bench, to_loader, to_menu, to_second};
use crate::cd_drive::{CdDrive, Speed};
use crate::firmware::{Firmware, Nic};
use crate::machine::{Machine, Medium};
use crate::parts::Format;
use crate::second::stock_kernel;
use crate::site::{FIRST_LINE, STOPPED, Site};

/// The initramfs unpacks to 137 MB and is there twice while it does.
const MEMORY_MIB: u32 = 1024;

pub(super) fn asks(bench: &Bench, firmware: Firmware, nic: Nic) -> Result<()> {
    let recipe = recipe(bench)?;
    let mut site = Site::new(bench.parts, &bench.dir)?;
    site.build_image(
        &recipe,
        &bench.dir.join("built"),
        // The package is a host package of the tests: nothing is downloaded.
        &["--installed", "/", "--name", "installer"],
    )?;
    site.serve()?;
    let session = site.open_session("installer")?;
    let stage1 = site.customize(&bench.parts.stage1(Format::Iso), &session, &[])?;

    let drive = CdDrive::insert(&stage1, Speed::default())?;
    let mut machine =
        Machine::new(firmware, nic, MEMORY_MIB, Medium::UsbCd(drive.socket())).start(&bench.dir)?;
    machine.console.wait_for(FIRST_LINE, to_loader())?;
    let found = machine.console.wait_for_any(
        &["Linux version", "Select a language", STOPPED],
        to_second(),
    )?;
    ensure!(found.which != 2, "the loader failed: {}", found.line);
    if found.which == 0 {
        machine.console.wait_for("Select a language", to_menu())?;
    }
    machine.stop()
}

/// The shipped recipe, for the Debian release whose installer this machine has.
fn recipe(bench: &Bench) -> Result<PathBuf> {
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../images/netboot-installer/recipe.toml");
    let mut text =
        fs::read_to_string(&shipped).with_context(|| format!("reading {}", shipped.display()))?;
    if stock_kernel()?
        .components()
        .any(|part| part.as_os_str() == "13")
    {
        text = text
            .replace("installer-12-", "installer-13-")
            .replace("images/12/", "images/13/");
    }
    let dir = bench.dir.join("recipe");
    fs::create_dir_all(&dir).context("making a folder")?;
    fs::write(dir.join("recipe.toml"), text).context("writing the recipe")?;
    Ok(dir)
}
