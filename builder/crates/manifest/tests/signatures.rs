//! Signed files, version 1: which are believed, and how each of the others is refused.
//!
//! Keys and signatures in `testdata` were made by Debian's minisign, not by us. When a test here fails, the code is wrong.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use proptest::prelude::*;
use sparetire_manifest::{
    Digest, KeyError, MAX_MANIFEST, MAX_SIGNATURE, ParseError, Timestamp, TrustedKeys, VerifyError,
    verify_latest, verify_manifest,
};

const MANIFEST: &[u8] = include_bytes!("../testdata/manifest.json");
const MANIFEST_SIGNATURE: &str = include_str!("../testdata/manifest.json.minisig");
const LATEST: &[u8] = include_bytes!("../testdata/latest.json");
const LATEST_SIGNATURE: &str = include_str!("../testdata/latest.json.minisig");
const TRUSTED: &str = include_str!("../testdata/trusted.pub");
const OTHER: &str = include_str!("../testdata/other.pub");
const VERSION: u64 = 20_261_121_235_400;

fn keys(texts: &[&str]) -> TrustedKeys {
    TrustedKeys::parse(texts.iter().copied()).unwrap()
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-12-01T00:00:00Z")
}

fn refusal(bytes: &[u8], signature: &str) -> VerifyError {
    verify_manifest(bytes, signature, &keys(&[TRUSTED]), now()).unwrap_err()
}

#[test]
fn believes_what_minisign_signed_with_a_trusted_key() {
    // Also when it is not the first key of the list, and when the key is given as its second line alone.
    let line = TRUSTED.lines().nth(1).unwrap();
    for keys in [keys(&[TRUSTED]), keys(&[OTHER, line])] {
        let manifest = verify_manifest(MANIFEST, MANIFEST_SIGNATURE, &keys, now()).unwrap();
        assert_eq!(
            (manifest.name.as_str(), manifest.version),
            ("debian-rescue", VERSION)
        );
        // The ID that minisign wrote into the comment of trusted.pub.
        let id = TRUSTED.lines().next().unwrap().rsplit(' ').next().unwrap();
        assert_eq!(manifest.key_id().unwrap().to_string(), id);
        let latest = verify_latest(LATEST, LATEST_SIGNATURE, &keys, now(), VERSION).unwrap();
        assert_eq!(latest.manifest, Digest::of(MANIFEST));
        latest.require_manifest(MANIFEST).unwrap();
    }
}

#[test]
fn refuses_a_key_that_is_not_trusted() {
    let other = include_str!("../testdata/manifest.other.minisig");
    assert!(matches!(
        refusal(MANIFEST, other),
        VerifyError::UnknownKey { .. }
    ));
    let nobody = TrustedKeys::default();
    let error = verify_manifest(MANIFEST, MANIFEST_SIGNATURE, &nobody, now()).unwrap_err();
    assert!(matches!(error, VerifyError::UnknownKey { .. }));
}

#[test]
fn one_signature_of_several_is_enough() {
    let other = include_str!("../testdata/manifest.other.minisig");
    let pointer = LATEST_SIGNATURE;
    for text in [
        // Keys change: whoever trusts either of them.
        format!("{other}{MANIFEST_SIGNATURE}"),
        format!("{MANIFEST_SIGNATURE}{other}"),
        // A file is being replaced: a signature by the same key for other bytes.
        format!("{pointer}{MANIFEST_SIGNATURE}"),
        format!("{pointer}{other}{pointer}{MANIFEST_SIGNATURE}"),
    ] {
        let manifest = verify_manifest(MANIFEST, &text, &keys(&[TRUSTED]), now()).unwrap();
        assert_eq!(manifest.version, VERSION);
    }
    let only_unknown = refusal(MANIFEST, &format!("{other}{other}"));
    assert!(
        matches!(only_unknown, VerifyError::UnknownKey { .. }),
        "{only_unknown:?}"
    );
    // Known but wrong says more than unknown.
    let wrong = refusal(MANIFEST, &format!("{other}{pointer}"));
    assert!(
        matches!(wrong, VerifyError::BadSignature { .. }),
        "{wrong:?}"
    );
}

#[test]
fn refuses_more_signatures_than_there_are_reasons_for() {
    let pointer = LATEST_SIGNATURE;
    let many = format!("{}{MANIFEST_SIGNATURE}", pointer.repeat(8));
    assert!(many.len() <= MAX_SIGNATURE);
    assert!(matches!(
        refusal(MANIFEST, &many),
        VerifyError::MalformedSignature
    ));
}

#[test]
fn refuses_another_key_that_borrows_a_trusted_id() {
    // 14 base64 digits are ten bytes and four bits: algorithm, ID, and half a byte of the key.
    let line = |key: &'static str| key.lines().nth(1).unwrap();
    let (trusted, other) = (line(TRUSTED), line(OTHER));
    let impostor = format!("{}{}", &trusted[..14], &other[14..]);
    let error =
        verify_manifest(MANIFEST, MANIFEST_SIGNATURE, &keys(&[&impostor]), now()).unwrap_err();
    assert!(matches!(error, VerifyError::BadSignature { .. }), "{error}");
    // With the real key further down the list, the impostor does no harm.
    verify_manifest(
        MANIFEST,
        MANIFEST_SIGNATURE,
        &keys(&[&impostor, TRUSTED]),
        now(),
    )
    .unwrap();
}

#[test]
fn refuses_every_changed_byte_of_the_file() {
    for position in 0..MANIFEST.len() {
        let mut changed = MANIFEST.to_vec();
        changed[position] ^= 1;
        assert!(matches!(
            refusal(&changed, MANIFEST_SIGNATURE),
            VerifyError::BadSignature { .. }
        ));
    }
}

#[test]
fn refuses_a_file_cut_at_any_length() {
    for length in 0..MANIFEST.len() {
        assert!(matches!(
            refusal(&MANIFEST[..length], MANIFEST_SIGNATURE),
            VerifyError::BadSignature { .. }
        ));
    }
}

#[test]
fn refuses_a_signature_cut_at_any_length() {
    // The last byte is the line feed, which minisign's readers do without.
    for length in 0..MANIFEST_SIGNATURE.len() - 1 {
        let error = refusal(MANIFEST, &MANIFEST_SIGNATURE[..length]);
        assert!(
            matches!(error, VerifyError::MalformedSignature),
            "{length}: {error}"
        );
    }
}

#[test]
fn refuses_a_trusted_comment_that_was_not_signed() {
    let swapped = include_str!("../testdata/manifest.swapped.minisig");
    assert!(matches!(
        refusal(MANIFEST, swapped),
        VerifyError::BadSignature { .. }
    ));
}

#[test]
fn refuses_a_comment_signed_for_another_purpose_or_version() {
    for (signature, wanted, found) in [
        (
            include_str!("../testdata/manifest.as-latest.minisig"),
            "sparetire manifest ",
            "latest",
        ),
        (
            include_str!("../testdata/manifest.as-older.minisig"),
            "sparetire manifest debian-rescue 20261121235400",
            "2025",
        ),
    ] {
        match refusal(MANIFEST, signature) {
            VerifyError::WrongComment {
                wanted: w,
                found: f,
            } => assert!(w == wanted && f.contains(found), "{w} {f}"),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn one_signed_file_cannot_stand_in_for_the_other() {
    assert!(matches!(
        refusal(LATEST, LATEST_SIGNATURE),
        VerifyError::WrongComment { .. }
    ));
    let error =
        verify_latest(MANIFEST, MANIFEST_SIGNATURE, &keys(&[TRUSTED]), now(), 0).unwrap_err();
    assert!(matches!(error, VerifyError::WrongComment { .. }));
}

#[test]
fn refuses_the_legacy_form() {
    let legacy = include_str!("../testdata/manifest.legacy.minisig");
    assert!(matches!(
        refusal(MANIFEST, legacy),
        VerifyError::LegacySignature { .. }
    ));
}

#[test]
fn expiry_is_the_first_moment_of_refusal() {
    let keys = keys(&[TRUSTED]);
    let manifest = |now| verify_manifest(MANIFEST, MANIFEST_SIGNATURE, &keys, at(now));
    manifest("2027-11-21T23:53:59Z").unwrap();
    assert!(matches!(
        manifest("2027-11-21T23:54:00Z"),
        Err(VerifyError::Expired { .. })
    ));
    let latest = |now| verify_latest(LATEST, LATEST_SIGNATURE, &keys, at(now), 0);
    latest("2026-12-21T23:53:59Z").unwrap();
    match latest("2030-01-01T00:00:00Z") {
        Err(VerifyError::Expired { at: expired, now }) => {
            assert_eq!(expired, at("2026-12-21T23:54:00Z"));
            assert_eq!(now, at("2030-01-01T00:00:00Z"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn refuses_a_version_below_the_floor() {
    let error = verify_latest(
        LATEST,
        LATEST_SIGNATURE,
        &keys(&[TRUSTED]),
        now(),
        VERSION + 1,
    )
    .unwrap_err();
    assert!(
        matches!(error, VerifyError::RolledBack { found: VERSION, minimum } if minimum == VERSION + 1)
    );
}

#[test]
fn refuses_another_image_than_was_asked_for() {
    let keys = keys(&[TRUSTED]);
    let manifest = verify_manifest(MANIFEST, MANIFEST_SIGNATURE, &keys, now()).unwrap();
    let latest = verify_latest(LATEST, LATEST_SIGNATURE, &keys, now(), 0).unwrap();
    let (right, wrong) = ("debian-rescue".parse().unwrap(), "windows".parse().unwrap());
    manifest.require(&right, VERSION).unwrap();
    latest.require(&right).unwrap();
    assert!(matches!(
        manifest.require(&right, VERSION - 1),
        Err(VerifyError::WrongImage { .. })
    ));
    assert!(matches!(
        manifest.require(&wrong, VERSION),
        Err(VerifyError::WrongImage { .. })
    ));
    assert!(matches!(
        latest.require(&wrong),
        Err(VerifyError::WrongImage { .. })
    ));
    assert!(matches!(
        latest.require_manifest(LATEST),
        Err(VerifyError::OtherManifest { .. })
    ));
}

#[test]
fn signed_mistakes_are_told_apart_from_newer_files() {
    let winpe = refusal(
        include_bytes!("../testdata/manifest-winpe.json"),
        include_str!("../testdata/manifest-winpe.json.minisig"),
    );
    assert!(
        matches!(&winpe, VerifyError::Unsupported { what: "kind", found } if found == "winpe-iso"),
        "{winpe}"
    );
    let outside = refusal(
        include_bytes!("../testdata/manifest-outside.json"),
        include_str!("../testdata/manifest-outside.json.minisig"),
    );
    assert!(
        matches!(
            outside,
            VerifyError::Malformed(ParseError::Extent {
                field: "boot.initrd",
                ..
            })
        ),
        "{outside}"
    );
}

#[test]
fn refuses_oversized_files_before_anything_else() {
    let error = refusal(&vec![b' '; MAX_MANIFEST + 1], MANIFEST_SIGNATURE);
    assert!(
        matches!(
            error,
            VerifyError::TooLarge {
                what: "signed file",
                ..
            }
        ),
        "{error}"
    );
    let error = refusal(MANIFEST, &" ".repeat(MAX_SIGNATURE + 1));
    assert!(
        matches!(
            error,
            VerifyError::TooLarge {
                what: "signature",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn names_the_key_that_is_none() {
    let line = TRUSTED.lines().nth(1).unwrap();
    for bad in [
        "",
        "RW",
        "untrusted comment: only",
        &line[..55],
        &format!("{line}A"),
        &format!("{line}\n{line}"),
        "é",
    ] {
        let error = TrustedKeys::parse([TRUSTED, bad].into_iter()).unwrap_err();
        assert_eq!(error, KeyError::Malformed { at: 1 }, "{bad:?}");
    }
    let many = TrustedKeys::parse(std::iter::repeat_n(line, TrustedKeys::MAX + 1)).unwrap_err();
    assert_eq!(many, KeyError::TooMany);
}

proptest! {
    #[test]
    fn arbitrary_signatures_and_keys_are_answered(signature in "(?s).{0,400}", key in "(?s).{0,100}") {
        let _ = TrustedKeys::parse([key.as_str()].into_iter());
        prop_assert!(verify_manifest(MANIFEST, &signature, &keys(&[TRUSTED]), now()).is_err());
    }

    #[test]
    fn no_changed_signature_passes(position in 0..MANIFEST_SIGNATURE.len(), with in any::<char>()) {
        // The untrusted comment is exactly that, and the final line feed is optional.
        let first = MANIFEST_SIGNATURE.find('\n').unwrap_or(0);
        prop_assume!(position > first && position < MANIFEST_SIGNATURE.len() - 1);
        let mut changed = MANIFEST_SIGNATURE.to_owned();
        changed.replace_range(position..=position, with.encode_utf8(&mut [0; 4]));
        prop_assume!(changed != MANIFEST_SIGNATURE);
        let result = verify_manifest(MANIFEST, &changed, &keys(&[TRUSTED]), now());
        // A line feed may turn into CR LF and the like: then the lines are the same.
        let same = changed.lines().take(4).eq(MANIFEST_SIGNATURE.lines());
        prop_assert!(result.is_err() || same, "{:?}", changed);
    }
}
