//! The firmware as its shells share it: a lock that also tells who waits that something may have changed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::Firmware;

/// A handle to the one [`Firmware`] of a virtual PC.
#[derive(Debug, Clone)]
pub struct Shared {
    firmware: Arc<Mutex<Firmware>>,
    changes: watch::Sender<u64>,
}

impl Shared {
    /// Shares `firmware`.
    pub fn new(firmware: Firmware) -> Self {
        Self {
            firmware: Arc::new(Mutex::new(firmware)),
            changes: watch::Sender::new(0),
        }
    }

    /// Works on the firmware, then wakes everybody who waits for changes. Keep it short: others wait.
    pub fn with<R>(&self, work: impl FnOnce(&mut Firmware) -> R) -> R {
        let result = self.quietly(work);
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
        result
    }

    /// As [`Self::with`], for reading and for fetching actions and events: wakes nobody.
    pub fn quietly<R>(&self, work: impl FnOnce(&mut Firmware) -> R) -> R {
        // No method of the firmware leaves it half changed, so a panicking test elsewhere does not spoil it.
        work(&mut self.firmware.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells of changes. `changed().await` on it returns after each [`Self::with`] that it has not seen yet; then
    /// look for actions and session events.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Calls [`Firmware::handle_timeout`] whenever it is due; never returns. Exactly one task runs this.
    pub async fn run_timers(&self) {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let due = self.quietly(|firmware| firmware.poll_timeout());
            let sleep = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => self.with(|firmware| firmware.handle_timeout(Instant::now())),
                // The sender lives in `self`, so this cannot fail.
                _ = changes.changed() => {}
            }
        }
    }
}
