//! `verify` notices every changed bit of every file, and says where.

use std::fs;

use sparetire_builder::store::verify_version;
use sparetire_manifest::{Timestamp, TrustedKeys};

use super::{Bench, files, noise};

#[test]
fn every_changed_byte_is_found_and_its_file_named() {
    let bench = Bench::new();
    // Small: one or two chunks, so that each byte can have its turn.
    fs::write(
        bench.path("initrd"),
        [noise(9_000, 4), b"again and again\n".repeat(1_500)].concat(),
    )
    .unwrap();
    let kernel = fs::read(bench.path("vmlinuz")).unwrap();
    fs::write(bench.path("vmlinuz"), &kernel[..1024]).unwrap();
    bench.run(
        "image import --name small --kind linux-netboot --kernel @vmlinuz --initrd @initrd --version 7 \
         --store @store --key @a.key",
    );
    let key = fs::read_to_string(bench.path("a.pub")).unwrap();
    let keys = TrustedKeys::parse([key.as_str()].into_iter()).unwrap();
    let store = bench.store("store");
    let name = "small".parse().unwrap();
    let now = Timestamp::from(std::time::SystemTime::now());
    let check = || verify_version(&store, &name, 7, &keys, now, |_, _| {}).map(drop);
    check().unwrap();

    let mut changed = 0u32;
    let all = files(&bench.path("store"));
    assert_eq!(all.len(), 6, "{:?}", all.keys());
    for (path, bytes) in &all {
        let is_pack = path.ends_with(".pack");
        for (at, byte) in bytes.iter().enumerate() {
            // A bit of each byte in turn; of a pack, whose bytes are all alike, every seventh byte.
            if is_pack && at % 7 != 0 {
                continue;
            }
            let mut bytes = bytes.clone();
            bytes[at] = byte ^ 1 << (at % 8);
            fs::write(bench.path("store").join(path), &bytes).unwrap();
            let error = check().expect_err(&format!("{path}: byte {at} is changed"));
            let text = format!("{:#}", anyhow::Error::new(error));
            let file = path.rsplit('/').next().unwrap();
            let digest = file.strip_suffix(".pack").unwrap_or(file);
            // A signature that does not match says so of the file it is beside.
            let named = digest.strip_suffix(".minisig").unwrap_or(digest);
            assert!(text.contains(named), "{path}, byte {at}: {text}");
            if is_pack {
                assert!(text.contains("chunk"), "{path}, byte {at}: {text}");
            }
            changed += 1;
        }
        // A byte less, and a byte more.
        for bytes in [&bytes[..bytes.len() - 1], &[&bytes[..], b"x"].concat()] {
            fs::write(bench.path("store").join(path), bytes).unwrap();
            assert!(check().is_err(), "{path}: {} bytes", bytes.len());
        }
        fs::write(bench.path("store").join(path), bytes).unwrap();
    }
    check().unwrap();
    assert!(changed > 3_000, "{changed}");
}
