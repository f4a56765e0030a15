//! What drives answer, one module per layout, both ways: the drive here writes them, an initiator reads any drive's.
//!
//! Readers take what a drive sent, cut or not, and say which field was missing. Bytes behind what a length field covers are
//! ignored, as hosts do.

mod capacity;
mod configuration;
mod disc;
mod event;
mod inquiry;
mod mode;
mod toc;

pub use capacity::{Capacity, FormatCapacity};
pub use configuration::{Configuration, Feature, PROFILE_CD_ROM};
pub use disc::DiscInformation;
pub use event::{EventStatus, MediaEvent};
pub use inquiry::Inquiry;
pub use mode::{ModeParameters, PageFrame};
pub use toc::{LEAD_OUT, Toc, TocTrack, lba_of_msf, msf_of_lba};

pub(crate) use capacity::{no_performance_data, read_capacity, read_format_capacities};
pub(crate) use configuration::configuration;
pub(crate) use disc::disc_information;
pub(crate) use event::{event_status, event_status_short};
pub(crate) use inquiry::inquiry;
pub(crate) use mode::{ModeKind, ModeMedium, mode_sense_6, mode_sense_10};
pub(crate) use toc::{formatted_toc, full_toc, session_toc};

/// An answer that is not of its layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Ends inside a field.
    #[error("{what} ends after {found} of {needed} bytes")]
    CutShort {
        /// Which part.
        what: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Bytes there were.
        found: usize,
    },
    /// A field has a value that contradicts the layout.
    #[error("{what} is {found}")]
    Malformed {
        /// Which field.
        what: &'static str,
        /// Its value.
        found: u32,
    },
}

/// Takes fields off the front; each take is checked and named.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], AnswerError> {
        let (field, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(AnswerError::CutShort {
                what,
                needed: N,
                found: self.rest.len(),
            })?;
        self.rest = rest;
        Ok(*field)
    }

    fn slice(&mut self, what: &'static str, needed: usize) -> Result<&'a [u8], AnswerError> {
        let (field, rest) = self
            .rest
            .split_at_checked(needed)
            .ok_or(AnswerError::CutShort {
                what,
                needed,
                found: self.rest.len(),
            })?;
        self.rest = rest;
        Ok(field)
    }
}
