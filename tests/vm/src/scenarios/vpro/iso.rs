//! Any ISO over storage redirection alone: one of 2.5 GiB, whose boot program reads its last sector.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::super::{Bench, to_loader};
use super::Told;
use crate::firmware::Firmware;
use crate::host;
use crate::vpro::{Setup, Vpro};

const SECTOR: u64 = 2048;
const SECTORS: u64 = (5 << 30) / 2 / SECTOR;
const MARKER: &str = "last sector: ";

pub(in super::super) fn large(bench: &Bench) -> Result<()> {
    let tree = bench.dir.join("tree");
    fs::create_dir(&tree).context("making the ISO's tree")?;
    fs::write(tree.join("boot.bin"), boot_program(SECTORS - 1)).context("writing its program")?;
    let iso = bench.dir.join("large.iso");
    host::capture(
        Command::new("xorriso")
            .args([
                "-as",
                "mkisofs",
                "-quiet",
                "-b",
                "boot.bin",
                "-no-emul-boot",
            ])
            .args(["-boot-load-size", "4", "-o"])
            .arg(&iso)
            .arg(&tree),
    )
    .context("making the ISO")?;
    let marker = host::random_marker()?;
    let file = File::options()
        .write(true)
        .open(&iso)
        .context("opening the ISO")?;
    file.set_len(SECTORS * SECTOR)
        .and_then(|()| {
            let text = format!("{MARKER}{marker}\r\n\0");
            file.write_all_at(text.as_bytes(), (SECTORS - 1) * SECTOR)
        })
        .context("stretching the ISO")?;

    let vpro = Vpro::start(
        bench.parts,
        &bench.dir,
        Firmware::Bios,
        256,
        &Setup::default(),
    )?;
    let mut command = vpro.console(bench.parts, "boot");
    command
        .args(["--json", "--until-idle", "10", "--iso"])
        .arg(&iso);
    let told = Told::start(&command)?;
    let found = vpro.wait_serial(MARKER, to_loader())?;
    ensure!(
        found == marker,
        "the last sector says {found:?}, not {marker:?}"
    );
    told.end(to_loader())?.expect(0, "served")?;
    vpro.ensure_nothing_forced()
}

/// A program for El Torito without emulation: reads a sector by INT 13h, AH=42h, and sends what it says to COM1.
fn boot_program(sector: u64) -> Vec<u8> {
    let mut code = vec![
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x40, 0x7c, // mov si, 0x7c40: the disk address packet
        0xb4, 0x42, // mov ah, 0x42: extended read; dl is the drive
        0xcd, 0x13, // int 0x13
        0x72, 0x0f, // jc +15, to hlt
        0xbe, 0x00, 0x80, // mov si, 0x8000
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xfc, // cld
        0xac, // lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x03, // jz +3, to hlt
        0xee, // out dx, al
        0xeb, 0xf8, // jmp -8, to lodsb
        0xf4, // hlt
        0xeb, 0xfd, // jmp -3
    ];
    code.resize(0x40, 0);
    code.extend_from_slice(&[0x10, 0]); // size of the packet
    code.extend_from_slice(&1u16.to_le_bytes()); // sectors
    code.extend_from_slice(&0x8000u16.to_le_bytes()); // offset
    code.extend_from_slice(&0u16.to_le_bytes()); // segment
    code.extend_from_slice(&sector.to_le_bytes()); // first sector
    code.resize(SECTOR as usize, 0);
    code
}
