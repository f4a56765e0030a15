//! Sense data: why a command failed (SPC-3 4.5). Written: the 18-byte fixed format. Read: fixed format of any length that
//! reaches the ASCQ; descriptor format is not.

use std::fmt;

/// Sense key, additional sense code and its qualifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sense {
    /// Sense key, 0 to 15.
    pub key: u8,
    /// Additional sense code (ASC).
    pub asc: u8,
    /// Additional sense code qualifier (ASCQ).
    pub ascq: u8,
}

impl Sense {
    /// Nothing to report.
    pub const NONE: Self = Self::new(0, 0, 0);
    /// 02/04/01: becoming ready.
    pub const BECOMING_READY: Self = Self::new(0x2, 0x04, 0x01);
    /// 02/3A/00: no medium.
    pub const NO_MEDIUM: Self = Self::new(0x2, 0x3a, 0x00);
    /// 03/0C/00: a block could not be written.
    pub const WRITE_ERROR: Self = Self::new(0x3, 0x0c, 0x00);
    /// 03/11/00: a block could not be read.
    pub const UNRECOVERED_READ: Self = Self::new(0x3, 0x11, 0x00);
    /// 05/20/00: no such command.
    pub const INVALID_OPCODE: Self = Self::new(0x5, 0x20, 0x00);
    /// 05/21/00: blocks outside of the medium.
    pub const LBA_OUT_OF_RANGE: Self = Self::new(0x5, 0x21, 0x00);
    /// 05/24/00: a field of the CDB has a value that is not served.
    pub const INVALID_FIELD_IN_CDB: Self = Self::new(0x5, 0x24, 0x00);
    /// 05/53/02: the host locked the medium in.
    pub const REMOVAL_PREVENTED: Self = Self::new(0x5, 0x53, 0x02);
    /// 06/28/00: the medium may have changed.
    pub const MEDIUM_MAY_HAVE_CHANGED: Self = Self::new(0x6, 0x28, 0x00);
    /// 06/29/00: the device was reset.
    pub const RESET_OCCURRED: Self = Self::new(0x6, 0x29, 0x00);
    /// 07/27/00: write protected.
    pub const WRITE_PROTECTED: Self = Self::new(0x7, 0x27, 0x00);

    /// A triple as it stands in tables.
    pub const fn new(key: u8, asc: u8, ascq: u8) -> Self {
        Self { key, asc, ascq }
    }

    /// Fixed format for a current error (SPC-3 table 26), as REQUEST SENSE answers.
    pub fn fixed(self) -> [u8; FIXED_LEN] {
        let mut bytes = [0; FIXED_LEN];
        bytes[0] = RESPONSE_CURRENT;
        bytes[2] = self.key & 0x0f;
        bytes[7] = (FIXED_LEN - 8) as u8;
        bytes[12] = self.asc;
        bytes[13] = self.ascq;
        bytes
    }

    /// Reads fixed format, current or deferred.
    pub fn parse_fixed(bytes: &[u8]) -> Result<Self, SenseError> {
        let [response, _, key, _, _, _, _, _, _, _, _, _, asc, ascq, ..] = bytes else {
            return Err(SenseError::CutShort { found: bytes.len() });
        };
        match response & 0x7f {
            RESPONSE_CURRENT | RESPONSE_DEFERRED => Ok(Self::new(key & 0x0f, *asc, *ascq)),
            found => Err(SenseError::Format { found }),
        }
    }
}

impl fmt::Display for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}/{:02X}/{:02X}", self.key, self.asc, self.ascq)
    }
}

/// Bytes that are no fixed-format sense data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SenseError {
    /// Ends before the ASCQ at byte 13.
    #[error("sense data of {found} bytes ends before its qualifier")]
    CutShort {
        /// Bytes there were.
        found: usize,
    },
    /// Another response code, such as 0x72 (descriptor format).
    #[error("sense response code {found:#04x} is not fixed format")]
    Format {
        /// Response code without its valid bit.
        found: u8,
    },
}

const FIXED_LEN: usize = 18;
const RESPONSE_CURRENT: u8 = 0x70;
const RESPONSE_DEFERRED: u8 = 0x71;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_format_is_the_standards() {
        #[rustfmt::skip]
        let golden = [
            0x70,                   // current, fixed format
            0x00,                   // obsolete
            0x02,                   // NOT READY
            0x00, 0x00, 0x00, 0x00, // information
            0x0a,                   // ten bytes follow
            0x00, 0x00, 0x00, 0x00, // command-specific information
            0x3a,                   // MEDIUM NOT PRESENT
            0x00,                   // qualifier
            0x00,                   // field replaceable unit
            0x00, 0x00, 0x00,       // sense-key specific
        ];
        assert_eq!(Sense::NO_MEDIUM.fixed(), golden);
        assert_eq!(Sense::parse_fixed(&golden), Ok(Sense::NO_MEDIUM));
    }

    #[test]
    fn cut_before_the_qualifier_is_an_error() {
        let bytes = Sense::WRITE_PROTECTED.fixed();
        for length in 0..14 {
            let cut = Sense::parse_fixed(&bytes[..length]);
            assert_eq!(cut, Err(SenseError::CutShort { found: length }));
        }
        assert_eq!(Sense::parse_fixed(&bytes[..14]), Ok(Sense::WRITE_PROTECTED));
    }

    #[test]
    fn descriptor_format_is_refused() {
        let mut bytes = Sense::WRITE_PROTECTED.fixed();
        bytes[0] = 0x72;
        let refused = Sense::parse_fixed(&bytes);
        assert_eq!(refused, Err(SenseError::Format { found: 0x72 }));
    }

    #[test]
    fn deferred_errors_are_read_too() {
        let mut bytes = Sense::WRITE_ERROR.fixed();
        bytes[0] = 0xf1;
        assert_eq!(Sense::parse_fixed(&bytes), Ok(Sense::WRITE_ERROR));
        assert_eq!(Sense::WRITE_ERROR.to_string(), "03/0C/00");
    }
}
