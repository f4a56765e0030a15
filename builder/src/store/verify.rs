//! Reading an image back from its store and checking all of it.
//!
//! Signatures first, then the index, then every chunk and the whole image. Packs are checked by
//! the chunks this image has in them, not by their own digest.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use sha2::{Digest as _, Sha256};
use sparetire_manifest::{
    Chunk, Digest, ImageName, Latest, Manifest, PackRef, Place, Timestamp, TrustedKeys, Verified,
    VerifyError, layout, verify_latest, verify_manifest,
};

use super::{Store, StoreError};

/// What was checked.
#[derive(Debug)]
pub struct VerifySummary {
    /// The manifest, its signature checked.
    pub manifest: Verified<Manifest>,
    /// The pointer to the newest version, its signature checked.
    pub latest: Verified<Latest>,
    /// Chunks read and compared.
    pub chunks: usize,
    /// Packs they stand in.
    pub packs: usize,
}

/// Checks one version of an image; `progress` is told of the image bytes done.
///
/// # Errors
///
/// At the first thing that does not hold.
pub fn verify_version(
    store: &Store,
    name: &ImageName,
    version: u64,
    keys: &TrustedKeys,
    now: Timestamp,
    mut progress: impl FnMut(u64, u64),
) -> Result<VerifySummary, CheckError> {
    let (latest, manifest) = verify_documents(store, name, version, keys, now)?;
    let index = store.index(&manifest)?;
    let mut packs = Packs {
        store,
        open: HashMap::new(),
    };
    let mut whole = Sha256::new();
    let mut done = 0;
    for (number, chunk) in index.chunks.iter().enumerate() {
        let bytes = packs.read(&index.packs, number, chunk)?;
        whole.update(&bytes);
        done += u64::from(chunk.length);
        progress(done, index.image_size);
    }
    let found = Digest::from_bytes(whole.finalize().into());
    if found != manifest.sha256 {
        return Err(CheckError::Whole {
            wanted: manifest.sha256,
            found,
        });
    }
    Ok(VerifySummary {
        chunks: index.chunks.len(),
        packs: index.packs.len(),
        manifest,
        latest,
    })
}

/// Checks what is signed of one version: the pointer to the newest and the manifest, as a
/// loader does before it fetches anything.
///
/// # Errors
///
/// When either is missing, or its signature, expiry, name or version does not hold.
pub fn verify_documents(
    store: &Store,
    name: &ImageName,
    version: u64,
    keys: &TrustedKeys,
    now: Timestamp,
) -> Result<(Verified<Latest>, Verified<Manifest>), CheckError> {
    let file = store.read_latest(name)?;
    let latest = verify_latest(&file.bytes, &file.signature, keys, now, 0)
        .and_then(|latest| latest.require(name).map(|()| latest))
        .map_err(|source| CheckError::Latest { source })?;
    let file = store.read_manifest(name, version)?;
    let manifest = verify_manifest(&file.bytes, &file.signature, keys, now)
        .and_then(|manifest| manifest.require(name, version).map(|()| manifest))
        .and_then(|manifest| {
            if latest.version == version {
                latest.require_manifest(&file.bytes)?;
            }
            Ok(manifest)
        })
        .map_err(|source| CheckError::Manifest { version, source })?;
    Ok((latest, manifest))
}

struct Packs<'a> {
    store: &'a Store,
    open: HashMap<Digest, File>,
}

impl Packs<'_> {
    /// The bytes of a chunk as they stand in the image, digest compared.
    fn read(
        &mut self,
        packs: &[PackRef],
        number: usize,
        chunk: &Chunk,
    ) -> Result<Vec<u8>, CheckError> {
        let length = chunk.length as usize;
        let bytes = match chunk.stored() {
            None => vec![0; length],
            Some((pack, offset, stored)) => {
                // The index was checked: every pack number in it is one of its packs.
                let pack = packs
                    .get(pack as usize)
                    .ok_or(CheckError::NoSuchPack { chunk: number })?;
                let mut bytes = vec![0; stored as usize];
                let path = self.store.path(&layout::pack_path(&pack.sha256));
                let file = match self.open.entry(pack.sha256) {
                    std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::hash_map::Entry::Vacant(entry) => entry.insert(
                        File::open(&path)
                            .map_err(|source| StoreError::at(&path, "opening", source))?,
                    ),
                };
                file.read_exact_at(&mut bytes, offset)
                    .map_err(|source| StoreError::at(&path, "reading", source))?;
                match chunk.place {
                    Place::Zstd { .. } => {
                        zstd::bulk::decompress(&bytes, length).map_err(|source| {
                            CheckError::Frame {
                                chunk: number,
                                pack: pack.sha256,
                                source,
                            }
                        })?
                    }
                    _ => bytes,
                }
            }
        };
        let found = Digest::of(&bytes);
        if found != chunk.digest || bytes.len() != length {
            return Err(CheckError::Chunk {
                chunk: number,
                pack: chunk
                    .stored()
                    .and_then(|(pack, ..)| packs.get(pack as usize))
                    .map(|pack| pack.sha256),
                wanted: chunk.digest,
                found,
            });
        }
        Ok(bytes)
    }
}

/// Why an image in a store is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The pointer to the newest version does not hold.
    #[error("pointer to the newest version does not hold")]
    Latest {
        /// Why.
        source: VerifyError,
    },
    /// The manifest does not hold.
    #[error("manifest of version {version} does not hold")]
    Manifest {
        /// Which version.
        version: u64,
        /// Why.
        source: VerifyError,
    },
    /// A chunk names a pack the index does not have.
    #[error("chunk {chunk} is in no pack")]
    NoSuchPack {
        /// Number of the chunk, from 0.
        chunk: usize,
    },
    /// A compressed chunk cannot be read.
    #[error("chunk {chunk} in pack {pack} cannot be decompressed")]
    Frame {
        /// Number of the chunk, from 0.
        chunk: usize,
        /// Which pack.
        pack: Digest,
        /// Why.
        source: std::io::Error,
    },
    /// A chunk has other bytes than it should.
    #[error(
        "chunk {chunk} has digest {found} instead of {wanted}{}",
        pack.map(|pack| format!(", in pack {pack}")).unwrap_or_default()
    )]
    Chunk {
        /// Number of the chunk, from 0.
        chunk: usize,
        /// Which pack; none for a hole.
        pack: Option<Digest>,
        /// What the index says.
        wanted: Digest,
        /// What is there.
        found: Digest,
    },
    /// Every chunk holds, the image as a whole does not.
    #[error("image has digest {found} instead of {wanted}")]
    Whole {
        /// What the manifest says.
        wanted: Digest,
        /// What is there.
        found: Digest,
    },
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}
