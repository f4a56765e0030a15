//! `latest.json`: what is read is within its limits, and reads the same after writing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sparetire_manifest::Latest;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(latest) = Latest::parse_unverified(bytes) {
        latest.check().expect("readers check");
        let again = Latest::parse_unverified(&latest.to_json()).expect("what we write, we read");
        assert_eq!(again, latest);
    }
});
