//! A boot CD made by hand, and a drive that holds it.

use std::io;

use virtual_pc::host::nbd::BlockDevice;
use virtual_pc::host::nbd::session::Export;

/// What [`iso`] prints on COM1 when it is booted.
pub(crate) const GREETING: &str = "booted from the redirected CD";

/// What booted code does after the greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Interrupts off, halted for good: only a reset helps.
    Hang,
    /// Resets the PC through the keyboard controller.
    Reset,
}

/// An ISO image with nothing but an El Torito boot sector (El Torito 1.0, sections 2 and 3;
/// ECMA-119 section 8 for the descriptors).
pub(crate) fn iso(then: Then) -> Vec<u8> {
    let mut iso = vec![0; 24 * 2048];
    let mut put = |at: usize, bytes: &[u8]| iso[at..at + bytes.len()].copy_from_slice(bytes);
    // Primary volume descriptor: type, identifier, version.
    put(16 * 2048, b"\x01CD001\x01");
    // Boot record: type, identifier, version, system; the catalog is in sector 19.
    put(17 * 2048, b"\x00CD001\x01EL TORITO SPECIFICATION");
    put(17 * 2048 + 0x47, &19u32.to_le_bytes());
    // Terminator.
    put(18 * 2048, b"\xffCD001\x01");
    // Validation entry: header, platform 80x86, checksum over 16-bit words, key.
    put(19 * 2048, &[1, 0]);
    put(19 * 2048 + 0x1c, &[0xaa, 0x55, 0x55, 0xaa]);
    // Initial entry: bootable, no emulation, default segment, 4 virtual sectors from sector 20.
    put(19 * 2048 + 0x20, &[0x88, 0, 0, 0, 0, 0, 4, 0, 20, 0, 0, 0]);
    put(20 * 2048, &boot_sector(then));
    iso
}

fn boot_sector(then: Then) -> Vec<u8> {
    let mut code = vec![
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xfc, // cld
        0xbe, 0x20, 0x7c, // mov si, 0x7c20
        0xac, // next: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x06, // jz done
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xee, // out dx, al
        0xeb, 0xf5, // jmp next
    ];
    match then {
        Then::Reset => code.extend([0xb0, 0xfe, 0xe6, 0x64]), // done: mov al, 0xfe; out 0x64, al
        Then::Hang => code.push(0xfa),                        // done: cli
    }
    code.extend([0xf4, 0xeb, 0xfd]); // hlt; jmp back to it
    code.resize(0x20, 0x90);
    code.extend(GREETING.as_bytes());
    code.extend(b"\r\n\0");
    code
}

/// A drive with a medium in memory.
#[derive(Debug)]
pub(crate) struct Memory(pub(crate) Vec<u8>);

impl BlockDevice for Memory {
    fn export(&self) -> Option<Export> {
        Some(Export {
            size: self.0.len() as u64,
            block_size: 2048,
            writable: false,
        })
    }

    async fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.0
            .get(offset..offset + length)
            .map(<[u8]>::to_vec)
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    async fn write(&self, _: u64, _: Vec<u8>) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    async fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
