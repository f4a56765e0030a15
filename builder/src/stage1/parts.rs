//! The ready-made pieces of stage one, and where they are found on this machine.
//!
//! Kernel and loader come from a parts directory: built by `cargo xtask setup`, installed by the package, or
//! unpacked beside the program. ISOLINUX and the EFI stub are there as well once installed; without, they are taken
//! from their Debian packages.

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
            KernelChoice::Tiny => find(&KERNEL)?,
            KernelChoice::File(path) => path.clone(),
        };
        let loader_path = match &choice.loader {
            Some(path) => path.clone(),
            None => find(&LOADER)?,
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
            uefi_stub: read(&find(&UEFI_STUB)?)?,
        })
    }
}

impl Isolinux {
    /// The files of a parts directory, else as Debian's packages `isolinux` and `syslinux-common` install them.
    pub fn installed() -> Result<Self, PartsError> {
        Ok(Self {
            boot_loader: read(&find(&ISOLINUX_BIN)?)?,
            core_module: read(&find(&LDLINUX)?)?,
            disk_boot_record: read(&find(&ISOHDPFX)?)?,
        })
    }
}

/// A piece by name, and where it would be taken from.
#[derive(Debug)]
pub struct Located {
    /// File name in a parts directory.
    pub name: &'static str,
    /// What it is, in a few words.
    pub what: &'static str,
    /// The file, or why there is none.
    pub path: Result<PathBuf, PartsError>,
}

/// Every piece that stage one can be made of, found or not, and not read.
pub fn locate() -> Vec<Located> {
    ALL.iter()
        .map(|part| Located {
            name: part.name,
            what: part.what,
            path: find(part),
        })
        .collect()
}

/// One piece.
struct Part {
    name: &'static str,
    what: &'static str,
    /// The file of a Debian package that does as well, and the package.
    packaged: Option<(&'static str, &'static str)>,
}

/// Why a piece is missing or refused.
#[derive(Debug, Error)]
pub enum PartsError {
    /// No parts directory has the file.
    #[error(
        "{name} not found in {}; install the package sparetire, run `cargo xtask setup` in its source, or name the file",
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
    if let Some(above) = std::env::current_exe()
        .ok()
        .as_deref()
        .and_then(Path::parent)
        .and_then(Path::parent)
    {
        // target/debug/sparetire -> target/parts; PREFIX/bin/sparetire -> PREFIX/lib/sparetire, which for the
        // package is /usr/lib/sparetire and for the tarball wherever it was unpacked.
        directories.push(above.join("parts"));
        directories.push(above.join("lib/sparetire"));
    }
    let installed = PathBuf::from("/usr/lib/sparetire");
    if !directories.contains(&installed) {
        directories.push(installed);
    }
    directories
}

fn find(part: &Part) -> Result<PathBuf, PartsError> {
    let searched = part_directories();
    let in_directories = searched.iter().map(|directory| directory.join(part.name));
    let in_package = part.packaged.map(|(path, _)| PathBuf::from(path));
    match in_directories.chain(in_package).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => Err(match part.packaged {
            Some((path, package)) => PartsError::NotInstalled { path, package },
            None => PartsError::NotBuilt {
                name: part.name,
                searched,
            },
        }),
    }
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

const KERNEL: Part = Part {
    name: "bzImage",
    what: "stage-one kernel",
    packaged: None,
};
const LOADER: Part = Part {
    name: "stage1-loader",
    what: "stage-one loader",
    packaged: None,
};
const ISOLINUX_BIN: Part = Part {
    name: "isolinux.bin",
    what: "BIOS boot loader",
    packaged: Some(("/usr/lib/ISOLINUX/isolinux.bin", "isolinux")),
};
const ISOHDPFX: Part = Part {
    name: "isohdpfx.bin",
    what: "BIOS boot code of USB sticks",
    packaged: Some(("/usr/lib/ISOLINUX/isohdpfx.bin", "isolinux")),
};
const LDLINUX: Part = Part {
    name: "ldlinux.c32",
    what: "module of the BIOS boot loader",
    packaged: Some((
        "/usr/lib/syslinux/modules/bios/ldlinux.c32",
        "syslinux-common",
    )),
};
const UEFI_STUB: Part = Part {
    name: "linuxx64.efi.stub",
    what: "UEFI stub",
    packaged: Some((
        "/usr/lib/systemd/boot/efi/linuxx64.efi.stub",
        "systemd-boot-efi",
    )),
};
const ALL: [Part; 6] = [KERNEL, LOADER, ISOLINUX_BIN, LDLINUX, ISOHDPFX, UEFI_STUB];
/// No piece comes near this; it stops a device file or a mistaken path.
const MAX_PART: u64 = 128 << 20;
