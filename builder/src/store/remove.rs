//! Removing versions, and the packs that nobody needs any more.
//!
//! A version goes at once, its packs do not: a PC that is downloading it has its index already and
//! asks for packs alone. So the moment at which a pack stopped being needed is written down, and
//! `gc` removes it no sooner than a grace period after that. The pack's own age says nothing, since
//! a pack may be years old when its last version goes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sparetire_manifest::{Digest, FORMAT, ImageName, PackRef, Timestamp, layout};

use super::usage::Usage;
use super::{Store, StoreError, WriteLock};

/// Since when packs are not needed.
pub(crate) const UNREFERENCED: &str = "packs/unreferenced.json";

/// 200,000 packs, 100 bytes each: far beyond any store.
pub(crate) const MAX_UNREFERENCED: u64 = 20 << 20;

/// Since when nobody needs which packs. A hint for `gc`, believed by nobody else.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Unreferenced {
    format: u32,
    packs: BTreeMap<Digest, Timestamp>,
}

impl Unreferenced {
    /// What cannot be read counts as nothing: then packs stay longer, never shorter.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes)
            .ok()
            .filter(|found: &Self| found.format == FORMAT)
            .unwrap_or_default()
    }

    pub(crate) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Splits `packs`, none of which is needed, into those that have waited for `grace` and those
    /// that have not, and forgets all others. A clock that was set back starts the wait anew.
    pub(crate) fn sweep(
        &mut self,
        packs: &[PackRef],
        now: Timestamp,
        grace: Duration,
    ) -> (Vec<PackRef>, Vec<Waiting>) {
        let (mut due, mut waiting) = (Vec::new(), Vec::new());
        let mut kept = BTreeMap::new();
        for pack in packs {
            let since = self
                .packs
                .get(&pack.sha256)
                .copied()
                .unwrap_or(now)
                .min(now);
            if since.plus(grace) <= now {
                due.push(*pack);
            } else {
                kept.insert(pack.sha256, since);
                waiting.push(Waiting {
                    sha256: pack.sha256,
                    length: pack.length,
                    removable: since.plus(grace),
                });
            }
        }
        *self = Self {
            format: FORMAT,
            packs: kept,
        };
        (due, waiting)
    }
}

/// A pack that nobody needs and that a reader may still be fetching.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Waiting {
    /// Its name.
    pub sha256: Digest,
    /// Its length in bytes.
    pub length: u64,
    /// First moment at which `gc` removes it.
    pub removable: Timestamp,
}

/// What removing versions did.
#[derive(Debug, Serialize)]
pub struct Removal {
    /// Which image.
    pub name: ImageName,
    /// The versions that went.
    pub versions: Vec<u64>,
    /// Bytes of packs that only they needed; `gc` gives them back.
    pub unreferenced_bytes: u64,
}

/// What `gc` did, or would do.
#[derive(Debug, Serialize)]
pub struct Collection {
    /// Packs that versions need.
    pub kept: usize,
    /// Their bytes.
    pub kept_bytes: u64,
    /// Packs that were removed.
    pub removed: Vec<Digest>,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Packs that wait for the end of their grace period.
    pub waiting: Vec<Waiting>,
    /// Packs less than half of which is needed.
    pub sparse: Vec<Sparse>,
    /// Whether nothing was written.
    pub dry_run: bool,
}

/// A pack little of which is needed.
#[derive(Debug, Serialize)]
pub struct Sparse {
    /// Its name.
    pub sha256: Digest,
    /// Its length in bytes.
    pub length: u64,
    /// Bytes of it that some version needs.
    pub live: u64,
    /// Images with a version that needs it.
    pub images: Vec<ImageName>,
}

impl Store {
    /// What removing these versions would do; they must exist.
    ///
    /// The newest version, which the signed pointer names, cannot go alone: PCs refuse to go back
    /// to an older one, and the pointer would lead nowhere.
    ///
    /// # Errors
    ///
    /// When a version does not exist, or is the newest and others stay.
    pub fn plan_removal(
        &self,
        name: &ImageName,
        versions: &[u64],
    ) -> Result<(Removal, Vec<PackRef>), StoreError> {
        let all = self.versions(name)?;
        let missing = versions.iter().find(|wanted| !all.contains(wanted));
        if all.is_empty() || missing.is_some() {
            return Err(StoreError::NoImage {
                name: name.clone(),
                version: missing.copied(),
            });
        }
        let is_whole = all.iter().all(|version| versions.contains(version));
        if !is_whole {
            // The pointer says which is the newest; where it cannot be read, the highest is.
            let newest = match self.latest(name) {
                Ok(latest) => latest.version,
                Err(_) => all.last().copied().unwrap_or_default(),
            };
            if versions.contains(&newest) {
                return Err(StoreError::Newest {
                    name: name.clone(),
                    version: newest,
                });
            }
        }
        let goes = |image: &ImageName, version: u64| image == name && versions.contains(&version);
        let after = self.usage_without(goes)?;
        let freed = self.not_in(&after)?;
        let before = self.usage_without(|image, version| {
            // A version that cannot be read is often the reason for removing it.
            goes(image, version)
                && self
                    .manifest(image, version)
                    .and_then(|manifest| self.index(&manifest))
                    .is_err()
        })?;
        let freed: Vec<PackRef> = freed
            .into_iter()
            .filter(|pack| before.packs.contains_key(&pack.sha256))
            .collect();
        let removal = Removal {
            name: name.clone(),
            versions: versions.to_vec(),
            unreferenced_bytes: freed.iter().map(|pack| pack.length).sum(),
        };
        Ok((removal, freed))
    }

    /// Packs that are there and not needed.
    fn not_in(&self, usage: &Usage) -> Result<Vec<PackRef>, StoreError> {
        let mut packs = self.packs()?;
        packs.retain(|pack| !usage.packs.contains_key(&pack.sha256));
        Ok(packs)
    }

    fn unreferenced(&self) -> Unreferenced {
        self.read_capped(UNREFERENCED, MAX_UNREFERENCED)
            .map(|bytes| Unreferenced::parse(&bytes))
            .unwrap_or_default()
    }

    /// What `gc` would do now.
    ///
    /// # Errors
    ///
    /// When some version cannot be read.
    pub fn plan_gc(&self, now: Timestamp, grace: Duration) -> Result<Collection, StoreError> {
        self.gc_with(&mut self.unreferenced(), now, grace)
    }

    fn gc_with(
        &self,
        unreferenced: &mut Unreferenced,
        now: Timestamp,
        grace: Duration,
    ) -> Result<Collection, StoreError> {
        let usage = self.usage()?;
        let (due, waiting) = unreferenced.sweep(&self.not_in(&usage)?, now, grace);
        let sparse = usage.packs.iter().filter(|(_, used)| used.is_sparse());
        Ok(Collection {
            kept: usage.packs.len(),
            kept_bytes: usage.packs.values().map(|used| used.length).sum(),
            removed: due.iter().map(|pack| pack.sha256).collect(),
            removed_bytes: due.iter().map(|pack| pack.length).sum(),
            waiting,
            sparse: sparse
                .map(|(sha256, used)| Sparse {
                    sha256: *sha256,
                    length: used.length,
                    live: used.live(),
                    images: used.images.iter().cloned().collect(),
                })
                .collect(),
            dry_run: true,
        })
    }
}

impl WriteLock {
    /// Removes versions of an image; all of them, and the image is gone.
    ///
    /// # Errors
    ///
    /// As [`Store::plan_removal`], and when the file system refuses.
    pub fn remove(
        &self,
        name: &ImageName,
        versions: &[u64],
        now: Timestamp,
    ) -> Result<Removal, StoreError> {
        let (removal, freed) = self.store.plan_removal(name, versions)?;
        // First the clock, then the version: should we die in between, the next removal sets the
        // clock again, while the other order could leave packs without one for ever.
        let mut unreferenced = self.store.unreferenced();
        unreferenced.format = FORMAT;
        let freed = freed.iter().map(|pack| (pack.sha256, now));
        unreferenced.packs.extend(freed);
        self.write_unreferenced(&unreferenced)?;
        if self.store.versions(name)?.len() == versions.len() {
            self.remove_image_dir(name)?;
        } else {
            for version in versions {
                self.remove_version_dir(name, *version)?;
            }
        }
        Ok(removal)
    }

    /// Removes the packs that nobody has needed for `grace`.
    ///
    /// # Errors
    ///
    /// When some version cannot be read, or the file system refuses.
    pub fn gc(&self, now: Timestamp, grace: Duration) -> Result<Collection, StoreError> {
        let mut unreferenced = self.store.unreferenced();
        let mut collection = self.store.gc_with(&mut unreferenced, now, grace)?;
        collection.dry_run = false;
        let disk = &self.store.disk;
        for sha256 in &collection.removed {
            let path = self.store.path(&layout::pack_path(sha256));
            let removed = disk.remove_file(&path);
            removed.map_err(|source| StoreError::at(&path, "removing", source))?;
        }
        for part in super::read::dir_names(&self.store.path("packs"))? {
            let dir = self.store.path("packs").join(part);
            // Refused where it is not empty, and then it is wanted.
            if super::read::all_names(&dir)?.is_empty() {
                let removed = disk.remove_dir(&dir);
                removed.map_err(|source| StoreError::at(&dir, "removing", source))?;
            } else if !collection.removed.is_empty() {
                self.sync_dir(&dir)?;
            }
        }
        self.write_unreferenced(&unreferenced)?;
        Ok(collection)
    }

    /// The file is there as long as it says something.
    fn write_unreferenced(&self, unreferenced: &Unreferenced) -> Result<(), StoreError> {
        let path = self.store.path(UNREFERENCED);
        if unreferenced.packs.is_empty() {
            if !path.exists() {
                return Ok(());
            }
            let removed = self.store.disk.remove_file(&path);
            removed.map_err(|source| StoreError::at(&path, "removing", source))?;
            return self.sync_dir(&self.store.path("packs"));
        }
        let bytes = unreferenced
            .to_json()
            .map_err(|error| StoreError::at(&path, "writing", error.into()))?;
        self.replace_file(&path, &bytes)
    }
}
