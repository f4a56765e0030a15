//! What does the next kernel find in its `struct boot_params` and behind it?
//!
//! The "zero page": `Documentation/arch/x86/{boot,zero-page}.rst` and
//! `arch/x86/include/uapi/asm/bootparam.h`, Linux 6.12. It starts empty and takes the kernel's own
//! setup header; from the running kernel come the screen, the ACPI root pointer, EFI, and the
//! memory map. Together with the 64-bit entry stub, the command line and the list of setup_data
//! it is one block, made for one physical address.
//!
//! Not passed on: EDD, EDID, APM and drive parameters (no 64-bit kernel needs them to boot).

use super::efi::{self, SETUP_EFI};
use super::machine::{Machine, SETUP_E820_EXT};
use super::ram::RamMap;
use super::setup_header::{HEADER_AT, SetupHeader};
use super::stub;

/// Size of `struct boot_params`.
pub(super) const LEN: usize = 4096;
/// Where the entry stub stands in the block.
pub(super) const STUB_AT: usize = LEN;
/// Where the command line stands in the block.
pub(super) const CMDLINE_AT: usize = STUB_AT + 256;

/// Memory map entries that fit into `struct boot_params`.
const E820_MAX: usize = 128;
const E820_AT: usize = 0x2d0;
const E820_ENTRY_LEN: usize = 20;
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;
const SETUP_RNG_SEED: u32 = 9;
/// "Assigned to no boot loader".
const TYPE_OF_LOADER: u8 = 0xff;
const LOADED_HIGH: u8 = 1;

/// A range of the firmware's memory map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct E820Entry {
    pub(super) address: u64,
    pub(super) size: u64,
    pub(super) kind: u32,
}

/// What differs from boot to boot.
pub(super) struct Start<'a> {
    /// Physical address of the block that is made here; a multiple of the page size.
    pub(super) address: u64,
    /// Physical address of the kernel's 64-bit entry point.
    pub(super) entry: u64,
    /// Address and size of the initramfs.
    pub(super) initramfs: (u64, u64),
    /// Printable, and short enough for this kernel.
    pub(super) cmdline: &'a str,
    /// For the next kernel's random number generator.
    pub(super) seed: Option<[u8; 32]>,
}

/// Makes the block.
pub(super) fn block(header: &SetupHeader, machine: &Machine, start: &Start<'_>) -> Vec<u8> {
    let mut block = vec![0; CMDLINE_AT];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    let low_high = |value: u64| {
        let bytes = value.to_le_bytes();
        (
            [bytes[0], bytes[1], bytes[2], bytes[3]],
            [bytes[4], bytes[5], bytes[6], bytes[7]],
        )
    };
    put(HEADER_AT, &header.bytes);
    put(0x210, &[TYPE_OF_LOADER]);
    put(0x211, &[header.bytes[0x211 - HEADER_AT] & LOADED_HIGH]);
    put(0x000, &machine.boot_params[..0x40]); // screen_info
    put(0x1ec, &machine.boot_params[0x1ec..0x1ed]); // secure_boot
    put(0x070, &machine.acpi_root.to_le_bytes());
    for (at, at_high, value) in [
        (0x218, 0x0c0, start.initramfs.0),
        (0x21c, 0x0c4, start.initramfs.1),
        (0x228, 0x0c8, start.address + CMDLINE_AT as u64),
    ] {
        let (low, high) = low_high(value);
        put(at, &low);
        put(at_high, &high);
    }
    let e820 = usable_by_next_kernel(&machine.e820, &machine.ram);
    let (fitting, more) = e820.split_at(e820.len().min(E820_MAX));
    put(0x1e8, &[fitting.len() as u8]);
    put(E820_AT, &e820_bytes(fitting));
    put(
        STUB_AT,
        &stub::entry_64(start.address + STUB_AT as u64, start.address, start.entry),
    );

    block.extend_from_slice(start.cmdline.as_bytes());
    block.push(0);
    let mut list = 0;
    if let Some(efi) = machine.efi.as_ref().filter(|_| header.efi_kexec) {
        let map = efi.memory_map();
        let map_address = append(&mut block, start.address, &map);
        let (low, high) = low_high(map_address);
        let info = [
            &machine.boot_params[0x1c0..0x1c8], // loader signature, system table
            &(efi::DESCRIPTOR_LEN as u32).to_le_bytes(),
            &machine.boot_params[0x1cc..0x1d0], // descriptor version
            &low,
            &(map.len() as u32).to_le_bytes(),
            &machine.boot_params[0x1d8..0x1dc], // system table, upper half
            &high,
        ]
        .concat();
        block[0x1c0..0x1e0].copy_from_slice(&info);
        list = append_setup_data(
            &mut block,
            start.address,
            list,
            SETUP_EFI,
            &efi.setup_data(),
        );
    }
    if !more.is_empty() {
        let more = e820_bytes(more);
        list = append_setup_data(
            &mut block,
            start.address,
            list,
            SETUP_E820_EXT as u32,
            &more,
        );
    }
    if let Some(seed) = &start.seed {
        list = append_setup_data(&mut block, start.address, list, SETUP_RNG_SEED, seed);
    }
    block[0x250..0x258].copy_from_slice(&list.to_le_bytes());
    block
}

/// Entries of the running kernel's boot parameters.
pub(super) fn e820_of(boot_params: &[u8]) -> Vec<E820Entry> {
    let count = boot_params
        .get(0x1e8)
        .map_or(0, |count| usize::from(*count).min(E820_MAX));
    let table = boot_params.get(E820_AT..E820_AT + count * E820_ENTRY_LEN);
    e820_entries(table.unwrap_or_default())
}

/// Entries as they stand in memory; a last one that is cut short is left out.
pub(super) fn e820_entries(bytes: &[u8]) -> Vec<E820Entry> {
    let word = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    bytes
        .chunks_exact(E820_ENTRY_LEN)
        .map(|entry| E820Entry {
            address: word(&entry[..8]),
            size: word(&entry[8..16]),
            kind: word(&entry[16..]) as u32,
        })
        .collect()
}

/// The ACPI root pointer in the running kernel's boot parameters.
pub(super) fn acpi_root_of(boot_params: &[u8]) -> u64 {
    boot_params.get(0x70..0x78).map_or(0, |bytes| {
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    })
}

/// Whether 64-bit EFI firmware started the running kernel and left it a memory map.
pub(super) fn has_64_bit_efi(boot_params: &[u8]) -> bool {
    boot_params.get(0x1c0..0x1c4) == Some(efi::SIGNATURE_64)
        && boot_params
            .get(0x1d4..0x1d8)
            .is_some_and(|size| size != [0; 4])
}

/// The firmware's map, but RAM only where the running kernel has RAM too. What it holds back
/// (page 0, EFI tables in boot services memory) the next kernel must not overwrite either.
fn usable_by_next_kernel(firmware: &[E820Entry], ram: &RamMap) -> Vec<E820Entry> {
    let mut out = Vec::with_capacity(firmware.len() + ram.ranges().len());
    for entry in firmware {
        let end = entry.address.saturating_add(entry.size);
        if entry.kind != E820_RAM {
            out.push(*entry);
            continue;
        }
        let mut at = entry.address;
        let mut push = |from: u64, to: u64, kind| {
            if from < to {
                out.push(E820Entry {
                    address: from,
                    size: to - from,
                    kind,
                });
            }
        };
        for range in ram.ranges() {
            let from = range.start.clamp(at, end.max(at));
            let to = range.end.clamp(from, end.max(from));
            if from < to {
                push(at, from, E820_RESERVED);
                push(from, to, E820_RAM);
                at = to;
            }
        }
        push(at, end, E820_RESERVED);
    }
    out
}

fn e820_bytes(entries: &[E820Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * E820_ENTRY_LEN);
    for entry in entries {
        bytes.extend_from_slice(&entry.address.to_le_bytes());
        bytes.extend_from_slice(&entry.size.to_le_bytes());
        bytes.extend_from_slice(&entry.kind.to_le_bytes());
    }
    bytes
}

/// Appends at a multiple of 16 and returns the physical address.
fn append(block: &mut Vec<u8>, base: u64, bytes: &[u8]) -> u64 {
    block.resize(block.len().next_multiple_of(16), 0);
    let address = base + block.len() as u64;
    block.extend_from_slice(bytes);
    address
}

/// Appends `struct setup_data` and returns its physical address, the new head of the list.
fn append_setup_data(block: &mut Vec<u8>, base: u64, next: u64, kind: u32, data: &[u8]) -> u64 {
    let mut entry = next.to_le_bytes().to_vec();
    entry.extend_from_slice(&kind.to_le_bytes());
    entry.extend_from_slice(&(data.len() as u32).to_le_bytes());
    entry.extend_from_slice(data);
    append(block, base, &entry)
}

#[cfg(test)]
mod tests;
