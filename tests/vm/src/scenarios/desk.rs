//! A technician at the serial line and over SSH: the diagnostic system's menu, with disks to look at.
//!
//! Three disks: NTFS and an ext4 with a log on SATA, exFAT with a damaged boot region on NVMe.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::diagnostic::{MEMORY_MIB, menu_of};
use super::{Bench, to_menu, to_second};
use crate::firmware::{Firmware, Nic};
use crate::host;
use crate::machine::network::Network;
use crate::machine::{Disk, Machine, Running};

const MENU: &str = "Main menu\n";
const CHOOSE: &str = "Choose and press Enter: ";
const BACK: &str = "Press Enter to go back. ";
const DISK_BYTES: u64 = 64 << 20;

pub(super) fn works(bench: &Bench, firmware: Firmware, nic: Nic) -> Result<()> {
    let log = host::random_marker()?;
    let disks = vec![
        Disk::Sata(ntfs(&bench.dir)?),
        Disk::Sata(ext4(&bench.dir, &log)?),
        Disk::Nvme(exfat(&bench.dir)?),
    ];
    let key = ssh_key(&bench.dir, "technician")?;
    let stranger = ssh_key(&bench.dir, "stranger")?;
    let append = format!("sparetire.ssh_key={}", public_part(&key)?);

    let (mut machine, _drive) = menu_of(bench, &append, |medium| Machine {
        disks,
        network: Network::Reachable,
        ..Machine::new(firmware, nic, MEMORY_MIB, medium)
    })?;
    let (host_key, names) = wait_for_ssh(&mut machine)?;
    health(&mut machine)?;
    file_systems(&mut machine, &names)?;
    let archive = logs(&mut machine, &names)?;
    interrupt(&mut machine)?;

    let port = machine.forwarded()?;
    let pc = Ssh {
        dir: &bench.dir,
        port,
    };
    pc.refuses(&stranger)?;
    let said = pc.run(&key, "cat /proc/cmdline")?;
    ensure!(
        said.contains(&append),
        "over SSH the command line is {said:?}, without {append}"
    );
    let shown = pc.host_key()?;
    ensure!(
        shown == host_key,
        "the host key is {shown}, the menu said {host_key}"
    );
    let fetched = pc.fetch(&key, &archive)?;
    contents(&fetched, &log)?;

    machine.console.type_text("p\n")?;
    machine.console.wait_closed(to_second())
}

/// Types a line and waits for what it brings.
fn expect(machine: &mut Running, typed: &str, text: &str) -> Result<String> {
    machine.console.type_text(typed)?;
    let found = machine
        .console
        .wait_for(text, to_second())
        .with_context(|| format!("after typing {typed:?}"))?;
    Ok(found.line)
}

/// Devices, network and SSH come up behind the menu, at the lowest priority: asking the menu again and
/// again would keep them from it, so the PC's shell waits. Returns the fingerprint that the menu shows, and
/// the names of the disks.
fn wait_for_ssh(machine: &mut Running) -> Result<(String, Names)> {
    expect(machine, "s\n", "Type exit to come back")?;
    machine.console.type_text(
        "until [ -s /run/sparetire/ssh/fingerprint ] && ip -4 addr show scope global | grep -q inet; \
         do sleep 1; done; echo SSH is re''ady\n",
    )?;
    machine.console.wait_for("SSH is ready", to_menu())?;
    let names = Names {
        ntfs: disk_with(machine, "ntfs")?,
        ext4: disk_with(machine, "ext4")?,
    };
    expect(machine, "exit\n", "host key ")?;
    let fingerprint = machine.console.line_after("", to_second())?;
    machine.console.wait_for(CHOOSE, to_second())?;
    Ok((fingerprint, names))
}

/// What the kernel calls the SATA disks: whichever it finds first is sda.
struct Names {
    ntfs: String,
    ext4: String,
}

fn disk_with(machine: &mut Running, file_system: &str) -> Result<String> {
    machine.console.type_text(&format!(
        "echo disk wi''th $(lsblk -rno FSTYPE,NAME | grep '^{file_system} ')\n"
    ))?;
    machine
        .console
        .line_after(&format!("disk with {file_system} "), to_second())
}

fn health(machine: &mut Running) -> Result<()> {
    expect(machine, "2\n", CHOOSE)?;
    expect(machine, "2\n", "SMART of /dev/")?;
    // Page by page through both disks, then out of the pager and back.
    machine.console.type_text("          q\n")?;
    for _ in 0..3 {
        machine
            .console
            .wait_for("self-assessment test result: PASSED", to_second())?;
    }
    machine.console.wait_for(CHOOSE, to_second())?;
    expect(machine, "b\n", MENU).map(drop)
}

fn file_systems(machine: &mut Running, names: &Names) -> Result<()> {
    let Names { ntfs, ext4 } = names;
    expect(machine, "3\n", CHOOSE)?;
    expect(
        machine,
        &format!("1\n{ntfs}\n"),
        &format!("Checking /dev/{ntfs} (ntfs)"),
    )?;
    machine
        .console
        .wait_for("processed successfully", to_second())?;
    machine.console.wait_for(BACK, to_second())?;
    expect(
        machine,
        &format!("\n3\n{ext4}\n"),
        &format!("Mounted ro at /mnt/{ext4}."),
    )?;
    machine.console.wait_for(BACK, to_second())?;

    expect(machine, "\n1\nnvme0n1\n", "The checker ended with")?;
    machine.console.wait_for(BACK, to_second())?;
    // Another name than the disk's changes nothing.
    expect(machine, "\n2\nnvme0n1\nsda\n", "Nothing was done.")?;
    expect(machine, "\n2\nnvme0n1\nnvme0n1\n", BACK)?;
    expect(machine, "\n1\nnvme0n1\n", "Checking /dev/nvme0n1 (exfat)")?;
    let found = machine.console.wait_for_any(
        &["clean. directories", "The checker ended with"],
        to_second(),
    )?;
    ensure!(found.which == 0, "the repair did not help");
    machine.console.wait_for(BACK, to_second())?;
    expect(machine, "\nb\n", MENU).map(drop)
}

/// Collects everything, with the log on the ext4 disk. Returns the archive's path.
fn logs(machine: &mut Running, names: &Names) -> Result<String> {
    machine.console.wait_for(CHOOSE, to_second())?;
    machine
        .console
        .type_text(&format!("8\n4\n/mnt/{}\n", names.ext4))?;
    let line = machine.console.line_after("The archive is ", to_menu())?;
    let path = line.split(' ').next().unwrap_or_default().to_owned();
    expect(machine, "b\nb\n", MENU)?;
    machine.console.wait_for(CHOOSE, to_second())?;
    Ok(path)
}

/// Ctrl-C ends what runs and leaves the menu.
fn interrupt(machine: &mut Running) -> Result<()> {
    machine.console.type_text("\x03")?;
    machine.console.wait_for(CHOOSE, to_second())?;
    expect(machine, "4\n2\n64\n100\n", "Loop 1/100")?;
    expect(machine, "\x03", "MEMORY ERRORS, or stopped")?;
    expect(machine, "\nb\n", MENU)?;
    machine.console.wait_for(CHOOSE, to_second()).map(drop)
}

/// The archive has this system's messages and the disk's log.
fn contents(archive: &Path, log: &str) -> Result<()> {
    let tar = |more: &[&str]| {
        let mut command = Command::new("tar");
        command.arg("--zstd").arg("-f").arg(archive).args(more);
        command
    };
    let list = host::capture(tar(&["-t"]).env("LC_ALL", "C")).context("listing the logs")?;
    for name in ["/kernel.txt", "/smart-sda.txt", "/smart-nvme0n1.txt"] {
        ensure!(list.contains(name), "the logs are without {name}:\n{list}");
    }
    let found = host::capture(&mut tar(&[
        "-x",
        "--to-stdout",
        "--wildcards",
        "*/installed/var/log/marker",
    ]))?;
    ensure!(
        found.trim() == log,
        "the disk's log is {found:?} in the archive, expected {log}"
    );
    Ok(())
}

/// The PC's SSH server, seen from the host.
struct Ssh<'a> {
    dir: &'a Path,
    port: u16,
}

impl Ssh<'_> {
    fn options(&self, key: &Path) -> Vec<String> {
        let hosts = self.dir.join("known_hosts");
        let mut list = vec!["-F".to_owned(), "none".to_owned()];
        for option in [
            format!("IdentityFile={}", key.display()),
            format!("UserKnownHostsFile={}", hosts.display()),
            format!("Port={}", self.port),
            "IdentitiesOnly=yes".to_owned(),
            "BatchMode=yes".to_owned(),
            // The first connection notes the key; it is compared with the menu's words.
            "StrictHostKeyChecking=accept-new".to_owned(),
            "ConnectTimeout=120".to_owned(),
        ] {
            list.extend(["-o".to_owned(), option]);
        }
        list
    }

    fn run(&self, key: &Path, command: &str) -> Result<String> {
        let mut ssh = Command::new("ssh");
        ssh.args(self.options(key))
            .args(["root@127.0.0.1", command]);
        host::capture(&mut ssh).context("logging in over SSH")
    }

    /// Another key than the session's is not let in, and no password is asked for.
    fn refuses(&self, key: &Path) -> Result<()> {
        let error = match self.run(key, "true") {
            Ok(_) => bail!("SSH lets in a key that the session did not bring"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(
            error.contains("Permission denied (publickey)"),
            "a stranger's login ended with: {error}"
        );
        Ok(())
    }

    /// The fingerprint of the host key that was noted.
    fn host_key(&self) -> Result<String> {
        let text = host::capture(
            Command::new("ssh-keygen")
                .arg("-lf")
                .arg(self.dir.join("known_hosts")),
        )?;
        let word = text.split_whitespace().nth(1);
        word.map(str::to_owned)
            .with_context(|| format!("{text:?} has no fingerprint"))
    }

    fn fetch(&self, key: &Path, path: &str) -> Result<PathBuf> {
        let to = self.dir.join("logs.tar.zst");
        let mut scp = Command::new("scp");
        scp.args(self.options(key))
            .arg(format!("root@127.0.0.1:{path}"))
            .arg(&to);
        host::capture(&mut scp).context("fetching the logs with scp")?;
        Ok(to)
    }
}

fn ssh_key(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]);
    host::capture(command.arg(&path)).context("making an SSH key")?;
    Ok(path)
}

/// The middle part of the public key's line.
fn public_part(key: &Path) -> Result<String> {
    let path = key.with_extension("pub");
    let line = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let word = line.split(' ').nth(1);
    word.map(str::to_owned)
        .with_context(|| format!("{line:?} is no public key"))
}

fn empty_disk(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    let file = fs::File::create(&path).with_context(|| format!("creating {name}"))?;
    file.set_len(DISK_BYTES)
        .with_context(|| format!("sizing {name}"))?;
    Ok(path)
}

/// A whole disk of NTFS.
fn ntfs(dir: &Path) -> Result<PathBuf> {
    let disk = empty_disk(dir, "ntfs.img")?;
    let mut format = Command::new("mkntfs");
    host::capture(format.args(["--quick", "--force", "--quiet"]).arg(&disk))
        .context("making an NTFS")?;
    Ok(disk)
}

/// A whole disk of ext4 with the file var/log/marker.
fn ext4(dir: &Path, log: &str) -> Result<PathBuf> {
    let disk = empty_disk(dir, "ext4.img")?;
    let tree = dir.join("installed");
    fs::create_dir_all(tree.join("var/log")).context("making a folder")?;
    fs::write(tree.join("var/log/marker"), log).context("writing the marker")?;
    let mut format = Command::new("mke2fs");
    host::capture(
        format
            .args(["-q", "-t", "ext4", "-d"])
            .arg(&tree)
            .arg(&disk),
    )
    .context("making an ext4")?;
    Ok(disk)
}

/// A whole disk of exFAT whose main boot region lies about its checksum; the backup is good.
fn exfat(dir: &Path) -> Result<PathBuf> {
    // Sector 11 holds the checksum of sectors 0 to 10, repeated (exFAT specification, 3.4).
    const CHECKSUM: u64 = 11 * 512;
    let disk = empty_disk(dir, "exfat.img")?;
    host::capture(Command::new("mkfs.exfat").arg(&disk)).context("making an exFAT")?;
    let mut file = fs::File::options()
        .read(true)
        .write(true)
        .open(&disk)
        .context("opening the exFAT")?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(CHECKSUM))
        .and_then(|_| file.read_exact(&mut byte))
        .context("reading the checksum")?;
    byte[0] ^= 1;
    file.seek(SeekFrom::Start(CHECKSUM))
        .and_then(|_| file.write_all(&byte))
        .context("damaging the checksum")?;
    Ok(disk)
}
