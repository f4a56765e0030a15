//! What the two signed JSON files have in common: the size cap, the `format` field, the canonical encoding.

use serde::{Deserialize, Serialize};

use crate::FORMAT;
use crate::manifest::ParseError;

/// Size and `format` come first: a file of another format may differ in everything else.
pub(crate) fn check_format(bytes: &[u8], most: usize) -> Result<(), ParseError> {
    #[derive(Deserialize)]
    struct Format {
        format: u64,
    }
    if bytes.len() > most {
        return Err(ParseError::TooLarge {
            found: bytes.len(),
            most,
        });
    }
    let Format { format } = serde_json::from_slice(bytes)?;
    if format != u64::from(FORMAT) {
        return Err(ParseError::Unsupported {
            what: "format",
            found: format.to_string(),
        });
    }
    Ok(())
}

#[expect(
    clippy::expect_used,
    reason = "JSON in memory fails only for map keys that are no text, and there are no maps"
)]
pub(crate) fn to_pretty(value: &impl Serialize) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(value).expect("plain structs are always JSON");
    json.push(b'\n');
    json
}
