//! IDE-R messages that firmware sends (reference, sections 3.3 to 3.6 and 3.9).

use super::{DriveSelect, Frame, HEADER_LENGTH, Header, id};
use crate::wire::{
    Bounded, DecodeError, Decoded, Field, Payload, array_at, le16_at, le32_at, u8_at, whole,
};

const OPEN_REPLY_LENGTH: usize = 30;
const RESET_LENGTH: usize = 9;
const FEATURES_REPLY_LENGTH: usize = 13;
const ERROR_LENGTH: usize = 11;
const COMMAND_LENGTH: usize = 28;
const COMMAND_LENGTH_SIXTEEN: usize = 32;
const DATA_FROM_HOST_HEADER: usize = 14;
const CDB_AT: usize = 16;
const DATA_LENGTH_AT: usize = 9;

/// ATA PACKET, the command register of every 0x50.
const PACKET: u8 = 0xa0;

/// What firmware sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirmwareMessage<'a> {
    /// 0x41.
    OpenReply(OpenReply<'a>),
    /// 0x43: answers Close, or ends the session unasked.
    CloseReply,
    /// 0x44.
    Ping,
    /// 0x45.
    Pong,
    /// 0x46: the host was reset; commands from before are void.
    ResetOccurred {
        /// Meaning of the bits unknown.
        mask: u8,
    },
    /// 0x49.
    FeaturesReply(FeatureReply),
    /// 0x4A.
    ErrorOccurred {
        /// Values undocumented.
        code: u8,
    },
    /// 0x4B.
    Heartbeat,
    /// 0x50.
    Command(CommandWritten),
    /// 0x53: a piece of what the host writes.
    DataFromHost(Payload<'a>),
}

/// Body of 0x41.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenReply<'a> {
    /// Byte 1 of the message, 0 for success. Some consoles ignore it.
    pub status: u8,
    /// IDE-R version, major and minor.
    pub version: (u8, u8),
    /// Firmware version, major and minor.
    pub firmware: (u8, u8),
    /// Largest data length of one 0x54, in bytes; 8,192 is the usual assumption.
    pub read_buffer: u16,
    /// Largest data length of one 0x53, in bytes.
    pub write_buffer: u16,
    /// Must be 0.
    pub protocol: u8,
    /// Private enterprise number.
    pub oem: u32,
    /// Not interpreted.
    pub oem_data: Field<'a>,
}

/// Body of 0x49.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureReply {
    /// Answer to subcommand 1: bit 0, the registers of the primary channel are available.
    SupportedFeatures(u32),
    /// Answer to subcommand 2: bit 1, the primary channel is enabled.
    RegisterState(u32),
    /// Answer to subcommand 3: 1 for done, anything else for refused.
    SetRegisterState(u32),
}

/// Body of 0x50: the task file that the host wrote, and its command packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandWritten {
    /// Cable/channel select.
    pub channel: u8,
    /// Feature register; bit 0: the host wants DMA.
    pub feature: u8,
    /// Sector count register.
    pub sector_count: u8,
    /// Sector number register.
    pub sector_number: u8,
    /// Largest number of bytes per data request that the host takes. Every console ignores it.
    pub byte_count_limit: u16,
    /// Device/Head register; see [`DriveSelect`].
    pub drive_select: u8,
    /// Command register: 0xA0, PACKET.
    pub command: u8,
    /// Zero padded.
    pub cdb: [u8; 16],
    /// How many bytes of `cdb` were on the wire.
    pub form: CommandForm,
}

/// How long the CDB in a 0x50 is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommandForm {
    /// 12 bytes, the ATAPI packet. The rule.
    #[default]
    Twelve,
    /// 16 bytes. Reported "sometimes", without an explanation; see [`command_form`].
    Sixteen,
}

impl CommandForm {
    /// Bytes of the CDB.
    pub const fn cdb_length(self) -> usize {
        match self {
            Self::Twelve => 12,
            Self::Sixteen => 16,
        }
    }

    const fn message_length(self) -> usize {
        match self {
            Self::Twelve => COMMAND_LENGTH,
            Self::Sixteen => COMMAND_LENGTH_SIXTEEN,
        }
    }
}

impl CommandWritten {
    /// A PACKET command as a host issues it.
    pub const fn packet(drive: DriveSelect, dma: bool, cdb: [u8; 16], form: CommandForm) -> Self {
        Self {
            channel: 0,
            feature: dma as u8,
            sector_count: 0,
            sector_number: 0,
            byte_count_limit: 0xfffe,
            drive_select: drive.register(),
            command: PACKET,
            cdb,
            form,
        }
    }

    /// The drive that is meant.
    pub const fn drive(&self) -> DriveSelect {
        DriveSelect::from_register(self.drive_select)
    }

    /// Whether the host reads by DMA.
    pub const fn dma(&self) -> bool {
        self.feature & 0x01 != 0
    }

    fn read(bytes: &[u8], form: CommandForm) -> Self {
        let mut cdb = array_at::<16>(bytes, CDB_AT);
        if form == CommandForm::Twelve {
            let twelve: [u8; 12] = array_at(bytes, CDB_AT);
            cdb = [0; 16];
            cdb[..12].copy_from_slice(&twelve);
        }
        Self {
            channel: u8_at(bytes, 8),
            feature: u8_at(bytes, 9),
            sector_count: u8_at(bytes, 10),
            sector_number: u8_at(bytes, 11),
            byte_count_limit: le16_at(bytes, 12),
            drive_select: u8_at(bytes, 14),
            command: u8_at(bytes, 15),
            cdb,
            form,
        }
    }
}

/// Tells a 0x50 of 32 bytes from one of 28, which no field does (reference, section 3.6).
///
/// Only operation codes of group 4 (0x80 to 0x9F) have 16-byte CDBs. With one of these, the 28-byte form is
/// taken if the bytes after it look like a header with the sequence number that must come next.
/// [`Decoded::NeedMore`] means that more bytes would decide; firmware sends nothing before the command is
/// answered, so a caller should wait for them only briefly and then take [`CommandForm::Twelve`].
pub fn command_form(bytes: &[u8], next_sequence: u32) -> Decoded<CommandForm> {
    let decided = |form: CommandForm| match whole(bytes, form.message_length()) {
        None => Decoded::NeedMore,
        Some(_) => Decoded::Message {
            message: form,
            length: form.message_length(),
        },
    };
    match bytes.get(CDB_AT) {
        None => return Decoded::NeedMore,
        Some(0x80..=0x9f) => {}
        Some(_) => return decided(CommandForm::Twelve),
    }
    let Some(after) = bytes
        .get(COMMAND_LENGTH..)
        .filter(|after| !after.is_empty())
    else {
        return Decoded::NeedMore;
    };
    let [a, b, c, d] = next_sequence.to_le_bytes();
    let header_like = |(at, &byte): (usize, &u8)| match at {
        0 => (id::OPEN_SESSION_REPLY..=id::DATA_FROM_HOST).contains(&byte),
        1..=3 => byte == 0,
        _ => [a, b, c, d].get(at - 4) == Some(&byte),
    };
    if !after
        .iter()
        .take(HEADER_LENGTH)
        .enumerate()
        .all(header_like)
    {
        return decided(CommandForm::Sixteen);
    }
    if after.len() < HEADER_LENGTH {
        return Decoded::NeedMore;
    }
    decided(CommandForm::Twelve)
}

impl<'a> FirmwareMessage<'a> {
    /// Decodes the first message of `bytes`; a 0x50 as having `form`, which [`command_form`] finds out.
    pub fn decode(bytes: &'a [u8], form: CommandForm) -> Result<Decoded<Frame<Self>>, DecodeError> {
        let Some(&first) = bytes.first() else {
            return Ok(Decoded::NeedMore);
        };
        let length = match first {
            id::CLOSE_REPLY | id::PING | id::PONG | id::HEARTBEAT => HEADER_LENGTH,
            id::OPEN_SESSION_REPLY => match bytes.get(OPEN_REPLY_LENGTH - 1) {
                None => return Ok(Decoded::NeedMore),
                Some(&oem_length) => OPEN_REPLY_LENGTH + usize::from(oem_length),
            },
            id::RESET_OCCURRED => RESET_LENGTH,
            id::FEATURES_REPLY => FEATURES_REPLY_LENGTH,
            id::ERROR_OCCURRED => ERROR_LENGTH,
            id::COMMAND_WRITTEN => form.message_length(),
            id::DATA_FROM_HOST => match bytes.get(..DATA_LENGTH_AT + 2) {
                None => return Ok(Decoded::NeedMore),
                Some(head) => DATA_FROM_HOST_HEADER + usize::from(le16_at(head, DATA_LENGTH_AT)),
            },
            other => return Err(DecodeError::UnknownId(other)),
        };
        let Some(bytes) = whole(bytes, length) else {
            return Ok(Decoded::NeedMore);
        };
        let message = match first {
            id::OPEN_SESSION_REPLY => Self::OpenReply(OpenReply {
                status: u8_at(bytes, 1),
                version: (u8_at(bytes, 8), u8_at(bytes, 9)),
                firmware: (u8_at(bytes, 10), u8_at(bytes, 11)),
                read_buffer: le16_at(bytes, 16),
                write_buffer: le16_at(bytes, 18),
                protocol: u8_at(bytes, 21),
                oem: le32_at(bytes, 25),
                oem_data: Bounded::split(bytes.get(OPEN_REPLY_LENGTH..).unwrap_or_default()).0,
            }),
            id::CLOSE_REPLY => Self::CloseReply,
            id::PING => Self::Ping,
            id::PONG => Self::Pong,
            id::RESET_OCCURRED => Self::ResetOccurred {
                mask: u8_at(bytes, 8),
            },
            id::FEATURES_REPLY => {
                let value = le32_at(bytes, 9);
                Self::FeaturesReply(match u8_at(bytes, 8) {
                    1 => FeatureReply::SupportedFeatures(value),
                    2 => FeatureReply::RegisterState(value),
                    3 => FeatureReply::SetRegisterState(value),
                    other => return Err(DecodeError::UnknownSubcommand(other)),
                })
            }
            id::ERROR_OCCURRED => Self::ErrorOccurred {
                code: u8_at(bytes, 8),
            },
            id::COMMAND_WRITTEN => Self::Command(CommandWritten::read(bytes, form)),
            id::DATA_FROM_HOST => {
                let data = bytes.get(DATA_FROM_HOST_HEADER..).unwrap_or_default();
                Self::DataFromHost(Bounded::split(data).0)
            }
            _ => Self::Heartbeat,
        };
        Ok(Decoded::Message {
            message: Frame {
                header: Header::read(bytes),
                message,
            },
            length,
        })
    }
}

impl Frame<FirmwareMessage<'_>> {
    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let header = |id| self.header.bytes(id);
        match self.message {
            FirmwareMessage::OpenReply(reply) => {
                let mut head = header(id::OPEN_SESSION_REPLY);
                head[1] = reply.status;
                out.extend_from_slice(&head);
                out.extend_from_slice(&[
                    reply.version.0,
                    reply.version.1,
                    reply.firmware.0,
                    reply.firmware.1,
                ]);
                out.extend_from_slice(&[0; 4]);
                out.extend_from_slice(&reply.read_buffer.to_le_bytes());
                out.extend_from_slice(&reply.write_buffer.to_le_bytes());
                out.extend_from_slice(&[0, reply.protocol, 0, 0, 0]);
                out.extend_from_slice(&reply.oem.to_le_bytes());
                crate::wire::put_prefixed(out, reply.oem_data);
            }
            FirmwareMessage::CloseReply => out.extend_from_slice(&header(id::CLOSE_REPLY)),
            FirmwareMessage::Ping => out.extend_from_slice(&header(id::PING)),
            FirmwareMessage::Pong => out.extend_from_slice(&header(id::PONG)),
            FirmwareMessage::ResetOccurred { mask } => {
                out.extend_from_slice(&header(id::RESET_OCCURRED));
                out.push(mask);
            }
            FirmwareMessage::FeaturesReply(reply) => {
                let (subcommand, value) = match reply {
                    FeatureReply::SupportedFeatures(value) => (1, value),
                    FeatureReply::RegisterState(value) => (2, value),
                    FeatureReply::SetRegisterState(value) => (3, value),
                };
                out.extend_from_slice(&header(id::FEATURES_REPLY));
                out.push(subcommand);
                out.extend_from_slice(&value.to_le_bytes());
            }
            FirmwareMessage::ErrorOccurred { code } => {
                out.extend_from_slice(&header(id::ERROR_OCCURRED));
                out.extend_from_slice(&[code, 0, 0]);
            }
            FirmwareMessage::Heartbeat => out.extend_from_slice(&header(id::HEARTBEAT)),
            FirmwareMessage::Command(command) => {
                out.extend_from_slice(&header(id::COMMAND_WRITTEN));
                out.extend_from_slice(&[
                    command.channel,
                    command.feature,
                    command.sector_count,
                    command.sector_number,
                ]);
                out.extend_from_slice(&command.byte_count_limit.to_le_bytes());
                out.extend_from_slice(&[command.drive_select, command.command]);
                out.extend_from_slice(&command.cdb[..command.form.cdb_length()]);
            }
            FirmwareMessage::DataFromHost(data) => {
                out.extend_from_slice(&header(id::DATA_FROM_HOST));
                out.push(0);
                // A `Payload` has at most 65,535 bytes.
                out.extend_from_slice(&(data.len() as u16).to_le_bytes());
                out.extend_from_slice(&[0; 3]);
                out.extend_from_slice(data.bytes());
            }
        }
    }
}
