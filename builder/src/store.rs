//! An image store as a folder: plain files that any web server can serve (`docs/formats/store.md`).
//!
//! One writer at a time, any number of readers. A reader sees a version whole or not at all:
//! everything is written under a temporary name beside its place, synced, then renamed, packs
//! first and the pointer to the newest version last. A writer that died leaves only temporary
//! names (and at worst packs that nothing refers to); the next writer removes them. Who controls
//! the bytes: whoever may write the folder, so nothing read here counts as verified.

mod pack;
mod verify;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sparetire_manifest::{
    Digest, ImageName, Index, IndexError, Latest, MAX_INDEX, MAX_MANIFEST, MAX_SIGNATURE, Manifest,
    PackRef, ParseError, Place, layout,
};

pub use pack::{Addition, FinishedPacks, PackWriter};
pub use verify::{CheckError, VerifySummary, verify_documents, verify_version};

/// Every temporary name starts so; no file of a finished store does.
pub(crate) const TEMPORARY: &str = ".sparetire-";

/// The two files of a pointer to the newest version, complete, on their way to their place.
const PENDING_LATEST: &str = ".sparetire-latest";

/// A folder with `images/` and `packs/` in it.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// A file of the store with its signature, nobody having checked either.
#[derive(Debug, Clone)]
pub struct SignedFile {
    /// The signed bytes.
    pub bytes: Vec<u8>,
    /// The text of the `.minisig` file.
    pub signature: String,
}

/// Where the store already has a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The pack that holds it.
    pub pack: PackRef,
    /// Length of the chunk in an image.
    pub length: u32,
    /// Place in the pack; the pack number inside means nothing here.
    pub place: Place,
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
        if !root.join("images").is_dir() || !root.join("packs").is_dir() {
            return Err(StoreError::NoStore {
                path: root.to_owned(),
            });
        }
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// Opens a store, or makes one in a folder that is missing or empty.
    ///
    /// # Errors
    ///
    /// When the folder holds something else, or cannot be written.
    pub fn create(root: &Path) -> Result<Self, StoreError> {
        if let Ok(store) = Self::open(root) {
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
            fs::create_dir_all(&dir).map_err(|source| StoreError::at(&dir, "creating", source))?;
        }
        sync_dir(root)?;
        Self::open(root)
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The place of one of the paths of [`layout`].
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Takes the right to write, and removes what a writer that died has left.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] when another process has it.
    pub fn lock(&self) -> Result<WriteLock, StoreError> {
        let path = self.root.join(".lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| StoreError::at(&path, "opening", source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(StoreError::Busy {
                    path: self.root.clone(),
                });
            }
            Err(fs::TryLockError::Error(source)) => {
                return Err(StoreError::at(&path, "locking", source));
            }
        }
        let lock = WriteLock {
            store: self.clone(),
            _file: file,
        };
        lock.recover()?;
        Ok(lock)
    }

    /// Names of all images, sorted. Other things in the folder are passed over.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn images(&self) -> Result<Vec<ImageName>, StoreError> {
        let mut names: Vec<ImageName> = dir_names(&self.root.join("images"))?
            .into_iter()
            .filter_map(|name| ImageName::try_from(name).ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Versions of an image, oldest first; none when there is no such image.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn versions(&self, name: &ImageName) -> Result<Vec<u64>, StoreError> {
        let dir = self.root.join("images").join(name.as_str());
        if !dir.is_dir() {
            return Ok(Vec::new());
        }
        let mut versions: Vec<u64> = dir_names(&dir)?
            .into_iter()
            // One spelling only: `07` is no version.
            .filter_map(|name| name.parse().ok().filter(|n: &u64| n.to_string() == name))
            .collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// The version asked for, or the newest one.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoImage`] when there is none.
    pub fn version(&self, name: &ImageName, wanted: Option<u64>) -> Result<u64, StoreError> {
        let versions = self.versions(name)?;
        match wanted {
            Some(version) => versions.iter().find(|found| **found == version),
            None => versions.last(),
        }
        .copied()
        .ok_or_else(|| StoreError::NoImage {
            name: name.clone(),
            version: wanted,
        })
    }

    /// The manifest of a version and its signature, unchecked.
    ///
    /// # Errors
    ///
    /// When a file is missing, too long or no text.
    pub fn read_manifest(&self, name: &ImageName, version: u64) -> Result<SignedFile, StoreError> {
        self.read_signed(&layout::manifest_path(name, version))
    }

    /// The pointer to the newest version and its signature, unchecked.
    ///
    /// # Errors
    ///
    /// When a file is missing, too long or no text.
    pub fn read_latest(&self, name: &ImageName) -> Result<SignedFile, StoreError> {
        self.read_signed(&layout::latest_path(name))
    }

    /// The manifest of a version, for showing.
    ///
    /// # Errors
    ///
    /// When it cannot be read or makes no sense.
    pub fn manifest(&self, name: &ImageName, version: u64) -> Result<Manifest, StoreError> {
        let file = self.read_manifest(name, version)?;
        Manifest::parse_unverified(&file.bytes).map_err(|source| StoreError::Parse {
            path: layout::manifest_path(name, version),
            source,
        })
    }

    /// The pointer to the newest version, for showing.
    ///
    /// # Errors
    ///
    /// When it cannot be read or makes no sense.
    pub fn latest(&self, name: &ImageName) -> Result<Latest, StoreError> {
        let file = self.read_latest(name)?;
        Latest::parse_unverified(&file.bytes).map_err(|source| StoreError::Parse {
            path: layout::latest_path(name),
            source,
        })
    }

    /// The index that a manifest names, its digest checked against that manifest.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is not the one named.
    pub fn index(&self, manifest: &Manifest) -> Result<Index, StoreError> {
        let relative = layout::index_path(&manifest.name, manifest.version);
        let bytes = self.read_capped(&relative, MAX_INDEX)?;
        Index::verify(&bytes, &manifest.index, manifest.size)
            .map(sparetire_manifest::Verified::into_inner)
            .map_err(|source| StoreError::Index {
                path: relative,
                source,
            })
    }

    /// Every chunk that some version already has in a pack of the right length, by digest.
    ///
    /// A version that cannot be read only costs sharing with it; `unreadable` is told of it.
    ///
    /// # Errors
    ///
    /// When the folders cannot be read.
    pub fn known_chunks(
        &self,
        mut unreadable: impl FnMut(&ImageName, u64, &StoreError),
    ) -> Result<HashMap<Digest, Known>, StoreError> {
        let mut known = HashMap::new();
        let mut present: HashMap<PackRef, bool> = HashMap::new();
        for name in self.images()? {
            for version in self.versions(&name)? {
                let index = match self
                    .manifest(&name, version)
                    .and_then(|manifest| self.index(&manifest))
                {
                    Ok(index) => index,
                    Err(error) => {
                        unreadable(&name, version, &error);
                        continue;
                    }
                };
                for chunk in &index.chunks {
                    let Some(pack) = chunk
                        .stored()
                        .and_then(|(pack, ..)| index.packs.get(pack as usize))
                    else {
                        continue;
                    };
                    let is_there = *present.entry(*pack).or_insert_with(|| self.has_pack(pack));
                    if is_there {
                        known.entry(chunk.digest).or_insert(Known {
                            pack: *pack,
                            length: chunk.length,
                            place: chunk.place,
                        });
                    }
                }
            }
        }
        Ok(known)
    }

    fn has_pack(&self, pack: &PackRef) -> bool {
        fs::metadata(self.path(&layout::pack_path(&pack.sha256)))
            .is_ok_and(|found| found.is_file() && found.len() == pack.length)
    }

    fn read_signed(&self, relative: &str) -> Result<SignedFile, StoreError> {
        let bytes = self.read_capped(relative, MAX_MANIFEST as u64)?;
        let signature_path = layout::signature_path(relative);
        let signature = self.read_capped(&signature_path, MAX_SIGNATURE as u64)?;
        let signature = String::from_utf8(signature).map_err(|_| StoreError::NoText {
            path: signature_path,
        })?;
        Ok(SignedFile { bytes, signature })
    }

    fn read_capped(&self, relative: &str, most: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(relative);
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            File::open(&path)?.take(most + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|source| StoreError::at(&path, "reading", source))?;
        if bytes.len() as u64 > most {
            return Err(StoreError::TooLong {
                path: relative.to_owned(),
                most,
            });
        }
        Ok(bytes)
    }
}

/// The files of a new version, signed and ready.
#[derive(Debug)]
pub struct NewVersion<'a> {
    /// Which image.
    pub name: &'a ImageName,
    /// Which version.
    pub version: u64,
    /// The manifest with its signature.
    pub manifest: &'a SignedFile,
    /// The index.
    pub index: &'a [u8],
    /// The pointer to this version with its signature.
    pub latest: &'a SignedFile,
}

impl WriteLock {
    /// The store that is locked.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Starts a set of packs, each at most `cap` bytes long.
    ///
    /// # Errors
    ///
    /// Never by itself; writing may fail later.
    #[must_use]
    pub fn packs(&self, cap: u64) -> PackWriter<'_> {
        PackWriter::new(self, cap)
    }

    /// Makes a version visible, its packs first.
    ///
    /// # Errors
    ///
    /// When the version exists, or a file cannot be written.
    pub fn publish(&self, packs: FinishedPacks, new: &NewVersion<'_>) -> Result<(), StoreError> {
        let images = self.store.root.join("images");
        let image_dir = images.join(new.name.as_str());
        let version_dir = self.store.path(&layout::version_dir(new.name, new.version));
        if version_dir.exists() {
            return Err(StoreError::VersionExists {
                name: new.name.clone(),
                version: new.version,
            });
        }
        packs.persist(&self.store)?;
        create_dir(&image_dir)?;
        sync_dir(&images)?;

        let temporary = temporary_dir(&image_dir)?;
        write_synced(&temporary.path().join("manifest.json"), &new.manifest.bytes)?;
        let signature = new.manifest.signature.as_bytes();
        write_synced(&temporary.path().join("manifest.json.minisig"), signature)?;
        write_synced(&temporary.path().join("index"), new.index)?;
        sync_dir(temporary.path())?;

        // Two files cannot be replaced at once. So both stand complete in a folder first, from
        // which a later writer could finish the job if this one died between the two.
        let pending = temporary_dir(&image_dir)?;
        write_synced(&pending.path().join("latest.json"), &new.latest.bytes)?;
        let signature = new.latest.signature.as_bytes();
        write_synced(&pending.path().join("latest.json.minisig"), signature)?;
        sync_dir(pending.path())?;

        rename_dir(temporary, &version_dir)?;
        rename_dir(pending, &image_dir.join(PENDING_LATEST))?;
        sync_dir(&image_dir)?;
        self.finish_latest(&image_dir)
    }

    /// Moves a complete pending pointer to its place.
    fn finish_latest(&self, image_dir: &Path) -> Result<(), StoreError> {
        let pending = image_dir.join(PENDING_LATEST);
        for file in ["latest.json", "latest.json.minisig"] {
            let (from, to) = (pending.join(file), image_dir.join(file));
            match fs::rename(&from, &to) {
                Ok(()) => {}
                // Moved by the writer that died.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::at(&from, "renaming", source)),
            }
        }
        sync_dir(image_dir)?;
        fs::remove_dir(&pending).map_err(|source| StoreError::at(&pending, "removing", source))?;
        sync_dir(image_dir)
    }

    /// Finishes or removes what a writer that died has left.
    fn recover(&self) -> Result<(), StoreError> {
        let images = self.store.root.join("images");
        let packs = self.store.root.join("packs");
        for image_dir in sub_dirs(&images)? {
            if image_dir.join(PENDING_LATEST).is_dir() {
                self.finish_latest(&image_dir)?;
            }
            remove_temporary(&image_dir)?;
        }
        for pack_dir in sub_dirs(&packs)? {
            remove_temporary(&pack_dir)?;
        }
        remove_temporary(&packs)
    }
}

fn remove_temporary(dir: &Path) -> Result<(), StoreError> {
    for name in all_names(dir)? {
        if !name.starts_with(TEMPORARY) || name == PENDING_LATEST {
            continue;
        }
        let path = dir.join(name);
        let is_dir = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
        let removed = if is_dir {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(|source| StoreError::at(&path, "removing", source))?;
    }
    Ok(())
}

fn all_names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let io = |source| StoreError::at(dir, "listing", source);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        // Names of ours are ASCII; others are none of our business.
        if let Ok(name) = entry.map_err(io)?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

fn dir_names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = all_names(dir)?;
    names.retain(|name| !name.starts_with(TEMPORARY) && dir.join(name).is_dir());
    Ok(names)
}

fn sub_dirs(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    Ok(dir_names(dir)?
        .into_iter()
        .map(|name| dir.join(name))
        .collect())
}

pub(crate) fn create_dir(dir: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(dir).map_err(|source| StoreError::at(dir, "creating", source))
}

/// A folder beside its later place; removed again unless it gets there. Readable by the web
/// server, which is somebody else.
fn temporary_dir(parent: &Path) -> Result<tempfile::TempDir, StoreError> {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .map_err(|source| StoreError::at(parent, "creating a folder in", source))
}

fn rename_dir(from: tempfile::TempDir, to: &Path) -> Result<(), StoreError> {
    fs::rename(from.path(), to).map_err(|source| StoreError::at(to, "renaming to", source))?;
    // It has moved: nothing is left to remove.
    let _ = from.keep();
    Ok(())
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    use std::io::Write;
    let write = || -> io::Result<()> {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| StoreError::at(path, "writing", source))
}

/// A rename is only durable once its folder is.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(|source| StoreError::at(dir, "syncing", source))
}

/// What went wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder is missing, or has no `images` and `packs` in it.
    #[error("{} is no image store", path.display())]
    NoStore {
        /// The folder.
        path: PathBuf,
    },
    /// A new store would be mixed with other files.
    #[error("{} is neither an image store nor empty", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// Another process writes to the store.
    #[error("another process is writing to {}", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// No such image, or no such version of it.
    #[error("no image {name}{}", version.map(|v| format!(" in version {v}")).unwrap_or_default())]
    NoImage {
        /// Which image.
        name: ImageName,
        /// Which version, if one was asked for.
        version: Option<u64>,
    },
    /// Versions are never replaced.
    #[error("image {name} has a version {version} already")]
    VersionExists {
        /// Which image.
        name: ImageName,
        /// Which version.
        version: u64,
    },
    /// A file is longer than any of its kind may be.
    #[error("{path} is longer than {most} bytes")]
    TooLong {
        /// Path inside the store.
        path: String,
        /// The limit.
        most: u64,
    },
    /// A signature file is not UTF-8.
    #[error("{path} is no text")]
    NoText {
        /// Path inside the store.
        path: String,
    },
    /// A manifest or pointer makes no sense.
    #[error("{path} makes no sense")]
    Parse {
        /// Path inside the store.
        path: String,
        /// Why.
        source: ParseError,
    },
    /// An index makes no sense, or is not the one its manifest names.
    #[error("{path} is not the index its manifest names")]
    Index {
        /// Path inside the store.
        path: String,
        /// Why.
        source: IndexError,
    },
    /// The file system refused.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl StoreError {
    pub(crate) fn at(path: &Path, doing: &'static str, source: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
