//! How does the second system find the image that stage one holds in RAM?
//!
//! A live ISO's initramfs looks for its medium on CD, USB and disk, and the image is on none of
//! them. It is either a plain file `/sparetire.iso` in the root of the second system's initramfs
//! (an extra member of the archive) or a persistent-memory device `/dev/pmem0` (a stretch of RAM
//! announced by `memmap=`). This module says, for each family of initramfs, which parameters and
//! which extra members make it look there. It knows nothing of how boot configurations are
//! written, so that the loader carries only this.
//!
//! | family | file in the initramfs | read in |
//! |---|---|---|
//! | live-boot | `fromiso=` takes a plain file whose name ends in `.iso`; `live-media=` makes it look before any disk | live-boot 20230131: `9990-cmdline-old`, `9990-main.sh`, `9990-misc-helpers.sh` (`check_dev`, `find_livefs`) |
//! | casper | `live-media=` with `LIVEMEDIA_OFFSET` set attaches a loop device to whatever is named; the variable can only come from `/conf/conf.d`, which initramfs-tools' `/init` sources into the same shell | casper of Ubuntu 20.04: `scripts/casper`, `casper-helpers` (`setup_loop`), `casper-premount/20iso_scan`, which uses the same two variables; initramfs-tools 0.142 `init` |
//! | dracut, dmsquash-live | `root=live:/FILE.iso` is its own syntax | dracut 059 and dracut-ng: `parse-dmsquash-live.sh`, `dmsquash-liveiso-genrules.sh`, `dmsquash-live-root.sh` |
//! | dracut, anaconda and kiwi | both search by label only, so a loop device is attached by `/etc/conf.d`, which `dracut-cmdline` sources before udev starts; udev then makes the label's link | dracut 059 `dracut-cmdline.sh`, `init.sh`; anaconda `repo-genrules.sh` |
//! | archiso | `archisodevice=` takes any block device; a loop device is attached by an `install` line of modprobe, run by `earlymodules=`, after udev started and before the hook that mounts | mkinitcpio `init`, `init_functions`; mkinitcpio-archiso `hooks/archiso`, `archiso_loop_mnt` |
//!
//! Proven by boots of Debian 12 systems without any disk, our members standing before the
//! distribution's archive:
//! live-boot with the file and `rootfstype=ramfs`; live-boot with pmem (its initramfs needs
//! `nd_e820` and `nd_pmem`, which Debian's does not carry); dracut 059 with `root=live:/FILE.iso`;
//! dracut 059 finding a label through the `/etc/conf.d` member. modprobe's `install` line for a
//! name without a module was run with kmod 30. Derived from the scripts only, not booted: casper,
//! archiso as a whole, anaconda's and kiwi's own search for the label, pmem outside live-boot.
//!
//! **`rootfstype=ramfs`.** The kernel unpacks the initramfs into a tmpfs, which holds at most half
//! of RAM, when neither `root=` nor `rootfstype=` is given (`init_rootfs`, init/do_mounts.c);
//! otherwise into a ramfs, which has no limit. Unpacking takes the image twice, so half of RAM is
//! nearly what fits anyway; but what the distribution's archive unpacks to counts against that half
//! as well, and once it is full the image is cut off with nothing but a kernel message, or the
//! scripts have no room for their own files. So the parameter is added wherever a file is placed
//! and no `root=` does the same: live-boot, casper, archiso, anaconda. It is safe there because none
//! of them mounts its root by type: initramfs-tools uses it in `scripts/local` only, mkinitcpio in
//! its default mount handler, dracut for `block:` roots; switching root accepts both types. What is
//! lost is swapping the image out, which a live system without swap cannot do anyway.
//!
//! **Copying to RAM** (`toram`, `copytoram`, `rd.live.ram`) is removed: the image is in RAM, and a
//! second copy would double what it takes. archiso decides by itself when not told, so it is told.
//!
//! Extra members may stand before or after the distribution's own archives. Directories are named
//! only where every initramfs of the family has a real directory (`conf`, `etc`), never where it
//! may have a link into `/usr` (`lib`, `bin`): the kernel would keep ours and drop theirs.

use sparetire_manifest::{Medium, Placement};

use crate::cmdline::{has, name, words};

/// Name of the archive member that holds the image, without the leading slash.
pub const IMAGE_MEMBER: &str = "sparetire.iso";

/// Longest command line that an x86 kernel takes (`COMMAND_LINE_SIZE` less the final zero).
pub const MAX_CMDLINE: usize = 2047;

const IMAGE_FILE: &str = "/sparetire.iso";
const PMEM_DEVICE: &str = "/dev/pmem0";
const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_644;

/// What the second kernel is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOffPlan {
    /// The kernel command line.
    pub cmdline: String,
    /// Extra members of the initramfs, directories before what is in them; without the image.
    pub members: Vec<Member>,
    /// Name of the member that holds the image ([`IMAGE_MEMBER`]), or `None` if the image is not
    /// passed as a file: not needed, or placed as persistent memory.
    pub iso_path: Option<&'static str>,
}

/// A member of a newc archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Path from the root, without a leading slash.
    pub path: String,
    /// File type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Content; empty for a directory.
    pub bytes: Vec<u8>,
}

/// A stretch of RAM that holds the image and becomes `/dev/pmem0`. The image starts at `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PmemRange {
    /// Physical address of the first byte; a multiple of the page size.
    pub address: u64,
    /// Length in bytes; a multiple of the page size, at least the image's.
    pub size: u64,
}

/// Why no plan could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandOffError {
    /// Persistent memory was asked for, and no range was given.
    #[error("no memory range for the image")]
    NoPmemRange,
    /// More than the kernel reads; the end of it would be lost without a message.
    #[error("command line of {length} bytes, at most {maximum} possible")]
    TooLong {
        /// Length with everything added.
        length: usize,
        /// What the kernel takes.
        maximum: usize,
    },
    /// A line break or another control character in the recipe or in what the user appends.
    #[error("control or non-ASCII character in the command line at byte {at}")]
    Unprintable {
        /// Offset in the offending text.
        at: usize,
    },
}

/// Makes the plan for one boot.
///
/// `cmdline` is what the image's own boot configuration says, `append` what the user adds;
/// `pmem` is needed when the image is placed as persistent memory.
pub fn hand_off(
    medium: Medium,
    placement: Placement,
    cmdline: &str,
    append: Option<&str>,
    pmem: Option<PmemRange>,
) -> Result<HandOffPlan, HandOffError> {
    let append = append.unwrap_or_default();
    for text in [cmdline, append] {
        if let Some(at) = text.bytes().position(|byte| !(0x20..0x7f).contains(&byte)) {
            return Err(HandOffError::Unprintable { at });
        }
    }
    let place = match (medium, placement, pmem) {
        (Medium::None, _, _) => None,
        (_, Placement::Initramfs, _) => Some(Place::File),
        (_, Placement::Pmem, Some(range)) => Some(Place::Pmem(range)),
        (_, Placement::Pmem, None) => return Err(HandOffError::NoPmemRange),
    };
    let mut change = match (medium, place) {
        (Medium::None, _) | (_, None) => Change::default(),
        (Medium::LiveBoot, Some(place)) => live_boot(place),
        (Medium::Casper, Some(place)) => casper(place),
        (Medium::Dracut, Some(place)) => dracut(place, cmdline),
        (Medium::Archiso, Some(place)) => archiso(place, cmdline),
    };
    match place {
        Some(Place::File) if !change.root_given => {
            change.drop.push("rootfstype");
            change.add("rootfstype=ramfs");
        }
        Some(Place::Pmem(range)) => {
            // The size stands first: `memmap=nn!ss`. The kernel's address randomisation reads it
            // too and stays clear of the range.
            change.add(format!("memmap={:#x}!{:#x}", range.size, range.address));
        }
        _ => {}
    }
    let cmdline = change.apply(cmdline, append);
    if cmdline.len() > MAX_CMDLINE {
        return Err(HandOffError::TooLong {
            length: cmdline.len(),
            maximum: MAX_CMDLINE,
        });
    }
    Ok(HandOffPlan {
        cmdline,
        members: change.members,
        iso_path: matches!(place, Some(Place::File)).then_some(IMAGE_MEMBER),
    })
}

#[derive(Clone, Copy)]
enum Place {
    File,
    Pmem(PmemRange),
}

impl Place {
    fn path(self) -> &'static str {
        match self {
            Self::File => IMAGE_FILE,
            Self::Pmem(_) => PMEM_DEVICE,
        }
    }
}

/// What one family needs changed.
#[derive(Default)]
struct Change {
    /// Names of parameters that point elsewhere or copy the medium.
    drop: Vec<&'static str>,
    add: Vec<String>,
    members: Vec<Member>,
    /// A `root=` is given, so the kernel unpacks into a ramfs by itself.
    root_given: bool,
}

impl Change {
    fn add(&mut self, word: impl Into<String>) {
        self.add.push(word.into());
    }

    fn directory(&mut self, path: &str) {
        self.members.push(Member {
            path: path.into(),
            mode: DIRECTORY,
            bytes: Vec::new(),
        });
    }

    fn file(&mut self, path: &str, content: &str) {
        self.members.push(Member {
            path: path.into(),
            mode: FILE,
            bytes: content.as_bytes().to_vec(),
        });
    }

    /// Words kept, words added, words of the user; all of them before a `--`, after which the
    /// kernel passes words to init instead of reading them (`---` is the Debian installer's mark
    /// for what the installed system shall keep).
    fn apply(&self, cmdline: &str, append: &str) -> String {
        let given = words(cmdline);
        let end = given
            .iter()
            .position(|word| matches!(*word, "--" | "---"))
            .unwrap_or(given.len());
        let (before, after) = given.split_at(end);
        before
            .iter()
            .copied()
            .filter(|word| !self.drops(word))
            .chain(self.add.iter().map(String::as_str))
            .chain(words(append))
            .chain(after.iter().copied())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn drops(&self, word: &str) -> bool {
        let name = name(word);
        // Both are the boot loader's own business, left over when a configuration was read by
        // hand into a recipe.
        ["initrd", "BOOT_IMAGE"].contains(&name) || self.drop.contains(&name)
    }
}

/// live-boot: `fromiso=` is looked at once `live-media=` named something.
fn live_boot(place: Place) -> Change {
    let mut change = Change {
        drop: vec![
            "boot",
            "bootfrom",
            "fetch",
            "findiso",
            "fromiso",
            "ftpfs",
            "httpfs",
            "iscsi",
            "iso-scan/filename",
            "isofrom",
            "live-media",
            "live-media-offset",
            "live-media-timeout",
            "netboot",
            "nfsroot",
            "todisk",
            "toram",
        ],
        ..Change::default()
    };
    change.add("boot=live");
    change.add(format!("live-media={}", place.path()));
    if matches!(place, Place::File) {
        change.add(format!("fromiso={IMAGE_FILE}"));
    }
    change
}

/// casper: what `iso-scan/filename=` does after its search, without the search.
fn casper(place: Place) -> Change {
    let mut change = Change {
        drop: vec![
            "boot",
            "cdrom-detect/cdrom_device",
            "cdrom-detect/try-usb",
            "findiso",
            "fromiso",
            "iso-scan/filename",
            "live-media",
            "live-media-offset",
            "live-media-timeout",
            "netboot",
            "nfsroot",
            "todisk",
            "toram",
            "url",
        ],
        ..Change::default()
    };
    change.add("boot=casper");
    change.add(format!("live-media={}", place.path()));
    if matches!(place, Place::File) {
        change.directory("conf");
        change.directory("conf/conf.d");
        change.file(
            "conf/conf.d/sparetire",
            "# The medium is a file: casper attaches a loop device when an offset is set.\n\
             LIVEMEDIA_OFFSET=0\n",
        );
    }
    change
}

/// dracut: dmsquash-live by its own parameter; anaconda and kiwi by label, on a loop device.
fn dracut(place: Place, cmdline: &str) -> Change {
    let by_label = ["inst.stage2", "inst.repo", "rd.live.overlay.cowfs"]
        .iter()
        .any(|name| has(cmdline, name))
        || words(cmdline)
            .iter()
            .any(|word| word.starts_with("rd.kiwi."));
    let mut change = Change {
        drop: vec![
            "check",
            "findiso",
            "fromiso",
            "iso-scan/filename",
            "live_ram",
            "rd.live.check",
            "rd.live.ram",
        ],
        ..Change::default()
    };
    if !by_label {
        change.drop.extend(["liveimg", "rd.live.image", "root"]);
        change.add(format!("root=live:{}", place.path()));
        change.add("rd.live.image");
        change.root_given = true;
        return change;
    }
    change.root_given = has(cmdline, "root");
    if matches!(place, Place::File) {
        change.directory("etc");
        change.directory("etc/conf.d");
        // Sourced once by every stage of dracut; the flag keeps it to one loop device.
        change.file(
            "etc/conf.d/sparetire.conf",
            "# The medium is a file: give it a device, so that its label can be found.\n\
             if [ ! -e /sparetire.attached ]; then\n\
             \tmodprobe -q loop\n\
             \tlosetup -r -f /sparetire.iso && : > /sparetire.attached\n\
             fi\n",
        );
    }
    change
}

/// archiso: the medium is the first loop device.
fn archiso(place: Place, cmdline: &str) -> Change {
    let mut change = Change {
        drop: vec![
            "archiso_http_srv",
            "archiso_nbd_srv",
            "archiso_nfs_srv",
            "archisodevice",
            "archisolabel",
            "archisosearchfilename",
            "archisosearchuuid",
            "copytoram",
            "copytoram_size",
            "img_dev",
            "img_flags",
            "img_label",
            "img_loop",
        ],
        ..Change::default()
    };
    change.add("copytoram=n");
    match place {
        Place::File => {
            change.add("archisodevice=/dev/loop0");
            change.drop.push("earlymodules");
            change.add(match crate::cmdline::value(cmdline, "earlymodules") {
                Some(modules) if !modules.is_empty() => {
                    format!("earlymodules={modules},sparetire")
                }
                _ => "earlymodules=sparetire".into(),
            });
            change.directory("etc");
            change.directory("etc/modprobe.d");
            // No module has this name: modprobe runs the line instead, also where the loop driver
            // is built in.
            change.file(
                "etc/modprobe.d/sparetire.conf",
                "# The medium is a file: \"modprobe sparetire\" gives it a device.\n\
                 install sparetire modprobe -q loop; losetup -r -f /sparetire.iso\n",
            );
        }
        Place::Pmem(_) => change.add(format!("archisodevice={PMEM_DEVICE}")),
    }
    change
}

#[cfg(test)]
mod tests;
