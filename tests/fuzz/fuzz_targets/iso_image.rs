//! ISO images as `image import` reads them: descriptors, directories, boot catalog, boot configurations, kernel and
//! initramfs. The input is the image from sector 16 on, as the 32 KiB before it are not looked at.
#![no_main]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};
use sparetire_builder::iso_image::IsoImage;
use sparetire_builder::live_iso;

/// ECMA-119, 6.2.1: the system area.
const SYSTEM_AREA: u64 = 16 * 2048;
/// Files read whole, each up to this many bytes.
const SMALL: usize = 64 << 10;

fuzz_target!(|bytes: &[u8]| {
    let file = File::from(memfd_create("iso", MemfdFlags::CLOEXEC).expect("memory for an image"));
    file.set_len(SYSTEM_AREA + bytes.len() as u64)
        .and_then(|()| file.write_all_at(bytes, SYSTEM_AREA))
        .expect("writing to memory");
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let Ok(iso) = IsoImage::open(&path) else {
        return;
    };
    assert_eq!(iso.size(), SYSTEM_AREA + bytes.len() as u64);
    let _ = iso.boot_images();
    for (path, size) in iso.files().unwrap_or_default() {
        let Ok(extents) = iso.extents(&path) else {
            continue;
        };
        for extent in &extents {
            assert!(extent.length > 0 && extent.offset + extent.length <= iso.size());
        }
        // A name that occurs twice in a directory is found once, whichever of the two it is.
        let length: u64 = extents.iter().map(|extent| extent.length).sum();
        match iso.read_file(&path, SMALL) {
            Ok(content) => assert_eq!(
                content.len() as u64,
                length,
                "{path}, listed with {size} bytes"
            ),
            Err(_) => assert!(length > SMALL as u64, "{path}"),
        }
    }
    let Ok((offers, _)) = live_iso::offers(&iso) else {
        return;
    };
    let bootable = offers.iter().filter(|offer| offer.parts.is_ok()).count();
    match live_iso::linux_boot_of(&iso, None) {
        Ok(system) => {
            assert!(bootable > 0);
            for part in system.boot.initrd.iter().chain([&system.boot.kernel]) {
                assert!(part.length > 0 && part.offset + part.length <= iso.size());
            }
            assert!(
                system
                    .boot
                    .cmdline
                    .bytes()
                    .all(|byte| (b' '..=b'~').contains(&byte))
            );
        }
        Err(_) => assert_eq!(bootable, 0),
    }
});
