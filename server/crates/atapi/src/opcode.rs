//! Operation codes: the first byte of a CDB (SPC-3 4.3, MMC-5 6).

use std::fmt;

/// First byte of a CDB. Open: any value can arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opcode(pub u8);

macro_rules! opcodes {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Opcode {
            $(#[doc = $text] pub const $name: Self = Self($value);)*

            /// The standard's name, if it is one that this crate knows.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

opcodes! {
    TEST_UNIT_READY = 0x00, "TEST UNIT READY";
    REQUEST_SENSE = 0x03, "REQUEST SENSE";
    READ_6 = 0x08, "READ(6)";
    WRITE_6 = 0x0a, "WRITE(6)";
    INQUIRY = 0x12, "INQUIRY";
    MODE_SELECT_6 = 0x15, "MODE SELECT(6)";
    MODE_SENSE_6 = 0x1a, "MODE SENSE(6)";
    START_STOP_UNIT = 0x1b, "START STOP UNIT";
    PREVENT_ALLOW_MEDIUM_REMOVAL = 0x1e, "PREVENT ALLOW MEDIUM REMOVAL";
    READ_FORMAT_CAPACITIES = 0x23, "READ FORMAT CAPACITIES";
    READ_CAPACITY_10 = 0x25, "READ CAPACITY(10)";
    READ_10 = 0x28, "READ(10)";
    WRITE_10 = 0x2a, "WRITE(10)";
    WRITE_AND_VERIFY_10 = 0x2e, "WRITE AND VERIFY(10)";
    VERIFY_10 = 0x2f, "VERIFY(10)";
    SYNCHRONIZE_CACHE_10 = 0x35, "SYNCHRONIZE CACHE(10)";
    READ_SUB_CHANNEL = 0x42, "READ SUB-CHANNEL";
    READ_TOC = 0x43, "READ TOC/PMA/ATIP";
    READ_HEADER = 0x44, "READ HEADER";
    GET_CONFIGURATION = 0x46, "GET CONFIGURATION";
    GET_EVENT_STATUS_NOTIFICATION = 0x4a, "GET EVENT STATUS NOTIFICATION";
    LOG_SELECT = 0x4c, "LOG SELECT";
    LOG_SENSE = 0x4d, "LOG SENSE";
    READ_DISC_INFORMATION = 0x51, "READ DISC INFORMATION";
    READ_TRACK_INFORMATION = 0x52, "READ TRACK INFORMATION";
    MODE_SELECT_10 = 0x55, "MODE SELECT(10)";
    MODE_SENSE_10 = 0x5a, "MODE SENSE(10)";
    SERVICE_ACTION_IN_16 = 0x9e, "SERVICE ACTION IN(16)";
    READ_12 = 0xa8, "READ(12)";
    WRITE_12 = 0xaa, "WRITE(12)";
    GET_PERFORMANCE = 0xac, "GET PERFORMANCE";
    READ_CD_MSF = 0xb9, "READ CD MSF";
    MECHANISM_STATUS = 0xbd, "MECHANISM STATUS";
    READ_CD = 0xbe, "READ CD";
}

impl Opcode {
    /// Bytes that a CDB of this opcode has, by its group code (SPC-3 4.3.4.1). Vendor groups have none that anyone fixed.
    pub fn cdb_len(self) -> Option<usize> {
        match self.0 >> 5 {
            0 => Some(6),
            1 | 2 => Some(10),
            4 => Some(16),
            5 => Some(12),
            _ => None,
        }
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "opcode {:#04x}", self.0),
        }
    }
}
