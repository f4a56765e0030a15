//! The other ways stage one reaches a PC, up to the loader's first line.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Bench, to_loader};
use crate::firmware::{Firmware, Nic};
use crate::host;
use crate::machine::{Machine, Medium};
use crate::parts::Format;
use crate::site::FIRST_LINE;

pub(super) fn iso_as_stick(bench: &Bench, firmware: Firmware) -> Result<()> {
    starts_from_stick(bench, firmware, &bench.parts.stage1(Format::Iso))
}

pub(super) fn img_as_stick(bench: &Bench, firmware: Firmware) -> Result<()> {
    starts_from_stick(bench, firmware, &bench.parts.build_stage1(Format::Img)?)
}

/// The EFI program where firmware looks for it on a stick without any boot entry.
pub(super) fn uki_from_esp(bench: &Bench) -> Result<()> {
    let uki = bench.parts.build_stage1(Format::Uki)?;
    let size = fs::metadata(&uki)
        .context("reading the EFI program's size")?
        .len();
    let stick = bench.dir.join("esp.img");
    // A FAT needs some room for itself.
    let kilobytes = (size / 1024 + 1024).next_multiple_of(64);
    host::capture(
        Command::new("mkfs.vfat")
            .arg("-C")
            .arg(&stick)
            .arg(kilobytes.to_string()),
    )?;
    let mtools = |program: &str| {
        let mut command = Command::new(program);
        command.arg("-i").arg(&stick);
        command
    };
    host::capture(mtools("mmd").args(["::/EFI", "::/EFI/BOOT"]))?;
    host::capture(mtools("mcopy").arg(&uki).arg("::/EFI/BOOT/BOOTX64.EFI"))?;
    starts_from_stick(bench, Firmware::Uefi, &stick)
}

fn starts_from_stick(bench: &Bench, firmware: Firmware, image: &Path) -> Result<()> {
    // An image that is as long as its file system could hide a table that says otherwise:
    // sticks are larger than what is written to them.
    let stick = bench.dir.join("stick.img");
    fs::copy(image, &stick).with_context(|| format!("copying {}", image.display()))?;
    let file = fs::File::options()
        .write(true)
        .open(&stick)
        .context("opening the stick's image")?;
    file.set_len(64 << 20)
        .context("enlarging the stick's image")?;
    let mut machine =
        Machine::new(firmware, Nic::E1000e, 512, Medium::UsbStick(stick)).start(&bench.dir)?;
    machine.console.wait_for(FIRST_LINE, to_loader())?;
    machine.stop()
}
