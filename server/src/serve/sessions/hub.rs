//! Wakes who follows a session when it changed. Carries no data: followers read the database,
//! so a slow one misses nothing and costs no queue.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

#[derive(Debug, Default)]
pub(super) struct Hub(Mutex<HashMap<String, watch::Sender<u64>>>);

impl Hub {
    pub(super) fn subscribe(&self, id: &str) -> watch::Receiver<u64> {
        let mut senders = self.lock();
        // Those whose followers left without another event since.
        senders.retain(|_, sender| sender.receiver_count() > 0);
        senders.entry(id.to_owned()).or_default().subscribe()
    }

    pub(super) fn notify(&self, id: &str) {
        let mut senders = self.lock();
        if let Some(sender) = senders.get(id) {
            if sender.receiver_count() == 0 {
                senders.remove(id);
            } else {
                sender.send_modify(|turn| *turn = turn.wrapping_add(1));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_followers_of_the_session_are_woken() {
        let hub = Hub::default();
        let (one, two) = (hub.subscribe("one"), hub.subscribe("two"));
        hub.notify("one");
        assert!(one.has_changed().unwrap());
        assert!(!two.has_changed().unwrap());
    }

    #[test]
    fn nothing_is_kept_for_followers_that_left() {
        let hub = Hub::default();
        drop(hub.subscribe("one"));
        drop(hub.subscribe("two"));
        hub.notify("one");
        let _three = hub.subscribe("three");
        assert_eq!(hub.lock().len(), 1);
    }
}
