//! Which stored bytes an image needs, and how they fall into runs that one Range request can bring.
//!
//! A piece is one stored range of one pack; it yields one chunk, or several where an image repeats itself.
//! Pieces that are neighbours in their pack form a stretch. A run is what one request asks for: a part of a
//! stretch, cut to size when the request is made, because the right size depends on what is left by then.

use std::ops::Range;

use sparetire_manifest::index::{Chunk, Index, PackRef, Place};
use sparetire_manifest::{Digest, MAX_IMAGE};

/// Longest chunk, plain or stored. Bounds the memory that a connection needs.
pub const MAX_CHUNK: u64 = sparetire_manifest::index::MAX_CHUNK as u64;
/// Pieces of a file that has no index; piece n starts at n times this.
pub const PLAIN_PIECE: u64 = 256 << 10;
/// Bytes between two wanted pieces that are cheaper to receive and throw away than to ask around.
const MAX_GAP: u64 = 16 << 10;
/// A run is never longer than this.
const MAX_RUN: u64 = 8 << 20;
/// A stretch's rest below this length joins the run before it.
const MIN_RUN: u64 = 1 << 20;

/// A stored range and the chunks it yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Which pack, by its place in the index.
    pub(crate) pack: u32,
    /// Where in the pack.
    pub(crate) offset: u64,
    /// Stored bytes.
    pub(crate) stored: u64,
    /// Whether the piece before it in the plan is its neighbour in the pack, so that one request brings both.
    pub(crate) joins: bool,
    targets: Range<usize>,
}

impl Piece {
    pub(crate) fn end(&self) -> u64 {
        // Cannot overflow: the constructor has compared it with the pack's length.
        self.offset + self.stored
    }
}

/// A chunk that a piece yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its place in the index.
    pub(crate) chunk: usize,
    /// Where it starts in the image.
    pub(crate) image_offset: u64,
}

/// What has to be fetched, in the order in which to ask for it.
#[derive(Debug, Default)]
pub struct Plan {
    pieces: Vec<Piece>,
    targets: Vec<Target>,
    stored_bytes: u64,
    image_bytes: u64,
}

/// An index that no plan can be made of. The signature says who wrote it, not that it makes sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A chunk of no length, or longer than [`MAX_CHUNK`].
    #[error("chunk {chunk} has {length} bytes; 1 to {MAX_CHUNK} are allowed")]
    Length {
        /// Its place in the index.
        chunk: usize,
        /// Its length or stored length.
        length: u64,
    },
    /// A file of no length, or longer than any image.
    #[error("file of {size} bytes; 1 to {MAX_IMAGE} are allowed")]
    Size {
        /// Its length.
        size: u64,
    },
    /// A chunk outside its pack.
    #[error("chunk {chunk} is outside its pack")]
    Outside {
        /// Its place in the index.
        chunk: usize,
    },
}

/// The index of a file of which nothing is known but its length: pieces of [`PLAIN_PIECE`] bytes, without digests.
pub(crate) fn plain(size: u64) -> Result<Index, PlanError> {
    if size == 0 || size > MAX_IMAGE {
        return Err(PlanError::Size { size });
    }
    let unknown = Digest::from_bytes([0; 32]);
    let piece = |number: u64| {
        let offset = number * PLAIN_PIECE;
        Chunk {
            digest: unknown,
            // At most PLAIN_PIECE, which is far below u32::MAX.
            length: PLAIN_PIECE.min(size - offset) as u32,
            place: Place::Stored { pack: 0, offset },
        }
    };
    Ok(Index {
        image_size: size,
        packs: vec![PackRef {
            sha256: unknown,
            length: size,
        }],
        chunks: (0..size.div_ceil(PLAIN_PIECE)).map(piece).collect(),
    })
}

impl Plan {
    /// Plans the chunks of `index` that are not there yet; `have` is asked once for each chunk, holes excepted.
    pub fn new(index: &Index, have: impl Fn(usize) -> bool) -> Result<Self, PlanError> {
        let mut wanted = Vec::new();
        for (number, (image_offset, chunk)) in index.placed().enumerate() {
            let length = u64::from(chunk.length);
            let target = Target {
                chunk: number,
                image_offset,
            };
            let (pack, offset, stored, codec) = match chunk.place {
                Place::Hole => continue,
                Place::Stored { pack, offset } => (pack, offset, length, 0u8),
                Place::Zstd {
                    pack,
                    offset,
                    stored_length,
                } => (pack, offset, u64::from(stored_length), 1),
            };
            for length in [length, stored] {
                if length == 0 || length > MAX_CHUNK {
                    return Err(PlanError::Length {
                        chunk: number,
                        length,
                    });
                }
            }
            let pack_length = usize::try_from(pack)
                .ok()
                .and_then(|pack| index.packs.get(pack))
                .map(|pack| pack.length);
            let inside = offset
                .checked_add(stored)
                .zip(pack_length)
                .is_some_and(|(end, limit)| end <= limit);
            if !inside {
                return Err(PlanError::Outside { chunk: number });
            }
            if !have(number) {
                wanted.push(((pack, offset, stored, codec, length, chunk.digest), target));
            }
        }
        wanted.sort_unstable_by_key(|(key, target)| (*key, target.chunk));
        Ok(Self::group(&wanted))
    }

    /// From chunks in pack order to pieces in the order of the image.
    fn group(wanted: &[(Key, Target)]) -> Self {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut targets = Vec::with_capacity(wanted.len());
        let mut image_bytes = 0;
        for same in wanted.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((&(pack, offset, stored, _, length, _), _)) =
                same.first().map(|(key, target)| (key, target))
            else {
                continue;
            };
            let joins = pieces.last().is_some_and(|before| {
                before.pack == pack
                    && offset
                        .checked_sub(before.end())
                        .is_some_and(|gap| gap <= MAX_GAP)
            });
            let start = targets.len();
            targets.extend(same.iter().map(|(_, target)| *target));
            image_bytes += length * same.len() as u64;
            pieces.push(Piece {
                pack,
                offset,
                stored,
                joins,
                targets: start..targets.len(),
            });
        }
        // Packs are read forwards, and stretches asked for as the image needs them, so that a sink that is a
        // file or a disk grows roughly from front to back.
        let first_use = |piece: &Piece| {
            targets
                .get(piece.targets.start)
                .map_or(usize::MAX, |target| target.chunk)
        };
        let mut stretches: Vec<&[Piece]> = pieces.chunk_by(|_, piece| piece.joins).collect();
        stretches.sort_by_cached_key(|stretch| stretch.iter().map(first_use).min());
        let pieces = stretches.concat();
        let stored_bytes = pieces.iter().map(|piece| piece.stored).sum();
        Self {
            pieces,
            targets,
            stored_bytes,
            image_bytes,
        }
    }

    /// How many pieces there are.
    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Bytes that have to cross the network, gaps and repetitions left out.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Bytes of the image that come out of them.
    pub fn image_bytes(&self) -> u64 {
        self.image_bytes
    }

    pub(crate) fn piece(&self, number: usize) -> Option<&Piece> {
        self.pieces.get(number)
    }

    pub(crate) fn targets(&self, piece: &Piece) -> &[Target] {
        self.targets.get(piece.targets.clone()).unwrap_or_default()
    }

    /// Cuts a run of about `size` bytes off the front of `pieces`.
    pub(crate) fn run(&self, pieces: Range<usize>, size: u64) -> Range<usize> {
        let size = size.clamp(MIN_RUN, MAX_RUN);
        let Some(first) = self.pieces.get(pieces.start) else {
            return pieces.start..pieces.start;
        };
        let rest = self
            .pieces
            .get(pieces.start + 1..pieces.end)
            .unwrap_or_default();
        let neighbours = || rest.iter().take_while(|piece| piece.joins);
        let length = |piece: &Piece| piece.end() - first.offset;
        let mut count = neighbours()
            .take_while(|piece| length(piece) <= size)
            .count();
        let whole = neighbours()
            .take_while(|piece| length(piece) <= size + MIN_RUN)
            .count();
        // A short rest is not worth a request of its own.
        let rest_is_short = rest.get(whole).is_none_or(|piece| !piece.joins);
        if rest_is_short
            && rest
                .get(..whole)
                .and_then(<[_]>::last)
                .is_some_and(|last| length(last) <= MAX_RUN)
        {
            count = whole;
        }
        pieces.start..pieces.start + 1 + count
    }

    /// The bytes of its pack that a run covers.
    pub(crate) fn range(&self, run: &Range<usize>) -> Option<Range<u64>> {
        let pieces = self.pieces.get(run.clone())?;
        Some(pieces.first()?.offset..pieces.last()?.end())
    }
}

/// Pack, offset, stored length, codec, length, digest: chunks that agree in all of them are one piece.
type Key = (u32, u64, u64, u8, u64, Digest);

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Chunks at these offsets of the only pack, which is 1 GiB long.
    fn index(chunks: &[(u64, u32)]) -> Index {
        let chunks: Vec<Chunk> = chunks
            .iter()
            .map(|&(offset, length)| Chunk {
                digest: Digest::of(&offset.to_le_bytes()),
                length,
                place: Place::Stored { pack: 0, offset },
            })
            .collect();
        Index {
            image_size: chunks.iter().map(|chunk| u64::from(chunk.length)).sum(),
            packs: vec![PackRef {
                sha256: Digest::of(b"pack"),
                length: 1 << 30,
            }],
            chunks,
        }
    }

    fn ranges(plan: &Plan, size: u64) -> Vec<Range<u64>> {
        let mut pieces = 0..plan.len();
        let mut ranges = Vec::new();
        while !pieces.is_empty() {
            let run = plan.run(pieces.clone(), size);
            assert!(run.start == pieces.start && run.end > run.start && run.end <= pieces.end);
            ranges.push(plan.range(&run).unwrap());
            pieces.start = run.end;
        }
        ranges
    }

    #[test]
    fn runs_have_the_size_asked_for_and_no_short_rest() {
        let chunks: Vec<(u64, u32)> = (0..64 * 20 + 3)
            .map(|number| (number * 65_536, 65_536))
            .collect();
        let plan = Plan::new(&index(&chunks), |_| false).unwrap();
        let expected = [0..4 * MIB, 4 * MIB..8 * MIB];
        // 80 MiB and a bit, in runs of 4 MiB: the bit joins the last of them.
        let found = ranges(&plan, 4 * MIB);
        assert_eq!(found[..2], expected);
        assert_eq!(
            (found.len(), found.last().unwrap().end),
            (20, 80 * MIB + 3 * 65_536)
        );
        // Sizes out of bounds are brought back into them.
        assert_eq!(ranges(&plan, 0)[0], 0..MIB);
        assert_eq!(ranges(&plan, u64::MAX)[0], 0..8 * MIB);
    }

    #[test]
    fn chunks_that_overlap_are_asked_for_one_by_one() {
        let plan = Plan::new(&index(&[(0, 1000), (500, 1000), (1500, 10)]), |_| false).unwrap();
        assert_eq!(ranges(&plan, 4 * MIB), [0..1000, 500..1510]);
    }

    #[test]
    fn refuses_an_index_that_makes_no_sense() {
        for length in [0, (1 << 20) + 1, u32::MAX] {
            let error = Plan::new(&index(&[(0, 5), (0, length)]), |_| false).unwrap_err();
            assert_eq!(
                error,
                PlanError::Length {
                    chunk: 1,
                    length: length.into()
                }
            );
        }
        for offset in [(1 << 30) - 4, 1 << 30, u64::MAX] {
            let error = Plan::new(&index(&[(offset, 5)]), |_| false).unwrap_err();
            assert_eq!(error, PlanError::Outside { chunk: 0 });
        }
        let mut foreign = index(&[(0, 5)]);
        foreign.chunks[0].place = Place::Zstd {
            pack: 1,
            offset: 0,
            stored_length: 4,
        };
        assert_eq!(
            Plan::new(&foreign, |_| false).unwrap_err(),
            PlanError::Outside { chunk: 0 }
        );
        foreign.chunks[0].place = Place::Zstd {
            pack: 0,
            offset: 0,
            stored_length: u32::MAX,
        };
        assert!(matches!(
            Plan::new(&foreign, |_| false),
            Err(PlanError::Length { .. })
        ));
    }

    proptest::proptest! {
        #[test]
        fn every_wanted_byte_is_in_exactly_one_run(
            chunks in proptest::collection::vec((0..200_000u64, 1..5000u32), 0..80),
            size in 0..10 * MIB,
        ) {
            let plan = Plan::new(&index(&chunks), |_| false).unwrap();
            let covered: usize = plan.pieces.iter().map(|piece| plan.targets(piece).len()).sum();
            proptest::prop_assert_eq!(covered, chunks.len());
            for range in ranges(&plan, size) {
                proptest::prop_assert!(range.start < range.end && range.end - range.start <= MAX_RUN);
            }
        }
    }
}
