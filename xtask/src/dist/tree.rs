//! Which file of a package goes where. Laid out once, for `/`; both packages are made from it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{About, notices, pages, parts, require};
use crate::{cache, process};

/// The laid-out tree.
pub(super) struct Tree {
    root: PathBuf,
}

/// Files taken as they are: from the repository to the tree.
const COPIES: &[(&str, &str)] = &[
    ("xtask/packaging/server.toml", "etc/sparetire/server.toml"),
    (
        "xtask/packaging/sparetire.service",
        "usr/lib/systemd/system/sparetire.service",
    ),
    (
        "xtask/packaging/copyright",
        "usr/share/doc/sparetire/copyright",
    ),
    (
        "xtask/packaging/lintian-overrides",
        "usr/share/lintian/overrides/sparetire",
    ),
    ("README.md", "usr/share/doc/sparetire/README.md"),
    ("CHANGELOG.md", "usr/share/doc/sparetire/CHANGELOG.md"),
    ("LICENSE-MIT", "usr/share/doc/sparetire/licenses/MIT"),
    (
        "LICENSE-APACHE",
        "usr/share/doc/sparetire/licenses/Apache-2.0",
    ),
];
/// Folders taken with everything in them.
const FOLDERS: &[(&str, &str)] = &[
    ("images", "usr/share/sparetire/images"),
    ("docs", "usr/share/doc/sparetire"),
];
/// Licence texts of parts that are not ours, from this machine's Debian packages.
const LICENSES: &[(&str, &str)] = &[
    ("/usr/share/common-licenses/GPL-2", "GPL-2"),
    ("/usr/share/common-licenses/LGPL-2.1", "LGPL-2.1"),
    ("/usr/share/doc/isolinux/copyright", "isolinux"),
    (
        "/usr/share/doc/syslinux-common/copyright",
        "syslinux-common",
    ),
    (
        "/usr/share/doc/systemd-boot-efi/copyright",
        "systemd-boot-efi",
    ),
    ("/usr/share/doc/libc6-dev/copyright", "glibc"),
];
/// Completions: the shell as `sparetire completions` calls it, and the file the shell looks for.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/sparetire"),
    ("zsh", "usr/share/zsh/vendor-completions/_sparetire"),
    ("fish", "usr/share/fish/vendor_completions.d/sparetire.fish"),
];
const DOC: &str = "usr/share/doc/sparetire";

impl Tree {
    /// Lays everything out below `root`, which must not exist.
    pub(super) fn lay_out(root: &Path, program: &Path, about: &About) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("creating {}", root.display()))?;
        let tree = Tree {
            root: root.to_owned(),
        };
        let repository = crate::tree::root();
        tree.copy(require(program)?, "usr/bin/sparetire", 0o755)?;
        let parts = parts::gather()?;
        for part in &parts {
            tree.copy(
                &part.path,
                &format!("usr/lib/sparetire/{}", part.name),
                0o644,
            )?;
        }
        let json = serde_json::to_string_pretty(&parts).context("writing JSON")?;
        tree.write("usr/lib/sparetire/parts.json", (json + "\n").as_bytes())?;
        for (from, to) in COPIES {
            tree.copy(&repository.join(from), to, 0o644)?;
        }
        for (from, to) in FOLDERS {
            let from = repository.join(from);
            for file in cache::files_below(&from)? {
                let name = file
                    .strip_prefix(&from)
                    .context("a file outside its folder")?;
                let mode = fs::metadata(&file)
                    .with_context(|| format!("reading {}", file.display()))?
                    .permissions()
                    .mode();
                // Hooks and programs of recipes stay executable, whatever the builder's umask was.
                let mode = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
                tree.copy(&file, &format!("{to}/{}", name.display()), mode)?;
            }
        }
        for (from, to) in LICENSES {
            tree.copy(Path::new(from), &format!("{DOC}/licenses/{to}"), 0o644)?;
        }
        tree.write(
            &format!("{DOC}/THIRD-PARTY.md"),
            notices::third_party()?.as_bytes(),
        )?;
        tree.write(
            &format!("{DOC}/REBUILD.md"),
            pages::rebuild(&parts, about)?.as_bytes(),
        )?;
        tree.write(
            &format!("{DOC}/changelog"),
            pages::debian_changelog(about)?.as_bytes(),
        )?;
        for (shell, to) in COMPLETIONS {
            let text = process::capture(Command::new(program).args(["completions", shell]))?;
            tree.write(to, text.as_bytes())?;
        }
        let manual = tree.root.join("usr/share/man/man1");
        process::capture(Command::new(program).args(["man", "--out"]).arg(&manual))?;
        tree.compress(&cache::files_below(&manual)?)?;
        tree.compress(&[tree.root.join(DOC).join("changelog")])?;
        tree.settle(&tree.root)?;
        Ok(tree)
    }

    /// Where it lies.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Installed size in KiB, as a control file states it: each file in whole KiB, one for each folder.
    pub(super) fn kibibytes(&self) -> Result<u64> {
        fn below(path: &Path) -> Result<u64> {
            let meta = fs::symlink_metadata(path)
                .with_context(|| format!("reading {}", path.display()))?;
            if !meta.is_dir() {
                return Ok(meta.len().div_ceil(1024));
            }
            let mut sum = 1;
            for entry in
                fs::read_dir(path).with_context(|| format!("listing {}", path.display()))?
            {
                sum += below(
                    &entry
                        .with_context(|| format!("listing {}", path.display()))?
                        .path(),
                )?;
            }
            Ok(sum)
        }
        below(&self.root)
    }

    fn target(&self, path: &str) -> Result<PathBuf> {
        let target = self.root.join(path);
        if target.exists() {
            bail!("two files of the package want to be {path}");
        }
        let dir = target.parent().unwrap_or(&self.root);
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(target)
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let target = self.target(to)?;
        fs::copy(from, &target)
            .with_context(|| format!("copying {} to {}", from.display(), target.display()))?;
        fs::set_permissions(&target, Permissions::from_mode(mode))
            .with_context(|| format!("setting the mode of {}", target.display()))
    }

    fn write(&self, to: &str, bytes: &[u8]) -> Result<()> {
        let target = self.target(to)?;
        fs::write(&target, bytes).with_context(|| format!("writing {}", target.display()))
    }

    /// As Debian has it for manual pages and changelogs. gzip's header would carry name and time.
    fn compress(&self, files: &[PathBuf]) -> Result<()> {
        process::run(Command::new("gzip").args(["-9", "--no-name"]).args(files))
    }

    /// Modes that do not depend on the builder's umask.
    fn settle(&self, path: &Path) -> Result<()> {
        let meta =
            fs::symlink_metadata(path).with_context(|| format!("reading {}", path.display()))?;
        let mode = match (meta.is_dir(), meta.permissions().mode() & 0o100) {
            (false, 0) => 0o644,
            _ => 0o755,
        };
        fs::set_permissions(path, Permissions::from_mode(mode))
            .with_context(|| format!("setting the mode of {}", path.display()))?;
        if meta.is_dir() {
            for entry in
                fs::read_dir(path).with_context(|| format!("listing {}", path.display()))?
            {
                self.settle(
                    &entry
                        .with_context(|| format!("listing {}", path.display()))?
                        .path(),
                )?;
            }
        }
        Ok(())
    }
}
