//! Tables of contents of a disc with one data track (MMC-5 6.25.3): formats 0, 1 and 2. Read: formats 0 and 1.

use super::{AnswerError, Cursor};

/// Track number of the lead-out.
pub const LEAD_OUT: u8 = 0xaa;

/// Tracks (format 0), or the first track of the last session (format 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toc {
    /// First track or session.
    pub first: u8,
    /// Last track or session.
    pub last: u8,
    /// Descriptors in the order of the answer, those that came whole.
    pub tracks: Vec<TocTrack>,
}

/// One descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TocTrack {
    /// Track number; [`LEAD_OUT`] is the end of the disc.
    pub number: u8,
    /// ADR and control; 0x14 is a data track.
    pub control: u8,
    /// Where it starts: an LBA, or minute, second and frame in the low three bytes, as was asked.
    pub address: u32,
}

impl Toc {
    /// Reads a header and as many descriptors as both its length and the bytes cover.
    pub fn parse(bytes: &[u8]) -> Result<Self, AnswerError> {
        let mut cursor = Cursor::new(bytes);
        let length = u16::from_be_bytes(cursor.take("TOC length")?);
        if length < 2 {
            return Err(AnswerError::Malformed {
                what: "TOC length",
                found: length.into(),
            });
        }
        let [first, last] = cursor.take("first and last track")?;
        let covered = usize::from(length - 2).min(cursor.rest.len());
        let tracks = cursor.slice("track descriptors", covered)?;
        let tracks = tracks
            .chunks_exact(8)
            .map(|track| TocTrack {
                number: track[2],
                control: track[1],
                address: u32::from_be_bytes([track[4], track[5], track[6], track[7]]),
            })
            .collect();
        Ok(Self {
            first,
            last,
            tracks,
        })
    }

    /// Start of the lead-out, if the answer has it.
    pub fn lead_out(&self) -> Option<u32> {
        let lead_out = self.tracks.iter().find(|track| track.number == LEAD_OUT)?;
        Some(lead_out.address)
    }
}

/// Minute, second and frame of a block: 75 frames a second, two seconds before block 0. Beyond 255:59:74, which is about
/// 2.2 GiB, the largest address stands for all others: the minute has one byte.
pub fn msf_of_lba(lba: u32) -> [u8; 3] {
    let frames = u64::from(lba) + PREGAP;
    let minutes = frames / (75 * 60);
    match u8::try_from(minutes) {
        // Both remainders are below 75.
        Ok(minutes) => [minutes, (frames / 75 % 60) as u8, (frames % 75) as u8],
        Err(_) => [0xff, 59, 74],
    }
}

/// The block at minute, second and frame; nothing before 00:02:00.
pub fn lba_of_msf([minute, second, frame]: [u8; 3]) -> Option<u32> {
    let seconds = u32::from(minute) * 60 + u32::from(second);
    (seconds * 75 + u32::from(frame)).checked_sub(PREGAP as u32)
}

/// Format 0. `start` 0 or 1 gives both descriptors, 0xaa the lead-out alone; no other track exists.
pub(crate) fn formatted_toc(msf: bool, start: u8, lead_out: [u8; 4]) -> Option<Vec<u8>> {
    let track = descriptor(FIRST_TRACK, first_address(msf));
    let lead_out = descriptor(LEAD_OUT, lead_out);
    match start {
        0 | FIRST_TRACK => {
            Some([&[0, 18, FIRST_TRACK, FIRST_TRACK], &track[..], &lead_out].concat())
        }
        LEAD_OUT => Some([&[0, 10, FIRST_TRACK, FIRST_TRACK], &lead_out[..]].concat()),
        _ => None,
    }
}

/// Format 1: one session, whose first track is track 1.
pub(crate) fn session_toc(msf: bool) -> Vec<u8> {
    let track = descriptor(FIRST_TRACK, first_address(msf));
    [&[0, 10, 1, 1], &track[..]].concat()
}

/// Format 2: first and last track, lead-out, the track itself; times only. `start` is a session.
pub(crate) fn full_toc(start: u8, lead_out: [u8; 3]) -> Option<Vec<u8>> {
    if start > 1 {
        return None;
    }
    let mut bytes = vec![0, 2 + 4 * 11, 1, 1];
    let points = [
        (0xa0, [FIRST_TRACK, 0, 0]), // first track; disc type CD-ROM
        (0xa1, [FIRST_TRACK, 0, 0]), // last track
        (0xa2, lead_out),
        (FIRST_TRACK, msf_of_lba(0)),
    ];
    for (point, [minute, second, frame]) in points {
        // Session, ADR and control, track number of the lead-in, point, running time, zero, address.
        bytes.extend([1, DATA_TRACK, 0, point, 0, 0, 0, 0, minute, second, frame]);
    }
    Some(bytes)
}

fn descriptor(number: u8, [a, b, c, d]: [u8; 4]) -> [u8; 8] {
    [0, DATA_TRACK, number, 0, a, b, c, d]
}

fn first_address(msf: bool) -> [u8; 4] {
    if msf {
        let [minute, second, frame] = msf_of_lba(0);
        [0, minute, second, frame]
    } else {
        [0; 4]
    }
}

const FIRST_TRACK: u8 = 1;
/// ADR 1 (position), control 4 (data, uninterrupted).
const DATA_TRACK: u8 = 0x14;
/// Frames before block 0.
const PREGAP: u64 = 150;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_saturate_where_a_minute_no_longer_fits() {
        assert_eq!(msf_of_lba(0), [0, 2, 0]);
        assert_eq!(msf_of_lba(3769), [0, 52, 19]);
        assert_eq!(msf_of_lba(256 * 4500 - 151), [255, 59, 74]);
        assert_eq!(msf_of_lba(256 * 4500 - 150), [255, 59, 74]);
        assert_eq!(msf_of_lba(u32::MAX), [255, 59, 74]);
    }

    #[test]
    fn times_and_blocks_are_inverse() {
        for lba in [0, 1, 74, 75, 4349, 4350, 1_000_000] {
            assert_eq!(lba_of_msf(msf_of_lba(lba)), Some(lba));
        }
        assert_eq!(lba_of_msf([0, 1, 74]), None);
    }

    #[test]
    fn descriptors_beyond_length_or_bytes_are_not_invented() {
        let mut bytes = formatted_toc(false, 0, 64_u32.to_be_bytes()).unwrap();
        assert_eq!(Toc::parse(&bytes).unwrap().lead_out(), Some(64));
        assert_eq!(Toc::parse(&bytes[..12]).unwrap().tracks.len(), 1);
        assert_eq!(Toc::parse(&bytes[..19]).unwrap().tracks.len(), 1);
        assert!(Toc::parse(&bytes[..3]).is_err());
        bytes[1] = 10;
        assert_eq!(Toc::parse(&bytes).unwrap().lead_out(), None);
        bytes[1] = 1;
        assert!(Toc::parse(&bytes).is_err());
    }
}
