//! Is this kernel, is this loader, what stage one needs? A wrong one is refused by name.
//!
//! Kernel: Linux, Documentation/arch/x86/boot.rst (setup header) and the PE header of its EFI stub.
//! Loader: the ELF file PID 1 is started from; nothing else is in the initramfs, so it must not
//! need an interpreter or a library.

use goblin::elf::{Elf, header, program_header};
use goblin::pe::PE;
use thiserror::Error;

/// What a kernel image says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelInfo {
    /// Version string from the setup header, up to the first space.
    pub version: String,
    /// Boot protocol, major in the high byte.
    pub protocol: u16,
}

/// Checks that `bytes` is an x86-64 bzImage with 64-bit entry and EFI stub.
pub fn kernel(bytes: &[u8]) -> Result<KernelInfo, CheckError> {
    if slice(bytes, 0x202, 4)? != b"HdrS" || slice(bytes, 0x1fe, 2)? != [0x55, 0xaa] {
        return Err(CheckError::NotBzImage);
    }
    let protocol = u16_at(bytes, 0x206)?;
    // 2.12 brought xloadflags.
    if protocol < 0x020c {
        return Err(CheckError::OldProtocol { protocol });
    }
    if u16_at(bytes, 0x236)? & XLF_KERNEL_64 == 0 {
        return Err(CheckError::No64BitEntry);
    }
    let pe = PE::parse(bytes).map_err(|_| CheckError::NoEfiStub {
        why: "no PE header",
    })?;
    if pe.header.coff_header.machine != goblin::pe::header::COFF_MACHINE_X86_64 {
        return Err(CheckError::NoEfiStub {
            why: "PE machine is not x86-64",
        });
    }
    match pe.header.optional_header {
        Some(optional) if optional.windows_fields.subsystem == SUBSYSTEM_EFI_APPLICATION => {}
        _ => {
            return Err(CheckError::NoEfiStub {
                why: "PE subsystem is not EFI application",
            });
        }
    }
    let at = 0x200 + usize::from(u16_at(bytes, 0x20e)?);
    let text = bytes.get(at..).unwrap_or_default();
    let text = &text[..text.len().min(128)];
    let version = text
        .split(|&b| b == b' ' || b == 0)
        .next()
        .unwrap_or_default();
    Ok(KernelInfo {
        version: String::from_utf8_lossy(version).into_owned(),
        protocol,
    })
}

/// Checks the kernel's configuration for what cannot be read from the image itself.
pub fn kernel_config(config: &str) -> Result<(), CheckError> {
    const NEEDED: [&str; 6] = [
        "KEXEC",
        "KEXEC_FILE",
        "EFI_STUB",
        "BLK_DEV_INITRD",
        "RD_XZ",
        "DEVTMPFS",
    ];
    for option in NEEDED {
        let line = format!("CONFIG_{option}=y");
        if !config.lines().any(|found| found == line) {
            return Err(CheckError::KernelOption { option });
        }
    }
    Ok(())
}

/// Checks that `bytes` is a static, stripped x86-64 program.
pub fn loader(bytes: &[u8]) -> Result<(), CheckError> {
    let elf = Elf::parse(bytes).map_err(|_| CheckError::NotElf)?;
    let kind = elf.header.e_type;
    if !elf.is_64
        || elf.header.e_machine != header::EM_X86_64
        || !matches!(kind, header::ET_EXEC | header::ET_DYN)
    {
        return Err(CheckError::NotX86Program);
    }
    if let Some(interpreter) = elf.interpreter {
        return Err(CheckError::Interpreter {
            path: interpreter.to_owned(),
        });
    }
    if elf
        .program_headers
        .iter()
        .any(|segment| segment.p_type == program_header::PT_INTERP)
    {
        return Err(CheckError::Interpreter {
            path: "(unreadable)".to_owned(),
        });
    }
    if let Some(library) = elf.libraries.first() {
        return Err(CheckError::NeedsLibrary {
            name: (*library).to_owned(),
        });
    }
    if !elf.syms.is_empty() {
        return Err(CheckError::NotStripped {
            symbols: elf.syms.len(),
        });
    }
    Ok(())
}

/// What is wrong with a kernel or a loader.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CheckError {
    /// The file ends inside the header.
    #[error("file ends at byte {length}, inside the header")]
    Short {
        /// Bytes present.
        length: usize,
    },
    /// No Linux setup header.
    #[error("not a Linux bzImage")]
    NotBzImage,
    /// Too old to say whether it has a 64-bit entry.
    #[error("boot protocol {}.{} is older than 2.12", protocol >> 8, protocol & 0xff)]
    OldProtocol {
        /// Major in the high byte.
        protocol: u16,
    },
    /// A 32-bit kernel.
    #[error("kernel has no 64-bit entry point")]
    No64BitEntry,
    /// Firmware could not start it.
    #[error("kernel has no usable EFI stub: {why}")]
    NoEfiStub {
        /// What is missing.
        why: &'static str,
    },
    /// Built without something stage one needs.
    #[error("kernel was built without CONFIG_{option}")]
    KernelOption {
        /// Option name without prefix.
        option: &'static str,
    },
    /// No ELF file.
    #[error("not an ELF file")]
    NotElf,
    /// For another machine, or no program.
    #[error("not an x86-64 program")]
    NotX86Program,
    /// A dynamic program.
    #[error("needs the interpreter {path}; the loader must be static")]
    Interpreter {
        /// Its path.
        path: String,
    },
    /// A dynamic program.
    #[error("needs the library {name}; the loader must be static")]
    NeedsLibrary {
        /// Its name.
        name: String,
    },
    /// Symbols cost bytes on the slow link.
    #[error("carries {symbols} symbols; the loader must be stripped")]
    NotStripped {
        /// How many.
        symbols: usize,
    },
}

fn slice(bytes: &[u8], at: usize, length: usize) -> Result<&[u8], CheckError> {
    bytes.get(at..at + length).ok_or(CheckError::Short {
        length: bytes.len(),
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, CheckError> {
    let found = slice(bytes, at, 2)?;
    Ok(u16::from_le_bytes([found[0], found[1]]))
}

/// xloadflags bit 0.
const XLF_KERNEL_64: u16 = 1;
/// PE subsystem 10.
const SUBSYSTEM_EFI_APPLICATION: u16 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn refuses_a_dynamic_program_by_naming_its_interpreter() {
        let shell = fs::read("/bin/sh").unwrap();
        assert!(
            matches!(loader(&shell), Err(CheckError::Interpreter { path }) if path.contains("ld-linux"))
        );
    }

    #[test]
    fn refuses_the_test_program_itself_which_has_symbols_or_libraries() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(loader(&own).is_err());
    }

    #[test]
    fn refuses_other_files_by_what_they_are_not() {
        assert_eq!(loader(b"#!/bin/sh\n"), Err(CheckError::NotElf));
        assert_eq!(kernel(&[0; 4096]), Err(CheckError::NotBzImage));
        assert_eq!(kernel(b"MZ"), Err(CheckError::Short { length: 2 }));
    }

    #[test]
    fn names_the_option_a_kernel_lacks() {
        let config = "CONFIG_KEXEC=y\nCONFIG_KEXEC_FILE=y\nCONFIG_EFI_STUB=y\nCONFIG_BLK_DEV_INITRD=y\n# CONFIG_RD_XZ is not set\n";
        assert_eq!(
            kernel_config(config),
            Err(CheckError::KernelOption { option: "RD_XZ" })
        );
    }

    #[test]
    fn truncated_kernels_never_pass() {
        let Some(path) =
            ["/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/linux"]
                .iter()
                .find(|path| fs::exists(path).unwrap())
        else {
            eprintln!("SKIPPED: no Debian kernel; install debian-installer-12-netboot-amd64");
            return;
        };
        let bytes = fs::read(path).unwrap();
        assert!(kernel(&bytes).unwrap().version.starts_with("6.1"));
        for length in (0..0x400).step_by(7) {
            assert!(kernel(&bytes[..length]).is_err(), "accepted {length} bytes");
        }
    }
}
