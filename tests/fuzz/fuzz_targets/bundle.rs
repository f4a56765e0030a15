//! Bundles as `image import` takes them in: a tar file of signed manifests, indexes and packs. Nothing is written.
//!
//! The key signed the seed and was thrown away: signed parts stay as they are, and what is tried is all around them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sparetire_builder::progress::Progress;
use sparetire_builder::transfer;
use sparetire_manifest::{Timestamp, TrustedKeys};

const KEY: &str = "RWTSR6zJTiZBNhcUQTAS/HkiJchidLClriKZcUplNqDDLM8BwkV/aHd+";

fuzz_target!(|bytes: &[u8]| {
    let keys = TrustedKeys::parse([KEY].into_iter()).expect("the key is one");
    let now = Timestamp::from_unix(1_800_000_000);
    let silent = Progress::silent(0);
    let Ok(received) = transfer::receive(bytes, None, &keys, now, &silent) else {
        return;
    };
    for version in received.versions {
        assert_eq!((version.name.as_str(), version.version), ("tiny", 1));
    }
});
