//! A signature file beside a manifest that was really signed, and texts that claim to be public keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sparetire_manifest::{Timestamp, TrustedKeys, verify_manifest};

const FILE: &[u8] = include_bytes!("../../../builder/crates/manifest/testdata/manifest.json");
const SIGNATURE: &str =
    include_str!("../../../builder/crates/manifest/testdata/manifest.json.minisig");
const KEY: &str = include_str!("../../../builder/crates/manifest/testdata/trusted.pub");

fuzz_target!(|text: &str| {
    let _ = TrustedKeys::parse([text].into_iter());
    let keys = TrustedKeys::parse([KEY].into_iter()).expect("the key is one");
    if verify_manifest(FILE, text, &keys, Timestamp::from_unix(1_795_305_240)).is_ok() {
        // Whoever finds another one has broken Ed25519, or our check. The first line is not signed.
        assert!(
            text.lines().skip(1).take(3).eq(SIGNATURE.lines().skip(1)),
            "{text:?}"
        );
    }
});
