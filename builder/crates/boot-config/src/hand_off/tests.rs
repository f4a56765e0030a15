//! One golden plan per family and placement; what the second kernel is given, in full.

use super::*;
use Medium::{Archiso, Casper, Dracut, LiveBoot};
use Placement::{Initramfs, Pmem};
use proptest::prelude::*;

fn plan(medium: Medium, cmdline: &str) -> HandOffPlan {
    hand_off(medium, Initramfs, cmdline, None, None).unwrap()
}

fn pmem(medium: Medium, cmdline: &str) -> String {
    let range = PmemRange {
        address: 0x3000_0000,
        size: 0x0640_0000,
    };
    let plan = hand_off(medium, Pmem, cmdline, None, Some(range)).unwrap();
    assert_eq!(plan.iso_path, None);
    assert_eq!(plan.members, []);
    plan.cmdline
}

fn member<'a>(plan: &'a HandOffPlan, path: &str) -> &'a str {
    let member = plan.members.iter().find(|member| member.path == path);
    std::str::from_utf8(&member.unwrap().bytes).unwrap()
}

#[test]
fn live_boot_looks_at_the_file_before_any_disk() {
    let plan = plan(
        LiveBoot,
        "boot=live components quiet findiso=/live.iso toram=filesystem.squashfs username=user",
    );
    assert_eq!(
        plan.cmdline,
        "components quiet username=user boot=live live-media=/sparetire.iso \
         fromiso=/sparetire.iso rootfstype=ramfs"
    );
    assert_eq!(plan.members, []);
    assert_eq!(plan.iso_path, Some("sparetire.iso"));
}

#[test]
fn live_boot_takes_pmem_as_a_disk() {
    assert_eq!(
        pmem(LiveBoot, "boot=live live-media=removable quiet"),
        "quiet boot=live live-media=/dev/pmem0 memmap=0x6400000!0x30000000"
    );
}

#[test]
fn casper_is_told_to_attach_a_loop_device() {
    let plan = plan(
        Casper,
        "file=/cdrom/preseed/ubuntu.seed iso-scan/filename=/u.iso maybe-ubiquity quiet splash ---",
    );
    assert_eq!(
        plan.cmdline,
        "file=/cdrom/preseed/ubuntu.seed maybe-ubiquity quiet splash boot=casper \
         live-media=/sparetire.iso rootfstype=ramfs ---"
    );
    let paths: Vec<_> = plan
        .members
        .iter()
        .map(|m| (m.path.as_str(), m.mode))
        .collect();
    assert_eq!(
        paths,
        [
            ("conf", 0o040_755),
            ("conf/conf.d", 0o040_755),
            ("conf/conf.d/sparetire", 0o100_644)
        ]
    );
    assert!(member(&plan, "conf/conf.d/sparetire").ends_with("\nLIVEMEDIA_OFFSET=0\n"));
}

#[test]
fn casper_takes_pmem_as_a_disk() {
    assert_eq!(
        pmem(Casper, "boot=casper quiet"),
        "quiet boot=casper live-media=/dev/pmem0 memmap=0x6400000!0x30000000"
    );
}

#[test]
fn dracut_live_systems_have_their_own_syntax_for_a_file() {
    let plan = plan(
        Dracut,
        "root=live:CDLABEL=Fedora-WS-Live-41 rd.live.image rd.live.check rd.live.ram=1 quiet rhgb",
    );
    assert_eq!(
        plan.cmdline,
        "quiet rhgb root=live:/sparetire.iso rd.live.image"
    );
    assert_eq!(plan.members, []);
}

#[test]
fn dracut_live_systems_take_pmem_as_a_disk() {
    assert_eq!(
        pmem(Dracut, "root=live:LABEL=X rd.live.image"),
        "root=live:/dev/pmem0 rd.live.image memmap=0x6400000!0x30000000"
    );
}

#[test]
fn anaconda_finds_the_label_on_a_loop_device() {
    let plan = plan(
        Dracut,
        "inst.stage2=hd:LABEL=Fedora-E-dvd-x86_64-41 rd.live.check quiet",
    );
    assert_eq!(
        plan.cmdline,
        "inst.stage2=hd:LABEL=Fedora-E-dvd-x86_64-41 quiet rootfstype=ramfs"
    );
    assert_eq!(
        member(&plan, "etc/conf.d/sparetire.conf"),
        "# The medium is a file: give it a device, so that its label can be found.\n\
         if [ ! -e /sparetire.attached ]; then\n\
         \tmodprobe -q loop\n\
         \tlosetup -r -f /sparetire.iso && : > /sparetire.attached\n\
         fi\n"
    );
}

#[test]
fn kiwi_keeps_its_root_label_and_needs_no_root_type() {
    let plan = plan(
        Dracut,
        "root=live:CDLABEL=openSUSE rd.live.image rd.live.overlay.cowfs=ext4",
    );
    assert_eq!(
        plan.cmdline,
        "root=live:CDLABEL=openSUSE rd.live.image rd.live.overlay.cowfs=ext4"
    );
    assert!(!member(&plan, "etc/conf.d/sparetire.conf").is_empty());
}

#[test]
fn archiso_mounts_the_loop_device_that_modprobe_attached() {
    let plan = plan(
        Archiso,
        "archisobasedir=arch archisosearchuuid=2026-11-01-09-00-00-00 copytoram earlymodules=amdgpu",
    );
    assert_eq!(
        plan.cmdline,
        "archisobasedir=arch copytoram=n archisodevice=/dev/loop0 \
         earlymodules=amdgpu,sparetire rootfstype=ramfs"
    );
    assert!(
        member(&plan, "etc/modprobe.d/sparetire.conf")
            .ends_with("\ninstall sparetire modprobe -q loop; losetup -r -f /sparetire.iso\n")
    );
}

#[test]
fn archiso_takes_pmem_as_a_disk() {
    assert_eq!(
        pmem(Archiso, "archisobasedir=arch archisolabel=ARCH_202611"),
        "archisobasedir=arch copytoram=n archisodevice=/dev/pmem0 memmap=0x6400000!0x30000000"
    );
}

#[test]
fn a_system_without_medium_keeps_its_command_line_and_gets_no_image() {
    let plan = hand_off(
        Medium::None,
        Pmem,
        "console=ttyS0 toram",
        Some(" panic=5 "),
        None,
    )
    .unwrap();
    assert_eq!(
        plan,
        HandOffPlan {
            cmdline: "console=ttyS0 toram panic=5".into(),
            members: vec![],
            iso_path: None
        }
    );
}

#[test]
fn what_the_user_appends_comes_last_but_before_the_words_for_init() {
    let plan = hand_off(
        LiveBoot,
        Initramfs,
        "boot=live initrd=/live/initrd.img -- single",
        Some("console=ttyS0,115200 live-config.nocomponents"),
        None,
    )
    .unwrap();
    assert_eq!(
        plan.cmdline,
        "boot=live live-media=/sparetire.iso fromiso=/sparetire.iso rootfstype=ramfs \
         console=ttyS0,115200 live-config.nocomponents -- single"
    );
}

#[test]
fn pmem_without_a_range_is_refused() {
    assert_eq!(
        hand_off(LiveBoot, Pmem, "", None, None),
        Err(HandOffError::NoPmemRange)
    );
}

#[test]
fn a_command_line_that_the_kernel_would_cut_is_refused() {
    let long = format!("a={}", "x".repeat(2046));
    assert_eq!(
        hand_off(Medium::None, Initramfs, &long, None, None),
        Err(HandOffError::TooLong {
            length: 2048,
            maximum: 2047
        })
    );
}

#[test]
fn control_characters_are_refused_in_both_parts() {
    for (cmdline, append) in [
        ("quiet\nroot=x", ""),
        ("", "a=\u{1b}b"),
        ("", "ä"),
        ("\t", ""),
    ] {
        assert!(matches!(
            hand_off(LiveBoot, Initramfs, cmdline, Some(append), None),
            Err(HandOffError::Unprintable { .. })
        ));
    }
}

#[test]
fn members_follow_their_directories_and_stay_inside_the_root() {
    for medium in [Medium::None, LiveBoot, Casper, Dracut, Archiso] {
        let plan = plan(medium, "inst.stage2=hd:LABEL=X");
        let mut seen = vec![String::new()];
        for member in &plan.members {
            let parent = member
                .path
                .rsplit_once('/')
                .map_or("", |(parent, _)| parent);
            assert!(seen.iter().any(|dir| dir == parent), "{}", member.path);
            assert!(!member.path.starts_with(['/', '.']));
            if member.mode == DIRECTORY {
                seen.push(member.path.clone());
            }
        }
    }
}

proptest! {
    #[test]
    fn no_command_line_panics_and_words_of_the_user_survive(
        cmdline in "[ -~]{0,200}",
        append in "[a-z0-9=.]{1,20}",
        medium in prop::sample::select(vec![Medium::None, LiveBoot, Casper, Dracut, Archiso]),
    ) {
        let plan = hand_off(medium, Initramfs, &cmdline, Some(&append), None).unwrap();
        prop_assert!(words(&plan.cmdline).contains(&append.as_str()) || cmdline.contains('"'));
    }
}
