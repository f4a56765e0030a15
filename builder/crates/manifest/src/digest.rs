//! SHA-256 digests as values: 32 bytes, written as 64 lowercase hex digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Takes a digest that was computed elsewhere, as when hashing a stream.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    // Lowercase only: a digest has one spelling, so that file names and signed bytes do too.
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(DigestError::Length {
                found: digits.len(),
            });
        }
        let mut bytes = [0; 32];
        for (at, (byte, pair)) in bytes.iter_mut().zip(digits.chunks_exact(2)).enumerate() {
            let value = |digit: u8, at| nibble(digit).ok_or(DigestError::Digit { at });
            *byte = value(pair[0], 2 * at)? << 4 | value(pair[1], 2 * at + 1)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not 64 characters long.
    #[error("digest of {found} characters instead of 64")]
    Length {
        /// Length found, in bytes.
        found: usize,
    },
    /// Something other than a lowercase hex digit.
    #[error("no lowercase hex digit at position {at} of digest")]
    Digit {
        /// Position of the first wrong character.
        at: usize,
    },
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_published_digest_of_abc() {
        // FIPS 180-4 example; also what `printf abc | sha256sum` prints.
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), text);
        assert_eq!(text.parse(), Ok(Digest::of(b"abc")));
    }

    #[test]
    fn refuses_every_other_spelling() {
        let good = Digest::of(b"abc").to_string();
        assert_eq!(
            good[1..].parse::<Digest>(),
            Err(DigestError::Length { found: 63 })
        );
        assert_eq!(
            format!("{good}0").parse::<Digest>(),
            Err(DigestError::Length { found: 65 })
        );
        assert_eq!(
            good.to_uppercase().parse::<Digest>(),
            Err(DigestError::Digit { at: 0 })
        );
        let odd = format!("{}g", &good[..63]);
        assert_eq!(odd.parse::<Digest>(), Err(DigestError::Digit { at: 63 }));
        // Two-byte characters: 64 bytes, yet not 64 digits.
        assert!("é".repeat(32).parse::<Digest>().is_err());
    }
}
