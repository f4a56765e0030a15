//! Which packs a store's versions need, how much of each, and which packs nobody needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use sparetire_manifest::{Digest, ImageName, Index, PackRef, layout};

use super::read::{all_names, dir_names};
use super::{Store, StoreError};

/// What one pack is needed for.
#[derive(Debug, Default)]
pub struct PackUse {
    /// Length that the indexes give it, in bytes.
    pub length: u64,
    /// Runs that some version refers to: offset, length.
    ranges: BTreeMap<u64, u32>,
    /// Images with a version that needs it.
    pub images: BTreeSet<ImageName>,
}

impl PackUse {
    /// Bytes that some version refers to, each counted once.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.ranges.values().map(|length| u64::from(*length)).sum()
    }

    /// Whether less than half of it is needed.
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        self.live().saturating_mul(2) < self.length
    }
}

/// The packs that a set of versions needs.
#[derive(Debug, Default)]
pub struct Usage {
    /// By digest.
    pub packs: BTreeMap<Digest, PackUse>,
}

impl Usage {
    /// Adds what a version of `name` needs.
    pub fn add(&mut self, name: &ImageName, index: &Index) {
        for chunk in &index.chunks {
            let Some((pack, offset, length)) = chunk.stored() else {
                continue;
            };
            if let Some(pack) = index.packs.get(pack as usize) {
                let used = self.packs.entry(pack.sha256).or_default();
                used.length = pack.length;
                used.ranges.insert(offset, length);
                used.images.insert(name.clone());
            }
        }
        // A version counts on every pack it names, whether a chunk is in it or not.
        for pack in &index.packs {
            let used = self.packs.entry(pack.sha256).or_default();
            used.length = pack.length;
        }
    }
}

impl Store {
    /// What all versions of all images need.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read: then nobody can say what it needs.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        self.usage_without(|_, _| false)
    }

    /// What all versions need but those that `left_out` names.
    pub(super) fn usage_without(
        &self,
        left_out: impl Fn(&ImageName, u64) -> bool,
    ) -> Result<Usage, StoreError> {
        let mut usage = Usage::default();
        for name in self.images()? {
            for version in self.versions(&name)? {
                if !left_out(&name, version) {
                    let manifest = self.manifest(&name, version)?;
                    usage.add(&name, &self.index(&manifest)?);
                }
            }
        }
        Ok(usage)
    }

    /// Every pack there is, needed or not. Files that are named otherwise are passed over.
    ///
    /// # Errors
    ///
    /// When the folders cannot be read.
    pub fn packs(&self) -> Result<Vec<PackRef>, StoreError> {
        let dir = self.path("packs");
        let mut packs = Vec::new();
        for part in dir_names(&dir)? {
            for name in all_names(&dir.join(&part))? {
                let Some(sha256) = name
                    .strip_suffix(".pack")
                    .and_then(|hex| hex.parse::<Digest>().ok())
                else {
                    continue;
                };
                let path = self.path(&layout::pack_path(&sha256));
                if path != dir.join(&part).join(&name) {
                    continue;
                }
                let found = fs::symlink_metadata(&path)
                    .map_err(|source| StoreError::at(&path, "looking at", source))?;
                if found.is_file() {
                    packs.push(PackRef {
                        sha256,
                        length: found.len(),
                    });
                }
            }
        }
        packs.sort_by_key(|pack| *pack.sha256.as_bytes());
        Ok(packs)
    }
}
