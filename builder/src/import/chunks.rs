//! Cutting a stream into chunks on all processors, in constant memory.
//!
//! FastCDC with 16, 64 and 256 KiB (least, average, most): a rebuilt image then shares most of its
//! chunks with the version before it. One thread reads, cuts and takes the digest of the whole; the
//! others take each chunk's digest and compress it; the caller gets the pieces in image order.
//! All queues are bounded, so a slow disk at the far end stops the reader.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use anyhow::{Context, anyhow};
use fastcdc::v2020::StreamCDC;
use sha2::{Digest as _, Sha256};
use sparetire_manifest::Digest;
use zstd::bulk::Compressor;

const LEAST: usize = 16 * 1024;
const AVERAGE: usize = 64 * 1024;
const MOST: usize = 256 * 1024;

/// Chunks that wait for a worker, and results that wait for the caller: 4 MiB each on average.
const QUEUE: usize = 64;

/// zstd level of the first attempt. Live images are mostly compressed already: this finds out fast.
const PROBE_LEVEL: i32 = 1;
/// zstd level where it pays: compressed once, fetched many times. On programs and libraries in
/// pieces of 64 KiB the levels 7 to 12 gain 0.9 % more between them, and take four times as long.
const LEVEL: i32 = 6;

/// A chunk of the image, ready to be stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Digest of the bytes in the image.
    pub(super) digest: Digest,
    /// How many there are.
    pub(super) length: u32,
    /// What is to be stored.
    pub(super) form: Form,
}

/// What is to be stored of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing: all bytes are zero.
    Zero,
    /// Nothing: the store has it.
    Known,
    /// The bytes as they are.
    Stored(Vec<u8>),
    /// The bytes as one zstd frame.
    Zstd(Vec<u8>),
}

/// Cuts `source` and hands the pieces to `take` in order; returns the digest of the whole.
///
/// `is_known` says whether the store has a chunk of that digest and length: it is not compressed.
pub(super) fn cut(
    source: impl Read + Send,
    is_known: &(dyn Fn(&Digest, u32) -> bool + Sync),
    take: &mut dyn FnMut(Piece) -> anyhow::Result<()>,
) -> anyhow::Result<Digest> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let (raw_in, raw_out) = sync_channel(QUEUE);
        let (ready_in, ready_out) = sync_channel(QUEUE);
        let reader = scope.spawn(move || read_all(source, raw_in));
        let raw_out = Arc::new(Mutex::new(raw_out));
        for _ in 0..workers {
            let ready_in = ready_in.clone();
            let raw_out = Arc::clone(&raw_out);
            scope.spawn(move || work(&raw_out, &ready_in, is_known));
        }
        // The workers hold the other ends now: when they end, so do the queues.
        drop((ready_in, raw_out));
        let collected = in_order(&ready_out, take);
        // Ends the workers, and through them the reader, when the caller gave up.
        drop(ready_out);
        let whole = reader
            .join()
            .map_err(|_| anyhow!("the reading thread died"))?;
        collected?;
        whole.context("reading the image")
    })
}

type Numbered<T> = (u64, T);

/// Reads to the end; stops early, with no error of its own, when nobody wants more.
fn read_all(source: impl Read, to: SyncSender<Numbered<Vec<u8>>>) -> io::Result<Digest> {
    let mut whole = Sha256::new();
    let chunks = StreamCDC::new(Hashing(source, &mut whole), LEAST, AVERAGE, MOST);
    for (number, chunk) in (0u64..).zip(chunks) {
        if to.send((number, chunk?.data)).is_err() {
            break;
        }
    }
    Ok(Digest::from_bytes(whole.finalize().into()))
}

struct Hashing<'a, R>(R, &'a mut Sha256);

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

fn work(
    from: &Mutex<Receiver<Numbered<Vec<u8>>>>,
    to: &SyncSender<Numbered<anyhow::Result<Piece>>>,
    is_known: &(dyn Fn(&Digest, u32) -> bool + Sync),
) {
    let mut compressors = match Compressors::new() {
        Ok(compressors) => compressors,
        Err(error) => {
            // Nobody waits any more when this is refused.
            let _ = to.send((0, Err(error)));
            return;
        }
    };
    loop {
        // A worker that panicked while waiting has taken nothing with it.
        let next = match from.lock() {
            Ok(from) => from.recv(),
            Err(_) => return,
        };
        let Ok((number, bytes)) = next else { return };
        if to
            .send((number, piece(bytes, &mut compressors, is_known)))
            .is_err()
        {
            return;
        }
    }
}

/// A worker's own, since setting one up takes longer than a small chunk.
struct Compressors {
    probe: Compressor<'static>,
    thorough: Compressor<'static>,
}

impl Compressors {
    fn new() -> anyhow::Result<Self> {
        let new = |level| Compressor::new(level).context("setting up compression");
        Ok(Self {
            probe: new(PROBE_LEVEL)?,
            thorough: new(LEVEL)?,
        })
    }
}

fn piece(
    bytes: Vec<u8>,
    compressors: &mut Compressors,
    is_known: &(dyn Fn(&Digest, u32) -> bool + Sync),
) -> anyhow::Result<Piece> {
    let digest = Digest::of(&bytes);
    let length = u32::try_from(bytes.len()).context("measuring a chunk")?;
    let form = if bytes.iter().all(|byte| *byte == 0) {
        Form::Zero
    } else if is_known(&digest, length) {
        Form::Known
    } else {
        compressed(bytes, compressors)?
    };
    Ok(Piece {
        digest,
        length,
        form,
    })
}

fn compressed(bytes: Vec<u8>, compressors: &mut Compressors) -> anyhow::Result<Form> {
    let probe = compress(&bytes, &mut compressors.probe)?;
    if !saves_enough(&probe, &bytes) {
        return Ok(Form::Stored(bytes));
    }
    Ok(Form::Zstd(shorter(
        compress(&bytes, &mut compressors.thorough)?,
        probe,
    )))
}

/// A higher level is not always better: on a chunk of noise and text it may give up on what the
/// lower one has found, and its frame is longer than the chunk then.
fn shorter(thorough: Vec<u8>, probe: Vec<u8>) -> Vec<u8> {
    if thorough.len() < probe.len() {
        thorough
    } else {
        probe
    }
}

fn compress(bytes: &[u8], compressor: &mut Compressor<'_>) -> anyhow::Result<Vec<u8>> {
    compressor.compress(bytes).context("compressing a chunk")
}

/// Less than 3 % is not worth a reader's time.
fn saves_enough(compressed: &[u8], bytes: &[u8]) -> bool {
    compressed.len() * 100 <= bytes.len() * 97
}

/// At most both queues and one piece per worker wait here.
fn in_order(
    from: &Receiver<Numbered<anyhow::Result<Piece>>>,
    take: &mut dyn FnMut(Piece) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut waiting = BTreeMap::new();
    let mut next = 0u64;
    for (number, piece) in from {
        waiting.insert(number, piece?);
        while let Some(piece) = waiting.remove(&next) {
            take(piece)?;
            next += 1;
        }
    }
    if waiting.is_empty() {
        Ok(())
    } else {
        Err(anyhow!("a compressing thread died"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Bytes without a pattern that zstd or FastCDC could find, the same on each run.
    pub(in super::super) fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .take(length)
        .collect()
    }

    fn cut_bytes(bytes: &[u8], known: &[Digest]) -> (Digest, Vec<Piece>) {
        let mut pieces = Vec::new();
        let whole = cut(bytes, &|digest, _| known.contains(digest), &mut |piece| {
            pieces.push(piece);
            Ok(())
        })
        .unwrap();
        (whole, pieces)
    }

    #[test]
    fn pieces_come_in_order_and_add_up_to_the_image() {
        let bytes = noise(5_000_000, 1);
        let (whole, pieces) = cut_bytes(&bytes, &[]);
        assert_eq!(whole, Digest::of(&bytes));
        assert!(pieces.len() > 20, "{} pieces", pieces.len());
        let mut rest = bytes.as_slice();
        for piece in pieces {
            let (head, tail) = rest.split_at(piece.length as usize);
            assert_eq!(piece.digest, Digest::of(head));
            assert_eq!(piece.form, Form::Stored(head.to_vec()));
            rest = tail;
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn zeros_become_holes_and_text_is_compressed() {
        let (_, pieces) = cut_bytes(&vec![0; 1 << 20], &[]);
        assert!(pieces.iter().all(|piece| piece.form == Form::Zero));
        let text = b"all work and no play makes a dull image\n".repeat(20_000);
        let (_, pieces) = cut_bytes(&text, &[]);
        for piece in pieces {
            let Form::Zstd(frame) = piece.form else {
                panic!("not compressed")
            };
            let bytes = zstd::bulk::decompress(&frame, piece.length as usize).unwrap();
            assert_eq!(Digest::of(&bytes), piece.digest);
        }
    }

    #[test]
    fn known_chunks_are_not_carried_along() {
        let bytes = noise(1_000_000, 2);
        let (_, pieces) = cut_bytes(&bytes, &[]);
        let known: Vec<Digest> = pieces.iter().map(|piece| piece.digest).collect();
        let (_, pieces) = cut_bytes(&bytes, &known);
        assert!(pieces.iter().all(|piece| piece.form == Form::Known));
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let mut bytes = noise(5_000_000, 3);
        let (_, before) = cut_bytes(&bytes, &[]);
        bytes.splice(1_000_000..1_000_000, *b"inserted");
        let (_, after) = cut_bytes(&bytes, &[]);
        let old: Vec<Digest> = before.iter().map(|piece| piece.digest).collect();
        let changed = after.iter().filter(|p| !old.contains(&p.digest)).count();
        assert!(changed <= 3, "{changed} of {} chunks changed", after.len());
    }

    #[test]
    fn a_higher_level_counts_only_when_it_is_better() {
        let (long, short) = (vec![1; 75_348], vec![2; 73_056]);
        assert_eq!(shorter(long.clone(), short.clone()), short);
        assert_eq!(shorter(short.clone(), long), short);
    }

    #[test]
    fn nothing_is_no_chunk() {
        let (whole, pieces) = cut_bytes(b"", &[]);
        assert_eq!(whole, Digest::of(b""));
        assert!(pieces.is_empty());
    }

    #[test]
    fn a_read_error_ends_everything() {
        struct Broken(usize);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.0 == 0 {
                    return Err(io::Error::other("bad sector"));
                }
                self.0 -= 1;
                buffer.fill(7);
                Ok(buffer.len())
            }
        }
        let error = cut(Broken(50), &|_, _| false, &mut |_| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("bad sector"), "{error:#}");
    }

    #[test]
    fn a_caller_that_gives_up_stops_an_endless_source() {
        let error = cut(io::repeat(7), &|_, _| false, &mut |_| {
            Err(anyhow!("disk full"))
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "disk full");
    }
}
