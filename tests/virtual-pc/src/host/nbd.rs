//! A network block device server towards QEMU (NetworkBlockDevice/nbd, doc/proto.md): fixed
//! newstyle handshake, simple replies, one request at a time.
//!
//! The drives behind it are at the other end of a redirection session, which carries one
//! command at a time as well. Bytes and behaviour are in [`session`]; this file moves them.
//! Not supported: structured replies, TLS, several exports per socket.

pub mod session;

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use session::{Action, Export, Failure, Operation, Session};

/// What an export reads from and writes to. Every error becomes the guest's I/O error.
pub trait BlockDevice: Send + Sync + 'static {
    /// What a connection that starts now gets; `None` while there is no medium.
    fn export(&self) -> Option<Export>;
    /// Reads exactly `length` bytes at `offset`.
    fn read(&self, offset: u64, length: usize) -> impl Future<Output = io::Result<Vec<u8>>> + Send;
    /// Writes all of `data` at `offset`.
    fn write(&self, offset: u64, data: Vec<u8>) -> impl Future<Output = io::Result<()>> + Send;
    /// Returns when everything written before is kept.
    fn flush(&self) -> impl Future<Output = io::Result<()>> + Send;
}

/// A listening socket; dropping it ends the listener and its connections.
#[derive(Debug)]
pub struct Server {
    task: JoinHandle<()>,
}

impl Server {
    /// Listens on `path`, which must not exist yet.
    pub fn listen(path: &Path, device: Arc<impl BlockDevice>) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let task = tokio::spawn(async move {
            // Dropped with this task, which aborts them.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => {
                            connections.spawn(converse(stream, Arc::clone(&device)));
                        }
                        Err(error) => {
                            // Out of descriptors, mostly: QEMU will report the drive as broken.
                            tracing::warn!(%error, "cannot accept QEMU's block connection");
                            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        }
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Server { task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection to its end.
async fn converse(mut stream: UnixStream, device: Arc<impl BlockDevice>) {
    let mut session = Session::new(device.export());
    let mut buffer = vec![0; 64 << 10];
    loop {
        let action = match session.step() {
            Ok(action) => action,
            Err(error) => {
                tracing::warn!(%error, "closing a block connection");
                return;
            }
        };
        let answer = match action {
            Action::Send(bytes) => bytes,
            Action::Close => return,
            Action::Read => match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    session.push(buffer.get(..length).unwrap_or_default());
                    continue;
                }
            },
            Action::Execute { cookie, operation } => {
                let result = execute(&*device, operation).await;
                session::reply(cookie, result.map_err(|error| failure(&error)))
            }
        };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn execute(device: &impl BlockDevice, operation: Operation) -> io::Result<Vec<u8>> {
    match operation {
        Operation::Read { offset, length } => {
            let data = device.read(offset, length).await?;
            if data.len() == length {
                Ok(data)
            } else {
                Err(io::Error::other("the drive sent another length"))
            }
        }
        Operation::Write { offset, data } => device.write(offset, data).await.map(|()| Vec::new()),
        Operation::Flush => device.flush().await.map(|()| Vec::new()),
    }
}

fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Failure::NotPermitted
        }
        _ => Failure::InputOutput,
    }
}

#[cfg(test)]
mod tests;
