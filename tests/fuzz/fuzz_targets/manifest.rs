//! `manifest.json`: what is read is within its limits, and reads the same after writing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sparetire_manifest::Manifest;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse_unverified(bytes) {
        manifest.check().expect("readers check");
        let again =
            Manifest::parse_unverified(&manifest.to_json()).expect("what we write, we read");
        assert_eq!(again, manifest);
    }
});
