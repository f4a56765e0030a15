//! One connection of the server: bytes in, actions out. No I/O.
//!
//! Section numbers and names are those of doc/proto.md. Everything that the client sends is
//! bounded: an option by 8 KiB, a request by [`REQUEST_LIMIT`].

use std::fmt;

/// Longest option data taken. Options carry an export name (at most 4,096 bytes) and a few
/// numbers.
const OPTION_LIMIT: usize = 8192;
/// Most bytes one request may ask for or bring; announced to the client.
pub const REQUEST_LIMIT: usize = 1 << 20;
/// The only export's name.
pub const EXPORT_NAME: &str = "drive";

const MAGIC: &[u8; 8] = b"NBDMAGIC";
const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

const FLAG_FIXED_NEWSTYLE: u16 = 1;
const FLAG_NO_ZEROES: u16 = 2;

const OPT_EXPORT_NAME: u32 = 1;
const OPT_ABORT: u32 = 2;
const OPT_LIST: u32 = 3;
const OPT_INFO: u32 = 6;
const OPT_GO: u32 = 7;

const REP_ACK: u32 = 1;
const REP_SERVER: u32 = 2;
const REP_INFO: u32 = 3;
const REP_ERR_UNSUP: u32 = 1 << 31 | 1;
const REP_ERR_INVALID: u32 = 1 << 31 | 3;
const REP_ERR_UNKNOWN: u32 = 1 << 31 | 6;
const REP_ERR_TOO_BIG: u32 = 1 << 31 | 9;

const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

const CMD_READ: u16 = 0;
const CMD_WRITE: u16 = 1;
const CMD_DISC: u16 = 2;
const CMD_FLUSH: u16 = 3;

const TRANSMISSION_HAS_FLAGS: u16 = 1;
const TRANSMISSION_READ_ONLY: u16 = 2;
const TRANSMISSION_SEND_FLUSH: u16 = 4;

/// What a connection is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Export {
    /// Bytes, a multiple of `block_size`.
    pub size: u64,
    /// Smallest and natural unit in bytes, a power of two from 512 to 65,536.
    pub block_size: u32,
    /// Whether writes are taken.
    pub writable: bool,
}

/// What to do next.
#[derive(PartialEq, Eq)]
pub enum Action {
    /// Send these bytes, then ask again.
    Send(Vec<u8>),
    /// Do this, send [`reply`], then ask again.
    Execute {
        /// The client's name for the request.
        cookie: u64,
        /// What it wants, within the export.
        operation: Operation,
    },
    /// Push more bytes, then ask again.
    Read,
    /// The client is done.
    Close,
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Send(bytes) => write!(f, "Send({bytes:02x?})"),
            Action::Execute { cookie, operation } => {
                write!(f, "Execute({cookie:#x}, {operation:?})")
            }
            Action::Read => f.write_str("Read"),
            Action::Close => f.write_str("Close"),
        }
    }
}

/// A request that fits the export.
#[derive(Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read this many bytes.
    Read {
        /// First byte.
        offset: u64,
        /// Number of bytes, 1 to [`REQUEST_LIMIT`].
        length: usize,
    },
    /// Write these bytes.
    Write {
        /// First byte.
        offset: u64,
        /// 1 to [`REQUEST_LIMIT`] bytes.
        data: Vec<u8>,
    },
    /// Keep what was written.
    Flush,
}

/// Why a request failed, as the client learns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// EPERM
    NotPermitted,
    /// EIO
    InputOutput,
    /// EINVAL
    Invalid,
    /// ENOSPC: a write past the end
    NoSpace,
    /// EOVERFLOW: longer than was announced
    TooLong,
}

impl Failure {
    fn number(self) -> u32 {
        match self {
            Failure::NotPermitted => 1,
            Failure::InputOutput => 5,
            Failure::Invalid => 22,
            Failure::NoSpace => 28,
            Failure::TooLong => 75,
        }
    }
}

/// What ends a connection.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Flags that were not offered.
    #[error("client flags {0:#x} were not offered")]
    ClientFlags(u32),
    /// No option where one must stand.
    #[error("an option starts with {0:02x?}")]
    OptionMagic([u8; 8]),
    /// `NBD_OPT_EXPORT_NAME` for something else; it has no other way to refuse.
    #[error("no such export")]
    UnknownExport,
    /// No request where one must stand.
    #[error("a request starts with {0:#010x}")]
    RequestMagic(u32),
    /// A write that would have to be buffered whole.
    #[error("a write of {0} bytes")]
    WriteTooLong(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Greeting,
    ClientFlags,
    Options,
    /// Option data longer than the limit: this much is still to be thrown away.
    Skipping {
        option: u32,
        left: usize,
    },
    Transmission,
    Closing,
}

/// The server's end of a connection.
#[derive(Debug)]
pub struct Session {
    export: Option<Export>,
    state: State,
    no_zeroes: bool,
    input: Vec<u8>,
    /// Bytes of `input` that were taken already.
    taken: usize,
}

impl Session {
    /// A connection that offers `export`, or nothing.
    #[must_use]
    pub fn new(export: Option<Export>) -> Self {
        Session {
            export,
            state: State::Greeting,
            no_zeroes: false,
            input: Vec::new(),
            taken: 0,
        }
    }

    /// Takes what the client sent. Call only when [`Session::step`] asked for it: that bounds
    /// what is kept to one message and one read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.input.drain(..self.taken);
        self.taken = 0;
        self.input.extend_from_slice(bytes);
    }

    /// What to do next.
    pub fn step(&mut self) -> Result<Action, SessionError> {
        loop {
            let next = match self.state {
                State::Greeting => {
                    self.state = State::ClientFlags;
                    Some(Action::Send(greeting()))
                }
                State::ClientFlags => {
                    let Some(bytes) = self.take::<4>() else {
                        return Ok(Action::Read);
                    };
                    let flags = u32::from_be_bytes(bytes);
                    if flags & !u32::from(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES) != 0 {
                        return Err(SessionError::ClientFlags(flags));
                    }
                    self.no_zeroes = flags & u32::from(FLAG_NO_ZEROES) != 0;
                    self.state = State::Options;
                    None
                }
                State::Options => Some(self.option()?),
                State::Skipping { option, left } => {
                    let skipped = left.min(self.available().len());
                    self.taken += skipped;
                    if skipped < left {
                        self.state = State::Skipping {
                            option,
                            left: left - skipped,
                        };
                        Some(Action::Read)
                    } else {
                        self.state = State::Options;
                        Some(Action::Send(option_reply(option, REP_ERR_TOO_BIG, &[])))
                    }
                }
                State::Transmission => self.request()?,
                State::Closing => Some(Action::Close),
            };
            if let Some(action) = next {
                return Ok(action);
            }
        }
    }

    fn available(&self) -> &[u8] {
        self.input.get(self.taken..).unwrap_or_default()
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.available().first_chunk::<N>()?;
        self.taken += N;
        Some(bytes)
    }

    /// `C: IHAVEOPT, option, length, data` (section "Option haggling").
    fn option(&mut self) -> Result<Action, SessionError> {
        let available = self.available();
        let Some(&header) = available.first_chunk::<16>() else {
            return Ok(Action::Read);
        };
        let (magic, rest) = split::<8, 8>(header);
        if &magic != OPTION_MAGIC {
            return Err(SessionError::OptionMagic(magic));
        }
        let option = be32(rest, 0);
        let length = usize::try_from(be32(rest, 4)).unwrap_or(usize::MAX);
        if length > OPTION_LIMIT {
            self.taken += header.len();
            self.state = State::Skipping {
                option,
                left: length,
            };
            return self.step();
        }
        let Some(data) = available.get(16..16 + length) else {
            return Ok(Action::Read);
        };
        let data = data.to_vec();
        self.taken += 16 + length;
        self.haggle(option, &data)
    }

    fn haggle(&mut self, option: u32, data: &[u8]) -> Result<Action, SessionError> {
        let answer = match option {
            OPT_EXPORT_NAME => {
                let Some(export) = self.export.filter(|_| named(data)) else {
                    return Err(SessionError::UnknownExport);
                };
                self.state = State::Transmission;
                let mut bytes = export.size.to_be_bytes().to_vec();
                bytes.extend(export.flags().to_be_bytes());
                if !self.no_zeroes {
                    bytes.resize(bytes.len() + 124, 0);
                }
                bytes
            }
            OPT_ABORT => {
                self.state = State::Closing;
                option_reply(option, REP_ACK, &[])
            }
            OPT_LIST if !data.is_empty() => option_reply(option, REP_ERR_INVALID, &[]),
            OPT_LIST => {
                let mut bytes = Vec::new();
                if self.export.is_some() {
                    bytes = option_reply(option, REP_SERVER, &string(EXPORT_NAME));
                }
                bytes.extend(option_reply(option, REP_ACK, &[]));
                bytes
            }
            OPT_INFO | OPT_GO => match (info_name(data), self.export) {
                (None, _) => option_reply(option, REP_ERR_INVALID, &[]),
                (Some(name), Some(export)) if named(name) => {
                    if option == OPT_GO {
                        self.state = State::Transmission;
                    }
                    let mut bytes = option_reply(option, REP_INFO, &export.info());
                    bytes.extend(option_reply(option, REP_INFO, &export.block_sizes()));
                    bytes.extend(option_reply(option, REP_ACK, &[]));
                    bytes
                }
                _ => option_reply(option, REP_ERR_UNKNOWN, &[]),
            },
            _ => option_reply(option, REP_ERR_UNSUP, &[]),
        };
        Ok(Action::Send(answer))
    }

    /// `C: magic, flags, type, cookie, offset, length, data` (section "Request message").
    fn request(&mut self) -> Result<Option<Action>, SessionError> {
        let available = self.available();
        let Some(&header) = available.first_chunk::<28>() else {
            return Ok(Some(Action::Read));
        };
        let magic = be32(header, 0);
        if magic != REQUEST_MAGIC {
            return Err(SessionError::RequestMagic(magic));
        }
        let kind = (u16::from(header[6]) << 8) | u16::from(header[7]);
        let cookie = be64(header, 8);
        let offset = be64(header, 16);
        let asked = be32(header, 24);
        let length = usize::try_from(asked).unwrap_or(usize::MAX);
        let mut data = Vec::new();
        if kind == CMD_WRITE {
            if length > REQUEST_LIMIT {
                return Err(SessionError::WriteTooLong(asked));
            }
            match available.get(28..28 + length) {
                None => return Ok(Some(Action::Read)),
                Some(payload) => data = payload.to_vec(),
            }
        }
        self.taken += 28 + data.len();
        let writable = self.export.is_some_and(|export| export.writable);
        let operation = match kind {
            CMD_READ => self
                .check(offset, length, Failure::Invalid)
                .map(|()| Operation::Read { offset, length }),
            CMD_WRITE if !writable => Err(Failure::NotPermitted),
            CMD_WRITE => self
                .check(offset, length, Failure::NoSpace)
                .map(|()| Operation::Write { offset, data }),
            CMD_FLUSH => Ok(Operation::Flush),
            CMD_DISC => {
                self.state = State::Closing;
                return Ok(None);
            }
            _ => Err(Failure::Invalid),
        };
        Ok(Some(match operation {
            Ok(operation) => Action::Execute { cookie, operation },
            Err(failure) => Action::Send(reply(cookie, Err(failure))),
        }))
    }

    /// Whether the range is whole blocks inside the export and not too long.
    fn check(&self, offset: u64, length: usize, beyond: Failure) -> Result<(), Failure> {
        if length > REQUEST_LIMIT {
            return Err(Failure::TooLong);
        }
        let export = self.export.ok_or(Failure::InputOutput)?;
        let length = u64::try_from(length).map_err(|_| Failure::TooLong)?;
        let block = u64::from(export.block_size).max(1);
        if length == 0 || !offset.is_multiple_of(block) || !length.is_multiple_of(block) {
            return Err(Failure::Invalid);
        }
        match offset.checked_add(length) {
            Some(end) if end <= export.size => Ok(()),
            _ => Err(beyond),
        }
    }
}

impl Export {
    fn flags(&self) -> u16 {
        let mut flags = TRANSMISSION_HAS_FLAGS;
        if self.writable {
            flags |= TRANSMISSION_SEND_FLUSH;
        } else {
            flags |= TRANSMISSION_READ_ONLY;
        }
        flags
    }

    fn info(&self) -> Vec<u8> {
        let mut bytes = INFO_EXPORT.to_be_bytes().to_vec();
        bytes.extend(self.size.to_be_bytes());
        bytes.extend(self.flags().to_be_bytes());
        bytes
    }

    fn block_sizes(&self) -> Vec<u8> {
        let mut bytes = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
        bytes.extend(self.block_size.to_be_bytes());
        bytes.extend(self.block_size.max(4096).to_be_bytes());
        // Fits: the limit is 1 MiB.
        bytes.extend(
            u32::try_from(REQUEST_LIMIT)
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        bytes
    }
}

/// The answer to a request: its data, or an error (section "Simple reply message").
#[must_use]
pub fn reply(cookie: u64, result: Result<Vec<u8>, Failure>) -> Vec<u8> {
    let (error, data) = match result {
        Ok(data) => (0, data),
        Err(failure) => (failure.number(), Vec::new()),
    };
    let mut bytes = Vec::with_capacity(16 + data.len());
    bytes.extend(REPLY_MAGIC.to_be_bytes());
    bytes.extend(error.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(data);
    bytes
}

fn greeting() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(OPTION_MAGIC);
    bytes.extend((FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES).to_be_bytes());
    bytes
}

fn option_reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(data);
    bytes
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes()
        .to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// The empty name means the default export.
fn named(name: &[u8]) -> bool {
    name.is_empty() || name == EXPORT_NAME.as_bytes()
}

/// The name in the data of `NBD_OPT_INFO` and `NBD_OPT_GO`, if the lengths agree.
fn info_name(data: &[u8]) -> Option<&[u8]> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (name, rest) = rest.split_at_checked(length)?;
    let (count, requests) = rest.split_first_chunk::<2>()?;
    (requests.len() == usize::from(u16::from_be_bytes(*count)) * 2).then_some(name)
}

fn split<const A: usize, const B: usize>(bytes: [u8; 16]) -> ([u8; A], [u8; B]) {
    const { assert!(A + B == 16) };
    (
        std::array::from_fn(|at| bytes[at]),
        std::array::from_fn(|at| bytes[A + at]),
    )
}

fn be32<const N: usize>(bytes: [u8; N], at: usize) -> u32 {
    (at..at + 4).fold(0, |number, at| number << 8 | u32::from(bytes[at]))
}

fn be64<const N: usize>(bytes: [u8; N], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}

#[cfg(test)]
mod tests;
