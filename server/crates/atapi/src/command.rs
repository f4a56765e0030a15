//! What a CDB asks for: fields out of bytes (SPC-3 6, SBC-2 5, MMC-5 6).
//!
//! Reserved bits, the LUN of old CDBs, DPO and FUA are ignored: nothing here depends on them. A CDB may be longer than its
//! opcode needs (ATAPI pads to 12 bytes); a shorter one is an error.

use crate::Opcode;

/// A CDB that this crate understands. Lengths are in bytes, `blocks` in blocks of the drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Is the drive ready?
    TestUnitReady,
    /// Why did the last command fail?
    RequestSense {
        /// Most bytes of answer that the host takes.
        allocation: u16,
    },
    /// Who are you?
    Inquiry {
        /// A vital product data page is wanted, not the standard data.
        vital: bool,
        /// Most bytes of answer that the host takes.
        allocation: u16,
    },
    /// READ(6), READ(10) or READ(12).
    Read {
        /// First block.
        lba: u32,
        /// Number of blocks; zero reads nothing.
        blocks: u32,
    },
    /// READ CD by LBA.
    ReadCd {
        /// First block.
        lba: u32,
        /// Number of blocks.
        blocks: u32,
        /// 2,048 bytes of user data per block are wanted and nothing around them.
        user_data_only: bool,
    },
    /// WRITE(6), WRITE(10), WRITE(12) or WRITE AND VERIFY(10).
    Write {
        /// First block.
        lba: u32,
        /// Number of blocks; zero writes nothing.
        blocks: u32,
    },
    /// Are these blocks readable?
    Verify {
        /// First block.
        lba: u32,
        /// Number of blocks.
        blocks: u32,
        /// The host sends bytes to compare with.
        compare: bool,
    },
    /// Bring everything written to the medium.
    SynchronizeCache,
    /// Number and size of blocks.
    ReadCapacity,
    /// Capacities that the medium has or could be given.
    ReadFormatCapacities {
        /// Most bytes of answer that the host takes.
        allocation: u16,
    },
    /// MODE SENSE(6).
    ModeSense6 {
        /// Page code, 0x3f for all.
        page: u8,
        /// Subpage code.
        subpage: u8,
        /// Most bytes of answer that the host takes.
        allocation: u16,
    },
    /// MODE SENSE(10).
    ModeSense10 {
        /// Page code, 0x3f for all.
        page: u8,
        /// Subpage code.
        subpage: u8,
        /// Most bytes of answer that the host takes.
        allocation: u16,
    },
    /// Start or stop, load or eject.
    StartStop {
        /// Start (load) rather than stop (eject).
        start: bool,
        /// The medium is meant, not the motor.
        load_eject: bool,
    },
    /// Lock the medium in, or let it go.
    PreventAllow {
        /// Lock it in.
        prevent: bool,
    },
    /// READ TOC/PMA/ATIP.
    ReadToc {
        /// Addresses as minute, second, frame instead of LBA.
        msf: bool,
        /// Which table.
        format: TocFormat,
        /// First track (formatted TOC) or session (full TOC) wanted; 0xaa is the lead-out.
        start: u8,
        /// Most bytes of answer that the host takes.
        allocation: u16,
    },
    /// Features of the drive.
    GetConfiguration {
        /// 0 all, 1 current ones, 2 exactly the one named, 3 reserved.
        request: u8,
        /// First feature of interest.
        first: u16,
        /// Most bytes of answer that the host takes.
        allocation: u16,
    },
    /// Events since the last question.
    GetEventStatus {
        /// Answer at once instead of when something happens.
        polled: bool,
        /// Bit mask of the classes of interest; bit 4 is media.
        classes: u8,
        /// Most bytes of answer that the host takes.
        allocation: u16,
    },
    /// State of the disc.
    ReadDiscInformation {
        /// 0 is the standard disc information.
        data_type: u8,
        /// Most bytes of answer that the host takes.
        allocation: u16,
    },
    /// Speeds.
    GetPerformance,
}

/// Format field of READ TOC (MMC-5 table 484).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TocFormat {
    /// 0: tracks of the disc.
    Formatted,
    /// 1: sessions.
    Sessions,
    /// 2: the raw table of the lead-in.
    Full,
    /// PMA, ATIP, CD-TEXT, reserved.
    Other(u8),
}

impl Command {
    /// Reads a CDB.
    pub fn parse(cdb: &[u8]) -> Result<Self, CdbError> {
        let &opcode = cdb.first().ok_or(CdbError::Empty)?;
        let opcode = Opcode(opcode);
        let Some(command) = Fields::read(opcode, cdb)?.command(opcode) else {
            return Err(CdbError::Unknown(opcode));
        };
        Ok(command)
    }
}

/// A CDB that cannot be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CdbError {
    /// No bytes at all.
    #[error("empty CDB")]
    Empty,
    /// An opcode that nothing here implements.
    #[error("{0} is not implemented")]
    Unknown(Opcode),
    /// Fewer bytes than the opcode's group has.
    #[error("CDB of {opcode} has {found} bytes instead of {needed}")]
    CutShort {
        /// First byte.
        opcode: Opcode,
        /// Bytes that it needs.
        needed: usize,
        /// Bytes there were.
        found: usize,
    },
}

/// The first twelve bytes of a CDB that was long enough for its opcode; zeros behind it.
struct Fields([u8; 12]);

impl Fields {
    fn read(opcode: Opcode, cdb: &[u8]) -> Result<Self, CdbError> {
        // No 16-byte CDB is implemented, and vendor groups have no length: their opcode decides alone.
        let needed = opcode.cdb_len().filter(|&length| length <= 12).unwrap_or(1);
        let found = cdb.len();
        if found < needed {
            return Err(CdbError::CutShort {
                opcode,
                needed,
                found,
            });
        }
        let mut bytes = [0; 12];
        for (to, from) in bytes.iter_mut().zip(cdb) {
            *to = *from;
        }
        Ok(Self(bytes))
    }

    fn command(&self, opcode: Opcode) -> Option<Command> {
        let bytes = &self.0;
        Some(match opcode {
            Opcode::TEST_UNIT_READY => Command::TestUnitReady,
            Opcode::REQUEST_SENSE => Command::RequestSense {
                allocation: bytes[4].into(),
            },
            Opcode::INQUIRY => Command::Inquiry {
                vital: bytes[1] & 1 != 0,
                allocation: self.be16(3),
            },
            Opcode::READ_6 => Command::Read {
                lba: self.lba_6(),
                blocks: self.blocks_6(),
            },
            Opcode::READ_10 => Command::Read {
                lba: self.be32(2),
                blocks: self.be16(7).into(),
            },
            Opcode::READ_12 => Command::Read {
                lba: self.be32(2),
                blocks: self.be32(6),
            },
            Opcode::READ_CD => Command::ReadCd {
                lba: self.be32(2),
                blocks: u32::from_be_bytes([0, bytes[6], bytes[7], bytes[8]]),
                // Expected type any or mode 1; main channel: user data alone; no sub-channel (MMC-5 6.20.2).
                user_data_only: matches!(bytes[1] >> 2 & 7, 0 | 2)
                    && bytes[9] == 0x10
                    && bytes[10] & 7 == 0,
            },
            Opcode::WRITE_6 => Command::Write {
                lba: self.lba_6(),
                blocks: self.blocks_6(),
            },
            Opcode::WRITE_10 | Opcode::WRITE_AND_VERIFY_10 => Command::Write {
                lba: self.be32(2),
                blocks: self.be16(7).into(),
            },
            Opcode::WRITE_12 => Command::Write {
                lba: self.be32(2),
                blocks: self.be32(6),
            },
            Opcode::VERIFY_10 => Command::Verify {
                lba: self.be32(2),
                blocks: self.be16(7).into(),
                compare: bytes[1] & 2 != 0,
            },
            Opcode::SYNCHRONIZE_CACHE_10 => Command::SynchronizeCache,
            Opcode::READ_CAPACITY_10 => Command::ReadCapacity,
            Opcode::READ_FORMAT_CAPACITIES => Command::ReadFormatCapacities {
                allocation: self.be16(7),
            },
            Opcode::MODE_SENSE_6 => Command::ModeSense6 {
                page: bytes[2] & 0x3f,
                subpage: bytes[3],
                allocation: bytes[4].into(),
            },
            Opcode::MODE_SENSE_10 => Command::ModeSense10 {
                page: bytes[2] & 0x3f,
                subpage: bytes[3],
                allocation: self.be16(7),
            },
            Opcode::START_STOP_UNIT => Command::StartStop {
                start: bytes[4] & 1 != 0,
                load_eject: bytes[4] & 2 != 0,
            },
            Opcode::PREVENT_ALLOW_MEDIUM_REMOVAL => Command::PreventAllow {
                prevent: bytes[4] & 1 != 0,
            },
            Opcode::READ_TOC => Command::ReadToc {
                msf: bytes[1] & 2 != 0,
                format: self.toc_format(),
                start: bytes[6],
                allocation: self.be16(7),
            },
            Opcode::GET_CONFIGURATION => Command::GetConfiguration {
                request: bytes[1] & 3,
                first: self.be16(2),
                allocation: self.be16(7),
            },
            Opcode::GET_EVENT_STATUS_NOTIFICATION => Command::GetEventStatus {
                polled: bytes[1] & 1 != 0,
                classes: bytes[4],
                allocation: self.be16(7),
            },
            Opcode::READ_DISC_INFORMATION => Command::ReadDiscInformation {
                data_type: bytes[1] & 7,
                allocation: self.be16(7),
            },
            Opcode::GET_PERFORMANCE => Command::GetPerformance,
            _ => return None,
        })
    }

    /// SFF-8020i had the format in the control byte's two vendor bits; old hosts still put it there.
    fn toc_format(&self) -> TocFormat {
        let format = match self.0[2] & 0x0f {
            0 => self.0[9] >> 6,
            format => format,
        };
        match format {
            0 => TocFormat::Formatted,
            1 => TocFormat::Sessions,
            2 => TocFormat::Full,
            other => TocFormat::Other(other),
        }
    }

    fn lba_6(&self) -> u32 {
        u32::from_be_bytes([0, self.0[1] & 0x1f, self.0[2], self.0[3]])
    }

    /// Zero means 256 in the six-byte commands (SBC-2 5.5).
    fn blocks_6(&self) -> u32 {
        match self.0[4] {
            0 => 256,
            blocks => blocks.into(),
        }
    }

    fn be16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_where_the_standards_put_them() {
        let cases: [(&[u8], Command); 9] = [
            (
                &[0x08, 0xff, 0x02, 0x03, 0x04, 0x00],
                Command::Read {
                    lba: 0x1f_0203,
                    blocks: 4,
                },
            ),
            (
                &[0x0a, 0x01, 0x02, 0x03, 0x00, 0x00],
                Command::Write {
                    lba: 0x1_0203,
                    blocks: 256,
                },
            ),
            (
                &[0x28, 0, 0x81, 0x02, 0x03, 0x04, 0, 0x01, 0x02, 0],
                Command::Read {
                    lba: 0x8102_0304,
                    blocks: 0x102,
                },
            ),
            (
                &[0xa8, 0, 0x81, 0x02, 0x03, 0x04, 0x80, 0, 0x01, 0x02, 0, 0],
                Command::Read {
                    lba: 0x8102_0304,
                    blocks: 0x8000_0102,
                },
            ),
            (
                &[0x2f, 0x02, 0, 0, 0, 9, 0, 0, 1, 0],
                Command::Verify {
                    lba: 9,
                    blocks: 1,
                    compare: true,
                },
            ),
            (
                &[0x43, 0x02, 0, 0, 0, 0, 0xaa, 0x03, 0x24, 0x40],
                Command::ReadToc {
                    msf: true,
                    format: TocFormat::Sessions,
                    start: 0xaa,
                    allocation: 0x324,
                },
            ),
            (
                &[0x43, 0x00, 0x02, 0, 0, 0, 0, 0x03, 0x24, 0x40],
                Command::ReadToc {
                    msf: false,
                    format: TocFormat::Full,
                    start: 0,
                    allocation: 0x324,
                },
            ),
            (
                &[0x46, 0xfe, 0x01, 0x05, 0, 0, 0, 0x00, 0x10, 0],
                Command::GetConfiguration {
                    request: 2,
                    first: 0x105,
                    allocation: 16,
                },
            ),
            (
                &[0xbe, 0x00, 0, 0, 0, 16, 0x01, 0, 2, 0x10, 0, 0],
                Command::ReadCd {
                    lba: 16,
                    blocks: 0x1_0002,
                    user_data_only: true,
                },
            ),
        ];
        for (cdb, command) in cases {
            assert_eq!(Command::parse(cdb), Ok(command), "{cdb:02x?}");
        }
    }

    #[test]
    fn cut_short_of_its_group_is_an_error() {
        for (opcode, needed) in [(0x00, 6), (0x28, 10), (0x5a, 10), (0xa8, 12)] {
            for found in 1..needed {
                let mut cdb = vec![0; found];
                cdb[0] = opcode;
                let opcode = Opcode(opcode);
                assert_eq!(
                    Command::parse(&cdb),
                    Err(CdbError::CutShort {
                        opcode,
                        needed,
                        found
                    })
                );
            }
        }
        assert_eq!(Command::parse(&[]), Err(CdbError::Empty));
    }

    #[test]
    fn padding_to_the_packet_length_changes_nothing() {
        let short = [0x1b, 0, 0, 0, 0x02, 0];
        let mut padded = [0; 16];
        padded[..6].copy_from_slice(&short);
        assert_eq!(Command::parse(&short), Command::parse(&padded));
    }

    #[test]
    fn opcodes_without_a_command_are_named() {
        for opcode in [0x9e, 0x7f, 0xc0, 0xff, 0x55, 0xbd] {
            let unknown = CdbError::Unknown(Opcode(opcode));
            assert_eq!(Command::parse(&[opcode; 16]), Err(unknown));
        }
        let text = CdbError::Unknown(Opcode(0xbd)).to_string();
        assert_eq!(text, "MECHANISM STATUS is not implemented");
    }
}
