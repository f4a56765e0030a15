//! What must the next kernel know to keep using EFI runtime services?
//!
//! The firmware's services are bound to virtual addresses once per boot, by the first kernel. A
//! later kernel must map them at the same addresses, and finds the tables whose pointers were
//! rewritten then through a `SETUP_EFI` entry (Linux 6.12: `struct efi_setup_data` in
//! `arch/x86/include/asm/setup_data.h`, read by `arch/x86/platform/efi/{efi,efi_64,quirks}.c`).
//! The running kernel tells both in `/sys/firmware/efi`
//! (`Documentation/ABI/testing/sysfs-firmware-efi{,-runtime-map}`).
//!
//! 64-bit firmware only. Without this state the next kernel starts as well, but without runtime
//! services: no EFI variables, no reset through the firmware.
//!
//! One table is lost whichever way the next kernel is loaded: the memory attributes lie in memory
//! that Linux 6.12 frees after its start. The next kernel finds other bytes there, says "Unexpected
//! EFI Memory Attributes table version" and goes on without (seen with OVMF 2022.11).

/// `efi_loader_signature` of 64-bit firmware.
pub(super) const SIGNATURE_64: &[u8; 4] = b"EL64";
/// Type of the setup_data entry.
pub(super) const SETUP_EFI: u32 = 4;
/// Size of a descriptor of version 1: UEFI 2.10, section 7.2.3.
pub(super) const DESCRIPTOR_LEN: usize = 40;
/// More regions than any firmware has; the map must fit beside the command line.
pub(super) const MAX_REGIONS: usize = 1024;

/// State of EFI runtime services in the running kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct EfiState {
    /// Physical address of the firmware vendor's name.
    pub(super) vendor: u64,
    /// Physical address of the configuration tables.
    pub(super) tables: u64,
    /// Physical address of the SMBIOS entry point, 0 if there is none.
    pub(super) smbios: u64,
    /// The regions that runtime services use, as the kernel has mapped them.
    pub(super) regions: Vec<Region>,
}

/// One EFI memory descriptor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) kind: u32,
    pub(super) physical: u64,
    pub(super) virtual_address: u64,
    /// Pages of 4 KiB.
    pub(super) pages: u64,
    pub(super) attribute: u64,
}

impl EfiState {
    /// The memory map for `efi_info`.
    pub(super) fn memory_map(&self) -> Vec<u8> {
        let mut map = Vec::with_capacity(self.regions.len() * DESCRIPTOR_LEN);
        for region in &self.regions {
            map.extend_from_slice(&region.kind.to_le_bytes());
            map.extend_from_slice(&[0; 4]);
            map.extend_from_slice(&region.physical.to_le_bytes());
            map.extend_from_slice(&region.virtual_address.to_le_bytes());
            map.extend_from_slice(&region.pages.to_le_bytes());
            map.extend_from_slice(&region.attribute.to_le_bytes());
        }
        map
    }

    /// The data of the `SETUP_EFI` entry: vendor, an unused word, tables, SMBIOS, eight reserved.
    pub(super) fn setup_data(&self) -> Vec<u8> {
        [
            self.vendor,
            0,
            self.tables,
            self.smbios,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
    }
}

/// The address after `NAME=` in `/sys/firmware/efi/systab`.
pub(super) fn table_address(systab: &str, name: &str) -> Option<u64> {
    systab
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .and_then(hexadecimal)
}

/// A number as sysfs writes it: `0x`, digits, line end.
pub(super) fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_end().strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_have_the_firmware_layout() {
        let state = EfiState {
            vendor: 0x1111,
            tables: 0x2222,
            smbios: 0x3333,
            regions: vec![Region {
                kind: 6,
                physical: 0x7f00_0000,
                virtual_address: 0xffff_fffe_fee0_0000,
                pages: 0x20,
                attribute: 0x8000_0000_0000_000f,
            }],
        };
        let map = [
            &[6, 0, 0, 0][..],                           // type
            &[0, 0, 0, 0],                               // padding
            &[0, 0, 0, 0x7f, 0, 0, 0, 0],                // physical start
            &[0, 0, 0xe0, 0xfe, 0xfe, 0xff, 0xff, 0xff], // virtual start
            &[0x20, 0, 0, 0, 0, 0, 0, 0],                // pages
            &[0x0f, 0, 0, 0, 0, 0, 0, 0x80],             // attribute
        ]
        .concat();
        assert_eq!(state.memory_map(), map);
        let data = state.setup_data();
        assert_eq!(data.len(), 96);
        assert_eq!(data[..2], [0x11, 0x11]);
        assert_eq!(data[8..16], [0; 8]);
        assert_eq!(data[16..18], [0x22, 0x22]);
        assert_eq!(data[24..26], [0x33, 0x33]);
        assert_eq!(data[32..], [0; 64]);
    }

    #[test]
    fn finds_a_table_by_its_whole_name() {
        let systab = "ACPI20=0x7fb7e014\nSMBIOS3=0x1\nSMBIOS=0x7f9cc000\n";
        assert_eq!(table_address(systab, "SMBIOS"), Some(0x7f9c_c000));
        assert_eq!(table_address(systab, "ACPI"), None);
        assert_eq!(table_address("SMBIOS=junk\n", "SMBIOS"), None);
    }
}
