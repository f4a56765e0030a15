//! Mode parameters: MODE SENSE(6) and (10) (SPC-3 7.4; pages of SFF-8020i and SFF-8070i).
//!
//! The arrays are those that management consoles have fed to vPro PCs since 2019, oddities included: page 03 claims 22 bytes
//! where 20 follow, and page 2A has another loading mechanism when it comes alone. Bit 7 of the
//! device-specific parameter in each header says write protected.

use super::{AnswerError, Cursor};

/// Header of a mode parameter list, and the bytes behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeParameters {
    /// Medium type: 0x01 CD, 0x24 1.44 MB floppy, 0x31 LS-120.
    pub medium_type: u8,
    /// The medium cannot be written.
    pub write_protected: bool,
    /// Everything behind header and block descriptors.
    pub pages: Vec<u8>,
}

/// A page, as a reader that trusts page lengths finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageFrame<'a> {
    /// Page code.
    pub code: u8,
    /// Parameters.
    pub parameters: &'a [u8],
}

impl ModeParameters {
    /// Reads an answer to MODE SENSE(6). The length in byte 0 is ignored: consoles send 0.
    pub fn parse_6(bytes: &[u8]) -> Result<Self, AnswerError> {
        let mut cursor = Cursor::new(bytes);
        let [_, medium_type, device_specific, descriptors] = cursor.take("mode header")?;
        cursor.slice("block descriptors", descriptors.into())?;
        Ok(Self {
            medium_type,
            write_protected: device_specific & WRITE_PROTECTED != 0,
            pages: cursor.rest.to_vec(),
        })
    }

    /// Reads an answer to MODE SENSE(10), cut or whole.
    pub fn parse_10(bytes: &[u8]) -> Result<Self, AnswerError> {
        let mut cursor = Cursor::new(bytes);
        let length = u16::from_be_bytes(cursor.take("mode data length")?);
        if length < 6 {
            return Err(AnswerError::Malformed {
                what: "mode data length",
                found: length.into(),
            });
        }
        let [medium_type, device_specific, _, _, high, low] = cursor.take("mode header")?;
        let covered = usize::from(length - 6).min(cursor.rest.len());
        let mut cursor = Cursor::new(cursor.slice("mode data", covered)?);
        let descriptors = u16::from_be_bytes([high, low]);
        cursor.slice("block descriptors", descriptors.into())?;
        Ok(Self {
            medium_type,
            write_protected: device_specific & WRITE_PROTECTED != 0,
            pages: cursor.rest.to_vec(),
        })
    }

    /// Pages in order, until one does not fit.
    pub fn pages(&self) -> impl Iterator<Item = PageFrame<'_>> {
        let mut cursor = Cursor::new(&self.pages);
        std::iter::from_fn(move || {
            let [code, length] = cursor.take("page header").ok()?;
            let parameters = cursor.slice("page", length.into()).ok()?;
            Some(PageFrame {
                code: code & 0x3f,
                parameters,
            })
        })
    }
}

/// What the arrays depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ModeMedium {
    pub(crate) kind: ModeKind,
    pub(crate) write_protected: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModeKind {
    Cd,
    /// Up to 2,880 blocks.
    Floppy,
    /// Anything larger.
    Ls120,
}

/// All pages at once, which is the header alone; no other page is served.
pub(crate) fn mode_sense_6(medium: ModeMedium, page: u8, subpage: u8) -> Option<Vec<u8>> {
    if page != ALL_PAGES || subpage != 0 {
        return None;
    }
    let medium_type = match medium.kind {
        ModeKind::Cd => 0x05,
        ModeKind::Floppy | ModeKind::Ls120 => 0x00,
    };
    Some(vec![0, medium_type, medium.protection(), 0])
}

pub(crate) fn mode_sense_10(medium: ModeMedium, page: u8, subpage: u8) -> Option<Vec<u8>> {
    if subpage != 0 {
        return None;
    }
    let (medium_type, pages): (u8, &[&[u8]]) = match (medium.kind, page) {
        (ModeKind::Floppy, 0x01) => (TYPE_FLOPPY, &[&PAGE_01_FLOPPY]),
        (ModeKind::Ls120, 0x01) => (TYPE_LS120, &[&PAGE_01_FLOPPY]),
        (ModeKind::Cd, 0x01) => (TYPE_CD, &[&PAGE_01_CD]),
        (ModeKind::Floppy, 0x05) => (TYPE_FLOPPY, &[&PAGE_05_FLOPPY]),
        (ModeKind::Ls120, 0x05) => (TYPE_LS120, &[&PAGE_05_LS120]),
        (ModeKind::Cd, 0x1a) => (TYPE_CD, &[&PAGE_1A]),
        (ModeKind::Cd, 0x1d) => (TYPE_CD, &[&PAGE_1D]),
        (ModeKind::Cd, 0x2a) => (TYPE_CD, &[&PAGE_2A_ALONE]),
        (ModeKind::Cd, ALL_PAGES) => (TYPE_CD, &[&PAGE_01_CD, &PAGE_2A]),
        (ModeKind::Floppy, ALL_PAGES) => (
            TYPE_FLOPPY,
            &[
                &PAGE_01_FLOPPY,
                &PAGE_03,
                &PAGE_05_FLOPPY,
                &PAGE_08,
                &PAGE_0B,
            ],
        ),
        // The medium type stays that of a floppy here, in every console.
        (ModeKind::Ls120, ALL_PAGES) => (
            TYPE_FLOPPY,
            &[
                &PAGE_01_FLOPPY,
                &PAGE_03,
                &PAGE_05_LS120,
                &PAGE_08,
                &PAGE_0B,
            ],
        ),
        _ => return None,
    };
    let pages = pages.concat();
    // The longest list has 86 bytes.
    let [high, low] = (6 + pages.len() as u16).to_be_bytes();
    let mut bytes = vec![high, low, medium_type, medium.protection(), 0, 0, 0, 0];
    bytes.extend(pages);
    Some(bytes)
}

impl ModeMedium {
    fn protection(self) -> u8 {
        if self.write_protected {
            WRITE_PROTECTED
        } else {
            0
        }
    }
}

const ALL_PAGES: u8 = 0x3f;
const WRITE_PROTECTED: u8 = 0x80;

const TYPE_CD: u8 = 0x01;
const TYPE_FLOPPY: u8 = 0x24;
const TYPE_LS120: u8 = 0x31;

/// Read error recovery: one retry to read, two to write.
const PAGE_01_FLOPPY: [u8; 12] = [0x01, 10, 0x00, 0x01, 0, 0, 0, 0, 0x02, 0x00, 0x00, 0x00];
const PAGE_01_CD: [u8; 8] = [0x01, 6, 0x00, 0xff, 0, 0, 0, 0];
/// Format device: 160 tracks, 18 sectors of 512 bytes. Its length should be 20.
#[rustfmt::skip]
const PAGE_03: [u8; 22] = [
    0x03, 22, 0x00, 0xa0, 0, 0, 0, 0, 0x00, 0x12, 0x02, 0x00, 0, 0, 0, 0, 0x00, 0x00, 0xa0, 0, 0, 0,
];
/// Flexible disk: 1,200 kbit/s, 2 heads, 18 sectors, 512 bytes, 80 cylinders, motor times, 720 rpm.
#[rustfmt::skip]
const PAGE_05_FLOPPY: [u8; 32] = [
    0x05, 30, 0x04, 0xb0, 0x02, 0x12, 0x02, 0x00, 0x00, 0x50, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0xd0, 0, 0,
];
/// The same for an LS-120: 4,265 kbit/s, 8 heads, 32 sectors, 963 cylinders.
#[rustfmt::skip]
const PAGE_05_LS120: [u8; 32] = [
    0x05, 30, 0x10, 0xa9, 0x08, 0x20, 0x02, 0x00, 0x03, 0xc3, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0xd0, 0, 0,
];
/// Caching: none.
const PAGE_08: [u8; 12] = [0x08, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Medium types supported.
const PAGE_0B: [u8; 8] = [0x0b, 6, 0x00, 0x00, 0x00, 0x11, 0x24, 0x31];
/// Power condition: no timers.
const PAGE_1A: [u8; 12] = [0x1a, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Time-out and protect: no time-outs.
const PAGE_1D: [u8; 12] = [0x1d, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// CD capabilities: tray.
#[rustfmt::skip]
const PAGE_2A_ALONE: [u8; 26] = [
    0x2a, 24, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
/// CD capabilities as they come among all pages.
#[rustfmt::skip]
const PAGE_2A: [u8; 26] = [
    0x2a, 24, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

#[cfg(test)]
mod tests {
    use super::*;

    const CD: ModeMedium = ModeMedium {
        kind: ModeKind::Cd,
        write_protected: true,
    };

    #[test]
    fn pages_of_a_cd_walk_to_the_end() {
        let bytes = mode_sense_10(CD, 0x3f, 0).unwrap();
        let parameters = ModeParameters::parse_10(&bytes).unwrap();
        let codes: Vec<u8> = parameters.pages().map(|page| page.code).collect();
        assert_eq!(codes, [0x01, 0x2a]);
        assert!(parameters.write_protected);
        for length in 0..8 {
            assert!(ModeParameters::parse_10(&bytes[..length]).is_err());
        }
    }

    #[test]
    fn a_walk_over_a_lying_page_length_ends() {
        let medium = ModeMedium {
            kind: ModeKind::Floppy,
            write_protected: false,
        };
        let parameters =
            ModeParameters::parse_10(&mode_sense_10(medium, 0x3f, 0).unwrap()).unwrap();
        let codes: Vec<u8> = parameters.pages().map(|page| page.code).collect();
        assert_eq!(codes[..2], [0x01, 0x03]);
        assert!(!parameters.write_protected);
    }

    #[test]
    fn block_descriptors_are_skipped() {
        let six = [3 + 8, 0, 0x80, 8, 0, 0, 0, 0, 0, 0, 2, 0, 0x1a, 0];
        let parameters = ModeParameters::parse_6(&six).unwrap();
        assert_eq!(parameters.pages, [0x1a, 0]);
        assert!(ModeParameters::parse_6(&six[..11]).is_err());
    }
}
