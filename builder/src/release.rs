//! Signing what a store says: a new version, the pointer to the newest, and keys that change.
//!
//! Nothing unverified is signed again. Whoever may write the store's folder could otherwise put an
//! old pointer there and have `renew` vouch for it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde::Serialize;
use sparetire_manifest::{
    Chunk, Digest, FORMAT, ImageName, Index, IndexRef, Latest, Manifest, PackRef, Place, Timestamp,
    TrustedKeys, Verified, layout, signatures, verify_latest, verify_manifest,
};

use crate::exit::{ExitCode, WithCode, coded};
use crate::import::PACK_CAP;
use crate::progress::Progress;
use crate::signing::SigningKey;
use crate::store::{FinishedPacks, NewVersion, Packs, SignedFile, Store, Usage, WriteLock};

/// Long ago: whether a signature holds does not depend on the time.
const ANY_TIME: Timestamp = Timestamp::from_unix(0);

/// Who signs, and for how long it counts.
#[derive(Debug, Clone, Copy)]
pub struct Signing<'a> {
    /// The key, and further ones while keys change.
    pub key: &'a SigningKey,
    /// How long "this is the newest version" stays believable.
    pub latest_valid: Duration,
    /// The moment of signing.
    pub now: Timestamp,
}

impl Signing<'_> {
    /// Signs a manifest and a pointer to it, and makes both visible.
    ///
    /// # Errors
    ///
    /// When the manifest is not one, or the store cannot be written.
    pub fn publish(
        &self,
        lock: &WriteLock,
        packs: FinishedPacks,
        manifest: &Manifest,
        index: &[u8],
    ) -> anyhow::Result<()> {
        manifest
            .check()
            .context("checking the manifest")
            .code(ExitCode::Usage)?;
        let bytes = manifest.to_json();
        let latest = self.latest(&manifest.name, manifest.version, Digest::of(&bytes))?;
        let new = NewVersion {
            name: &manifest.name,
            version: manifest.version,
            manifest: &SignedFile {
                signature: self.key.sign(&bytes, &manifest.trusted_comment())?,
                bytes,
            },
            index,
            latest: Some(&latest),
        };
        lock.publish(packs, &new).context("writing the new version")
    }

    fn latest(
        &self,
        name: &ImageName,
        version: u64,
        manifest: Digest,
    ) -> anyhow::Result<SignedFile> {
        let latest = Latest {
            format: FORMAT,
            name: name.clone(),
            version,
            manifest,
            issued: self.now,
            expires: self.now.plus(self.latest_valid),
        };
        latest
            .check()
            .context("checking the pointer to the newest version")
            .code(ExitCode::Usage)?;
        let bytes = latest.to_json();
        Ok(SignedFile {
            signature: self.key.sign(&bytes, &latest.trusted_comment())?,
            bytes,
        })
    }

    /// Signs the pointer to the newest version anew, so that it stays believable for longer.
    ///
    /// # Errors
    ///
    /// When nobody in `trusted` signed the present one or the manifest it names.
    pub fn renew(
        &self,
        lock: &WriteLock,
        name: &ImageName,
        trusted: &TrustedKeys,
    ) -> anyhow::Result<Renewed> {
        let old = signed_latest(lock.store(), name, trusted)?;
        let manifest = signed_manifest(lock.store(), name, old.version, trusted)?;
        old.require_manifest(&manifest.file.bytes)
            .context("comparing the manifest with the pointer to it")
            .code(ExitCode::Verification)?;
        let new = self.latest(name, old.version, old.manifest)?;
        lock.replace_latest(name, &new)?;
        Ok(Renewed {
            name: name.clone(),
            version: old.version,
            expires: self.now.plus(self.latest_valid),
        })
    }

    /// Makes an old version, or the newest once more, the newest under a new number.
    ///
    /// With `repack`, chunks that stand in packs of which the version uses less than half move to
    /// new packs, in image order.
    ///
    /// # Errors
    ///
    /// When nobody in `trusted` signed the version, it has expired, or a chunk is damaged.
    pub fn republish(
        &self,
        lock: &WriteLock,
        name: &ImageName,
        version: u64,
        wanted: Option<u64>,
        trusted: &TrustedKeys,
        repack: Option<&Progress>,
    ) -> anyhow::Result<Republished> {
        let store = lock.store();
        let old = signed_manifest(store, name, version, trusted)?.manifest;
        if old.expires.is_some_and(|expires| expires <= self.now) {
            return Err(coded(
                ExitCode::Refused,
                anyhow!("version {version} of {name} has expired; import it again"),
            ));
        }
        let index = store.index(&old)?;
        let number = next_version(store, name, wanted, self.now)?;
        let (index, packs) = match repack {
            Some(progress) => repacked(lock, &old, index, progress)?,
            None => (index, FinishedPacks::default()),
        };
        let stored = packs.refs().map(|pack| pack.length).sum();
        let bytes = index.emit();
        let manifest = Manifest {
            version: number,
            created: self.now,
            index: IndexRef {
                sha256: Digest::of(&bytes),
                size: bytes.len() as u64,
            },
            ..old.into_inner()
        };
        self.publish(lock, packs, &manifest, &bytes)?;
        Ok(Republished {
            name: name.clone(),
            from: version,
            version: number,
            stored_bytes: stored,
        })
    }

    /// Adds this key's signatures to all versions of an image and to the pointer. Signatures by
    /// others in `trusted` stay, unless `only` says that none but this key's shall.
    ///
    /// # Errors
    ///
    /// When nobody in `trusted` signed one of the files.
    pub fn resign(
        &self,
        lock: &WriteLock,
        name: &ImageName,
        trusted: &TrustedKeys,
        only: bool,
    ) -> anyhow::Result<Resigned> {
        let store = lock.store();
        let versions = store.versions(name)?;
        // All of them are looked at before one is signed.
        let manifests = versions
            .iter()
            .map(|version| signed_manifest(store, name, *version, trusted))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let latest = signed_latest(store, name, trusted)?;
        for SignedManifest { manifest, file } in &manifests {
            let holds = |signature: &str| {
                verify_manifest(&file.bytes, signature, trusted, ANY_TIME).is_ok()
            };
            let text = self.signed_again(file, &manifest.trusted_comment(), only, holds)?;
            lock.replace_manifest_signature(name, manifest.version, &text)?;
        }
        let file = store.read_latest(name)?;
        let holds =
            |signature: &str| verify_latest(&file.bytes, signature, trusted, ANY_TIME, 0).is_ok();
        let text = self.signed_again(&file, &latest.trusted_comment(), only, holds)?;
        lock.replace_latest_signature(name, &text)?;
        Ok(Resigned {
            name: name.clone(),
            versions,
        })
    }

    /// Our signatures, then those of others that hold.
    fn signed_again(
        &self,
        file: &SignedFile,
        comment: &str,
        only: bool,
        holds: impl Fn(&str) -> bool,
    ) -> anyhow::Result<String> {
        let mut text = self.key.sign(&file.bytes, comment)?;
        if !only {
            for signature in signatures(&file.signature) {
                let is_ours = self.key.public_keys().any(|key| key.has_signed(&signature));
                if !is_ours && holds(&signature) {
                    text.push_str(&signature);
                }
            }
        }
        Ok(text)
    }
}

/// What `renew` did.
#[derive(Debug, Serialize)]
pub struct Renewed {
    /// Which image.
    pub name: ImageName,
    /// Its newest version, as before.
    pub version: u64,
    /// Until when that may be believed now.
    pub expires: Timestamp,
}

/// What `republish` did.
#[derive(Debug, Serialize)]
pub struct Republished {
    /// Which image.
    pub name: ImageName,
    /// The version whose bytes these are.
    pub from: u64,
    /// The new version.
    pub version: u64,
    /// Bytes that went into new packs.
    pub stored_bytes: u64,
}

/// What `resign` did.
#[derive(Debug, Serialize)]
pub struct Resigned {
    /// Which image.
    pub name: ImageName,
    /// The versions that have new signatures.
    pub versions: Vec<u64>,
}

struct SignedManifest {
    manifest: Verified<Manifest>,
    file: SignedFile,
}

fn signed_manifest(
    store: &Store,
    name: &ImageName,
    version: u64,
    trusted: &TrustedKeys,
) -> anyhow::Result<SignedManifest> {
    let file = store.read_manifest(name, version)?;
    let manifest = verify_manifest(&file.bytes, &file.signature, trusted, ANY_TIME)
        .and_then(|manifest| manifest.require(name, version).map(|()| manifest))
        .with_context(|| format!("checking {}", layout::manifest_path(name, version)))
        .code(ExitCode::Verification)?;
    Ok(SignedManifest { manifest, file })
}

fn signed_latest(
    store: &Store,
    name: &ImageName,
    trusted: &TrustedKeys,
) -> anyhow::Result<Verified<Latest>> {
    let file = store.read_latest(name)?;
    verify_latest(&file.bytes, &file.signature, trusted, ANY_TIME, 0)
        .and_then(|latest| latest.require(name).map(|()| latest))
        .with_context(|| format!("checking {}", layout::latest_path(name)))
        .code(ExitCode::Verification)
}

/// The version asked for, or one made of the time; always above all others of the image.
pub(crate) fn next_version(
    store: &Store,
    name: &ImageName,
    wanted: Option<u64>,
    now: Timestamp,
) -> anyhow::Result<u64> {
    let newest = store.versions(name)?.last().copied();
    match (wanted, newest) {
        (Some(wanted), Some(newest)) if wanted <= newest => Err(coded(
            ExitCode::Refused,
            anyhow!(
                "version {wanted} of {name} is not above version {newest}, which the store has; \
                 PCs refuse to go back"
            ),
        )),
        (Some(wanted), _) => Ok(wanted),
        // Two imports within a second, or a clock that was set back.
        (None, newest) => Ok(now
            .version_number()
            .max(newest.map_or(0, |newest| newest.saturating_add(1)))),
    }
}

/// The same image with the chunks of sparse packs in new ones.
fn repacked(
    lock: &WriteLock,
    manifest: &Manifest,
    index: Index,
    progress: &Progress,
) -> anyhow::Result<(Index, FinishedPacks)> {
    let mut usage = Usage::default();
    usage.add(&manifest.name, &index);
    let is_sparse: Vec<bool> = index
        .packs
        .iter()
        .map(|pack| {
            let used = usage.packs.get(&pack.sha256);
            used.is_none_or(crate::store::PackUse::is_sparse)
        })
        .collect();
    let mut from = Packs::new(lock.store());
    let mut to = lock.packs(PACK_CAP);
    // Where each run of a sparse pack went: pack among the new ones, offset.
    let mut moved: HashMap<(u32, u64), (u32, u64)> = HashMap::new();
    let mut runs: Vec<Option<(u32, u64)>> = Vec::new();
    for (number, chunk) in index.chunks.iter().enumerate() {
        progress.inc(u64::from(chunk.length));
        let run = match chunk.stored() {
            Some((pack, offset, _)) if is_sparse.get(pack as usize) == Some(&true) => {
                let place = match moved.get(&(pack, offset)) {
                    Some(place) => *place,
                    None => {
                        let bytes = from.read_checked(&index.packs, number, chunk)?;
                        let added = to.add(&bytes)?;
                        moved.insert((pack, offset), (added.pack, added.offset));
                        (added.pack, added.offset)
                    }
                };
                Some(place)
            }
            _ => None,
        };
        runs.push(run);
    }
    let finished = to.finish()?;
    // Packs that stay come first, in their order; then the new ones.
    let mut packs: Vec<PackRef> = Vec::new();
    let mut numbers: Vec<u32> = Vec::new();
    for (pack, sparse) in index.packs.iter().zip(&is_sparse) {
        numbers.push(u32::try_from(packs.len()).context("numbering packs")?);
        if !sparse {
            packs.push(*pack);
        }
    }
    let first_new = u32::try_from(packs.len()).context("numbering packs")?;
    packs.extend(finished.refs());
    let chunks = index.chunks.into_iter().zip(runs).map(|(chunk, run)| {
        let place = match run {
            Some((pack, offset)) => placed(chunk.place, first_new.saturating_add(pack), offset),
            None => match chunk.stored() {
                Some((pack, offset, _)) => {
                    let number = numbers.get(pack as usize).copied().unwrap_or(u32::MAX);
                    placed(chunk.place, number, offset)
                }
                None => chunk.place,
            },
        };
        Chunk { place, ..chunk }
    });
    let index = Index {
        image_size: index.image_size,
        chunks: chunks.collect(),
        packs,
    };
    index.check().context("checking the new index")?;
    Ok((index, finished))
}

fn placed(place: Place, pack: u32, offset: u64) -> Place {
    match place {
        Place::Hole => Place::Hole,
        Place::Stored { .. } => Place::Stored { pack, offset },
        Place::Zstd { stored_length, .. } => Place::Zstd {
            pack,
            offset,
            stored_length,
        },
    }
}
