//! An image store as a folder: plain files that any web server can serve (`docs/formats/store.md`).
//!
//! One writer at a time, any number of readers. A reader sees a version whole or not at all:
//! everything is written under a temporary name, synced, then renamed (`write.rs` says in which
//! order). A writer that died leaves temporary names, which the next one removes, or a complete
//! plan, which the next one carries out. Who controls the bytes: whoever may write the folder, so
//! nothing read here counts as verified.

mod disk;
mod error;
mod pack;
mod read;
mod receive;
mod remove;
mod usage;
mod verify;
mod write;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use disk::{Disk, TEMPORARY};

pub use error::StoreError;
pub use pack::{Addition, FinishedPacks, PackWriter};
pub use read::{Known, SignedFile};
pub use receive::Incoming;
pub use remove::{Collection, Removal, Sparse, Waiting};
pub(crate) use remove::{MAX_UNREFERENCED, UNREFERENCED, Unreferenced};
pub use usage::{PackUse, Usage};
pub(crate) use verify::Packs;
pub use verify::{CheckError, VerifySummary, verify_documents, verify_pack, verify_version};
pub use write::NewVersion;

/// A folder with `images/` and `packs/` in it.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    disk: Disk,
}

/// The right to change a store, until it is dropped.
#[derive(Debug)]
pub struct WriteLock {
    store: Store,
    // Closing the file gives the lock back.
    _file: File,
}

impl Store {
    /// Opens an existing store.
    ///
    /// # Errors
    ///
    /// When the folder is missing or is none.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Self::open_on(root, Disk::default())
    }

    pub(crate) fn open_on(root: &Path, disk: Disk) -> Result<Self, StoreError> {
        if !root.join("images").is_dir() || !root.join("packs").is_dir() {
            return Err(StoreError::NoStore {
                path: root.to_owned(),
            });
        }
        Ok(Self {
            root: root.to_owned(),
            disk,
        })
    }

    /// Opens a store, or makes one in a folder that is missing or empty.
    ///
    /// # Errors
    ///
    /// When the folder holds something else, or cannot be written.
    pub fn create(root: &Path) -> Result<Self, StoreError> {
        Self::create_on(root, Disk::default())
    }

    pub(crate) fn create_on(root: &Path, disk: Disk) -> Result<Self, StoreError> {
        if let Ok(store) = Self::open_on(root, disk.clone()) {
            return Ok(store);
        }
        let io = |source| StoreError::at(root, "creating", source);
        fs::create_dir_all(root).map_err(io)?;
        for entry in fs::read_dir(root).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            // What an interrupted creation leaves.
            if name != "images" && name != "packs" && name != ".lock" {
                return Err(StoreError::NotEmpty {
                    path: root.to_owned(),
                });
            }
        }
        for part in ["packs", "images"] {
            let dir = root.join(part);
            disk.create_dir(&dir)
                .map_err(|source| StoreError::at(&dir, "creating", source))?;
        }
        disk.sync_dir(root)
            .map_err(|source| StoreError::at(root, "syncing", source))?;
        Self::open_on(root, disk)
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The place of one of the paths of [`layout`](sparetire_manifest::layout).
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Takes the right to write, and finishes or removes what a writer that died has left.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] when another process has it.
    pub fn lock(&self) -> Result<WriteLock, StoreError> {
        let file = self.open_lock()?;
        match file.try_lock() {
            Ok(()) => self.locked(file),
            Err(fs::TryLockError::WouldBlock) => Err(StoreError::Busy {
                path: self.root.clone(),
            }),
            Err(fs::TryLockError::Error(source)) => {
                Err(StoreError::at(&self.root, "locking", source))
            }
        }
    }

    /// As [`Store::lock`], but waits for another process to finish, after saying so by `waiting`.
    /// The system gives the right back when a process dies, so nobody waits for a dead one.
    ///
    /// # Errors
    ///
    /// When the store cannot be locked or what was left in it not be removed.
    pub fn lock_waiting(&self, waiting: impl FnOnce()) -> Result<WriteLock, StoreError> {
        match self.lock() {
            Err(StoreError::Busy { .. }) => {}
            other => return other,
        }
        waiting();
        let file = self.open_lock()?;
        file.lock()
            .map_err(|source| StoreError::at(&self.root, "locking", source))?;
        self.locked(file)
    }

    fn open_lock(&self) -> Result<File, StoreError> {
        let path = self.root.join(".lock");
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| StoreError::at(&path, "opening", source))
    }

    fn locked(&self, file: File) -> Result<WriteLock, StoreError> {
        let lock = WriteLock {
            store: self.clone(),
            _file: file,
        };
        lock.recover()?;
        Ok(lock)
    }
}

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;
