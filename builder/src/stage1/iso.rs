//! The hybrid ISO image of stage one.
//!
//! Two El Torito entries: BIOS starts ISOLINUX, UEFI the program in the appended EFI system
//! partition. The system area makes the same file a bootable disk: ISOLINUX's master boot record
//! for BIOS, a GPT naming the partition for UEFI.

use super::parts::Isolinux;
use hadris_fs::{Content, DateTime, Node, PathError, Permissions, SetAttr, Tree};
use hadris_iso::{
    AppendedPartition, BootEntry, BootInfo, ElTorito, Hybrid, IsoId, IsoLevel, IsoOptions, Preserve,
};
use hadris_storage::{BlockSize, MemDevice};
use thiserror::Error;

/// What goes into the image.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// Linux kernel for the BIOS path.
    pub kernel: &'a [u8],
    /// Initramfs for the BIOS path.
    pub initramfs: &'a [u8],
    /// Kernel command line for the BIOS path.
    pub cmdline: &'a str,
    /// Boot loader for the BIOS path.
    pub isolinux: &'a Isolinux,
    /// FAT volume for the UEFI path.
    pub esp: &'a [u8],
    /// All dates in the image.
    pub time: DateTime,
    /// Pad the image to a whole number of this many bytes (2,048 or a multiple), for consoles that
    /// want a raw disk image.
    pub round_to: u64,
}

/// Builds the image in memory; stage one is a few megabytes.
pub fn build(contents: &Contents<'_>) -> Result<Vec<u8>, IsoError> {
    let tree = tree(contents)?;
    let mut options = options(contents);
    let planned = hadris_iso::plan(&tree, &options)
        .map_err(IsoError::write)?
        .size();
    let size = planned.next_multiple_of(contents.round_to.max(BLOCK));
    if size > planned {
        options = options.with_min_image_blocks(size / BLOCK);
    }
    let size = usize::try_from(size).map_err(|_| IsoError::TooLarge)?;
    let block = BlockSize::new(512).ok_or(IsoError::TooLarge)?;
    let mut image = MemDevice::new(vec![0; size], block);
    let report = hadris_iso::sync::write(&mut image, &tree, &options).map_err(IsoError::write)?;
    if let Some(warning) = report.warnings().first() {
        return Err(IsoError::Altered {
            what: warning.message().to_owned(),
        });
    }
    let mut image = image.into_inner();
    plain_protective_mbr(&mut image)?;
    Ok(image)
}

/// Why the image could not be written.
#[derive(Debug, Error)]
pub enum IsoError {
    /// The ISO writer refused.
    #[error("writing the ISO image")]
    Write(#[source] Box<PathError>),
    /// The ISO writer could not store something as asked.
    #[error("the ISO writer altered something: {what}")]
    Altered {
        /// Its words.
        what: String,
    },
    /// Larger than this machine or an MBR can address.
    #[error("the ISO image is too large")]
    TooLarge,
}

impl IsoError {
    fn write(error: PathError) -> Self {
        Self::Write(Box::new(error))
    }
}

/// Everything ISOLINUX reads lies in its own directory, which costs it one directory read.
fn tree(contents: &Contents<'_>) -> Result<Tree, IsoError> {
    // No menu and no prompt: the config slot decides what happens, not a person at the CD.
    let config = format!(
        "DEFAULT stage1\nPROMPT 0\nTIMEOUT 0\nLABEL stage1\n  LINUX {KERNEL}\n  INITRD {INITRAMFS}\n  APPEND {}\n",
        contents.cmdline
    );
    let files: [(&str, &[u8]); 5] = [
        ("isolinux.bin", &contents.isolinux.boot_loader),
        ("ldlinux.c32", &contents.isolinux.core_module),
        ("isolinux.cfg", config.as_bytes()),
        (KERNEL, contents.kernel),
        (INITRAMFS, contents.initramfs),
    ];
    let mut tree = Tree::new();
    let attrs = SetAttr::new().with_permissions(Permissions::new(0o444));
    for (name, data) in files {
        let node = Node::file(Content::bytes(data)).with_attrs(attrs);
        tree.insert(format!("isolinux/{name}"), node)
            .map_err(IsoError::write)?;
    }
    Ok(tree)
}

fn options(contents: &Contents<'_>) -> IsoOptions {
    let el_torito = ElTorito::new()
        .with_entry(
            // Four virtual sectors: the first CD block of ISOLINUX, which loads the rest by its table.
            BootEntry::bios("isolinux/isolinux.bin")
                .with_load_size(4)
                .with_boot_info(BootInfo::Table),
        )
        .with_entry(BootEntry::uefi_appended(0))
        .with_catalog_path("isolinux/boot.cat");
    let hybrid = Hybrid::gpt_hybrid_mbr()
        .with_bootstrap(&contents.isolinux.disk_boot_record)
        .with_appended(AppendedPartition::esp(Content::bytes(contents.esp)));
    IsoOptions::new()
        .with_id(IsoId::Volume, VOLUME_ID)
        .with_level(IsoLevel::L2)
        .with_rock_ridge()
        .with_preserve(Preserve::PERMISSIONS)
        .with_time(contents.time)
        .with_seed(0)
        .with_el_torito(el_torito)
        .with_hybrid(hybrid)
}

/// Replaces the hybrid partition table by a protective one.
///
/// hadris-iso 3.0.0-rc.2 can put boot code only under a hybrid MBR (several overlapping entries
/// beside the GPT), which some firmware rejects. One 0xEE entry over the whole disk, plus an empty
/// active entry for BIOSes that look for one, is what xorriso writes with `--mbr-force-bootable`.
/// Remove this when hadris-iso accepts boot code together with a plain GPT.
fn plain_protective_mbr(image: &mut [u8]) -> Result<(), IsoError> {
    let table = protective_table(image.len() as u64).ok_or(IsoError::TooLarge)?;
    image
        .get_mut(446..510)
        .ok_or(IsoError::TooLarge)?
        .copy_from_slice(&table);
    Ok(())
}

/// Bytes 446 to 510 of that master boot record, for an image of `size` bytes.
pub(crate) fn protective_table(size: u64) -> Option<[u8; 64]> {
    let last = u32::try_from((size / 512).checked_sub(1)?).ok()?;
    let mut table = [0; 64];
    table[..8].copy_from_slice(&[0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff]);
    table[8..12].copy_from_slice(&1_u32.to_le_bytes());
    table[12..16].copy_from_slice(&last.to_le_bytes());
    table[16..24].copy_from_slice(&[0x80, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x00]);
    table[24..28].copy_from_slice(&0_u32.to_le_bytes());
    table[28..32].copy_from_slice(&1_u32.to_le_bytes());
    Some(table)
}

/// Volume identifier of every stage-one ISO image.
pub const VOLUME_ID: &str = "SPARETIRE_STAGE1";
/// Kernel file name: ISOLINUX wants plain ISO 9660 names.
pub const KERNEL: &str = "vmlinuz";
/// Initramfs file name.
pub const INITRAMFS: &str = "initrd.img";
/// ISO 9660 logical block, in bytes.
const BLOCK: u64 = 2048;
