//! Taking in what another store has: packs first, then versions, the pointer last.
//!
//! Packs get their place one by one, so that what was received before an interruption is not
//! fetched again. Until a version refers to them, no reader knows of them, and `gc` removes those
//! that none ever did.

use std::io::Read;

use sha2::{Digest as _, Sha256};
use sparetire_manifest::{Digest, ImageName, Index, Latest, Manifest, PackRef, layout};

use super::{FinishedPacks, NewVersion, SignedFile, StoreError, WriteLock};

/// One version as another store has it: its signed manifest, and its index.
#[derive(Debug)]
pub struct Incoming {
    /// The manifest with its signature. Checked by whoever has the keys; here only read.
    pub manifest: SignedFile,
    /// What it says.
    pub parsed: Manifest,
    /// The bytes of the index that it names, unchecked.
    pub index: Vec<u8>,
}

impl WriteLock {
    /// Takes a pack in from `from`, unless it is there already; `progress` is told of its bytes.
    ///
    /// # Errors
    ///
    /// When the bytes are not those that the name and length say, or cannot be read or written.
    pub fn receive_pack(
        &self,
        pack: &PackRef,
        from: &mut dyn Read,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        use std::io::Write;
        if self.store.has_pack(pack) {
            return Ok(());
        }
        let path = self.store.path(&layout::pack_path(&pack.sha256));
        let packs = self.store.path("packs");
        let dir = path.parent().unwrap_or(&packs).to_owned();
        self.make_dir(&dir)?;
        self.sync_dir(&packs)?;
        let temporary = self.store.disk.temporary(&packs);
        let at = |source| StoreError::at(&path, "receiving", source);
        let mut file = self.store.disk.create_file(temporary.path()).map_err(at)?;
        let mut hash = Sha256::new();
        let mut length = 0u64;
        let mut buffer = vec![0; 1 << 20];
        // One byte more than there may be shows that there is too much.
        let mut from = from.take(pack.length.saturating_add(1));
        loop {
            let count = from.read(&mut buffer).map_err(at)?;
            if count == 0 {
                break;
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            hash.update(bytes);
            file.write_all(bytes).map_err(at)?;
            length += count as u64;
            progress(count as u64);
        }
        let found = Digest::from_bytes(hash.finalize().into());
        if length != pack.length || found != pack.sha256 {
            return Err(StoreError::OtherPack {
                wanted: pack.sha256,
                found,
                length,
            });
        }
        file.sync().map_err(at)?;
        self.rename(temporary.path(), &path)?;
        temporary.keep();
        self.sync_dir(&dir)
    }

    /// Makes a version visible whose packs are all there. One that is there already only gets
    /// the signatures of the incoming one. Returns whether it was new.
    ///
    /// # Errors
    ///
    /// When the same version has another manifest here, when the index is not the one the manifest
    /// names, or a pack is missing.
    pub fn receive_version(&self, incoming: &Incoming) -> Result<bool, StoreError> {
        let manifest = &incoming.parsed;
        let (name, version) = (&manifest.name, manifest.version);
        if self.store.versions(name)?.contains(&version) {
            let here = self.store.read_manifest(name, version)?;
            if here.bytes != incoming.manifest.bytes {
                return Err(StoreError::OtherVersion {
                    name: name.clone(),
                    version,
                });
            }
            if here.signature != incoming.manifest.signature {
                self.replace_manifest_signature(name, version, &incoming.manifest.signature)?;
            }
            return Ok(false);
        }
        let index = Index::verify(&incoming.index, &manifest.index, manifest.size);
        let index = index.map_err(|source| StoreError::Index {
            path: layout::index_path(name, version),
            source,
        })?;
        if let Some(pack) = index.packs.iter().find(|pack| !self.store.has_pack(pack)) {
            return Err(StoreError::NoPack {
                name: name.clone(),
                version,
                pack: pack.sha256,
            });
        }
        let new = NewVersion {
            name,
            version,
            manifest: &incoming.manifest,
            index: &incoming.index,
            latest: None,
        };
        self.publish(FinishedPacks::default(), &new)?;
        Ok(true)
    }

    /// Takes a pointer over. One that was signed earlier than the one here changes nothing.
    /// Returns whether it was taken.
    ///
    /// # Errors
    ///
    /// When it makes no sense, leads back to an older version, or to one that is not here.
    pub fn receive_latest(&self, name: &ImageName, file: &SignedFile) -> Result<bool, StoreError> {
        let path = layout::latest_path(name);
        let latest = Latest::parse_unverified(&file.bytes)
            .map_err(|source| StoreError::Parse { path, source })?;
        if let Ok(here) = self.store.latest(name) {
            if here.version > latest.version {
                return Err(StoreError::Older {
                    name: name.clone(),
                    here: here.version,
                    there: latest.version,
                });
            }
            if here.version == latest.version && here.issued > latest.issued {
                return Ok(false);
            }
            if self.store.read_latest(name)? == *file {
                return Ok(false);
            }
        }
        let manifest = self.store.read_manifest(name, latest.version)?;
        if latest.require_manifest(&manifest.bytes).is_err() {
            return Err(StoreError::OtherVersion {
                name: name.clone(),
                version: latest.version,
            });
        }
        self.replace_latest(name, file)?;
        Ok(true)
    }
}
