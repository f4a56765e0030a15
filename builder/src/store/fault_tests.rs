//! Every change to a store, ended at every operation it makes.
//!
//! Three ways of ending: the operation fails (a full disk, a bad sector); the writer is killed
//! (nothing of it happens any more, a write may be half done); the power is cut (also gone is
//! whatever was not synced: bytes of files, and names in folders). After each, a reader has to see
//! the store as it was or as it should become, whole; so has the next writer, who leaves no litter;
//! and doing the same once more has to succeed.

mod broken_disk;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sparetire_manifest::{Digest, ImageName, Timestamp, TrustedKeys, verify_latest};

use super::*;
use crate::import::{Input, Options, import_on};
use crate::progress::Progress;
use crate::release::Signing;
use crate::signing::{self, Password, SigningKey};
use crate::transfer::{self, Selection};
use broken_disk::{BrokenDisk, Ending};

const NOW: Timestamp = Timestamp::from_unix(1_795_305_240);

/// Keys and inputs, shared by all runs.
struct Site {
    dir: tempfile::TempDir,
    key: SigningKey,
    trusted: TrustedKeys,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("test.key");
        let (public, _) = signing::generate(&path, &Password::None).unwrap();
        let mut kernel = noise(40_000, 9);
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
        kernel[0x236..0x238].copy_from_slice(&0x3fu16.to_le_bytes());
        fs::write(dir.path().join("vmlinuz"), kernel).unwrap();
        Self {
            key: SigningKey::read(&path, &Password::None).unwrap(),
            trusted: TrustedKeys::parse([public.line.as_str()].into_iter()).unwrap(),
            dir,
        }
    }

    fn import(&self, store: &Store, name: &str, version: u64) -> anyhow::Result<()> {
        let initrd = self.dir.path().join(format!("initrd-{version}"));
        if !initrd.exists() {
            let mut bytes = noise(300_000, 5);
            bytes.extend(noise(30_000, version));
            fs::write(&initrd, bytes).unwrap();
        }
        let input = Input::LinuxNetboot {
            kernel: self.dir.path().join("vmlinuz"),
            initrd: vec![initrd],
        };
        let options = Options {
            name: name.parse().unwrap(),
            version: Some(version),
            label: None,
            description: None,
            valid: None,
            latest_valid: Duration::from_secs(86_400),
            cmdline: None,
            append: None,
            medium: None,
            placement: None,
            now: NOW,
            wait: false,
        };
        import_on(store, &input, &options, &self.key).map(drop)
    }

    fn signing(&self, now: Timestamp) -> Signing<'_> {
        Signing {
            key: &self.key,
            latest_valid: Duration::from_secs(86_400),
            now,
        }
    }

    /// What a reader sees: per image the version its pointer names, when that was signed, and the
    /// versions up to it. Panics where anything that is there does not hold.
    fn seen(&self, root: &Path, when: &str) -> BTreeMap<ImageName, (u64, u64, Vec<u64>)> {
        let mut seen = BTreeMap::new();
        let Ok(store) = Store::open(root) else {
            return seen;
        };
        for name in store.images().unwrap() {
            if !store.path(&format!("images/{name}/latest.json")).exists() {
                continue;
            }
            let file = store.read_latest(&name).unwrap();
            let latest = verify_latest(&file.bytes, &file.signature, &self.trusted, NOW, 0)
                .unwrap_or_else(|error| panic!("{when}: pointer of {name}: {error}"));
            let mut versions = store.versions(&name).unwrap();
            versions.retain(|version| *version <= latest.version);
            assert!(versions.contains(&latest.version), "{when}: {versions:?}");
            for version in &versions {
                whole(&store, &name, *version, &self.trusted)
                    .unwrap_or_else(|error| panic!("{when}: {name} {version}: {error:?}"));
            }
            seen.insert(name, (latest.version, latest.issued.unix(), versions));
        }
        seen
    }

    /// Ends `change` at every operation in every way.
    fn survives(&self, before: &Path, change: &dyn Fn(&Store) -> anyhow::Result<()>) {
        let run = |root: &Path, disk: Disk| -> anyhow::Result<()> {
            change(&Store::create_on(root, disk)?)
        };
        let good = copy_of(before);
        let counter = BrokenDisk::new(Ending::Killed, u64::MAX);
        run(good.path(), Disk::with(counter.clone())).unwrap();
        let operations = counter.operations();
        assert!(operations > 3, "{operations} operations");
        let (old, new) = (self.seen(before, "before"), self.seen(good.path(), "after"));
        assert_ne!(old, new, "the change is none that a reader sees");
        let (old_files, new_files) = (files(before), files(good.path()));

        for ending in [Ending::Error, Ending::Killed, Ending::PowerCut] {
            for at in 1..=operations {
                let when = format!("{ending:?} at operation {at} of {operations}");
                let copy = copy_of(before);
                let disk = BrokenDisk::new(ending, at);
                let result = run(copy.path(), Disk::with(disk.clone()));
                disk.end();
                let seen = self.seen(copy.path(), &when);
                assert!(seen == old || seen == new, "{when}: {seen:?}");
                if result.is_ok() {
                    assert!(seen == new, "{when}: said to be done: {seen:?}");
                }
                // The next writer, on a disk that works.
                let store = Store::create_on(copy.path(), Disk::default()).unwrap();
                drop(
                    store
                        .lock()
                        .unwrap_or_else(|error| panic!("{when}: {error:?}")),
                );
                let seen = self.seen(copy.path(), &when);
                assert!(seen == old || seen == new, "{when}, recovered: {seen:?}");
                for (path, digest) in files(copy.path()) {
                    let is_known = [&old_files, &new_files]
                        .iter()
                        .any(|files| files.get(&path) == Some(&digest));
                    // Signing twice gives two signatures; that each holds was seen above.
                    let is_signature = path.ends_with(".minisig")
                        && (old_files.contains_key(&path) || new_files.contains_key(&path));
                    // A hint for gc: as good before as after.
                    let is_hint = path == "packs/unreferenced.json" || path == ".lock";
                    assert!(is_known || is_signature || is_hint, "{when}: litter {path}");
                }
                if seen == old {
                    change(&store).unwrap_or_else(|error| panic!("{when}, again: {error:?}"));
                }
                assert_eq!(self.seen(copy.path(), &when), new, "{when}, again");
            }
        }
    }
}

/// Everything that belongs to a version holds.
fn whole(
    store: &Store,
    name: &ImageName,
    version: u64,
    trusted: &TrustedKeys,
) -> Result<(), CheckError> {
    // `verify_version` also wants each signature of latest.json to match, and while that is being
    // replaced there is one for the other pointer.
    let (_, manifest) = verify_documents(store, name, version, trusted, NOW)?;
    let index = store.index(&manifest)?;
    let mut packs = Packs::new(store);
    for (number, chunk) in index.chunks.iter().enumerate() {
        packs.read_checked(&index.packs, number, chunk)?;
    }
    index
        .packs
        .iter()
        .try_for_each(|pack| verify_pack(store, pack))
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(length)
    .collect()
}

fn copy_of(from: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let to = to.join(path.file_name().unwrap());
            if path.is_dir() {
                fs::create_dir(&to).unwrap();
                copy(&path, &to);
            } else {
                fs::copy(&path, &to).unwrap();
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy(from, to.path());
    to
}

/// Every file by its path.
fn files(root: &Path) -> BTreeMap<String, Digest> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.insert(name, Digest::of(&fs::read(&path).unwrap()));
            }
        }
    }
    found
}

fn image() -> ImageName {
    "small".parse().unwrap()
}

/// A store with the given versions of one image.
fn store_with(site: &Site, versions: &[u64]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    for version in versions {
        site.import(&store, "small", *version).unwrap();
    }
    dir
}

#[test]
fn a_first_import_that_ends_anywhere() {
    let site = Site::new();
    let before = tempfile::tempdir().unwrap();
    site.survives(before.path(), &|store| site.import(store, "small", 7));
}

#[test]
fn an_import_over_an_older_version_that_ends_anywhere() {
    let site = Site::new();
    let before = store_with(&site, &[1]);
    site.survives(before.path(), &|store| site.import(store, "small", 2));
}

#[test]
fn a_republication_that_ends_anywhere() {
    let site = Site::new();
    let before = store_with(&site, &[1, 2]);
    site.survives(before.path(), &|store| {
        let lock = store.lock()?;
        let progress = Progress::silent(0);
        site.signing(NOW)
            .republish(&lock, &image(), 1, Some(3), &site.trusted, Some(&progress))?;
        Ok(())
    });
}

#[test]
fn a_renewal_that_ends_anywhere() {
    let site = Site::new();
    let before = store_with(&site, &[1]);
    let later = NOW.plus(Duration::from_secs(3600));
    site.survives(before.path(), &|store| {
        let lock = store.lock()?;
        site.signing(later).renew(&lock, &image(), &site.trusted)?;
        Ok(())
    });
}

#[test]
fn a_removal_that_ends_anywhere() {
    let site = Site::new();
    let before = store_with(&site, &[1, 2]);
    site.survives(before.path(), &|store| {
        store.lock()?.remove(&image(), &[1], NOW)?;
        Ok(())
    });
    site.survives(before.path(), &|store| {
        store.lock()?.remove(&image(), &[1, 2], NOW)?;
        Ok(())
    });
}

/// A store with version 1, and one that has gone on to version 2.
fn behind_and_ahead(site: &Site) -> (tempfile::TempDir, tempfile::TempDir) {
    let ahead = store_with(site, &[1]);
    let behind = copy_of(ahead.path());
    let store = Store::open(ahead.path()).unwrap();
    site.import(&store, "small", 2).unwrap();
    (behind, ahead)
}

#[test]
fn a_sync_that_ends_anywhere() {
    let site = Site::new();
    let (behind, ahead) = behind_and_ahead(&site);
    for before in [&behind, &tempfile::tempdir().unwrap()] {
        site.survives(before.path(), &|store| {
            let from = Store::open(ahead.path())?;
            let all = [Selection::all(&from, &image())?];
            let lock = store.lock()?;
            transfer::to_folder(&from, &lock, &all, None, &Progress::silent(0)).map(drop)
        });
    }
}

#[test]
fn a_bundle_whose_reception_ends_anywhere() {
    let site = Site::new();
    let (behind, ahead) = behind_and_ahead(&site);
    let from = Store::open(ahead.path()).unwrap();
    let all = [Selection::all(&from, &image()).unwrap()];
    let mut bundle = Vec::new();
    transfer::export(&from, &all, &mut bundle, &Progress::silent(0)).unwrap();
    site.survives(behind.path(), &|store| {
        let lock = store.lock()?;
        let bundle = bundle.as_slice();
        transfer::receive(
            bundle,
            Some(&lock),
            &site.trusted,
            NOW,
            &Progress::silent(0),
        )
        .map(drop)
    });
}

#[test]
fn a_collection_that_ends_anywhere() {
    let site = Site::new();
    let before = store_with(&site, &[1, 2]);
    let store = Store::open(before.path()).unwrap();
    site.import(&store, "other", 9).unwrap();
    store
        .lock()
        .unwrap()
        .remove(&image(), &[1, 2], NOW)
        .unwrap();
    let kept = site.seen(before.path(), "before");
    let counter = BrokenDisk::new(Ending::Killed, u64::MAX);
    let collect = |root: &Path, disk: Disk| -> anyhow::Result<Collection> {
        let later = NOW.plus(Duration::from_secs(86_400));
        let store = Store::open_on(root, disk)?;
        Ok(store.lock()?.gc(later, Duration::from_secs(86_400))?)
    };
    let good = copy_of(before.path());
    let done = collect(good.path(), Disk::with(counter.clone())).unwrap();
    assert!(!done.removed.is_empty());
    let wanted: BTreeSet<String> = files(good.path()).into_keys().collect();
    for ending in [Ending::Error, Ending::Killed, Ending::PowerCut] {
        for at in 1..=counter.operations() {
            let when = format!("{ending:?} at operation {at}");
            let copy = copy_of(before.path());
            let disk = BrokenDisk::new(ending, at);
            // Whatever it says: what counts is what is left.
            let _ = collect(copy.path(), Disk::with(disk.clone()));
            disk.end();
            assert_eq!(site.seen(copy.path(), &when), kept, "{when}");
            collect(copy.path(), Disk::default()).unwrap();
            assert_eq!(site.seen(copy.path(), &when), kept, "{when}");
            let left: BTreeSet<String> = files(copy.path()).into_keys().collect();
            assert_eq!(left, wanted, "{when}");
        }
    }
}
