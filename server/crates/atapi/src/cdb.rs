//! CDBs as an initiator sends them, in ATAPI's packet of 12 bytes, zeros behind the command (SFF-8020i 7.1).
//!
//! Allocation lengths are the caller's; what does not fit its field is cut by the parameter's type.

use crate::Opcode;

/// An ATAPI command packet.
pub type Cdb = [u8; 12];

/// TEST UNIT READY (SPC-3 6.33).
pub fn test_unit_ready() -> Cdb {
    six(Opcode::TEST_UNIT_READY, [0; 4])
}

/// REQUEST SENSE (SPC-3 6.27).
pub fn request_sense(allocation: u8) -> Cdb {
    six(Opcode::REQUEST_SENSE, [0, 0, 0, allocation])
}

/// INQUIRY, standard data (SPC-3 6.4).
pub fn inquiry(allocation: u8) -> Cdb {
    six(Opcode::INQUIRY, [0, 0, 0, allocation])
}

/// READ(6): 21 bits of LBA, 0 blocks means 256 (SBC-2 5.5).
pub fn read_6(lba: u32, blocks: u8) -> Cdb {
    let [_, high, middle, low] = lba.to_be_bytes();
    six(Opcode::READ_6, [high & 0x1f, middle, low, blocks])
}

/// READ(10) (SBC-2 5.6).
pub fn read_10(lba: u32, blocks: u16) -> Cdb {
    ten(Opcode::READ_10, 0, lba.to_be_bytes(), 0, blocks, 0)
}

/// READ(12) (SBC-2 5.7).
pub fn read_12(lba: u32, blocks: u32) -> Cdb {
    twelve(Opcode::READ_12, lba, blocks)
}

/// READ CD, user data of any sector type (MMC-5 6.20).
pub fn read_cd(lba: u32, blocks: u32) -> Cdb {
    let mut cdb = twelve(Opcode::READ_CD, lba, blocks << 8);
    cdb[9] = 0x10;
    cdb
}

/// WRITE(6): 21 bits of LBA, 0 blocks means 256 (SBC-2 5.24).
pub fn write_6(lba: u32, blocks: u8) -> Cdb {
    let [_, high, middle, low] = lba.to_be_bytes();
    six(Opcode::WRITE_6, [high & 0x1f, middle, low, blocks])
}

/// WRITE(10) (SBC-2 5.25).
pub fn write_10(lba: u32, blocks: u16) -> Cdb {
    ten(Opcode::WRITE_10, 0, lba.to_be_bytes(), 0, blocks, 0)
}

/// WRITE AND VERIFY(10) (SBC-2 5.29).
pub fn write_and_verify_10(lba: u32, blocks: u16) -> Cdb {
    let lba = lba.to_be_bytes();
    ten(Opcode::WRITE_AND_VERIFY_10, 0, lba, 0, blocks, 0)
}

/// WRITE(12) (SBC-2 5.26).
pub fn write_12(lba: u32, blocks: u32) -> Cdb {
    twelve(Opcode::WRITE_12, lba, blocks)
}

/// VERIFY(10) without comparison (SBC-2 5.20).
pub fn verify_10(lba: u32, blocks: u16) -> Cdb {
    ten(Opcode::VERIFY_10, 0, lba.to_be_bytes(), 0, blocks, 0)
}

/// SYNCHRONIZE CACHE(10), the whole medium (SBC-2 5.18).
pub fn synchronize_cache() -> Cdb {
    ten(Opcode::SYNCHRONIZE_CACHE_10, 0, [0; 4], 0, 0, 0)
}

/// READ CAPACITY(10) (SBC-2 5.10).
pub fn read_capacity() -> Cdb {
    ten(Opcode::READ_CAPACITY_10, 0, [0; 4], 0, 0, 0)
}

/// READ FORMAT CAPACITIES (MMC-5 6.24).
pub fn read_format_capacities(allocation: u16) -> Cdb {
    ten(Opcode::READ_FORMAT_CAPACITIES, 0, [0; 4], 0, allocation, 0)
}

/// MODE SENSE(6), current values (SPC-3 6.9); page 0x3f is all.
pub fn mode_sense_6(page: u8, allocation: u8) -> Cdb {
    six(Opcode::MODE_SENSE_6, [0, page & 0x3f, 0, allocation])
}

/// MODE SENSE(10), current values (SPC-3 6.10); page 0x3f is all.
pub fn mode_sense_10(page: u8, allocation: u16) -> Cdb {
    let page = [page & 0x3f, 0, 0, 0];
    ten(Opcode::MODE_SENSE_10, 0, page, 0, allocation, 0)
}

/// START STOP UNIT (MMC-5 6.44): with `load_eject`, `start` loads and its absence ejects.
pub fn start_stop_unit(start: bool, load_eject: bool) -> Cdb {
    let action = u8::from(load_eject) << 1 | u8::from(start);
    six(Opcode::START_STOP_UNIT, [0, 0, 0, action])
}

/// PREVENT ALLOW MEDIUM REMOVAL (SPC-3 6.13).
pub fn prevent_allow_medium_removal(prevent: bool) -> Cdb {
    let prevent = u8::from(prevent);
    six(Opcode::PREVENT_ALLOW_MEDIUM_REMOVAL, [0, 0, 0, prevent])
}

/// READ TOC/PMA/ATIP (MMC-5 6.25): format 0 tracks, 1 sessions, 2 full; `start` is a track or session.
pub fn read_toc(msf: bool, format: u8, start: u8, allocation: u16) -> Cdb {
    let format = [format & 0x0f, 0, 0, 0];
    let msf = u8::from(msf) << 1;
    ten(Opcode::READ_TOC, msf, format, start, allocation, 0)
}

/// READ TOC/PMA/ATIP with the format in the control byte, as SFF-8020i had it.
pub fn read_toc_sff_8020(msf: bool, format: u8, start: u8, allocation: u16) -> Cdb {
    let msf = u8::from(msf) << 1;
    let control = format << 6;
    ten(Opcode::READ_TOC, msf, [0; 4], start, allocation, control)
}

/// GET CONFIGURATION (MMC-5 6.6): `request` 0 all, 1 current, 2 exactly the feature `first`.
pub fn get_configuration(request: u8, first: u16, allocation: u16) -> Cdb {
    let [high, low] = first.to_be_bytes();
    let first = [high, low, 0, 0];
    ten(
        Opcode::GET_CONFIGURATION,
        request & 3,
        first,
        0,
        allocation,
        0,
    )
}

/// GET EVENT STATUS NOTIFICATION (MMC-5 6.7), polled; bit 4 of `classes` is media.
pub fn get_event_status(classes: u8, allocation: u16) -> Cdb {
    let classes = [0, 0, classes, 0];
    let opcode = Opcode::GET_EVENT_STATUS_NOTIFICATION;
    ten(opcode, 1, classes, 0, allocation, 0)
}

/// READ DISC INFORMATION, standard (MMC-5 6.22).
pub fn read_disc_information(allocation: u16) -> Cdb {
    ten(Opcode::READ_DISC_INFORMATION, 0, [0; 4], 0, allocation, 0)
}

/// READ TRACK INFORMATION by track number (MMC-5 6.27).
pub fn read_track_information(track: u32, allocation: u16) -> Cdb {
    let track = track.to_be_bytes();
    ten(Opcode::READ_TRACK_INFORMATION, 1, track, 0, allocation, 0)
}

/// GET PERFORMANCE, nominal read speeds (MMC-5 6.8).
pub fn get_performance(descriptors: u16) -> Cdb {
    let [high, low] = descriptors.to_be_bytes();
    let mut cdb = [0; 12];
    cdb[0] = Opcode::GET_PERFORMANCE.0;
    cdb[1] = 0x10;
    cdb[8] = high;
    cdb[9] = low;
    cdb
}

/// MECHANISM STATUS (MMC-5 6.10).
pub fn mechanism_status(allocation: u16) -> Cdb {
    let [high, low] = allocation.to_be_bytes();
    let mut cdb = [0; 12];
    cdb[0] = Opcode::MECHANISM_STATUS.0;
    cdb[8] = high;
    cdb[9] = low;
    cdb
}

fn six(opcode: Opcode, bytes_1_to_4: [u8; 4]) -> Cdb {
    let [one, two, three, four] = bytes_1_to_4;
    [opcode.0, one, two, three, four, 0, 0, 0, 0, 0, 0, 0]
}

fn ten(opcode: Opcode, one: u8, lba: [u8; 4], six: u8, length: u16, control: u8) -> Cdb {
    let [two, three, four, five] = lba;
    let [seven, eight] = length.to_be_bytes();
    [
        opcode.0, one, two, three, four, five, six, seven, eight, control, 0, 0,
    ]
}

fn twelve(opcode: Opcode, lba: u32, blocks: u32) -> Cdb {
    let [two, three, four, five] = lba.to_be_bytes();
    let [six, seven, eight, nine] = blocks.to_be_bytes();
    [
        opcode.0, 0, two, three, four, five, six, seven, eight, nine, 0, 0,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_those_that_real_hosts_send() {
        let cases: [(Cdb, [u8; 12]); 14] = [
            (test_unit_ready(), [0; 12]),
            (request_sense(18), [0x03, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0]),
            (inquiry(36), [0x12, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0]),
            (
                read_6(0x3f_0203, 4),
                [0x08, 0x1f, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0],
            ),
            (
                read_10(0x0102_0304, 0x0506),
                [0x28, 0, 1, 2, 3, 4, 0, 5, 6, 0, 0, 0],
            ),
            (
                read_12(0x0102_0304, 0x0506_0708),
                [0xa8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0],
            ),
            (
                read_cd(0x0102_0304, 0x0005_0607),
                [0xbe, 0, 1, 2, 3, 4, 5, 6, 7, 0x10, 0, 0],
            ),
            (
                mode_sense_6(0x3f, 192),
                [0x1a, 0, 0x3f, 0, 192, 0, 0, 0, 0, 0, 0, 0],
            ),
            (
                mode_sense_10(0x2a, 0x80),
                [0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 0x80, 0, 0, 0],
            ),
            (
                start_stop_unit(false, true),
                [0x1b, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
            ),
            (
                read_toc(true, 1, 0xaa, 12),
                [0x43, 2, 1, 0, 0, 0, 0xaa, 0, 12, 0, 0, 0],
            ),
            (
                read_toc_sff_8020(false, 1, 0, 12),
                [0x43, 0, 0, 0, 0, 0, 0, 0, 12, 0x40, 0, 0],
            ),
            (
                get_configuration(2, 0x0105, 16),
                [0x46, 2, 1, 5, 0, 0, 0, 0, 16, 0, 0, 0],
            ),
            (
                get_event_status(0x10, 8),
                [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0, 0, 0],
            ),
        ];
        for (built, golden) in cases {
            assert_eq!(built, golden);
        }
    }
}
