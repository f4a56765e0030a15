//! What does a kernel's setup header say, and can it be entered in 64-bit mode?
//!
//! The Linux/x86 boot protocol, `Documentation/arch/x86/boot.rst` (Linux 6.12), version 2.12 and
//! later: relocatable bzImages with a 64-bit entry point. Older ones, zImages and 32-bit kernels are
//! refused. The bytes come out of a verified image, so its publisher controls them; every length is
//! checked all the same.

/// Offset of the setup header in the file and in `struct boot_params`.
pub(super) const HEADER_AT: usize = 0x1f1;
/// First byte that can no longer belong to the header: the next field of `struct boot_params`.
const HEADER_LIMIT: usize = 0x290;
/// End of the header of protocol 2.12.
const HEADER_MIN: usize = 0x268;
/// Largest memory for a kernel to unpack itself in that is believed.
const MAX_INIT_SIZE: u64 = 1 << 30;
/// Offset of the 64-bit entry point in the protected-mode code.
pub(super) const ENTRY_64: u64 = 0x200;

const LOADED_HIGH: u8 = 1;
const XLF_KERNEL_64: u16 = 1;
const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 1 << 1;
const XLF_EFI_KEXEC: u16 = 1 << 4;

/// A setup header that allows a 64-bit start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetupHeader {
    /// The header as it goes to `struct boot_params`, from 0x1f1 on.
    pub(super) bytes: Vec<u8>,
    /// Where the protected-mode code starts in the file.
    pub(super) code_at: usize,
    /// Memory that the kernel needs from its load address on.
    pub(super) init_size: u64,
    pub(super) alignment: u64,
    pub(super) preferred_address: u64,
    /// End of the memory where the initramfs may stand, exclusive.
    pub(super) initramfs_limit: u64,
    /// Longest command line without its NUL.
    pub(super) cmdline_max: usize,
    /// The kernel can take over EFI runtime services that another kernel has mapped.
    pub(super) efi_kexec: bool,
}

/// Why a file is no kernel that can be started.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupHeaderError {
    /// The file ends before a part that it must have.
    #[error("cut short: {needed} bytes needed, {found} there")]
    CutShort {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
    /// No boot sector signature or no `HdrS`.
    #[error("no Linux/x86 setup header")]
    NotAKernel,
    /// A protocol before 2.12.
    #[error("boot protocol {}.{:02}, 2.12 needed", .version >> 8, .version & 0xff)]
    TooOld {
        /// Protocol version as in the header.
        version: u16,
    },
    /// A zImage, a 32-bit kernel, or one that cannot be relocated.
    #[error("no relocatable 64-bit kernel (loadflags {loadflags:#x}, xloadflags {xloadflags:#x})")]
    NoEntry {
        /// The header's loadflags.
        loadflags: u8,
        /// The header's xloadflags.
        xloadflags: u16,
    },
    /// A field whose value cannot be.
    #[error("setup header field {field} is {value:#x}")]
    Field {
        /// Name in the protocol.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
}

impl SetupHeader {
    /// Reads the header of a kernel file.
    pub(super) fn parse(kernel: &[u8]) -> Result<SetupHeader, SetupHeaderError> {
        let Some(first) = kernel.get(..HEADER_LIMIT) else {
            return Err(SetupHeaderError::CutShort {
                needed: HEADER_LIMIT,
                found: kernel.len(),
            });
        };
        let u16_at = |at: usize| u16::from_le_bytes([first[at], first[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if u16_at(0x1fe) != 0xaa55 || &first[0x202..0x206] != b"HdrS" {
            return Err(SetupHeaderError::NotAKernel);
        }
        let version = u16_at(0x206);
        if version < 0x020c {
            return Err(SetupHeaderError::TooOld { version });
        }
        // The jump over the header: its displacement counts from 0x202.
        let end = 0x202 + usize::from(first[0x201]);
        if !(HEADER_MIN..=HEADER_LIMIT).contains(&end) {
            return Err(SetupHeaderError::Field {
                field: "jump",
                value: end as u64,
            });
        }
        let (loadflags, xloadflags, relocatable) = (first[0x211], u16_at(0x236), first[0x234]);
        if loadflags & LOADED_HIGH == 0 || xloadflags & XLF_KERNEL_64 == 0 || relocatable == 0 {
            return Err(SetupHeaderError::NoEntry {
                loadflags,
                xloadflags,
            });
        }
        let alignment = u64::from(u32_at(0x230));
        if !alignment.is_power_of_two() {
            return Err(SetupHeaderError::Field {
                field: "kernel_alignment",
                value: alignment,
            });
        }
        let sectors = match first[HEADER_AT] {
            0 => 4,
            sectors => usize::from(sectors),
        };
        let code_at = (sectors + 1) * 512;
        let code_len = kernel.len().saturating_sub(code_at);
        if code_len as u64 <= ENTRY_64 {
            return Err(SetupHeaderError::CutShort {
                needed: code_at + ENTRY_64 as usize + 1,
                found: kernel.len(),
            });
        }
        let init_size = u64::from(u32_at(0x260));
        if init_size < code_len as u64 || init_size > MAX_INIT_SIZE {
            return Err(SetupHeaderError::Field {
                field: "init_size",
                value: init_size,
            });
        }
        let initramfs_limit = match xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G {
            0 => u64::from(u32_at(0x22c)) + 1,
            _ => u64::MAX,
        };
        Ok(SetupHeader {
            bytes: first[HEADER_AT..end].to_vec(),
            code_at,
            init_size,
            alignment,
            preferred_address: u64_at(0x258),
            initramfs_limit,
            cmdline_max: u32_at(0x238) as usize,
            efi_kexec: xloadflags & XLF_EFI_KEXEC != 0,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A kernel that is nothing but header: two setup sectors and `code` bytes of code.
    pub(in super::super) fn synthetic(code: usize) -> Vec<u8> {
        let mut kernel = vec![0; 3 * 512 + code];
        kernel[0x1ef] = 0xff; // sentinel, which must not reach boot_params
        kernel[0x1f1] = 2; // setup_sects
        kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]); // boot_flag
        kernel[0x200..0x202].copy_from_slice(&[0xeb, 0x6a]); // jump: header ends at 0x26c
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x206..0x208].copy_from_slice(&[0x0f, 0x02]); // protocol 2.15
        kernel[0x211] = 0x81; // loadflags: LOADED_HIGH, CAN_USE_HEAP
        kernel[0x22c..0x230].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes()); // initrd_addr_max
        kernel[0x230..0x234].copy_from_slice(&0x20_0000_u32.to_le_bytes()); // kernel_alignment: 2 MiB
        kernel[0x234] = 1; // relocatable_kernel
        kernel[0x236] = 0x3f; // xloadflags: 64-bit entry, above 4 GiB, EFI handover, EFI kexec, 5-level
        kernel[0x238..0x23c].copy_from_slice(&2047_u32.to_le_bytes()); // cmdline_size
        kernel[0x258..0x260].copy_from_slice(&0x100_0000_u64.to_le_bytes()); // pref_address: 16 MiB
        kernel[0x260..0x264].copy_from_slice(&0x200_0000_u32.to_le_bytes()); // init_size: 32 MiB
        for (index, byte) in kernel[3 * 512..].iter_mut().enumerate() {
            *byte = index as u8;
        }
        kernel
    }

    #[test]
    fn reads_the_fields_of_a_kernel() {
        let kernel = synthetic(5000);
        let header = SetupHeader::parse(&kernel).unwrap();
        assert_eq!(header.bytes, kernel[0x1f1..0x26c]);
        assert_eq!(header.code_at, 1536);
        assert_eq!(header.init_size, 32 << 20);
        assert_eq!(header.alignment, 2 << 20);
        assert_eq!(header.preferred_address, 16 << 20);
        assert_eq!(header.initramfs_limit, u64::MAX);
        assert_eq!(header.cmdline_max, 2047);
        assert!(header.efi_kexec);
    }

    #[test]
    fn a_kernel_for_low_memory_limits_the_initramfs() {
        let mut kernel = synthetic(5000);
        kernel[0x236] = 0x01;
        let header = SetupHeader::parse(&kernel).unwrap();
        assert_eq!(header.initramfs_limit, 0x8000_0000);
        assert!(!header.efi_kexec);
    }

    #[test]
    fn refuses_what_cannot_be_started() {
        let change = |at: usize, bytes: &[u8]| {
            let mut kernel = synthetic(5000);
            kernel[at..at + bytes.len()].copy_from_slice(bytes);
            SetupHeader::parse(&kernel).unwrap_err()
        };
        assert_eq!(change(0x1fe, &[0]), SetupHeaderError::NotAKernel);
        assert_eq!(change(0x202, b"XXXX"), SetupHeaderError::NotAKernel);
        assert_eq!(
            change(0x206, &[0x0b]),
            SetupHeaderError::TooOld { version: 0x20b }
        );
        assert_eq!(
            change(0x201, &[0x20]),
            SetupHeaderError::Field {
                field: "jump",
                value: 0x222
            }
        );
        assert_eq!(
            change(0x201, &[0xff]),
            SetupHeaderError::Field {
                field: "jump",
                value: 0x301
            }
        );
        assert_eq!(
            change(0x211, &[0]),
            SetupHeaderError::NoEntry {
                loadflags: 0,
                xloadflags: 0x3f
            }
        );
        assert_eq!(
            change(0x236, &[0x3e]),
            SetupHeaderError::NoEntry {
                loadflags: 0x81,
                xloadflags: 0x3e
            }
        );
        assert_eq!(
            change(0x234, &[0]),
            SetupHeaderError::NoEntry {
                loadflags: 0x81,
                xloadflags: 0x3f
            }
        );
        assert_eq!(
            change(0x230, &[1]),
            SetupHeaderError::Field {
                field: "kernel_alignment",
                value: 0x20_0001
            }
        );
        assert_eq!(
            change(0x260, &[0; 4]),
            SetupHeaderError::Field {
                field: "init_size",
                value: 0
            }
        );
        assert_eq!(
            change(0x263, &[0xff]),
            SetupHeaderError::Field {
                field: "init_size",
                value: 0xff00_0000
            }
        );
        assert_eq!(
            change(0x1f1, &[40]),
            SetupHeaderError::CutShort {
                needed: 41 * 512 + 513,
                found: 6536
            }
        );
    }

    #[test]
    fn every_cut_of_the_header_is_an_error() {
        let kernel = synthetic(5000);
        for length in 0..=3 * 512 + ENTRY_64 as usize {
            assert!(
                SetupHeader::parse(&kernel[..length]).is_err(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn reads_debians_installer_kernel() {
        const PATH: &str =
            "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/linux";
        let Ok(kernel) = std::fs::read(PATH) else {
            eprintln!("SKIPPED: {PATH} is missing (package debian-installer-12-netboot-amd64)");
            return;
        };
        let header = SetupHeader::parse(&kernel).unwrap();
        assert!(header.efi_kexec);
        assert_eq!(header.initramfs_limit, u64::MAX);
        assert_eq!(header.preferred_address, 16 << 20);
        assert!(header.init_size > kernel.len() as u64);
    }

    proptest! {
        #[test]
        fn damaged_kernels_never_panic(at in 0x1e0usize..0x290, byte: u8, length in 0usize..6000) {
            let mut kernel = synthetic(5000);
            kernel[at] = byte;
            kernel.truncate(length);
            if let Ok(header) = SetupHeader::parse(&kernel) {
                prop_assert!(header.code_at + (ENTRY_64 as usize) < kernel.len());
                prop_assert!(header.init_size >= (kernel.len() - header.code_at) as u64);
            }
        }
    }
}
