//! A response body that reads a part of a file block by block: memory does not grow with the
//! file, and nothing is read that the client does not take.
//!
//! What the page cache holds is read at once (`RWF_NOWAIT`); only for the rest does a thread
//! wait for the disk. hyper offers no `sendfile`, so each byte is copied twice, into a block and
//! out of it; `cargo xtask bench serve` says what that costs.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::{Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::task::JoinHandle;

/// Large enough to make a system call per block unimportant, small enough for a thousand
/// connections at once.
const BLOCK: usize = 256 * 1024;

/// Blocks kept for the next reader: 8 MiB.
const KEPT: usize = 32;

/// Blocks that nobody uses at the moment. New ones would have to be zeroed, which takes as long
/// as half a copy, and given back to the kernel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocks(Arc<Mutex<Vec<Box<[u8]>>>>);

impl Blocks {
    /// One with `length` bytes in use, whatever they are.
    fn take(&self, length: usize) -> Block {
        let bytes = self
            .lock()
            .pop()
            .unwrap_or_else(|| vec![0; BLOCK].into_boxed_slice());
        Block {
            bytes,
            length: length.min(BLOCK),
            home: self.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        // A list of blocks is right whoever panicked while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A block in use; goes home when dropped.
#[derive(Debug)]
struct Block {
    bytes: Box<[u8]>,
    length: usize,
    home: Blocks,
}

impl Block {
    fn space(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.length).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut kept = self.home.lock();
        if kept.len() < KEPT {
            kept.push(bytes);
        }
    }
}

/// The bytes `next..end` of a file.
#[derive(Debug)]
pub(crate) struct FileBody {
    file: Arc<File>,
    next: u64,
    end: u64,
    blocks: Blocks,
    /// A thread that waits for the disk.
    reading: Option<JoinHandle<io::Result<Block>>>,
}

impl FileBody {
    pub(crate) fn new(file: File, start: u64, end: u64, blocks: Blocks) -> Self {
        Self {
            file: Arc::new(file),
            next: start,
            end,
            blocks,
            reading: None,
        }
    }
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.next >= self.end {
            return Poll::Ready(None);
        }
        let result = match &mut self.reading {
            Some(reading) => {
                let result = ready!(Pin::new(reading).poll(context));
                self.reading = None;
                result.map_err(io::Error::other).flatten()
            }
            None => {
                let left = self.end.saturating_sub(self.next);
                let mut block = self
                    .blocks
                    .take(usize::try_from(left).unwrap_or(usize::MAX));
                match read_cached(&self.file, &mut block, self.next) {
                    Ok(true) => Ok(block),
                    Ok(false) => {
                        let (file, next) = (Arc::clone(&self.file), self.next);
                        self.reading = Some(tokio::task::spawn_blocking(move || {
                            file.read_exact_at(block.space(), next)?;
                            Ok(block)
                        }));
                        // The task has to be asked once, or it would wake nobody.
                        return self.poll_frame(context);
                    }
                    Err(error) => Err(error),
                }
            }
        };
        Poll::Ready(Some(result.map(|block| {
            self.next = self.next.saturating_add(block.length as u64);
            Frame::data(Bytes::from_owner(block))
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end.saturating_sub(self.next))
    }
}

/// Fills the block, or a part of it that becomes its length, with what takes no waiting; false
/// when that is nothing, or the file system cannot tell.
///
/// A file that became shorter is an error: the response must end short of its announced length,
/// not with invented bytes.
fn read_cached(file: &File, block: &mut Block, at: u64) -> io::Result<bool> {
    let mut space = [IoSliceMut::new(block.space())];
    match preadv2(file, &mut space, at, ReadWriteFlags::NOWAIT) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => {
            block.length = count;
            Ok(true)
        }
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collect_in(
        dir: &std::path::Path,
        bytes: &[u8],
        start: u64,
        end: u64,
    ) -> Result<Bytes, axum::Error> {
        let file = tempfile::tempfile_in(dir).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let body = axum::body::Body::new(FileBody::new(file, start, end, Blocks::default()));
        axum::body::to_bytes(body, usize::MAX).await
    }

    async fn collect(bytes: &[u8], start: u64, end: u64) -> Result<Bytes, axum::Error> {
        collect_in(&std::env::temp_dir(), bytes, start, end).await
    }

    #[tokio::test]
    async fn sends_exactly_the_part_over_several_blocks() {
        let block = BLOCK as u64;
        let bytes: Vec<u8> = (0..3 * block + 17).map(|n| (n % 251) as u8).collect();
        // /dev/shm is a file system that cannot read without waiting.
        for dir in [std::env::temp_dir(), "/dev/shm".into()] {
            let part = collect_in(&dir, &bytes, 5, 3 * block + 11).await.unwrap();
            assert_eq!(part, bytes[5..(3 * block + 11) as usize]);
        }
        assert!(collect(&bytes, 7, 7).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_is_an_error() {
        assert!(collect(b"short", 0, 6).await.is_err());
    }

    #[test]
    fn blocks_go_home_and_few_are_kept() {
        let blocks = Blocks::default();
        let taken: Vec<Block> = (0..KEPT + 5).map(|_| blocks.take(1)).collect();
        assert!(taken.iter().all(|block| block.as_ref().len() == 1));
        drop(taken);
        assert_eq!(blocks.lock().len(), KEPT);
        assert_eq!(blocks.take(usize::MAX).as_ref().len(), BLOCK);
        assert_eq!(blocks.lock().len(), KEPT);
        drop(blocks.take(0));
        assert_eq!(blocks.lock().len(), KEPT);
    }
}
