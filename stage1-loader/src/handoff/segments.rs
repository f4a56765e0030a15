//! Which bytes go to which physical address for a start by `kexec_load`?
//!
//! Four kinds of segments: the block with boot parameters, stub and command line; the kernel's
//! protected-mode code with the memory it unpacks itself in; the initramfs, whose pieces stand one
//! behind the other, each on a page of its own (zeros between archives are allowed:
//! `Documentation/driver-api/early-userspace/buffer-format.rst`); and an image that becomes
//! persistent memory. Pieces are borrowed from where the download put them, so the only copy is
//! the kernel's own.

use std::borrow::Cow;
use std::ops::Range;

use super::boot_params::{self, CMDLINE_AT, Start};
use super::machine::Machine;
use super::ram::{Hole, PAGE};
use super::setup_header::{ENTRY_64, SetupHeader, SetupHeaderError};

/// KEXEC_SEGMENT_MAX of `include/uapi/linux/kexec.h`.
const MAX_SEGMENTS: usize = 16;
/// The kernel and the block stay below 4 GiB: every kernel can be entered there.
const LOW_LIMIT: u64 = 1 << 32;
/// The initramfs and the block keep off the first 16 MiB, like the kernel's own loader.
const LOWEST: u64 = 16 << 20;

/// One stretch of physical memory of the next system.
#[derive(Debug, Clone)]
pub struct Segment<'a> {
    /// What is copied to its start.
    pub bytes: Cow<'a, [u8]>,
    /// Physical address, a multiple of the page size.
    pub address: u64,
    /// Bytes that belong to it, a multiple of the page size; zeros behind `bytes`.
    pub memory: u64,
}

/// Everything that `kexec_load` takes.
#[derive(Debug, Clone)]
pub(super) struct Arrangement<'a> {
    pub(super) entry: u64,
    pub(super) segments: Vec<Segment<'a>>,
}

/// The parts of the next system.
pub(super) struct Parts<'a> {
    pub(super) kernel: &'a [u8],
    /// Archives, in the order in which they are unpacked.
    pub(super) initramfs: Vec<&'a [u8]>,
    /// Physical address and bytes of an image that becomes persistent memory.
    pub(super) pmem: Option<(u64, &'a [u8])>,
    pub(super) cmdline: &'a str,
    pub(super) seed: Option<[u8; 32]>,
}

/// Why the parts cannot be arranged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArrangeError {
    /// The kernel is none, or not one that can be started.
    #[error("reading the kernel's setup header")]
    Kernel(#[from] SetupHeaderError),
    /// The command line is longer than this kernel takes.
    #[error("command line of {length} bytes, the kernel takes {maximum}")]
    Cmdline {
        /// Its length.
        length: usize,
        /// The kernel's limit.
        maximum: usize,
    },
    /// More archives than kexec has segments.
    #[error("{count} segments, at most {MAX_SEGMENTS} possible")]
    Segments {
        /// Segments needed.
        count: usize,
    },
    /// No stretch of RAM is long enough.
    #[error("no room in RAM for the {part}: {size} bytes in one piece")]
    NoRoom {
        /// What was to be placed.
        part: &'static str,
        /// Its size.
        size: u64,
    },
}

/// Finds a place for every part.
pub(super) fn arrange<'a>(
    parts: &Parts<'a>,
    machine: &Machine,
) -> Result<Arrangement<'a>, ArrangeError> {
    let header = SetupHeader::parse(parts.kernel)?;
    if parts.cmdline.len() > header.cmdline_max {
        let length = parts.cmdline.len();
        return Err(ArrangeError::Cmdline {
            length,
            maximum: header.cmdline_max,
        });
    }
    let count = parts.initramfs.len() + 2 + usize::from(parts.pmem.is_some());
    if count > MAX_SEGMENTS {
        return Err(ArrangeError::Segments { count });
    }
    let mut segments = Vec::with_capacity(count);
    let mut used: Vec<Range<u64>> = Vec::with_capacity(count);
    let mut place = |part, hole: Hole| {
        let size = hole.size.next_multiple_of(PAGE);
        let address = machine.ram.find(&hole, &used);
        let address = address.ok_or(ArrangeError::NoRoom { part, size })?;
        used.push(address..address + size);
        Ok::<u64, ArrangeError>(address)
    };

    if let Some((address, image)) = parts.pmem {
        let memory = (image.len() as u64).next_multiple_of(PAGE);
        let only_here = Hole {
            size: memory,
            align: PAGE,
            lowest: address,
            highest: address + memory,
        };
        place("image", only_here)?;
        segments.push(Segment {
            bytes: Cow::Borrowed(image),
            address,
            memory,
        });
    }
    let kernel_memory = header.init_size.next_multiple_of(PAGE);
    let kernel_at = place(
        "kernel",
        Hole {
            size: kernel_memory,
            align: header.alignment,
            // Below it, the kernel would move itself there.
            lowest: header.preferred_address.max(LOWEST),
            highest: LOW_LIMIT,
        },
    )?;
    let code = parts.kernel.get(header.code_at..).unwrap_or_default();
    segments.push(Segment {
        bytes: Cow::Borrowed(code),
        address: kernel_at,
        memory: kernel_memory,
    });

    let initramfs = place_initramfs(parts, &header, &mut place, &mut segments)?;

    let mut start = Start {
        address: 0,
        entry: kernel_at + ENTRY_64,
        initramfs,
        cmdline: parts.cmdline,
        seed: parts.seed,
    };
    // Its size does not depend on where it stands.
    let size = boot_params::block(&header, machine, &start).len() as u64;
    start.address = place(
        "boot parameters",
        Hole {
            size,
            align: PAGE,
            lowest: LOWEST,
            highest: LOW_LIMIT,
        },
    )?;
    let block = boot_params::block(&header, machine, &start);
    debug_assert!(block.len() > CMDLINE_AT);
    segments.push(Segment {
        memory: size.next_multiple_of(PAGE),
        bytes: Cow::Owned(block),
        address: start.address,
    });
    Ok(Arrangement {
        entry: start.address + boot_params::STUB_AT as u64,
        segments,
    })
}

/// Address and size of the initramfs; both zero if there is none.
fn place_initramfs<'a>(
    parts: &Parts<'a>,
    header: &SetupHeader,
    place: &mut impl FnMut(&'static str, Hole) -> Result<u64, ArrangeError>,
    segments: &mut Vec<Segment<'a>>,
) -> Result<(u64, u64), ArrangeError> {
    let whole = |piece: &[u8]| (piece.len() as u64).next_multiple_of(PAGE);
    let memory = parts.initramfs.iter().map(|piece| whole(piece)).sum();
    if memory == 0 {
        return Ok((0, 0));
    }
    let start = place(
        "initramfs",
        Hole {
            size: memory,
            align: PAGE,
            lowest: LOWEST,
            highest: header.initramfs_limit,
        },
    )?;
    let (mut address, mut end) = (start, start);
    for &piece in parts.initramfs.iter().filter(|piece| !piece.is_empty()) {
        let memory = whole(piece);
        segments.push(Segment {
            bytes: Cow::Borrowed(piece),
            address,
            memory,
        });
        end = address + piece.len() as u64;
        address += memory;
    }
    Ok((start, end - start))
}

#[cfg(test)]
mod tests;
