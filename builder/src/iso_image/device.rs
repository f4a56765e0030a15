//! The image file as hadris sees it: read-only, and with a bound on how often it is read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use hadris_io::{Error, ErrorKind, ErrorType};
use hadris_storage::sync::BlockDevice;
use hadris_storage::{BlockIndex, BlockSize};

/// Reads of one open image. An honest one takes a handful per entry, so a million entries fit; as
/// many reads of a block take some seconds.
const MAX_READS: u64 = 8_000_000;

/// What a reader is told when the bound is reached.
pub(super) const EXHAUSTED: &str = "its structures need too many reads";

const BLOCK: BlockSize = match BlockSize::new(512) {
    Some(size) => size,
    None => panic!(),
};

/// A file of blocks that can be read so many times.
#[derive(Debug)]
pub(super) struct Guarded {
    file: File,
    blocks: u64,
    left: u64,
}

impl Guarded {
    pub(super) fn new(file: File, size: u64) -> Self {
        Self::with_reads(file, size, MAX_READS)
    }

    pub(super) fn with_reads(file: File, size: u64, left: u64) -> Self {
        Self {
            file,
            blocks: size / u64::from(BLOCK.get()),
            left,
        }
    }
}

/// Whether a device error is the bound's.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::QuotaExceeded
}

impl ErrorType for Guarded {
    type Error = io::Error;
}

impl BlockDevice for Guarded {
    fn block_size(&self) -> BlockSize {
        BLOCK
    }

    fn block_count(&self) -> u64 {
        self.blocks
    }

    fn read_blocks(
        &mut self,
        first: BlockIndex,
        buffer: &mut [u8],
    ) -> Result<(), Error<Self::Error>> {
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            Error::device(io::Error::from(io::ErrorKind::QuotaExceeded), EXHAUSTED)
        })?;
        let offset = first
            .get()
            .checked_mul(u64::from(BLOCK.get()))
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "block number out of range"))?;
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|error| Error::device(error, "reading the image"))
    }
}
