//! A connection with the bandwidth and the segmentation that the knobs ask for.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, sleep_until};

use super::knobs::{Knobs, Segmentation};

/// Most bytes taken from the connection at once.
const READ_AT_ONCE: usize = 16 << 10;
/// With a limited bandwidth, so much time's worth is read at once.
const SLICE: Duration = Duration::from_millis(5);
/// How late a timer may be without slowing the line.
const LATENESS: Duration = Duration::from_millis(20);

/// A byte stream to a console.
pub(super) struct Link<S> {
    stream: S,
    segmentation: Segmentation,
    bandwidth: u64,
    /// When what was read so far would have come through.
    free_at: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    pub(super) fn new(stream: S, knobs: &Knobs) -> Self {
        Self {
            stream,
            segmentation: knobs.segmentation,
            bandwidth: knobs.bandwidth,
            free_at: Instant::now(),
        }
    }

    /// Reads at most `most` bytes onto `buffer`; 0 at the end. Nothing is lost when it is dropped before it is
    /// done.
    pub(super) async fn read(&mut self, buffer: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        let mut most = most.min(READ_AT_ONCE);
        if self.bandwidth > 0 {
            sleep_until(self.free_at).await;
            let slice = u128::from(self.bandwidth) * SLICE.as_micros() / 1_000_000;
            most = most.min(usize::try_from(slice).unwrap_or(most).max(64));
        }
        // Without room, a read would take a few dozen bytes at a time.
        buffer.reserve(most);
        let mut limited = (&mut self.stream).take(u64::try_from(most).unwrap_or(u64::MAX));
        let count = limited.read_buf(buffer).await?;
        let scaled = u64::try_from(count).unwrap_or(0).saturating_mul(1_000_000);
        if let Some(micros) = scaled.checked_div(self.bandwidth) {
            // What was not used while nothing came is not saved up, but for what late timers cost.
            let earliest = Instant::now().checked_sub(LATENESS).unwrap_or(self.free_at);
            self.free_at = self.free_at.max(earliest) + Duration::from_micros(micros);
        }
        Ok(count)
    }

    /// Writes all of `bytes`.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.segmentation {
            Segmentation::Whole => self.stream.write_all(bytes).await?,
            Segmentation::Pieces {
                bytes: piece,
                gap_ms,
            } => {
                for part in bytes.chunks(piece.max(1)) {
                    self.stream.write_all(part).await?;
                    self.stream.flush().await?;
                    if gap_ms > 0 {
                        sleep(Duration::from_millis(gap_ms)).await;
                    }
                }
            }
        }
        self.stream.flush().await
    }

    /// Ends our direction in order, as far as that is still possible.
    pub(super) async fn shut_down(&mut self) {
        // The session is over either way.
        let _ = self.stream.shutdown().await;
    }

    /// The stream alone, for a relay.
    pub(super) fn into_stream(self) -> S {
        self.stream
    }
}
