//! Reading an image back from its store and checking all of it.
//!
//! Signatures first, all of them; then the index, every chunk and the whole image; then each pack
//! as a whole, since other images may have chunks in it. Every bit of every file counts, but for a
//! signature by a key that is not trusted here, which nobody here could check.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use sha2::{Digest as _, Sha256};
use sparetire_manifest::{
    Chunk, Digest, ImageName, Latest, Manifest, PackRef, Place, Timestamp, TrustedKeys, Verified,
    VerifyError, layout, signatures, verify_latest, verify_manifest,
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
    for path in [
        layout::latest_path(name),
        layout::manifest_path(name, version),
    ] {
        check_signatures(store, &path, keys)?;
    }
    let index = store.index(&manifest)?;
    let mut packs = Packs::new(store);
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
    for pack in &index.packs {
        verify_pack(store, pack)?;
    }
    Ok(VerifySummary {
        chunks: index.chunks.len(),
        packs: index.packs.len(),
        manifest,
        latest,
    })
}

/// Checks a pack against its name.
///
/// # Errors
///
/// When it is missing, or has another length or digest.
pub fn verify_pack(store: &Store, pack: &PackRef) -> Result<(), CheckError> {
    let path = store.path(&layout::pack_path(&pack.sha256));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0u64;
    let mut read = || -> std::io::Result<()> {
        let mut file = File::open(&path)?;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            length += count as u64;
            hash.update(buffer.get(..count).unwrap_or_default());
        }
    };
    read().map_err(|source| StoreError::at(&path, "reading", source))?;
    let found = Digest::from_bytes(hash.finalize().into());
    if found != pack.sha256 || length != pack.length {
        return Err(CheckError::Pack {
            wanted: *pack,
            found,
            length,
        });
    }
    Ok(())
}

/// Every signature by a trusted key has to hold, though a reader is content with one.
fn check_signatures(store: &Store, path: &str, keys: &TrustedKeys) -> Result<(), CheckError> {
    // While the pointer is replaced, and when the writer died of it, there is one for each pointer.
    let was_changing = store.is_changing();
    let file = store.read_signed(path)?;
    let is_changing = path.ends_with("/latest.json") && (was_changing || store.is_changing());
    let signature_path = layout::signature_path(path);
    let wrong = |problem| CheckError::Signature {
        path: signature_path.clone(),
        problem,
    };
    let mut text = String::new();
    for signature in signatures(&file.signature) {
        text.push_str(&signature);
        let comment = signature.lines().next().unwrap_or_default();
        if !WRITTEN_COMMENTS.contains(&comment) {
            return Err(wrong(
                "has an untrusted comment that neither sparetire nor minisign writes",
            ));
        }
        // Long ago: expiry has been looked at, and a signature holds or not at any time.
        let time = Timestamp::from_unix(0);
        let result = if path.ends_with("/latest.json") {
            verify_latest(&file.bytes, &signature, keys, time, 0).map(drop)
        } else {
            verify_manifest(&file.bytes, &signature, keys, time).map(drop)
        };
        match result {
            Ok(()) | Err(VerifyError::UnknownKey { .. }) => {}
            Err(VerifyError::BadSignature { .. }) if is_changing => {}
            Err(_) => return Err(wrong("holds a signature that does not match")),
        }
    }
    // Line ends, which the lines do not show.
    if text != file.signature {
        return Err(wrong("is not written as signatures are"));
    }
    Ok(())
}

/// The first lines of a signature: sparetire's own and minisign's default. Nothing protects them,
/// so another one is either somebody's whim or damage.
const WRITTEN_COMMENTS: [&str; 2] = [
    "untrusted comment: signature from sparetire",
    "untrusted comment: signature from minisign secret key",
];

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

/// Packs of a store, opened when they are first asked for.
pub(crate) struct Packs<'a> {
    store: &'a Store,
    open: HashMap<Digest, File>,
}

impl<'a> Packs<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self {
            store,
            open: HashMap::new(),
        }
    }

    /// The bytes of a chunk as they stand in the image, digest compared.
    fn read(
        &mut self,
        packs: &[PackRef],
        number: usize,
        chunk: &Chunk,
    ) -> Result<Vec<u8>, CheckError> {
        let stored = self.read_stored(packs, number, chunk)?;
        Self::unpacked(packs, number, chunk, stored)
    }

    /// The bytes of a chunk as they stand in their pack, after checking that they are the chunk;
    /// nothing for a hole.
    pub(crate) fn read_checked(
        &mut self,
        packs: &[PackRef],
        number: usize,
        chunk: &Chunk,
    ) -> Result<Vec<u8>, CheckError> {
        let stored = self.read_stored(packs, number, chunk)?;
        Self::unpacked(packs, number, chunk, stored.clone())?;
        Ok(stored)
    }

    fn read_stored(
        &mut self,
        packs: &[PackRef],
        number: usize,
        chunk: &Chunk,
    ) -> Result<Vec<u8>, CheckError> {
        let Some((pack, offset, stored)) = chunk.stored() else {
            return Ok(Vec::new());
        };
        // The index was checked: every pack number in it is one of its packs.
        let pack = packs
            .get(pack as usize)
            .ok_or(CheckError::NoSuchPack { chunk: number })?;
        let mut bytes = vec![0; stored as usize];
        let path = self.store.path(&layout::pack_path(&pack.sha256));
        let file = match self.open.entry(pack.sha256) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(
                File::open(&path).map_err(|source| StoreError::at(&path, "opening", source))?,
            ),
        };
        file.read_exact_at(&mut bytes, offset)
            .map_err(|source| StoreError::at(&path, "reading", source))?;
        Ok(bytes)
    }

    fn unpacked(
        packs: &[PackRef],
        number: usize,
        chunk: &Chunk,
        stored: Vec<u8>,
    ) -> Result<Vec<u8>, CheckError> {
        let length = chunk.length as usize;
        let pack = chunk
            .stored()
            .and_then(|(pack, ..)| packs.get(pack as usize))
            .map(|pack| pack.sha256);
        let bytes = match (chunk.place, pack) {
            (Place::Zstd { .. }, Some(pack)) => {
                zstd::bulk::decompress(&stored, length).map_err(|source| CheckError::Frame {
                    chunk: number,
                    pack,
                    source,
                })?
            }
            (Place::Hole, _) => vec![0; length],
            _ => stored,
        };
        let found = Digest::of(&bytes);
        if found != chunk.digest || bytes.len() != length {
            return Err(CheckError::Chunk {
                chunk: number,
                pack,
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
    #[error("pointer to the newest version (latest.json) does not hold")]
    Latest {
        /// Why.
        source: VerifyError,
    },
    /// The manifest does not hold.
    #[error("manifest of version {version} (manifest.json) does not hold")]
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
    /// A signature file is damaged, though one signature in it may hold.
    #[error("{path} {problem}")]
    Signature {
        /// Path inside the store.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A pack is not the file its name says.
    #[error("pack {} is {length} bytes with digest {found}, and should be {} bytes", .wanted.sha256, .wanted.length)]
    Pack {
        /// Its name and length.
        wanted: PackRef,
        /// Digest of what is there.
        found: Digest,
        /// Length of what is there.
        length: u64,
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
