//! The chunk index, version 1: bytes against values, both ways.
//!
//! The golden bytes are written by hand from `docs/formats/index.md`. When a test here fails, the code is wrong.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use proptest::prelude::*;
use sparetire_manifest::index::{Chunk, HEADER_LEN, Index, IndexError, MAX_CHUNK, PackRef, Place};
use sparetire_manifest::{Digest, IndexRef, MAX_IMAGE};

fn golden() -> Index {
    Index {
        image_size: 0x0001_8001,
        packs: vec![PackRef {
            sha256: Digest::from_bytes([0xaa; 32]),
            length: 0x5000,
        }],
        chunks: vec![
            Chunk {
                digest: Digest::from_bytes([0x01; 32]),
                length: 0x4000,
                place: Place::Stored { pack: 0, offset: 0 },
            },
            Chunk {
                digest: Digest::from_bytes([0x02; 32]),
                length: 0x1_0000,
                place: Place::Hole,
            },
            Chunk {
                digest: Digest::from_bytes([0x03; 32]),
                length: 0x4001,
                place: Place::Zstd {
                    pack: 0,
                    offset: 0x4000,
                    stored_length: 0x1000,
                },
            },
        ],
    }
}

fn golden_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut field = |hex: &str| {
        let digits: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
        for pair in digits.chunks(2) {
            bytes.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
        }
    };
    field("53 50 54 52 49 4e 44 58"); //  0 magic "SPTRINDX"
    field("0100"); //                     8 major version
    field("0000"); //                    10 minor version
    field("4000"); //                    12 header length
    field("2800"); //                    14 pack entry length
    field("3800"); //                    16 chunk entry length
    field("0000 0000 0000"); //          18 reserved
    field("0180 0100 0000 0000"); //     24 image size
    field("0100 0000"); //               32 packs
    field("0300 0000"); //               36 chunks
    field(&"00".repeat(24)); //          40 reserved
    field(&"aa".repeat(32)); //          pack 0: digest
    field("0050 0000 0000 0000"); //             length
    field(&"01".repeat(32)); //          chunk 0: digest
    field("0040 0000"); //                        length
    field("01 000000"); //                        codec stored
    field("0000 0000"); //                        pack
    field("0040 0000"); //                        stored length
    field("0000 0000 0000 0000"); //              offset in pack
    field(&"02".repeat(32)); //          chunk 1: digest
    field("0000 0100"); //                        length
    field("00 000000"); //                        codec hole
    field("0000 0000"); //                        pack
    field("0000 0000"); //                        stored length
    field("0000 0000 0000 0000"); //              offset in pack
    field(&"03".repeat(32)); //          chunk 2: digest
    field("0140 0000"); //                        length
    field("02 000000"); //                        codec zstd
    field("0000 0000"); //                        pack
    field("0010 0000"); //                        stored length
    field("0040 0000 0000 0000"); //              offset in pack
    bytes
}

const CHUNK_0: usize = HEADER_LEN + 40;
const CHUNK_1: usize = CHUNK_0 + 56;
const CHUNK_2: usize = CHUNK_1 + 56;

/// The golden bytes with `value` at `at`.
fn with(at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = golden_bytes();
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

#[test]
fn golden_index_reads_and_writes_to_the_byte() {
    assert_eq!(Index::parse(&golden_bytes()).unwrap(), golden());
    assert_eq!(golden().emit(), golden_bytes());
}

#[test]
fn chunks_lie_back_to_back_in_the_image() {
    let index = golden();
    let offsets: Vec<u64> = index.placed().map(|(offset, _)| offset).collect();
    assert_eq!(offsets, [0, 0x4000, 0x1_4000]);
    let stored: Vec<_> = index.chunks.iter().map(Chunk::stored).collect();
    assert_eq!(
        stored,
        [Some((0, 0, 0x4000)), None, Some((0, 0x4000, 0x1000))]
    );
}

#[test]
fn an_empty_image_has_an_index() {
    let empty = Index {
        image_size: 0,
        packs: Vec::new(),
        chunks: Vec::new(),
    };
    assert_eq!(Index::parse(&empty.emit()).unwrap(), empty);
}

#[test]
fn reads_longer_records_of_a_newer_minor_version() {
    // Minor version 7, eight more bytes in the header, four more in each entry.
    let golden = golden_bytes();
    let mut newer = golden[..HEADER_LEN].to_vec();
    newer[10] = 7;
    newer[12] = 64 + 8;
    newer[14] = 40 + 4;
    newer[16] = 56 + 4;
    newer.extend([0xff; 8]);
    newer.extend(&golden[HEADER_LEN..CHUNK_0]);
    newer.extend([0xff; 4]);
    for chunk in golden[CHUNK_0..].chunks(56) {
        newer.extend(chunk);
        newer.extend([0xff; 4]);
    }
    assert_eq!(Index::parse(&newer).unwrap(), self::golden());
}

#[test]
fn reserved_bytes_are_ignored() {
    for at in [18, 40, 63, CHUNK_0 + 37] {
        assert_eq!(Index::parse(&with(at, &[0xff])).unwrap(), golden(), "{at}");
    }
}

#[test]
fn refuses_an_index_cut_at_any_length() {
    let bytes = golden_bytes();
    for length in 0..bytes.len() {
        let error = Index::parse(&bytes[..length]).unwrap_err();
        assert!(
            matches!(error, IndexError::CutShort { .. }),
            "{length}: {error}"
        );
    }
}

#[test]
fn refuses_what_does_not_add_up() {
    let digest = Digest::from_bytes([0; 32]);
    let leftover = [golden_bytes(), vec![0]].concat();
    for (bytes, error) in [
        (with(0, b"s"), IndexError::Magic),
        (
            with(8, &[2]),
            IndexError::Unsupported { major: 2, minor: 0 },
        ),
        (
            with(8, &[0]),
            IndexError::Unsupported { major: 0, minor: 0 },
        ),
        (
            with(12, &[63, 0]),
            IndexError::RecordLength {
                what: "header",
                found: 63,
                least: 64,
            },
        ),
        (
            with(12, &[0, 0]),
            IndexError::RecordLength {
                what: "header",
                found: 0,
                least: 64,
            },
        ),
        (
            with(14, &[39, 0]),
            IndexError::RecordLength {
                what: "pack entry",
                found: 39,
                least: 40,
            },
        ),
        (
            with(16, &[55, 0]),
            IndexError::RecordLength {
                what: "chunk entry",
                found: 55,
                least: 56,
            },
        ),
        (leftover, IndexError::Leftover { bytes: 1 }),
        (with(36, &[2]), IndexError::Leftover { bytes: 56 }),
        (
            with(36, &[4]),
            IndexError::CutShort {
                what: "entries",
                needed: 40 + 4 * 56,
                found: 40 + 3 * 56,
            },
        ),
        (
            with(36, &[0xff; 4]),
            IndexError::CutShort {
                what: "entries",
                needed: 40 + 0xffff_ffff * 56,
                found: 208,
            },
        ),
        (
            with(24, &[0]),
            IndexError::Sum {
                wanted: 0x1_8000,
                found: 0x1_8001,
            },
        ),
        (
            with(24, &[0xff; 8]),
            IndexError::ImageSize { found: u64::MAX },
        ),
        (
            with(HEADER_LEN + 32, &[0; 8]),
            IndexError::PackLength { pack: 0, found: 0 },
        ),
        (
            with(HEADER_LEN + 32, &[0xff; 8]),
            IndexError::PackLength {
                pack: 0,
                found: u64::MAX,
            },
        ),
        (
            with(CHUNK_1 + 32, &[0; 4]),
            IndexError::ChunkLength { chunk: 1, found: 0 },
        ),
        (
            with(CHUNK_1 + 32, &(MAX_CHUNK + 1).to_le_bytes()),
            IndexError::ChunkLength {
                chunk: 1,
                found: MAX_CHUNK + 1,
            },
        ),
        (
            with(CHUNK_1 + 36, &[3]),
            IndexError::UnknownCodec { chunk: 1, codec: 3 },
        ),
        (
            with(CHUNK_1 + 44, &[1]),
            IndexError::StoredLength {
                chunk: 1,
                stored: 1,
                length: 0,
            },
        ),
        (
            with(CHUNK_0 + 44, &[1]),
            IndexError::StoredLength {
                chunk: 0,
                stored: 0x4001,
                length: 0x4000,
            },
        ),
        (
            with(CHUNK_2 + 44, &[0; 4]),
            IndexError::StoredLength {
                chunk: 2,
                stored: 0,
                length: 0x4001,
            },
        ),
        (
            with(CHUNK_2 + 44, &0x4001u32.to_le_bytes()),
            IndexError::StoredLength {
                chunk: 2,
                stored: 0x4001,
                length: 0x4001,
            },
        ),
        (
            with(CHUNK_0 + 40, &[1]),
            IndexError::NoSuchPack {
                chunk: 0,
                pack: 1,
                packs: 1,
            },
        ),
        (
            with(CHUNK_2 + 48, &0x4001u64.to_le_bytes()),
            IndexError::OutsidePack {
                chunk: 2,
                offset: 0x4001,
                length: 0x1000,
                pack_length: 0x5000,
            },
        ),
        (
            with(CHUNK_2 + 48, &u64::MAX.to_le_bytes()),
            IndexError::OutsidePack {
                chunk: 2,
                offset: u64::MAX,
                length: 0x1000,
                pack_length: 0x5000,
            },
        ),
    ] {
        assert_eq!(Index::parse(&bytes), Err(error));
    }
    // And what only a writer can get wrong.
    let too_large = Index {
        image_size: MAX_IMAGE + 1,
        packs: Vec::new(),
        chunks: Vec::new(),
    };
    assert_eq!(
        too_large.check(),
        Err(IndexError::ImageSize {
            found: MAX_IMAGE + 1
        })
    );
    let loose = Chunk {
        digest,
        length: 1,
        place: Place::Stored { pack: 0, offset: 0 },
    };
    let no_pack = Index {
        image_size: 1,
        packs: Vec::new(),
        chunks: vec![loose],
    };
    assert_eq!(
        no_pack.check(),
        Err(IndexError::NoSuchPack {
            chunk: 0,
            pack: 0,
            packs: 0
        })
    );
}

#[test]
fn verifies_length_then_digest_then_image_size() {
    let bytes = golden_bytes();
    let reference = IndexRef {
        sha256: Digest::of(&bytes),
        size: bytes.len() as u64,
    };
    let verified = Index::verify(&bytes, &reference, 0x1_8001).unwrap();
    assert_eq!(*verified, golden());
    assert_eq!(verified.key_id(), None);

    let longer = IndexRef {
        size: reference.size + 1,
        ..reference
    };
    assert!(matches!(
        Index::verify(&bytes, &longer, 0x1_8001),
        Err(IndexError::Length { .. })
    ));
    // A changed byte is told by the digest even where the parser would object as well.
    let damaged = with(0, b"x");
    assert!(matches!(
        Index::verify(&damaged, &reference, 0x1_8001),
        Err(IndexError::Digest { .. })
    ));
    assert!(matches!(
        Index::verify(&bytes, &reference, 0x1_8000),
        Err(IndexError::OtherImage {
            wanted: 0x1_8000,
            found: 0x1_8001
        }),
    ));
}

prop_compose! {
    fn any_index()(
        packs in proptest::collection::vec((any::<[u8; 32]>(), 1u64..1 << 32), 1..4),
        chunks in proptest::collection::vec((any::<[u8; 32]>(), 2..=MAX_CHUNK, 0u8..3, any::<u64>(), any::<u32>()), 0..20),
    ) -> Index {
        let packs: Vec<_> =
            packs.into_iter().map(|(digest, length)| PackRef { sha256: Digest::from_bytes(digest), length }).collect();
        let chunks: Vec<_> = chunks.into_iter().map(|(digest, length, codec, offset, salt)| {
            let pack = salt % packs.len() as u32;
            let room = packs[pack as usize].length;
            let stored_length = 1 + salt % (length - 1);
            let needed = u64::from(if codec == 1 { length } else { stored_length });
            let place = match codec {
                1 if needed <= room => Place::Stored { pack, offset: offset % (room - needed + 1) },
                2 if needed <= room => Place::Zstd { pack, offset: offset % (room - needed + 1), stored_length },
                _ => Place::Hole,
            };
            Chunk { digest: Digest::from_bytes(digest), length, place }
        }).collect();
        Index { image_size: chunks.iter().map(|chunk| u64::from(chunk.length)).sum(), packs, chunks }
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(index in any_index()) {
        prop_assert_eq!(Index::parse(&index.emit()), Ok(index));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Index::parse(&bytes);
        let mut behind_a_good_start = golden_bytes()[..12].to_vec();
        behind_a_good_start.extend(bytes);
        let _ = Index::parse(&behind_a_good_start);
    }

    #[test]
    fn changed_bytes_give_an_error_or_a_sound_index(position in 0..golden_bytes().len(), value in any::<u8>()) {
        if let Ok(index) = Index::parse(&with(position, &[value])) {
            prop_assert!(index.check().is_ok());
        }
    }
}
