//! Second systems that prove who they are: each carries a random marker that only it can
//! print, and prints its kernel command line.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::host;

/// What the pair's `/init` prints before its kernel command line.
pub const CMDLINE: &str = "second system, command line: ";
/// What it prints before its marker.
pub const MARKER: &str = "second system, marker: ";
/// What the loader adds to any command line under QEMU's software emulation.
pub const EMULATED: &str = "no_timer_check";

/// A stock kernel and an initramfs of ours around Debian's busybox.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Kernel image.
    pub kernel: PathBuf,
    /// Initramfs.
    pub initrd: PathBuf,
    /// Kernel command line it is imported with.
    pub cmdline: String,
    /// The marker in the initramfs.
    pub marker: String,
}

impl Pair {
    /// Makes one in `dir`. Powers itself off after it has spoken.
    pub fn make(dir: &Path) -> Result<Self> {
        let marker = host::random_marker()?;
        let script = format!(
            "#!/bin/busybox sh\n\
             /bin/busybox mount -t proc proc /proc\n\
             echo \"{CMDLINE}$(/bin/busybox cat /proc/cmdline)\"\n\
             echo \"{MARKER}$(/bin/busybox cat /marker)\"\n\
             /bin/busybox poweroff -f\n"
        );
        let initrd = dir.join("pair.cpio");
        Initramfs::new(dir, "pair")?
            .with_busybox()?
            .executable("init", &script)?
            .file("marker", &marker)?
            .write(&initrd)?;
        let cmdline = format!(
            "console=ttyS0,115200 quiet test.note={}",
            host::random_marker()?
        );
        Ok(Pair {
            kernel: stock_kernel()?,
            initrd,
            cmdline,
            marker,
        })
    }

    /// Adds `bytes` of zeros to the initramfs: they cost nothing to store or fetch, but
    /// need RAM. The kernel skips zeros between archives.
    pub fn pad(&self, bytes: u64) -> Result<()> {
        let file = fs::File::options()
            .write(true)
            .open(&self.initrd)
            .context("opening the initramfs")?;
        let length = file
            .metadata()
            .context("reading the initramfs' size")?
            .len();
        file.set_len(length + bytes)
            .context("padding the initramfs")
    }
}

/// Debian's installer kernel: a stock kernel that is a plain file of a package.
pub fn stock_kernel() -> Result<PathBuf> {
    host::first_existing(
        "Debian's installer kernel",
        &[
            "/usr/lib/debian-installer/images/13/amd64/text/debian-installer/amd64/linux",
            "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/linux",
        ],
    )
}

/// A live ISO with a random text in the file `site-note.txt` at its root, where the
/// diagnostic system looks for it. The boot sectors go: whoever starts this ISO has to
/// find kernel, initramfs and command line in its boot configuration.
pub fn iso_with_note(iso: &Path, dir: &Path) -> Result<(PathBuf, String)> {
    let marker = host::random_marker()?;
    let note = dir.join("site-note.txt");
    fs::write(&note, format!("{marker}\n")).context("writing the site note")?;
    let to = dir.join("noted.iso");
    let mut command = Command::new("xorriso");
    command
        .arg("-indev")
        .arg(iso)
        .arg("-outdev")
        .arg(&to)
        .arg("-map")
        .arg(&note)
        .arg("/site-note.txt");
    host::capture(command.args(["-boot_image", "any", "discard"]))
        .context("adding a site note to the ISO")?;
    Ok((to, marker))
}

/// An initramfs in the making: a directory that cpio packs.
#[derive(Debug)]
pub struct Initramfs {
    tree: PathBuf,
}

impl Initramfs {
    /// An empty one.
    pub fn new(dir: &Path, name: &str) -> Result<Self> {
        let tree = dir.join(format!("{name}.tree"));
        for sub in ["bin", "dev", "proc", "sys", "mnt"] {
            fs::create_dir_all(tree.join(sub))
                .with_context(|| format!("creating {}", tree.display()))?;
        }
        Ok(Initramfs { tree })
    }

    /// Adds a static busybox.
    pub fn with_busybox(self) -> Result<Self> {
        let busybox =
            host::first_existing("a static busybox", &["/bin/busybox", "/usr/bin/busybox"])?;
        fs::copy(&busybox, self.tree.join("bin/busybox")).context("copying busybox")?;
        Ok(self)
    }

    /// Adds a file.
    pub fn file(self, path: &str, text: &str) -> Result<Self> {
        fs::write(self.tree.join(path), text).with_context(|| format!("writing {path}"))?;
        Ok(self)
    }

    /// Adds a program.
    pub fn executable(self, path: &str, text: &str) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let this = self.file(path, text)?;
        fs::set_permissions(this.tree.join(path), fs::Permissions::from_mode(0o755))
            .with_context(|| format!("making {path} executable"))?;
        Ok(this)
    }

    /// Packs it, with every file owned by root.
    pub fn write(self, to: &Path) -> Result<()> {
        let list = host::capture(
            Command::new("find")
                .current_dir(&self.tree)
                .args([".", "-print0"]),
        )?;
        let output = fs::File::create(to).with_context(|| format!("creating {}", to.display()))?;
        let mut cpio = Command::new("cpio")
            .current_dir(&self.tree)
            .args([
                "--quiet",
                "--create",
                "--null",
                "--format=newc",
                "--owner=0:0",
            ])
            .stdin(Stdio::piped())
            .stdout(output)
            .spawn()
            .context("starting cpio")?;
        cpio.stdin
            .take()
            .context("cpio takes no input")?
            .write_all(list.as_bytes())
            .context("writing to cpio")?;
        if !cpio.wait().context("waiting for cpio")?.success() {
            bail!("cpio failed");
        }
        Ok(())
    }
}
