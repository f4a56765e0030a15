//! Whole ISOs, small ones made for the purpose: what is chosen, and what is said when nothing can be.

use super::*;
use crate::iso_image::tests::{Opened, image, open, options};

/// The beginning of a kernel that says it is one: setup header, protocol version, `xloadflags`.
fn kernel(version: u16, flags: u16) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&version.to_le_bytes());
    bytes[0x236..0x238].copy_from_slice(&flags.to_le_bytes());
    bytes
}

fn iso(files: &[(&str, &[u8])]) -> Opened {
    open(&image(files, &options().with_rock_ridge())).unwrap()
}

const MENU: &[u8] = b"default vesamenu.c32
label memtest
 menu label Memory test
 kernel /live/memtest
label install
 menu label Installer
 kernel /install/vmlinuz
 append initrd=/install/initrd.gz vga=788 --- quiet
label old
 menu label Live system (686)
 kernel /live/vmlinuz-686
 append initrd=/live/initrd.img boot=live
label gone
 menu label Live system (removed)
 kernel /live/vmlinuz-gone
 append initrd=/live/initrd.img boot=live
label live
 menu label Live system (amd64)
 kernel /live/vmlinuz
 append initrd=/live/ucode.img,/live/initrd.img\tboot=live  components findiso=
label safe
 menu label Live system (fail-safe)
 kernel /live/vmlinuz
 append initrd=/live/initrd.img boot=live nomodeset
";

fn live(menu: &[u8]) -> Opened {
    let good = kernel(0x20f, 0x7f);
    iso(&[
        ("isolinux/isolinux.cfg", menu),
        ("live/memtest", &kernel(0x20c, 1)),
        ("install/vmlinuz", &good),
        ("install/initrd.gz", b"installer"),
        ("live/vmlinuz-686", &kernel(0x20f, 0)),
        ("live/vmlinuz", &good),
        ("live/initrd.img", b"initrd"),
        ("live/ucode.img", b"ucode"),
        ("live/not-linux", &[0; 4096]),
        ("live/short", b"x"),
        ("live/empty", b""),
    ])
}

#[test]
fn a_live_system_is_preferred_and_its_files_are_located() {
    let opened = live(MENU);
    let system = linux_boot_of(&opened.iso, None).unwrap();
    assert_eq!(system.title, "Live system (amd64)");
    assert_eq!(system.source, "/isolinux/isolinux.cfg");
    let boot = &system.boot;
    assert_eq!(boot.cmdline, "boot=live components findiso=");
    assert_eq!(boot.medium, Medium::LiveBoot);
    assert_eq!(boot.placement, Placement::Initramfs);
    assert_eq!(boot.kernel.path, "/live/vmlinuz");
    let paths: Vec<_> = boot.initrd.iter().map(|part| part.path.as_str()).collect();
    assert_eq!(paths, ["/live/ucode.img", "/live/initrd.img"]);
    let initrd = &boot.initrd[1];
    let bytes = opened.iso.read_at(initrd.offset, initrd.length as usize);
    assert_eq!(bytes.unwrap(), b"initrd");
    assert_eq!(system.notes, [] as [&str; 0]);
}

#[test]
fn what_the_iso_starts_by_itself_comes_before_what_is_listed_first() {
    let menu = [MENU, b"menu default\n"].concat();
    let system = linux_boot_of(&live(&menu).iso, None).unwrap();
    assert_eq!(system.title, "Live system (fail-safe)");
    // Unless it is not a live system, or cannot be booted.
    for default in [
        "default install\n",
        "default old\n",
        "default gone\n",
        "default memtest\n",
    ] {
        let menu = [default.as_bytes(), MENU].concat();
        let system = linux_boot_of(&live(&menu).iso, None).unwrap();
        assert_eq!(system.title, "Live system (amd64)", "{default}");
    }
}

#[test]
fn an_entry_is_taken_by_number_title_or_part_of_it() {
    let opened = live(MENU);
    for (wanted, title) in [
        ("2", "Installer"),
        ("installer", "Installer"),
        ("FAIL-SAFE", "Live system (fail-safe)"),
        ("Live system (amd64)", "Live system (amd64)"),
    ] {
        let system = linux_boot_of(&opened.iso, Some(wanted)).unwrap();
        assert_eq!(system.title, title);
    }
    let installer = linux_boot_of(&opened.iso, Some("2")).unwrap();
    assert_eq!(installer.boot.medium, Medium::None);
    assert!(installer.notes[0].starts_with("\"Installer\": nothing says how"));
}

#[test]
fn a_wrong_choice_is_answered_with_the_list() {
    let opened = live(MENU);
    let error = linux_boot_of(&opened.iso, Some("windows")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no entry is called \"windows\"; there are: 1 Memory test | 2 Installer | \
         3 Live system (686) | 4 Live system (removed) | 5 Live system (amd64) | \
         6 Live system (fail-safe)"
    );
    let error = linux_boot_of(&opened.iso, Some("live system")).unwrap_err();
    assert!(error.to_string().starts_with("several entries are called"));
    for wanted in ["0", "7", "-1"] {
        assert!(linux_boot_of(&opened.iso, Some(wanted)).is_err());
    }
}

#[test]
fn an_entry_that_cannot_be_booted_says_why() {
    for (lines, reason) in [
        (
            "kernel /live/vmlinuz-686",
            "/live/vmlinuz-686 has no 64-bit entry point",
        ),
        ("kernel /live/gone", "/live/gone is not on the image"),
        ("kernel /live", "/live is not a file"),
        (
            "kernel /live/not-linux",
            "/live/not-linux is not a Linux kernel",
        ),
        ("kernel /live/short", "/live/short is not a Linux kernel"),
        ("kernel /live/empty", "/live/empty is empty"),
        (
            "kernel /live/vmlinuz\ninitrd /live/empty",
            "/live/empty is empty",
        ),
        (
            "kernel /live/vmlinuz\ninitrd /live/no",
            "/live/no is not on the image",
        ),
        (
            "kernel /live/vmlinuz\nappend a=\u{e4}",
            "its command line has characters that no kernel takes",
        ),
    ] {
        let menu = format!("label x\n{lines}\n");
        let opened = live(menu.as_bytes());
        let error = linux_boot_of(&opened.iso, Some("x")).unwrap_err();
        assert_eq!(error.to_string(), "\"x\" cannot be booted");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, reason);
        let error = linux_boot_of(&opened.iso, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("no entry of the ISO can be booted: x: {reason}")
        );
    }
}

#[test]
fn a_kernel_in_several_pieces_cannot_be_named_by_a_manifest() {
    let good = kernel(0x20f, 0x7f);
    let mut bytes = image(
        &[
            ("AA.KRN", &good),
            ("AB.KRN", &[b'b'; 2048]),
            ("AC.KRN", &[b'c'; 2048]),
            ("ISOLINUX.CFG", b"label x\nkernel /aa.krn\n"),
        ],
        &options(),
    );
    // AA and AC become one file with AB's data between them.
    let find = |name: &[u8]| {
        (0..bytes.len() - name.len())
            .find(|at| &bytes[*at..at + name.len()] == name)
            .unwrap()
    };
    let (first, second, third) = (find(b"AA.KRN;1"), find(b"AB.KRN;1"), find(b"AC.KRN;1"));
    bytes[first - 33 + 25] |= 0x80;
    bytes[second + 1] = b'A';
    let extent: [u8; 8] = bytes[third - 33 + 2..][..8].try_into().unwrap();
    bytes[second - 33 + 2..][..8].copy_from_slice(&extent);
    let opened = open(&bytes).unwrap();
    let error = linux_boot_of(&opened.iso, Some("x")).unwrap_err();
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "/aa.krn lies in 2 pieces"
    );
}

#[test]
fn what_was_passed_over_is_passed_on() {
    let menu = [&b"include missing.cfg\n"[..], MENU].concat();
    let system = linux_boot_of(&live(&menu).iso, None).unwrap();
    assert_eq!(system.notes, ["/isolinux/missing.cfg: not found"]);
}

#[test]
fn an_iso_without_linux_says_so() {
    let opened = iso(&[("setup.exe", b"MZ")]);
    assert_eq!(
        linux_boot_of(&opened.iso, None).unwrap_err().to_string(),
        "no boot configuration of isolinux, GRUB or systemd-boot found"
    );
}
