//! The guest's serial port as SOL sees it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};

/// Pieces of output that a session may lag behind before it loses some.
const OUTPUT_PIECES: usize = 1024;
/// Pieces of input that wait for a guest which does not read.
const INPUT_PIECES: usize = 64;
/// How long input waits for the guest at most.
const LONGEST_PATIENCE: Duration = Duration::from_secs(5);

/// The firmware's end of the guest's serial port.
#[derive(Debug, Clone)]
pub struct SolPort {
    output: broadcast::Sender<Arc<[u8]>>,
    input: mpsc::Sender<Vec<u8>>,
}

/// The host's end: what drives the guest's serial port.
#[derive(Debug)]
pub struct GuestSerial {
    /// What the guest writes goes in here. Without a session it is lost, as on a line that nobody listens to; so
    /// the number of receivers in the result means nothing.
    pub output: broadcast::Sender<Arc<[u8]>>,
    /// What a console types comes out here.
    pub input: mpsc::Receiver<Vec<u8>>,
}

/// A serial port, both ends.
pub fn serial_port() -> (SolPort, GuestSerial) {
    let output = broadcast::Sender::new(OUTPUT_PIECES);
    let (sender, receiver) = mpsc::channel(INPUT_PIECES);
    let port = SolPort {
        output: output.clone(),
        input: sender,
    };
    let guest = GuestSerial {
        output,
        input: receiver,
    };
    (port, guest)
}

impl SolPort {
    pub(super) fn output(&self) -> broadcast::Receiver<Arc<[u8]>> {
        self.output.subscribe()
    }

    /// Hands over what was typed; false if the guest did not take it within `patience` and it is lost.
    pub(super) async fn type_in(&self, keys: Vec<u8>, patience: Option<Duration>) -> bool {
        // "Never" is not for ever: the session must stay alive to be ended.
        let patience = patience.unwrap_or(LONGEST_PATIENCE);
        self.input.send_timeout(keys, patience).await.is_ok()
    }
}
