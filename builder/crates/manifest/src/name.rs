//! Names of images: what may stand in a path of the store, in a signature's comment and on a kernel command line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of an image: `[a-z0-9][a-z0-9._-]{0,63}` without `..`, so that it is one harmless path component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);

impl ImageName {
    /// Longest name, in characters.
    pub const MAX_LEN: usize = 64;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ImageName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > Self::MAX_LEN {
            return Err(NameError::TooLong { found: name.len() });
        }
        let allowed = |(at, character): &(usize, char)| {
            matches!(character, 'a'..='z' | '0'..='9')
                || *at > 0 && matches!(character, '.' | '_' | '-')
        };
        if let Some((at, character)) = name.char_indices().find(|found| !allowed(found)) {
            return Err(NameError::Character { at, character });
        }
        if name.contains("..") {
            return Err(NameError::DoubleDot);
        }
        Ok(Self(name))
    }
}

impl FromStr for ImageName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::try_from(name.to_owned())
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.0
    }
}

impl AsRef<str> for ImageName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters at all.
    #[error("empty image name")]
    Empty,
    /// Longer than [`ImageName::MAX_LEN`].
    #[error("image name of {found} bytes, at most {max} allowed", max = ImageName::MAX_LEN)]
    TooLong {
        /// Length found, in bytes.
        found: usize,
    },
    /// A character outside the alphabet, or punctuation in first place.
    #[error(
        "image name has {character:?} at position {at}; allowed are a-z and 0-9, then also . _ -"
    )]
    Character {
        /// Byte position.
        at: usize,
        /// The character.
        character: char,
    },
    /// Two dots in a row.
    #[error("image name contains \"..\"")]
    DoubleDot,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_people_call_images() {
        for name in [
            "d",
            "debian-12",
            "0",
            "win.pe_11",
            "a.b.c",
            "a-",
            &"x".repeat(64),
        ] {
            assert_eq!(name.parse::<ImageName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn refuses_path_tricks_and_surprises() {
        use NameError::*;
        let too_long = "x".repeat(65);
        for (name, error) in [
            ("", Empty),
            (too_long.as_str(), TooLong { found: 65 }),
            (
                "..",
                Character {
                    at: 0,
                    character: '.',
                },
            ),
            ("a..b", DoubleDot),
            (
                "../etc",
                Character {
                    at: 0,
                    character: '.',
                },
            ),
            (
                "a/b",
                Character {
                    at: 1,
                    character: '/',
                },
            ),
            (
                "a\\b",
                Character {
                    at: 1,
                    character: '\\',
                },
            ),
            (
                "-rf",
                Character {
                    at: 0,
                    character: '-',
                },
            ),
            (
                "Debian",
                Character {
                    at: 0,
                    character: 'D',
                },
            ),
            (
                "a b",
                Character {
                    at: 1,
                    character: ' ',
                },
            ),
            (
                "a\n",
                Character {
                    at: 1,
                    character: '\n',
                },
            ),
            (
                "a\0",
                Character {
                    at: 1,
                    character: '\0',
                },
            ),
            (
                "café",
                Character {
                    at: 3,
                    character: 'é',
                },
            ),
            (
                "a%2e",
                Character {
                    at: 1,
                    character: '%',
                },
            ),
        ] {
            assert_eq!(name.parse::<ImageName>(), Err(error), "{name:?}");
        }
    }

    #[test]
    fn json_goes_through_the_same_check() {
        assert!(serde_json::from_str::<ImageName>("\"debian\"").is_ok());
        assert!(serde_json::from_str::<ImageName>("\"../debian\"").is_err());
    }
}
