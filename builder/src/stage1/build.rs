//! Stacks the layers: initramfs, unified kernel image, EFI system partition, ISO image.
//!
//! The same inputs give the same bytes: every date is the one given, nothing reads a clock.

use super::esp::{self, EspError};
use super::initramfs::{self, InitramfsError};
use super::iso::{self, IsoError};
use super::parts::Parts;
use super::uki::{self, Section, UkiError};
use hadris_fs::DateTime;
use stage1_config::{Slot, SlotError};
use thiserror::Error;

/// What kind of file to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Hybrid ISO image: CD and USB stick, BIOS and UEFI.
    Iso,
    /// One EFI program, for firmware that boots a file or an HTTP address.
    Uki,
    /// The same as `iso`, padded to whole MiB: for consoles that accept raw disk images only.
    Img,
}

/// Everything besides the parts.
#[derive(Clone, Debug)]
pub struct Recipe<'a> {
    /// Base configuration, TOML, already validated.
    pub config: &'a str,
    /// Kernel command line of stage one.
    pub cmdline: &'a str,
    /// What to make.
    pub format: Format,
    /// Unix seconds for every date in the result.
    pub time: i64,
}

/// A finished stage-one file, with the sizes of its layers in bytes.
#[derive(Clone, Debug)]
pub struct Built {
    /// The file.
    pub bytes: Vec<u8>,
    /// Kernel.
    pub kernel: usize,
    /// Compressed loader.
    pub loader: usize,
    /// Whole initramfs, with the config slot.
    pub initramfs: usize,
    /// Unified kernel image.
    pub uki: usize,
    /// Offsets of the config slot.
    pub slots: Vec<usize>,
}

/// Builds a stage-one file in memory.
pub fn build(parts: &Parts, recipe: &Recipe<'_>) -> Result<Built, BuildError> {
    let time = DateTime::from_unix_seconds(recipe.time).map_err(|_| BuildError::Date {
        seconds: recipe.time,
    })?;
    if !recipe.cmdline.bytes().all(|b| (b' '..0x7f).contains(&b))
        || recipe.cmdline.len() > MAX_CMDLINE
    {
        return Err(BuildError::Cmdline);
    }
    let slot = Slot::new(recipe.config).map_err(BuildError::Slot)?.emit();
    let initramfs = initramfs::build(&parts.loader, &slot)?;
    let uki = unified_kernel_image(parts, recipe.cmdline, &initramfs.bytes)?;
    let (kernel, loader, uki_size) = (parts.kernel.len(), initramfs.compressed, uki.len());
    let bytes = match recipe.format {
        Format::Uki => uki,
        Format::Iso | Format::Img => iso::build(&iso::Contents {
            kernel: &parts.kernel,
            initramfs: &initramfs.bytes,
            cmdline: recipe.cmdline,
            isolinux: &parts.isolinux,
            esp: &esp::build(&uki, time)?,
            time,
            round_to: if recipe.format == Format::Img {
                1 << 20
            } else {
                1
            },
        })?,
    };
    let slots = stage1_config::find(&bytes);
    let expected = if recipe.format == Format::Uki { 1 } else { 2 };
    if slots.len() != expected
        || slots
            .iter()
            .any(|&at| bytes.get(at..at + slot.len()) != Some(&slot[..]))
    {
        return Err(BuildError::SlotPlaces {
            expected,
            found: slots.len(),
        });
    }
    Ok(Built {
        bytes,
        kernel,
        loader,
        initramfs: initramfs.bytes.len(),
        uki: uki_size,
        slots,
    })
}

/// Why nothing was built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The date cannot be stored.
    #[error("{seconds} seconds is not a date that file systems can hold")]
    Date {
        /// Unix seconds.
        seconds: i64,
    },
    /// The kernel command line is too long or not plain text.
    #[error("kernel command line must be at most {MAX_CMDLINE} printable ASCII characters")]
    Cmdline,
    /// The configuration does not fit the slot.
    #[error("writing the config slot")]
    Slot(#[source] SlotError),
    /// A layer failed.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// A layer failed.
    #[error(transparent)]
    Uki(#[from] UkiError),
    /// A layer failed.
    #[error(transparent)]
    Esp(#[from] EspError),
    /// A layer failed.
    #[error(transparent)]
    Iso(#[from] IsoError),
    /// The slot would not be found where the loader reads it.
    #[error("config slot found {found} times in the result, expected {expected}")]
    SlotPlaces {
        /// One per boot path.
        expected: usize,
        /// Found by scanning.
        found: usize,
    },
}

fn unified_kernel_image(
    parts: &Parts,
    cmdline: &str,
    initramfs: &[u8],
) -> Result<Vec<u8>, UkiError> {
    let mut cmdline = cmdline.as_bytes().to_vec();
    cmdline.push(0);
    let section = |name, data, file_alignment| Section {
        name,
        data,
        file_alignment,
    };
    uki::assemble(
        &parts.uefi_stub,
        &[
            section(".osrel", OS_RELEASE.as_bytes(), 1),
            section(".cmdline", &cmdline, 1),
            // Last but one, so that nothing lies between the two large reads.
            section(".linux", &parts.kernel, 1),
            section(".initrd", initramfs, initramfs::SLOT_ALIGNMENT),
        ],
    )
}

/// Screen last, so that `/dev/console` is the screen; the loader writes to every console itself.
/// A loader that dies must not leave a dead PC: the kernel restarts it after a minute.
pub const DEFAULT_CMDLINE: &str = "console=ttyS0,115200 console=tty0 quiet panic=60";
const OS_RELEASE: &str = concat!(
    "ID=sparetire-stage1\nNAME=\"sparetire stage one\"\nPRETTY_NAME=\"sparetire stage one\"\nVERSION_ID=",
    env!("CARGO_PKG_VERSION"),
    "\n"
);
/// What every x86 boot path takes.
const MAX_CMDLINE: usize = 1024;
