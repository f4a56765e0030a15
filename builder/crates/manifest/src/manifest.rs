//! The manifest: what one version of an image is, and how it is booted. Layout: `docs/formats/manifest.md`.
//!
//! Read as JSON of at most [`MAX_MANIFEST`] bytes. Unknown fields are ignored, so that hints can be added; whatever a
//! reader must understand (`format`, and the values of `kind`, `boot.type`, `boot.medium`, `boot.placement`) is refused by
//! name when it is unknown. Who controls the bytes: a store that nobody has to trust, until the signature was checked.

use serde::{Deserialize, Serialize};

use crate::index::HEADER_LEN as MIN_INDEX;
use crate::{
    Digest, FORMAT, ImageName, MAX_IMAGE, MAX_INDEX, MAX_MANIFEST, Timestamp, VerifyError,
};

/// One version of an image: what it is, which bytes, how it boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format: [`FORMAT`].
    pub format: u32,
    /// Which image.
    pub name: ImageName,
    /// Which version; higher is newer.
    pub version: u64,
    /// A short name for people, without control characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Text for people, without control characters other than line feeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What the image's bytes are.
    pub kind: ImageKind,
    /// When this version was made.
    pub created: Timestamp,
    /// First moment at which this version must not be booted any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Length of the image in bytes, at most [`MAX_IMAGE`].
    pub size: u64,
    /// Digest of the whole image.
    pub sha256: Digest,
    /// The chunk index that belongs to this version.
    pub index: IndexRef,
    /// How the image boots.
    pub boot: BootRecipe,
    /// RAM in bytes below which booting is pointless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ram: Option<u64>,
    /// Firmware on which the image boots; empty = not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<Firmware>,
}

/// What the image's bytes are. Further kinds are refused by name until they are implemented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageKind {
    /// An ISO image of a Linux live system.
    LinuxIso,
    /// A kernel, then initrds, each at a multiple of 4096 and zero padded.
    LinuxNetboot,
}

/// Firmware that can boot an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// Legacy BIOS.
    Bios,
    /// UEFI, Secure Boot off.
    Uefi,
}

/// The index of a manifest, by digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRef {
    /// Digest of the index file.
    pub sha256: Digest,
    /// Length of the index file in bytes, at most [`MAX_INDEX`].
    pub size: u64,
}

/// A run of the image's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// First byte, counted from the start of the image.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// A run of the image's bytes, and the name it had there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NamedExtent {
    /// Path inside the image, for people only: nobody opens it.
    pub path: String,
    /// First byte, counted from the start of the image.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

impl NamedExtent {
    /// The bytes without the name.
    pub fn extent(&self) -> Extent {
        Extent {
            offset: self.offset,
            length: self.length,
        }
    }
}

/// How the second system looks for the ISO it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Medium {
    /// It does not: kernel and initrds are all.
    #[default]
    None,
    /// Debian's live-boot.
    LiveBoot,
    /// Ubuntu's casper.
    Casper,
    /// dracut's dmsquash-live.
    Dracut,
    /// Arch's archiso hooks.
    Archiso,
}

/// Where in RAM the image waits for the second system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// As a file in an additional initramfs member.
    #[default]
    Initramfs,
    /// As a persistent-memory device, `/dev/pmem0`.
    Pmem,
}

/// What to do with the image's bytes once they are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum BootRecipe {
    /// Start a Linux kernel.
    Linux(LinuxBoot),
}

/// How a Linux system starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinuxBoot {
    /// The kernel image.
    pub kernel: NamedExtent,
    /// Its initrds, in order.
    #[serde(default)]
    pub initrd: Vec<NamedExtent>,
    /// Kernel command line: printable ASCII.
    pub cmdline: String,
    /// How the second system finds the ISO.
    #[serde(default)]
    pub medium: Medium,
    /// Where the ISO waits for it.
    #[serde(default)]
    pub placement: Placement,
}

impl Manifest {
    /// The canonical encoding, which is what gets signed: pretty JSON, fields in declaration order, one line feed at the end.
    pub fn to_json(&self) -> Vec<u8> {
        crate::json::to_pretty(self)
    }

    /// Reads a manifest whose signature nobody checked: for showing and for making stores, never for booting.
    pub fn parse_unverified(bytes: &[u8]) -> Result<Self, ParseError> {
        crate::json::check_format(bytes, MAX_MANIFEST)?;
        let closed: ClosedSets = serde_json::from_slice(bytes)?;
        closed.check()?;
        let manifest: Self = serde_json::from_slice(bytes)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Whether every field holds what its description promises. Readers always ask; writers should before signing.
    pub fn check(&self) -> Result<(), ParseError> {
        check_format_number(self.format)?;
        for (field, text, max, line_feeds) in [
            ("label", &self.label, MAX_LABEL, false),
            ("description", &self.description, MAX_DESCRIPTION, true),
        ] {
            if let Some(text) = text {
                check_text(field, text, max, line_feeds)?;
            }
        }
        if self.size == 0 || self.size > MAX_IMAGE {
            return Err(ParseError::Number {
                field: "size",
                found: self.size,
                least: 1,
                most: MAX_IMAGE,
            });
        }
        let (least, most) = (MIN_INDEX as u64, MAX_INDEX);
        if !(least..=most).contains(&self.index.size) {
            return Err(ParseError::Number {
                field: "index.size",
                found: self.index.size,
                least,
                most,
            });
        }
        if self.firmware.len() > MAX_FIRMWARE {
            return Err(ParseError::Count {
                field: "firmware",
                found: self.firmware.len(),
                most: MAX_FIRMWARE,
            });
        }
        let BootRecipe::Linux(linux) = &self.boot;
        linux.check(self.size)?;
        if self.kind == ImageKind::LinuxNetboot && linux.medium != Medium::None {
            return Err(ParseError::Field {
                field: "boot.medium",
                problem: "but a netboot image holds no ISO",
            });
        }
        Ok(())
    }

    /// What the signature's trusted comment must say, so that no other signed file can stand in for this one.
    pub fn trusted_comment(&self) -> String {
        format!("sparetire manifest {} {}", self.name, self.version)
    }

    /// Whether this is the manifest that was asked for: a store may answer with another one, just as well signed.
    pub fn require(&self, name: &ImageName, version: u64) -> Result<(), VerifyError> {
        if self.name == *name && self.version == version {
            return Ok(());
        }
        Err(VerifyError::WrongImage {
            wanted: format!("{name} {version}"),
            found: format!("{} {}", self.name, self.version),
        })
    }
}

impl LinuxBoot {
    fn check(&self, image_size: u64) -> Result<(), ParseError> {
        if self.initrd.len() > MAX_INITRDS {
            return Err(ParseError::Count {
                field: "boot.initrd",
                found: self.initrd.len(),
                most: MAX_INITRDS,
            });
        }
        let mut total = 0u64;
        let named = self.initrd.iter().map(|initrd| ("boot.initrd", initrd));
        for (field, extent) in [("boot.kernel", &self.kernel)].into_iter().chain(named) {
            check_path(field, &extent.path)?;
            let (offset, length) = (extent.offset, extent.length);
            let end = offset
                .checked_add(length)
                .filter(|end| *end <= image_size && length > 0);
            if end.is_none() {
                return Err(ParseError::Extent {
                    field,
                    offset,
                    length,
                    image_size,
                });
            }
            // Overlapping initrds would let a small image claim many times its size in RAM.
            total = total.saturating_add(length);
        }
        if total > image_size {
            return Err(ParseError::Field {
                field: "boot.initrd",
                problem: "together longer than the image",
            });
        }
        if self.cmdline.len() > MAX_CMDLINE {
            return Err(ParseError::Count {
                field: "boot.cmdline",
                found: self.cmdline.len(),
                most: MAX_CMDLINE,
            });
        }
        if !self.cmdline.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(ParseError::Field {
                field: "boot.cmdline",
                problem: "has other than printable ASCII",
            });
        }
        Ok(())
    }
}

/// Why bytes are no manifest, or no `latest.json`.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Longer than any that is read.
    #[error("file of {found} bytes, at most {most} allowed")]
    TooLarge {
        /// Length in bytes.
        found: usize,
        /// Longest allowed.
        most: usize,
    },
    /// Made for a newer reader.
    #[error("{what} {found:?} is not supported by this version")]
    Unsupported {
        /// Which field.
        what: &'static str,
        /// Its value.
        found: String,
    },
    /// Not the JSON that was expected.
    #[error("unreadable JSON")]
    Json(#[from] serde_json::Error),
    /// A number outside its range.
    #[error("{field} is {found}, allowed are {least} to {most}")]
    Number {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// Smallest allowed.
        least: u64,
        /// Largest allowed.
        most: u64,
    },
    /// Too many items, or too long a text.
    #[error("{field} has {found} items or bytes, at most {most} allowed")]
    Count {
        /// Which field.
        field: &'static str,
        /// How many.
        found: usize,
        /// How many are allowed.
        most: usize,
    },
    /// An extent that is empty or leaves the image.
    #[error(
        "{field} at {offset}, {length} bytes long, is not inside an image of {image_size} bytes"
    )]
    Extent {
        /// Which field.
        field: &'static str,
        /// Where it starts.
        offset: u64,
        /// Its length.
        length: u64,
        /// Length of the image.
        image_size: u64,
    },
    /// A field whose content is refused.
    #[error("{field} {problem}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

pub(crate) fn check_format_number(format: u32) -> Result<(), ParseError> {
    if format == FORMAT {
        Ok(())
    } else {
        Err(ParseError::Unsupported {
            what: "format",
            found: format.to_string(),
        })
    }
}

/// The closed sets of a manifest, read loosely, so that a new value is told apart from a mistake.
#[derive(Deserialize)]
struct ClosedSets {
    kind: String,
    boot: ClosedBoot,
    #[serde(default)]
    firmware: Vec<String>,
}

#[derive(Deserialize)]
struct ClosedBoot {
    r#type: String,
    #[serde(default)]
    medium: Option<String>,
    #[serde(default)]
    placement: Option<String>,
}

impl ClosedSets {
    fn check(self) -> Result<(), ParseError> {
        let fields = [
            ("kind", Some(self.kind), &["linux-iso", "linux-netboot"][..]),
            ("boot.type", Some(self.boot.r#type), &["linux"]),
            (
                "boot.medium",
                self.boot.medium,
                &["none", "live-boot", "casper", "dracut", "archiso"],
            ),
            (
                "boot.placement",
                self.boot.placement,
                &["initramfs", "pmem"],
            ),
        ];
        let firmware = self
            .firmware
            .into_iter()
            .map(|found| ("firmware", Some(found), &["bios", "uefi"][..]));
        for (what, found, known) in fields.into_iter().chain(firmware) {
            if let Some(found) = found.filter(|found| !known.contains(&found.as_str())) {
                // Only a name: the value goes to a screen, and the file may be 256 KiB of it.
                let found = found
                    .chars()
                    .filter(|character| !character.is_control())
                    .take(64)
                    .collect();
                return Err(ParseError::Unsupported { what, found });
            }
        }
        Ok(())
    }
}

fn check_text(
    field: &'static str,
    text: &str,
    most: usize,
    line_feeds: bool,
) -> Result<(), ParseError> {
    if text.len() > most {
        return Err(ParseError::Count {
            field,
            found: text.len(),
            most,
        });
    }
    if text
        .chars()
        .any(|character| character.is_control() && !(line_feeds && character == '\n'))
    {
        return Err(ParseError::Field {
            field,
            problem: "has control characters",
        });
    }
    Ok(())
}

// Nobody opens these paths, but they are shown, and a later reader might.
fn check_path(field: &'static str, path: &str) -> Result<(), ParseError> {
    check_text(field, path, MAX_PATH, false)?;
    let relative = path.strip_prefix('/').unwrap_or(path);
    if path.contains('\\')
        || relative
            .split('/')
            .any(|part| matches!(part, "" | "." | ".."))
    {
        return Err(ParseError::Field {
            field,
            problem: "has a path with empty, . or .. parts, or backslashes",
        });
    }
    Ok(())
}

/// Longest command line: the kernel's COMMAND_LINE_SIZE on x86 (2,048) less its final NUL.
pub const MAX_CMDLINE: usize = 2047;
const MAX_LABEL: usize = 128;
const MAX_DESCRIPTION: usize = 4096;
const MAX_FIRMWARE: usize = 8;
const MAX_INITRDS: usize = 16;
const MAX_PATH: usize = 1024;
