use super::*;

fn image() -> Arc<[u8]> {
    (0..=255).collect()
}

fn overlay(offset: u64, bytes: &[u8]) -> Overlay {
    Overlay {
        offset,
        bytes: bytes.to_vec(),
    }
}

#[test]
fn overlaid_bytes_stand_in_every_read_that_touches_them() {
    let overlays = vec![overlay(200, b"cdef"), overlay(100, b"ab")];
    let overlaid = MemoryImage::new(image(), overlays).unwrap();
    let mut expected: Vec<u8> = image().to_vec();
    expected[100..102].copy_from_slice(b"ab");
    expected[200..204].copy_from_slice(b"cdef");
    for from in 0..256 {
        for length in [0, 1, 2, 3, 100, 256 - from] {
            let Some(expected) = expected.get(from..from + length) else {
                continue;
            };
            let mut into = vec![0; length];
            overlaid.read_now(from as u64, &mut into).unwrap();
            assert_eq!(into, expected, "{length} bytes at {from}");
        }
    }
}

#[test]
fn other_sessions_do_not_see_an_overlay() {
    let shared = image();
    let _overlaid = MemoryImage::new(shared.clone(), vec![overlay(0, b"x")]).unwrap();
    let plain = MemoryImage::new(shared, Vec::new()).unwrap();
    let mut into = [9];
    plain.read_now(0, &mut into).unwrap();
    assert_eq!(into, [0]);
}

#[test]
fn overlays_outside_of_the_image_or_on_each_other_are_refused() {
    let outside = |offset| OverlayError::Outside { offset, image: 256 };
    for offset in [255, 256, u64::MAX] {
        let refused = MemoryImage::new(image(), vec![overlay(offset, b"ab")]).err();
        assert_eq!(refused, Some(outside(offset)));
    }
    let both = vec![overlay(11, b"cd"), overlay(10, b"ab")];
    let overlap = OverlayError::Overlap {
        first: 10,
        second: 11,
    };
    assert_eq!(MemoryImage::new(image(), both).err(), Some(overlap));
    let beside = vec![overlay(12, b"cd"), overlay(10, b"ab")];
    assert!(MemoryImage::new(image(), beside).is_ok());
}

#[test]
fn reads_behind_the_end_fail() {
    let plain = MemoryImage::new(image(), Vec::new()).unwrap();
    let floppy = WritableFloppy::new(vec![0; 512]);
    for offset in [511, 512, u64::MAX] {
        assert!(plain.read_now(offset, &mut [0; 2]).is_err());
        assert!(floppy.read_now(offset, &mut [0; 2]).is_err());
        assert!(floppy.write_now(offset, &[0; 2]).is_err());
    }
}

#[test]
fn a_sparse_file_beyond_four_gib_is_read_at_its_last_byte() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let last = (5_u64 << 30) + 1000;
    file.as_file().write_all_at(b"end", last).unwrap();
    let source = FileImage::open(file.path()).unwrap();
    assert_eq!(source.bytes(), last + 3);
    let mut into = [9; 5];
    source.read(last - 2, &mut into).unwrap();
    assert_eq!(&into, b"\0\0end");
    assert!(source.read(last, &mut [0; 4]).is_err());
    // Now it is in the cache: either it comes at once, or this file system cannot tell.
    let mut into = [9; 5];
    match source.read_now(last - 2, &mut into) {
        Ok(()) => assert_eq!(&into, b"\0\0end"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
    }
}

#[test]
fn folders_and_devices_are_no_images() {
    assert!(FileImage::open(Path::new("/")).is_err());
    assert!(FileImage::open(Path::new("/dev/zero")).is_err());
}

#[test]
fn a_writable_floppy_keeps_what_is_written() {
    let floppy = WritableFloppy::new(b"abc".to_vec());
    assert_eq!(floppy.bytes(), 512);
    floppy.write_now(2, b"xyz").unwrap();
    assert_eq!(&floppy.contents()[..6], b"abxyz\0");
    let mut into = [0; 3];
    floppy.read_now(2, &mut into).unwrap();
    assert_eq!(&into, b"xyz");
    let refused = Blank::FLOPPY.write_now(0, b"x").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
}
