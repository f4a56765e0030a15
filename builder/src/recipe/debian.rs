//! Installing a recipe's system with Debian's own tools: mmdebstrap, then mksquashfs.
//!
//! As root, mmdebstrap works in a plain folder; as anybody else, in a user namespace. All times in
//! the result are at most `SOURCE_DATE_EPOCH`, and what comes out depends on the recipe and on the
//! packages the archive has, nothing else.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow};
use sha2::{Digest as _, Sha256};
use sparetire_manifest::{Digest, Timestamp};

use super::programs::{self, run};
use super::{Live, Recipe};
use crate::progress::Progress;

/// Programs that are run, to say early what is missing.
const PROGRAMS: [&str; 3] = ["mmdebstrap", "mksquashfs", "grub-mkimage"];

/// What the live ISO is made of.
#[derive(Debug, Clone)]
pub struct SystemFiles {
    /// The root file system.
    pub squashfs: PathBuf,
    /// Its kernel.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initrd: PathBuf,
}

impl SystemFiles {
    fn in_dir(dir: &Path) -> Self {
        Self {
            squashfs: dir.join("filesystem.squashfs"),
            kernel: dir.join("vmlinuz"),
            initrd: dir.join("initrd.img"),
        }
    }
}

/// Everything that decides what comes out, apart from the archive's packages.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// What it makes.
    pub live: &'a Live,
    /// One-line apt sources.
    pub sources: Vec<String>,
    /// Seconds since 1970 that no time stamp is above.
    pub epoch: u64,
}

/// The version of what is built: the recipe's, and the day it was built.
#[must_use]
pub fn version(recipe: &Recipe, epoch: u64) -> String {
    let day = Timestamp::from_unix(epoch).version_number() / 1_000_000;
    format!("{}+{day}", recipe.spec.version)
}

impl Plan<'_> {
    /// Digest of the recipe with all its files: what a kept result is filed under.
    ///
    /// # Errors
    ///
    /// When a file of the recipe cannot be read.
    pub fn key(&self) -> anyhow::Result<Digest> {
        let mut digest = Sha256::new();
        let mut add = |bytes: &[u8]| {
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        };
        add(self.recipe.text.as_bytes());
        for hook in &self.live.system.hooks {
            let path = self.recipe.dir.join(hook);
            add(&fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
        }
        let mut overlay = Vec::new();
        if let Some(files) = &self.live.system.files {
            // Without the time: the same recipe, checked out later, is the same.
            write_overlay(&self.recipe.dir.join(files), 0, &mut overlay)?;
        }
        add(&overlay);
        for line in &self.sources {
            add(line.as_bytes());
        }
        Ok(Digest::from_bytes(digest.finalize().into()))
    }

    /// Installs the system and leaves its three files in `dir`.
    ///
    /// # Errors
    ///
    /// When a program is missing or fails; its last lines are in the error.
    pub fn build(&self, dir: &Path, progress: &Progress) -> anyhow::Result<SystemFiles> {
        programs::check(&PROGRAMS, &self.recipe.spec.host)?;
        // In a user namespace, root is somebody who only reads what everybody may.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("opening {} to all", dir.display()))?;
        let files = SystemFiles::in_dir(dir);
        let tar = dir.join("rootfs.tar");
        let mut mmdebstrap = self.mmdebstrap(dir, &tar, &files)?;
        run(&mut mmdebstrap, &dir.join("mmdebstrap.log"), &mut |line| {
            if let Some(step) = line.strip_prefix("I: ")
                && !step.starts_with("running ")
            {
                progress.message(step.trim_end_matches('.'));
            }
        })?;
        progress.inc(1);
        progress.message("compressing the file system");
        let mut mksquashfs = self.mksquashfs(&tar, &files.squashfs)?;
        run(&mut mksquashfs, &dir.join("mksquashfs.log"), &mut |_| {})?;
        fs::remove_file(&tar).with_context(|| format!("removing {}", tar.display()))?;
        progress.inc(1);
        Ok(files)
    }

    /// As [`Plan::build`], unless `kept` has the result of an equal recipe; the result is left there.
    ///
    /// # Errors
    ///
    /// As [`Plan::build`].
    pub fn build_or_reuse(&self, kept: &Path, progress: &Progress) -> anyhow::Result<SystemFiles> {
        let place = kept.join(self.key()?.to_string());
        if place.is_dir() {
            progress.inc(2);
            return Ok(SystemFiles::in_dir(&place));
        }
        fs::create_dir_all(kept).with_context(|| format!("creating {}", kept.display()))?;
        let temporary = tempfile::Builder::new()
            .prefix(".building-")
            .tempdir_in(kept)
            .with_context(|| format!("creating a folder in {}", kept.display()))?;
        self.build(temporary.path(), progress)?;
        fs::rename(temporary.path(), &place)
            .with_context(|| format!("renaming to {}", place.display()))?;
        // It has moved: nothing is left to remove.
        let _ = temporary.keep();
        Ok(SystemFiles::in_dir(&place))
    }

    fn mmdebstrap(&self, dir: &Path, tar: &Path, files: &SystemFiles) -> anyhow::Result<Command> {
        let system = &self.live.system;
        let mut command = programs::mmdebstrap();
        command
            .args(["--variant=minbase", "--format=tar"])
            .arg(format!("--architectures={}", system.architecture))
            .arg(format!("--components={}", system.components.join(",")))
            .arg("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr")
            .arg("--aptopt=Apt::Install-Recommends \"false\"")
            .arg("--dpkgopt=force-confold");
        for pattern in &system.exclude {
            command.arg(format!("--dpkgopt=path-exclude={pattern}"));
        }
        for pattern in &system.include {
            command.arg(format!("--dpkgopt=path-include={pattern}"));
        }
        command.arg(format!("--include={}", system.packages.join(",")));
        if let Some(overlay) = &system.files {
            let path = dir.join("overlay.tar");
            let file = File::create(&path).context("writing the overlay")?;
            write_overlay(&self.recipe.dir.join(overlay), self.epoch, file)?;
            command.arg(format!("--customize-hook=tar-in {} /", shell_path(&path)?));
        }
        for (number, hook) in system.hooks.iter().enumerate() {
            // Copied, because the recipe may lie where only its owner can look.
            let copy = dir.join(format!("hook-{number}"));
            let from = self.recipe.dir.join(hook);
            fs::copy(&from, &copy).with_context(|| format!("copying {}", from.display()))?;
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("making {} a program", copy.display()))?;
            command.arg(format!("--customize-hook={} \"$1\"", shell_path(&copy)?));
        }
        for (inside, outside) in [
            (&system.kernel, &files.kernel),
            (&system.initrd, &files.initrd),
        ] {
            command.arg(format!(
                "--customize-hook=download /{} {}",
                inside.display(),
                shell_path(outside)?
            ));
        }
        // On the ISO they stand beside the root file system, not in it.
        command.arg("--customize-hook=rm -rf \"$1/boot\" && mkdir \"$1/boot\"");
        command.arg(&system.suite).arg(tar).args(&self.sources);
        command
            .env("SOURCE_DATE_EPOCH", self.epoch.to_string())
            .env("SPARETIRE_VERSION", version(self.recipe, self.epoch))
            // The initramfs is made once, by a hook, when everything it is made of is there.
            .env("INITRD", "No");
        Ok(command)
    }

    fn mksquashfs(&self, tar: &Path, to: &Path) -> anyhow::Result<Command> {
        let squashfs = &self.live.squashfs;
        let input = File::open(tar).with_context(|| format!("opening {}", tar.display()))?;
        let mut command = Command::new("mksquashfs");
        command
            .arg("-")
            .arg(to)
            .args(["-tar", "-noappend", "-no-progress", "-comp", "zstd"])
            .arg("-Xcompression-level")
            .arg(squashfs.compression_level.to_string())
            .arg("-b")
            .arg(squashfs.block_size.to_string())
            .env("SOURCE_DATE_EPOCH", self.epoch.to_string())
            .stdin(input);
        Ok(command)
    }
}

/// A path for a hook, which mmdebstrap gives to a shell or splits at blanks.
fn shell_path(path: &Path) -> anyhow::Result<&str> {
    path.to_str()
        .filter(|text| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte))
        })
        .ok_or_else(|| {
            anyhow!(
                "{} has characters that a shell would take apart; choose another TMPDIR",
                path.display()
            )
        })
}

/// The overlay as a tar archive: sorted, owned by root, all of one time, modes from the x bit.
fn write_overlay(files: &Path, epoch: u64, to: impl Write) -> anyhow::Result<()> {
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    append_dir(&mut archive, files, Path::new(""), epoch)
        .with_context(|| format!("packing {}", files.display()))?;
    archive.finish().context("packing the overlay")
}

fn append_dir<W: Write>(
    archive: &mut tar::Builder<W>,
    root: &Path,
    inside: &Path,
    epoch: u64,
) -> anyhow::Result<()> {
    let dir = root.join(inside);
    let mut names: Vec<_> = fs::read_dir(&dir)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.file_name())).collect())
        .with_context(|| format!("listing {}", dir.display()))?;
    names.sort();
    for name in names {
        let inside = inside.join(name);
        let path = root.join(&inside);
        let context = || format!("packing {}", path.display());
        let found = fs::symlink_metadata(&path).with_context(context)?;
        let mut header = tar::Header::new_gnu();
        header.set_mtime(epoch);
        header.set_uid(0);
        header.set_gid(0);
        if found.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            archive
                .append_data(&mut header, &inside, std::io::empty())
                .with_context(context)?;
            append_dir(archive, root, &inside, epoch)?;
        } else if found.is_symlink() {
            let target = fs::read_link(&path).with_context(context)?;
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            archive
                .append_link(&mut header, &inside, &target)
                .with_context(context)?;
        } else if found.is_file() {
            let bytes = fs::read(&path).with_context(context)?;
            let is_program = found.permissions().mode() & 0o111 != 0;
            header.set_mode(if is_program { 0o755 } else { 0o644 });
            header.set_size(bytes.len() as u64);
            archive
                .append_data(&mut header, &inside, bytes.as_slice())
                .with_context(context)?;
        } else {
            return Err(anyhow!("{} is no file, folder or link", path.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlay_depends_on_nothing_but_names_contents_and_x_bits() {
        let make = |mode: u32| {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
            fs::write(dir.path().join("usr/bin/tool"), "#!/bin/sh\n").unwrap();
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(dir.path().join("usr/bin/tool"), permissions).unwrap();
            std::os::unix::fs::symlink("tool", dir.path().join("usr/bin/alias")).unwrap();
            let mut bytes = Vec::new();
            write_overlay(dir.path(), 1_700_000_000, &mut bytes).unwrap();
            bytes
        };
        assert_eq!(make(0o700), make(0o755));
        assert_ne!(make(0o755), make(0o644));
        let bytes = make(0o755);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(
            names,
            ["usr", "usr/bin", "usr/bin/alias", "usr/bin/tool"].map(|n| if n.contains('.') {
                n.into()
            } else {
                n.to_string()
            })
        );
    }

    #[test]
    fn paths_that_a_shell_would_split_are_refused() {
        assert!(shell_path(Path::new("/tmp/a b")).is_err());
        assert!(shell_path(Path::new("/tmp/$(reboot)")).is_err());
        assert_eq!(
            shell_path(Path::new("/tmp/x-1_2.y")).unwrap(),
            "/tmp/x-1_2.y"
        );
    }
}
