//! `manifest.json` and `latest.json`, format 1: what is read, what is written, what is refused.
//!
//! The golden files in `testdata` are written by hand from `docs/formats/manifest.md`. When a test here fails, the code is
//! wrong.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops where it fails"
)]

use proptest::prelude::*;
use serde_json::{Value, json};
use sparetire_manifest::{
    BootRecipe, Digest, Extent, Firmware, ImageKind, IndexRef, Latest, LinuxBoot, MAX_CMDLINE,
    MAX_MANIFEST, Manifest, Medium, NamedExtent, ParseError, Placement, Timestamp,
};

const GOLDEN: &[u8] = include_bytes!("../testdata/manifest.json");
const GOLDEN_LATEST: &[u8] = include_bytes!("../testdata/latest.json");

fn counted(first: u8) -> Digest {
    Digest::from_bytes(std::array::from_fn(|at| first + at as u8))
}

fn golden() -> Manifest {
    Manifest {
        format: 1,
        name: "debian-rescue".parse().unwrap(),
        version: 20_261_121_235_400,
        label: Some("Debian rescue".into()),
        description: Some("A live system.\nFor tests.".into()),
        kind: ImageKind::LinuxIso,
        created: Timestamp::from_unix(1_795_305_240),
        expires: Some(Timestamp::from_unix(1_795_305_240 + 365 * 86_400)),
        size: 1_048_576,
        sha256: counted(0),
        index: IndexRef {
            sha256: counted(0x20),
            size: 1000,
        },
        boot: BootRecipe::Linux(LinuxBoot {
            kernel: NamedExtent {
                path: "live/vmlinuz".into(),
                offset: 2048,
                length: 4096,
            },
            initrd: vec![NamedExtent {
                path: "live/initrd.img".into(),
                offset: 8192,
                length: 16_384,
            }],
            cmdline: "boot=live components quiet".into(),
            medium: Medium::LiveBoot,
            placement: Placement::Initramfs,
        }),
        min_ram: Some(2 << 30),
        firmware: vec![Firmware::Bios, Firmware::Uefi],
    }
}

/// The golden manifest with the value at `pointer` (RFC 6901) replaced; a missing field is added.
fn with(pointer: &str, value: Value) -> Vec<u8> {
    let mut manifest: Value = serde_json::from_slice(GOLDEN).unwrap();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    match manifest.pointer_mut(parent).unwrap() {
        Value::Object(fields) => {
            fields.insert(field.to_owned(), value);
        }
        Value::Array(items) => items[field.parse::<usize>().unwrap()] = value,
        _ => panic!("{parent} has no fields"),
    }
    serde_json::to_vec(&manifest).unwrap()
}

fn without(pointer: &str) -> Vec<u8> {
    let mut manifest: Value = serde_json::from_slice(GOLDEN).unwrap();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    manifest
        .pointer_mut(parent)
        .unwrap()
        .as_object_mut()
        .unwrap()
        .remove(field)
        .unwrap();
    serde_json::to_vec(&manifest).unwrap()
}

#[test]
fn golden_manifest_reads_and_writes_to_the_byte() {
    assert_eq!(Manifest::parse_unverified(GOLDEN).unwrap(), golden());
    assert_eq!(golden().to_json(), GOLDEN);
}

#[test]
fn golden_latest_reads_and_writes_to_the_byte() {
    let latest = Latest {
        format: 1,
        name: "debian-rescue".parse().unwrap(),
        version: 20_261_121_235_400,
        manifest: Digest::of(GOLDEN),
        issued: Timestamp::from_unix(1_795_305_240),
        expires: Timestamp::from_unix(1_795_305_240 + 30 * 86_400),
    };
    assert_eq!(Latest::parse_unverified(GOLDEN_LATEST).unwrap(), latest);
    assert_eq!(latest.to_json(), GOLDEN_LATEST);
}

#[test]
fn trusted_comments_name_purpose_image_and_version() {
    assert_eq!(
        golden().trusted_comment(),
        "sparetire manifest debian-rescue 20261121235400"
    );
    let latest = Latest::parse_unverified(GOLDEN_LATEST).unwrap();
    assert_eq!(
        latest.trusted_comment(),
        "sparetire latest debian-rescue 20261121235400"
    );
}

#[test]
fn optional_fields_may_be_missing() {
    for pointer in [
        "/label",
        "/description",
        "/expires",
        "/min_ram",
        "/firmware",
        "/boot/initrd",
        "/boot/medium",
        "/boot/placement",
    ] {
        let manifest = Manifest::parse_unverified(&without(pointer)).unwrap();
        assert_eq!(
            Manifest::parse_unverified(&manifest.to_json()).unwrap(),
            manifest,
            "{pointer}"
        );
    }
}

#[test]
fn every_other_field_is_needed() {
    for pointer in [
        "/format",
        "/name",
        "/version",
        "/kind",
        "/created",
        "/size",
        "/sha256",
        "/index",
        "/index/sha256",
        "/index/size",
        "/boot",
        "/boot/type",
        "/boot/kernel",
        "/boot/kernel/path",
        "/boot/kernel/offset",
        "/boot/kernel/length",
        "/boot/cmdline",
    ] {
        let error = Manifest::parse_unverified(&without(pointer)).unwrap_err();
        assert!(matches!(error, ParseError::Json(_)), "{pointer}: {error}");
    }
}

#[test]
fn ignores_hints_of_newer_writers() {
    assert_eq!(
        Manifest::parse_unverified(&with("/drivers", json!(["e1000e"]))).unwrap(),
        golden()
    );
    assert_eq!(
        Manifest::parse_unverified(&with("/boot/hint", json!({"a": [1]}))).unwrap(),
        golden()
    );
}

#[test]
fn newer_values_are_unsupported_by_name() {
    for (pointer, value, what, shown) in [
        ("/format", json!(2), "format", "2"),
        ("/format", json!(0), "format", "0"),
        ("/kind", json!("winpe-iso"), "kind", "winpe-iso"),
        ("/kind", json!("disk"), "kind", "disk"),
        ("/kind", json!("e\u{1b}[2J"), "kind", "e[2J"),
        ("/boot/type", json!("winpe"), "boot.type", "winpe"),
        ("/boot/medium", json!("anaconda"), "boot.medium", "anaconda"),
        ("/boot/placement", json!("nbd"), "boot.placement", "nbd"),
        (
            "/firmware/1",
            json!("uefi-secure-boot"),
            "firmware",
            "uefi-secure-boot",
        ),
    ] {
        match Manifest::parse_unverified(&with(pointer, value)).unwrap_err() {
            ParseError::Unsupported { what: w, found } => {
                assert_eq!((w, found.as_str()), (what, shown))
            }
            other => panic!("{pointer}: {other}"),
        }
    }
}

#[test]
fn format_is_judged_before_everything_else() {
    let error =
        Manifest::parse_unverified(br#"{"format": 2, "kind": {"new": "shape"}}"#).unwrap_err();
    assert!(
        matches!(error, ParseError::Unsupported { what: "format", .. }),
        "{error}"
    );
}

#[test]
fn refuses_values_outside_their_limits() {
    let kernel =
        |offset: u64, length: u64| json!({"path": "k", "offset": offset, "length": length});
    let whole = json!({"path": "i", "offset": 0, "length": 1_048_576});
    for (pointer, value) in [
        ("/name", json!("../../etc")),
        ("/version", json!(-1)),
        ("/version", json!(1.5)),
        ("/label", json!("a\u{1b}[2J")),
        ("/label", json!("two\nlines")),
        ("/label", json!("x".repeat(129))),
        ("/description", json!("a\u{7}")),
        ("/description", json!("x".repeat(4097))),
        ("/created", json!("2026-11-21 23:54")),
        ("/size", json!(0)),
        ("/size", json!((1u64 << 40) + 1)),
        ("/size", json!(u64::MAX)),
        ("/sha256", json!("00")),
        ("/index/size", json!(63)),
        ("/index/size", json!((256u64 << 20) + 1)),
        ("/firmware", json!(vec!["bios"; 9])),
        ("/boot/kernel", kernel(1_048_576, 1)),
        ("/boot/kernel", kernel(0, 1_048_577)),
        ("/boot/kernel", kernel(1_048_575, 2)),
        ("/boot/kernel", kernel(u64::MAX, 2)),
        ("/boot/kernel", kernel(u64::MAX, u64::MAX)),
        ("/boot/kernel", kernel(0, 0)),
        ("/boot/initrd", json!([whole])),
        (
            "/boot/initrd",
            json!(vec![json!({"path": "i", "offset": 0, "length": 1}); 17]),
        ),
        ("/boot/kernel/path", json!("")),
        ("/boot/kernel/path", json!("live/../../etc/shadow")),
        ("/boot/kernel/path", json!("//live")),
        ("/boot/kernel/path", json!("live/")),
        ("/boot/kernel/path", json!("./live")),
        ("/boot/kernel/path", json!("live\\vmlinuz")),
        ("/boot/kernel/path", json!("live\0")),
        ("/boot/kernel/path", json!("x".repeat(1025))),
        ("/boot/cmdline", json!("quiet\ninit=/bin/sh")),
        ("/boot/cmdline", json!("quiet\0")),
        ("/boot/cmdline", json!("quiet\tsplash")),
        ("/boot/cmdline", json!("caf\u{e9}")),
        ("/boot/cmdline", json!("\u{7f}")),
        ("/boot/cmdline", json!("x".repeat(MAX_CMDLINE + 1))),
        ("/kind", json!("linux-netboot")),
    ] {
        let error = Manifest::parse_unverified(&with(pointer, value.clone())).unwrap_err();
        assert!(
            !matches!(error, ParseError::Unsupported { .. }),
            "{pointer} {value}: {error}"
        );
    }
}

#[test]
fn limits_themselves_are_allowed() {
    for (pointer, value) in [
        ("/boot/cmdline", json!("x".repeat(MAX_CMDLINE))),
        ("/boot/cmdline", json!("")),
        (
            "/boot/kernel",
            json!({"path": "/casper/vmlinuz", "offset": 1_048_575, "length": 1}),
        ),
        ("/size", json!(1u64 << 40)),
        ("/version", json!(u64::MAX)),
    ] {
        Manifest::parse_unverified(&with(pointer, value)).unwrap();
    }
}

#[test]
fn refuses_the_same_field_twice() {
    let twice = String::from_utf8(GOLDEN.to_vec()).unwrap().replacen(
        "\"version\"",
        "\"version\": 1, \"version\"",
        1,
    );
    assert!(matches!(
        Manifest::parse_unverified(twice.as_bytes()),
        Err(ParseError::Json(_))
    ));
}

#[test]
fn refuses_files_that_are_too_long_or_too_deep() {
    let error = Manifest::parse_unverified(&vec![b'['; MAX_MANIFEST + 1]).unwrap_err();
    assert!(matches!(error, ParseError::TooLarge { .. }));
    let error = Manifest::parse_unverified(&vec![b'['; MAX_MANIFEST]).unwrap_err();
    assert!(matches!(error, ParseError::Json(_)));
}

#[test]
fn refuses_a_file_cut_at_any_length() {
    // Without the final line feed it is the same JSON.
    for length in 0..GOLDEN.len() - 1 {
        assert!(
            Manifest::parse_unverified(&GOLDEN[..length]).is_err(),
            "{length}"
        );
    }
    for length in 0..GOLDEN_LATEST.len() - 1 {
        assert!(
            Latest::parse_unverified(&GOLDEN_LATEST[..length]).is_err(),
            "{length}"
        );
    }
}

#[test]
fn refuses_a_latest_that_expires_before_it_was_issued() {
    let mut latest = Latest::parse_unverified(GOLDEN_LATEST).unwrap();
    latest.expires = latest.issued;
    let error = Latest::parse_unverified(&latest.to_json()).unwrap_err();
    assert!(matches!(
        error,
        ParseError::Field {
            field: "expires",
            ..
        }
    ));
}

#[test]
fn extent_is_the_place_without_the_name() {
    let BootRecipe::Linux(linux) = golden().boot;
    assert_eq!(
        linux.kernel.extent(),
        Extent {
            offset: 2048,
            length: 4096
        }
    );
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Manifest::parse_unverified(&bytes);
        let _ = Latest::parse_unverified(&bytes);
    }

    #[test]
    fn changed_bytes_give_an_error_or_a_manifest_within_its_limits(position in 0..GOLDEN.len(), with in any::<u8>()) {
        let mut changed = GOLDEN.to_vec();
        changed[position] = with;
        if let Ok(manifest) = Manifest::parse_unverified(&changed) {
            prop_assert!(manifest.check().is_ok());
            prop_assert_eq!(Manifest::parse_unverified(&manifest.to_json()).unwrap(), manifest);
        }
    }
}
