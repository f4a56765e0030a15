//! A small store made up on the spot: an image, the packs that hold it, and its index.

use sparetire_manifest::index::{Chunk, Index, PackRef, Place};
use sparetire_manifest::{Digest, IndexRef, Verified};

/// What to put into an image, or between its chunks in a pack.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// Zeros that are not stored.
    Hole(u32),
    /// Bytes stored as they are.
    Stored(Vec<u8>),
    /// Bytes stored as a zstd frame.
    Zstd(Vec<u8>),
    /// An earlier chunk once more.
    Repeat(usize),
    /// Bytes in the pack that belong to other images.
    Foreign(usize),
    /// The rest goes into another pack.
    NewPack,
}

/// Shown by its parts' places only: the bytes are of no interest.
pub(crate) struct Store {
    pub(crate) image: Vec<u8>,
    pub(crate) packs: Vec<Vec<u8>>,
    pub(crate) index: Verified<Index>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let packs: Vec<usize> = self.packs.iter().map(Vec::len).collect();
        let chunks: Vec<_> = self
            .index
            .placed()
            .map(|(offset, chunk)| (offset, chunk.length, chunk.place))
            .collect();
        write!(f, "packs {packs:?} chunks {chunks:?}")
    }
}

impl Store {
    pub(crate) fn new(parts: &[Part]) -> Self {
        let mut image = Vec::new();
        let mut packs = vec![Vec::new()];
        let mut chunks: Vec<Chunk> = Vec::new();
        for part in parts {
            let pack = u32::try_from(packs.len() - 1).unwrap();
            let bytes = packs.last_mut().unwrap();
            let offset = bytes.len() as u64;
            let (plain, place) = match part {
                Part::Hole(length) => (vec![0; *length as usize], Place::Hole),
                Part::Stored(plain) => {
                    bytes.extend_from_slice(plain);
                    (plain.clone(), Place::Stored { pack, offset })
                }
                Part::Zstd(plain) => {
                    let frame = zstd::bulk::compress(plain, 3).unwrap();
                    bytes.extend_from_slice(&frame);
                    let stored_length = u32::try_from(frame.len()).unwrap();
                    (
                        plain.clone(),
                        Place::Zstd {
                            pack,
                            offset,
                            stored_length,
                        },
                    )
                }
                Part::Repeat(earlier) => {
                    let chunk = chunks[*earlier];
                    let start: usize = chunks[..*earlier]
                        .iter()
                        .map(|chunk| chunk.length as usize)
                        .sum();
                    (
                        image[start..start + chunk.length as usize].to_vec(),
                        chunk.place,
                    )
                }
                Part::Foreign(length) => {
                    bytes.resize(bytes.len() + length, 0xf0);
                    continue;
                }
                Part::NewPack => {
                    packs.push(Vec::new());
                    continue;
                }
            };
            let length = u32::try_from(plain.len()).unwrap();
            chunks.push(Chunk {
                digest: Digest::of(&plain),
                length,
                place,
            });
            image.extend_from_slice(&plain);
        }
        // No pack is empty.
        packs
            .iter_mut()
            .filter(|pack| pack.is_empty())
            .for_each(|pack| pack.push(0xf0));
        let packs_listed = packs
            .iter()
            .map(|pack| PackRef {
                sha256: Digest::of(pack),
                length: pack.len() as u64,
            })
            .collect();
        let image_size = image.len() as u64;
        let bytes = Index {
            image_size,
            packs: packs_listed,
            chunks,
        }
        .emit();
        let reference = IndexRef {
            sha256: Digest::of(&bytes),
            size: bytes.len() as u64,
        };
        let index = Index::verify(&bytes, &reference, image_size).unwrap();
        Self {
            image,
            packs,
            index,
        }
    }

    /// One pack of `count` stored chunks of `length` bytes, all different.
    pub(crate) fn plain(count: usize, length: usize) -> Self {
        let parts: Vec<Part> = (0..count)
            .map(|number| Part::Stored(noise(number as u64, length)))
            .collect();
        Self::new(&parts)
    }

    /// The pack at a path; the image itself is at the empty path.
    pub(crate) fn pack(&self, path: &str) -> &[u8] {
        if path.is_empty() {
            return &self.image;
        }
        self.packs
            .iter()
            .find(|pack| sparetire_manifest::layout::pack_path(&Digest::of(pack)) == path)
            .expect("a path in this store")
    }
}

/// Bytes that do not compress.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Bytes that compress well.
pub(crate) fn text(seed: u64, length: usize) -> Vec<u8> {
    let words = noise(seed, 64);
    (0..length)
        .map(|at| words[(at / 7 + at % 3) % words.len()])
        .collect()
}
