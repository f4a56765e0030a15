//! The slot as bytes: where it is, whether it is whole, what it carries, how to change it in place.
//!
//! Read and written: version 1, exactly 16,384 bytes. Everything in it is covered by a CRC-32 or must be zero, so a slot that
//! parses can be emitted again bit for bit. Layout: `docs/formats/config-slot.md`.

use std::fmt;

use zeroize::Zeroize;

/// Length of a slot in bytes.
pub const SLOT_LEN: usize = 16_384;
/// First bytes of a slot.
pub const MAGIC: [u8; 16] = *b"sparetire-config";
/// Name of the slot as a member of the initramfs.
pub const MEMBER: &str = "config-slot";
/// Most TOML that a slot can carry, base and overlay together, in bytes.
pub const CAPACITY: usize = SLOT_LEN - HEADER_LEN;

/// Two TOML texts: what was built in, and what lies over it. Not parsed yet: see [`Slot::config`].
///
/// An overlay may carry a token, so both texts are wiped on drop and `Debug` shows lengths only.
#[derive(Clone, PartialEq, Eq)]
pub struct Slot {
    base: String,
    overlay: String,
}

impl Slot {
    /// A slot as it is built: a base, no overlay.
    pub fn new(base: impl Into<String>) -> Result<Self, SlotError> {
        let slot = Self {
            base: base.into(),
            overlay: String::new(),
        };
        slot.check_fits()?;
        Ok(slot)
    }

    /// The same base under another overlay.
    pub fn with_overlay(&self, overlay: impl Into<String>) -> Result<Self, SlotError> {
        let slot = Self {
            base: self.base.clone(),
            overlay: overlay.into(),
        };
        slot.check_fits()?;
        Ok(slot)
    }

    /// The slot as it was built.
    pub fn without_overlay(&self) -> Self {
        Self {
            base: self.base.clone(),
            overlay: String::new(),
        }
    }

    /// TOML that was built in.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// TOML that lies over it; empty as built.
    pub fn overlay(&self) -> &str {
        &self.overlay
    }

    /// Reads a slot from exactly [`SLOT_LEN`] bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, SlotError> {
        let (header, body) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(SlotError::Length { found: bytes.len() })?;
        if header[..16] != MAGIC {
            return Err(SlotError::Magic);
        }
        if bytes.len() != SLOT_LEN {
            return Err(SlotError::Length { found: bytes.len() });
        }
        // The CRC first: a damaged slot is not to be mistaken for one of a newer version.
        require_crc("header", u32_at(header, HEADER_CRC), &header[..HEADER_CRC])?;
        let version = u16::from_le_bytes([header[16], header[17]]);
        if version != VERSION {
            return Err(SlotError::Unsupported { version });
        }
        let header_len = u16::from_le_bytes([header[18], header[19]]);
        for (what, found, wanted) in [
            ("header length", u32::from(header_len), HEADER_LEN as u32),
            ("slot length", u32_at(header, 20), SLOT_LEN as u32),
        ] {
            if found != wanted {
                return Err(SlotError::Field {
                    what,
                    found,
                    wanted,
                });
            }
        }
        let (base, rest) = take_text("base", body, u32_at(header, 24), u32_at(header, 28))?;
        let (overlay, rest) = take_text("overlay", rest, u32_at(header, 32), u32_at(header, 36))?;
        if header[RESERVED].iter().chain(rest).any(|byte| *byte != 0) {
            return Err(SlotError::NotZero);
        }
        Ok(Self { base, overlay })
    }

    /// The slot's bytes, [`SLOT_LEN`] of them.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = vec![0; SLOT_LEN];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        let text = [self.base.as_bytes(), self.overlay.as_bytes()];
        put(0, &MAGIC);
        put(16, &VERSION.to_le_bytes());
        put(18, &(HEADER_LEN as u16).to_le_bytes());
        put(20, &(SLOT_LEN as u32).to_le_bytes());
        for (field, text) in [24, 32].into_iter().zip(text) {
            // Both fit in CAPACITY: every way to make a Slot checks it.
            put(field, &(text.len() as u32).to_le_bytes());
            put(field + 4, &crc32fast::hash(text).to_le_bytes());
        }
        put(HEADER_LEN, text[0]);
        put(HEADER_LEN + text[0].len(), text[1]);
        let crc = crc32fast::hash(&out[..HEADER_CRC]);
        out[HEADER_CRC..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn check_fits(&self) -> Result<(), SlotError> {
        let (base, overlay) = (self.base.len(), self.overlay.len());
        if base.saturating_add(overlay) > CAPACITY {
            Err(SlotError::TooLong { base, overlay })
        } else {
            Ok(())
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.base.zeroize();
        self.overlay.zeroize();
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Slot {{ base: {} bytes, overlay: {} bytes }}",
            self.base.len(),
            self.overlay.len()
        )
    }
}

/// Offsets at multiples of 512 where a slot starts, whole or damaged.
///
/// An ISO has one slot per boot path that carries an initramfs, so there may be several.
pub fn find(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len())
        .step_by(ALIGNMENT)
        .filter(|at| bytes[*at..].starts_with(&MAGIC))
        .collect()
}

/// Why bytes are no slot, or a text does not fit into one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// Not [`SLOT_LEN`] bytes.
    #[error("config slot of {found} bytes instead of {SLOT_LEN}")]
    Length {
        /// Length found.
        found: usize,
    },
    /// Does not start like a slot.
    #[error("no config slot: wrong magic")]
    Magic,
    /// Made for a newer reader.
    #[error("config slot version {version} is not supported by this version")]
    Unsupported {
        /// Its version.
        version: u16,
    },
    /// A fixed field with another value.
    #[error("{what} of config slot is {found} instead of {wanted}")]
    Field {
        /// Which field.
        what: &'static str,
        /// Value found.
        found: u32,
        /// Value in version 1.
        wanted: u32,
    },
    /// A text that claims more room than is left.
    #[error("{what} of config slot claims {found} bytes, {room} are left")]
    Overlong {
        /// Base or overlay.
        what: &'static str,
        /// Length claimed.
        found: u32,
        /// Bytes left.
        room: usize,
    },
    /// Damaged.
    #[error("{what} of config slot is damaged: CRC-32 {found:08x} instead of {wanted:08x}")]
    Crc {
        /// Header, base or overlay.
        what: &'static str,
        /// CRC stored.
        wanted: u32,
        /// CRC of the bytes.
        found: u32,
    },
    /// Bytes that no checksum covers and that are not zero.
    #[error("unused bytes of config slot are not zero")]
    NotZero,
    /// Not text.
    #[error("{what} of config slot is not UTF-8")]
    NotUtf8 {
        /// Base or overlay.
        what: &'static str,
    },
    /// Too much to carry.
    #[error("configuration of {base} + {overlay} bytes does not fit into {CAPACITY}")]
    TooLong {
        /// Length of the base.
        base: usize,
        /// Length of the overlay.
        overlay: usize,
    },
}

fn take_text<'a>(
    what: &'static str,
    body: &'a [u8],
    length: u32,
    crc: u32,
) -> Result<(String, &'a [u8]), SlotError> {
    let overlong = SlotError::Overlong {
        what,
        found: length,
        room: body.len(),
    };
    let (text, rest) = body.split_at_checked(length as usize).ok_or(overlong)?;
    require_crc(what, crc, text)?;
    let text = std::str::from_utf8(text).map_err(|_| SlotError::NotUtf8 { what })?;
    Ok((text.to_owned(), rest))
}

fn require_crc(what: &'static str, wanted: u32, bytes: &[u8]) -> Result<(), SlotError> {
    let found = crc32fast::hash(bytes);
    if found == wanted {
        Ok(())
    } else {
        Err(SlotError::Crc {
            what,
            wanted,
            found,
        })
    }
}

fn u32_at(header: &[u8; HEADER_LEN], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

const ALIGNMENT: usize = 512;
const VERSION: u16 = 1;
const HEADER_LEN: usize = 64;
const RESERVED: std::ops::Range<usize> = 40..HEADER_CRC;
const HEADER_CRC: usize = 60;
