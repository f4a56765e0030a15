//! Features of the drive: GET CONFIGURATION (MMC-5 6.6.2, features in section 5).
//!
//! The drive is a CD-ROM whatever the size of the disc: that is what vPro PCs have been told for DVD-sized images too.

use super::{AnswerError, Cursor};

/// Profile of a CD-ROM drive.
pub const PROFILE_CD_ROM: u16 = 0x0008;

/// What GET CONFIGURATION answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Profile in use, such as [`PROFILE_CD_ROM`].
    pub current_profile: u16,
    /// Features that came whole.
    pub features: Vec<Feature>,
}

/// One feature descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Feature code.
    pub code: u16,
    /// Bit 0 current, bit 1 persistent, bits 2 to 5 version.
    pub flags: u8,
    /// Data that belongs to the feature.
    pub data: Vec<u8>,
}

impl Configuration {
    /// Reads the header and as many features as both its length and the bytes cover.
    pub fn parse(bytes: &[u8]) -> Result<Self, AnswerError> {
        let mut cursor = Cursor::new(bytes);
        let length = u32::from_be_bytes(cursor.take("configuration length")?);
        if length < 4 {
            return Err(AnswerError::Malformed {
                what: "configuration length",
                found: length,
            });
        }
        let [_, _, high, low] = cursor.take("current profile")?;
        let covered = usize::try_from(length - 4).unwrap_or(usize::MAX);
        let covered = covered.min(cursor.rest.len());
        let mut cursor = Cursor::new(cursor.slice("features", covered)?);
        let mut features = Vec::new();
        while let Ok([code_high, code_low, flags, length]) = cursor.take("feature header") {
            let Ok(data) = cursor.slice("feature data", length.into()) else {
                break;
            };
            features.push(Feature {
                code: u16::from_be_bytes([code_high, code_low]),
                flags,
                data: data.to_vec(),
            });
        }
        Ok(Self {
            current_profile: u16::from_be_bytes([high, low]),
            features,
        })
    }
}

/// The answer to request type 0, 1 or 2; type 3 is reserved.
pub(crate) fn configuration(request: u8, first: u16) -> Option<Vec<u8>> {
    let mut features = Vec::new();
    for feature in FEATURES {
        let code = u16::from_be_bytes([feature[0], feature[1]]);
        let current = feature[2] & 1 != 0;
        let wanted = match request {
            0 => code >= first,
            1 => code >= first && current,
            2 => code == first,
            _ => return None,
        };
        if wanted {
            features.extend_from_slice(feature);
        }
    }
    // All features together are 56 bytes.
    let length = 4 + features.len() as u32;
    let [high, low] = PROFILE_CD_ROM.to_be_bytes();
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend([0, 0, high, low]);
    bytes.append(&mut features);
    Some(bytes)
}

#[rustfmt::skip]
const FEATURES: [&[u8]; 8] = [
    &[0x00, 0x00, 0x03, 4, 0x00, 0x08, 0x01, 0x00],                         // profile list: CD-ROM, current
    &[0x00, 0x01, 0x03, 4, 0x00, 0x00, 0x00, 0x02],                         // core: ATAPI
    &[0x00, 0x02, 0x03, 4, 0x00, 0x00, 0x00, 0x00],                         // morphing
    &[0x00, 0x03, 0x03, 4, 0x29, 0x00, 0x00, 0x02],                         // removable medium: tray, eject, lock
    &[0x00, 0x10, 0x01, 8, 0x00, 0x00, 0x08, 0x00, 0x00, 0x01, 0x00, 0x00], // random readable: 2,048, blocking 1
    &[0x00, 0x1e, 0x03, 0],                                                 // CD read
    &[0x01, 0x00, 0x03, 0],                                                 // power management
    &[0x01, 0x05, 0x03, 0],                                                 // timeout
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_come_in_ascending_order_from_the_first_wanted() {
        let all = Configuration::parse(&configuration(0, 0).unwrap()).unwrap();
        let codes: Vec<u16> = all.features.iter().map(|feature| feature.code).collect();
        assert_eq!(codes, [0, 1, 2, 3, 0x10, 0x1e, 0x100, 0x105]);
        let some = Configuration::parse(&configuration(1, 0x11).unwrap()).unwrap();
        let codes: Vec<u16> = some.features.iter().map(|feature| feature.code).collect();
        assert_eq!(codes, [0x1e, 0x100, 0x105]);
        assert_eq!(configuration(3, 0), None);
    }

    #[test]
    fn a_feature_cut_short_is_left_out() {
        let bytes = configuration(0, 0).unwrap();
        for length in 8..bytes.len() {
            let cut = Configuration::parse(&bytes[..length]).unwrap();
            assert!(cut.features.len() < FEATURES.len());
        }
        for length in 0..8 {
            assert!(Configuration::parse(&bytes[..length]).is_err());
        }
    }
}
