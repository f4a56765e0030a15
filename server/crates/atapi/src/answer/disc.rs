//! Standard disc information: READ DISC INFORMATION, data type 0 (MMC-5 6.22.3). Addresses of recordable discs are not read.

use super::{AnswerError, Cursor};

/// State of the disc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiscInformation {
    /// 0 empty, 1 incomplete, 2 finalized.
    pub status: u8,
    /// First track of the disc.
    pub first_track: u8,
    /// Number of sessions, low byte.
    pub sessions: u8,
    /// Last track of the last session, low byte.
    pub last_track: u8,
}

impl DiscInformation {
    /// Reads the first twelve bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, AnswerError> {
        let mut cursor = Cursor::new(bytes);
        let length = u16::from_be_bytes(cursor.take("disc information length")?);
        if length < 10 {
            return Err(AnswerError::Malformed {
                what: "disc information length",
                found: length.into(),
            });
        }
        let [status, first_track, sessions, _, last_track, ..] =
            cursor.take::<10>("disc information")?;
        Ok(Self {
            status: status & 3,
            first_track,
            sessions,
            last_track,
        })
    }
}

/// A finalized disc with one session and one track.
pub(crate) fn disc_information() -> Vec<u8> {
    let mut bytes = vec![0; 34];
    bytes[1] = 32; // bytes that follow
    bytes[2] = 0x0e; // last session complete, disc finalized
    bytes[3] = 1; // first track
    bytes[4] = 1; // sessions
    bytes[5] = 1; // first track of the last session
    bytes[6] = 1; // last track of the last session
    bytes[7] = 0x20; // unrestricted use
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_finished_session_reads_back() {
        let bytes = disc_information();
        let disc = DiscInformation::parse(&bytes).unwrap();
        let expected = DiscInformation {
            status: 2,
            first_track: 1,
            sessions: 1,
            last_track: 1,
        };
        assert_eq!(disc, expected);
        for length in 0..12 {
            assert!(DiscInformation::parse(&bytes[..length]).is_err());
        }
    }
}
