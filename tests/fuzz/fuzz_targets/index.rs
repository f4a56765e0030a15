//! The chunk index: what is read is sound, and reads the same after writing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sparetire_manifest::Index;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(index) = Index::parse(bytes) {
        index.check().expect("readers check");
        assert_eq!(
            Index::parse(&index.emit()).expect("what we write, we read"),
            index
        );
        let end = index
            .placed()
            .last()
            .map_or(0, |(offset, chunk)| offset + u64::from(chunk.length));
        assert_eq!(end, index.image_size);
    }
});
