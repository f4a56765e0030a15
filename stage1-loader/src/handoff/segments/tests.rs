//! Whether every part of the next system gets a place of its own in RAM.

use super::*;
use crate::handoff::machine::tests::write_machine;
use crate::handoff::ram::RamMap;
use crate::handoff::setup_header::tests::synthetic;
use proptest::prelude::*;

fn machine(efi: bool) -> Machine {
    let root = tempfile::tempdir().unwrap();
    write_machine(root.path(), efi);
    Machine::read(root.path()).unwrap()
}

fn parts<'a>(kernel: &'a [u8], initramfs: Vec<&'a [u8]>) -> Parts<'a> {
    Parts {
        kernel,
        initramfs,
        pmem: None,
        cmdline: "quiet",
        seed: None,
    }
}

#[test]
fn pieces_of_the_initramfs_follow_each_other_on_pages() {
    let kernel = synthetic(5000);
    let (first, second) = (vec![1; 5000], vec![2; 10]);
    let machine = machine(false);
    let found = arrange(&parts(&kernel, vec![&first, &second]), &machine).unwrap();
    let [code, one, two, block] = &found.segments[..] else {
        panic!("four segments")
    };
    assert_eq!(*code.bytes, kernel[1536..]);
    assert_eq!((code.address % (2 << 20), code.memory), (0, 32 << 20));
    assert_eq!(two.address, one.address + 8192);
    assert_eq!(two.address + two.memory, 5 << 30, "as high as RAM goes");
    assert_eq!(found.entry, block.address + 4096);
    let word = |at: usize| u32::from_le_bytes(block.bytes[at..at + 4].try_into().unwrap());
    assert_eq!(
        u64::from(word(0x218)) | u64::from(word(0xc0)) << 32,
        one.address
    );
    assert_eq!(word(0x21c), 8192 + 10);
    assert_eq!(word(0x228), block.address as u32 + 4096 + 256);
    assert_eq!(
        &block.bytes[4096 + 0x24..4096 + 0x2c],
        (code.address + 0x200).to_le_bytes()
    );
}

#[test]
fn an_initramfs_that_must_stand_low_stands_low() {
    let mut kernel = synthetic(5000);
    kernel[0x236] = 0x01;
    let initramfs = vec![1; 5000];
    let found = arrange(&parts(&kernel, vec![&initramfs]), &machine(false)).unwrap();
    assert!(found.segments[1].address + found.segments[1].memory <= 0x8000_0000);
}

#[test]
fn without_initramfs_none_is_announced() {
    let kernel = synthetic(5000);
    let found = arrange(&parts(&kernel, vec![]), &machine(true)).unwrap();
    assert_eq!(found.segments.len(), 2);
    assert_eq!(found.segments[1].bytes[0x218..0x220], [0; 8]);
}

#[test]
fn persistent_memory_stands_where_it_was_announced() {
    let kernel = synthetic(5000);
    let image = vec![3; 9000];
    let mut parts = parts(&kernel, vec![]);
    parts.pmem = Some((0x1_3000_0000, &image));
    let found = arrange(&parts, &machine(false)).unwrap();
    assert_eq!(
        (found.segments[0].address, found.segments[0].memory),
        (0x1_3000_0000, 12288)
    );
    parts.pmem = Some((0xc000_0000, &image));
    let error = arrange(&parts, &machine(false)).unwrap_err();
    assert_eq!(
        error,
        ArrangeError::NoRoom {
            part: "image",
            size: 12288
        }
    );
}

#[test]
fn says_what_does_not_fit() {
    let kernel = synthetic(5000);
    let mut small = machine(false);
    small.ram = RamMap::parse("00100000-02ffffff : System RAM\n");
    let error = arrange(&parts(&kernel, vec![]), &small).unwrap_err();
    assert_eq!(
        error,
        ArrangeError::NoRoom {
            part: "boot parameters",
            size: 8192
        }
    );
    small.ram = RamMap::parse("00100000-02fffffe : System RAM\n");
    let error = arrange(&parts(&kernel, vec![]), &small).unwrap_err();
    assert_eq!(
        error,
        ArrangeError::NoRoom {
            part: "kernel",
            size: 32 << 20
        }
    );

    let piece = [0];
    let many = vec![&piece[..]; 15];
    let error = arrange(&parts(&kernel, many), &machine(false)).unwrap_err();
    assert_eq!(error, ArrangeError::Segments { count: 17 });
    let long = "x".repeat(2048);
    let error = arrange(
        &Parts {
            cmdline: &long,
            ..parts(&kernel, vec![])
        },
        &machine(false),
    )
    .unwrap_err();
    assert_eq!(
        error,
        ArrangeError::Cmdline {
            length: 2048,
            maximum: 2047
        }
    );
}

proptest! {
    #[test]
    fn segments_are_whole_pages_in_ram_that_never_overlap(
        sizes in prop::collection::vec(1usize..100_000, 0..10),
        ranges in prop::collection::vec((0u64..0x10_0000, 1u64..0x2_0000), 1..6),
        pmem in prop::option::of(0u64..0x10_0000),
    ) {
        let kernel = synthetic(5000);
        let pieces: Vec<Vec<u8>> = sizes.iter().map(|size| vec![7; *size]).collect();
        let iomem: String = ranges.iter()
            .map(|(start, pages)| format!("{:x}-{:x} : System RAM\n", start * PAGE, (start + pages) * PAGE - 1))
            .collect();
        let mut machine = machine(true);
        machine.ram = RamMap::parse(&iomem);
        let mut parts = parts(&kernel, pieces.iter().map(|piece| &piece[..]).collect());
        let image = vec![1; 50_000];
        parts.pmem = pmem.map(|page| (page * PAGE, &image[..]));
        let Ok(found) = arrange(&parts, &machine) else { return Ok(()) };
        prop_assert!(found.segments.len() <= MAX_SEGMENTS);
        for (index, segment) in found.segments.iter().enumerate() {
            let end = segment.address + segment.memory;
            prop_assert_eq!((segment.address % PAGE, segment.memory % PAGE), (0, 0));
            prop_assert!(segment.bytes.len() as u64 <= segment.memory);
            prop_assert!(segment.address >= 1 << 20);
            prop_assert!(machine.ram.ranges().iter().any(|ram| ram.start <= segment.address && end <= ram.end));
            for other in &found.segments[..index] {
                prop_assert!(end <= other.address || other.address + other.memory <= segment.address);
            }
        }
    }
}
