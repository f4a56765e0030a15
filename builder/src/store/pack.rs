//! Writing packs: chunks back to back in files named by their own digest.
//!
//! A pack keeps its temporary name until the version that needs it is published, so that an import
//! that stops half way leaves nothing that looks finished.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use sparetire_manifest::{Digest, PackRef};

use super::disk::{Disk, DiskFile, Temporary};
use super::{StoreError, WriteLock};

/// The packs one import adds.
#[derive(Debug)]
pub struct PackWriter<'a> {
    lock: &'a WriteLock,
    cap: u64,
    open: Option<Open>,
    finished: Vec<Finished>,
}

/// Where a chunk went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addition {
    /// Number of the pack among those this writer makes.
    pub pack: u32,
    /// First byte in it.
    pub offset: u64,
}

#[derive(Debug)]
struct Open {
    // Before its name: the file is closed when the name goes.
    file: BufWriter<DiskFile>,
    name: Temporary,
    digest: Sha256,
    length: u64,
}

/// Complete packs on their way into the store; dropping them removes them.
#[derive(Debug, Default)]
pub struct FinishedPacks {
    packs: Vec<Finished>,
}

impl FinishedPacks {
    /// Their names and lengths, in order.
    pub fn refs(&self) -> impl Iterator<Item = PackRef> + '_ {
        self.packs.iter().map(|finished| finished.pack)
    }

    /// The files, in order, for the change that gives them their names.
    pub(super) fn into_files(self) -> impl Iterator<Item = (Temporary, Digest)> {
        let packs = self.packs.into_iter();
        packs.map(|finished| (finished.file, finished.pack.sha256))
    }
}

#[derive(Debug)]
struct Finished {
    file: Temporary,
    pack: PackRef,
}

impl<'a> PackWriter<'a> {
    pub(super) fn new(lock: &'a WriteLock, cap: u64) -> Self {
        Self {
            lock,
            cap,
            open: None,
            finished: Vec::new(),
        }
    }

    /// Appends a chunk, in a further pack when it does not fit the current one any more.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn add(&mut self, bytes: &[u8]) -> Result<Addition, StoreError> {
        let length = bytes.len() as u64;
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.length + length > self.cap)
        {
            self.close()?;
        }
        let dir = self.dir();
        let number = u32::try_from(self.finished.len()).unwrap_or(u32::MAX);
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Open::new(&self.lock.store().disk, &dir)?),
        };
        let offset = open.length;
        open.file
            .write_all(bytes)
            .map_err(|source| StoreError::at(&dir, "writing a pack in", source))?;
        open.digest.update(bytes);
        open.length += length;
        Ok(Addition {
            pack: number,
            offset,
        })
    }

    /// Completes the packs, which stay temporary until their version is published.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn finish(mut self) -> Result<FinishedPacks, StoreError> {
        self.close()?;
        Ok(FinishedPacks {
            packs: self.finished,
        })
    }

    fn dir(&self) -> PathBuf {
        self.lock.store().root().join("packs")
    }

    fn close(&mut self) -> Result<(), StoreError> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let dir = self.dir();
        let io = |source| StoreError::at(&dir, "writing a pack in", source);
        let file = open
            .file
            .into_inner()
            .map_err(|error| io(error.into_error()))?;
        file.sync().map_err(io)?;
        let pack = PackRef {
            sha256: Digest::from_bytes(open.digest.finalize().into()),
            length: open.length,
        };
        self.finished.push(Finished {
            file: open.name,
            pack,
        });
        Ok(())
    }
}

impl Open {
    fn new(disk: &Disk, dir: &std::path::Path) -> Result<Self, StoreError> {
        let name = disk.temporary(dir);
        let file = disk
            .create_file(name.path())
            .map_err(|source| StoreError::at(dir, "creating a pack in", source))?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 20, file),
            name,
            digest: Sha256::new(),
            length: 0,
        })
    }
}
