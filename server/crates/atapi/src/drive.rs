//! The target: one CD or floppy drive over a medium of which it knows the size alone.
//!
//! Each CDB gets exactly one [`Reply`]. Where the reply is a place on the medium, the caller moves the bytes; should that
//! fail, it sends sense of its own and tells [`Drive::failed`]. State is small: sense of the last command, unit attention, lock,
//! tray.

mod behaviour;

pub use behaviour::Behaviour;

use crate::answer::{self, ModeKind, ModeMedium};
use crate::{CdbError, Command, Sense, TocFormat};

/// What kind of drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DriveKind {
    /// CD or DVD: blocks of 2,048 bytes, never written.
    Cd,
    /// Floppy or larger removable disk: blocks of 512 bytes.
    Floppy,
}

impl DriveKind {
    /// Bytes per block.
    pub const fn block_size(self) -> u32 {
        match self {
            Self::Cd => 2048,
            Self::Floppy => 512,
        }
    }
}

/// What is in the drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Medium {
    /// Length in bytes. A last block that it does not fill counts as a block: whoever reads it supplies zeros.
    pub bytes: u64,
    /// The host may write it.
    pub writable: bool,
}

/// A medium that no drive of its kind can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MediumError {
    /// No bytes.
    #[error("medium is empty")]
    Empty,
    /// More blocks than ten bytes of CDB can address and READ CAPACITY(10) can tell.
    #[error("medium of {bytes} bytes is larger than {most}")]
    TooLarge {
        /// Its length.
        bytes: u64,
        /// The most for this kind of drive.
        most: u64,
    },
    /// A CD that is to be written.
    #[error("a CD cannot be writable")]
    WritableCd,
}

/// The one answer to a CDB. Offsets and lengths are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// These bytes, at least one, then success.
    Data(Vec<u8>),
    /// So many bytes of the medium, then success. `length` is not zero and the range is inside of the medium's blocks, but
    /// may be as long as the medium: send it in pieces.
    Read {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// Take so many bytes from the host, write them, then success. Same bounds as for `Read`.
    Write {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// Take so many bytes from the host, forget them, then fail with this sense.
    Drain {
        /// Number of bytes, not zero.
        length: u64,
        /// Why.
        then: Sense,
    },
    /// Bring what was written to where it stays, then success.
    Flush,
    /// Success without data.
    Done,
    /// Failure.
    Check(Sense),
}

/// A drive.
#[derive(Debug, Clone)]
pub struct Drive {
    kind: DriveKind,
    behaviour: Behaviour,
    medium: Option<Loaded>,
    ejected: bool,
    locked: bool,
    /// Told to the next command that can hear it.
    attention: Option<Sense>,
    /// Why the last command failed.
    sense: Sense,
}

#[derive(Debug, Clone, Copy)]
struct Loaded {
    /// 1 to [`MOST_BLOCKS`].
    blocks: u32,
    writable: bool,
}

impl Drive {
    /// A drive as it is after power-on.
    pub fn new(
        kind: DriveKind,
        medium: Option<Medium>,
        behaviour: Behaviour,
    ) -> Result<Self, MediumError> {
        let medium = medium.map(|medium| Loaded::new(kind, medium)).transpose()?;
        let attention = (medium.is_some() && behaviour.unit_attention_on_insert)
            .then_some(Sense::MEDIUM_MAY_HAVE_CHANGED);
        Ok(Self {
            kind,
            behaviour,
            medium,
            ejected: false,
            locked: false,
            attention,
            sense: Sense::NONE,
        })
    }

    /// What kind of drive it is.
    pub fn kind(&self) -> DriveKind {
        self.kind
    }

    /// Number of blocks that the host sees now; nothing when the drive is empty.
    pub fn blocks(&self) -> Option<u32> {
        self.loaded().map(|medium| medium.blocks)
    }

    /// The host ejected the medium. Needs [`Behaviour::honour_eject`].
    pub fn is_ejected(&self) -> bool {
        self.ejected
    }

    /// Answers a CDB.
    pub fn execute(&mut self, cdb: &[u8]) -> Reply {
        let reply = match Command::parse(cdb) {
            Ok(command) => self.attend(command),
            Err(CdbError::CutShort { .. }) => Reply::Check(Sense::INVALID_FIELD_IN_CDB),
            Err(CdbError::Empty | CdbError::Unknown(_)) => Reply::Check(Sense::INVALID_OPCODE),
        };
        self.sense = match reply {
            Reply::Check(sense) | Reply::Drain { then: sense, .. } => sense,
            _ => Sense::NONE,
        };
        reply
    }

    /// The caller could not carry out the last reply and sent this sense instead.
    pub fn failed(&mut self, sense: Sense) {
        self.sense = sense;
    }

    /// A bus or device reset: lock, tray and sense are as after power-on.
    pub fn reset(&mut self) {
        self.locked = false;
        self.ejected = false;
        self.sense = Sense::NONE;
        if self.behaviour.unit_attention_on_reset {
            self.attention = Some(Sense::RESET_OCCURRED);
        }
    }

    /// Commands that tell about the drive are served whatever is pending (SPC-3 5.7, MMC-5 4.1.6).
    fn attend(&mut self, command: Command) -> Reply {
        match command {
            Command::Inquiry { .. }
            | Command::GetConfiguration { .. }
            | Command::GetEventStatus { .. } => {}
            Command::RequestSense { allocation } => {
                let sense = self.attention.take().unwrap_or(self.sense);
                return data(sense.fixed().into(), allocation);
            }
            _ => {
                if let Some(sense) = self.attention.take() {
                    return Reply::Check(sense);
                }
            }
        }
        self.serve(command).unwrap_or_else(Reply::Check)
    }

    fn serve(&mut self, command: Command) -> Result<Reply, Sense> {
        Ok(match command {
            Command::TestUnitReady => {
                self.ready()?;
                Reply::Done
            }
            // Answered before, where pending sense is at hand.
            Command::RequestSense { allocation } => data(Sense::NONE.fixed().into(), allocation),
            Command::Inquiry { vital: true, .. } => return Err(Sense::INVALID_FIELD_IN_CDB),
            Command::Inquiry { allocation, .. } => data(self.inquiry(), allocation),
            Command::Read { lba, blocks } => self.read(lba, blocks)?,
            Command::ReadCd {
                lba,
                blocks,
                user_data_only,
            } => {
                self.cd_only()?;
                if !self.behaviour.read_cd {
                    return Err(Sense::INVALID_OPCODE);
                }
                if !user_data_only {
                    return Err(Sense::INVALID_FIELD_IN_CDB);
                }
                self.read(lba, blocks)?
            }
            Command::Write { lba, blocks } => self.write(lba, blocks)?,
            Command::Verify { compare: true, .. } => return Err(Sense::INVALID_FIELD_IN_CDB),
            Command::Verify { lba, blocks, .. } => {
                self.range(lba, blocks)?;
                Reply::Done
            }
            Command::SynchronizeCache => {
                if self.ready()?.writable {
                    Reply::Flush
                } else {
                    Reply::Done
                }
            }
            Command::ReadCapacity => {
                let blocks = self.ready()?.blocks;
                Reply::Data(answer::read_capacity(blocks, self.kind.block_size()))
            }
            Command::ReadFormatCapacities { allocation } => {
                let blocks = self.ready()?.blocks;
                let capacities = answer::read_format_capacities(blocks, self.kind.block_size());
                data(capacities, allocation)
            }
            Command::ModeSense6 {
                page,
                subpage,
                allocation,
            } => {
                let parameters = answer::mode_sense_6(self.mode_medium(), page, subpage);
                data(parameters.ok_or(Sense::INVALID_FIELD_IN_CDB)?, allocation)
            }
            Command::ModeSense10 {
                page,
                subpage,
                allocation,
            } => {
                let absent = if self.behaviour.standard_absent_page {
                    Sense::INVALID_FIELD_IN_CDB
                } else {
                    Sense::INVALID_OPCODE
                };
                let parameters = answer::mode_sense_10(self.mode_medium(), page, subpage);
                data(parameters.ok_or(absent)?, allocation)
            }
            Command::StartStop { start, load_eject } => self.start_stop(start, load_eject)?,
            Command::PreventAllow { prevent } => {
                self.locked = prevent;
                Reply::Done
            }
            Command::ReadToc {
                msf,
                format,
                start,
                allocation,
            } => data(self.toc(msf, format, start)?, allocation),
            Command::GetConfiguration {
                request,
                first,
                allocation,
            } => {
                self.cd_only()?;
                let configuration = answer::configuration(request, first);
                data(
                    configuration.ok_or(Sense::INVALID_FIELD_IN_CDB)?,
                    allocation,
                )
            }
            Command::GetEventStatus {
                polled,
                classes,
                allocation,
            } => self.event_status(polled, classes, allocation)?,
            Command::ReadDiscInformation {
                data_type,
                allocation,
            } => {
                self.cd_only()?;
                if !self.behaviour.disc_information {
                    return Err(Sense::INVALID_OPCODE);
                }
                self.ready()?;
                if data_type != 0 {
                    return Err(Sense::INVALID_FIELD_IN_CDB);
                }
                data(answer::disc_information(), allocation)
            }
            Command::GetPerformance => {
                self.cd_only()?;
                Reply::Data(answer::no_performance_data())
            }
        })
    }

    fn loaded(&self) -> Option<Loaded> {
        self.medium.filter(|_| !self.ejected)
    }

    fn ready(&self) -> Result<Loaded, Sense> {
        self.loaded().ok_or(Sense::NO_MEDIUM)
    }

    /// Commands of MMC do not exist in a block device's set.
    fn cd_only(&self) -> Result<(), Sense> {
        match self.kind {
            DriveKind::Cd => Ok(()),
            DriveKind::Floppy => Err(Sense::INVALID_OPCODE),
        }
    }

    /// Offset and length in bytes of blocks that are all on the medium. No blocks at its very end are in range
    /// (SBC-2 4.4 leaves it open; hosts do not ask).
    fn range(&self, lba: u32, blocks: u32) -> Result<(u64, u64), Sense> {
        let medium = self.ready()?;
        // Sums and products of 32-bit numbers, in 64 bits.
        let end = u64::from(lba) + u64::from(blocks);
        if end > u64::from(medium.blocks) {
            return Err(Sense::LBA_OUT_OF_RANGE);
        }
        let block_size = u64::from(self.kind.block_size());
        Ok((u64::from(lba) * block_size, u64::from(blocks) * block_size))
    }

    fn read(&self, lba: u32, blocks: u32) -> Result<Reply, Sense> {
        let (offset, length) = self.range(lba, blocks)?;
        if length == 0 {
            return Ok(Reply::Done);
        }
        Ok(Reply::Read { offset, length })
    }

    fn write(&self, lba: u32, blocks: u32) -> Result<Reply, Sense> {
        let medium = self.ready()?;
        if !medium.writable {
            let length = u64::from(blocks) * u64::from(self.kind.block_size());
            if self.behaviour.drain_refused_writes && length > 0 {
                let then = Sense::WRITE_PROTECTED;
                return Ok(Reply::Drain { length, then });
            }
            return Err(Sense::WRITE_PROTECTED);
        }
        let (offset, length) = self.range(lba, blocks)?;
        if length == 0 {
            return Ok(Reply::Done);
        }
        Ok(Reply::Write { offset, length })
    }

    /// Eject and load; spinning up and down means nothing here.
    fn start_stop(&mut self, start: bool, load_eject: bool) -> Result<Reply, Sense> {
        if !load_eject || !self.behaviour.honour_eject {
            return Ok(Reply::Done);
        }
        if !start && self.locked && !self.ejected {
            return Err(Sense::REMOVAL_PREVENTED);
        }
        if start && self.ejected && self.behaviour.unit_attention_on_insert {
            self.attention = Some(Sense::MEDIUM_MAY_HAVE_CHANGED);
        }
        self.ejected = !start;
        Ok(Reply::Done)
    }

    fn toc(&self, msf: bool, format: TocFormat, start: u8) -> Result<Vec<u8>, Sense> {
        self.cd_only()?;
        let medium = self.ready()?;
        let lead_out = if self.behaviour.true_lead_out {
            answer::msf_of_lba(medium.blocks)
        } else {
            FIELDED_LEAD_OUT_MSF
        };
        let table = match format {
            TocFormat::Formatted => {
                let lead_out = match (msf, self.behaviour.true_lead_out) {
                    (true, _) => [0, lead_out[0], lead_out[1], lead_out[2]],
                    (false, true) => medium.blocks.to_be_bytes(),
                    (false, false) => [0; 4],
                };
                answer::formatted_toc(msf, start, lead_out)
            }
            TocFormat::Sessions => Some(answer::session_toc(msf)),
            TocFormat::Full => answer::full_toc(start, lead_out),
            TocFormat::Other(_) => None,
        };
        table.ok_or(Sense::INVALID_FIELD_IN_CDB)
    }

    fn event_status(&self, polled: bool, classes: u8, allocation: u16) -> Result<Reply, Sense> {
        if !polled {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        let present = self.loaded().is_some();
        let eight = self.behaviour.eight_byte_event_status;
        let bytes = if eight && classes & EVENT_CLASS_MEDIA != 0 && allocation >= 8 {
            answer::event_status(present)
        } else {
            answer::event_status_short(present)
        };
        Ok(data(bytes, allocation))
    }

    fn inquiry(&self) -> Vec<u8> {
        match self.kind {
            DriveKind::Cd => answer::inquiry(5, b"Redirected CD   "),
            DriveKind::Floppy => answer::inquiry(0, b"Redirected Disk "),
        }
    }

    fn mode_medium(&self) -> ModeMedium {
        let medium = self.loaded();
        let kind = match (self.kind, medium) {
            (DriveKind::Cd, _) => ModeKind::Cd,
            (DriveKind::Floppy, Some(medium)) if medium.blocks > FLOPPY_BLOCKS => ModeKind::Ls120,
            (DriveKind::Floppy, _) => ModeKind::Floppy,
        };
        ModeMedium {
            kind,
            write_protected: !medium.is_some_and(|medium| medium.writable),
        }
    }
}

impl Loaded {
    fn new(kind: DriveKind, medium: Medium) -> Result<Self, MediumError> {
        let Medium { bytes, writable } = medium;
        if bytes == 0 {
            return Err(MediumError::Empty);
        }
        if writable && kind == DriveKind::Cd {
            return Err(MediumError::WritableCd);
        }
        let block_size = u64::from(kind.block_size());
        let blocks = u32::try_from(bytes.div_ceil(block_size));
        let blocks = blocks.map_err(|_| MediumError::TooLarge {
            bytes,
            most: u64::from(MOST_BLOCKS) * block_size,
        })?;
        Ok(Self { blocks, writable })
    }
}

/// What the host has room for; no room is no data.
fn data(mut bytes: Vec<u8>, allocation: u16) -> Reply {
    bytes.truncate(allocation.into());
    if bytes.is_empty() {
        Reply::Done
    } else {
        Reply::Data(bytes)
    }
}

/// With one more block the last LBA would be 0xffff_ffff, which READ CAPACITY(10) uses to say "too many".
const MOST_BLOCKS: u32 = u32::MAX;
/// 1.44 MB. Anything larger is presented as an LS-120.
const FLOPPY_BLOCKS: u32 = 2880;
/// 00:52:19, which consoles gave for every disc.
const FIELDED_LEAD_OUT_MSF: [u8; 3] = [0x00, 0x34, 0x13];
const EVENT_CLASS_MEDIA: u8 = 1 << 4;
