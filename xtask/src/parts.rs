//! `target/parts/`: copies of the finished parts where `sparetire stage1 build` and the
//! VM tests look for them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::tree;

/// Kernel image, as `stage1 build` looks for it.
pub(crate) const KERNEL: &str = "bzImage";
/// The configuration that kernel was built with.
pub(crate) const KERNEL_CONFIG: &str = "bzImage.config";
/// The loader.
pub(crate) const LOADER: &str = "stage1-loader";

/// `target/parts`.
pub(crate) fn dir() -> PathBuf {
    tree::target().join("parts")
}

/// Copies `from` to the part `name`, unless it already holds the same bytes. The copy is
/// renamed into place, so a running reader never sees half of it.
pub(crate) fn install(name: &str, from: &Path) -> Result<()> {
    let dir = dir();
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let to = dir.join(name);
    if same_copy(from, &to) {
        return Ok(());
    }
    let staging = dir.join(format!(".{name}.new"));
    fs::copy(from, &staging)
        .with_context(|| format!("copying {} to {}", from.display(), staging.display()))?;
    // The copy takes the original's time, which is how the next run knows it.
    let times = fs::metadata(from)
        .and_then(|meta| meta.modified())
        .map(|time| fs::FileTimes::new().set_modified(time))
        .with_context(|| format!("reading the time of {}", from.display()))?;
    fs::File::options()
        .write(true)
        .open(&staging)
        .and_then(|file| file.set_times(times))
        .with_context(|| format!("setting the time of {}", staging.display()))?;
    fs::rename(&staging, &to).with_context(|| format!("renaming to {}", to.display()))
}

fn same_copy(from: &Path, to: &Path) -> bool {
    let (Ok(from), Ok(to)) = (fs::metadata(from), fs::metadata(to)) else {
        return false;
    };
    from.len() == to.len() && from.modified().ok() == to.modified().ok()
}
