//! What programs that are not ours say about the stage-one ISO.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::{Bench, to_second};
use crate::firmware::{Firmware, Nic};
use crate::host;
use crate::machine::{Machine, Medium};
use crate::parts::Format;
use crate::second::Initramfs;

/// xorriso knows El Torito, MBR and GPT; isoinfo knows ISO 9660 and Rock Ridge.
pub(super) fn other_readers(bench: &Bench) -> Result<()> {
    let iso = bench.parts.stage1(Format::Iso);
    let report = |what: &str| {
        host::capture(
            Command::new("xorriso")
                .arg("-indev")
                .arg(&iso)
                .args([what, "plain"]),
        )
        .with_context(|| format!("letting xorriso {what}"))
    };
    let boot = report("-report_el_torito")?;
    for (platform, what) in [("BIOS", "BIOS"), ("UEFI", "UEFI")] {
        let found = boot
            .lines()
            .any(|line| line.starts_with("El Torito boot img :") && line.contains(platform));
        ensure!(
            found,
            "xorriso finds no El Torito entry for {what}:\n{boot}"
        );
    }
    let system_area = report("-report_system_area")?;
    ensure!(
        system_area.contains("isohybrid"),
        "xorriso finds no isohybrid boot record:\n{system_area}"
    );
    ensure!(
        system_area.contains("GPT partition"),
        "xorriso finds no GPT partition:\n{system_area}"
    );

    let about = host::capture(Command::new("isoinfo").arg("-d").arg("-i").arg(&iso))?;
    ensure!(
        about.contains("CD-ROM is in ISO 9660 format"),
        "isoinfo does not know the format:\n{about}"
    );
    ensure!(
        about.contains("El Torito VD version 1"),
        "isoinfo finds no El Torito boot record:\n{about}"
    );
    let list = host::capture(Command::new("isoinfo").args(["-R", "-f", "-i"]).arg(&iso))?;
    let extracted = extract(&iso, &bench.dir.join("files"))?;
    ensure!(!extracted.is_empty(), "xorriso finds no files");
    for path in extracted.keys() {
        ensure!(
            list.lines().any(|line| line == path),
            "isoinfo does not list {path}:\n{list}"
        );
    }
    Ok(())
}

/// Debian's kernel mounts the ISO from a CD drive and digests each file; the digests have
/// to be those of what xorriso extracted. Kernel and modules are the diagnostic image's,
/// whose initramfs can mount CDs because live systems have to.
pub(super) fn kernel_mount(bench: &Bench) -> Result<()> {
    let iso = bench.parts.stage1(Format::Iso);
    let expected = extract(&iso, &bench.dir.join("files"))?;
    let (kernel, modules) = live_kernel(bench.parts.diagnostic()?, &bench.dir)?;
    let script = "#!/bin/busybox sh\n\
        export PATH=/busybox:/usr/sbin:/usr/bin:/sbin:/bin\n\
        /bin/busybox mkdir -p /busybox\n\
        /bin/busybox --install -s /busybox\n\
        mount -t proc proc /proc\n\
        mount -t sysfs sysfs /sys\n\
        mount -t devtmpfs devtmpfs /dev\n\
        for module in ahci sr_mod isofs; do modprobe $module; done\n\
        while [ ! -b /dev/sr0 ]; do sleep 1; done\n\
        mount -t iso9660 -o ro /dev/sr0 /mnt || echo 'mount: failed'\n\
        cd /mnt\n\
        find . -type f -exec sha256sum {} + | sed 's/^/file: /'\n\
        echo 'mount: all files read'\n\
        poweroff -f\n";
    let ours = bench.dir.join("mount.cpio");
    // Later archives replace files of earlier ones: our /init wins.
    Initramfs::new(&bench.dir, "mount")?
        .with_busybox()?
        .executable("init", script)?
        .write(&ours)?;
    let initrd = bench.dir.join("mount.initrd");
    let mut joined =
        fs::read(&modules).with_context(|| format!("reading {}", modules.display()))?;
    joined.resize(joined.len().next_multiple_of(4), 0);
    joined.extend(fs::read(&ours).with_context(|| format!("reading {}", ours.display()))?);
    fs::write(&initrd, joined).with_context(|| format!("writing {}", initrd.display()))?;

    let medium = Medium::Kernel {
        kernel,
        initrd,
        cmdline: "console=ttyS0,115200 quiet".into(),
        cd: Some(iso),
    };
    let mut machine = Machine::new(Firmware::Bios, Nic::Virtio, 768, medium).start(&bench.dir)?;
    let found = machine
        .console
        .wait_for_any(&["mount: all files read", "mount: failed"], to_second())?;
    ensure!(found.which == 0, "the kernel could not mount the ISO");
    let text = machine.console.text();
    let seen: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("file: ")?.split_once("  ."))
        .map(|(digest, path)| (path.to_owned(), digest.to_owned()))
        .collect();
    ensure!(
        seen == expected,
        "the kernel read {seen:?}, xorriso extracted {expected:?}"
    );
    Ok(())
}

/// Extracts all files with xorriso: path on the ISO and SHA-256.
fn extract(iso: &Path, to: &Path) -> Result<BTreeMap<String, String>> {
    let mut command = Command::new("xorriso");
    command
        .args(["-osirrox", "on", "-indev"])
        .arg(iso)
        .args(["-extract", "/"])
        .arg(to);
    host::capture(&mut command).context("extracting the ISO with xorriso")?;
    let list = host::capture(
        Command::new("find")
            .current_dir(to)
            .args([".", "-type", "f", "-printf", "/%P\\n"]),
    )?;
    list.lines()
        .map(|path| {
            let file = to.join(path.trim_start_matches('/'));
            let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            let digest = Sha256::digest(&bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            Ok((path.to_owned(), digest))
        })
        .collect()
}

/// Kernel and initramfs of a Debian live ISO, extracted.
fn live_kernel(iso: &Path, dir: &Path) -> Result<(std::path::PathBuf, std::path::PathBuf)> {
    let find = |name: &str| -> Result<String> {
        let mut command = Command::new("xorriso");
        command
            .arg("-indev")
            .arg(iso)
            .args(["-find", "/", "-type", "f", "-name", name]);
        let list = host::capture(&mut command)?;
        let path = list
            .lines()
            .map(|line| line.trim_matches('\''))
            .find(|line| line.starts_with('/'));
        path.map(str::to_owned)
            .with_context(|| format!("{} holds no {name}", iso.display()))
    };
    let extract = |name: &str| -> Result<std::path::PathBuf> {
        let to = dir.join(name.trim_end_matches('*'));
        let mut command = Command::new("xorriso");
        command
            .args(["-osirrox", "on", "-indev"])
            .arg(iso)
            .args(["-extract", &find(name)?])
            .arg(&to);
        host::capture(&mut command).map(|_| to)
    };
    Ok((extract("vmlinuz*")?, extract("initrd*")?))
}
