//! `latest.json`: the signed, expiring pointer to the newest version of an image. Layout: `docs/formats/manifest.md`.
//!
//! It stops two things that a manifest's own signature cannot: handing out an old version (roll-back), and keeping
//! readers on today's version for ever (freeze).

use serde::{Deserialize, Serialize};

use crate::manifest::{ParseError, check_format_number};
use crate::{Digest, ImageName, MAX_MANIFEST, Timestamp, VerifyError};

/// The pointer to an image's newest version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latest {
    /// Version of this format: [`crate::FORMAT`].
    pub format: u32,
    /// Which image.
    pub name: ImageName,
    /// Its newest version.
    pub version: u64,
    /// Digest of that version's `manifest.json`.
    pub manifest: Digest,
    /// When this statement was signed.
    pub issued: Timestamp,
    /// First moment at which this statement counts for nothing.
    pub expires: Timestamp,
}

impl Latest {
    /// The canonical encoding, which is what gets signed; as [`crate::Manifest::to_json`].
    pub fn to_json(&self) -> Vec<u8> {
        crate::json::to_pretty(self)
    }

    /// Reads a pointer whose signature nobody checked: for showing and for making stores, never for booting.
    pub fn parse_unverified(bytes: &[u8]) -> Result<Self, ParseError> {
        crate::json::check_format(bytes, MAX_MANIFEST)?;
        let latest: Self = serde_json::from_slice(bytes)?;
        latest.check()?;
        Ok(latest)
    }

    /// Whether every field holds what its description promises.
    pub fn check(&self) -> Result<(), ParseError> {
        check_format_number(self.format)?;
        if self.expires <= self.issued {
            return Err(ParseError::Field {
                field: "expires",
                problem: "is not after issued",
            });
        }
        Ok(())
    }

    /// What the signature's trusted comment must say, so that no other signed file can stand in for this one.
    pub fn trusted_comment(&self) -> String {
        format!("sparetire latest {} {}", self.name, self.version)
    }

    /// Whether this is the pointer that was asked for: a store may answer with that of another image.
    pub fn require(&self, name: &ImageName) -> Result<(), VerifyError> {
        if self.name == *name {
            return Ok(());
        }
        Err(VerifyError::WrongImage {
            wanted: name.to_string(),
            found: self.name.to_string(),
        })
    }

    /// Whether these are the bytes of the manifest that it points to.
    pub fn require_manifest(&self, manifest: &[u8]) -> Result<(), VerifyError> {
        let found = Digest::of(manifest);
        if found == self.manifest {
            Ok(())
        } else {
            Err(VerifyError::OtherManifest {
                wanted: self.manifest,
                found,
            })
        }
    }
}
