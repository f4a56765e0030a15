//! The ready-made pieces of stage one, and where they are found on this machine.
//!
//! Kernel and loader come from a parts directory (built by `cargo xtask setup`, or installed by the
//! package); ISOLINUX and the EFI stub come from their Debian packages.

use super::check::{self, CheckError};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Everything `build` needs, checked.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Linux kernel, bzImage with EFI stub.
    pub kernel: Vec<u8>,
    /// The loader, a static ELF program.
    pub loader: Vec<u8>,
    /// BIOS boot loader.
    pub isolinux: Isolinux,
    /// systemd's EFI stub.
    pub uefi_stub: Vec<u8>,
}

/// The three files of ISOLINUX that a hybrid ISO image needs.
#[derive(Clone, Debug)]
pub struct Isolinux {
    /// `isolinux.bin`.
    pub boot_loader: Vec<u8>,
    /// `ldlinux.c32`.
    pub core_module: Vec<u8>,
    /// `isohdpfx.bin`, at most 432 bytes of boot code for the master boot record.
    pub disk_boot_record: Vec<u8>,
}

/// Which kernel to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelChoice {
    /// Our own small one, from the parts directory.
    Tiny,
    /// This file.
    File(PathBuf),
}

/// Which kernel and loader to take.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The kernel.
    pub kernel: KernelChoice,
    /// The loader; from the parts directory when absent.
    pub loader: Option<PathBuf>,
}

impl Parts {
    /// Reads and checks all pieces.
    pub fn gather(choice: &Choice) -> Result<Self, PartsError> {
        let kernel_path = match &choice.kernel {
            KernelChoice::Tiny => find_part("bzImage")?,
            KernelChoice::File(path) => path.clone(),
        };
        let loader_path = match &choice.loader {
            Some(path) => path.clone(),
            None => find_part("stage1-loader")?,
        };
        let kernel = read(&kernel_path)?;
        check::kernel(&kernel).map_err(|cause| PartsError::Wrong {
            path: kernel_path,
            cause,
        })?;
        let loader = read(&loader_path)?;
        check::loader(&loader).map_err(|cause| PartsError::Wrong {
            path: loader_path,
            cause,
        })?;
        Ok(Self {
            kernel,
            loader,
            isolinux: Isolinux::installed()?,
            uefi_stub: packaged(UEFI_STUB)?,
        })
    }
}

impl Isolinux {
    /// The files as Debian's packages `isolinux` and `syslinux-common` install them.
    pub fn installed() -> Result<Self, PartsError> {
        Ok(Self {
            boot_loader: packaged(ISOLINUX_BIN)?,
            core_module: packaged(LDLINUX)?,
            disk_boot_record: packaged(ISOHDPFX)?,
        })
    }
}

/// Why a piece is missing or refused.
#[derive(Debug, Error)]
pub enum PartsError {
    /// No parts directory has the file.
    #[error(
        "{name} not found in {}; run `cargo xtask setup`, or name the file",
        list(searched)
    )]
    NotBuilt {
        /// File name.
        name: &'static str,
        /// Directories looked into.
        searched: Vec<PathBuf>,
    },
    /// A packaged file is missing.
    #[error("{path} is missing; install the package {package}")]
    NotInstalled {
        /// The file.
        path: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The file could not be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Far larger than the piece can be.
    #[error("{} exceeds {} MiB", path.display(), MAX_PART >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The piece is not what it has to be.
    #[error("{} cannot be used", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: CheckError,
    },
}

/// The directories that may hold the kernel and the loader, in order.
fn part_directories() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    if let Some(named) = std::env::var_os("SPARETIRE_PARTS") {
        directories.push(PathBuf::from(named));
    }
    // target/debug/sparetire -> target/parts
    if let Some(target) = std::env::current_exe()
        .ok()
        .as_deref()
        .and_then(Path::parent)
        .and_then(Path::parent)
    {
        directories.push(target.join("parts"));
    }
    directories.push(PathBuf::from("/usr/lib/sparetire"));
    directories
}

fn find_part(name: &'static str) -> Result<PathBuf, PartsError> {
    let searched = part_directories();
    let found = searched
        .iter()
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    found.ok_or(PartsError::NotBuilt { name, searched })
}

fn packaged((path, package): (&'static str, &'static str)) -> Result<Vec<u8>, PartsError> {
    if !Path::new(path).is_file() {
        return Err(PartsError::NotInstalled { path, package });
    }
    read(Path::new(path))
}

fn read(path: &Path) -> Result<Vec<u8>, PartsError> {
    let failed = |cause| PartsError::Read {
        path: path.to_owned(),
        cause,
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_PART + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_PART {
        return Err(PartsError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

fn list(directories: &[PathBuf]) -> String {
    directories
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

const ISOLINUX_BIN: (&str, &str) = ("/usr/lib/ISOLINUX/isolinux.bin", "isolinux");
const ISOHDPFX: (&str, &str) = ("/usr/lib/ISOLINUX/isohdpfx.bin", "isolinux");
const LDLINUX: (&str, &str) = (
    "/usr/lib/syslinux/modules/bios/ldlinux.c32",
    "syslinux-common",
);
const UEFI_STUB: (&str, &str) = (
    "/usr/lib/systemd/boot/efi/linuxx64.efi.stub",
    "systemd-boot-efi",
);
/// No piece comes near this; it stops a device file or a mistaken path.
const MAX_PART: u64 = 128 << 20;
