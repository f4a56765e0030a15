//! Golden bytes of the block that the next kernel is started with. When one of these fails, the
//! code is wrong.

use super::*;
use crate::handoff::efi::{EfiState, Region};
use crate::handoff::meminfo::MemInfo;
use crate::handoff::setup_header::tests::synthetic;

const BASE: u64 = 0x1_2345_6000;

fn machine(efi: bool) -> Machine {
    let mut boot_params = vec![0xaa; LEN];
    boot_params[..0x40].fill(0x5c); // screen_info
    boot_params[0x1ec] = 2; // secure_boot: disabled
    boot_params[0x1c0..0x1c4].copy_from_slice(b"EL64");
    boot_params[0x1c4..0x1c8].copy_from_slice(&[0x18, 0xe0, 0x9e, 0x7f]); // system table
    boot_params[0x1cc..0x1d0].copy_from_slice(&[1, 0, 0, 0]); // descriptor version
    boot_params[0x1d8..0x1dc].copy_from_slice(&[0, 0, 0, 0]); // system table, upper half
    Machine {
        memory: MemInfo {
            total: 1 << 30,
            available: 1 << 30,
        },
        ram: RamMap::parse("00001000-0009fbff : System RAM\n00100000-3fffffff : System RAM\n"),
        boot_params,
        e820: vec![
            E820Entry {
                address: 0,
                size: 0x9fc00,
                kind: 1,
            },
            E820Entry {
                address: 0x9fc00,
                size: 0x400,
                kind: 2,
            },
            E820Entry {
                address: 0x10_0000,
                size: 0x3ff0_0000,
                kind: 1,
            },
        ],
        acpi_root: 0xf_5270,
        efi: efi.then(|| EfiState {
            vendor: 0x10,
            tables: 0x20,
            smbios: 0x30,
            regions: vec![Region {
                kind: 5,
                physical: 0x7000,
                ..Region::default()
            }],
        }),
    }
}

fn start(cmdline: &str) -> Start<'_> {
    Start {
        address: BASE,
        entry: 0x200_0200,
        initramfs: (0x2_4000_0000, 0x1_0000_1234),
        cmdline,
        seed: None,
    }
}

fn word(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(block[at..at + 8].try_into().unwrap())
}

#[test]
fn the_zero_page_of_a_bios_machine() {
    let header = SetupHeader::parse(&synthetic(5000)).unwrap();
    let block = block(&header, &machine(false), &start("quiet"));
    let mut golden = vec![0; LEN];
    golden[..0x40].fill(0x5c); // screen_info, from the running kernel
    golden[0x070..0x078].copy_from_slice(&[0x70, 0x52, 0x0f, 0, 0, 0, 0, 0]); // acpi_rsdp_addr
    golden[0x0c0..0x0c4].copy_from_slice(&[2, 0, 0, 0]); // ext_ramdisk_image
    golden[0x0c4..0x0c8].copy_from_slice(&[1, 0, 0, 0]); // ext_ramdisk_size
    golden[0x0c8..0x0cc].copy_from_slice(&[1, 0, 0, 0]); // ext_cmd_line_ptr
    golden[0x1e8] = 4; // e820_entries
    golden[0x1ec] = 2; // secure_boot
    golden[0x1f1] = 2; // setup_sects
    golden[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]); // boot_flag
    golden[0x200..0x202].copy_from_slice(&[0xeb, 0x6a]); // jump
    golden[0x202..0x206].copy_from_slice(b"HdrS"); // header
    golden[0x206..0x208].copy_from_slice(&[0x0f, 0x02]); // version
    golden[0x210] = 0xff; // type_of_loader
    golden[0x211] = 0x01; // loadflags: LOADED_HIGH alone
    golden[0x218..0x21c].copy_from_slice(&[0, 0, 0, 0x40]); // ramdisk_image
    golden[0x21c..0x220].copy_from_slice(&[0x34, 0x12, 0, 0]); // ramdisk_size
    golden[0x228..0x22c].copy_from_slice(&[0x00, 0x71, 0x45, 0x23]); // cmd_line_ptr
    golden[0x22c..0x230].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f]); // initrd_addr_max
    golden[0x230..0x234].copy_from_slice(&[0, 0, 0x20, 0]); // kernel_alignment
    golden[0x234] = 1; // relocatable_kernel
    golden[0x236] = 0x3f; // xloadflags
    golden[0x238..0x23c].copy_from_slice(&[0xff, 0x07, 0, 0]); // cmdline_size
    golden[0x258..0x260].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0]); // pref_address
    golden[0x260..0x264].copy_from_slice(&[0, 0, 0, 2]); // init_size
    #[rustfmt::skip]
    let e820 = [
        [0, 0, 0, 0, 0, 0, 0, 0,     0, 0x10, 0, 0, 0, 0, 0, 0,          2, 0, 0, 0], // page 0
        [0, 0x10, 0, 0, 0, 0, 0, 0,  0, 0xec, 9, 0, 0, 0, 0, 0,          1, 0, 0, 0],
        [0, 0xfc, 9, 0, 0, 0, 0, 0,  0, 4, 0, 0, 0, 0, 0, 0,             2, 0, 0, 0],
        [0, 0, 0x10, 0, 0, 0, 0, 0,  0, 0, 0xf0, 0x3f, 0, 0, 0, 0,       1, 0, 0, 0],
    ]
    .concat();
    golden[0x2d0..0x2d0 + 80].copy_from_slice(&e820);
    for (at, (found, wanted)) in block.iter().zip(&golden).enumerate() {
        assert_eq!(found, wanted, "at {at:#x}");
    }
    assert_eq!(&block[CMDLINE_AT..], b"quiet\0");
    assert_eq!(
        block[STUB_AT..STUB_AT + stub::LEN],
        stub::entry_64(BASE + 0x1000, BASE, 0x200_0200)
    );
}

#[test]
fn setup_data_is_a_list_of_efi_more_memory_and_seed() {
    let header = SetupHeader::parse(&synthetic(5000)).unwrap();
    let mut machine = machine(true);
    machine.ram = RamMap::parse("0-ffffffffff : System RAM\n");
    machine.e820 = (0..130)
        .map(|index| E820Entry {
            address: index << 20,
            size: 1 << 20,
            kind: 1,
        })
        .collect();
    let block = block(
        &header,
        &machine,
        &Start {
            seed: Some([9; 32]),
            ..start("")
        },
    );
    assert_eq!(block[0x1e8], 128);

    let entry = |address: u64| {
        let at = (address - BASE) as usize;
        let length = u32::from_le_bytes(block[at + 12..at + 16].try_into().unwrap()) as usize;
        let kind = u32::from_le_bytes(block[at + 8..at + 12].try_into().unwrap());
        (word(&block, at), kind, &block[at + 16..at + 16 + length])
    };
    let (next, kind, data) = entry(word(&block, 0x250));
    assert_eq!((kind, data), (9, &[9; 32][..]));
    let (next, kind, data) = entry(next);
    assert_eq!(kind, 1);
    assert_eq!(e820_entries(data), machine.e820[128..]);
    let (next, kind, data) = entry(next);
    assert_eq!((next, kind, data.len()), (0, 4, 96));
    assert_eq!(word(data, 16), 0x20);
}

#[test]
fn efi_info_points_at_the_runtime_map() {
    let header = SetupHeader::parse(&synthetic(5000)).unwrap();
    let machine = machine(true);
    let block = block(&header, &machine, &start(""));
    let map_at = (CMDLINE_AT + 1).next_multiple_of(16);
    let map_address = BASE + map_at as u64;
    let golden = [
        &b"EL64"[..],                        // efi_loader_signature
        &[0x18, 0xe0, 0x9e, 0x7f],           // efi_systab
        &[40, 0, 0, 0],                      // efi_memdesc_size
        &[1, 0, 0, 0],                       // efi_memdesc_version
        &(map_address as u32).to_le_bytes(), // efi_memmap
        &[40, 0, 0, 0],                      // efi_memmap_size
        &[0, 0, 0, 0],                       // efi_systab_hi
        &[1, 0, 0, 0],                       // efi_memmap_hi
    ]
    .concat();
    assert_eq!(block[0x1c0..0x1e0], golden);
    assert_eq!(
        block[map_at..map_at + 40],
        machine.efi.unwrap().memory_map()
    );
}

#[test]
fn a_kernel_that_cannot_take_efi_over_is_not_told_of_it() {
    let mut kernel = synthetic(5000);
    kernel[0x236] = 0x03;
    let header = SetupHeader::parse(&kernel).unwrap();
    let block = block(&header, &machine(true), &start(""));
    assert_eq!(block[0x1c0..0x1e0], [0; 32]);
    assert_eq!(word(&block, 0x250), 0);
}

#[test]
fn ram_that_the_running_kernel_holds_back_is_reserved() {
    let ram = RamMap::parse("100000-1fffff : System RAM\n300000-3fffff : System RAM\n");
    let entry = |address, size, kind| E820Entry {
        address,
        size,
        kind,
    };
    let firmware = [entry(0x18_0000, 0x20_0000, 1), entry(0x50_0000, 0x1000, 1)];
    assert_eq!(
        usable_by_next_kernel(&firmware, &ram),
        [
            entry(0x18_0000, 0x8_0000, 1),
            entry(0x20_0000, 0x10_0000, 2),
            entry(0x30_0000, 0x8_0000, 1),
            entry(0x50_0000, 0x1000, 2),
        ]
    );
    let endless = [entry(u64::MAX - 5, u64::MAX, 1)];
    assert_eq!(
        usable_by_next_kernel(&endless, &ram),
        [entry(u64::MAX - 5, 5, 2)]
    );
}
