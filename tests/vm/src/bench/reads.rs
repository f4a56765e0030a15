//! How much is read from the CD until the loader speaks, and in how many requests: what a
//! boot over a slow link costs. Beside it, what others need to get as far.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cd_drive::{CdDrive, Speed};
use crate::firmware::{Firmware, Nic};
use crate::host::{self, patient};
use crate::machine::{Machine, Medium};
use crate::parts::{Format, Parts};
use crate::read_log::ReadLog;
use crate::site::FIRST_LINE;

/// What stage one may cost, on each firmware.
const BUDGET_BYTES: u64 = 4_400_000;
const BUDGET_REQUESTS: usize = 100;
/// What it should cost one day.
const AIM_BYTES: u64 = 3_500_000;
const AIM_REQUESTS: usize = 65;

const LIMIT: Duration = Duration::from_secs(300);
/// iPXE says nothing on the serial port. Once it runs it needs its CD no more, so it has
/// started when the drive has been idle for this long.
const IDLE: Duration = Duration::from_secs(30);

/// Measures, prints the table; whether ours is within its budget.
pub fn run(parts: &Parts) -> Result<bool> {
    let dir = parts.fresh_dir("bench-reads")?;
    let ours = parts.stage1(Format::Iso);
    let grub = grub_around_the_same(parts, &ours, &dir)?;
    let ipxe = host::first_existing("iPXE", &["/usr/lib/ipxe/ipxe.iso"])?;
    println!("measuring six boots, about 5 min");
    let mut within = true;
    let mut rows = Vec::new();
    for firmware in Firmware::ALL {
        let log = until_loader(&ours, firmware, &dir)?;
        let good = log.bytes() <= BUDGET_BYTES && log.requests() <= BUDGET_REQUESTS;
        within &= good;
        rows.push(row(
            "sparetire stage one",
            firmware,
            &log,
            if good { "PASS" } else { "FAIL" },
        ));
        rows.push(row(
            "grub-mkrescue, same parts",
            firmware,
            &until_loader(&grub, firmware, &dir)?,
            "",
        ));
        rows.push(row(
            "Debian's ipxe.iso",
            firmware,
            &until_idle(&ipxe, firmware, &dir)?,
            "no second stage yet",
        ));
    }
    println!(
        "\n{:<27} {:<5} {:>10} {:>9}  {:<38}",
        "USB CD in QEMU", "", "bytes", "requests", "most frequent sizes"
    );
    for row in rows {
        println!("{row}");
    }
    println!(
        "\nbudget: {BUDGET_BYTES} bytes and {BUDGET_REQUESTS} requests until the loader's first line; \
         aim: {AIM_BYTES} and {AIM_REQUESTS}"
    );
    Ok(within)
}

fn row(what: &str, firmware: Firmware, log: &ReadLog, verdict: &str) -> String {
    let sizes: Vec<String> = log
        .sizes()
        .iter()
        .take(3)
        .map(|(size, count)| format!("{count} x {} KiB", size / 1024))
        .collect();
    format!(
        "{what:<27} {firmware:<5} {:>10} {:>9}  {:<38} {verdict}",
        log.bytes(),
        log.requests(),
        sizes.join(", ")
    )
}

fn until_loader(iso: &Path, firmware: Firmware, dir: &Path) -> Result<ReadLog> {
    let drive = CdDrive::insert(iso, Speed::default())?;
    let mut machine =
        Machine::new(firmware, Nic::E1000e, 512, Medium::UsbCd(drive.socket())).start(dir)?;
    machine.console.wait_for(FIRST_LINE, patient(LIMIT))?;
    let log = drive.log()?;
    machine.stop()?;
    Ok(log)
}

fn until_idle(iso: &Path, firmware: Firmware, dir: &Path) -> Result<ReadLog> {
    let drive = CdDrive::insert(iso, Speed::default())?;
    let mut machine =
        Machine::new(firmware, Nic::E1000e, 512, Medium::UsbCd(drive.socket())).start(dir)?;
    let (mut log, mut since) = (drive.log()?, Instant::now());
    let end = Instant::now() + patient(LIMIT);
    while log.requests() == 0 || since.elapsed() < IDLE {
        ensure!(
            Instant::now() < end,
            "the CD is still read after {} s",
            patient(LIMIT).as_secs()
        );
        // Silence can only be measured by letting time pass; a machine that stops ends it.
        ensure!(
            machine
                .console
                .wait_closed(Duration::from_millis(250))
                .is_err(),
            "the machine stopped"
        );
        let now = drive.log()?;
        if now.requests() != log.requests() {
            (log, since) = (now, Instant::now());
        }
    }
    machine.screenshot(&dir.join(format!("idle-{firmware}.png")))?;
    machine.stop()?;
    Ok(log)
}

/// grub-mkrescue with its defaults around the kernel and initramfs of our own ISO.
fn grub_around_the_same(parts: &Parts, ours: &Path, dir: &Path) -> Result<PathBuf> {
    let tree = dir.join("grub");
    let boot = tree.join("boot");
    fs::create_dir_all(boot.join("grub")).context("creating a directory for GRUB")?;
    let mut extract = Command::new("xorriso");
    extract
        .args(["-osirrox", "on", "-indev"])
        .arg(ours)
        .args(["-extract", "/isolinux/initrd.img"]);
    host::capture(extract.arg(boot.join("initrd.img"))).context("extracting our initramfs")?;
    fs::copy(parts.kernel(), boot.join("bzImage")).context("copying our kernel")?;
    let config = "linux /boot/bzImage console=ttyS0,115200 console=tty0 quiet\ninitrd /boot/initrd.img\nboot\n";
    fs::write(boot.join("grub/grub.cfg"), config).context("writing grub.cfg")?;
    let iso = dir.join("grub.iso");
    host::capture(Command::new("grub-mkrescue").arg("-o").arg(&iso).arg(&tree))
        .context("building GRUB's ISO")?;
    Ok(iso)
}
