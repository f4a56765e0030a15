//! The finished file, as another program's cpio and our own counting see it.

use super::*;
use crate::handoff::memory::{MemoryPlan, Method};
use boot_config::hand_off::{Member, PmemRange};
use fetch::Sink;
use proptest::prelude::*;
use sparetire_manifest::*;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

/// A manifest of `size` bytes: kernel at 4096, two initrds behind it.
pub(in super::super) fn manifest(size: u64, medium: Medium) -> Manifest {
    let extent = |path: &str, offset, length| NamedExtent {
        path: path.into(),
        offset,
        length,
    };
    Manifest {
        format: 1,
        name: ImageName::try_from("test".to_owned()).unwrap(),
        version: 1,
        label: None,
        description: None,
        kind: ImageKind::LinuxIso,
        created: Timestamp::from_unix(0),
        expires: None,
        size,
        sha256: Digest::of(b""),
        index: IndexRef {
            sha256: Digest::of(b""),
            size: 0,
        },
        boot: BootRecipe::Linux(LinuxBoot {
            kernel: extent("vmlinuz", 4096, 6536),
            initrd: vec![extent("a", 12288, 1001), extent("b", 16384, 2050)],
            cmdline: "quiet".into(),
            medium,
            placement: Placement::Initramfs,
        }),
        min_ram: None,
        firmware: Vec::new(),
    }
}

pub(in super::super) fn memory(pmem: Option<PmemRange>) -> MemoryPlan {
    MemoryPlan {
        needed: 0,
        available: 0,
        total: 0,
        methods: vec![Method::KexecFileLoad, Method::KexecLoad],
        placement: Placement::Initramfs,
        pmem,
    }
}

pub(in super::super) fn plan(iso_path: Option<&'static str>, members: Vec<Member>) -> HandOffPlan {
    HandOffPlan {
        cmdline: "quiet boot=live".into(),
        members,
        iso_path,
    }
}

fn hook() -> Vec<Member> {
    let member = |path: &str, mode, bytes: &[u8]| Member {
        path: path.into(),
        mode,
        bytes: bytes.into(),
    };
    vec![
        member("conf", 0o040_755, b""),
        member("conf/conf.d", 0o040_755, b""),
        member("conf/conf.d/sparetire", 0o100_644, b"LIVEMEDIA_OFFSET=0\n"),
    ]
}

fn image(size: usize) -> Vec<u8> {
    (0..size as u32)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

fn fill(buffer: &mut ImageBuffer, image: &[u8]) {
    // Out of order, in uneven chunks.
    let mut chunks: Vec<_> = image.chunks(3001).enumerate().collect();
    chunks.reverse();
    for (index, chunk) in chunks {
        buffer.chunk(index as u64 * 3001, chunk).unwrap();
    }
}

fn contents(mut file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(
        file.read(&mut [0; 1]).unwrap_or(0),
        usize::from(!bytes.is_empty())
    );
    bytes
}

fn cpio(arguments: &[&str], archive: &[u8], directory: &Path) -> Option<Output> {
    let input = directory.join("archive.cpio");
    std::fs::write(&input, archive).unwrap();
    let output = Command::new("cpio")
        .args(arguments)
        .current_dir(directory)
        .stdin(File::open(&input).unwrap())
        .output();
    if output.is_err() {
        eprintln!("SKIPPED: cpio is missing (package cpio)");
    }
    output.ok()
}

#[test]
fn gnu_cpio_lists_and_unpacks_the_finished_file() {
    let image = image(20_003);
    let plan = plan(Some("sparetire.iso"), hook());
    let mut buffer =
        ImageBuffer::new(&manifest(20_003, Medium::LiveBoot), &plan, &memory(None)).unwrap();
    fill(&mut buffer, &image);
    let file = buffer.initramfs_file().unwrap().unwrap();
    let bytes = contents(&file);
    let directory = tempfile::tempdir().unwrap();

    let Some(listed) = cpio(&["-tv"], &bytes, directory.path()) else {
        return;
    };
    let text = String::from_utf8(listed.stdout).unwrap();
    let names: Vec<_> = text
        .lines()
        .map(|line| line.split_whitespace().last().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "sparetire.iso",
            "conf",
            "conf/conf.d",
            "conf/conf.d/sparetire"
        ]
    );
    assert!(text.starts_with("-r--r--r--"), "{text}");
    let warnings = String::from_utf8(listed.stderr).unwrap();
    assert!(
        !warnings.contains("warning") && !warnings.contains("malformed"),
        "{warnings}"
    );

    cpio(&["-i", "--quiet"], &bytes, directory.path()).unwrap();
    assert_eq!(
        std::fs::read(directory.path().join("sparetire.iso")).unwrap(),
        image
    );
    let hook = std::fs::read(directory.path().join("conf/conf.d/sparetire")).unwrap();
    assert_eq!(hook, b"LIVEMEDIA_OFFSET=0\n");
}

#[test]
fn the_initrds_follow_the_archive_at_multiples_of_four() {
    let image = image(20_003);
    let plan = plan(Some("sparetire.iso"), hook());
    let mut buffer =
        ImageBuffer::new(&manifest(20_003, Medium::LiveBoot), &plan, &memory(None)).unwrap();
    fill(&mut buffer, &image);
    let bytes = contents(&buffer.initramfs_file().unwrap().unwrap());
    let end = buffer.layout.archive.end as usize;
    assert_eq!(end % 4, 0);
    assert_eq!(bytes[end..end + 1001], image[12288..13289]);
    assert_eq!(bytes[end + 1001..end + 1004], [0; 3]);
    assert_eq!(bytes[end + 1004..], image[16384..18434]);
}

#[test]
fn kexec_load_gets_the_same_parts_without_copies() {
    let image = image(20_003);
    let plan = plan(Some("sparetire.iso"), hook());
    let mut buffer =
        ImageBuffer::new(&manifest(20_003, Medium::LiveBoot), &plan, &memory(None)).unwrap();
    fill(&mut buffer, &image);
    let map = buffer.map().unwrap();
    let parts = buffer.parts(&map);
    assert_eq!(*parts.kernel, image[4096..10_632]);
    let [archive, first, second] = parts.initramfs[..] else {
        panic!("three pieces")
    };
    assert_eq!(archive[4096..24_099], image);
    assert_eq!(archive.as_ptr(), map.as_ptr());
    assert_eq!(
        (first, second),
        (&image[12288..13289], &image[16384..18434])
    );
    assert_eq!(parts.cmdline, "quiet boot=live");
    assert!(parts.pmem.is_none());
}

#[test]
fn a_netboot_pair_becomes_kernel_and_initramfs_alone() {
    let image = image(20_000);
    let mut buffer = ImageBuffer::new(
        &manifest(20_000, Medium::None),
        &plan(None, Vec::new()),
        &memory(None),
    )
    .unwrap();
    fill(&mut buffer, &image);
    assert_eq!(
        contents(&buffer.kernel_file().unwrap()),
        image[4096..10_632]
    );
    let initramfs = contents(&buffer.initramfs_file().unwrap().unwrap());
    assert_eq!(initramfs[..1001], image[12288..13289]);
    assert_eq!(initramfs[1004..], image[16384..18434]);
    let map = buffer.map().unwrap();
    assert_eq!(buffer.parts(&map).initramfs.len(), 2);
}

#[test]
fn persistent_memory_is_the_image_alone_with_hooks_in_an_archive() {
    let image = image(20_000);
    let range = PmemRange {
        address: 0x1_0000_0000,
        size: 2 << 20,
    };
    let mut buffer = ImageBuffer::new(
        &manifest(20_000, Medium::Casper),
        &plan(None, hook()),
        &memory(Some(range)),
    )
    .unwrap();
    fill(&mut buffer, &image);
    let map = buffer.map().unwrap();
    let parts = buffer.parts(&map);
    assert_eq!(
        parts.pmem.map(|(address, bytes)| (address, bytes == image)),
        Some((0x1_0000_0000, true))
    );
    assert_eq!(&parts.initramfs[0][..6], b"070701");
    assert_eq!(parts.initramfs.len(), 3);
}

#[test]
fn plans_that_disagree_are_refused() {
    let range = PmemRange {
        address: 0x1_0000_0000,
        size: 2 << 20,
    };
    let made = ImageBuffer::new(
        &manifest(20_000, Medium::Casper),
        &plan(Some("sparetire.iso"), Vec::new()),
        &memory(Some(range)),
    );
    assert!(matches!(made, Err(BufferError::Plans)));
}

#[test]
fn parts_outside_the_image_are_refused() {
    let made = ImageBuffer::new(
        &manifest(18_433, Medium::None),
        &plan(None, Vec::new()),
        &memory(None),
    );
    assert!(matches!(
        made,
        Err(BufferError::Extent {
            offset: 16384,
            length: 2050,
            size: 18_433
        })
    ));
}

#[test]
fn chunks_outside_the_image_change_nothing() {
    let plan = plan(Some("sparetire.iso"), hook());
    let mut buffer =
        ImageBuffer::new(&manifest(20_003, Medium::LiveBoot), &plan, &memory(None)).unwrap();
    let before = contents(&buffer.file);
    for (offset, length) in [
        (20_003, 1),
        (20_000, 4),
        (u64::MAX, 1),
        (u64::MAX - 4095, 4096),
    ] {
        let error = buffer.chunk(offset, &vec![0xff; length]).unwrap_err();
        assert_eq!(
            error.kind(),
            io::ErrorKind::InvalidInput,
            "{offset} {length}"
        );
    }
    assert_eq!(contents(&buffer.file), before);
    buffer.chunk(20_002, b"x").unwrap();
}

#[test]
fn the_digest_is_that_of_the_image_without_the_archive_around_it() {
    let plan = plan(Some("sparetire.iso"), hook());
    let mut buffer =
        ImageBuffer::new(&manifest(600_003, Medium::LiveBoot), &plan, &memory(None)).unwrap();
    let image: Vec<u8> = (0..600_003u32).map(|at| (at / 7) as u8).collect();
    buffer.chunk(0, &image[..300_000]).unwrap();
    assert_ne!(buffer.digest().unwrap(), Digest::of(&image));
    buffer.chunk(300_000, &image[300_000..]).unwrap();
    assert_eq!(buffer.digest().unwrap(), Digest::of(&image));
}

proptest! {
    #[test]
    fn an_accepted_chunk_lies_inside_the_image(offset in 0u64..30_000, length in 0usize..30_000) {
        let plan = plan(Some("sparetire.iso"), hook());
        let mut buffer = ImageBuffer::new(&manifest(20_003, Medium::LiveBoot), &plan, &memory(None)).unwrap();
        let accepted = buffer.chunk(offset, &vec![1; length]).is_ok();
        prop_assert_eq!(accepted, offset + length as u64 <= 20_003);
    }
}
