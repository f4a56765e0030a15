//! An image that nobody has signed: any ISO at a plain URL. The slot, which is trusted, says what it is and how it boots.

use serde::{Deserialize, Serialize};
use sparetire_manifest::{
    BootRecipe, Digest, FORMAT, ImageKind, ImageName, IndexRef, LinuxBoot, Manifest, ParseError,
    Timestamp,
};

/// A file at a plain URL, and its boot recipe in the terms of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plain {
    /// Where it is; all have the same bytes.
    pub urls: Vec<String>,
    /// Its length in bytes.
    pub size: u64,
    /// Digest of the whole.
    pub sha256: Digest,
    /// How it boots.
    pub boot: LinuxBoot,
}

impl Plain {
    /// What a manifest would say. Its index is none: the file has no chunks that anyone vouched for.
    pub fn manifest(&self) -> Result<Manifest, ParseError> {
        let manifest = Manifest {
            format: FORMAT,
            name: NAME.parse::<ImageName>().map_err(|_| ParseError::Field {
                field: "name",
                problem: "is not a name",
            })?,
            version: 0,
            label: None,
            description: None,
            kind: ImageKind::LinuxIso,
            created: Timestamp::from_unix(0),
            expires: None,
            size: self.size,
            sha256: self.sha256,
            index: IndexRef {
                sha256: Digest::from_bytes([0; 32]),
                size: sparetire_manifest::index::HEADER_LEN as u64,
            },
            boot: BootRecipe::Linux(self.boot.clone()),
            min_ram: None,
            firmware: Vec::new(),
        };
        manifest.check()?;
        Ok(manifest)
    }
}

/// What unsigned images are called on screens.
pub const NAME: &str = "unsigned";
