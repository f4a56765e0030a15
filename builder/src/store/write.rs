//! Changing a store: every change is written down whole before any of it happens.
//!
//! A new version touches several places: packs, its own folder, the pointer to the newest version
//! and that pointer's signature. All of it stands ready, synced, in one folder that gets the name
//! [`PLAN`] by a single rename. Before that rename nothing has happened, and what is there is
//! removed by the next writer. After it everything will happen: each step can be taken again, by
//! the next writer if need be.
//!
//! Readers in between: packs and version are there before anything points to them. The pointer and
//! its signature are two files, so the signature is first replaced by one that holds the new and
//! the old signature, which suits either pointer; then the pointer; then the signature alone.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sparetire_manifest::{Digest, ImageName, MAX_SIGNATURE, layout};

use super::disk::{TEMPORARY, Temporary};
use super::read::{all_names, dir_names};
use super::{FinishedPacks, PackWriter, SignedFile, Store, StoreError, WriteLock};

/// The folder, below `images`, of a change that will happen.
const PLAN: &str = ".sparetire-plan";

/// A plan names at most a pack per 256 MiB of an image of at most 2^40 bytes.
const MAX_PLAN: u64 = 4 << 20;

/// The files of a new version, signed and ready.
#[derive(Debug)]
pub struct NewVersion<'a> {
    /// Which image.
    pub name: &'a ImageName,
    /// Which version.
    pub version: u64,
    /// The manifest with its signature.
    pub manifest: &'a SignedFile,
    /// The index.
    pub index: &'a [u8],
    /// The pointer to the newest version with its signature; none when it stays as it is.
    pub latest: Option<&'a SignedFile>,
}

/// What is going to happen, beside the files that will move.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    name: ImageName,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    packs: Vec<PlannedPack>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PlannedPack {
    /// Its name in `packs` until then.
    temporary: String,
    sha256: Digest,
}

impl PlannedPack {
    fn new((file, sha256): &(Temporary, Digest)) -> Self {
        let name = file.path().file_name().unwrap_or_default();
        Self {
            temporary: name.to_string_lossy().into_owned(),
            sha256: *sha256,
        }
    }
}

impl Store {
    /// Whether a change is under way, or was when its writer died.
    pub(super) fn is_changing(&self) -> bool {
        self.path("images").join(PLAN).is_dir()
    }
}

impl WriteLock {
    /// The store that is locked.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Starts a set of packs, each at most `cap` bytes long.
    #[must_use]
    pub fn packs(&self, cap: u64) -> PackWriter<'_> {
        PackWriter::new(self, cap)
    }

    /// Makes a version visible, its packs first.
    ///
    /// # Errors
    ///
    /// When the version exists, or a file cannot be written. Should an error come after all was
    /// written down, the next writer makes the version visible.
    pub fn publish(&self, packs: FinishedPacks, new: &NewVersion<'_>) -> Result<(), StoreError> {
        let version_dir = self.store.path(&layout::version_dir(new.name, new.version));
        if version_dir.exists() {
            return Err(StoreError::VersionExists {
                name: new.name.clone(),
                version: new.version,
            });
        }
        let draft = self.draft()?;
        let version = draft.path().join("version");
        self.make_dir(&version)?;
        self.write(&version.join("manifest.json"), &new.manifest.bytes)?;
        let signature = new.manifest.signature.as_bytes();
        self.write(&version.join("manifest.json.minisig"), signature)?;
        self.write(&version.join("index"), new.index)?;
        self.sync_dir(&version)?;
        if let Some(latest) = new.latest {
            self.draft_latest(draft.path(), new.name, latest)?;
        }
        self.carry_out(draft, new.name, Some(new.version), packs)
    }

    /// Replaces the pointer to the newest version.
    ///
    /// # Errors
    ///
    /// As [`WriteLock::publish`].
    pub fn replace_latest(&self, name: &ImageName, latest: &SignedFile) -> Result<(), StoreError> {
        let draft = self.draft()?;
        self.draft_latest(draft.path(), name, latest)?;
        self.carry_out(draft, name, None, FinishedPacks::default())
    }

    /// Replaces the signature of a manifest, whose bytes stay.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn replace_manifest_signature(
        &self,
        name: &ImageName,
        version: u64,
        signature: &str,
    ) -> Result<(), StoreError> {
        let manifest = layout::manifest_path(name, version);
        let path = self.store.path(&layout::signature_path(&manifest));
        self.replace_file(&path, signature.as_bytes())
    }

    /// Replaces the signature of the pointer to the newest version, whose bytes stay.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn replace_latest_signature(
        &self,
        name: &ImageName,
        signature: &str,
    ) -> Result<(), StoreError> {
        let latest = layout::signature_path(&layout::latest_path(name));
        self.replace_file(&self.store.path(&latest), signature.as_bytes())
    }

    /// Removes one version. Its packs stay until `gc` finds them unused.
    ///
    /// # Errors
    ///
    /// When it does not exist or cannot be removed.
    pub(super) fn remove_version_dir(
        &self,
        name: &ImageName,
        version: u64,
    ) -> Result<(), StoreError> {
        let dir = self.store.path(&layout::version_dir(name, version));
        let image = self.store.path("images").join(name.as_str());
        self.vanish(&dir, &image)
    }

    /// Removes an image with all its versions. Its packs stay until `gc` finds them unused.
    pub(super) fn remove_image_dir(&self, name: &ImageName) -> Result<(), StoreError> {
        let images = self.store.path("images");
        self.vanish(&images.join(name.as_str()), &images)
    }

    /// Takes a folder away in one step, then what was in it.
    fn vanish(&self, dir: &Path, parent: &Path) -> Result<(), StoreError> {
        let gone = self.store.disk.temporary(&self.store.path("images"));
        self.rename(dir, gone.path())?;
        self.sync_dir(parent)?;
        self.sync_dir(&self.store.path("images"))?;
        let disk = &self.store.disk;
        let removed = disk.remove_tree(gone.path());
        let path = gone.path().to_owned();
        // Not by dropping: that would hide an error.
        gone.keep();
        removed.map_err(|source| StoreError::at(&path, "removing", source))
    }

    /// Replaces one file by another in one step.
    pub(super) fn replace_file(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let dir = path.parent().unwrap_or(self.store.root());
        let temporary = self.store.disk.temporary(dir);
        self.write(temporary.path(), bytes)?;
        self.rename(temporary.path(), path)?;
        temporary.keep();
        self.sync_dir(dir)
    }

    fn draft(&self) -> Result<Temporary, StoreError> {
        let draft = self.store.disk.temporary(&self.store.path("images"));
        self.make_dir(draft.path())?;
        Ok(draft)
    }

    fn draft_latest(
        &self,
        draft: &Path,
        name: &ImageName,
        latest: &SignedFile,
    ) -> Result<(), StoreError> {
        self.write(&draft.join("latest.json"), &latest.bytes)?;
        let signature = latest.signature.as_bytes();
        self.write(&draft.join("latest.json.minisig"), signature)?;
        // Where there is no pointer yet, its signature goes first: without a pointer nobody asks for it.
        let both = match self.store.read_latest(name) {
            Ok(old) => format!("{}\n{}", latest.signature.trim_end(), old.signature),
            Err(_) => latest.signature.clone(),
        };
        // Old signatures of many keys: then a reader in between has to ask again.
        if both.len() <= MAX_SIGNATURE {
            self.write(&draft.join("both.minisig"), both.as_bytes())?;
        }
        Ok(())
    }

    /// Completes the draft; once it has its name, it happens, whoever dies.
    fn carry_out(
        &self,
        draft: Temporary,
        name: &ImageName,
        version: Option<u64>,
        packs: FinishedPacks,
    ) -> Result<(), StoreError> {
        let packs: Vec<(Temporary, Digest)> = packs.into_files().collect();
        let plan = Plan {
            name: name.clone(),
            version,
            packs: packs.iter().map(PlannedPack::new).collect(),
        };
        let path = draft.path().join("plan.json");
        let bytes = serde_json::to_vec(&plan)
            .map_err(|error| StoreError::at(&path, "writing", error.into()))?;
        self.write(&path, &bytes)?;
        self.sync_dir(draft.path())?;
        if !packs.is_empty() {
            self.sync_dir(&self.store.path("packs"))?;
        }
        self.rename(draft.path(), &self.plan_dir())?;
        draft.keep();
        for (file, _) in packs {
            file.keep();
        }
        self.sync_dir(&self.store.path("images"))?;
        self.finish(&plan)
    }

    fn plan_dir(&self) -> PathBuf {
        self.store.path("images").join(PLAN)
    }

    /// Every step may have been taken before.
    fn finish(&self, plan: &Plan) -> Result<(), StoreError> {
        let from = self.plan_dir();
        let images = self.store.path("images");
        let image = images.join(plan.name.as_str());
        self.move_packs(plan)?;
        self.make_dir(&image)?;
        self.sync_dir(&images)?;
        if let Some(version) = plan.version {
            let to = self.store.path(&layout::version_dir(&plan.name, version));
            self.move_if_there(&from.join("version"), &to)?;
            self.sync_dir(&image)?;
        }
        for (name, to) in [
            ("both.minisig", "latest.json.minisig"),
            ("latest.json", "latest.json"),
            ("latest.json.minisig", "latest.json.minisig"),
        ] {
            // Synced one by one: after a power cut, too, the signature must suit the pointer.
            if self.move_if_there(&from.join(name), &image.join(to))? {
                self.sync_dir(&image)?;
            }
        }
        self.vanish(&from, &images)
    }

    fn move_packs(&self, plan: &Plan) -> Result<(), StoreError> {
        let packs = self.store.path("packs");
        let places: Vec<(PathBuf, PathBuf)> = plan
            .packs
            .iter()
            // The plan may have been written by anyone who can write here: it must not lead away.
            .filter(|pack| pack.temporary.starts_with(TEMPORARY) && !pack.temporary.contains('/'))
            .map(|pack| {
                let to = self.store.path(&layout::pack_path(&pack.sha256));
                (packs.join(&pack.temporary), to)
            })
            .collect();
        if places.is_empty() {
            return Ok(());
        }
        let dirs: BTreeSet<&Path> = places.iter().filter_map(|(_, to)| to.parent()).collect();
        for dir in &dirs {
            self.make_dir(dir)?;
        }
        // Before anything moves into them.
        self.sync_dir(&packs)?;
        for (from, to) in &places {
            // A pack with this name has these bytes: replacing it changes nothing.
            self.move_if_there(from, to)?;
        }
        for dir in dirs {
            self.sync_dir(dir)?;
        }
        self.sync_dir(&packs)
    }

    /// Whether it was there.
    fn move_if_there(&self, from: &Path, to: &Path) -> Result<bool, StoreError> {
        match self.store.disk.rename(from, to) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StoreError::at(from, "renaming", source)),
        }
    }

    /// Finishes or removes what a writer that died has left.
    pub(super) fn recover(&self) -> Result<(), StoreError> {
        let images = self.store.path("images");
        let packs = self.store.path("packs");
        if self.plan_dir().is_dir() {
            let path = format!("images/{PLAN}/plan.json");
            let bytes = self.store.read_capped(&path, MAX_PLAN)?;
            let plan: Plan = serde_json::from_slice(&bytes).map_err(|error| {
                StoreError::at(&self.store.path(&path), "reading", error.into())
            })?;
            self.finish(&plan)?;
        }
        self.remove_temporary(&images)?;
        for image in dir_names(&images)? {
            let dir = images.join(image);
            self.remove_temporary(&dir)?;
            for version in dir_names(&dir)? {
                self.remove_temporary(&dir.join(version))?;
            }
        }
        for pack_dir in dir_names(&packs)? {
            self.remove_temporary(&packs.join(pack_dir))?;
        }
        self.remove_temporary(&packs)
    }

    fn remove_temporary(&self, dir: &Path) -> Result<(), StoreError> {
        for name in all_names(dir)? {
            if name.starts_with(TEMPORARY) {
                let path = dir.join(name);
                let removed = self.store.disk.remove_tree(&path);
                removed.map_err(|source| StoreError::at(&path, "removing", source))?;
            }
        }
        Ok(())
    }

    pub(super) fn make_dir(&self, dir: &Path) -> Result<(), StoreError> {
        let made = self.store.disk.create_dir(dir);
        made.map_err(|source| StoreError::at(dir, "creating", source))
    }

    pub(super) fn sync_dir(&self, dir: &Path) -> Result<(), StoreError> {
        let synced = self.store.disk.sync_dir(dir);
        synced.map_err(|source| StoreError::at(dir, "syncing", source))
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        let renamed = self.store.disk.rename(from, to);
        renamed.map_err(|source| StoreError::at(to, "renaming to", source))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.store.disk.write_file(path, bytes);
        written.map_err(|source| StoreError::at(path, "writing", source))
    }
}
