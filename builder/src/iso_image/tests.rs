//! Honest images read whole, crafted ones refused in bounded time.
//!
//! Images are written by hadris and then damaged by hand where a test needs it; what other writers
//! make is read from the ISOs of Debian packages, with xorriso as the outside witness for places.

use std::io::Write as _;
use std::process::Command;

use hadris_fs::{Content, DateTime, Node, Tree};
use hadris_iso::{BootEntry, ElTorito, IsoId, IsoLevel, IsoOptions};
use hadris_storage::{BlockSize, MemDevice};
use proptest::prelude::*;

use super::*;

pub(crate) fn options() -> IsoOptions {
    IsoOptions::new()
        .with_id(IsoId::Volume, "TEST_DISC")
        .with_level(IsoLevel::L2)
        .with_time(DateTime::UNIX_EPOCH)
        .with_seed(1)
}

/// An image of `files`, a link for each content that begins with `->`.
pub(crate) fn image(files: &[(&str, &[u8])], options: &IsoOptions) -> Vec<u8> {
    let mut tree = Tree::new();
    for (path, content) in files {
        let node = match content.strip_prefix(b"->") {
            Some(target) => Node::symlink(target),
            None => Node::file(Content::bytes(*content)),
        };
        tree.insert(path, node).unwrap();
    }
    let size = hadris_iso::plan(&tree, options).unwrap().size() as usize;
    let mut device = MemDevice::new(vec![0; size], BlockSize::new(512).unwrap());
    hadris_iso::sync::write(&mut device, &tree, options).unwrap();
    device.into_inner()
}

pub(crate) struct Opened {
    pub(crate) iso: IsoImage,
    _file: tempfile::NamedTempFile,
}

pub(crate) fn open(bytes: &[u8]) -> Result<Opened, IsoImageError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let iso = IsoImage::open(file.path())?;
    Ok(Opened { iso, _file: file })
}

/// Reads everything there is to read. Only that it ends and does not panic matters to the caller.
fn read_all(iso: &IsoImage) -> Result<usize, IsoImageError> {
    let _ = iso.boot_images();
    let mut bytes = 0;
    for (path, _) in iso.files()? {
        bytes += iso.read_file(&path, 1 << 24)?.len();
    }
    Ok(bytes)
}

/// Offset of the directory record whose identifier is `name`.
fn record(image: &[u8], name: &[u8]) -> usize {
    let length = name.len() as u8;
    (16 * 2048..image.len() - name.len())
        .find(|at| &image[*at..at + name.len()] == name && image[at - 1] == length)
        .unwrap()
        - 33
}

/// Writes a number in both byte orders, as ECMA-119 7.3.3 has it.
fn put_both(image: &mut [u8], at: usize, value: u32) {
    image[at..at + 4].copy_from_slice(&value.to_le_bytes());
    image[at + 4..at + 8].copy_from_slice(&value.to_be_bytes());
}

const EXTENT: usize = 2;
const LENGTH: usize = 10;
const FLAGS: usize = 25;
const IDENTIFIER: usize = 33;

fn files(iso: &IsoImage) -> Vec<(String, u64)> {
    let mut files = iso.files().unwrap();
    files.sort();
    files
}

#[test]
fn each_kind_of_names_is_read_and_found_as_boot_loaders_do() {
    let content: &[(&str, &[u8])] = &[
        ("live/vmlinuz", b"kernel"),
        ("live/initrd.img", b"initrd"),
        ("empty", b""),
    ];
    for (options, vmlinuz) in [
        (options().with_rock_ridge(), "/live/vmlinuz"),
        (options().with_joliet(), "/live/vmlinuz"),
        (options(), "/LIVE/VMLINUZ"),
    ] {
        let opened = open(&image(content, &options)).unwrap();
        let iso = &opened.iso;
        assert_eq!(iso.volume_id(), "TEST_DISC");
        let found = files(iso);
        assert!(found.contains(&(vmlinuz.to_owned(), 6)), "{found:?}");
        assert_eq!(found.len(), 3);
        for path in [
            "/live/vmlinuz",
            "/LIVE/VMLINUZ",
            "/live/VMLINUZ.;1",
            "live//./vmlinuz",
            "/live/../../live/vmlinuz",
        ] {
            assert_eq!(iso.read_file(path, 6).unwrap(), b"kernel", "{path}");
        }
        // A directory that is not there cannot be left again.
        assert!(matches!(
            iso.read_file("/x/../live/vmlinuz", 9),
            Err(IsoImageError::NotFound { .. })
        ));
        assert_eq!(iso.extents("/empty").unwrap(), []);
        assert_eq!(iso.read_file("/empty", 0).unwrap(), b"");
        assert!(iso.is_directory("/") && iso.is_directory("/Live") && !iso.is_directory("/empty"));
        assert!(iso.is_file("/live/INITRD.IMG") && !iso.is_file("/live") && !iso.is_file("/no"));
    }
}

#[test]
fn what_is_asked_for_wrongly_is_told_apart() {
    let opened = open(&image(
        &[("dir/file", b"12345")],
        &options().with_rock_ridge(),
    ))
    .unwrap();
    let iso = &opened.iso;
    for (error, expected) in [
        (
            iso.read_file("/no", 9).unwrap_err(),
            "/no is not on the image",
        ),
        (
            iso.read_file("/dir/file/x", 9).unwrap_err(),
            "/dir/file/x is not on the image",
        ),
        (iso.read_file("/dir", 9).unwrap_err(), "/dir is not a file"),
        (iso.read_file("/", 9).unwrap_err(), "/ is not a file"),
        (
            iso.directory("/dir/file").unwrap_err(),
            "/dir/file is not a directory",
        ),
        (
            iso.read_file("/dir/file", 4).unwrap_err(),
            "/dir/file has 5 bytes, at most 4 are read",
        ),
    ] {
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn extents_are_where_the_bytes_are() {
    let large: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    let bytes = image(
        &[("a/large", &large), ("b", b"small")],
        &options().with_rock_ridge(),
    );
    let opened = open(&bytes).unwrap();
    let [extent] = opened.iso.extents("/a/large").unwrap()[..] else {
        panic!("not in one piece");
    };
    let at = extent.offset as usize;
    assert_eq!(extent.offset % 2048, 0);
    assert_eq!(&bytes[at..at + extent.length as usize], large);
}

#[test]
fn links_are_followed_inside_the_image() {
    let opened = open(&image(
        &[
            ("live/vmlinuz-6.1", b"kernel"),
            ("live/vmlinuz", b"->vmlinuz-6.1"),
            ("deep/er/link", b"->../../live/vmlinuz"),
            ("absolute", b"->/deep/er/link"),
            ("outside", b"->../../../../live/vmlinuz"),
            ("dirlink", b"->deep"),
            ("loop", b"->loop"),
            ("ping", b"->pong"),
            ("pong", b"->./ping"),
            ("dangling", b"->nothing"),
        ],
        &options().with_rock_ridge(),
    ))
    .unwrap();
    let iso = &opened.iso;
    for path in [
        "/live/vmlinuz",
        "/deep/er/link",
        "/absolute",
        "/outside",
        "/dirlink/er/link",
    ] {
        assert_eq!(iso.read_file(path, 9).unwrap(), b"kernel", "{path}");
    }
    for path in ["/loop", "/ping"] {
        assert_eq!(
            iso.read_file(path, 9).unwrap_err().to_string(),
            "more than 64 parts and links of a path"
        );
    }
    assert!(!iso.is_file("/dangling"));
    assert_eq!(iso.files().unwrap().len(), 1);
}

/// Three files whose records are changed into one file of several extents.
fn three_files() -> Vec<u8> {
    image(
        &[
            ("AA.BIN", &[b'a'; 2048]),
            ("AB.BIN", &[b'b'; 4096]),
            ("AC.BIN", &[b'c'; 100]),
        ],
        &options(),
    )
}

#[test]
fn neighbouring_extents_of_one_file_are_one_piece() {
    let mut bytes = three_files();
    let (first, second) = (record(&bytes, b"AA.BIN;1"), record(&bytes, b"AB.BIN;1"));
    bytes[first + FLAGS] |= 0x80;
    bytes[second + IDENTIFIER + 1] = b'A';
    let opened = open(&bytes).unwrap();
    let [extent] = opened.iso.extents("/aa.bin").unwrap()[..] else {
        panic!("not merged");
    };
    assert_eq!(extent.length, 6144);
    let content = opened.iso.read_file("/aa.bin", 6144).unwrap();
    assert_eq!(content, [vec![b'a'; 2048], vec![b'b'; 4096]].concat());
    assert_eq!(opened.iso.file_size("/aa.bin").unwrap(), 6144);
    assert_eq!(opened.iso.files().unwrap().len(), 2);
}

#[test]
fn scattered_extents_of_one_file_stay_apart_and_in_order() {
    let mut bytes = three_files();
    let records = [b"AA.BIN;1", b"AB.BIN;1", b"AC.BIN;1"].map(|name| record(&bytes, name));
    bytes[records[0] + FLAGS] |= 0x80;
    bytes[records[1] + IDENTIFIER + 1] = b'A';
    // The second piece before the first.
    let first: [u8; 8] = bytes[records[0] + EXTENT..][..8].try_into().unwrap();
    let third: [u8; 8] = bytes[records[2] + EXTENT..][..8].try_into().unwrap();
    bytes[records[0] + EXTENT..][..8].copy_from_slice(&third);
    bytes[records[1] + EXTENT..][..8].copy_from_slice(&first);
    let opened = open(&bytes).unwrap();
    let extents = opened.iso.extents("/aa.bin").unwrap();
    assert_eq!(extents.len(), 2);
    assert!(extents[0].offset > extents[1].offset);
    let content = opened.iso.read_file("/aa.bin", 9999).unwrap();
    assert_eq!(content.len(), 6144);
    assert_eq!(content[0], b'c');
    assert_eq!(content[2048], b'a');
}

#[test]
fn interleaved_files_are_refused() {
    let mut bytes = three_files();
    let at = record(&bytes, b"AB.BIN;1");
    bytes[at + 26] = 1;
    bytes[at + 27] = 1;
    let opened = open(&bytes).unwrap();
    assert!(matches!(
        opened.iso.extents("/ab.bin"),
        Err(IsoImageError::Unsupported { .. })
    ));
}

#[test]
fn a_directory_that_contains_itself_ends() {
    let mut bytes = image(&[("SUB/FILE.TXT", b"x")], &options());
    let root = u32::from_le_bytes(bytes[16 * 2048 + 156 + EXTENT..][..4].try_into().unwrap());
    let sub = record(&bytes, b"SUB");
    put_both(&mut bytes, sub + EXTENT, root);
    let opened = open(&bytes).unwrap();
    let error = opened.iso.files().unwrap_err();
    assert_eq!(
        error.to_string(),
        "/SUB is damaged: the same directory as another path"
    );
    // A path through it ends somewhere too.
    assert!(opened.iso.is_directory(&"/sub".repeat(60)));
    assert_eq!(
        opened
            .iso
            .directory(&"/sub".repeat(100))
            .unwrap_err()
            .to_string(),
        "more than 64 parts and links of a path"
    );
}

#[test]
fn files_and_directories_beyond_the_end_are_refused() {
    for (extent, length) in [(u32::MAX, 1), (0xffff, 1), (20, u32::MAX)] {
        let intact = image(&[("SUB/IN.TXT", b"x"), ("FILE.TXT", b"x")], &options());
        let mut bytes = intact.clone();
        let file = record(&bytes, b"FILE.TXT;1");
        put_both(&mut bytes, file + EXTENT, extent);
        put_both(&mut bytes, file + LENGTH, length);
        let opened = open(&bytes).unwrap();
        assert!(matches!(
            opened.iso.extents("/file.txt"),
            Err(IsoImageError::CutShort { .. })
        ));
        assert!(opened.iso.read_file("/file.txt", usize::MAX).is_err());
        assert!(opened.iso.is_file("/sub/in.txt"));

        let mut bytes = intact;
        let sub = record(&bytes, b"SUB");
        put_both(&mut bytes, sub + EXTENT, extent);
        put_both(&mut bytes, sub + LENGTH, length);
        let opened = open(&bytes).unwrap();
        assert!(opened.iso.files().is_err());
        assert!(!opened.iso.is_file("/sub/in.txt"));
    }
}

#[test]
fn structures_that_need_too_many_reads_are_refused() {
    let names: Vec<String> = (0..200).map(|n| format!("file{n}")).collect();
    let content: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), &b"x"[..]))
        .collect();
    let bytes = image(&content, &options().with_rock_ridge());
    let opened = open(&bytes).unwrap();
    opened.iso.volume.borrow_mut().iso = IsoFs::mount(
        Guarded::with_reads(opened.iso.file.try_clone().unwrap(), opened.iso.size, 50),
        MountOptions::new(),
    )
    .map_err(|error| error.kind())
    .unwrap();
    assert_eq!(
        opened.iso.directory("/").unwrap_err().to_string(),
        "directory / is damaged: its structures need too many reads"
    );
}

#[test]
fn other_files_are_not_images() {
    for bytes in [&b""[..], b"text", &[0; 100_000], &[0xff; 40_000]] {
        assert!(open(bytes).is_err());
    }
    assert!(matches!(
        open(&[0; 100_000]),
        Err(IsoImageError::NotIso { .. })
    ));
    assert!(matches!(
        IsoImage::open(Path::new("/")),
        Err(IsoImageError::Open { .. })
    ));
    assert!(matches!(
        IsoImage::open(Path::new("/nonexistent.iso")),
        Err(IsoImageError::Open { .. })
    ));
}

#[test]
fn the_boot_catalog_is_listed() {
    let boot = [0x90; 4096];
    let options = options().with_rock_ridge().with_el_torito(
        ElTorito::new()
            .with_entry(BootEntry::bios("boot.bin").with_load_size(4))
            .with_entry(BootEntry::uefi("efi.img")),
    );
    let bytes = image(&[("boot.bin", &boot), ("efi.img", &boot)], &options);
    let opened = open(&bytes).unwrap();
    let images = opened.iso.boot_images().unwrap();
    assert_eq!(images.len(), 2);
    assert!(images[0].is_bios() && images[0].bootable && images[0].no_emulation);
    assert_eq!(images[0].sector_count, 4);
    assert!(images[1].is_uefi());
    let place = opened.iso.extents("/boot.bin").unwrap()[0].offset;
    assert_eq!(u64::from(images[0].load_rba) * 2048, place);
    let none = open(&image(&[("a", b"a")], &super::tests::options())).unwrap();
    assert_eq!(none.iso.boot_images().unwrap(), []);
}

#[test]
fn an_image_cut_anywhere_is_an_error_or_says_which_file_is_cut() {
    let bytes = image(
        &[
            ("live/a", &[1; 5000]),
            ("live/b", &[2; 5000]),
            ("c", b"->live/b"),
        ],
        &options().with_rock_ridge().with_joliet(),
    );
    let whole = read_all(&open(&bytes).unwrap().iso).unwrap();
    assert_eq!(whole, 10_000);
    for end in (0..bytes.len()).step_by(512) {
        let Ok(opened) = open(&bytes[..end]) else {
            continue;
        };
        if let Ok(read) = read_all(&opened.iso) {
            assert_eq!(read, whole, "cut at {end}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_damage_panics_or_runs_away(
        joliet: bool,
        rock_ridge: bool,
        changes in prop::collection::vec((16 * 2048..60 * 2048_usize, any::<u8>()), 1..40),
    ) {
        let mut options = options();
        if joliet { options = options.with_joliet(); }
        if rock_ridge { options = options.with_rock_ridge(); }
        let mut bytes = image(
            &[("live/vmlinuz", &[1; 5000]), ("live/x/y/z", b"z"), ("isolinux/isolinux.cfg", b"c")],
            &options,
        );
        let length = bytes.len();
        for (at, value) in changes {
            bytes[at % length] = value;
        }
        if let Ok(opened) = open(&bytes) {
            let _ = read_all(&opened.iso);
            let _ = boot_config::discover(&opened.iso);
        }
    }
}

/// ISOs that Debian packages install, made by xorriso and genisoimage.
const PACKAGED: [&str; 4] = [
    "/usr/lib/ipxe/ipxe.iso",
    "/usr/lib/grub-rescue/grub-rescue-cdrom.iso",
    "/usr/lib/memtest86+/memtest86+x64.iso",
    "/usr/lib/memtest86+/memtest86+ia32.iso",
];

fn packaged() -> impl Iterator<Item = &'static Path> {
    PACKAGED.iter().map(Path::new).filter(|path| {
        if !path.exists() {
            eprintln!("SKIPPED {}: not installed", path.display());
        }
        path.exists()
    })
}

#[test]
fn packaged_isos_are_read_whole_and_as_xorriso_sees_them() {
    for path in packaged() {
        let iso = IsoImage::open(path).unwrap();
        assert!(!iso.boot_images().unwrap().is_empty(), "{}", path.display());
        let files = files(&iso);
        assert!(!files.is_empty());
        for (name, size) in &files {
            assert_eq!(iso.read_file(name, 1 << 26).unwrap().len() as u64, *size);
        }
        // Lines like `File data lba:  0 ,  53 ,  20 ,  39140 , '/isolinux.bin'`.
        let Ok(output) = Command::new("xorriso")
            .arg("-indev")
            .arg(path)
            .args(["-find", "/", "-type", "f", "-exec", "report_lba"])
            .output()
        else {
            eprintln!("SKIPPED comparison: xorriso is not installed");
            continue;
        };
        let text = String::from_utf8(output.stdout).unwrap();
        let mut unseen: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        for line in text
            .lines()
            .filter(|line| line.starts_with("File data lba:"))
        {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let name = fields[4].trim_matches('\'');
            let block: u64 = fields[1].parse().unwrap();
            let size: u64 = fields[3].parse().unwrap();
            let extents = iso.extents(name).unwrap();
            assert_eq!(
                (extents[0].offset, extents[0].length),
                (block * 2048, size),
                "{name}"
            );
            unseen.retain(|file| *file != name);
        }
        // xorriso does not count the boot catalog as a file.
        assert!(
            unseen.iter().all(|name| name.contains("boot.cat")),
            "{}: {unseen:?}",
            path.display()
        );
    }
}

#[test]
fn damaged_packaged_isos_neither_panic_nor_hang() {
    for path in packaged() {
        let bytes = std::fs::read(path).unwrap();
        // The part that holds descriptors, path tables and directories, or most of them.
        let metadata = bytes.len().min(200 * 2048);
        let mut random = 0x1234_5678_9abc_def0_u64;
        for _ in 0..40 {
            let mut bytes = bytes.clone();
            for _ in 0..20 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let at = 16 * 2048 + random as usize % (metadata - 16 * 2048);
                bytes[at] ^= 1 << (random >> 61);
            }
            if let Ok(opened) = open(&bytes) {
                let _ = read_all(&opened.iso);
            }
        }
        for end in (16 * 2048..metadata).step_by(2048) {
            if let Ok(opened) = open(&bytes[..end]) {
                let _ = opened.iso.files();
            }
        }
    }
}
