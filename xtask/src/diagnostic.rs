//! The diagnostic image: a live ISO built from Debian packages by `sparetire image build`.
//!
//! The packages come from a mirror that changes, so the same recipe gives another ISO next
//! month. A cached one is used for four weeks; then it is built again, and if that fails
//! (no network) the old one still serves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cache::{self, Inputs, Shelf};
use crate::{process, tree};

/// Raised when the way of building changes in a way the other inputs do not show.
const RECIPE: u32 = 1;
/// The code that turns the recipe into an ISO; files or folders.
const CARRIED_OUT_BY: &[&str] = &[
    "builder/src/image/build.rs",
    "builder/src/live_iso.rs",
    "builder/src/live_iso",
    "builder/src/recipe.rs",
    "builder/src/recipe",
];
const ISO: &str = "diagnostic.iso";
const KEEP_FOR: Duration = Duration::from_secs(28 * 24 * 3600);

/// Builds the image unless the cache has a young one. Returns the ISO's path.
pub(crate) fn ensure(sparetire: &Path, fresh: bool) -> Result<PathBuf> {
    let hash = inputs()?.hash();
    let shelf = Shelf::open("diagnostic")?;
    let cached = shelf.find(&hash).map(|dir| dir.join(ISO));
    if let Some(iso) = cached.as_ref().filter(|_| !fresh)
        && age(iso)? < KEEP_FOR
    {
        return Ok(iso.clone());
    }
    match (build(&shelf, &hash, sparetire), cached) {
        (Ok(iso), _) => Ok(iso),
        (Err(error), Some(old)) if !fresh => {
            eprintln!(
                "warning: using the diagnostic image of {} days ago: {error:#}",
                age(&old)?.as_secs() / 86_400
            );
            Ok(old)
        }
        (Err(error), _) => Err(error),
    }
}

/// The cached image, whatever its age.
pub(crate) fn find() -> Result<Option<PathBuf>> {
    let hash = inputs()?.hash();
    Ok(Shelf::open("diagnostic")?
        .find(&hash)
        .map(|dir| dir.join(ISO)))
}

fn build(shelf: &Shelf, hash: &str, sparetire: &Path) -> Result<PathBuf> {
    println!("building the diagnostic image from Debian packages (about 10 min)");
    let work = shelf.work(hash, true)?;
    let iso = work.join(ISO);
    process::run(
        Command::new(sparetire)
            .current_dir(tree::root())
            .args(["image", "build", "images/diagnostic", "--output"])
            .arg(&iso),
    )
    .context("building the diagnostic image")?;
    let result = shelf.publish(hash, &[(ISO, &iso)])?;
    cache::remove(&work)?;
    Ok(result.join(ISO))
}

fn age(file: &Path) -> Result<Duration> {
    let modified = fs::metadata(file).and_then(|meta| meta.modified());
    let modified = modified.with_context(|| format!("reading the age of {}", file.display()))?;
    // A file from the future is young.
    Ok(modified.elapsed().unwrap_or_default())
}

/// The recipe, and the code that carries it out.
fn inputs() -> Result<Inputs> {
    let root = tree::root();
    let mut inputs =
        Inputs::new("diagnostic", RECIPE).add_path(root, &root.join("images/diagnostic"))?;
    for source in CARRIED_OUT_BY {
        let path = root.join(source);
        if path.exists() {
            inputs = inputs.add_path(root, &path)?;
        }
    }
    Ok(inputs)
}
