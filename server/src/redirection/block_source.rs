//! What a redirected drive serves: an image in memory, a file, a blank floppy, a floppy that remembers.
//!
//! Offsets and lengths are in bytes. A reader asks only for what lies inside of [`BlockSource::bytes`]; padding to whole blocks
//! is not done here.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};
use thiserror::Error;

/// Bytes of a 1.44 MB floppy.
pub const FLOPPY_BYTES: u64 = 2880 * 512;

/// Bytes behind a read that the kernel is asked to have ready for the next.
const READ_AHEAD: u64 = 4 << 20;

/// The bytes of a medium.
pub trait BlockSource: Send + Sync {
    /// Length.
    fn bytes(&self) -> u64;

    /// Reads if that needs no waiting; [`io::ErrorKind::WouldBlock`] means that [`BlockSource::read`] is to be called where
    /// waiting hurts nobody.
    fn read_now(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Reads, waiting for as long as it takes.
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_now(offset, into)
    }

    /// Whether [`BlockSource::write_now`] works.
    fn writable(&self) -> bool {
        false
    }

    /// Writes without waiting.
    fn write_now(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let _ = (offset, bytes);
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// An image in memory, shared between sessions, with bytes of this session laid over it.
#[derive(Debug, Clone)]
pub struct MemoryImage {
    image: Arc<[u8]>,
    /// Sorted by offset, without overlaps.
    overlays: Vec<Overlay>,
}

/// Bytes that replace those of an image, such as a config slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// First byte in the image.
    pub offset: u64,
    /// What stands there for this session.
    pub bytes: Vec<u8>,
}

/// Overlays that do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OverlayError {
    /// Reaches over the end of the image.
    #[error("overlay at {offset} ends behind the image of {image} bytes")]
    Outside {
        /// First byte.
        offset: u64,
        /// Length of the image.
        image: u64,
    },
    /// Two lie over the same byte.
    #[error("overlays at {first} and {second} overlap")]
    Overlap {
        /// First byte of the one.
        first: u64,
        /// First byte of the other.
        second: u64,
    },
}

impl MemoryImage {
    /// An image and what lies over it, in any order.
    pub fn new(image: Arc<[u8]>, mut overlays: Vec<Overlay>) -> Result<Self, OverlayError> {
        overlays.sort_by_key(|overlay| overlay.offset);
        let length = image.len() as u64;
        let mut before: Option<(u64, u64)> = None;
        for overlay in &overlays {
            let offset = overlay.offset;
            let end = offset
                .checked_add(overlay.bytes.len() as u64)
                .filter(|&end| end <= length)
                .ok_or(OverlayError::Outside {
                    offset,
                    image: length,
                })?;
            if let Some((first, first_end)) = before
                && offset < first_end
            {
                return Err(OverlayError::Overlap {
                    first,
                    second: offset,
                });
            }
            before = Some((offset, end));
        }
        Ok(Self { image, overlays })
    }
}

impl BlockSource for MemoryImage {
    fn bytes(&self) -> u64 {
        self.image.len() as u64
    }

    fn read_now(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset
            .checked_add(into.len() as u64)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let range = usize_range(offset, end)?;
        let bytes = self.image.get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        for overlay in &self.overlays {
            let overlay_end = overlay.offset + overlay.bytes.len() as u64;
            let from = offset.max(overlay.offset);
            let to = end.min(overlay_end);
            if from >= to {
                continue;
            }
            let target = usize_range(from - offset, to - offset)?;
            let source = usize_range(from - overlay.offset, to - overlay.offset)?;
            // Both ranges lie inside of their slices: they are an intersection with each.
            into[target].copy_from_slice(&overlay.bytes[source]);
        }
        Ok(())
    }
}

/// A file, read where it lies and never whole. It must not shrink while it is served.
#[derive(Debug)]
pub struct FileImage {
    file: File,
    bytes: u64,
}

impl FileImage {
    /// Opens an image file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok(Self {
            file,
            bytes: metadata.len(),
        })
    }
}

impl BlockSource for FileImage {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the page cache holds is copied at once, without another thread; a slow disk never holds up a session that does
    /// not read from it.
    fn read_now(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < into.len() {
            let mut pieces = [io::IoSliceMut::new(&mut into[done..])];
            let at = offset + done as u64;
            match rustix::io::preadv2(&self.file, &mut pieces, at, ReadWriteFlags::NOWAIT) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => done += length,
                Err(Errno::INTR) => {}
                // Not in the cache, or a file system that cannot tell.
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)?;
        // Hosts read on where they stopped. That the kernel takes the hint is not needed for anything.
        let next = offset + into.len() as u64;
        if let Some(length) = std::num::NonZero::new(READ_AHEAD) {
            let _ = rustix::fs::fadvise(&self.file, next, Some(length), Advice::WillNeed);
        }
        Ok(())
    }
}

/// Zeros.
#[derive(Debug, Clone, Copy)]
pub struct Blank {
    /// Length.
    pub bytes: u64,
}

impl Blank {
    /// A 1.44 MB floppy that nobody has formatted. Linux on some AMT versions resets its USB bus for ever when the redirected
    /// floppy drive has no medium.
    pub const FLOPPY: Self = Self {
        bytes: FLOPPY_BYTES,
    };
}

impl BlockSource for Blank {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_now(&self, _offset: u64, into: &mut [u8]) -> io::Result<()> {
        into.fill(0);
        Ok(())
    }
}

/// A floppy in memory that keeps what hosts write.
#[derive(Debug)]
pub struct WritableFloppy {
    bytes: Mutex<Vec<u8>>,
}

impl WritableFloppy {
    /// With these contents, filled up to whole blocks of 512 bytes.
    pub fn new(mut contents: Vec<u8>) -> Self {
        let length = contents.len().next_multiple_of(512);
        contents.resize(length, 0);
        Self {
            bytes: Mutex::new(contents),
        }
    }

    /// A copy of what is on it now.
    pub fn contents(&self) -> Vec<u8> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        // Copies cannot be left half done in a way that matters more than to a real floppy.
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockSource for WritableFloppy {
    fn bytes(&self) -> u64 {
        self.lock().len() as u64
    }

    fn read_now(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset.saturating_add(into.len() as u64);
        let bytes = self.lock();
        let bytes = bytes.get(usize_range(offset, end)?);
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn writable(&self) -> bool {
        true
    }

    fn write_now(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        let mut contents = self.lock();
        let target = contents.get_mut(usize_range(offset, end)?);
        target
            .ok_or(io::ErrorKind::UnexpectedEof)?
            .copy_from_slice(bytes);
        Ok(())
    }
}

fn usize_range(from: u64, to: u64) -> io::Result<std::ops::Range<usize>> {
    let index = |at| usize::try_from(at).map_err(|_| io::ErrorKind::UnexpectedEof);
    Ok(index(from)?..index(to)?)
}

#[cfg(test)]
mod tests;
