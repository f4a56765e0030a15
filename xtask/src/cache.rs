//! Results cached by the hash of what they were made from.
//!
//! `CACHE/WHAT/HASH/` is complete or absent: work happens in `CACHE/WHAT/HASH.work/`,
//! which survives an interruption, and a finished result is renamed into place. A lock
//! per `WHAT` keeps two checkouts on one machine from building the same thing twice.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::tree;

/// What a result was made from, in order. Two different lists never give the same text.
#[derive(Clone)]
pub(crate) struct Inputs(Sha256);

impl Inputs {
    /// `recipe` is raised when the way of making changes, so that old results are left alone.
    pub(crate) fn new(what: &str, recipe: u32) -> Self {
        Inputs(Sha256::new()).add(what, recipe.to_string().as_bytes())
    }

    /// Adds a named input.
    pub(crate) fn add(mut self, name: &str, value: &[u8]) -> Self {
        for part in [name.as_bytes(), value] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Adds a file, or every file below a directory by its path relative to `base`.
    pub(crate) fn add_path(mut self, base: &Path, path: &Path) -> Result<Self> {
        for file in files_below(path)? {
            let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            let name = file.strip_prefix(base).unwrap_or(&file);
            self = self.add(&name.to_string_lossy(), &bytes);
        }
        Ok(self)
    }

    /// The first 96 bits in hex: collisions are no attack here, and paths stay readable.
    pub(crate) fn hash(&self) -> String {
        self.0.clone().finalize()[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Every regular file at or below `path`, sorted.
pub(crate) fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    let kind = fs::symlink_metadata(path).with_context(|| format!("reading {}", path.display()))?;
    if !kind.is_dir() {
        return Ok(if kind.is_file() {
            vec![path.to_owned()]
        } else {
            Vec::new()
        });
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("listing {}", path.display()))? {
        let entry = entry.with_context(|| format!("listing {}", path.display()))?;
        files.extend(files_below(&entry.path())?);
    }
    files.sort();
    Ok(files)
}

/// One kind of result, locked for as long as the value lives.
pub(crate) struct Shelf {
    dir: PathBuf,
    _lock: File,
}

impl Shelf {
    /// Opens and locks the shelf for `what`, waiting for another process to finish first.
    pub(crate) fn open(what: &str) -> Result<Self> {
        Self::open_below(&tree::cache()?, what)
    }

    fn open_below(cache: &Path, what: &str) -> Result<Self> {
        let dir = cache.join(what);
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let path = dir.join(".lock");
        let lock = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        if lock.try_lock().is_err() {
            eprintln!("waiting for another set-up to finish with {what}");
            lock.lock()
                .with_context(|| format!("locking {}", path.display()))?;
        }
        Ok(Shelf { dir, _lock: lock })
    }

    /// The shelf's own directory, for things that are not results.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The finished result, when there is one.
    pub(crate) fn find(&self, hash: &str) -> Option<PathBuf> {
        Some(self.dir.join(hash)).filter(|dir| dir.is_dir())
    }

    /// The directory to work in; what an interrupted run left there is kept unless `fresh`.
    pub(crate) fn work(&self, hash: &str, fresh: bool) -> Result<PathBuf> {
        let dir = self.dir.join(format!("{hash}.work"));
        if fresh {
            remove(&dir)?;
        }
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(dir)
    }

    /// Copies `files` (name, source) into a new result and puts it in place of an old one.
    pub(crate) fn publish(&self, hash: &str, files: &[(&str, &Path)]) -> Result<PathBuf> {
        let staging = self.dir.join(format!("{hash}.new"));
        remove(&staging)?;
        fs::create_dir(&staging).with_context(|| format!("creating {}", staging.display()))?;
        for (name, source) in files {
            let to = staging.join(name);
            fs::copy(source, &to)
                .with_context(|| format!("copying {} to {}", source.display(), to.display()))?;
            File::open(&to)
                .and_then(|file| file.sync_all())
                .with_context(|| format!("syncing {}", to.display()))?;
        }
        let result = self.dir.join(hash);
        remove(&result)?;
        fs::rename(&staging, &result)
            .with_context(|| format!("renaming to {}", result.display()))?;
        Ok(result)
    }
}

/// Removes a directory tree that may not exist.
pub(crate) fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_that_run_together_the_same_way_hash_differently() {
        let first = Inputs::new("x", 1).add("ab", b"c").hash();
        let second = Inputs::new("x", 1).add("a", b"bc").hash();
        assert_ne!(first, second);
        assert_ne!(Inputs::new("x", 1).hash(), Inputs::new("x", 2).hash());
    }

    #[test]
    fn a_changed_file_or_name_changes_the_hash() {
        let dir = tempfile::tempdir().unwrap();
        let hash = || {
            Inputs::new("x", 1)
                .add_path(dir.path(), dir.path())
                .unwrap()
                .hash()
        };
        fs::write(dir.path().join("a"), "1").unwrap();
        let first = hash();
        assert_eq!(first, hash());
        fs::write(dir.path().join("a"), "2").unwrap();
        let second = hash();
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        assert!(first != second && second != hash());
    }

    #[test]
    fn a_result_exists_only_after_it_was_published() {
        let cache = tempfile::tempdir().unwrap();
        let shelf = Shelf::open_below(cache.path(), "thing").unwrap();
        let work = shelf.work("h", false).unwrap();
        fs::write(work.join("out"), "made").unwrap();
        assert_eq!(shelf.find("h"), None);
        let result = shelf.publish("h", &[("out", &work.join("out"))]).unwrap();
        assert_eq!(shelf.find("h"), Some(result.clone()));
        assert_eq!(fs::read_to_string(result.join("out")).unwrap(), "made");
    }

    #[test]
    fn unfinished_work_is_kept_until_a_fresh_start_is_asked_for() {
        let cache = tempfile::tempdir().unwrap();
        let shelf = Shelf::open_below(cache.path(), "thing").unwrap();
        fs::write(shelf.work("h", false).unwrap().join("half"), "").unwrap();
        assert!(shelf.work("h", false).unwrap().join("half").exists());
        assert!(!shelf.work("h", true).unwrap().join("half").exists());
    }

    #[test]
    fn a_failed_publication_leaves_the_old_result() {
        let cache = tempfile::tempdir().unwrap();
        let shelf = Shelf::open_below(cache.path(), "thing").unwrap();
        let source = cache.path().join("source");
        fs::write(&source, "old").unwrap();
        let result = shelf.publish("h", &[("out", &source)]).unwrap();
        shelf
            .publish("h", &[("out", Path::new("/nonexistent"))])
            .unwrap_err();
        assert_eq!(fs::read_to_string(result.join("out")).unwrap(), "old");
    }
}
