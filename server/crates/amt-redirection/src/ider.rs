//! IDE-R messages: header, registers, and what both directions share (reference, section 3).
//!
//! Every message starts with eight bytes: id, two reserved bytes, attributes, sequence number LE32. Each
//! direction counts its own messages from 0.
//!
//! | Id | Name | Direction | Length |
//! |---|---|---|---|
//! | 0x40 | OpenSession | console to firmware | 18 |
//! | 0x41 | OpenSessionReply | firmware to console | 30 + byte 29 |
//! | 0x42 | Close | console to firmware | 8 |
//! | 0x43 | CloseReply | firmware to console | 8 |
//! | 0x44, 0x45 | KeepAlivePing, KeepAlivePong | both | 8 |
//! | 0x46 | ResetOccurred | firmware to console | 9 |
//! | 0x47 | ResetOccurredResponse | console to firmware | 8 |
//! | 0x48 | DisableEnableFeatures | console to firmware | 9, or 13 with subcommand 3 |
//! | 0x49 | DisableEnableFeaturesReply | firmware to console | 13 |
//! | 0x4A | ErrorOccurred | firmware to console | 11 |
//! | 0x4B | Heartbeat | both | 8 |
//! | 0x50 | CommandWritten | firmware to console | 28, rarely 32 |
//! | 0x51 | CommandEndResponse | console to firmware | 31 |
//! | 0x52 | GetDataFromHost | console to firmware | 31 |
//! | 0x53 | DataFromHost | firmware to console | 14 + LE16 at 9 |
//! | 0x54 | DataToHost | console to firmware | 34 + LE16 at 9 |

mod from_console;
mod from_firmware;
#[cfg(test)]
mod tests;

pub use from_console::{
    CommandEnd, ConsoleMessage, DATA_TO_HOST_HEADER, FeatureRequest, GetData, OpenSession,
    StartMode, SuccessMask, data_to_host_header,
};
pub use from_firmware::{
    CommandForm, CommandWritten, FeatureReply, FirmwareMessage, OpenReply, command_form,
};

use crate::wire::{array_at, le16_at, le32_at, u8_at};

/// Message ids; names as in the table above.
pub mod id {
    #![expect(
        missing_docs,
        reason = "the table at the top of the file above says what each is"
    )]
    pub const OPEN_SESSION: u8 = 0x40;
    pub const OPEN_SESSION_REPLY: u8 = 0x41;
    pub const CLOSE: u8 = 0x42;
    pub const CLOSE_REPLY: u8 = 0x43;
    pub const PING: u8 = 0x44;
    pub const PONG: u8 = 0x45;
    pub const RESET_OCCURRED: u8 = 0x46;
    pub const RESET_RESPONSE: u8 = 0x47;
    pub const FEATURES: u8 = 0x48;
    pub const FEATURES_REPLY: u8 = 0x49;
    pub const ERROR_OCCURRED: u8 = 0x4a;
    pub const HEARTBEAT: u8 = 0x4b;
    pub const COMMAND_WRITTEN: u8 = 0x50;
    pub const COMMAND_END: u8 = 0x51;
    pub const GET_DATA: u8 = 0x52;
    pub const DATA_FROM_HOST: u8 = 0x53;
    pub const DATA_TO_HOST: u8 = 0x54;
}

/// Length of the common header and of messages without a body.
pub const HEADER_LENGTH: usize = 8;

/// Byte 3 of the header; only messages 0x51 and 0x54 use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub u8);

impl Attributes {
    /// Bit 0: the transfer to the host is by DMA.
    pub const DMA: u8 = 0x01;
    /// Bit 1: last message of a command.
    pub const LAST: u8 = 0x02;

    /// Whether the command is complete with this message.
    pub const fn is_last(self) -> bool {
        self.0 & Self::LAST != 0
    }

    /// Whether the host reads by DMA.
    pub const fn is_dma(self) -> bool {
        self.0 & Self::DMA != 0
    }
}

/// The part of the header after the id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Byte 3.
    pub attributes: Attributes,
    /// Counts the messages of one direction from 0.
    pub sequence: u32,
}

impl Header {
    /// A header without attributes.
    pub const fn numbered(sequence: u32) -> Self {
        Self {
            attributes: Attributes(0),
            sequence,
        }
    }

    fn read(bytes: &[u8]) -> Self {
        Self {
            attributes: Attributes(u8_at(bytes, 3)),
            sequence: le32_at(bytes, 4),
        }
    }

    fn bytes(self, id: u8) -> [u8; HEADER_LENGTH] {
        let [a, b, c, d] = self.sequence.to_le_bytes();
        [id, 0, 0, self.attributes.0, a, b, c, d]
    }
}

/// A message with its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<M> {
    /// Attributes and sequence number.
    pub header: Header,
    /// What it says.
    pub message: M,
}

/// Which of the two redirected drives: bit 4 of the Device/Head register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DriveSelect {
    /// The floppy, device 0xA0.
    Floppy,
    /// The CD, device 0xB0.
    Cd,
}

impl DriveSelect {
    /// Value of the Device/Head register.
    pub const fn register(self) -> u8 {
        match self {
            Self::Floppy => 0xa0,
            Self::Cd => 0xb0,
        }
    }

    /// The drive that a Device/Head register selects.
    pub const fn from_register(register: u8) -> Self {
        if register & 0x10 == 0 {
            Self::Floppy
        } else {
            Self::Cd
        }
    }
}

/// ATA registers as firmware is to show them to the host: eight bytes of messages 0x51, 0x52 and 0x54
/// (reference, section 3.10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Which of the following are meant: 01 interrupt, 02 error, 04 sector count, 08 sector number,
    /// 10 and 20 byte count, 40 drive select, 80 status.
    pub mask: u8,
    /// Error register: the sense key in its upper half.
    pub error: u8,
    /// Sector count register, in ATAPI the interrupt reason: bit 0 command/data, bit 1 I/O.
    pub interrupt_reason: u8,
    /// Sector number register.
    pub sector_number: u8,
    /// Byte count registers.
    pub byte_count: u16,
    /// Device/Head register; see [`DriveSelect`].
    pub drive_select: u8,
    /// Status: 80 BSY, 40 DRDY, 20 DF, 10 DSC, 08 DRQ, 04 CORR, 02 IDX, 01 ERR.
    pub status: u8,
}

impl Registers {
    const LENGTH: usize = 8;

    fn read(bytes: &[u8], offset: usize) -> Self {
        Self {
            mask: u8_at(bytes, offset),
            error: u8_at(bytes, offset + 1),
            interrupt_reason: u8_at(bytes, offset + 2),
            sector_number: u8_at(bytes, offset + 3),
            byte_count: le16_at(bytes, offset + 4),
            drive_select: u8_at(bytes, offset + 6),
            status: u8_at(bytes, offset + 7),
        }
    }

    fn bytes(self) -> [u8; Self::LENGTH] {
        let [count_low, count_high] = self.byte_count.to_le_bytes();
        [
            self.mask,
            self.error,
            self.interrupt_reason,
            self.sector_number,
            count_low,
            count_high,
            self.drive_select,
            self.status,
        ]
    }
}

/// Sense key, additional sense code and its qualifier, as they travel in 0x51.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sense {
    /// Sense key, 0 to 15.
    pub key: u8,
    /// Additional sense code (ASC).
    pub asc: u8,
    /// Additional sense code qualifier (ASCQ).
    pub ascq: u8,
}

impl Sense {
    fn read(bytes: &[u8], offset: usize) -> Self {
        let [key, asc, ascq] = array_at(bytes, offset);
        Self { key, asc, ascq }
    }

    const fn bytes(self) -> [u8; 3] {
        [self.key, self.asc, self.ascq]
    }
}
