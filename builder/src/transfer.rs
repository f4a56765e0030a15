//! Carrying images from one store to another: a folder, a server that takes files, a bundle.
//!
//! The order is always the same: packs, then indexes and manifests, the pointers to the newest
//! versions last. So whoever reads the destination sees the old state or the new one, and a
//! transfer that was interrupted goes on where it stopped.

mod bundle;
mod folder;
mod objects;
mod remote;

use std::collections::BTreeSet;

use anyhow::Context;
use serde::Serialize;
use sparetire_manifest::{ImageName, PackRef, layout};

use crate::store::{Incoming, SignedFile, Store};

pub use bundle::{Received, export, is_bundle, receive};
pub use folder::{plan_folder, to_folder};
pub use objects::{Credentials, Destination, Objects};
pub use remote::to_objects;

/// Versions of one image that are carried along, and its pointer.
#[derive(Debug)]
pub struct Selection {
    /// Which image.
    pub name: ImageName,
    /// Which versions, oldest first.
    pub versions: Vec<u64>,
    /// The pointer to the newest version; none when that version stays behind.
    pub latest: Option<SignedFile>,
}

impl Selection {
    /// All versions of an image.
    ///
    /// # Errors
    ///
    /// When there is no such image, or its pointer cannot be read.
    pub fn all(store: &Store, name: &ImageName) -> anyhow::Result<Self> {
        // The pointer first: a version published in between is then not missing from the list.
        let latest = store.read_latest(name)?;
        store.version(name, None)?;
        Ok(Self {
            name: name.clone(),
            versions: store.versions(name)?,
            latest: Some(latest),
        })
    }

    /// One version, by default the newest.
    ///
    /// # Errors
    ///
    /// When there is no such version, or the pointer cannot be read.
    pub fn one(store: &Store, name: &ImageName, version: Option<u64>) -> anyhow::Result<Self> {
        let newest = store.latest(name)?.version;
        let version = store.version(name, Some(version.unwrap_or(newest)))?;
        let latest = (version == newest).then(|| store.read_latest(name));
        Ok(Self {
            name: name.clone(),
            versions: vec![version],
            latest: latest.transpose()?,
        })
    }

    /// The versions as they are sent.
    fn incoming(&self, store: &Store) -> anyhow::Result<Vec<Incoming>> {
        self.versions
            .iter()
            .map(|version| incoming(store, &self.name, *version))
            .collect()
    }
}

/// What a transfer did, or would do.
#[derive(Debug, Default, Serialize)]
pub struct Sent {
    /// Versions that the destination did not have.
    pub versions: Vec<SentVersion>,
    /// Packs that it did not have.
    pub packs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files or versions that were removed there.
    pub removed: Vec<String>,
    /// Whether nothing was written.
    pub dry_run: bool,
}

/// One version that was sent.
#[derive(Debug, Serialize)]
pub struct SentVersion {
    /// Which image.
    pub name: ImageName,
    /// Which version.
    pub version: u64,
}

fn incoming(store: &Store, name: &ImageName, version: u64) -> anyhow::Result<Incoming> {
    let parsed = store.manifest(name, version)?;
    let index = layout::index_path(name, version);
    Ok(Incoming {
        manifest: store.read_manifest(name, version)?,
        index: store.read_capped(&index, parsed.index.size)?,
        parsed,
    })
}

/// The packs of these versions, each once.
fn packs_of(store: &Store, versions: &[Incoming]) -> anyhow::Result<Vec<PackRef>> {
    let mut seen = BTreeSet::new();
    let mut packs = Vec::new();
    for version in versions {
        let index = store
            .index(&version.parsed)
            .with_context(|| format!("reading {}", version.parsed.name))?;
        for pack in index.packs {
            if seen.insert(pack.sha256) {
                packs.push(pack);
            }
        }
    }
    Ok(packs)
}

/// Bytes of all packs that these versions need.
///
/// # Errors
///
/// When a version cannot be read.
pub fn pack_bytes(store: &Store, selections: &[Selection]) -> anyhow::Result<u64> {
    let mut versions = Vec::new();
    for selection in selections {
        versions.extend(selection.incoming(store)?);
    }
    let packs = packs_of(store, &versions)?;
    Ok(packs.iter().map(|pack| pack.length).sum())
}
