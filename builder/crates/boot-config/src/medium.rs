//! How does a system look for the ISO it was booted from?
//!
//! Told by the parameters of its command line, which each family needs or at least knows, or else
//! by the directory its kernel lies in and what is beside it. A wrong guess boots into an initramfs
//! that finds nothing, so a system with none of the marks counts as one without a medium.

use sparetire_manifest::Medium;

use crate::cmdline::{has, value};
use crate::discover::Entry;
use crate::files::Files;

/// Which family the initramfs of `entry` is of.
pub fn medium_of(entry: &Entry, files: &dyn Files) -> Medium {
    let cmdline = entry.cmdline.as_str();
    match value(cmdline, "boot") {
        Some("live") => return Medium::LiveBoot,
        Some("casper") => return Medium::Casper,
        _ => {}
    }
    let any = |names: &[&str]| names.iter().any(|name| has(cmdline, name));
    if any(&[
        "archisobasedir",
        "archisodevice",
        "archisolabel",
        "archisosearchuuid",
        "archisosearchfilename",
    ]) {
        return Medium::Archiso;
    }
    let root = value(cmdline, "root").unwrap_or_default();
    if root.starts_with("live:") || any(&["rd.live.image", "liveimg", "inst.stage2", "inst.repo"]) {
        return Medium::Dracut;
    }
    // Ubuntu's own configurations no longer say boot=casper: the initramfs knows.
    let lies_in = |directory: &str| entry.kernel.to_lowercase().starts_with(directory);
    if lies_in("/casper/") && holds_images(files, "/casper") {
        return Medium::Casper;
    }
    if lies_in("/live/") && holds_images(files, "/live") {
        return Medium::LiveBoot;
    }
    Medium::None
}

fn holds_images(files: &dyn Files, directory: &str) -> bool {
    files.list(directory).is_ok_and(|listed| {
        listed
            .iter()
            .any(|one| one.name.to_lowercase().ends_with(".squashfs"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Tree;

    #[test]
    fn each_family_is_known_by_its_marks() {
        let tree = Tree::default().with(&[
            "/casper/filesystem.squashfs",
            "/live/filesystem.squashfs",
            "/install.amd/vmlinuz",
        ]);
        for (kernel, cmdline, expected) in [
            ("/live/vmlinuz", "boot=live components", Medium::LiveBoot),
            ("/live/vmlinuz", "quiet", Medium::LiveBoot),
            ("/casper/vmlinuz", "quiet splash ---", Medium::Casper),
            ("/casper/vmlinuz", "boot=casper", Medium::Casper),
            (
                "/images/pxeboot/vmlinuz",
                "root=live:CDLABEL=F41 rd.live.image",
                Medium::Dracut,
            ),
            (
                "/images/pxeboot/vmlinuz",
                "inst.stage2=hd:LABEL=F41 quiet",
                Medium::Dracut,
            ),
            (
                "/arch/boot/x86_64/vmlinuz-linux",
                "archisobasedir=arch",
                Medium::Archiso,
            ),
            ("/install.amd/vmlinuz", "vga=788 --- quiet", Medium::None),
            ("/boot/vmlinuz", "root=/dev/sda1 boot=livecd", Medium::None),
        ] {
            let entry = Entry {
                title: String::new(),
                kernel: kernel.into(),
                initrd: vec![],
                cmdline: cmdline.into(),
                source: String::new(),
                default: false,
            };
            assert_eq!(medium_of(&entry, &tree), expected, "{kernel} {cmdline}");
        }
    }
}
