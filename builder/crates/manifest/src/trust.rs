//! Who may describe an image: minisign keys, and the checks that turn bytes into a [`Verified`] value.
//!
//! Spec: minisign's signature format, <https://jedisct1.github.io/minisign/>, prehashed Ed25519 ("ED") only; the legacy form
//! is refused. minisign's global signature covers the trusted comment, so the comment is checked as well: it must name the
//! file's purpose, image and version.
//!
//! Order of the checks: size, signature, purpose, JSON, meaning, comment, expiry, roll-back. Who controls the bytes: anyone.

use std::fmt;
use std::ops::Deref;

use minisign_verify::{PublicKey, Signature};

use crate::manifest::ParseError;
use crate::{Digest, Latest, MAX_MANIFEST, MAX_SIGNATURE, Manifest, Timestamp};

/// A value whose origin was checked. Only this crate makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    key_id: Option<KeyId>,
}

impl<T> Verified<T> {
    pub(crate) fn by_digest(value: T) -> Self {
        Self {
            value,
            key_id: None,
        }
    }

    /// Which key signed it; nothing for a value that a signed one names by digest.
    pub fn key_id(&self) -> Option<KeyId> {
        self.key_id
    }

    /// The value, no longer marked as verified.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// The number by which minisign tells keys apart. Not a secret, and no proof of anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// From the base64 line of a public key or signature: two bytes of algorithm, then the ID.
    fn of_line(line: &str) -> Option<Self> {
        let digits = line.as_bytes().get(..16)?;
        let mut bytes = [0u8; 12];
        for (group, quad) in bytes.chunks_exact_mut(3).zip(digits.chunks_exact(4)) {
            let mut bits = 0u32;
            for digit in quad {
                bits = bits << 6 | u32::from(base64_digit(*digit)?);
            }
            group.copy_from_slice(&bits.to_be_bytes()[1..]);
        }
        let [_, _, id @ .., _, _] = bytes;
        Some(Self(id))
    }
}

impl fmt::Display for KeyId {
    /// As minisign prints it: the little-endian number in 16 uppercase hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The public keys whose word counts.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys {
    keys: Vec<(KeyId, PublicKey)>,
}

impl TrustedKeys {
    /// Most keys in one set.
    pub const MAX: usize = 64;

    /// Reads public keys: each item is a base64 line `RW...`, or the whole text of a `.pub` file.
    pub fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for (at, text) in texts.enumerate() {
            if at >= Self::MAX {
                return Err(KeyError::TooMany);
            }
            let mut lines = text
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty() && !line.starts_with(COMMENT));
            let line = lines.next().ok_or(KeyError::Malformed { at })?;
            if lines.next().is_some() || line.len() > MAX_KEY_LINE {
                return Err(KeyError::Malformed { at });
            }
            let key = PublicKey::from_base64(line).map_err(|_| KeyError::Malformed { at })?;
            let id = KeyId::of_line(line).ok_or(KeyError::Malformed { at })?;
            keys.push((id, key));
        }
        Ok(Self { keys })
    }

    /// IDs of the keys, in the order given.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.keys.iter().map(|(id, _)| *id)
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Checks signature and trusted comment over `bytes`; returns who signed, and the comment.
    fn check(&self, bytes: &[u8], minisig: &str) -> Result<(KeyId, String), VerifyError> {
        if minisig.len() > MAX_SIGNATURE {
            return Err(VerifyError::TooLarge {
                what: "signature",
                found: minisig.len(),
                most: MAX_SIGNATURE,
            });
        }
        // What the first signature of a trusted key is refused for says more than that others are unknown.
        let mut refusal = None;
        let mut unknown = VerifyError::MalformedSignature;
        for (at, signature) in signatures(minisig).enumerate() {
            if at >= MAX_SIGNATURES {
                return Err(VerifyError::MalformedSignature);
            }
            match self.check_one(bytes, &signature) {
                Ok(checked) => return Ok(checked),
                Err(error @ VerifyError::UnknownKey { .. }) if at == 0 => unknown = error,
                Err(VerifyError::UnknownKey { .. }) => {}
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.unwrap_or(unknown))
    }

    fn check_one(&self, bytes: &[u8], minisig: &str) -> Result<(KeyId, String), VerifyError> {
        let signature = Signature::decode(minisig).map_err(|_| VerifyError::MalformedSignature)?;
        let key_id = minisig
            .lines()
            .nth(1)
            .and_then(KeyId::of_line)
            .ok_or(VerifyError::MalformedSignature)?;
        let mut named = self.keys.iter().filter(|(id, _)| *id == key_id).peekable();
        if named.peek().is_none() {
            return Err(VerifyError::UnknownKey { key_id });
        }
        // An ID is no proof of identity: two keys may share one, so each of them is tried.
        let mut refusal = VerifyError::BadSignature { key_id };
        for (_, key) in named {
            match key.verify(bytes, &signature, false) {
                Ok(()) => return Ok((key_id, signature.trusted_comment().to_owned())),
                Err(minisign_verify::Error::UnexpectedAlgorithm) => {
                    refusal = VerifyError::LegacySignature { key_id }
                }
                Err(_) => {}
            }
        }
        Err(refusal)
    }
}

/// The signatures in the text of a `.minisig` file, four lines each, one of which has to hold.
///
/// One is the rule. There are several while keys change (one per key), and while `latest.json` is replaced (two files cannot
/// be replaced at once, so for a moment the signature file suits the old and the new one). Other readers see the first.
pub fn signatures(minisig: &str) -> impl Iterator<Item = String> + '_ {
    let mut lines = minisig.lines();
    std::iter::from_fn(move || {
        let four: Vec<&str> = lines.by_ref().take(SIGNATURE_LINES).collect();
        (!four.is_empty()).then(|| four.join("\n") + "\n")
    })
}

/// Reads a manifest if a trusted key signed exactly these bytes as a manifest, and it has not expired at `now`.
///
/// Whether it is the manifest that was asked for is for [`Manifest::require`] to say.
pub fn verify_manifest(
    bytes: &[u8],
    minisig: &str,
    keys: &TrustedKeys,
    now: Timestamp,
) -> Result<Verified<Manifest>, VerifyError> {
    let signed = Signed::check("manifest", bytes, minisig, keys)?;
    let manifest = Manifest::parse_unverified(bytes)?;
    signed.require_comment(&manifest.trusted_comment())?;
    if let Some(at) = manifest.expires {
        require_unexpired(at, now)?;
    }
    Ok(signed.by_signature(manifest))
}

/// Reads a `latest.json` if a trusted key signed exactly these bytes as such, it has not expired at `now`, and its version
/// is at least `min_version`.
///
/// Whether it is that of the image asked for is for [`Latest::require`] to say.
pub fn verify_latest(
    bytes: &[u8],
    minisig: &str,
    keys: &TrustedKeys,
    now: Timestamp,
    min_version: u64,
) -> Result<Verified<Latest>, VerifyError> {
    let signed = Signed::check("latest", bytes, minisig, keys)?;
    let latest = Latest::parse_unverified(bytes)?;
    signed.require_comment(&latest.trusted_comment())?;
    require_unexpired(latest.expires, now)?;
    if latest.version < min_version {
        return Err(VerifyError::RolledBack {
            found: latest.version,
            minimum: min_version,
        });
    }
    Ok(signed.by_signature(latest))
}

/// Proof that a signature held, before anything was parsed.
struct Signed {
    key_id: KeyId,
    comment: String,
}

impl Signed {
    fn check(
        purpose: &str,
        bytes: &[u8],
        minisig: &str,
        keys: &TrustedKeys,
    ) -> Result<Self, VerifyError> {
        if bytes.len() > MAX_MANIFEST {
            return Err(VerifyError::TooLarge {
                what: "signed file",
                found: bytes.len(),
                most: MAX_MANIFEST,
            });
        }
        let (key_id, comment) = keys.check(bytes, minisig)?;
        let prefix = format!("sparetire {purpose} ");
        if !comment.starts_with(&prefix) {
            return Err(VerifyError::WrongComment {
                wanted: prefix,
                found: shown(&comment),
            });
        }
        Ok(Self { key_id, comment })
    }

    fn require_comment(&self, wanted: &str) -> Result<(), VerifyError> {
        if self.comment == wanted {
            return Ok(());
        }
        Err(VerifyError::WrongComment {
            wanted: wanted.to_owned(),
            found: shown(&self.comment),
        })
    }

    fn by_signature<T>(self, value: T) -> Verified<T> {
        Verified {
            value,
            key_id: Some(self.key_id),
        }
    }
}

fn require_unexpired(at: Timestamp, now: Timestamp) -> Result<(), VerifyError> {
    if now < at {
        Ok(())
    } else {
        Err(VerifyError::Expired { at, now })
    }
}

/// Why a signed file is not believed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Longer than any that is read.
    #[error("{what} of {found} bytes, at most {most} allowed")]
    TooLarge {
        /// The signed file or its signature.
        what: &'static str,
        /// Length in bytes.
        found: usize,
        /// Longest allowed.
        most: usize,
    },
    /// Not a minisign signature.
    #[error("no minisign signature")]
    MalformedSignature,
    /// Signed by a key that is not trusted.
    #[error("signed with key {key_id}, which is not trusted")]
    UnknownKey {
        /// The key that the signature names.
        key_id: KeyId,
    },
    /// The signature, or that over the trusted comment, belongs to other bytes or to another key.
    #[error("signature of key {key_id} does not match")]
    BadSignature {
        /// The key that the signature names.
        key_id: KeyId,
    },
    /// minisign's old form, not prehashed.
    #[error("signature of key {key_id} is in minisign's legacy form")]
    LegacySignature {
        /// The key that the signature names.
        key_id: KeyId,
    },
    /// Well signed, but as something else.
    #[error("signed as {found:?} instead of {wanted:?}")]
    WrongComment {
        /// What the trusted comment had to say.
        wanted: String,
        /// What it says.
        found: String,
    },
    /// Well signed, but of another image or version than was asked for.
    #[error("store answered with {found} instead of {wanted}")]
    WrongImage {
        /// Image, and version if one was asked for.
        wanted: String,
        /// What came.
        found: String,
    },
    /// Well signed, but not the manifest that `latest.json` points to.
    #[error("manifest has digest {found} instead of {wanted}")]
    OtherManifest {
        /// Digest in `latest.json`.
        wanted: Digest,
        /// Digest of the manifest.
        found: Digest,
    },
    /// Was good once.
    #[error("expired at {at}, now is {now}")]
    Expired {
        /// First moment at which it was not good any more.
        at: Timestamp,
        /// The reader's clock.
        now: Timestamp,
    },
    /// Older than the reader is told to accept.
    #[error("version {found} is older than {minimum}, the oldest allowed")]
    RolledBack {
        /// Version found.
        found: u64,
        /// Oldest version allowed.
        minimum: u64,
    },
    /// Made for a newer reader.
    #[error("{what} {found:?} is not supported by this version")]
    Unsupported {
        /// Which field.
        what: &'static str,
        /// Its value.
        found: String,
    },
    /// Well signed, yet not what it should be: the signer made a mistake.
    #[error("signed file is malformed")]
    Malformed(#[source] ParseError),
}

impl From<ParseError> for VerifyError {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Unsupported { what, found } => Self::Unsupported { what, found },
            other => Self::Malformed(other),
        }
    }
}

/// Why a text is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a minisign public key.
    #[error("trusted key {number} is no minisign public key", number = at + 1)]
    Malformed {
        /// Position in the list, from 0.
        at: usize,
    },
    /// More than [`TrustedKeys::MAX`].
    #[error("more than {max} trusted keys", max = TrustedKeys::MAX)]
    TooMany,
}

// Goes to screens and logs; the signature may be anyone's whose key is trusted.
fn shown(comment: &str) -> String {
    comment
        .chars()
        .map(|character| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        })
        .take(160)
        .collect()
}

fn base64_digit(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// Untrusted comment, signature, trusted comment, signature of both.
const SIGNATURE_LINES: usize = 4;
/// Two keys in overlap, twice while `latest.json` is replaced, and room for as many more; 4096 bytes hold about 12.
const MAX_SIGNATURES: usize = 8;
const COMMENT: &str = "untrusted comment:";
/// A key line is 56 digits.
const MAX_KEY_LINE: usize = 128;
