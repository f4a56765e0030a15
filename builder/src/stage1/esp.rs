//! The EFI system partition of stage one: a small FAT volume with one program.
//!
//! UEFI 2.10 section 3.5.1.1: removable media boot `\EFI\BOOT\BOOTX64.EFI`. Nothing else is on the
//! volume, so firmware reads one FAT sector, three directory sectors, and the program in one run.

use hadris_fat::{FatOptions, VolumeLabel};
use hadris_fs::{Content, DateTime, Node, PathError, Tree};
use hadris_storage::{BlockSize, MemDevice};
use thiserror::Error;

/// Where removable media keep the program firmware starts.
pub const BOOT_PROGRAM: &str = "EFI/BOOT/BOOTX64.EFI";

/// Builds a FAT volume holding `program` at [`BOOT_PROGRAM`].
pub fn build(program: &[u8], time: DateTime) -> Result<Vec<u8>, EspError> {
    let mut tree = Tree::new();
    tree.insert(BOOT_PROGRAM, Node::file(Content::bytes(program)))
        .map_err(EspError::write)?;
    let size = (program.len() + OVERHEAD).next_multiple_of(CLUSTER as usize);
    let label = VolumeLabel::new("SPARETIRE").map_err(|_| EspError::Options)?;
    let options = FatOptions::new()
        .with_label(label)
        .with_time(time)
        .with_seed(0)
        .with_sector_size(512)
        .with_cluster_size(CLUSTER)
        .with_fat_count(1)
        .with_root_entries(64)
        // File data then starts on a CD block, and with it the config slot.
        .with_alignment(2048);
    let block = BlockSize::new(512).ok_or(EspError::Options)?;
    let mut volume = MemDevice::new(vec![0; size], block);
    hadris_fat::sync::write(&mut volume, &tree, &options).map_err(EspError::write)?;
    Ok(volume.into_inner())
}

/// Why the volume could not be written.
#[derive(Debug, Error)]
pub enum EspError {
    /// The FAT writer refused.
    #[error("writing the FAT volume")]
    Write(#[source] Box<PathError>),
    /// A constant of this module is not acceptable to the FAT writer.
    #[error("the FAT volume's label or block size is not acceptable")]
    Options,
}

impl EspError {
    fn write(error: PathError) -> Self {
        Self::Write(Box::new(error))
    }
}

/// Large enough to keep the allocation table within one CD block, small enough that the two
/// directories, a cluster each, stay cheap.
const CLUSTER: u32 = 4096;
/// Boot sector, table, root and two directories, rounded up generously.
const OVERHEAD: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_lies_in_one_run_on_a_cd_block() {
        let program: Vec<u8> = (0..3_000_000_u32).map(|i| (i / 7) as u8).collect();
        let time = DateTime::from_unix_seconds(1_700_000_000).unwrap();
        let volume = build(&program, time).unwrap();
        let start = volume
            .windows(64)
            .position(|w| w == &program[..64])
            .unwrap();
        assert_eq!(start % 2048, 0);
        assert_eq!(&volume[start..start + program.len()], &program[..]);
        assert_eq!(volume, build(&program, time).unwrap());
    }
}
