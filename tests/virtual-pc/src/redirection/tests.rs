//! Sessions from connection to end: by hand-written bytes, and against the console's state machines.

mod pair;
mod scripts;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;

use super::*;
use crate::firmware::{Config, Epoch, Firmware, Profile};

pub(super) const PASSWORD: &str = "P@ssw0rd";
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn config(profile: &str) -> Config {
    Config::new(Profile::named(profile).unwrap(), PASSWORD)
}

pub(super) fn firmware(config: Config) -> Shared {
    let epoch = Epoch {
        instant: Instant::now(),
        unix: 1_700_000_000,
    };
    Shared::new(Firmware::new(config, 1, epoch))
}

/// A PC without a console yet.
pub(super) struct Pc {
    pub(super) redirection: Arc<Redirection>,
    pub(super) firmware: Shared,
    pub(super) serial: GuestSerial,
}

impl Pc {
    pub(super) fn new(config: Config, knobs: Knobs) -> Self {
        Self::with_screen(config, knobs, None)
    }

    pub(super) fn with_screen(config: Config, knobs: Knobs, screen: Option<PathBuf>) -> Self {
        let firmware = firmware(config);
        let (port, serial) = serial_port();
        let redirection = Redirection::new(firmware.clone(), knobs, port, screen);
        Self {
            redirection: Arc::new(redirection),
            firmware,
            serial,
        }
    }

    /// A connection that the PC serves; the task ends with it.
    pub(super) fn connect(&self) -> (DuplexStream, JoinHandle<()>) {
        let (console, pc) = tokio::io::duplex(64 << 10);
        let redirection = self.redirection.clone();
        let task = tokio::spawn(async move { redirection.serve(pc, "192.0.2.1").await });
        (console, task)
    }

    pub(super) fn script(&self) -> Script {
        let (stream, task) = self.connect();
        Script { stream, task }
    }
}

/// A console that says and expects bytes.
pub(super) struct Script {
    pub(super) stream: DuplexStream,
    pub(super) task: JoinHandle<()>,
}

impl Script {
    pub(super) async fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(super) async fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let read = self.stream.read_exact(&mut bytes);
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("too late")
            .unwrap();
        bytes
    }

    #[track_caller]
    pub(super) fn expect<'a>(&'a mut self, bytes: &'a [u8]) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let found = self.take(bytes.len()).await;
            assert_eq!(found, bytes, "expected at {caller}");
        }
    }

    /// The PC closes, without another byte.
    pub(super) async fn expect_end(mut self) {
        let mut rest = Vec::new();
        let end = self.stream.read_to_end(&mut rest);
        tokio::time::timeout(PATIENCE, end)
            .await
            .expect("too late")
            .unwrap();
        assert_eq!(rest, b"");
        self.task.await.unwrap();
    }
}
