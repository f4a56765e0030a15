//! Serial-over-LAN messages (reference, section 6).
//!
//! Header: id, three zero bytes, sequence number LE32. Consoles number from 0 or 1 or not at all, and nobody
//! checks.
//!
//! | Id | Name | Direction | Length |
//! |---|---|---|---|
//! | 0x20 | StartSOL | console to firmware | 24 |
//! | 0x21 | StartSOLReply | firmware to console | 23 |
//! | 0x22 | EndSOL | console to firmware | 8 |
//! | 0x23 | EndSOLReply | firmware to console | 8 |
//! | 0x24, 0x25 | Ping, Pong | both | 8 |
//! | 0x27 | ControlsToHost | console to firmware | 14 |
//! | 0x28 | DataToHost | console to firmware | 10 + LE16 at 8 |
//! | 0x29 | ControlsFromHost | firmware to console | 10 |
//! | 0x2A | DataFromHost | firmware to console | 10 + LE16 at 8 |
//! | 0x2B | Heartbeat | both | 8 |

use crate::wire::{
    Bounded, DecodeError, Decoded, Payload, array_at, le16_at, le32_at, u8_at, whole,
};

const START: u8 = 0x20;
const START_REPLY: u8 = 0x21;
const END: u8 = 0x22;
const END_REPLY: u8 = 0x23;
const PING: u8 = 0x24;
const PONG: u8 = 0x25;
const CONTROLS_TO_HOST: u8 = 0x27;
const DATA_TO_HOST: u8 = 0x28;
const CONTROLS_FROM_HOST: u8 = 0x29;
const DATA_FROM_HOST: u8 = 0x2a;
const HEARTBEAT: u8 = 0x2b;

const HEADER_LENGTH: usize = 8;
const START_LENGTH: usize = 24;
const START_REPLY_LENGTH: usize = 23;
const CONTROLS_TO_HOST_LENGTH: usize = 14;
const CONTROLS_FROM_HOST_LENGTH: usize = 10;
const DATA_HEADER_LENGTH: usize = 10;

/// Body of 0x20: how the two sides are to treat each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most bytes in one data message.
    pub max_tx_buffer: u16,
    /// Milliseconds after which firmware sends what the host has written, full buffer or not.
    pub tx_timeout: u16,
    /// Milliseconds after which firmware drops output that the console does not take; 0 for never.
    pub tx_overflow_timeout: u16,
    /// Milliseconds of silence of the console after which firmware closes; 0 for never.
    pub rx_timeout: u16,
    /// Milliseconds after which input that the host does not read is dropped; 0 for never.
    pub rx_flush_timeout: u16,
    /// Milliseconds between heartbeats of the firmware; 0 for none.
    pub heartbeat: u16,
}

/// What a console sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleMessage<'a> {
    /// 0x20.
    Start(Settings),
    /// 0x22.
    End,
    /// 0x24.
    Ping,
    /// 0x25.
    Pong,
    /// 0x27: six bytes whose meaning is not known; `00 00 1b 00 00 00` in the one console that sends it.
    Controls([u8; 6]),
    /// 0x28: key strokes.
    Data(Payload<'a>),
    /// 0x2B.
    Heartbeat,
}

/// What firmware sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirmwareMessage<'a> {
    /// 0x21.
    StartReply(StartReply),
    /// 0x23.
    EndReply,
    /// 0x24.
    Ping,
    /// 0x25.
    Pong,
    /// 0x29.
    Controls(Controls),
    /// 0x2A: what the host has written.
    Data(Payload<'a>),
    /// 0x2B.
    Heartbeat,
}

/// Body of 0x21.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartReply {
    /// Byte 1; 0 for success.
    pub status: u8,
    /// The other 15 bytes: version and limits, in an order that nobody has published.
    pub rest: [u8; 15],
}

/// Body of 0x29: state of the serial port and of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    /// Byte 8: 1 RTS, 2 DTR, 4 BREAK.
    pub lines: u8,
    /// Byte 9: 1 transmit overflow, 2 loopback, 4 system powered on, 8 receive flush timeout, 16 test mode.
    pub status: u8,
}

impl Controls {
    /// Bit of `lines`: request to send.
    pub const RTS: u8 = 1;
    /// Bit of `lines`: data terminal ready.
    pub const DTR: u8 = 2;
    /// Bit of `lines`: break.
    pub const BREAK: u8 = 4;
    /// Bit of `status`: output of the host was lost.
    pub const TX_OVERFLOW: u8 = 1;
    /// Bit of `status`: the host is switched on.
    pub const POWERED_ON: u8 = 4;
    /// Bit of `status`: input was dropped because the host did not read it.
    pub const RX_FLUSH: u8 = 8;

    /// Whether the host is switched on.
    pub const fn powered_on(self) -> bool {
        self.status & Self::POWERED_ON != 0
    }
}

/// A message with its sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<M> {
    /// Not checked by anybody.
    pub sequence: u32,
    /// What it says.
    pub message: M,
}

impl<'a> ConsoleMessage<'a> {
    /// Decodes the first message of `bytes`.
    pub fn decode(bytes: &'a [u8]) -> Result<Decoded<Frame<Self>>, DecodeError> {
        let length = match bytes.first() {
            Some(&START) => START_LENGTH,
            Some(&(END | PING | PONG | HEARTBEAT)) => HEADER_LENGTH,
            Some(&CONTROLS_TO_HOST) => CONTROLS_TO_HOST_LENGTH,
            Some(&DATA_TO_HOST) => match data_length(bytes) {
                None => return Ok(Decoded::NeedMore),
                Some(length) => length,
            },
            Some(&other) => return Err(DecodeError::UnknownId(other)),
            None => return Ok(Decoded::NeedMore),
        };
        Ok(framed(bytes, length, |id, bytes| match id {
            START => Self::Start(Settings {
                max_tx_buffer: le16_at(bytes, 8),
                tx_timeout: le16_at(bytes, 10),
                tx_overflow_timeout: le16_at(bytes, 12),
                rx_timeout: le16_at(bytes, 14),
                rx_flush_timeout: le16_at(bytes, 16),
                heartbeat: le16_at(bytes, 18),
            }),
            END => Self::End,
            PING => Self::Ping,
            PONG => Self::Pong,
            CONTROLS_TO_HOST => Self::Controls(array_at(bytes, HEADER_LENGTH)),
            DATA_TO_HOST => Self::Data(data(bytes)),
            _ => Self::Heartbeat,
        }))
    }
}

impl Frame<ConsoleMessage<'_>> {
    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let header = |id| header(id, 0, self.sequence);
        match self.message {
            ConsoleMessage::Start(settings) => {
                out.extend_from_slice(&header(START));
                for field in [
                    settings.max_tx_buffer,
                    settings.tx_timeout,
                    settings.tx_overflow_timeout,
                    settings.rx_timeout,
                    settings.rx_flush_timeout,
                    settings.heartbeat,
                ] {
                    out.extend_from_slice(&field.to_le_bytes());
                }
                out.extend_from_slice(&[0; 4]);
            }
            ConsoleMessage::End => out.extend_from_slice(&header(END)),
            ConsoleMessage::Ping => out.extend_from_slice(&header(PING)),
            ConsoleMessage::Pong => out.extend_from_slice(&header(PONG)),
            ConsoleMessage::Controls(controls) => {
                out.extend_from_slice(&header(CONTROLS_TO_HOST));
                out.extend_from_slice(&controls);
            }
            ConsoleMessage::Data(data) => put_data(out, header(DATA_TO_HOST), data),
            ConsoleMessage::Heartbeat => out.extend_from_slice(&header(HEARTBEAT)),
        }
    }
}

impl<'a> FirmwareMessage<'a> {
    /// Decodes the first message of `bytes`.
    pub fn decode(bytes: &'a [u8]) -> Result<Decoded<Frame<Self>>, DecodeError> {
        let length = match bytes.first() {
            Some(&START_REPLY) => START_REPLY_LENGTH,
            Some(&(END_REPLY | PING | PONG | HEARTBEAT)) => HEADER_LENGTH,
            Some(&CONTROLS_FROM_HOST) => CONTROLS_FROM_HOST_LENGTH,
            Some(&DATA_FROM_HOST) => match data_length(bytes) {
                None => return Ok(Decoded::NeedMore),
                Some(length) => length,
            },
            Some(&other) => return Err(DecodeError::UnknownId(other)),
            None => return Ok(Decoded::NeedMore),
        };
        Ok(framed(bytes, length, |id, bytes| match id {
            START_REPLY => Self::StartReply(StartReply {
                status: u8_at(bytes, 1),
                rest: array_at(bytes, HEADER_LENGTH),
            }),
            END_REPLY => Self::EndReply,
            PING => Self::Ping,
            PONG => Self::Pong,
            CONTROLS_FROM_HOST => Self::Controls(Controls {
                lines: u8_at(bytes, 8),
                status: u8_at(bytes, 9),
            }),
            DATA_FROM_HOST => Self::Data(data(bytes)),
            _ => Self::Heartbeat,
        }))
    }
}

impl Frame<FirmwareMessage<'_>> {
    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let header = |id, status| header(id, status, self.sequence);
        match self.message {
            FirmwareMessage::StartReply(reply) => {
                out.extend_from_slice(&header(START_REPLY, reply.status));
                out.extend_from_slice(&reply.rest);
            }
            FirmwareMessage::EndReply => out.extend_from_slice(&header(END_REPLY, 0)),
            FirmwareMessage::Ping => out.extend_from_slice(&header(PING, 0)),
            FirmwareMessage::Pong => out.extend_from_slice(&header(PONG, 0)),
            FirmwareMessage::Controls(controls) => {
                out.extend_from_slice(&header(CONTROLS_FROM_HOST, 0));
                out.extend_from_slice(&[controls.lines, controls.status]);
            }
            FirmwareMessage::Data(data) => put_data(out, header(DATA_FROM_HOST, 0), data),
            FirmwareMessage::Heartbeat => out.extend_from_slice(&header(HEARTBEAT, 0)),
        }
    }
}

fn header(id: u8, status: u8, sequence: u32) -> [u8; HEADER_LENGTH] {
    let [a, b, c, d] = sequence.to_le_bytes();
    [id, status, 0, 0, a, b, c, d]
}

fn put_data(out: &mut Vec<u8>, header: [u8; HEADER_LENGTH], data: Payload<'_>) {
    out.extend_from_slice(&header);
    // A `Payload` has at most 65,535 bytes.
    out.extend_from_slice(&(data.len() as u16).to_le_bytes());
    out.extend_from_slice(data.bytes());
}

fn data_length(bytes: &[u8]) -> Option<usize> {
    whole(bytes, DATA_HEADER_LENGTH)
        .map(|head| DATA_HEADER_LENGTH + usize::from(le16_at(head, HEADER_LENGTH)))
}

fn data(message: &[u8]) -> Payload<'_> {
    Bounded::split(message.get(DATA_HEADER_LENGTH..).unwrap_or_default()).0
}

fn framed<'a, M>(
    bytes: &'a [u8],
    length: usize,
    convert: impl FnOnce(u8, &'a [u8]) -> M,
) -> Decoded<Frame<M>> {
    match whole(bytes, length) {
        None => Decoded::NeedMore,
        Some(bytes) => Decoded::Message {
            message: Frame {
                sequence: le32_at(bytes, 4),
                message: convert(u8_at(bytes, 0), bytes),
            },
            length,
        },
    }
}

#[cfg(test)]
mod tests;
