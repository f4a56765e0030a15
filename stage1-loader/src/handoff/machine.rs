//! What does the running kernel know that the next one must be told?
//!
//! Everything comes from `/proc` and `/sys` below a root that is an argument, so that tests bring
//! their own: RAM, its use, the boot parameters this kernel was started with
//! (`Documentation/ABI/testing/sysfs-kernel-boot_params`), and the state of EFI.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::boot_params::{self, E820Entry};
use super::efi::{self, EfiState, Region};
use super::meminfo::MemInfo;
use super::ram::RamMap;

/// Longest file of `/proc` or `/sys` that is read.
const MAX_FILE: u64 = 1 << 20;
/// `SETUP_E820_EXT`: memory map entries that did not fit into the boot parameters.
pub(super) const SETUP_E820_EXT: u64 = 1;

/// The machine, as far as a hand-off needs it.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Size and use of RAM when this was read.
    pub memory: MemInfo,
    /// Where RAM is.
    pub ram: RamMap,
    /// `struct boot_params` of the running kernel.
    pub(super) boot_params: Vec<u8>,
    /// The firmware's memory map.
    pub(super) e820: Vec<E820Entry>,
    /// Address of the ACPI root pointer, 0 if unknown.
    pub(super) acpi_root: u64,
    pub(super) efi: Option<EfiState>,
}

/// A file of the running kernel that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {found}")]
pub struct MachineError {
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub found: String,
}

impl Machine {
    /// Reads the machine's state below `root` (`/` outside tests).
    pub fn read(root: &Path) -> Result<Machine, MachineError> {
        let memory = MemInfo::read(root)?;
        let ram = RamMap::parse(&text(root, "proc/iomem")?);
        if ram.ranges().is_empty() {
            return Err(error(root, "proc/iomem", "no System RAM"));
        }
        const PARAMS: &str = "sys/kernel/boot_params/data";
        let boot_params = bytes(root, PARAMS)?;
        if boot_params.len() != boot_params::LEN {
            return Err(error(root, PARAMS, "not 4096 bytes"));
        }
        let mut e820 = boot_params::e820_of(&boot_params);
        for entry in setup_data(root, SETUP_E820_EXT) {
            e820.extend(boot_params::e820_entries(&entry));
        }
        let systab = text(root, "sys/firmware/efi/systab").unwrap_or_default();
        let acpi_root = match boot_params::acpi_root_of(&boot_params) {
            0 => efi::table_address(&systab, "ACPI20")
                .or_else(|| efi::table_address(&systab, "ACPI"))
                .unwrap_or(0),
            address => address,
        };
        let efi = match boot_params::has_64_bit_efi(&boot_params) {
            true => efi_state(root, &systab),
            false => None,
        };
        Ok(Machine {
            memory,
            ram,
            boot_params,
            e820,
            acpi_root,
            efi,
        })
    }

    /// Whether the next kernel, started by our own `kexec_load`, will have EFI runtime services.
    pub fn has_efi_runtime(&self) -> bool {
        self.efi.is_some()
    }
}

/// `None` when the kernel does not use runtime services (`efi=noruntime`, 32-bit firmware).
fn efi_state(root: &Path, systab: &str) -> Option<EfiState> {
    let number = |path: &str| efi::hexadecimal(&text(root, path).ok()?);
    let mut regions = Vec::new();
    for index in 0..efi::MAX_REGIONS {
        let field = |name| number(&format!("sys/firmware/efi/runtime-map/{index}/{name}"));
        let Some(kind) = field("type") else { break };
        regions.push(Region {
            kind: u32::try_from(kind).ok()?,
            physical: field("phys_addr")?,
            virtual_address: field("virt_addr")?,
            pages: field("num_pages")?,
            attribute: field("attribute")?,
        });
    }
    if regions.is_empty() {
        return None;
    }
    Some(EfiState {
        vendor: number("sys/firmware/efi/fw_vendor")?,
        tables: number("sys/firmware/efi/config_table")?,
        smbios: efi::table_address(systab, "SMBIOS").unwrap_or(0),
        regions,
    })
}

/// Data of the setup_data entries of one type.
fn setup_data(root: &Path, kind: u64) -> Vec<Vec<u8>> {
    const DIRECTORY: &str = "sys/kernel/boot_params/setup_data";
    let Ok(entries) = fs::read_dir(root.join(DIRECTORY)) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names
        .iter()
        .filter_map(|name| {
            let entry = format!("{DIRECTORY}/{}", name.to_str()?);
            let found = text(root, &format!("{entry}/type")).ok()?;
            (efi::hexadecimal(&found)? == kind).then_some(())?;
            bytes(root, &format!("{entry}/data")).ok()
        })
        .collect()
}

pub(super) fn text(root: &Path, path: &str) -> Result<String, MachineError> {
    String::from_utf8(bytes(root, path)?).map_err(|_| error(root, path, "not UTF-8"))
}

fn bytes(root: &Path, path: &str) -> Result<Vec<u8>, MachineError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(root.join(path))?
            .take(MAX_FILE)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|cause| error(root, path, &cause.to_string()))
}

pub(super) fn error(root: &Path, path: &str, found: &str) -> MachineError {
    MachineError {
        path: root.join(path).display().to_string(),
        found: found.to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The files of a machine with 4 GiB, and EFI if wanted.
    pub(in super::super) fn write_machine(root: &Path, with_efi: bool) {
        let write = |path: &str, data: &[u8]| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, data).unwrap();
        };
        write(
            "proc/meminfo",
            b"MemTotal:        4000000 kB\nMemFree:         3900000 kB\nMemAvailable:    3800000 kB\n",
        );
        write(
            "proc/iomem",
            b"00001000-0009ffff : System RAM\n\
              00100000-bfffffff : System RAM\n\
              100000000-13fffffff : System RAM\n",
        );
        let mut params = vec![0; 4096];
        params[0] = 0x03; // screen_info.orig_x
        params[0x1e8] = 1;
        params[0x2d0..0x2d8].copy_from_slice(&0u64.to_le_bytes());
        params[0x2d8..0x2e0].copy_from_slice(&0xa_0000u64.to_le_bytes());
        params[0x2e0] = 1;
        if with_efi {
            params[0x1c0..0x1c4].copy_from_slice(b"EL64");
            params[0x1c4..0x1c8].copy_from_slice(&0x7f9e_e018_u32.to_le_bytes()); // system table
            params[0x1cc] = 1; // descriptor version
            params[0x1d4] = 48; // memory map size, of the first kernel's map
        }
        write("sys/kernel/boot_params/data", &params);
        let more: Vec<u8> = [
            &0x10_0000u64.to_le_bytes()[..],
            &0xbff0_0000u64.to_le_bytes(),
            &1u32.to_le_bytes(),
            &0x1_0000_0000u64.to_le_bytes(),
            &0x4000_0000u64.to_le_bytes(),
            &1u32.to_le_bytes(),
        ]
        .concat();
        write("sys/kernel/boot_params/setup_data/0/type", b"0x9\n");
        write("sys/kernel/boot_params/setup_data/0/data", &[1; 32]);
        write("sys/kernel/boot_params/setup_data/1/type", b"0x1\n");
        write("sys/kernel/boot_params/setup_data/1/data", &more);
        if with_efi {
            write(
                "sys/firmware/efi/systab",
                b"ACPI20=0xbfb7e014\nACPI=0xbfb7e000\nSMBIOS=0xbf9cc000\n",
            );
            write("sys/firmware/efi/fw_vendor", b"0xbf9ee0a8\n");
            write("sys/firmware/efi/config_table", b"0xbf9ed018\n");
            for (index, physical) in ["0xbf8ed000", "0xbfbed000"].iter().enumerate() {
                for (name, value) in [
                    ("type", "0x6"),
                    ("phys_addr", physical),
                    ("virt_addr", "0xfffffffeffc00000"),
                    ("num_pages", "0x100"),
                    ("attribute", "0x800000000000000f"),
                ] {
                    let path = format!("sys/firmware/efi/runtime-map/{index}/{name}");
                    write(&path, format!("{value}\n").as_bytes());
                }
            }
        }
    }

    #[test]
    fn reads_memory_map_entries_beyond_the_boot_parameters() {
        let root = tempfile::tempdir().unwrap();
        write_machine(root.path(), false);
        let machine = Machine::read(root.path()).unwrap();
        assert_eq!(machine.e820.len(), 3);
        assert_eq!(
            machine.e820[2],
            E820Entry {
                address: 1 << 32,
                size: 1 << 30,
                kind: 1
            }
        );
        assert_eq!(machine.memory.available, 3_800_000 * 1024);
        assert_eq!(machine.acpi_root, 0);
        assert!(!machine.has_efi_runtime());
    }

    #[test]
    fn reads_the_state_of_efi() {
        let root = tempfile::tempdir().unwrap();
        write_machine(root.path(), true);
        let machine = Machine::read(root.path()).unwrap();
        let efi = machine.efi.unwrap();
        assert_eq!(
            (efi.vendor, efi.tables, efi.smbios),
            (0xbf9e_e0a8, 0xbf9e_d018, 0xbf9c_c000)
        );
        assert_eq!(efi.regions.len(), 2);
        assert_eq!(efi.regions[1].physical, 0xbfbe_d000);
        assert_eq!(machine.acpi_root, 0xbfb7_e014);
    }

    #[test]
    fn efi_without_a_runtime_map_is_no_efi() {
        let root = tempfile::tempdir().unwrap();
        write_machine(root.path(), true);
        fs::remove_dir_all(root.path().join("sys/firmware/efi/runtime-map")).unwrap();
        assert!(!Machine::read(root.path()).unwrap().has_efi_runtime());
    }

    #[test]
    fn names_the_file_that_is_missing_or_wrong() {
        let root = tempfile::tempdir().unwrap();
        write_machine(root.path(), false);
        let params = root.path().join("sys/kernel/boot_params/data");
        fs::write(&params, [0; 100]).unwrap();
        let error = Machine::read(root.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("sys/kernel/boot_params/data: not 4096 bytes")
        );
        fs::write(
            root.path().join("proc/iomem"),
            "00000000-00000000 : System RAM\n",
        )
        .unwrap();
        let error = Machine::read(root.path()).unwrap_err();
        assert!(error.path.ends_with("proc/iomem"), "{error}");
    }
}
