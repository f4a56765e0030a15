//! The cable of the management firmware: a stream that can be frozen, as by a pulled cable, or
//! broken, as by a firmware that loses its connections.
//!
//! Frozen connections keep what was sent and go on later, as TCP does over a short outage. New
//! connections are completed by the host's kernel meanwhile, which a pulled cable would not do;
//! nobody answers on them.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The cable. Clones are the same cable.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cable {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    cut: bool,
    /// Streams of an earlier generation are broken.
    generation: u64,
    next_stream: u64,
    waiting: HashMap<(u64, Direction), Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Direction {
    Read,
    Write,
}

impl Cable {
    /// Whether it is cut.
    #[must_use]
    pub(crate) fn is_cut(&self) -> bool {
        self.lock().cut
    }

    /// Cuts or mends it.
    pub(crate) fn set_cut(&self, cut: bool) {
        self.change(|state| state.cut = cut);
    }

    /// Breaks every stream on it.
    pub(crate) fn break_streams(&self) {
        self.change(|state| state.generation += 1);
    }

    /// Leads a stream through it.
    pub(crate) fn wrap<S>(&self, stream: S) -> Cabled<S> {
        let mut state = self.lock();
        state.next_stream += 1;
        let (id, generation) = (state.next_stream, state.generation);
        drop(state);
        Cabled {
            cable: self.clone(),
            id,
            generation,
            stream,
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waiting = {
            let mut state = self.lock();
            change(&mut state);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream through a [`Cable`].
#[derive(Debug)]
pub(crate) struct Cabled<S> {
    cable: Cable,
    id: u64,
    generation: u64,
    stream: S,
}

impl<S> Cabled<S> {
    fn passable(&self, direction: Direction, context: &Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.cable.lock();
        if state.generation != self.generation {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        state
            .waiting
            .insert((self.id, direction), context.waker().clone());
        if state.cut {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }
}

impl<S> Drop for Cabled<S> {
    fn drop(&mut self) {
        let mut state = self.cable.lock();
        state.waiting.remove(&(self.id, Direction::Read));
        state.waiting.remove(&(self.id, Direction::Write));
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cabled<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.passable(Direction::Read, context))?;
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cabled<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        std::task::ready!(this.passable(Direction::Write, context))?;
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.passable(Direction::Write, context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.passable(Direction::Write, context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn a_mended_cable_delivers_what_was_sent_meanwhile() {
        let cable = Cable::default();
        let (ours, mut theirs) = duplex(64);
        let mut ours = cable.wrap(ours);
        cable.set_cut(true);
        theirs.write_all(b"hello").await.unwrap();
        let mut buffer = [0; 5];
        let mut read = Box::pin(ours.read_exact(&mut buffer));
        assert!(futures_pending(&mut read).await);
        cable.set_cut(false);
        read.await.unwrap();
        assert_eq!(&buffer, b"hello");
    }

    #[tokio::test]
    async fn broken_streams_fail_at_once_and_new_ones_work() {
        let cable = Cable::default();
        let (ours, mut theirs) = duplex(64);
        let mut ours = cable.wrap(ours);
        let waiting = tokio::spawn(async move { ours.read_u8().await.unwrap_err().kind() });
        tokio::task::yield_now().await;
        cable.break_streams();
        assert_eq!(waiting.await.unwrap(), io::ErrorKind::ConnectionReset);
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);

        let (ours, mut theirs) = duplex(64);
        cable.wrap(ours).write_all(b"x").await.unwrap();
        assert_eq!(theirs.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn streams_that_are_gone_leave_nothing_behind() {
        let cable = Cable::default();
        cable.set_cut(true);
        let (ours, _theirs) = duplex(64);
        let mut ours = cable.wrap(ours);
        {
            let mut read = Box::pin(ours.read_u8());
            assert!(futures_pending(&mut read).await);
        }
        drop(ours);
        assert!(cable.lock().waiting.is_empty());
    }

    /// Whether the future is not ready when asked once.
    async fn futures_pending<F: Future + Unpin>(future: &mut F) -> bool {
        std::future::poll_fn(|context| {
            Poll::Ready(Pin::new(&mut *future).poll(context).is_pending())
        })
        .await
    }
}
