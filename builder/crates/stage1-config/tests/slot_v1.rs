//! The config slot, version 1: bytes against values, damage, and giving back the built bytes.
//!
//! The golden bytes are written by hand from `docs/formats/config-slot.md`; the CRCs are those of Python's `zlib.crc32`.
//! When a test here fails, the code is wrong.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use proptest::prelude::*;
use stage1_config::slot::CAPACITY;
use stage1_config::{MAGIC, SLOT_LEN, Slot, SlotError, find};

const BASE: &str = "image = \"debian\"\n";
const OVERLAY: &str = "server = \"http://10.0.2.2\"\n";

fn golden_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(b"sparetire-config"); //           0 magic
    bytes.extend([0x01, 0x00]); //                 16 version
    bytes.extend([0x40, 0x00]); //                 18 header length
    bytes.extend([0x00, 0x40, 0x00, 0x00]); //     20 slot length
    bytes.extend([0x11, 0x00, 0x00, 0x00]); //     24 base length
    bytes.extend([0x15, 0xe4, 0xae, 0x28]); //     28 base CRC-32
    bytes.extend([0x1b, 0x00, 0x00, 0x00]); //     32 overlay length
    bytes.extend([0xb9, 0x48, 0x0c, 0xd6]); //     36 overlay CRC-32
    bytes.extend([0; 20]); //                      40 reserved
    bytes.extend([0x8e, 0x9b, 0x29, 0xac]); //     60 header CRC-32
    bytes.extend(BASE.as_bytes()); //              64 base
    bytes.extend(OVERLAY.as_bytes()); //              overlay
    bytes.resize(16_384, 0);
    bytes
}

fn golden() -> Slot {
    Slot::new(BASE).unwrap().with_overlay(OVERLAY).unwrap()
}

/// The golden bytes with `value` at `at`, and the header's CRC made to fit.
fn with(at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = golden_bytes();
    bytes[at..at + value.len()].copy_from_slice(value);
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn golden_slot_reads_and_writes_to_the_byte() {
    assert_eq!(Slot::parse(&golden_bytes()).unwrap(), golden());
    assert_eq!(golden().emit(), golden_bytes());
}

#[test]
fn dropping_the_overlay_gives_back_the_built_bytes() {
    let built = Slot::new(BASE).unwrap().emit();
    let customised = Slot::parse(&built)
        .unwrap()
        .with_overlay(OVERLAY)
        .unwrap()
        .emit();
    assert_ne!(customised, built);
    assert_eq!(
        Slot::parse(&customised).unwrap().without_overlay().emit(),
        built
    );
}

#[test]
fn every_changed_bit_is_noticed() {
    let golden = golden_bytes();
    // Each byte of header and texts, then samples of the zeros behind.
    for at in (0..200)
        .chain((200..SLOT_LEN).step_by(97))
        .chain([SLOT_LEN - 1])
    {
        let mut damaged = golden.clone();
        damaged[at] ^= 0x10;
        assert!(Slot::parse(&damaged).is_err(), "{at}");
    }
}

#[test]
fn refuses_a_slot_of_any_other_length() {
    let golden = golden_bytes();
    for length in 0..SLOT_LEN {
        assert_eq!(
            Slot::parse(&golden[..length]),
            Err(SlotError::Length { found: length })
        );
    }
    let longer = [golden, vec![0]].concat();
    assert_eq!(
        Slot::parse(&longer),
        Err(SlotError::Length {
            found: SLOT_LEN + 1
        })
    );
}

#[test]
fn each_damage_has_its_name() {
    let crc = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
    let (base_crc, overlay_crc) = (crc(&golden_bytes()[28..]), crc(&golden_bytes()[36..]));
    let mut other_header = golden_bytes();
    other_header[24] = 0x12;
    assert!(matches!(
        Slot::parse(&other_header),
        Err(SlotError::Crc { what: "header", .. })
    ));
    let mut other_base = golden_bytes();
    other_base[64] = b'I';
    assert!(
        matches!(Slot::parse(&other_base), Err(SlotError::Crc { what: "base", wanted, .. }) if wanted == base_crc)
    );
    let mut other_overlay = golden_bytes();
    other_overlay[64 + BASE.len()] = b'S';
    assert!(
        matches!(Slot::parse(&other_overlay), Err(SlotError::Crc { what: "overlay", wanted, .. }) if wanted == overlay_crc)
    );
    let mut tail = golden_bytes();
    tail[SLOT_LEN - 1] = 1;
    assert_eq!(Slot::parse(&tail), Err(SlotError::NotZero));
}

#[test]
fn refuses_headers_that_are_whole_but_wrong() {
    for (bytes, error) in [
        (with(0, b"S"), SlotError::Magic),
        (with(16, &[2]), SlotError::Unsupported { version: 2 }),
        (
            with(18, &[65]),
            SlotError::Field {
                what: "header length",
                found: 65,
                wanted: 64,
            },
        ),
        (
            with(20, &[0, 0x80]),
            SlotError::Field {
                what: "slot length",
                found: 0x8000,
                wanted: 0x4000,
            },
        ),
        (
            with(24, &[0xff; 4]),
            SlotError::Overlong {
                what: "base",
                found: u32::MAX,
                room: CAPACITY,
            },
        ),
        (
            with(24, &(CAPACITY as u32 + 1).to_le_bytes()),
            SlotError::Overlong {
                what: "base",
                found: CAPACITY as u32 + 1,
                room: CAPACITY,
            },
        ),
        (
            with(32, &[0xff; 4]),
            SlotError::Overlong {
                what: "overlay",
                found: u32::MAX,
                room: CAPACITY - BASE.len(),
            },
        ),
        (with(40, &[1]), SlotError::NotZero),
    ] {
        assert_eq!(Slot::parse(&bytes), Err(error));
    }
}

#[test]
fn refuses_text_that_is_not_utf8() {
    let mut bytes = golden_bytes();
    bytes[64] = 0xff;
    let crc = crc32fast::hash(&bytes[64..64 + BASE.len()]);
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    let header = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&header.to_le_bytes());
    assert_eq!(
        Slot::parse(&bytes),
        Err(SlotError::NotUtf8 { what: "base" })
    );
}

#[test]
fn carries_up_to_its_capacity() {
    let full = Slot::new("#".repeat(CAPACITY)).unwrap();
    assert_eq!(Slot::parse(&full.emit()).unwrap(), full);
    assert_eq!(
        full.with_overlay("#"),
        Err(SlotError::TooLong {
            base: CAPACITY,
            overlay: 1
        })
    );
    assert_eq!(
        Slot::new("#".repeat(CAPACITY + 1)),
        Err(SlotError::TooLong {
            base: CAPACITY + 1,
            overlay: 0
        })
    );
}

#[test]
fn finds_aligned_slots_whole_or_damaged() {
    let mut file = vec![0; 100 * 512];
    file[1024..1024 + SLOT_LEN].copy_from_slice(&golden_bytes());
    // Damaged: nothing but its magic. Unaligned: somebody's text about slots. Cut off by the end of the file.
    file[512 * 60..][..16].copy_from_slice(&MAGIC);
    file[512 * 70 + 1..][..16].copy_from_slice(&MAGIC);
    file.truncate(512 * 90);
    file.extend(&MAGIC[..15]);
    assert_eq!(find(&file), [1024, 512 * 60]);
    assert_eq!(find(&[]), Vec::<usize>::new());
}

#[test]
fn debug_shows_lengths_only() {
    assert_eq!(
        format!("{:?}", golden()),
        "Slot { base: 17 bytes, overlay: 27 bytes }"
    );
}

proptest! {
    #[test]
    fn what_is_written_reads_back(base in "(?s).{0,500}", overlay in "(?s).{0,500}") {
        let slot = Slot::new(base).unwrap().with_overlay(overlay).unwrap();
        prop_assert_eq!(Slot::parse(&slot.emit()), Ok(slot));
    }

    #[test]
    fn random_headers_never_panic(header in proptest::collection::vec(any::<u8>(), 48)) {
        let _ = Slot::parse(&with(12, &header));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..SLOT_LEN + 10)) {
        let _ = Slot::parse(&bytes);
        let _ = find(&bytes);
    }
}
