//! CD and floppy command sets as a redirected drive answers them; no I/O.
//!
//! Sources: SPC-3, SBC-2, MMC-5 and SFF-8020i for layouts; what management consoles have answered to vPro PCs for years where
//! those leave a choice. [`Drive`] is the target: a CDB in, exactly one [`Reply`] out, and no bytes of a medium ever in its
//! hands. [`cdb`] and [`answer`] are the other end: an initiator's commands, and readers for what comes back. All integers of
//! CDBs and answers are big-endian. Offsets are bytes in 64 bits, so a medium may have as many blocks as an LBA can count.
//!
//! Not here: audio, burning, changers, 16-byte CDBs (an ATAPI packet has 12 bytes), frames of any transport.

pub mod answer;
pub mod cdb;
mod command;
mod drive;
mod opcode;
mod sense;

pub use command::{CdbError, Command, TocFormat};
pub use drive::{Behaviour, Drive, DriveKind, Medium, MediumError, Reply};
pub use opcode::Opcode;
pub use sense::{Sense, SenseError};
