//! What is on an ISO image, and where in the file does it lie?
//!
//! Reads ISO 9660 (ECMA-119) through hadris-iso: Rock Ridge names (SUSP/RRIP 1.12) where there are
//! any, else Joliet, else the plain names; finds files without regard to case, `;1` or a trailing
//! dot, as boot loaders do; and says as byte ranges of the image where a file is, which is what a
//! manifest needs. Not read: UDF (an image with nothing else is refused), interleaved files, images
//! of several volumes.
//!
//! Whoever made the image controls every byte. hadris checks each length against the device and
//! bounds chains of records; three things it leaves are closed here:
//!
//! - It bounds each call, not their sum: a crafted image can make every entry of a listing read
//!   4 MiB of continuation areas, or the path table for each hard link. `Guarded` counts
//!   the reads of the whole image and ends them.
//! - Directories may contain themselves. They are read one at a time, on demand, each once, and
//!   paths have a bounded depth.
//! - `read_tree` asks for each entry by its number in the directory, which is quadratic. Here the
//!   cursor of the last entry is used, which is linear.
//!
//! hadris also refuses the rest of a directory behind one damaged record, and that is kept: what
//! came before might be a crafted part of the truth.

mod device;
mod error;
#[cfg(test)]
pub(crate) mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use boot_config::{FileError, Files, Listed};
use hadris_fs::sync::FileSystem;
use hadris_fs::{DirCursor, FileType, MountOptions, NodeId};
use hadris_iso::sync::IsoFs;
use hadris_iso::{CacheOptions, Platform};
use sparetire_manifest::Extent;

pub use error::IsoImageError;

use device::Guarded;
use error::damaged;

/// Components of a path, and links followed for it.
const MAX_DEPTH: usize = 64;
/// Entries of one directory.
const MAX_DIRECTORY: usize = 100_000;
/// Entries held for all directories.
const MAX_ENTRIES: usize = 1_000_000;
/// Extents of one file; each holds up to 4 GiB.
const MAX_EXTENTS: usize = 1024;
/// Boot catalog bytes: 1,023 entries.
const CATALOG: usize = 32 * 1024;

/// An ISO image file, open for reading.
#[derive(Debug)]
pub struct IsoImage {
    path: PathBuf,
    file: File,
    size: u64,
    volume_id: String,
    volume: RefCell<Volume>,
}

/// One name in a directory of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsoEntry {
    /// The name, with what is not UTF-8 replaced.
    pub name: String,
    /// What it is.
    pub kind: IsoKind,
    /// Bytes, for a file.
    pub size: u64,
    node: NodeId,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsoKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link (Rock Ridge).
    Link,
    /// A device, a pipe, a socket.
    Other,
}

/// One entry of the El Torito boot catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootImage {
    /// Platform ID: 0x00 for a BIOS PC, 0xEF for UEFI.
    pub platform: u8,
    /// Whether the entry says it can be booted.
    pub bootable: bool,
    /// Whether firmware loads it as it is, rather than as a diskette or disk.
    pub no_emulation: bool,
    /// Where the boot image begins, in blocks of 2,048 bytes.
    pub load_rba: u32,
    /// How many sectors of 512 bytes firmware loads.
    pub sector_count: u16,
}

impl BootImage {
    /// Whether a BIOS looks at it.
    pub fn is_bios(&self) -> bool {
        self.platform == Platform::X86.id()
    }

    /// Whether UEFI looks at it.
    pub fn is_uefi(&self) -> bool {
        self.platform == Platform::Efi.id()
    }
}

#[derive(Debug)]
struct Volume {
    iso: IsoFs<Guarded>,
    /// Directories already read, by their node.
    directories: BTreeMap<u64, Vec<IsoEntry>>,
    entries: usize,
}

impl IsoImage {
    /// Opens an image and reads its descriptors.
    pub fn open(path: &Path) -> Result<Self, IsoImageError> {
        let open = |source| IsoImageError::Open {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(open)?;
        let metadata = file.metadata().map_err(open)?;
        if !metadata.is_file() {
            return Err(open(io::Error::from(io::ErrorKind::InvalidInput)));
        }
        let size = metadata.len();
        let device = Guarded::new(file.try_clone().map_err(open)?, size);
        let iso = IsoFs::mount(device, MountOptions::new())
            .map_err(|error| {
                let error: hadris_fs::Error<io::Error> = error.into();
                if error.kind() == hadris_fs::ErrorKind::NotRecognized {
                    return IsoImageError::NotIso {
                        path: path.to_owned(),
                    };
                }
                damaged(path, "the set of volume descriptors", error)
            })?
            .with_cache(CacheOptions::new().with_blocks(32).with_links(1 << 16));
        let mut iso = iso;
        let mut label = [0; 384];
        let volume_id = iso
            .label(&mut label)
            .map_err(|error| damaged(path, "the volume identifier", error))?
            .unwrap_or_default()
            .trim()
            .to_owned();
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            volume_id,
            volume: RefCell::new(Volume {
                iso,
                directories: BTreeMap::new(),
                entries: 0,
            }),
        })
    }

    /// Size of the image file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The volume identifier, which file systems call the label.
    pub fn volume_id(&self) -> &str {
        &self.volume_id
    }

    /// The entries of the El Torito boot catalog; none if there is no catalog.
    pub fn boot_images(&self) -> Result<Vec<BootImage>, IsoImageError> {
        let mut buffer = vec![0; CATALOG];
        let mut volume = self.volume.borrow_mut();
        let catalog = volume
            .iso
            .boot_catalog(&mut buffer)
            .map_err(|error| damaged(&self.path, "the boot catalog", error))?;
        let Some(catalog) = catalog else {
            return Ok(Vec::new());
        };
        Ok(catalog
            .entries()
            .map(|entry| BootImage {
                platform: entry.platform().id(),
                bootable: entry.is_bootable(),
                no_emulation: entry.emulation() == Some(hadris_iso::Emulation::NoEmulation),
                load_rba: entry.load_block(),
                sector_count: entry.sector_count(),
            })
            .collect())
    }

    /// The entries of a directory, in the image's order.
    pub fn directory(&self, path: &str) -> Result<Vec<IsoEntry>, IsoImageError> {
        let mut volume = self.volume.borrow_mut();
        match self.find(&mut volume, path)? {
            Found::Root => {
                let root = volume.iso.root();
                self.read_directory(&mut volume, root, path)
                    .map(<[_]>::to_vec)
            }
            Found::Entry(entry) if entry.kind == IsoKind::Directory => self
                .read_directory(&mut volume, entry.node, path)
                .map(<[_]>::to_vec),
            Found::Entry(_) => Err(IsoImageError::WrongKind {
                path: path.to_owned(),
                wanted: "directory",
            }),
        }
    }

    /// Every file of the image with its size, directories in the image's order. A directory that
    /// is reached a second time is an error: it contains itself or is shared.
    pub fn files(&self) -> Result<Vec<(String, u64)>, IsoImageError> {
        let mut volume = self.volume.borrow_mut();
        let root = volume.iso.root();
        let mut files = Vec::new();
        let mut seen = std::collections::BTreeSet::from([root.get()]);
        let mut waiting = vec![(root, String::new(), 0)];
        while let Some((node, path, depth)) = waiting.pop() {
            if depth > MAX_DEPTH {
                return Err(IsoImageError::TooMany {
                    what: "directories inside one another",
                    most: MAX_DEPTH,
                });
            }
            let mut inside = Vec::new();
            for entry in self.read_directory(&mut volume, node, &path)? {
                let path = format!("{path}/{}", entry.name);
                match entry.kind {
                    IsoKind::File => files.push((path, entry.size)),
                    IsoKind::Directory if seen.insert(entry.node.get()) => {
                        inside.push((entry.node, path, depth + 1));
                    }
                    IsoKind::Directory => {
                        return Err(IsoImageError::Damaged {
                            what: path,
                            how: "the same directory as another path".into(),
                        });
                    }
                    IsoKind::Link | IsoKind::Other => {}
                }
            }
            waiting.extend(inside.into_iter().rev());
        }
        Ok(files)
    }

    /// The size of a file in bytes.
    pub fn file_size(&self, path: &str) -> Result<u64, IsoImageError> {
        Ok(self.file(&mut self.volume.borrow_mut(), path)?.size)
    }

    /// Where the bytes of a file lie in the image: pieces in the file's order, neighbours merged,
    /// none for an empty file. All of them are inside the image.
    pub fn extents(&self, path: &str) -> Result<Vec<Extent>, IsoImageError> {
        let mut volume = self.volume.borrow_mut();
        let entry = self.file(&mut volume, path)?;
        let mut extents: Vec<Extent> = Vec::new();
        let mut from = 0;
        let mut found = [hadris_fs::Extent::new(0, 0); MAX_EXTENTS / 8];
        loop {
            let count = volume
                .iso
                .extents(entry.node, from, &mut found)
                .map_err(|error| damaged(&self.path, path, error))?;
            if count == 0 {
                break;
            }
            for piece in found.iter().take(count) {
                let end = piece.offset().checked_add(piece.len());
                match end {
                    Some(end) if end <= self.size => {}
                    end => {
                        return Err(IsoImageError::CutShort {
                            path: path.to_owned(),
                            end: end.unwrap_or(u64::MAX),
                            size: self.size,
                        });
                    }
                }
                from = piece.file_offset().saturating_add(piece.len());
                match extents.last_mut() {
                    Some(last) if last.offset + last.length == piece.offset() => {
                        last.length += piece.len();
                    }
                    _ => extents.push(Extent {
                        offset: piece.offset(),
                        length: piece.len(),
                    }),
                }
            }
            if extents.len() > MAX_EXTENTS {
                return Err(IsoImageError::TooMany {
                    what: "pieces of one file",
                    most: MAX_EXTENTS,
                });
            }
        }
        if !extents.is_empty() {
            // Only reading notices that a file is interleaved or on another volume.
            volume
                .iso
                .read(entry.node, 0, &mut [0])
                .map_err(|error| damaged(&self.path, path, error))?;
        }
        Ok(extents)
    }

    /// The content of a file of at most `cap` bytes.
    pub fn read_file(&self, path: &str, cap: usize) -> Result<Vec<u8>, IsoImageError> {
        let extents = self.extents(path)?;
        let size = extents.iter().map(|extent| extent.length).sum::<u64>();
        let length = usize::try_from(size)
            .ok()
            .filter(|size| *size <= cap)
            .ok_or_else(|| IsoImageError::TooLarge {
                path: path.to_owned(),
                size,
                cap: cap as u64,
            })?;
        let mut content = Vec::with_capacity(length);
        for extent in extents {
            content.extend(self.read_at(extent.offset, extent.length as usize)?);
        }
        Ok(content)
    }

    /// `length` bytes of the image from byte `offset`.
    pub(crate) fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, IsoImageError> {
        let mut bytes = vec![0; length];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|source| IsoImageError::Read {
                path: self.path.clone(),
                source,
            })?;
        Ok(bytes)
    }

    fn file(&self, volume: &mut Volume, path: &str) -> Result<IsoEntry, IsoImageError> {
        match self.find(volume, path)? {
            Found::Entry(entry) if entry.kind == IsoKind::File => Ok(entry),
            _ => Err(IsoImageError::WrongKind {
                path: path.to_owned(),
                wanted: "file",
            }),
        }
    }

    /// Walks a path, following links. `..` at the root stays there.
    fn find(&self, volume: &mut Volume, path: &str) -> Result<Found, IsoImageError> {
        let not_found = || IsoImageError::NotFound {
            path: path.to_owned(),
        };
        let too_deep = IsoImageError::TooMany {
            what: "parts and links of a path",
            most: MAX_DEPTH,
        };
        // Still to walk, the next part last.
        let mut parts: Vec<String> = split(path);
        let mut at: Vec<IsoEntry> = Vec::new();
        let mut steps = 0;
        while let Some(part) = parts.pop() {
            steps += 1;
            if steps > MAX_DEPTH || parts.len() > MAX_DEPTH {
                return Err(too_deep);
            }
            if part == ".." {
                at.pop();
                continue;
            }
            let directory = match at.last() {
                None => volume.iso.root(),
                Some(entry) if entry.kind == IsoKind::Directory => entry.node,
                Some(_) => return Err(not_found()),
            };
            let above: String = at.iter().map(|entry| format!("/{}", entry.name)).collect();
            let entries = self.read_directory(volume, directory, &above)?;
            let entry = pick(entries, &part).ok_or_else(not_found)?.clone();
            if entry.kind == IsoKind::Link {
                let mut buffer = [0; 4096];
                let target = volume
                    .iso
                    .readlink(entry.node, &mut buffer)
                    .map_err(|error| damaged(&self.path, path, error))?;
                let target = String::from_utf8_lossy(target).into_owned();
                if target.starts_with('/') {
                    at.clear();
                }
                parts.extend(split(&target));
            } else {
                at.push(entry);
            }
        }
        Ok(at.pop().map_or(Found::Root, Found::Entry))
    }

    /// The entries of a directory, read once. `path` is for the error.
    fn read_directory<'v>(
        &self,
        volume: &'v mut Volume,
        node: NodeId,
        path: &str,
    ) -> Result<&'v [IsoEntry], IsoImageError> {
        if !volume.directories.contains_key(&node.get()) {
            let mut entries = Vec::new();
            let mut cursor = DirCursor::default();
            while let Some(found) = volume.iso.readdir(node, cursor).map_err(|error| {
                damaged(
                    &self.path,
                    &format!("directory {}/", path.trim_end_matches('/')),
                    error,
                )
            })? {
                cursor = found.next_cursor();
                entries.push(IsoEntry {
                    name: String::from_utf8_lossy(found.name().as_bytes()).into_owned(),
                    kind: match found.file_type() {
                        FileType::File => IsoKind::File,
                        FileType::Dir => IsoKind::Directory,
                        FileType::Symlink => IsoKind::Link,
                        _ => IsoKind::Other,
                    },
                    size: found.metadata().len(),
                    node: found.node(),
                });
                volume.entries += 1;
                let (most, what) = if entries.len() > MAX_DIRECTORY {
                    (MAX_DIRECTORY, "entries of one directory")
                } else if volume.entries > MAX_ENTRIES {
                    (MAX_ENTRIES, "entries")
                } else {
                    continue;
                };
                return Err(IsoImageError::TooMany { what, most });
            }
            volume.directories.insert(node.get(), entries);
        }
        Ok(volume
            .directories
            .get(&node.get())
            .map_or(&[], Vec::as_slice))
    }
}

enum Found {
    Root,
    Entry(IsoEntry),
}

/// The parts of a path in reverse, without those that mean nothing.
fn split(path: &str) -> Vec<String> {
    path.split('/')
        .rev()
        .filter(|part| !part.is_empty() && *part != ".")
        .map(str::to_owned)
        .collect()
}

/// The entry called `name`; if there is none, one whose name a boot loader would take for it.
fn pick<'e>(entries: &'e [IsoEntry], name: &str) -> Option<&'e IsoEntry> {
    entries.iter().find(|entry| entry.name == name).or_else(|| {
        let name = plain(name);
        entries.iter().find(|entry| plain(&entry.name) == name)
    })
}

/// `VMLINUZ.;1` is `vmlinuz`: without version, without the dot of an empty extension, in one case.
fn plain(name: &str) -> String {
    let name = match name.rsplit_once(';') {
        Some((name, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => name,
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl Files for IsoImage {
    fn read(&self, path: &str, cap: usize) -> Result<Vec<u8>, FileError> {
        self.read_file(path, cap).map_err(FileError::from)
    }

    fn list(&self, directory: &str) -> Result<Vec<Listed>, FileError> {
        let entries = self.directory(directory).map_err(FileError::from)?;
        Ok(entries
            .into_iter()
            .map(|entry| Listed {
                is_directory: entry.kind == IsoKind::Directory,
                name: entry.name,
            })
            .collect())
    }

    fn is_file(&self, path: &str) -> bool {
        self.file(&mut self.volume.borrow_mut(), path).is_ok()
    }

    fn is_directory(&self, path: &str) -> bool {
        match self.find(&mut self.volume.borrow_mut(), path) {
            Ok(Found::Root) => true,
            Ok(Found::Entry(entry)) => entry.kind == IsoKind::Directory,
            Err(_) => false,
        }
    }
}
