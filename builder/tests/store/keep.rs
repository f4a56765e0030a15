//! What goes, what stays, and who still believes it.

use std::fs;
use std::time::Duration;

use sparetire_builder::exit::ExitCode;
use sparetire_manifest::{Timestamp, TrustedKeys, layout, verify_latest, verify_manifest};

use super::{Bench, files};

fn packs(bench: &Bench) -> usize {
    let files = files(&bench.path("store"));
    files.keys().filter(|path| path.ends_with(".pack")).count()
}

#[test]
fn the_newest_version_goes_only_with_the_whole_image() {
    let bench = Bench::new();
    for version in 1..=3 {
        bench.import("small", version);
    }
    let before = files(&bench.path("store"));
    assert_eq!(
        bench.code("image remove small --version 3 --store @store"),
        ExitCode::Refused
    );
    assert_eq!(
        bench.code("image remove small --version 9 --store @store"),
        ExitCode::Failed
    );
    assert_eq!(
        bench.code("image remove none --all --store @store"),
        ExitCode::Failed
    );
    bench.run("image remove small --version 1 --dry-run --store @store");
    assert_eq!(files(&bench.path("store")), before, "nothing was to change");
    bench.run("image remove small --version 1 --store @store");
    assert_eq!(bench.versions("store", "small"), [2, 3]);
    bench.run("image remove small --keep 1 --store @store");
    bench.run("image remove small --keep 5 --store @store");
    assert_eq!(bench.versions("store", "small"), [3]);
    bench.run("image verify small --store @store --key @a.pub");
    bench.run("image remove small --all --store @store");
    assert!(!bench.path("store/images/small").exists());
}

#[test]
fn a_newest_version_that_is_no_good_is_withdrawn_by_republishing_an_older_one() {
    let bench = Bench::new();
    bench.import("small", 1);
    bench.import("small", 2);
    assert_eq!(
        bench.code("image republish small --version 1 --new-version 2 --store @store --key @a.key"),
        ExitCode::Refused
    );
    bench.run("image republish small --version 1 --new-version 3 --store @store --key @a.key");
    bench.run("image remove small --version 2 --store @store");
    let store = bench.store("store");
    let name = "small".parse().unwrap();
    assert_eq!(store.latest(&name).unwrap().version, 3);
    let manifest = |version| store.manifest(&name, version).unwrap();
    assert_eq!(manifest(3).sha256, manifest(1).sha256);
    bench.run("image verify --all --store @store --key @a.pub");
}

#[test]
fn packs_outlive_the_versions_that_needed_them_by_the_grace_period() {
    let bench = Bench::new();
    bench.import("small", 1);
    bench.import("small", 2);
    bench.import("other", 5);
    let all = packs(&bench);
    bench.run("image remove small --all --store @store");
    bench.run("image gc --store @store");
    assert_eq!(packs(&bench), all, "a reader may be at it");
    bench.run("image gc --grace 0 --dry-run --store @store");
    assert_eq!(packs(&bench), all);
    let store = bench.store("store");
    let lock = store.lock().unwrap();
    let day = Duration::from_secs(86_400);
    let now = Timestamp::from(std::time::SystemTime::now());
    let done = lock.gc(now.plus(day / 2), day).unwrap();
    assert_eq!(
        (done.removed.len(), done.waiting.len()),
        (0, all - done.kept)
    );
    // Counted from the removal, not from the first `gc` that saw it.
    let done = lock.gc(now.plus(day), day).unwrap();
    assert!(!done.removed.is_empty());
    assert!(done.waiting.is_empty());
    assert_eq!(packs(&bench), done.kept);
    drop(lock);
    bench.run("image verify other --store @store --key @a.pub");
    assert!(!bench.path("store/packs/unreferenced.json").exists());
}

#[test]
fn nothing_is_collected_while_a_version_cannot_be_read() {
    let bench = Bench::new();
    bench.import("small", 1);
    bench.import("other", 2);
    bench.run("image remove other --all --store @store");
    fs::write(bench.path("store/images/small/1/index"), "damaged").unwrap();
    let before = packs(&bench);
    assert_eq!(
        bench.code("image gc --grace 0 --store @store"),
        ExitCode::Failed
    );
    assert_eq!(packs(&bench), before);
    // And removing that very version is a way out.
    bench.run("image remove small --all --store @store");
    bench.run("image gc --grace 0 --store @store");
    assert_eq!(packs(&bench), 0);
}

#[test]
fn repacking_frees_packs_that_are_mostly_unused() {
    let bench = Bench::new();
    bench.import("small", 1);
    // Shares a quarter of the first pack.
    let mut initrd = super::noise(400_000, 7);
    initrd.truncate(150_000);
    initrd.extend(super::noise(500_000, 77));
    fs::write(bench.path("initrd"), initrd).unwrap();
    bench.run(
        "image import --name small --kind linux-netboot --kernel @vmlinuz --initrd @initrd --version 2 \
         --store @store --key @a.key",
    );
    let index_before = bench.store("store");
    let name = "small".parse().unwrap();
    let index = index_before
        .index(&index_before.manifest(&name, 2).unwrap())
        .unwrap();
    assert!(
        index.packs.len() > 1,
        "the second version shares nothing with the first"
    );
    bench.run("image republish small --repack --new-version 3 --store @store --key @a.key");
    bench.run("image remove small --keep 1 --store @store");
    bench.run("image gc --grace 0 --store @store");
    bench.run("image verify small --store @store --key @a.pub");
    let used: u64 = bench
        .store("store")
        .packs()
        .unwrap()
        .iter()
        .map(|pack| pack.length)
        .sum();
    let manifest = index_before.manifest(&name, 3).unwrap();
    let index = index_before.index(&manifest).unwrap();
    let live: u64 = index
        .chunks
        .iter()
        .filter_map(|chunk| chunk.stored())
        .map(|(.., length)| u64::from(length))
        .sum();
    assert!(used <= live + 1000, "{used} bytes for {live}");
}

#[test]
fn renewing_moves_the_date_and_nothing_else() {
    let bench = Bench::new();
    bench.import("small", 1);
    let store = bench.store("store");
    let name = "small".parse().unwrap();
    let old = store.latest(&name).unwrap();
    bench.run("image renew --latest-days 900 --store @store --key @a.key");
    let new = store.latest(&name).unwrap();
    assert_eq!((new.version, new.manifest), (old.version, old.manifest));
    assert!(new.expires > old.expires);
    bench.run("image verify small --store @store --key @a.pub");
}

#[test]
fn what_no_trusted_key_signed_is_not_signed_again() {
    let bench = Bench::new();
    bench.import("small", 1);
    let before = files(&bench.path("store"));
    for command in ["renew", "resign", "republish small"] {
        let line = format!("image {command} --store @store --key @b.key");
        assert_eq!(bench.code(&line), ExitCode::Verification, "{command}");
    }
    assert_eq!(files(&bench.path("store")), before);
}

/// Whether a reader with these keys, as they stand in a config slot, believes both signed files.
fn believes(bench: &Bench, keys: &[&str]) -> bool {
    let keys: Vec<String> = keys
        .iter()
        .map(|key| fs::read_to_string(bench.path(key)).unwrap())
        .collect();
    let keys = TrustedKeys::parse(keys.iter().map(String::as_str)).unwrap();
    let store = bench.store("store");
    let name = "small".parse().unwrap();
    let now = Timestamp::from(std::time::SystemTime::now());
    let latest = store.read_latest(&name).unwrap();
    let latest = verify_latest(&latest.bytes, &latest.signature, &keys, now, 0);
    latest.is_ok_and(|latest| {
        let manifest = store.read_manifest(&name, latest.version).unwrap();
        verify_manifest(&manifest.bytes, &manifest.signature, &keys, now).is_ok()
    })
}

#[test]
fn keys_change_with_an_overlap() {
    let bench = Bench::new();
    bench.import("small", 1);
    let old_id = fs::read_to_string(bench.path("a.pub")).unwrap();
    let old_id = old_id
        .lines()
        .next()
        .unwrap()
        .rsplit(' ')
        .next()
        .unwrap()
        .to_owned();
    bench.run("key rotate --key @a.key --no-password");
    let (old_key, old_pub) = (format!("a.{old_id}.key"), format!("a.{old_id}.pub"));
    let (old, new) = (&old_pub[..], "a.pub");
    assert!(believes(&bench, &[old]) && !believes(&bench, &[new]));

    // What is there gets the new key's signature beside the old one's.
    bench.run(&format!(
        "image resign --store @store --key @a.key --trust-key @{old_pub}"
    ));
    for keys in [&[old][..], &[new], &[old, new]] {
        assert!(believes(&bench, keys), "{keys:?}");
    }
    bench.run(&format!(
        "image verify small --store @store --key @a.pub --key @{old_pub}"
    ));

    // So has what comes while both keys sign, and what is renewed.
    let both = format!("--key @a.key --key @{old_key}");
    bench.try_import("small", 2, &both).unwrap();
    bench.run(&format!("image renew --store @store {both}"));
    for keys in [&[old][..], &[new], &[old, new]] {
        assert!(believes(&bench, keys), "{keys:?}");
    }
    bench.run("image verify --all --store @store --key @a.pub");

    // The end: the old key is retired.
    bench.run("image resign --only --store @store --key @a.key");
    assert!(!believes(&bench, &[old]) && believes(&bench, &[new]));
    bench.run("image verify --all --store @store --key @a.pub");
    let signature = layout::signature_path(&layout::latest_path(&"small".parse().unwrap()));
    let text = fs::read_to_string(bench.path("store").join(signature)).unwrap();
    assert_eq!(text.lines().count(), 4);
    assert!(
        bench.path(&old_key).exists(),
        "a secret key is never removed"
    );
}

#[test]
fn a_rotation_that_was_interrupted_loses_no_key() {
    let bench = Bench::new();
    let public = fs::read(bench.path("a.pub")).unwrap();
    // As if it had died after making the new pair.
    bench.run("key generate --key @a.new.key --no-password");
    assert_eq!(
        bench.code("key rotate --key @a.key --no-password"),
        ExitCode::Refused
    );
    assert_eq!(fs::read(bench.path("a.pub")).unwrap(), public);
}
