//! Which system on an ISO is booted, and with what?
//!
//! An ISO offers several: the live system, the same with other options, an installer, a memory
//! test. Taken is the one that starts when nobody chooses, as far as it can be started from RAM: its
//! kernel and initramfs must be on the ISO, each in one piece, the kernel for 64-bit x86 (kexec
//! needs that), and it should be a system known to find its medium in RAM; an installer that looks
//! for a CD comes after every live system.

use boot_config::{DiscoverError, Discovered, Entry, discover, medium_of};
use sparetire_manifest::{Extent, LinuxBoot, Medium, NamedExtent, Placement};

use crate::iso_image::{IsoImage, IsoImageError};

/// Largest file that a newc archive member can be.
const MAX_MEMBER: u64 = u32::MAX as u64;
/// Notes passed on about one ISO.
const MAX_NOTES: usize = 20;

/// The system chosen on an ISO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSystem {
    /// How it is booted, for the manifest.
    pub boot: LinuxBoot,
    /// What the ISO's menu calls it.
    pub title: String,
    /// The configuration file that has it.
    pub source: String,
    /// What the user should know: assumptions made, things passed over.
    pub notes: Vec<String>,
}

/// One entry of the ISO's menus, and whether it could be booted.
#[derive(Debug)]
pub struct Offer {
    /// The entry.
    pub entry: Entry,
    /// How it looks for its medium.
    pub medium: Medium,
    /// Its parts, or why it cannot be booted.
    pub parts: Result<Parts, Unbootable>,
}

/// Kernel and initramfs of an entry, found on the ISO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The kernel.
    pub kernel: NamedExtent,
    /// The initramfs archives, in order.
    pub initrd: Vec<NamedExtent>,
}

/// Why an entry cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum Unbootable {
    /// A file it names cannot be read.
    #[error(transparent)]
    File(#[from] IsoImageError),
    /// A file it names is empty.
    #[error("{path} is empty")]
    Empty {
        /// The file.
        path: String,
    },
    /// A file it names does not lie in one piece, which a manifest cannot say.
    #[error("{path} lies in {pieces} pieces")]
    InPieces {
        /// The file.
        path: String,
        /// How many.
        pieces: usize,
    },
    /// Not a Linux kernel in bzImage form.
    #[error("{path} is not a Linux kernel")]
    NotLinux {
        /// The file.
        path: String,
    },
    /// A kernel for 32-bit machines, or too old to say that it is for 64-bit ones.
    #[error("{path} has no 64-bit entry point")]
    Not64Bit {
        /// The file.
        path: String,
    },
    /// Something else than printable ASCII on the command line.
    #[error("its command line has characters that no kernel takes")]
    CommandLine,
}

/// Why nothing on an ISO can be booted.
#[derive(Debug, thiserror::Error)]
pub enum LiveIsoError {
    /// No boot configuration, or none that offers Linux.
    #[error(transparent)]
    Configuration(#[from] DiscoverError),
    /// No entry has the title or number asked for, or several have.
    #[error("{} called {wanted:?}; there are: {}", if *several { "several entries are" } else { "no entry is" }, titles.join(" | "))]
    NoSuchEntry {
        /// What was asked for.
        wanted: String,
        /// Whether more than one fits.
        several: bool,
        /// Titles with their numbers.
        titles: Vec<String>,
    },
    /// The entry asked for cannot be booted.
    #[error("{title:?} cannot be booted")]
    Entry {
        /// The entry.
        title: String,
        /// Why not.
        #[source]
        source: Unbootable,
    },
    /// No entry can be booted.
    #[error("no entry of the ISO can be booted: {}", reasons.join("; "))]
    NoneBootable {
        /// Each title with its reason.
        reasons: Vec<String>,
    },
}

/// Everything the ISO offers, in its own order; numbers shown to users count from 1.
pub fn offers(iso: &IsoImage) -> Result<(Vec<Offer>, Vec<String>), LiveIsoError> {
    let Discovered { entries, problems } = discover(iso)?;
    let offers = entries
        .into_iter()
        .map(|entry| Offer {
            medium: medium_of(&entry, iso),
            parts: parts(iso, &entry),
            entry,
        })
        .collect();
    let notes = problems.iter().map(ToString::to_string).collect();
    Ok((offers, notes))
}

/// Chooses a system: the entry whose title or number is `wanted`, or the best one.
pub fn linux_boot_of(iso: &IsoImage, wanted: Option<&str>) -> Result<LiveSystem, LiveIsoError> {
    let (mut offers, problems) = offers(iso)?;
    let index = match wanted {
        Some(wanted) => find(&offers, wanted)?,
        None => best(&offers)?,
    };
    let Offer {
        entry,
        medium,
        parts,
    } = offers.swap_remove(index);
    let parts = parts.map_err(|source| LiveIsoError::Entry {
        title: entry.title.clone(),
        source,
    })?;
    let mut notes = problems;
    notes.truncate(MAX_NOTES);
    let mut placement = Placement::Initramfs;
    if medium == Medium::None {
        notes.push(format!(
            "{:?}: nothing says how this system looks for its medium; it gets kernel and initramfs alone",
            entry.title
        ));
    } else if iso.size() > MAX_MEMBER {
        placement = Placement::Pmem;
        notes.push(
            "larger than 4 GiB, so placed as persistent memory: the system's initramfs needs the \
             drivers nd_e820 and nd_pmem"
                .into(),
        );
    }
    Ok(LiveSystem {
        boot: LinuxBoot {
            kernel: parts.kernel,
            initrd: parts.initrd,
            // Tabs and runs of blanks mean nothing to the kernel.
            cmdline: entry
                .cmdline
                .split_ascii_whitespace()
                .collect::<Vec<_>>()
                .join(" "),
            medium,
            placement,
        },
        title: entry.title,
        source: entry.source,
        notes,
    })
}

/// The entry called `wanted`: its number, its whole title, or a part of one title alone.
fn find(offers: &[Offer], wanted: &str) -> Result<usize, LiveIsoError> {
    if let Ok(number) = wanted.parse::<usize>()
        && let Some(index) = number.checked_sub(1)
        && index < offers.len()
    {
        return Ok(index);
    }
    let lower = wanted.to_lowercase();
    let matching = |test: &dyn Fn(&str) -> bool| -> Vec<usize> {
        offers
            .iter()
            .enumerate()
            .filter(|(_, offer)| test(&offer.entry.title.to_lowercase()))
            .map(|(index, _)| index)
            .collect()
    };
    let whole = matching(&|title| title == lower);
    // BIOS and UEFI menus call the same thing by the same name.
    if let Some(first) = whole.first() {
        return Ok(*first);
    }
    let part = matching(&|title| title.contains(&lower));
    let same = |first: &usize, other: &usize| {
        let title = |index: &usize| offers.get(*index).map(|offer| &offer.entry.title);
        title(first) == title(other)
    };
    match part.as_slice() {
        [first, rest @ ..] if rest.iter().all(|other| same(first, other)) => Ok(*first),
        found => Err(LiveIsoError::NoSuchEntry {
            wanted: wanted.to_owned(),
            several: !found.is_empty(),
            titles: offers
                .iter()
                .enumerate()
                .map(|(index, offer)| format!("{} {}", index + 1, offer.entry.title))
                .collect(),
        }),
    }
}

/// The bootable entry that is most likely meant.
fn best(offers: &[Offer]) -> Result<usize, LiveIsoError> {
    offers
        .iter()
        .enumerate()
        .filter(|(_, offer)| offer.parts.is_ok())
        .min_by_key(|(_, offer)| rank(offer))
        .map(|(index, _)| index)
        .ok_or_else(|| LiveIsoError::NoneBootable {
            reasons: offers
                .iter()
                .filter_map(|offer| {
                    let reason = offer.parts.as_ref().err()?;
                    Some(format!("{}: {reason}", offer.entry.title))
                })
                .collect(),
        })
}

/// Smaller is better: finds its medium, has an initramfs (a memory test has none), is what starts
/// by itself, is not a variant for special cases.
fn rank(offer: &Offer) -> (bool, bool, bool, bool) {
    let title = offer.entry.title.to_lowercase();
    let variant = VARIANTS.iter().any(|word| title.contains(word));
    (
        offer.medium == Medium::None,
        offer.entry.initrd.is_empty(),
        !offer.entry.default,
        variant,
    )
}

const VARIANTS: [&str; 14] = [
    "accessib",
    "advanced",
    "basic graphics",
    "check",
    "debug",
    "fail",
    "forensic",
    "memtest",
    "oem",
    "persist",
    "safe",
    "speech",
    "test",
    "verify",
];

fn parts(iso: &IsoImage, entry: &Entry) -> Result<Parts, Unbootable> {
    let allowed = |byte: u8| byte == b'\t' || (0x20..0x7f).contains(&byte);
    if !entry.cmdline.bytes().all(allowed) {
        return Err(Unbootable::CommandLine);
    }
    let kernel = one_piece(iso, &entry.kernel)?;
    check_kernel(iso, &kernel)?;
    let initrd = entry
        .initrd
        .iter()
        .map(|path| one_piece(iso, path))
        .collect::<Result<_, _>>()?;
    Ok(Parts { kernel, initrd })
}

fn one_piece(iso: &IsoImage, path: &str) -> Result<NamedExtent, Unbootable> {
    match iso.extents(path)?.as_slice() {
        [Extent { offset, length }] => Ok(NamedExtent {
            path: path.to_owned(),
            offset: *offset,
            length: *length,
        }),
        [] => Err(Unbootable::Empty {
            path: path.to_owned(),
        }),
        pieces => Err(Unbootable::InPieces {
            path: path.to_owned(),
            pieces: pieces.len(),
        }),
    }
}

/// Looks at the setup header (Documentation/arch/x86/boot.rst): `HdrS` at 0x202, the protocol
/// version at 0x206, and from version 2.12 `XLF_KERNEL_64` in `xloadflags` at 0x236.
fn check_kernel(iso: &IsoImage, kernel: &NamedExtent) -> Result<(), Unbootable> {
    const HEADER: usize = 0x238;
    let not_linux = || Unbootable::NotLinux {
        path: kernel.path.clone(),
    };
    if kernel.length < HEADER as u64 {
        return Err(not_linux());
    }
    let header = iso.read_at(kernel.offset, HEADER)?;
    let half = |at: usize| match header.get(at..at + 2) {
        Some([low, high]) => u16::from_le_bytes([*low, *high]),
        _ => 0,
    };
    if header.get(0x202..0x206) != Some(b"HdrS") || half(0x1fe) != 0xaa55 {
        return Err(not_linux());
    }
    if half(0x206) < 0x20c || half(0x236) & 1 == 0 {
        return Err(Unbootable::Not64Bit {
            path: kernel.path.clone(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
