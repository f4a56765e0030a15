//! Bundles, and other folders.

use std::fs;

use sparetire_builder::exit::ExitCode;

use super::{Bench, files};

fn two_images() -> Bench {
    let bench = Bench::new();
    bench.import("small", 1);
    bench.import("small", 2);
    bench.import("other", 5);
    bench
}

#[test]
fn a_bundle_carries_versions_to_another_store() {
    let bench = two_images();
    bench.run("image export small other --all -o @all.tar --store @store");
    assert_eq!(
        bench.code("image export small -o @all.tar --store @store"),
        ExitCode::Refused
    );
    bench.run("image import @all.tar --dry-run --store @copy --trust-key @a.pub");
    assert!(!bench.path("copy").exists());
    bench.run("image import @all.tar --store @copy --trust-key @a.pub");
    assert_eq!(files(&bench.path("copy")), files(&bench.path("store")));
    bench.run("image verify --all --store @copy --key @a.pub");
    // Again: nothing new.
    bench.run("image import @all.tar --store @copy --trust-key @a.pub");
    assert_eq!(files(&bench.path("copy")), files(&bench.path("store")));
}

#[test]
fn an_unpacked_bundle_is_a_store() {
    let bench = two_images();
    bench.run("image export small -o @new.tar --store @store");
    let file = fs::File::open(bench.path("new.tar")).unwrap();
    tar::Archive::new(file)
        .unpack(bench.path("unpacked"))
        .unwrap();
    bench.run("image verify small --store @unpacked --key @a.pub");
    assert_eq!(bench.versions("unpacked", "small"), [2]);
}

#[test]
fn a_bundle_does_not_lead_back_and_does_not_stand_alone_without_a_pointer() {
    let bench = two_images();
    bench.run("image export small --version 1 -o @old.tar --store @store");
    assert_eq!(
        bench.code("image import @old.tar --store @copy --trust-key @a.pub"),
        ExitCode::Refused
    );
    bench.run("image export small -o @new.tar --store @store");
    bench.run("image import @new.tar --store @copy --trust-key @a.pub");
    // Into a store that knows a newer one, an older version may come.
    bench.run("image import @old.tar --store @copy --trust-key @a.pub");
    assert_eq!(bench.versions("copy", "small"), [1, 2]);
    bench.import("small", 3);
    assert_eq!(
        bench.code("image import @new.tar --store @store --trust-key @a.pub"),
        ExitCode::Refused
    );
}

#[test]
fn nothing_of_a_bundle_that_is_not_whole_becomes_visible() {
    let bench = two_images();
    bench.run("image export small --all -o @all.tar --store @store");
    let whole = fs::read(bench.path("all.tar")).unwrap();
    assert_eq!(
        bench.code("image import @all.tar --store @copy --trust-key @b.pub"),
        ExitCode::Verification
    );
    let visible = |bench: &Bench| {
        let copy = bench.path("copy/images");
        copy.exists() && fs::read_dir(copy).unwrap().next().is_some()
    };
    assert!(!visible(&bench));
    // Cut at many lengths, and changed at many places.
    let last = whole.len() - 2048;
    for at in (600..last).step_by(last / 40) {
        fs::write(bench.path("bad.tar"), &whole[..at]).unwrap();
        assert!(
            bench
                .try_run("image import @bad.tar --store @copy --trust-key @a.pub")
                .is_err(),
            "cut at {at}"
        );
        assert!(!visible(&bench), "cut at {at}");
    }
    // Each member's content, in the middle.
    let mut archive = tar::Archive::new(&whole[..]);
    let places: Vec<(u64, u64)> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.raw_file_position(), entry.size()))
        .collect();
    assert!(places.len() > 10);
    for (start, length) in places {
        let mut bad = whole.clone();
        let at = usize::try_from(start + length / 2).unwrap();
        bad[at] ^= 4;
        fs::write(bench.path("bad.tar"), &bad).unwrap();
        // A pack that arrived whole before would not be read again.
        fs::remove_dir_all(bench.path("copy")).unwrap();
        let result = bench.try_run("image import @bad.tar --store @copy --trust-key @a.pub");
        assert!(result.is_err(), "byte {at} changed");
        assert!(!visible(&bench), "byte {at} changed");
    }
    // What is left is no hindrance.
    bench.run("image import @all.tar --store @copy --trust-key @a.pub");
    assert_eq!(bench.versions("copy", "small"), [1, 2]);
    bench.run("image verify --all --store @copy --key @a.pub");
}

#[test]
fn members_that_belong_to_no_bundle_end_it() {
    let bench = two_images();
    bench.run("image export small -o @new.tar --store @store");
    let whole = fs::read(bench.path("new.tar")).unwrap();
    for path in [
        "packs/../../escaped",
        "/etc/escaped",
        "images/small/latest.json",
        "packs/aa/aa.pack",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        // `set_path` would refuse these.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        // After the first member, which is a header and one block.
        let mut bad = whole[..1024].to_vec();
        bad.extend(header.as_bytes());
        bad.extend(b"evil");
        bad.resize(2048, 0);
        bad.extend(&whole[1024..]);
        fs::write(bench.path("bad.tar"), bad).unwrap();
        let result = bench.try_run("image import @bad.tar --store @copy --trust-key @a.pub");
        assert!(result.is_err(), "{path}");
        assert!(!bench.path("escaped").exists());
    }
}

#[test]
fn the_longest_paths_of_a_store_fit_and_longer_ones_end_a_bundle() {
    let bench = Bench::new();
    let name = "n".repeat(64);
    bench.import(&name, 20_261_122_093_000);
    bench.run(&format!("image export {name} -o @new.tar --store @store"));
    bench.run("image import @new.tar --store @copy --trust-key @a.pub");
    assert_eq!(files(&bench.path("copy")), files(&bench.path("store")));

    let whole = fs::read(bench.path("new.tar")).unwrap();
    let path = vec![b'a'; 1 << 20];
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(path.len() as u64);
    header.set_cksum();
    let mut bad = whole[..1024].to_vec();
    bad.extend(header.as_bytes());
    bad.extend(path);
    bad.extend(&whole[1024..]);
    fs::write(bench.path("bad.tar"), bad).unwrap();
    let error = bench
        .try_run("image import @bad.tar --store @other --trust-key @a.pub")
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("longer than 4096"),
        "{error:#}"
    );
}

#[test]
fn a_folder_follows_the_store() {
    let bench = two_images();
    bench.run("image sync @copy --dry-run --store @store");
    assert!(!bench.path("copy").exists());
    bench.run("image sync @copy --store @store");
    assert_eq!(files(&bench.path("copy")), files(&bench.path("store")));
    bench.import("small", 3);
    bench.run("image renew other --store @store --key @a.key --latest-days 700");
    bench.run("image sync @copy --store @store");
    assert_eq!(files(&bench.path("copy")), files(&bench.path("store")));
    bench.run("image remove small --keep 1 --store @store");
    bench.run("image remove other --all --store @store");
    bench.run("image gc --grace 0 --store @store");
    bench.run("image sync @copy --store @store");
    assert_eq!(
        bench.versions("copy", "small"),
        [1, 2, 3],
        "nothing goes unasked"
    );
    bench.run("image sync @copy --delete --store @store");
    assert_eq!(bench.versions("copy", "small"), [3]);
    let of = |store: &str| {
        let mut files = files(&bench.path(store));
        files.retain(|path, _| path.starts_with("images"));
        files
    };
    assert_eq!(of("copy"), of("store"));
    // Packs go later: somebody may be reading.
    assert_ne!(files(&bench.path("copy")), files(&bench.path("store")));
    bench.run("image sync @copy --delete --grace 0 --store @store");
    assert_eq!(files(&bench.path("copy")), files(&bench.path("store")));
}

#[test]
fn a_folder_that_is_ahead_or_different_is_left_alone() {
    let bench = two_images();
    bench.run("image sync @copy --store @store");
    // The same number, signed again with other contents: two stores that went different ways.
    bench.run("image republish small --version 1 --new-version 9 --store @copy --key @a.key");
    assert_eq!(
        bench.code("image sync @copy --store @store"),
        ExitCode::Refused
    );
    bench.import("small", 9);
    let before = files(&bench.path("copy"));
    assert_eq!(
        bench.code("image sync @copy --store @store"),
        ExitCode::Refused
    );
    let mut after = files(&bench.path("copy"));
    after.retain(|path, _| before.contains_key(path));
    assert_eq!(after, before);
    assert_eq!(
        bench.code("image sync @store --store @store"),
        ExitCode::Usage
    );
}

#[test]
fn a_damaged_pack_is_not_passed_on() {
    let bench = Bench::new();
    bench.import("small", 1);
    let store = files(&bench.path("store"));
    let (pack, bytes) = store
        .iter()
        .find(|(path, _)| path.ends_with(".pack"))
        .unwrap();
    let mut bytes = bytes.clone();
    bytes[1000] ^= 1;
    fs::write(bench.path("store").join(pack), bytes).unwrap();
    assert_eq!(
        bench.code("image sync @copy --store @store"),
        ExitCode::Verification
    );
    assert!(!bench.path("copy/images/small").exists());
    assert_eq!(
        bench.code("image export small -o @x.tar --store @store"),
        ExitCode::Verification
    );
    assert!(!bench.path("x.tar").exists());
}
