//! Stage one's initramfs: the loader, compressed, then the config slot, not compressed.
//!
//! Two concatenated newc archives (Linux, Documentation/driver-api/early-userspace/buffer-format.rst):
//!
//! ```text
//! xz, x86 branch filter, CRC32    /init and the mount points
//! zeros                           so that the slot's data starts on a 2,048-byte boundary
//! newc, plain                     /config-slot, 16,384 bytes
//! ```
//!
//! The slot stays uncompressed and aligned so that its bytes can be overlaid while the file is
//! served, sector by sector, without rebuilding anything.

use hadris_cpio::CpioOptions;
use hadris_fs::{Content, Node, PathError, Permissions, SetAttr, Tree};
use hadris_io::StdIo;
use lzma_rust2::{CheckType, FilterType, XzOptions, XzWriter};
use std::io::{self, Write};
use thiserror::Error;

/// A finished initramfs.
#[derive(Clone, Debug)]
pub struct Initramfs {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// Where the slot's data starts, in bytes; a multiple of [`SLOT_ALIGNMENT`].
    pub slot_offset: usize,
    /// Size of the compressed part, in bytes.
    pub compressed: usize,
}

/// The slot's data starts on a CD block, so that overlaying it touches whole blocks only.
pub const SLOT_ALIGNMENT: usize = 2048;

/// Builds the initramfs around a static `loader` program and an encoded config `slot`.
pub fn build(loader: &[u8], slot: &[u8]) -> Result<Initramfs, InitramfsError> {
    let mut bytes = compress(&programs(loader)?)?;
    let compressed = bytes.len();
    let (archive, data_offset) = slot_archive(slot)?;
    let slot_offset = (compressed + data_offset).next_multiple_of(SLOT_ALIGNMENT);
    bytes.resize(slot_offset - data_offset, 0);
    bytes.extend_from_slice(&archive);
    Ok(Initramfs {
        bytes,
        slot_offset,
        compressed,
    })
}

/// What went wrong while writing an archive in memory.
#[derive(Debug, Error)]
pub enum InitramfsError {
    /// The cpio writer refused an entry.
    #[error("writing the cpio archive")]
    Archive(#[source] Box<PathError>),
    /// The cpio writer did not say where the slot went.
    #[error("the cpio archive has no {} member", stage1_config::MEMBER)]
    SlotMissing,
    /// The compressor failed.
    #[error("compressing the loader")]
    Compress(#[source] io::Error),
}

/// The archive of everything but the slot. The kernel's own built-in archive provides `/dev/console`.
fn programs(loader: &[u8]) -> Result<Vec<u8>, InitramfsError> {
    let mut tree = Tree::new();
    for directory in ["dev", "etc", "proc", "run", "sys", "tmp"] {
        insert(&mut tree, directory, Node::dir(), 0o755)?;
    }
    insert(&mut tree, "init", Node::file(Content::bytes(loader)), 0o755)?;
    Ok(archive(&tree)?.0)
}

/// The archive holding only the slot, and the offset of the slot's data in it.
fn slot_archive(slot: &[u8]) -> Result<(Vec<u8>, usize), InitramfsError> {
    let mut tree = Tree::new();
    // Readable by the loader only: the slot may hold a session token.
    insert(
        &mut tree,
        stage1_config::MEMBER,
        Node::file(Content::bytes(slot)),
        0o400,
    )?;
    let (bytes, report) = archive(&tree)?;
    let offset = report
        .extents(stage1_config::MEMBER)
        .and_then(|extents| extents.first())
        .and_then(|extent| usize::try_from(extent.offset()).ok())
        .ok_or(InitramfsError::SlotMissing)?;
    Ok((bytes, offset))
}

fn insert(tree: &mut Tree, path: &str, node: Node, mode: u32) -> Result<(), InitramfsError> {
    let attrs = SetAttr::new().with_permissions(Permissions::new(mode));
    tree.insert(path, node.with_attrs(attrs))
        .map_err(|error| InitramfsError::Archive(Box::new(error)))
}

fn archive(tree: &Tree) -> Result<(Vec<u8>, hadris_fs::Report), InitramfsError> {
    let mut bytes = Vec::new();
    let report = hadris_cpio::sync::write(StdIo::new(&mut bytes), tree, &CpioOptions::new())
        .map_err(|error| InitramfsError::Archive(Box::new(error)))?;
    Ok((bytes, report))
}

/// The kernel's decoder knows CRC32 and the x86 filter, not xz's default CRC64.
fn compress(archive: &[u8]) -> Result<Vec<u8>, InitramfsError> {
    let mut options = XzOptions::with_preset(9);
    options.set_check_sum_type(CheckType::Crc32);
    options.prepend_pre_filter(FilterType::BcjX86, 0);
    // The search a preset 9e does: slower, once, for bytes that cross the slow link every time.
    options.lzma_options.nice_len = 273;
    options.lzma_options.depth_limit = 512;
    let mut writer = XzWriter::new(Vec::new(), options).map_err(InitramfsError::Compress)?;
    writer
        .write_all(archive)
        .map_err(InitramfsError::Compress)?;
    writer.finish().map_err(InitramfsError::Compress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_data_starts_on_a_cd_block_and_is_stored_as_is() {
        let slot = vec![0xa5; stage1_config::SLOT_LEN];
        let built = build(b"\x7fELF pretend loader", &slot).unwrap();
        assert_eq!(built.slot_offset % SLOT_ALIGNMENT, 0);
        assert_eq!(&built.bytes[built.slot_offset..][..slot.len()], &slot[..]);
        // A newc header is 4-byte aligned and begins with its magic; the name follows it.
        let header = built.slot_offset - 124;
        assert_eq!(header % 4, 0);
        assert_eq!(&built.bytes[header..header + 6], b"070701");
        assert_eq!(&built.bytes[header + 110..header + 122], b"config-slot\0");
    }

    #[test]
    fn begins_with_an_xz_stream_checked_by_crc32() {
        let built = build(b"loader", &[0; 16]).unwrap();
        assert_eq!(&built.bytes[..6], b"\xfd7zXZ\0");
        assert_eq!(&built.bytes[6..8], &[0x00, 0x01], "stream flags: CRC32");
    }

    #[test]
    fn same_input_gives_same_bytes() {
        let slot = [7; 64];
        assert_eq!(
            build(b"loader", &slot).unwrap().bytes,
            build(b"loader", &slot).unwrap().bytes
        );
    }
}
