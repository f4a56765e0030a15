//! Debian's kernel source: which version, downloading it, unpacking it.
//!
//! The version is looked up once and then remembered, so that a kernel does not change
//! behind a developer's back and later runs need no network; `--fresh` looks again.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Series;
use crate::apt::{self, PrivateApt};
use crate::cache::{self, Shelf};
use crate::{process, tree};

/// One version of one source package.
#[derive(Serialize, Deserialize)]
pub(super) struct Source {
    package: String,
    version: String,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.package, self.version)
    }
}

impl Source {
    /// Whether it is of an older series than the fragments are written for.
    pub(super) fn is_older(&self) -> bool {
        Some(self.package.as_str()) != Series::default().packages().first().copied()
    }

    /// The version remembered for `series`, if any.
    pub(super) fn known(series: Series) -> Result<Option<Self>> {
        let path = shelf_dir()?.join(format!("{}.json", series.name()));
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// The remembered version, or the newest one the machine's mirror has.
    pub(super) fn resolve(series: Series, fresh: bool) -> Result<Self> {
        if !fresh && let Some(known) = Self::known(series)? {
            return Ok(known);
        }
        let shelf = Shelf::open("kernel-source")?;
        println!("looking for the kernel source on this machine's Debian mirror");
        let apt = private_apt(shelf.dir())?;
        apt.update()
            .context("fetching package lists for the kernel source")?;
        for package in series.packages() {
            if let Some(version) = apt.candidate(package)? {
                let source = Source {
                    package: (*package).to_owned(),
                    version,
                };
                let path = shelf.dir().join(format!("{}.json", series.name()));
                let json = serde_json::to_vec(&source).context("writing JSON")?;
                fs::write(&path, json).with_context(|| format!("writing {}", path.display()))?;
                return Ok(source);
            }
        }
        bail!("the mirror has none of: {}", series.packages().join(", "));
    }

    /// The unpacked source, downloaded and unpacked where needed.
    pub(super) fn tree(&self) -> Result<PathBuf> {
        let shelf = Shelf::open("kernel-source")?;
        let dir = shelf
            .dir()
            .join(format!("{}_{}", self.package, self.version));
        let tree = dir.join("tree");
        if tree.is_dir() {
            return Ok(tree);
        }
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let package = match package_in(&dir)? {
            Some(package) => package,
            None => self.download(shelf.dir(), &dir)?,
        };
        println!("unpacking {self} (about a minute)");
        let unpacked = dir.join("package");
        cache::remove(&unpacked)?;
        process::run(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(&package)
                .arg(&unpacked),
        )?;
        let archive = cache::files_below(&unpacked)?
            .into_iter()
            .find(|path| path.to_string_lossy().contains(".tar."))
            .with_context(|| format!("{} holds no source archive", package.display()))?;
        let staging = dir.join("tree.new");
        cache::remove(&staging)?;
        fs::create_dir(&staging).with_context(|| format!("creating {}", staging.display()))?;
        process::run(
            Command::new("tar")
                .arg("--extract")
                .arg("--strip-components=1")
                .arg("--file")
                .arg(&archive)
                .arg("-C")
                .arg(&staging),
        )?;
        cache::remove(&unpacked)?;
        fs::rename(&staging, &tree).with_context(|| format!("renaming to {}", tree.display()))?;
        Ok(tree)
    }

    /// Drops the unpacked source; the package stays.
    pub(super) fn remove_tree(&self) -> Result<()> {
        cache::remove(
            &shelf_dir()?
                .join(format!("{}_{}", self.package, self.version))
                .join("tree"),
        )
    }

    fn download(&self, shelf: &Path, dir: &Path) -> Result<PathBuf> {
        println!("downloading {self} (about 150 MB)");
        let partial = dir.join("download");
        fs::create_dir_all(&partial).with_context(|| format!("creating {}", partial.display()))?;
        let apt = private_apt(shelf)?;
        if apt.candidate(&self.package)?.as_deref() != Some(&self.version) {
            apt.update()
                .context("fetching package lists for the kernel source")?;
        }
        apt.download(&self.package, &self.version, &partial)
            .with_context(|| format!("downloading {self}; if the mirror has replaced it, --fresh looks for its successor"))?;
        let package = package_in(&partial)?
            .with_context(|| format!("apt left no package in {}", partial.display()))?;
        let to = dir.join("source.deb");
        fs::rename(&package, &to).with_context(|| format!("renaming to {}", to.display()))?;
        cache::remove(&partial)?;
        Ok(to)
    }
}

fn shelf_dir() -> Result<PathBuf> {
    Ok(tree::cache()?.join("kernel-source"))
}

fn private_apt(shelf: &Path) -> Result<PrivateApt> {
    PrivateApt::new(&shelf.join("apt"), &apt::sources_with_backports()?)
}

/// The package file directly in `dir`.
fn package_in(dir: &Path) -> Result<Option<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))?;
    let mut paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    Ok(paths.find(|path| path.extension().is_some_and(|extension| extension == "deb")))
}
