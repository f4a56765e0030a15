//! What people type on any of the terminals, as one stream of bytes.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::sys::{self, Waiting};

/// Keys kept while nobody asks for them; the rest is lost.
const MAX_KEYS: usize = 64;
/// A listening thread only reads bytes.
const STACK: usize = 64 * 1024;

/// All keyboards.
#[derive(Debug)]
pub struct Keys {
    sender: mpsc::Sender<u8>,
    receiver: mpsc::Receiver<u8>,
}

impl Default for Keys {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_KEYS);
        Self { sender, receiver }
    }
}

impl Keys {
    /// Listens to one more terminal, until it goes away.
    pub fn listen(&self, terminal: File) {
        let sender = self.sender.clone();
        let builder = thread::Builder::new().stack_size(STACK);
        // Without a thread there are no keys from this terminal; the boot needs none.
        let _ = builder.spawn(move || pass_on(terminal, &sender));
    }

    /// Forgets what was typed so far: it was not meant for what is asked now.
    pub fn forget(&mut self) {
        while self.receiver.try_recv().is_ok() {}
    }

    /// The next key, or none when the time has passed.
    pub async fn next(&mut self, limit: Duration) -> Option<u8> {
        // The channel never ends: this side holds a sender too.
        timeout(limit, self.receiver.recv()).await.ok().flatten()
    }
}

fn pass_on(mut terminal: File, sender: &mpsc::Sender<u8>) {
    let mut bytes = [0u8; 32];
    loop {
        match terminal.read(&mut bytes) {
            Ok(0) => return,
            Ok(length) => {
                for &byte in bytes.iter().take(length) {
                    if let Err(mpsc::error::TrySendError::Closed(_)) = sender.try_send(byte) {
                        return;
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut waiting = [Waiting::read(terminal.as_fd())];
                if sys::poll(&mut waiting, Duration::from_secs(3600)).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    #[test]
    fn keys_of_all_terminals_arrive_until_they_are_forgotten() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut keys = Keys::default();
        keys.listen(File::from(OwnedFd::from(reader)));
        runtime().block_on(async {
            writer.write_all(b"s").unwrap();
            assert_eq!(keys.next(Duration::from_secs(60)).await, Some(b's'));
            writer.write_all(b"xy").unwrap();
            assert_eq!(keys.next(Duration::from_secs(60)).await, Some(b'x'));
            keys.forget();
            drop(writer);
            assert_ne!(keys.next(Duration::from_millis(50)).await, Some(b'x'));
        });
    }
}
