//! How much a report may say, and reading a batch of reports from an untrusted body.

use crate::event::{EventBatch, InvalidReport, ReportKind};

/// Longest body of a POST of events, in bytes.
pub const MAX_BATCH: usize = 64 * 1024;
/// Most reports in one batch.
pub const MAX_REPORTS: usize = 256;
/// Longest text in a report, in bytes.
pub const MAX_TEXT: usize = 4 * 1024;
/// Most lines in one report of kind `log`.
pub const MAX_LINES: usize = 256;
/// Most events that a session keeps.
pub const MAX_EVENTS: u64 = 10_000;
/// Longest life of a session, in seconds: a day.
pub const MAX_TTL_SECONDS: u64 = 86_400;

impl EventBatch {
    /// Reads a body: lengths are checked, control characters in texts become U+FFFD.
    pub fn parse(body: &[u8]) -> Result<Self, BatchError> {
        if body.len() > MAX_BATCH {
            return Err(BatchError::TooLarge { found: body.len() });
        }
        let mut batch: Self = serde_json::from_slice(body)?;
        if batch.events.len() > MAX_REPORTS {
            return Err(BatchError::TooManyReports {
                found: batch.events.len(),
            });
        }
        for report in &mut batch.events {
            report.kind.check()?;
            if let ReportKind::Log { lines } = &report.kind
                && lines.len() > MAX_LINES
            {
                return Err(BatchError::TooManyLines { found: lines.len() });
            }
            // JSON does not escape all that drives a terminal, and replacing could make two names one.
            if !report.kind.field_names().into_iter().all(is_field_name) {
                return Err(BatchError::FieldName);
            }
            for text in report.kind.texts_mut() {
                if text.len() > MAX_TEXT {
                    return Err(BatchError::TextTooLong { found: text.len() });
                }
                if text.chars().any(is_unprintable) {
                    *text = clip(text);
                }
            }
        }
        Ok(batch)
    }

    /// The body of the POST.
    pub fn to_json(&self) -> Result<Vec<u8>, BatchError> {
        Ok(serde_json::to_vec(self)?)
    }
}

/// A text fit for a report: at most [`MAX_TEXT`] bytes, control characters replaced by U+FFFD, tabs by spaces.
pub fn clip(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_TEXT));
    for character in text.chars() {
        let character = match character {
            '\t' => ' ',
            // Three bytes, so a text of control characters grows: the cap below is on what comes out.
            control if is_unprintable(control) => char::REPLACEMENT_CHARACTER,
            other => other,
        };
        if out.len() + character.len_utf8() > MAX_TEXT {
            break;
        }
        out.push(character);
    }
    out
}

// Control characters drive terminals; the others turn the direction of what follows (UAX #9), or hide.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn is_field_name(name: &str) -> bool {
    name.len() <= MAX_FIELD_NAME && !name.chars().any(is_unprintable)
}

/// Why a body is no batch of events.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Longer than [`MAX_BATCH`].
    #[error("body of {found} bytes, at most {MAX_BATCH} allowed")]
    TooLarge {
        /// Length in bytes.
        found: usize,
    },
    /// Not the JSON that was expected.
    #[error("unreadable JSON")]
    Json(#[from] serde_json::Error),
    /// More than [`MAX_REPORTS`].
    #[error("{found} reports, at most {MAX_REPORTS} allowed")]
    TooManyReports {
        /// How many.
        found: usize,
    },
    /// More than [`MAX_LINES`].
    #[error("{found} log lines, at most {MAX_LINES} allowed")]
    TooManyLines {
        /// How many.
        found: usize,
    },
    /// Longer than [`MAX_TEXT`].
    #[error("text of {found} bytes, at most {MAX_TEXT} allowed")]
    TextTooLong {
        /// Length in bytes.
        found: usize,
    },
    /// A field of an unknown kind whose name is long or has control characters.
    #[error("unusable field name in report")]
    FieldName,
    /// A known kind with other fields.
    #[error(transparent)]
    Report(#[from] InvalidReport),
}

/// Longest name of a field, in bytes.
const MAX_FIELD_NAME: usize = 64;
