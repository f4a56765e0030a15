//! The console's entry to KVM. What follows is RFB, which is passed on as it comes.

use std::time::{Duration, Instant};

use thiserror::Error;

use crate::kvm::{ENTER, ENTERED};

const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why KVM was not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    /// The answer did not come in time.
    #[error("the firmware did not answer the entry to KVM in time")]
    Timeout,
    /// Something else came.
    #[error("byte {position} of the answer is 0x{found:02x}")]
    Unexpected {
        /// Counted from 0.
        position: usize,
        /// What it is.
        found: u8,
    },
}

/// From an authenticated session to RFB.
#[derive(Debug)]
pub struct Entry {
    seen: usize,
    deadline: Option<Instant>,
    transmit: Option<Vec<u8>>,
    outcome: Option<Result<Vec<u8>, EntryError>>,
}

impl Entry {
    /// Begins on a connection that [`super::Opening`] has authenticated.
    pub fn new(now: Instant) -> Self {
        Self {
            seen: 0,
            deadline: Some(now + REPLY_TIMEOUT),
            transmit: Some(ENTER.to_vec()),
            outcome: None,
        }
    }

    /// Takes bytes from the connection. After the outcome is there, they are ignored: they are RFB.
    pub fn handle_input(&mut self, _now: Instant, input: &[u8]) {
        if self.deadline.is_none() {
            return;
        }
        let mut rest = input;
        while let (Some(&due), Some((&found, after))) = (ENTERED.get(self.seen), rest.split_first())
        {
            // The id is what counts; real firmware sends zeros after it.
            if self.seen == 0 && found != due {
                let position = self.seen;
                self.end(Err(EntryError::Unexpected { position, found }));
                return;
            }
            self.seen += 1;
            rest = after;
        }
        if self.seen == ENTERED.len() {
            self.end(Ok(rest.to_vec()));
        }
    }

    /// To be called when [`Entry::poll_timeout`] says so; earlier calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.end(Err(EntryError::Timeout));
        }
    }

    /// When [`Entry::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Bytes to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.take()
    }

    /// The outcome, once: the first bytes of RFB, often the whole banner.
    pub fn outcome(&mut self) -> Option<Result<Vec<u8>, EntryError>> {
        self.outcome.take()
    }

    fn end(&mut self, outcome: Result<Vec<u8>, EntryError>) {
        self.deadline = None;
        self.outcome = Some(outcome);
    }
}

#[cfg(test)]
mod tests;
