//! The digest of a file that is being filled in any order, taken while it is filled.
//!
//! A thread follows the front, up to which nothing is missing, and reads the bytes back from the
//! file. After the last piece little is left to do, where reading everything again would take a
//! second per gigabyte in which nothing is received.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};
use sparetire_manifest::Digest;

/// Bytes read back at a time.
const PIECE: u64 = 256 * 1024;

/// The front has to move by that much before the thread is told, so that it is seldom woken.
const STEP: u64 = 1 << 20;

/// A digest being taken.
#[derive(Debug)]
pub(super) struct RunningDigest {
    fronts: Sender<u64>,
    thread: JoinHandle<io::Result<Digest>>,
    front: u64,
    told: u64,
    /// Pieces beyond the front: offset and length.
    beyond: BTreeMap<u64, u64>,
}

impl RunningDigest {
    /// Of `file`, which has `size` bytes already and of which nothing is known yet.
    pub(super) fn new(file: File, size: u64) -> io::Result<Self> {
        let (fronts, told) = channel();
        let thread = std::thread::Builder::new()
            .name("digest".to_owned())
            .spawn(move || follow(&file, size, &told))?;
        Ok(Self {
            fronts,
            thread,
            front: 0,
            told: 0,
            beyond: BTreeMap::new(),
        })
    }

    /// These bytes of the file are final.
    pub(super) fn filled(&mut self, offset: u64, length: u64) {
        self.beyond.insert(offset, length);
        while let Some(length) = self.beyond.remove(&self.front) {
            // An empty piece would stay at the front for ever.
            self.front = self.front.saturating_add(length);
        }
        if self.front - self.told >= STEP {
            self.told = self.front;
            // A thread that ended has an error, which `finish` returns.
            let _ = self.fronts.send(self.front);
        }
    }

    /// The digest; every byte of the file has to be final.
    pub(super) fn finish(self) -> io::Result<Digest> {
        drop(self.fronts);
        self.thread
            .join()
            .map_err(|_| io::Error::other("the digest's thread died"))?
    }
}

fn follow(file: &File, size: u64, fronts: &Receiver<u64>) -> io::Result<Digest> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; PIECE as usize];
    let mut done = 0;
    for front in fronts.iter().chain(std::iter::once(size)) {
        while done < front {
            let length = (front - done).min(PIECE);
            let piece = buffer.get_mut(..length as usize).unwrap_or_default();
            file.read_exact_at(piece, done)?;
            digest.update(piece);
            done += length;
        }
    }
    Ok(Digest::from_bytes(digest.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_in_any_order_give_the_digest_of_the_whole() {
        let bytes: Vec<u8> = (0..5_000_000_u32)
            .map(|n| (n.wrapping_mul(n) >> 7) as u8)
            .collect();
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        let mut running =
            RunningDigest::new(file.try_clone().unwrap(), bytes.len() as u64).unwrap();
        let mut pieces: Vec<(usize, &[u8])> = bytes.chunks(70_001).enumerate().collect();
        // Every third first, then the rest from the end.
        pieces.sort_by_key(|(number, _)| (number % 3, usize::MAX - number));
        for (number, piece) in pieces {
            let offset = number as u64 * 70_001;
            file.write_all_at(piece, offset).unwrap();
            running.filled(offset, piece.len() as u64);
        }
        assert_eq!(running.front, bytes.len() as u64);
        assert!(running.told > 0);
        assert_eq!(running.finish().unwrap(), Digest::of(&bytes));
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        let running = RunningDigest::new(file, 1).unwrap();
        assert!(running.finish().is_err());
    }

    #[test]
    fn a_file_without_bytes_has_the_digest_of_nothing() {
        let running = RunningDigest::new(tempfile::tempfile().unwrap(), 0).unwrap();
        assert_eq!(running.finish().unwrap(), Digest::of(b""));
    }
}
