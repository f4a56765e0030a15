//! Cuts the body of one run into pieces, and lets nothing past that the index does not vouch for.

use std::ops::Range;

use sparetire_manifest::Digest;
use sparetire_manifest::index::{Chunk, Index, Place};
use zstd::zstd_safe::DCtx;

use crate::fault::What;
use crate::plan::{Piece, Plan, Target};

/// Where in its run a request has got to, and the unfinished piece.
#[derive(Debug)]
pub(crate) struct Receiver {
    run: Range<usize>,
    /// The next piece that is not complete.
    next: usize,
    /// Position in the pack of the next byte to come.
    position: u64,
    /// The first bytes of piece `next`.
    partial: Vec<u8>,
}

/// Turns stored bytes into chunks. One for all connections: chunks are worked on one at a time.
pub(crate) struct Decoder {
    zstd: DCtx<'static>,
    plain: Vec<u8>,
}

impl Receiver {
    /// Starts on a run. `partial` are the first bytes of its first piece, received earlier.
    pub(crate) fn new(plan: &Plan, run: Range<usize>, mut partial: Vec<u8>) -> Option<Self> {
        let first = plan.piece(run.start).filter(|_| !run.is_empty())?;
        if partial.len() as u64 >= first.stored {
            partial.clear();
        }
        let position = first.offset + partial.len() as u64;
        Some(Self {
            next: run.start,
            run,
            position,
            partial,
        })
    }

    /// The pieces of the run that are neither complete nor under way.
    pub(crate) fn untouched(&self) -> Range<usize> {
        (self.next + 1).min(self.run.end)..self.run.end
    }

    /// The piece that is due, by its place in the plan.
    pub(crate) fn due_number(&self) -> Option<usize> {
        (self.next < self.run.end).then_some(self.next)
    }

    /// Leaves pieces from `end` on to someone else.
    pub(crate) fn shorten(&mut self, end: usize) {
        self.run.end = self.run.end.min(end.max(self.next));
    }

    /// Bytes of the pack still to come.
    pub(crate) fn missing(&self, plan: &Plan) -> Range<u64> {
        let end = plan
            .range(&self.run)
            .map_or(self.position, |range| range.end);
        self.position..end
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.partial.capacity()
    }

    /// The piece that is due.
    pub(crate) fn due<'p>(&self, plan: &'p Plan) -> Option<&'p Piece> {
        plan.piece(self.next).filter(|_| self.next < self.run.end)
    }

    /// The last piece of the run.
    pub(crate) fn last<'p>(&self, plan: &'p Plan) -> Option<&'p Piece> {
        plan.piece(self.run.end.checked_sub(1)?)
    }

    /// The pieces not yet complete, and what is there of the first of them.
    pub(crate) fn into_rest(self) -> (Range<usize>, Vec<u8>) {
        (self.next..self.run.end, self.partial)
    }

    /// Takes body bytes. `complete` gets each complete piece with its stored bytes, which nobody checked yet.
    /// Leaves in `bytes` what comes after the run.
    pub(crate) fn take<E>(
        &mut self,
        plan: &Plan,
        bytes: &mut &[u8],
        mut complete: impl FnMut(&Piece, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(piece) = self.due(plan) {
            if bytes.is_empty() {
                break;
            }
            // The gap before a piece that does not follow its neighbour directly.
            let gap =
                usize::try_from(piece.offset.saturating_sub(self.position)).unwrap_or(usize::MAX);
            if gap > 0 {
                let taken = split_off(bytes, gap);
                self.position += taken.len() as u64;
                continue;
            }
            // The plan allows no piece longer than MAX_CHUNK.
            let stored = usize::try_from(piece.stored).unwrap_or(usize::MAX);
            let taken = split_off(bytes, stored.saturating_sub(self.partial.len()));
            self.position += taken.len() as u64;
            if taken.len() == stored {
                complete(piece, taken)?;
            } else {
                self.partial
                    .reserve_exact(stored.saturating_sub(self.partial.len()));
                self.partial.extend_from_slice(taken);
                if self.partial.len() < stored {
                    break;
                }
                let whole = complete(piece, &self.partial);
                self.partial.clear();
                whole?;
            }
            self.next += 1;
        }
        Ok(())
    }
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            zstd: DCtx::create(),
            plain: Vec::new(),
        }
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.plain.capacity()
    }

    /// The chunk that `stored` holds, checked against its digest where `judges` says that there is one.
    pub(crate) fn decode<'a>(
        &'a mut self,
        chunk: &Chunk,
        stored: &'a [u8],
        judges: bool,
    ) -> Result<&'a [u8], What> {
        let plain = match chunk.place {
            Place::Hole | Place::Stored { .. } => stored,
            Place::Zstd { .. } => {
                // The plan allows no chunk longer than MAX_CHUNK, and zstd never writes past the buffer.
                let length = usize::try_from(chunk.length).unwrap_or(0);
                if self.plain.len() < length {
                    self.plain.resize(length, 0);
                }
                let plain = self.plain.get_mut(..length).unwrap_or_default();
                match self.zstd.decompress(&mut *plain, stored) {
                    Ok(written) if written == length => plain,
                    _ => return Err(What::Undecodable),
                }
            }
        };
        if !judges {
            return Ok(plain);
        }
        let found = Digest::of(plain);
        if found != chunk.digest {
            return Err(What::Corrupt {
                expected: chunk.digest,
                found,
            });
        }
        Ok(plain)
    }
}

/// The chunk of `index` that a target stands for.
pub(crate) fn chunk_of<'i>(index: &'i Index, target: Option<&Target>) -> Option<&'i Chunk> {
    index.chunks.get(target?.chunk)
}

/// Takes at most `count` bytes off the front.
fn split_off<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (front, rest) = bytes.split_at(count.min(bytes.len()));
    *bytes = rest;
    front
}
