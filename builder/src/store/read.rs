//! Reading a store: names, versions, signed files, indexes. Nothing here is verified but digests.
//!
//! Who controls the bytes: whoever may write the folder. So every file is read up to the longest
//! that its kind may be, and what comes out is unchecked until `verify.rs` looked at it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use sparetire_manifest::{
    Digest, ImageName, Index, Latest, MAX_INDEX, MAX_MANIFEST, MAX_SIGNATURE, Manifest, PackRef,
    Place, layout,
};

use super::{Store, StoreError, TEMPORARY};

/// A file of the store with its signature, nobody having checked either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedFile {
    /// The signed bytes.
    pub bytes: Vec<u8>,
    /// The text of the `.minisig` file.
    pub signature: String,
}

/// Where the store already has a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The pack that holds it.
    pub pack: PackRef,
    /// Length of the chunk in an image.
    pub length: u32,
    /// Place in the pack; the pack number inside means nothing here.
    pub place: Place,
}

impl Store {
    /// Names of all images, sorted. Other things in the folder are passed over.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn images(&self) -> Result<Vec<ImageName>, StoreError> {
        let mut names: Vec<ImageName> = dir_names(&self.root.join("images"))?
            .into_iter()
            .filter_map(|name| ImageName::try_from(name).ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Versions of an image, oldest first; none when there is no such image.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn versions(&self, name: &ImageName) -> Result<Vec<u64>, StoreError> {
        let dir = self.root.join("images").join(name.as_str());
        if !dir.is_dir() {
            return Ok(Vec::new());
        }
        let mut versions: Vec<u64> = dir_names(&dir)?
            .into_iter()
            // One spelling only: `07` is no version.
            .filter_map(|name| name.parse().ok().filter(|n: &u64| n.to_string() == name))
            .collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// The version asked for, or the newest one.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoImage`] when there is none.
    pub fn version(&self, name: &ImageName, wanted: Option<u64>) -> Result<u64, StoreError> {
        let versions = self.versions(name)?;
        match wanted {
            Some(version) => versions.iter().find(|found| **found == version),
            None => versions.last(),
        }
        .copied()
        .ok_or_else(|| StoreError::NoImage {
            name: name.clone(),
            version: wanted,
        })
    }

    /// The manifest of a version and its signature, unchecked.
    ///
    /// # Errors
    ///
    /// When a file is missing, too long or no text.
    pub fn read_manifest(&self, name: &ImageName, version: u64) -> Result<SignedFile, StoreError> {
        self.read_signed(&layout::manifest_path(name, version))
    }

    /// The pointer to the newest version and its signature, unchecked.
    ///
    /// # Errors
    ///
    /// When a file is missing, too long or no text.
    pub fn read_latest(&self, name: &ImageName) -> Result<SignedFile, StoreError> {
        self.read_signed(&layout::latest_path(name))
    }

    /// The manifest of a version, for showing.
    ///
    /// # Errors
    ///
    /// When it cannot be read or makes no sense.
    pub fn manifest(&self, name: &ImageName, version: u64) -> Result<Manifest, StoreError> {
        let file = self.read_manifest(name, version)?;
        Manifest::parse_unverified(&file.bytes).map_err(|source| StoreError::Parse {
            path: layout::manifest_path(name, version),
            source,
        })
    }

    /// The pointer to the newest version, for showing.
    ///
    /// # Errors
    ///
    /// When it cannot be read or makes no sense.
    pub fn latest(&self, name: &ImageName) -> Result<Latest, StoreError> {
        let file = self.read_latest(name)?;
        Latest::parse_unverified(&file.bytes).map_err(|source| StoreError::Parse {
            path: layout::latest_path(name),
            source,
        })
    }

    /// The index that a manifest names, its digest checked against that manifest.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is not the one named.
    pub fn index(&self, manifest: &Manifest) -> Result<Index, StoreError> {
        let relative = layout::index_path(&manifest.name, manifest.version);
        let bytes = self.read_capped(&relative, MAX_INDEX)?;
        Index::verify(&bytes, &manifest.index, manifest.size)
            .map(sparetire_manifest::Verified::into_inner)
            .map_err(|source| StoreError::Index {
                path: relative,
                source,
            })
    }

    /// Every chunk that some version already has in a pack of the right length, by digest.
    ///
    /// A version that cannot be read only costs sharing with it; `unreadable` is told of it.
    ///
    /// # Errors
    ///
    /// When the folders cannot be read.
    pub fn known_chunks(
        &self,
        mut unreadable: impl FnMut(&ImageName, u64, &StoreError),
    ) -> Result<HashMap<Digest, Known>, StoreError> {
        let mut known = HashMap::new();
        let mut present: HashMap<PackRef, bool> = HashMap::new();
        for name in self.images()? {
            for version in self.versions(&name)? {
                let index = match self
                    .manifest(&name, version)
                    .and_then(|manifest| self.index(&manifest))
                {
                    Ok(index) => index,
                    Err(error) => {
                        unreadable(&name, version, &error);
                        continue;
                    }
                };
                for chunk in &index.chunks {
                    let Some(pack) = chunk
                        .stored()
                        .and_then(|(pack, ..)| index.packs.get(pack as usize))
                    else {
                        continue;
                    };
                    let is_there = *present.entry(*pack).or_insert_with(|| self.has_pack(pack));
                    if is_there {
                        known.entry(chunk.digest).or_insert(Known {
                            pack: *pack,
                            length: chunk.length,
                            place: chunk.place,
                        });
                    }
                }
            }
        }
        Ok(known)
    }

    pub(crate) fn has_pack(&self, pack: &PackRef) -> bool {
        fs::metadata(self.path(&layout::pack_path(&pack.sha256)))
            .is_ok_and(|found| found.is_file() && found.len() == pack.length)
    }

    pub(super) fn read_signed(&self, relative: &str) -> Result<SignedFile, StoreError> {
        let bytes = self.read_capped(relative, MAX_MANIFEST as u64)?;
        let signature_path = layout::signature_path(relative);
        let signature = self.read_capped(&signature_path, MAX_SIGNATURE as u64)?;
        let signature = String::from_utf8(signature).map_err(|_| StoreError::NoText {
            path: signature_path,
        })?;
        Ok(SignedFile { bytes, signature })
    }

    pub(crate) fn read_capped(&self, relative: &str, most: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(relative);
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            File::open(&path)?.take(most + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|source| StoreError::at(&path, "reading", source))?;
        if bytes.len() as u64 > most {
            return Err(StoreError::TooLong {
                path: relative.to_owned(),
                most,
            });
        }
        Ok(bytes)
    }
}

pub(super) fn all_names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let io = |source| StoreError::at(dir, "listing", source);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        // Names of ours are ASCII; others are none of our business.
        if let Ok(name) = entry.map_err(io)?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

pub(super) fn dir_names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = all_names(dir)?;
    names.retain(|name| !name.starts_with(TEMPORARY) && dir.join(name).is_dir());
    Ok(names)
}
