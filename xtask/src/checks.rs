//! Whether the parts that go into stage one are what they have to be. A wrong one would
//! only show as a PC that stays dark, so it is refused here, by name.

mod kernel;
mod loader;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Checks the kernel image and the configuration it was built with.
pub(crate) fn kernel_files(image: &Path, config: &Path) -> Result<()> {
    let bytes = fs::read(image).with_context(|| format!("reading {}", image.display()))?;
    kernel::image(&bytes).with_context(|| format!("{} is no stage-one kernel", image.display()))?;
    let text =
        fs::read_to_string(config).with_context(|| format!("reading {}", config.display()))?;
    kernel::config(&text)
        .with_context(|| format!("{} lacks what stage one needs", config.display()))
}

/// Checks the loader.
pub(crate) fn loader_file(path: &Path) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    loader::executable(&bytes).with_context(|| format!("{} is no stage-one loader", path.display()))
}
