//! Session layer messages: start a session of one type, authenticate, end (reference, section 2).
//!
//! | Id | Name | Direction | Length |
//! |---|---|---|---|
//! | 0x10 | StartRedirectionSession | console to firmware | 8 |
//! | 0x11 | StartRedirectionSessionReply | firmware to console | 13 + byte 12; on failure possibly 4 |
//! | 0x12 | EndRedirectionSession | console to firmware | 4 |
//! | 0x13 | AuthenticateSession | console to firmware | 9 + LE32 at 5 |
//! | 0x14 | AuthenticateSessionReply | firmware to console | 9 + LE32 at 5 |

use crate::wire::{Bounded, DecodeError, Decoded, Field, array_at, le32_at, u8_at, whole};

/// Most bytes accepted in the data of one 0x13 or 0x14. Eight length-prefixed fields of 255 bytes need 2,048.
pub const MAX_AUTH_DATA: usize = 4096;

/// Data of an authentication message.
pub type AuthData<'a> = Bounded<'a, MAX_AUTH_DATA>;

/// Intel's private enterprise number, which firmware reports as its OEM.
pub const OEM_INTEL: u32 = 343;

const START: u8 = 0x10;
const START_REPLY: u8 = 0x11;
const END: u8 = 0x12;
const AUTHENTICATE: u8 = 0x13;
const AUTHENTICATE_REPLY: u8 = 0x14;

const START_LENGTH: usize = 8;
const START_REFUSED_LENGTH: usize = 4;
const START_REPLY_LENGTH: usize = 13;
const END_LENGTH: usize = 4;
const AUTHENTICATE_LENGTH: usize = 9;

/// What one connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionKind {
    /// Serial over LAN.
    Sol,
    /// Storage redirection: IDE-R, presented to the host over USB since AMT 11.
    Ider,
    /// Keyboard, video, mouse: RFB after eight bytes.
    Kvm,
}

impl SessionKind {
    /// The four ASCII bytes that name the type on the wire.
    pub const fn tag(self) -> [u8; 4] {
        match self {
            Self::Sol => *b"SOL ",
            Self::Ider => *b"IDER",
            Self::Kvm => *b"KVMR",
        }
    }

    /// The type that these bytes name, if any.
    pub const fn from_tag(tag: [u8; 4]) -> Option<Self> {
        match &tag {
            b"SOL " => Some(Self::Sol),
            b"IDER" => Some(Self::Ider),
            b"KVMR" => Some(Self::Kvm),
            _ => None,
        }
    }
}

/// How firmware answered the start of a session: byte 1 of 0x11. An open set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StartStatus(pub u8);

impl StartStatus {
    /// The session is started.
    pub const SUCCESS: Self = Self(0);
    /// The firmware does not know the session type.
    pub const UNKNOWN_TYPE: Self = Self(1);
    /// Another console has a session of this type.
    pub const BUSY: Self = Self(2);
    /// The session type is switched off or not built in.
    pub const UNSUPPORTED: Self = Self(3);
    /// User consent must be given first, through WS-MAN.
    pub const USER_CONSENT_REQUIRED: Self = Self(5);
    /// Internal error.
    pub const INTERNAL: Self = Self(0xff);
}

/// Byte 4 of 0x13 and 0x14. An open set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AuthMethod(pub u8);

impl AuthMethod {
    /// Ask which methods there are.
    pub const QUERY: Self = Self(0);
    /// User name and password in clear; refused by AMT 12 and later.
    pub const PASSWORD: Self = Self(1);
    /// A SPNEGO token. Not implemented here.
    pub const KERBEROS: Self = Self(2);
    /// Digest as in RFC 2069: no qop, the console's nonce is not hashed.
    pub const DIGEST_LEGACY: Self = Self(3);
    /// Digest as in RFC 2617 with qop "auth".
    pub const DIGEST: Self = Self(4);
}

/// Byte 1 of 0x14. An open set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AuthStatus(pub u8);

impl AuthStatus {
    /// Authenticated, or the answer to a query.
    pub const SUCCESS: Self = Self(0);
    /// With data: a challenge. Without: refused.
    pub const FAILURE: Self = Self(1);
    /// What AMT 12 was seen to answer to a method that it does not support.
    pub const UNSUPPORTED: Self = Self(2);
}

/// What a console sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleMessage<'a> {
    /// 0x10.
    Start {
        /// Byte 1: 1 for KVM, otherwise 0, in every known console. Meaning unknown.
        options: u8,
        /// Names the session type; see [`SessionKind::from_tag`].
        tag: [u8; 4],
    },
    /// 0x12.
    End,
    /// 0x13.
    Authenticate {
        /// How.
        method: AuthMethod,
        /// What; see [`crate::auth`].
        data: AuthData<'a>,
    },
}

impl<'a> ConsoleMessage<'a> {
    /// The 0x10 of a session type, as every known console sends it.
    pub const fn start(kind: SessionKind) -> Self {
        Self::Start {
            options: matches!(kind, SessionKind::Kvm) as u8,
            tag: kind.tag(),
        }
    }

    /// Decodes the first message of `bytes`.
    pub fn decode(bytes: &'a [u8]) -> Result<Decoded<Self>, DecodeError> {
        match bytes.first() {
            None => Ok(Decoded::NeedMore),
            Some(&START) => Ok(fixed(bytes, START_LENGTH, |message| Self::Start {
                options: u8_at(message, 1),
                tag: array_at(message, 4),
            })),
            Some(&END) => Ok(fixed(bytes, END_LENGTH, |_| Self::End)),
            Some(&AUTHENTICATE) => {
                Ok(
                    authentication(bytes)?.map(|(message, data)| Self::Authenticate {
                        method: AuthMethod(u8_at(message, 4)),
                        data,
                    }),
                )
            }
            Some(&id) => Err(DecodeError::UnknownId(id)),
        }
    }

    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Start { options, tag } => {
                out.extend_from_slice(&[START, options, 0, 0]);
                out.extend_from_slice(&tag);
            }
            Self::End => out.extend_from_slice(&[END, 0, 0, 0]),
            Self::Authenticate { method, data } => {
                put_authentication(out, AUTHENTICATE, 0, method, data)
            }
        }
    }
}

/// What firmware sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirmwareMessage<'a> {
    /// 0x11 with status 0.
    Started(Started<'a>),
    /// 0x11 with another status. Decoded from its first four bytes: some firmware sends no more, and nothing
    /// that follows a refusal means anything.
    Refused(StartStatus),
    /// 0x14.
    AuthenticateReply {
        /// Success, failure, or a challenge.
        status: AuthStatus,
        /// The method that is answered.
        method: AuthMethod,
        /// A list of methods, or a challenge; see [`crate::auth`].
        data: AuthData<'a>,
    },
}

/// The fields of a 0x11 that starts a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started<'a> {
    /// Redirection protocol, major and minor: 1.0.
    pub protocol: (u8, u8),
    /// Firmware version, major and minor.
    pub firmware: (u8, u8),
    /// Private enterprise number; [`OEM_INTEL`].
    pub oem: u32,
    /// Empty on all firmware seen.
    pub oem_data: Field<'a>,
}

impl<'a> FirmwareMessage<'a> {
    /// Decodes the first message of `bytes`.
    pub fn decode(bytes: &'a [u8]) -> Result<Decoded<Self>, DecodeError> {
        match bytes.first() {
            None => Ok(Decoded::NeedMore),
            Some(&START_REPLY) => Ok(start_reply(bytes)),
            Some(&AUTHENTICATE_REPLY) => {
                Ok(
                    authentication(bytes)?.map(|(message, data)| Self::AuthenticateReply {
                        status: AuthStatus(u8_at(message, 1)),
                        method: AuthMethod(u8_at(message, 4)),
                        data,
                    }),
                )
            }
            Some(&id) => Err(DecodeError::UnknownId(id)),
        }
    }

    /// Appends the message to `out`. A refusal is written with its four bytes only.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Started(started) => {
                out.extend_from_slice(&[START_REPLY, StartStatus::SUCCESS.0, 0, 0]);
                out.extend_from_slice(&[started.protocol.0, started.protocol.1]);
                out.extend_from_slice(&[started.firmware.0, started.firmware.1]);
                out.extend_from_slice(&started.oem.to_le_bytes());
                crate::wire::put_prefixed(out, started.oem_data);
            }
            Self::Refused(status) => out.extend_from_slice(&[START_REPLY, status.0, 0, 0]),
            Self::AuthenticateReply {
                status,
                method,
                data,
            } => {
                put_authentication(out, AUTHENTICATE_REPLY, status.0, method, data);
            }
        }
    }
}

fn fixed<'a, T>(bytes: &'a [u8], length: usize, convert: impl FnOnce(&'a [u8]) -> T) -> Decoded<T> {
    match whole(bytes, length) {
        None => Decoded::NeedMore,
        Some(message) => Decoded::Message {
            message: convert(message),
            length,
        },
    }
}

fn start_reply(bytes: &[u8]) -> Decoded<FirmwareMessage<'_>> {
    let Some(&[_, status, _, _]) = whole(bytes, START_REFUSED_LENGTH) else {
        return Decoded::NeedMore;
    };
    if StartStatus(status) != StartStatus::SUCCESS {
        return Decoded::Message {
            message: FirmwareMessage::Refused(StartStatus(status)),
            length: START_REFUSED_LENGTH,
        };
    }
    let Some(&oem_length) = bytes.get(START_REPLY_LENGTH - 1) else {
        return Decoded::NeedMore;
    };
    fixed(
        bytes,
        START_REPLY_LENGTH + usize::from(oem_length),
        |message| {
            FirmwareMessage::Started(Started {
                protocol: (u8_at(message, 4), u8_at(message, 5)),
                firmware: (u8_at(message, 6), u8_at(message, 7)),
                oem: le32_at(message, 8),
                oem_data: Bounded::split(message.get(START_REPLY_LENGTH..).unwrap_or_default()).0,
            })
        },
    )
}

/// The common shape of 0x13 and 0x14: the whole message and its data.
fn authentication(bytes: &[u8]) -> Result<Decoded<(&[u8], AuthData<'_>)>, DecodeError> {
    let Some(header) = whole(bytes, AUTHENTICATE_LENGTH) else {
        return Ok(Decoded::NeedMore);
    };
    let length = usize::try_from(le32_at(header, 5)).unwrap_or(usize::MAX);
    if length > MAX_AUTH_DATA {
        return Err(DecodeError::TooLong {
            field: "authentication data",
            length,
            limit: MAX_AUTH_DATA,
        });
    }
    Ok(fixed(bytes, AUTHENTICATE_LENGTH + length, |message| {
        let data = message.get(AUTHENTICATE_LENGTH..).unwrap_or_default();
        (message, Bounded::split(data).0)
    }))
}

fn put_authentication(
    out: &mut Vec<u8>,
    id: u8,
    status: u8,
    method: AuthMethod,
    data: AuthData<'_>,
) {
    out.extend_from_slice(&[id, status, 0, 0, method.0]);
    // `AuthData` has at most 4,096 bytes.
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out.extend_from_slice(data.bytes());
}

#[cfg(test)]
mod tests;
