//! Where is the image while it is downloaded and handed over?
//!
//! In one anonymous file in RAM, every byte at its final place ([`super::layout`]). The file has
//! its full length from the start and takes up only what was written. It outlives a refused load,
//! so that another method can be tried.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use boot_config::hand_off::HandOffPlan;
use sha2::{Digest as _, Sha256};
use sparetire_manifest::{BootRecipe, Digest, Extent, Manifest};

use super::calls::{self, Mapping};
use super::layout::{self, Layout};
use super::memory::MemoryPlan;
use super::newc::NewcError;
use super::segments::Parts;
use crate::sys::SysError;

/// Bytes copied at a time.
const COPY_LEN: usize = 256 * 1024;

/// The image, and what is handed over with it.
#[derive(Debug)]
pub struct ImageBuffer {
    file: File,
    layout: Layout,
    kernel: Extent,
    initrd: Vec<Extent>,
    pmem: Option<u64>,
    cmdline: String,
}

/// Why no buffer could be made.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// The archive around the image cannot be written.
    #[error("writing the initramfs archive")]
    Archive(#[from] NewcError),
    /// A kernel or initrd that is no part of the image.
    #[error("{length} bytes at {offset} leave the image of {size} bytes")]
    Extent {
        /// Its offset in the image.
        offset: u64,
        /// Its length.
        length: u64,
        /// The image's length.
        size: u64,
    },
    /// The image is to be a file, but the memory plan places it elsewhere, or the reverse.
    #[error("hand-off plan and memory plan disagree about the image's place")]
    Plans,
    /// Memory was refused.
    #[error("making a file in memory")]
    System(#[from] SysError),
}

impl ImageBuffer {
    /// An empty buffer for one image. Takes up only what is written to it.
    pub fn new(
        manifest: &Manifest,
        plan: &HandOffPlan,
        memory: &MemoryPlan,
    ) -> Result<ImageBuffer, BufferError> {
        let BootRecipe::Linux(boot) = &manifest.boot;
        if plan.iso_path.is_some() && memory.pmem.is_some() {
            return Err(BufferError::Plans);
        }
        let kernel = boot.kernel.extent();
        let initrd: Vec<Extent> = boot.initrd.iter().map(|initrd| initrd.extent()).collect();
        let layout = Layout::new(manifest.size, plan.iso_path, &plan.members, &initrd)?;
        for extent in initrd.iter().chain([&kernel]) {
            if layout.in_file(*extent).is_none() {
                let Extent { offset, length } = *extent;
                return Err(BufferError::Extent {
                    offset,
                    length,
                    size: manifest.size,
                });
            }
        }
        let file = calls::memory_file(c"image", layout.length)?;
        let write = |bytes: &[u8], at| {
            file.write_all_at(bytes, at).map_err(|error| {
                SysError::from_io(format!("pwrite(image, {}, {at})", bytes.len()), &error)
            })
        };
        write(&layout.head, 0)?;
        write(&layout.tail, layout.tail_at)?;
        Ok(ImageBuffer {
            file,
            kernel,
            initrd,
            pmem: memory.pmem.map(|range| range.address),
            cmdline: plan.cmdline.clone(),
            layout,
        })
    }

    /// Digest of the image as it stands in the buffer.
    pub fn digest(&self) -> io::Result<Digest> {
        let mut from = self.layout.image.clone();
        let mut bytes = vec![0; COPY_LEN];
        let mut hash = Sha256::new();
        while from.start < from.end {
            let length = (from.end - from.start).min(COPY_LEN as u64);
            let bytes = &mut bytes[..length as usize];
            self.file.read_exact_at(bytes, from.start)?;
            hash.update(&bytes);
            from.start += length;
        }
        Ok(Digest::from_bytes(hash.finalize().into()))
    }

    /// Command line for the next kernel.
    pub(super) fn cmdline(&self) -> &str {
        &self.cmdline
    }

    /// The whole file as a slice.
    pub(super) fn map(&self) -> Result<Mapping<'_>, SysError> {
        Mapping::new(&self.file)
    }

    /// The parts for `kexec_load`, as slices of `map`.
    pub(super) fn parts<'a>(&'a self, map: &'a [u8]) -> Parts<'a> {
        let slice = |from: u64, to: u64| map.get(from as usize..to as usize).unwrap_or_default();
        let extent = |extent: &Extent| {
            let range = self.layout.in_file(*extent).unwrap_or_default();
            slice(range.start, range.end)
        };
        let archive = slice(self.layout.archive.start, self.layout.archive.end);
        let initramfs = Some(archive)
            .into_iter()
            .chain(self.initrd.iter().map(extent));
        let image = slice(self.layout.image.start, self.layout.image.end);
        Parts {
            kernel: extent(&self.kernel),
            initramfs: initramfs.filter(|piece| !piece.is_empty()).collect(),
            pmem: self.pmem.map(|address| (address, image)),
            cmdline: &self.cmdline,
            seed: calls::random_seed(),
        }
    }

    /// A file that is the kernel.
    pub(super) fn kernel_file(&self) -> io::Result<File> {
        let file = calls::memory_file(c"kernel", self.kernel.length).map_err(io::Error::other)?;
        self.copy(self.kernel, &file, 0)?;
        Ok(file)
    }

    /// A file that is the whole initramfs: this one with the initrds copied to its end, or a new
    /// one. `None` if there is no initramfs.
    pub(super) fn initramfs_file(&mut self) -> io::Result<Option<File>> {
        let mut file = self.file.try_clone()?;
        let mut copies = self.layout.copies.clone();
        if self.layout.image.start == 0 {
            // The image stands in the way.
            let archive = self.layout.archive.end - self.layout.archive.start;
            let length;
            (copies, length) = layout::place_copies(archive, &self.initrd);
            if length == 0 {
                return Ok(None);
            }
            file = calls::memory_file(c"initramfs", length).map_err(io::Error::other)?;
            file.write_all_at(&self.layout.tail, 0)?;
        }
        for (extent, at) in copies {
            self.copy(extent, &file, at)?;
        }
        Ok(Some(file))
    }

    fn copy(&self, extent: Extent, to: &File, mut at: u64) -> io::Result<()> {
        let mut from = self
            .layout
            .in_file(extent)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut bytes = vec![0; COPY_LEN];
        while from.start < from.end {
            let length = (from.end - from.start).min(COPY_LEN as u64);
            let bytes = &mut bytes[..length as usize];
            self.file.read_exact_at(bytes, from.start)?;
            to.write_all_at(bytes, at)?;
            from.start += length;
            at += length;
        }
        Ok(())
    }
}

impl fetch::Sink for ImageBuffer {
    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let extent = Extent {
            offset,
            length: bytes.len() as u64,
        };
        let range = self.layout.in_file(extent).ok_or_else(|| {
            let size = self.layout.image.end - self.layout.image.start;
            let cause = format!(
                "{} bytes at {offset} leave the image of {size}",
                bytes.len()
            );
            io::Error::new(io::ErrorKind::InvalidInput, cause)
        })?;
        self.file.write_all_at(bytes, range.start)
    }
}

#[cfg(test)]
pub(super) mod tests;
