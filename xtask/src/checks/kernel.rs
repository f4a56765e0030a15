//! The kernel: one file that a BIOS boot loader, an EFI firmware and kexec all can start.
//!
//! Linux Documentation/arch/x86/boot.rst for the setup header, PE/COFF for the EFI stub.
//! The image alone does not say which system calls and initramfs formats it has: the
//! configuration it was built with does.

use anyhow::{Context, Result, bail};
use goblin::pe::header::{COFF_MACHINE_X86_64, Header};
use goblin::pe::subsystem::IMAGE_SUBSYSTEM_EFI_APPLICATION;

use crate::kernel::settings;

/// Options without which stage one does not work, and what fails.
const NEEDED: &[(&str, &str)] = &[
    ("CONFIG_EFI_STUB", "UEFI firmware cannot start it"),
    ("CONFIG_BLK_DEV_INITRD", "it cannot take an initramfs"),
    ("CONFIG_RD_XZ", "it cannot unpack the loader"),
    ("CONFIG_KEXEC_FILE", "it cannot hand over"),
    ("CONFIG_KEXEC", "it cannot hand over to large images"),
];

// Setup header, offsets in the file.
const BOOT_FLAG: usize = 0x1fe;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const LOADFLAGS: usize = 0x211;
const RELOCATABLE: usize = 0x234;
const XLOADFLAGS: usize = 0x236;
const PAYLOAD_OFFSET: usize = 0x248;
const SETUP_SECTS: usize = 0x1f1;

/// Protocol 2.12 brought xloadflags (Linux 3.8).
const VERSION_NEEDED: u16 = 0x020c;
const LOADED_HIGH: u8 = 1;
const XLF_KERNEL_64: u16 = 1;
const XLF_EFI_KEXEC: u16 = 1 << 4;
const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";

/// Checks a bzImage's bytes.
pub(super) fn image(bytes: &[u8]) -> Result<()> {
    if word(bytes, BOOT_FLAG)? != 0xaa55 || take(bytes, MAGIC, 4)? != b"HdrS" {
        bail!("it is no bzImage: the setup header is missing");
    }
    let version = word(bytes, VERSION)?;
    if version < VERSION_NEEDED {
        bail!("its boot protocol is {version:#06x}, too old: {VERSION_NEEDED:#06x} is needed");
    }
    if take(bytes, LOADFLAGS, 1)?[0] & LOADED_HIGH == 0 {
        bail!("it is no bzImage: it wants to be loaded below 1 MiB");
    }
    if take(bytes, RELOCATABLE, 1)?[0] == 0 {
        bail!("it is not relocatable, which the EFI stub and kexec rely on");
    }
    let xloadflags = word(bytes, XLOADFLAGS)?;
    if xloadflags & XLF_KERNEL_64 == 0 {
        bail!("it has no 64-bit entry point");
    }
    if xloadflags & XLF_EFI_KEXEC == 0 {
        bail!("it cannot be started by kexec on EFI");
    }
    let pe = Header::parse(bytes).context("it has no EFI stub: reading its PE header")?;
    if pe.coff_header.machine != COFF_MACHINE_X86_64 {
        bail!(
            "its EFI stub is for another machine (PE machine {:#06x})",
            pe.coff_header.machine
        );
    }
    let optional = pe
        .optional_header
        .context("it has no EFI stub: the PE header has no optional header")?;
    if optional.windows_fields.subsystem != IMAGE_SUBSYSTEM_EFI_APPLICATION {
        bail!(
            "its PE header is not of an EFI application (subsystem {})",
            optional.windows_fields.subsystem
        );
    }
    let start = payload(bytes)?;
    if take(bytes, start, XZ_MAGIC.len())? != XZ_MAGIC {
        bail!("it is not compressed with xz, and so larger than need be");
    }
    Ok(())
}

/// Where the compressed kernel starts: counted from the protected-mode code, which
/// follows the boot sector and `setup_sects` sectors.
fn payload(bytes: &[u8]) -> Result<usize> {
    let setup = (usize::from(take(bytes, SETUP_SECTS, 1)?[0]) + 1) * 512;
    let offset = take(bytes, PAYLOAD_OFFSET, 4)?;
    let offset = u32::from_le_bytes([offset[0], offset[1], offset[2], offset[3]]);
    Ok(setup.saturating_add(offset as usize))
}

/// Checks the configuration's text.
pub(super) fn config(text: &str) -> Result<()> {
    let settings = settings(text);
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|(name, _)| settings.get(*name).map(String::as_str) != Some("y"))
        .map(|(name, effect)| format!("{name} is not set: {effect}"))
        .collect();
    if !missing.is_empty() {
        bail!("{}", missing.join("; "));
    }
    Ok(())
}

fn take(bytes: &[u8], offset: usize, length: usize) -> Result<&[u8]> {
    let end = offset
        .checked_add(length)
        .context("an offset is out of range")?;
    bytes
        .get(offset..end)
        .with_context(|| format!("it is cut short: {} bytes, needs {end}", bytes.len()))
}

fn word(bytes: &[u8], offset: usize) -> Result<u16> {
    let field = take(bytes, offset, 2)?;
    Ok(u16::from_le_bytes([field[0], field[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PE: usize = 0x40;

    fn put(file: &mut [u8], offset: usize, bytes: &[u8]) {
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// A bzImage reduced to the fields that are looked at.
    fn right() -> Vec<u8> {
        let mut file = vec![0; 0x1000];
        put(&mut file, 0, b"MZ");
        put(&mut file, 0x3c, &(PE as u32).to_le_bytes());
        put(&mut file, PE, b"PE\0\0");
        put(&mut file, PE + 4, &0x8664u16.to_le_bytes()); // machine
        put(&mut file, PE + 20, &0xa0u16.to_le_bytes()); // size of the optional header
        put(&mut file, PE + 22, &0x0206u16.to_le_bytes()); // characteristics
        put(&mut file, PE + 24, &0x020bu16.to_le_bytes()); // PE32+
        put(&mut file, PE + 24 + 32, &0x1000u32.to_le_bytes()); // section alignment
        put(&mut file, PE + 24 + 36, &0x200u32.to_le_bytes()); // file alignment
        put(&mut file, PE + 24 + 68, &10u16.to_le_bytes()); // subsystem: EFI application
        put(&mut file, PE + 24 + 108, &6u32.to_le_bytes()); // data directories
        put(&mut file, SETUP_SECTS, &[3]);
        put(&mut file, BOOT_FLAG, &[0x55, 0xaa]);
        put(&mut file, MAGIC, b"HdrS");
        put(&mut file, VERSION, &0x020fu16.to_le_bytes());
        put(&mut file, LOADFLAGS, &[1]);
        put(&mut file, RELOCATABLE, &[1]);
        put(&mut file, XLOADFLAGS, &0x0033u16.to_le_bytes());
        put(&mut file, PAYLOAD_OFFSET, &0x100u32.to_le_bytes());
        put(&mut file, 4 * 512 + 0x100, XZ_MAGIC);
        file
    }

    #[test]
    fn accepts_an_image_with_everything() {
        image(&right()).unwrap();
    }

    #[test]
    fn refuses_each_wrong_field_by_its_own_name() {
        for (offset, bytes, reason) in [
            (BOOT_FLAG, &[0, 0][..], "no bzImage"),
            (MAGIC, b"Hdrs", "no bzImage"),
            (VERSION, &[0x0b, 0x02], "too old"),
            (LOADFLAGS, &[0], "below 1 MiB"),
            (RELOCATABLE, &[0], "not relocatable"),
            (XLOADFLAGS, &[0x32, 0], "64-bit"),
            (XLOADFLAGS, &[0x23, 0], "kexec"),
            (0, b"NO", "no EFI stub"),
            (PE, b"NE", "no EFI stub"),
            (PE + 4, &[0x64, 0xaa], "another machine"),
            (PE + 24 + 68, &[3, 0], "EFI application"),
            (
                4 * 512 + 0x100,
                b"\x28\xb5\x2f\xfd",
                "not compressed with xz",
            ),
            (PAYLOAD_OFFSET, &[0xff, 0xff, 0xff, 0xff], "cut short"),
        ] {
            let mut file = right();
            put(&mut file, offset, bytes);
            let error = format!("{:#}", image(&file).unwrap_err());
            assert!(error.contains(reason), "{offset:#x}: {error}");
        }
    }

    #[test]
    fn refuses_every_truncation_without_panicking() {
        let file = right();
        for length in 0..4 * 512 + 0x100 + 6 {
            image(&file[..length]).unwrap_err();
        }
    }

    #[test]
    fn names_each_option_that_is_missing() {
        let all: String = NEEDED
            .iter()
            .map(|(name, _)| format!("{name}=y\n"))
            .collect();
        config(&all).unwrap();
        for (name, _) in NEEDED {
            for without in [
                format!("# {name} is not set\n"),
                format!("{name}=m\n"),
                String::new(),
            ] {
                let text = all.replace(&format!("{name}=y\n"), &without);
                assert!(
                    config(&text).unwrap_err().to_string().contains(name),
                    "{name}"
                );
            }
        }
    }
}
