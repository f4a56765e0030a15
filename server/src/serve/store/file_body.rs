//! A response body that reads a part of a file block by block: memory does not grow with the
//! file, and nothing is read that the client does not take.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

/// Large enough to make the thread hop per block unimportant, small enough for a thousand
/// connections at once.
const BLOCK: u64 = 128 * 1024;

/// The bytes `next..end` of a file.
#[derive(Debug)]
pub(crate) struct FileBody {
    file: Arc<File>,
    next: u64,
    end: u64,
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl FileBody {
    pub(crate) fn new(file: File, start: u64, end: u64) -> Self {
        Self {
            file: Arc::new(file),
            next: start,
            end,
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
        let (file, next, end) = (Arc::clone(&self.file), self.next, self.end);
        let reading = self
            .reading
            .get_or_insert_with(|| tokio::task::spawn_blocking(move || block(&file, next, end)));
        let result = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        let bytes = result.map_err(io::Error::other).flatten();
        Poll::Ready(Some(bytes.map(|bytes| {
            self.next = self.next.saturating_add(bytes.len() as u64);
            Frame::data(bytes.into())
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end.saturating_sub(self.next))
    }
}

/// A file that became shorter is an error: the response must end short of its announced length,
/// not with invented bytes.
fn block(file: &File, next: u64, end: u64) -> io::Result<Vec<u8>> {
    let length = end.saturating_sub(next).min(BLOCK);
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, next)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collect(bytes: &[u8], start: u64, end: u64) -> Result<Bytes, axum::Error> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let body = axum::body::Body::new(FileBody::new(file, start, end));
        axum::body::to_bytes(body, usize::MAX).await
    }

    #[tokio::test]
    async fn sends_exactly_the_part_over_several_blocks() {
        let bytes: Vec<u8> = (0..3 * BLOCK + 17).map(|n| (n % 251) as u8).collect();
        let part = collect(&bytes, 5, 3 * BLOCK + 11).await.unwrap();
        assert_eq!(part, bytes[5..(3 * BLOCK + 11) as usize]);
        assert!(collect(&bytes, 7, 7).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_is_an_error() {
        assert!(collect(b"short", 0, 6).await.is_err());
    }
}
