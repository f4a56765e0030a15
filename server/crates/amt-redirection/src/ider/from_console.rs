//! IDE-R messages that a console sends (reference, sections 3.3, 3.4, 3.7, 3.8, 3.9).

use super::{Attributes, DriveSelect, Frame, HEADER_LENGTH, Header, Registers, Sense, id};
use crate::wire::{Bounded, DecodeError, Decoded, Payload, le16_at, le32_at, u8_at, whole};

const OPEN_LENGTH: usize = 18;
const FEATURES_LENGTH: usize = 9;
const SET_REGISTER_STATE_LENGTH: usize = 13;
const COMMAND_END_LENGTH: usize = 31;
const GET_DATA_LENGTH: usize = 31;
const PADDING_LENGTH: usize = 4;

/// Length of a 0x54 before its data.
pub const DATA_TO_HOST_HEADER: usize = 34;

// Offsets that 0x51, 0x52 and 0x54 have in common.
const LENGTH_AT: usize = 9;
const INPUT_AT: usize = 12;
const OUTPUT_AT: usize = 20;
const SENSE_AT: usize = 28;

/// Status register after a command that succeeded: DRDY, DSC.
const STATUS_DONE: u8 = 0x50;
/// Status register after a command that failed: DRDY, DSC, ERR.
const STATUS_FAILED: u8 = 0x51;
/// Status register while data is to be moved: DRDY, DSC, DRQ.
const STATUS_DATA: u8 = 0x58;
/// Mask of the output registers after a check condition.
const MASK_FAILED: u8 = 0x87;
/// Mask of the output registers in the last 0x54 of a command.
const MASK_LAST_DATA: u8 = 0x85;
/// Mask of the input registers of a PIO transfer: interrupt, sector count, byte count, status.
const MASK_PIO: u8 = 0xb5;
/// The same by DMA: no interrupt bit.
const MASK_DMA: u8 = 0xb4;
/// Interrupt reason of a completed command: command/data and I/O.
const REASON_DONE: u8 = 3;
/// Interrupt reason of data towards the host: I/O.
const REASON_DATA_IN: u8 = 2;

/// What a console sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleMessage<'a> {
    /// 0x40.
    OpenSession(OpenSession),
    /// 0x42.
    Close,
    /// 0x44.
    Ping,
    /// 0x45.
    Pong,
    /// 0x47.
    ResetResponse,
    /// 0x48.
    Features(FeatureRequest),
    /// Four zero bytes. Some consoles pad every 0x48 to 13 bytes, and nothing in its first nine says so; no
    /// message starts with a zero. Only to be accepted after subcommands 1 and 2. Has no header.
    Padding,
    /// 0x4B.
    Heartbeat,
    /// 0x51.
    CommandEnd(CommandEnd),
    /// 0x52.
    GetData(GetData),
    /// 0x54.
    DataToHost {
        /// Registers while the data is moved.
        input: Registers,
        /// Registers afterwards, in the last one of a command; else zero.
        output: Registers,
        /// The data.
        data: Payload<'a>,
    },
}

/// Body of 0x40.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenSession {
    /// Milliseconds without a word from the console after which firmware drops the session.
    pub rx_timeout: u16,
    /// Milliseconds; 0 in every known console.
    pub tx_timeout: u16,
    /// Milliseconds between heartbeats of the firmware; 0 for none.
    pub heartbeat: u16,
    /// Protocol version: 1. amtider's malformed message reads as 0 here, as all other fields do.
    pub version: u32,
}

/// When SetRegisterState takes effect (reference, section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartMode {
    /// At the next reset of the host, which then finds the drives at boot.
    OnReboot,
    /// Now, but refused while an IDE command is pending.
    Graceful,
    /// Now, regardless. A running operating system may hang.
    Now,
}

impl StartMode {
    /// The bits of SetRegisterState, with the enable bit set.
    pub const fn enable(self) -> u32 {
        match self {
            Self::OnReboot => 0x09,
            Self::Graceful => 0x11,
            Self::Now => 0x19,
        }
    }

    /// The mode of a SetRegisterState value; bit 0, enable, is left out of account.
    pub const fn from_value(value: u32) -> Option<Self> {
        match value & !1 {
            0x08 => Some(Self::OnReboot),
            0x10 => Some(Self::Graceful),
            0x18 => Some(Self::Now),
            _ => None,
        }
    }
}

/// Body of 0x48.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureRequest {
    /// Subcommand 1: GetSupportedFeatures.
    SupportedFeatures,
    /// Subcommand 2: GetRegisterState.
    RegisterState,
    /// Subcommand 3: SetRegisterState, see [`StartMode::enable`].
    SetRegisterState(u32),
}

/// Body of 0x51.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandEnd {
    /// Registers for the host.
    pub output: Registers,
    /// All zero after success.
    pub sense: Sense,
}

/// Mask of the output registers in a successful 0x51. Firmware takes either; consoles differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SuccessMask {
    /// 0xC5: interrupt, sector count, drive select, status. Most consoles.
    #[default]
    WithDrive,
    /// 0x85: without drive select. amtider.
    WithoutDrive,
}

impl CommandEnd {
    /// The command succeeded.
    pub const fn success(drive: DriveSelect, mask: SuccessMask) -> Self {
        Self {
            output: Registers {
                mask: match mask {
                    SuccessMask::WithDrive => 0xc5,
                    SuccessMask::WithoutDrive => 0x85,
                },
                error: 0,
                interrupt_reason: REASON_DONE,
                sector_number: 0,
                byte_count: 0,
                drive_select: drive.register(),
                status: STATUS_DONE,
            },
            sense: Sense {
                key: 0,
                asc: 0,
                ascq: 0,
            },
        }
    }

    /// Check condition: the command failed, for this reason.
    pub const fn check(drive: DriveSelect, sense: Sense) -> Self {
        Self {
            output: Registers {
                mask: MASK_FAILED,
                error: sense.key << 4,
                interrupt_reason: REASON_DONE,
                sector_number: 0,
                byte_count: 0,
                drive_select: drive.register(),
                status: STATUS_FAILED,
            },
            sense,
        }
    }

    /// Whether the status register says that the command failed.
    pub const fn is_check(self) -> bool {
        self.output.status & 0x01 != 0
    }
}

/// Body of 0x52: asks for data that the host writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetData {
    /// Bytes wanted.
    pub length: u16,
    /// Registers while the data is moved.
    pub input: Registers,
}

impl GetData {
    /// Asks for `length` bytes of what the host writes to `drive`.
    pub const fn new(drive: DriveSelect, length: u16) -> Self {
        Self {
            length,
            input: Registers {
                mask: MASK_PIO,
                error: 0,
                interrupt_reason: 0,
                sector_number: 0,
                byte_count: length,
                drive_select: drive.register(),
                status: STATUS_DATA,
            },
        }
    }
}

/// The 34 bytes before the data of a 0x54 (reference, section 3.8).
pub fn data_to_host_header(
    sequence: u32,
    drive: DriveSelect,
    dma: bool,
    last: bool,
    length: u16,
) -> [u8; DATA_TO_HOST_HEADER] {
    let mut attributes = 0;
    if dma {
        attributes |= Attributes::DMA;
    }
    if last {
        attributes |= Attributes::LAST;
    }
    let input = Registers {
        mask: if dma { MASK_DMA } else { MASK_PIO },
        error: 0,
        interrupt_reason: REASON_DATA_IN,
        sector_number: 0,
        // The byte count registers mean nothing in a DMA transfer.
        byte_count: if dma { 0 } else { length },
        drive_select: drive.register(),
        status: STATUS_DATA,
    };
    let output = if last {
        Registers {
            mask: MASK_LAST_DATA,
            ..CommandEnd::success(drive, SuccessMask::WithDrive).output
        }
    } else {
        Registers::default()
    };
    let header = Header {
        attributes: Attributes(attributes),
        sequence,
    };
    let mut bytes = [0; DATA_TO_HOST_HEADER];
    transfer_head(
        &mut bytes,
        header.bytes(id::DATA_TO_HOST),
        length,
        input,
        output,
    );
    bytes
}

/// The shape that 0x51, 0x52 and 0x54 share up to byte 28.
fn transfer_head(
    bytes: &mut [u8; DATA_TO_HOST_HEADER],
    header: [u8; HEADER_LENGTH],
    length: u16,
    input: Registers,
    output: Registers,
) {
    bytes[..HEADER_LENGTH].copy_from_slice(&header);
    bytes[LENGTH_AT..LENGTH_AT + 2].copy_from_slice(&length.to_le_bytes());
    bytes[INPUT_AT..OUTPUT_AT].copy_from_slice(&input.bytes());
    bytes[OUTPUT_AT..SENSE_AT].copy_from_slice(&output.bytes());
}

impl<'a> ConsoleMessage<'a> {
    /// Decodes the first message of `bytes`. Reserved bytes are not looked at, as firmware does not either.
    pub fn decode(bytes: &'a [u8]) -> Result<Decoded<Frame<Self>>, DecodeError> {
        let Some(&first) = bytes.first() else {
            return Ok(Decoded::NeedMore);
        };
        let length = match first {
            id::CLOSE | id::PING | id::PONG | id::RESET_RESPONSE | id::HEARTBEAT => HEADER_LENGTH,
            id::OPEN_SESSION => OPEN_LENGTH,
            id::FEATURES => match bytes.get(HEADER_LENGTH) {
                None => return Ok(Decoded::NeedMore),
                Some(1 | 2) => FEATURES_LENGTH,
                Some(3) => SET_REGISTER_STATE_LENGTH,
                Some(&other) => return Err(DecodeError::UnknownSubcommand(other)),
            },
            id::COMMAND_END => COMMAND_END_LENGTH,
            id::GET_DATA => GET_DATA_LENGTH,
            id::DATA_TO_HOST => match bytes.get(..LENGTH_AT + 2) {
                None => return Ok(Decoded::NeedMore),
                Some(head) => DATA_TO_HOST_HEADER + usize::from(le16_at(head, LENGTH_AT)),
            },
            0 if bytes.iter().take(PADDING_LENGTH).all(|&byte| byte == 0) => PADDING_LENGTH,
            other => return Err(DecodeError::UnknownId(other)),
        };
        let Some(bytes) = whole(bytes, length) else {
            return Ok(Decoded::NeedMore);
        };
        let message = match first {
            id::OPEN_SESSION => Self::OpenSession(OpenSession {
                rx_timeout: le16_at(bytes, 8),
                tx_timeout: le16_at(bytes, 10),
                heartbeat: le16_at(bytes, 12),
                version: le32_at(bytes, 14),
            }),
            id::CLOSE => Self::Close,
            id::PING => Self::Ping,
            id::PONG => Self::Pong,
            id::RESET_RESPONSE => Self::ResetResponse,
            id::HEARTBEAT => Self::Heartbeat,
            id::FEATURES => Self::Features(match u8_at(bytes, 8) {
                1 => FeatureRequest::SupportedFeatures,
                2 => FeatureRequest::RegisterState,
                _ => FeatureRequest::SetRegisterState(le32_at(bytes, 9)),
            }),
            id::COMMAND_END => Self::CommandEnd(CommandEnd {
                output: Registers::read(bytes, OUTPUT_AT),
                sense: Sense::read(bytes, SENSE_AT),
            }),
            id::GET_DATA => Self::GetData(GetData {
                length: le16_at(bytes, LENGTH_AT),
                input: Registers::read(bytes, INPUT_AT),
            }),
            id::DATA_TO_HOST => Self::DataToHost {
                input: Registers::read(bytes, INPUT_AT),
                output: Registers::read(bytes, OUTPUT_AT),
                data: Bounded::split(bytes.get(DATA_TO_HOST_HEADER..).unwrap_or_default()).0,
            },
            _ => Self::Padding,
        };
        let header = match message {
            Self::Padding => Header::default(),
            _ => Header::read(bytes),
        };
        Ok(Decoded::Message {
            message: Frame { header, message },
            length,
        })
    }
}

impl Frame<ConsoleMessage<'_>> {
    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let header = |id| self.header.bytes(id);
        match self.message {
            ConsoleMessage::OpenSession(open) => {
                out.extend_from_slice(&header(id::OPEN_SESSION));
                out.extend_from_slice(&open.rx_timeout.to_le_bytes());
                out.extend_from_slice(&open.tx_timeout.to_le_bytes());
                out.extend_from_slice(&open.heartbeat.to_le_bytes());
                out.extend_from_slice(&open.version.to_le_bytes());
            }
            ConsoleMessage::Close => out.extend_from_slice(&header(id::CLOSE)),
            ConsoleMessage::Ping => out.extend_from_slice(&header(id::PING)),
            ConsoleMessage::Pong => out.extend_from_slice(&header(id::PONG)),
            ConsoleMessage::ResetResponse => out.extend_from_slice(&header(id::RESET_RESPONSE)),
            ConsoleMessage::Heartbeat => out.extend_from_slice(&header(id::HEARTBEAT)),
            ConsoleMessage::Features(request) => {
                out.extend_from_slice(&header(id::FEATURES));
                match request {
                    FeatureRequest::SupportedFeatures => out.push(1),
                    FeatureRequest::RegisterState => out.push(2),
                    FeatureRequest::SetRegisterState(value) => {
                        out.push(3);
                        out.extend_from_slice(&value.to_le_bytes());
                    }
                }
            }
            ConsoleMessage::Padding => out.extend_from_slice(&[0; PADDING_LENGTH]),
            ConsoleMessage::CommandEnd(end) => {
                let mut bytes = [0; DATA_TO_HOST_HEADER];
                let header = header(id::COMMAND_END);
                transfer_head(&mut bytes, header, 0, Registers::default(), end.output);
                bytes[SENSE_AT..COMMAND_END_LENGTH].copy_from_slice(&end.sense.bytes());
                out.extend_from_slice(&bytes[..COMMAND_END_LENGTH]);
            }
            ConsoleMessage::GetData(get) => {
                let mut bytes = [0; DATA_TO_HOST_HEADER];
                let header = header(id::GET_DATA);
                transfer_head(
                    &mut bytes,
                    header,
                    get.length,
                    get.input,
                    Registers::default(),
                );
                out.extend_from_slice(&bytes[..GET_DATA_LENGTH]);
            }
            ConsoleMessage::DataToHost {
                input,
                output,
                data,
            } => {
                let mut bytes = [0; DATA_TO_HOST_HEADER];
                // A `Payload` has at most 65,535 bytes.
                let length = data.len() as u16;
                transfer_head(&mut bytes, header(id::DATA_TO_HOST), length, input, output);
                out.extend_from_slice(&bytes);
                out.extend_from_slice(data.bytes());
            }
        }
    }
}
