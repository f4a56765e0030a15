//! A store survives writers that die, and refuses what is not one.

use sparetire_manifest::{Digest, ImageName, MAX_MANIFEST, PackRef, layout};

use super::*;

fn new_store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn name() -> ImageName {
    "small".parse().unwrap()
}

fn signed(text: &str) -> SignedFile {
    SignedFile {
        bytes: text.as_bytes().to_vec(),
        signature: format!("signature of {text}"),
    }
}

fn publish(lock: &WriteLock, version: u64) -> Result<(), StoreError> {
    publish_with(lock, version, b"chunk")
}

fn publish_with(lock: &WriteLock, version: u64, chunk: &[u8]) -> Result<(), StoreError> {
    let mut packs = lock.packs(1 << 20);
    packs.add(chunk).unwrap();
    let new = NewVersion {
        name: &name(),
        version,
        manifest: &signed(&format!("manifest {version}")),
        index: b"index",
        latest: Some(&signed(&format!("latest {version}"))),
    };
    lock.publish(packs.finish().unwrap(), &new)
}

fn tree(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                names.push(path.strip_prefix(dir).unwrap().display().to_string());
            }
        }
    }
    names.sort();
    names
}

#[test]
fn a_published_version_is_there_whole() {
    let (_dir, store) = new_store();
    let lock = store.lock().unwrap();
    publish(&lock, 1).unwrap();
    publish(&lock, 20).unwrap();
    assert_eq!(
        tree(store.root()),
        [
            ".lock",
            "images/small/1/index",
            "images/small/1/manifest.json",
            "images/small/1/manifest.json.minisig",
            "images/small/20/index",
            "images/small/20/manifest.json",
            "images/small/20/manifest.json.minisig",
            "images/small/latest.json",
            "images/small/latest.json.minisig",
            &layout::pack_path(&Digest::of(b"chunk")),
        ]
    );
    assert_eq!(store.versions(&name()).unwrap(), [1, 20]);
    assert_eq!(store.version(&name(), None).unwrap(), 20);
    assert_eq!(store.read_latest(&name()).unwrap().bytes, b"latest 20");
    let manifest = store.read_manifest(&name(), 1).unwrap();
    assert_eq!(manifest.signature, "signature of manifest 1");
}

#[test]
fn web_servers_may_read_everything() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, store) = new_store();
    let lock = store.lock().unwrap();
    publish(&lock, 1).unwrap();
    for file in tree(store.root()) {
        let mode = fs::metadata(store.path(&file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o444, 0o444, "{file} has mode {mode:o}");
    }
    let version = fs::metadata(store.path("images/small/1")).unwrap();
    assert_eq!(version.permissions().mode() & 0o555, 0o555);
}

#[test]
fn versions_are_never_replaced() {
    let (_dir, store) = new_store();
    let lock = store.lock().unwrap();
    publish(&lock, 1).unwrap();
    let before = tree(store.root());
    let error = publish_with(&lock, 1, b"other chunk").unwrap_err();
    assert!(matches!(
        error,
        StoreError::VersionExists { version: 1, .. }
    ));
    assert_eq!(tree(store.root()), before);
}

#[test]
fn two_writers_do_not_meet() {
    let (_dir, store) = new_store();
    let lock = store.lock().unwrap();
    assert!(matches!(store.lock(), Err(StoreError::Busy { .. })));
    drop(lock);
    store.lock().unwrap();
}

#[test]
fn what_a_dead_writer_left_is_removed() {
    let (_dir, store) = new_store();
    publish(&store.lock().unwrap(), 1).unwrap();
    let before = tree(store.root());
    fs::write(store.path("packs/.sparetire-abc"), "half a pack").unwrap();
    fs::create_dir_all(store.path("packs/ab")).unwrap();
    fs::write(store.path("packs/ab/.sparetire-abc"), "half a pack").unwrap();
    fs::create_dir(store.path("images/small/.sparetire-xyz")).unwrap();
    fs::create_dir_all(store.path("images/.sparetire-1-2/version")).unwrap();
    fs::write(store.path("images/small/.sparetire-xyz/index"), "half").unwrap();
    assert_eq!(
        store.versions(&name()).unwrap(),
        [1],
        "readers pass it over"
    );
    drop(store.lock().unwrap());
    assert_eq!(tree(store.root()), before);
}

#[test]
fn packs_are_cut_at_the_cap_and_named_by_their_digest() {
    let (_dir, store) = new_store();
    let lock = store.lock().unwrap();
    let mut packs = lock.packs(10);
    let at = |pack, offset| Addition { pack, offset };
    assert_eq!(packs.add(b"aaaaaa").unwrap(), at(0, 0));
    assert_eq!(packs.add(b"bbbb").unwrap(), at(0, 6));
    assert_eq!(packs.add(b"c").unwrap(), at(1, 0));
    // Longer than a pack may be: alone in one.
    assert_eq!(packs.add(b"dddddddddddd").unwrap(), at(2, 0));
    let finished = packs.finish().unwrap();
    let refs: Vec<PackRef> = finished.refs().collect();
    let new = NewVersion {
        name: &name(),
        version: 1,
        manifest: &signed("manifest"),
        index: b"index",
        latest: None,
    };
    lock.publish(finished, &new).unwrap();
    let finished = refs;
    let lengths: Vec<u64> = finished.iter().map(|pack| pack.length).collect();
    assert_eq!(lengths, [10, 1, 12]);
    let bytes = fs::read(store.path(&layout::pack_path(&finished[0].sha256))).unwrap();
    assert_eq!(bytes, b"aaaaaabbbb");
    assert_eq!(Digest::of(&bytes), finished[0].sha256);
}

#[test]
fn unfinished_packs_leave_nothing() {
    let (_dir, store) = new_store();
    let lock = store.lock().unwrap();
    let mut packs = lock.packs(4);
    packs.add(b"aaaa").unwrap();
    packs.add(b"bbbb").unwrap();
    drop(packs);
    assert_eq!(tree(store.root()), [".lock"]);
    let mut packs = lock.packs(4);
    packs.add(b"aaaa").unwrap();
    drop(packs.finish().unwrap());
    assert_eq!(tree(store.root()), [".lock"]);
}

#[test]
fn only_a_store_is_opened_and_only_an_empty_folder_becomes_one() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        Store::open(dir.path()),
        Err(StoreError::NoStore { .. })
    ));
    fs::write(dir.path().join("letter.txt"), "dear").unwrap();
    assert!(matches!(
        Store::create(dir.path()),
        Err(StoreError::NotEmpty { .. })
    ));
    assert_eq!(tree(dir.path()), ["letter.txt"]);
    fs::remove_file(dir.path().join("letter.txt")).unwrap();
    Store::create(dir.path()).unwrap();
    Store::create(dir.path()).unwrap();
}

#[test]
fn foreign_names_are_no_images_and_no_versions() {
    let (_dir, store) = new_store();
    publish(&store.lock().unwrap(), 7).unwrap();
    for foreign in [
        "images/Big",
        "images/..x",
        "images/small/07",
        "images/small/-1",
        "images/small/new",
    ] {
        fs::create_dir_all(store.path(foreign)).unwrap();
    }
    assert_eq!(store.images().unwrap(), [name()]);
    assert_eq!(store.versions(&name()).unwrap(), [7]);
}

#[test]
fn a_file_longer_than_its_kind_may_be_is_not_read() {
    let (_dir, store) = new_store();
    publish(&store.lock().unwrap(), 1).unwrap();
    fs::write(
        store.path("images/small/1/manifest.json"),
        vec![b' '; MAX_MANIFEST + 1],
    )
    .unwrap();
    let error = store.read_manifest(&name(), 1).unwrap_err();
    assert!(matches!(error, StoreError::TooLong { .. }), "{error}");
}
