//! What all redirection messages share: incremental decoding, bounded byte strings, an input buffer.
//!
//! Messages have no common length field: the first byte names the message and each has its own length rule,
//! so a decoder that meets an unknown first byte cannot find the next message and must give up.

use thiserror::Error;

/// What a decoder found at the start of the bytes received so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<T> {
    /// The first message is not complete; nothing was consumed.
    NeedMore,
    /// A whole message, and how many bytes it takes.
    Message {
        /// The message.
        message: T,
        /// Bytes to drop from the front before decoding the next one.
        length: usize,
    },
}

impl<T> Decoded<T> {
    pub(crate) fn map<U>(self, convert: impl FnOnce(T) -> U) -> Decoded<U> {
        match self {
            Self::NeedMore => Decoded::NeedMore,
            Self::Message { message, length } => Decoded::Message {
                message: convert(message),
                length,
            },
        }
    }
}

/// Why bytes cannot be a message of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// No message of this direction and phase starts with this byte.
    #[error("message id 0x{0:02x} is not known here")]
    UnknownId(u8),
    /// A 0x48 or 0x49 with a subcommand whose length nobody knows.
    #[error("feature subcommand 0x{0:02x} is not known")]
    UnknownSubcommand(u8),
    /// A length field is above the limit that this crate sets.
    #[error("{field} is {length} bytes long; at most {limit} are accepted")]
    TooLong {
        /// The field, by its name in the reference.
        field: &'static str,
        /// What the length field says.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A length-prefixed field reaches past the end of its message.
    #[error("{field} is cut short")]
    CutShort {
        /// The field, by its name in the reference.
        field: &'static str,
    },
    /// Bytes are left over after the last field of a message.
    #[error("{0} bytes follow the last field")]
    Leftover(usize),
}

/// More bytes than a length field or a limit of this crate allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{length} bytes do not fit; the limit is {limit}")]
pub struct TooLong {
    /// How many there were.
    pub length: usize,
    /// How many fit.
    pub limit: usize,
}

/// At most `MAX` bytes: what fits in a message's length field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounded<'a, const MAX: usize>(&'a [u8]);

/// Data of one IDE-R or SOL message, whose length field has 16 bits.
pub type Payload<'a> = Bounded<'a, 0xffff>;
/// A field behind one length byte.
pub type Field<'a> = Bounded<'a, 0xff>;

impl<'a, const MAX: usize> Bounded<'a, MAX> {
    /// No bytes.
    pub const EMPTY: Self = Self(&[]);

    /// Checks the length.
    pub const fn new(bytes: &'a [u8]) -> Result<Self, TooLong> {
        if bytes.len() > MAX {
            return Err(TooLong {
                length: bytes.len(),
                limit: MAX,
            });
        }
        Ok(Self(bytes))
    }

    /// The first `MAX` bytes, and whatever did not fit.
    pub fn split(bytes: &'a [u8]) -> (Self, &'a [u8]) {
        let (fits, rest) = bytes.split_at(bytes.len().min(MAX));
        (Self(fits), rest)
    }

    /// The bytes.
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// How many there are; never above `MAX`.
    pub const fn len(self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// A cursor over a complete message body. Each take succeeds or names the field that was cut short.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// A field behind one length byte ("lp" in the reference).
    pub(crate) fn prefixed(&mut self, field: &'static str) -> Result<Field<'a>, DecodeError> {
        let cut = DecodeError::CutShort { field };
        let (&length, rest) = self.0.split_first().ok_or(cut)?;
        let (value, rest) = rest.split_at_checked(usize::from(length)).ok_or(cut)?;
        self.0 = rest;
        Ok(Bounded(value))
    }

    /// Nothing may follow the last field.
    pub(crate) fn end(self) -> Result<(), DecodeError> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(DecodeError::Leftover(left)),
        }
    }
}

pub(crate) fn put_prefixed(out: &mut Vec<u8>, field: Field<'_>) {
    // A `Field` has at most 255 bytes.
    out.push(field.len() as u8);
    out.extend_from_slice(field.bytes());
}

/// `N` bytes at an offset of a message. Past the end it reads zeros: the length rule of each message is
/// applied once, before its fields are read, and a mistake there must not become a panic.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes
        .get(offset..)
        .and_then(|tail| tail.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

pub(crate) fn u8_at(bytes: &[u8], offset: usize) -> u8 {
    bytes.get(offset).copied().unwrap_or(0)
}

pub(crate) fn le16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, offset))
}

pub(crate) fn le32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}

/// The first `length` bytes, if they have all arrived.
pub(crate) fn whole(bytes: &[u8], length: usize) -> Option<&[u8]> {
    bytes.get(..length)
}

/// Bytes received and not yet decoded.
///
/// Bounded by use: whoever pushes decodes until [`Decoded::NeedMore`] before pushing again, so at most one
/// incomplete message stays behind, and every message has a largest length.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
}

impl Inbox {
    /// Adds what has arrived.
    pub fn push(&mut self, input: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(input);
    }

    /// What has not been consumed.
    pub fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Drops a decoded message from the front.
    pub fn consume(&mut self, length: usize) {
        self.start = self.start.saturating_add(length).min(self.bytes.len());
    }

    /// Everything that has not been consumed, for the next layer.
    pub fn into_unread(mut self) -> Vec<u8> {
        self.bytes.drain(..self.start);
        self.bytes
    }
}

#[cfg(test)]
mod tests;
