//! What a writer asks of the file system, one operation at a time.
//!
//! Everything that changes a store goes through here, clean-up included. That is what lets a test
//! fail each operation in turn, or end the writer's life before it, and look at what is left.
//! Reading does not: a reader changes nothing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Every temporary name starts so; no file of a finished store does.
pub(crate) const TEMPORARY: &str = ".sparetire-";

/// One change that a writer is about to make.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(test), expect(dead_code, reason = "only faults look inside"))]
pub(crate) enum Operation<'a> {
    /// A folder is made.
    CreateDir(&'a Path),
    /// An empty file is made.
    CreateFile(&'a Path),
    /// Bytes are appended to a file.
    Write(&'a Path),
    /// A file's bytes are made durable.
    SyncFile(&'a Path),
    /// A folder's names are made durable.
    SyncDir(&'a Path),
    /// A file or folder moves, a file replacing what was there.
    Rename(&'a Path, &'a Path),
    /// A file goes.
    RemoveFile(&'a Path),
    /// An empty folder goes.
    RemoveDir(&'a Path),
}

/// What becomes of an operation.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It is done.
    Done,
    /// It counts as done without being done, which suits syncing in tests.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests have faults"))]
    Skipped,
    /// It fails, nothing having happened.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests have faults"))]
    Failed(io::Error),
    /// It fails, half of the bytes having been written.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests have faults"))]
    Torn(io::Error),
}

/// Stands between a writer and the file system in tests.
pub(crate) trait Faults: std::fmt::Debug + Send + Sync {
    /// Asked before each operation.
    fn before(&self, operation: Operation<'_>) -> Fate;
}

/// The file system, for changing it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    faults: Option<Arc<dyn Faults>>,
}

impl Disk {
    #[cfg(test)]
    pub(crate) fn with(faults: Arc<dyn Faults>) -> Self {
        Self {
            faults: Some(faults),
        }
    }

    fn is_wanted(&self, operation: Operation<'_>) -> io::Result<bool> {
        match self.fate(operation) {
            Fate::Done => Ok(true),
            Fate::Skipped => Ok(false),
            Fate::Failed(error) | Fate::Torn(error) => Err(error),
        }
    }

    fn fate(&self, operation: Operation<'_>) -> Fate {
        match &self.faults {
            Some(faults) => faults.before(operation),
            None => Fate::Done,
        }
    }

    /// Makes a folder unless it exists. Readable by the web server, which is somebody else.
    pub(crate) fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if self.is_wanted(Operation::CreateDir(path))? {
            fs::DirBuilder::new().mode(0o755).create(path)?;
        }
        Ok(())
    }

    /// Makes a file that did not exist. Readable by the web server, which is somebody else.
    pub(crate) fn create_file(&self, path: &Path) -> io::Result<DiskFile> {
        self.is_wanted(Operation::CreateFile(path))?;
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(path)?;
        Ok(DiskFile {
            disk: self.clone(),
            path: path.to_owned(),
            file,
        })
    }

    /// Makes a file with these bytes, durable but for its name.
    pub(crate) fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.create_file(path)?;
        file.write_all(bytes)?;
        file.sync()
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.is_wanted(Operation::Rename(from, to))? {
            fs::rename(from, to)?;
        }
        Ok(())
    }

    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        if self.is_wanted(Operation::RemoveFile(path))? {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    pub(crate) fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if self.is_wanted(Operation::RemoveDir(path))? {
            fs::remove_dir(path)?;
        }
        Ok(())
    }

    /// Removes a file, or a folder with all that is in it. Links are removed, not followed.
    pub(crate) fn remove_tree(&self, path: &Path) -> io::Result<()> {
        if !fs::symlink_metadata(path)?.is_dir() {
            return self.remove_file(path);
        }
        for entry in fs::read_dir(path)? {
            self.remove_tree(&entry?.path())?;
        }
        self.remove_dir(path)
    }

    /// A rename is only durable once its folder is.
    pub(crate) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.is_wanted(Operation::SyncDir(path))? {
            File::open(path)?.sync_all()?;
        }
        Ok(())
    }

    /// A name beside its later place that nothing else has: the store's lock keeps other writers
    /// out, and taking it removed what dead ones left.
    pub(crate) fn temporary(&self, dir: &Path) -> Temporary {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        Temporary {
            disk: self.clone(),
            path: dir.join(format!("{TEMPORARY}{process}-{number}")),
            kept: false,
        }
    }
}

/// A file being written.
#[derive(Debug)]
pub(crate) struct DiskFile {
    disk: Disk,
    path: PathBuf,
    file: File,
}

impl DiskFile {
    /// Makes the bytes durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if self.disk.is_wanted(Operation::SyncFile(&self.path))? {
            self.file.sync_all()?;
        }
        Ok(())
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.disk.fate(Operation::Write(&self.path)) {
            Fate::Done | Fate::Skipped => self.file.write(bytes),
            Fate::Failed(error) => Err(error),
            Fate::Torn(error) => {
                let half = bytes.len() / 2;
                self.file.write_all(bytes.get(..half).unwrap_or_default())?;
                Err(error)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A name for something unfinished, which goes with it unless it was kept.
#[derive(Debug)]
pub(crate) struct Temporary {
    disk: Disk,
    path: PathBuf,
    kept: bool,
}

impl Temporary {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it alone from now on: it has moved to its place, or a later step owns it.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is removed by the next writer.
            let _ = self.disk.remove_tree(&self.path);
        }
    }
}
