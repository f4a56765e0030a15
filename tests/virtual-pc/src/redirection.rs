//! The redirection ports: sessions, IDE-R, SOL, KVM, from the firmware's side.
//!
//! One TCP connection carries one session. [`Redirection::serve`] takes it through start and authentication
//! (`opening`), then hands it to `ider`, `sol` or `kvm`. What the firmware decides (switches, consent,
//! accounts, who holds a session) is asked of [`crate::firmware`]; what a PC is plugged into is given by the host:
//! [`IderMedia`] for its drives, [`SolPort`] for its serial port, a Unix socket for its screen.
//!
//! Messages come from the crate `amt-redirection`, which the console uses too; tests here speak in hand-written
//! bytes, so that an error in the shared codec is seen.

mod ider;
mod knobs;
mod kvm;
mod link;
mod listener;
mod opening;
mod sol;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};

pub use amt_redirection::ider::DriveSelect;
pub use ider::{Capacity, DriveError, HostModel, IderCounters, IderMedia, MediaState, Violation};
pub use knobs::{AttachAnswer, Fault, FaultKind, Knobs, Segmentation, Silence};
pub use listener::Listener;
pub use sol::{GuestSerial, SolPort, serial_port};

use crate::firmware::{SessionKind, Shared};
use link::Link;
use opening::Opened;

/// All that sessions of one PC share.
#[derive(Debug)]
pub struct Redirection {
    firmware: Shared,
    knobs: Mutex<Knobs>,
    media: IderMedia,
    sol: SolPort,
    kvm: Option<PathBuf>,
    fault: Mutex<Option<Fault>>,
}

impl Redirection {
    /// The redirection side of `firmware`. `kvm` is the socket on which the PC's screen speaks RFB without a
    /// password.
    pub fn new(firmware: Shared, knobs: Knobs, sol: SolPort, kvm: Option<PathBuf>) -> Self {
        Self {
            media: IderMedia::new(&knobs),
            fault: Mutex::new(knobs.fault),
            firmware,
            knobs: Mutex::new(knobs),
            sol,
            kvm,
        }
    }

    /// The drives that the host sees.
    pub fn media(&self) -> &IderMedia {
        &self.media
    }

    /// The settings that a session gets which starts now.
    pub fn knobs(&self) -> Knobs {
        self.knobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes the settings of sessions that start from now on. `max_host_read`, `max_host_write`, `dma` and
    /// `reattach_wait_ms` belong to the host and stay; `fault` is [`Redirection::set_fault`]'s.
    pub fn set_knobs(&self, knobs: Knobs) {
        *self.knobs.lock().unwrap_or_else(PoisonError::into_inner) = knobs;
    }

    /// Sets the next mishap, or none. It happens once, to the session that gets so far; a session that is already
    /// beyond the byte has it with the next one that it receives.
    pub fn set_fault(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Runs one connection to its end. `peer` is the console's address, for the firmware's log.
    pub async fn serve<S>(&self, stream: S, peer: &str)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let knobs = self.knobs();
        let mut link = Link::new(stream, &knobs);
        let opened = opening::run(&mut link, &self.firmware, &knobs, peer).await;
        // Held ends the session also when this task is dropped in the middle.
        let Some(Opened { held, rest }) = opened else {
            return;
        };
        let ticket = held.ticket();
        let session = format!("{:?} session of {peer}", ticket.kind());
        let result = match ticket.kind() {
            SessionKind::Sol => sol::run(link, rest, &self.firmware, ticket, &self.sol).await,
            SessionKind::Ider => {
                let shared = ider::Shared {
                    firmware: &self.firmware,
                    ticket,
                    knobs: &knobs,
                    media: &self.media,
                    fault: &self.fault,
                };
                ider::run(link, rest, shared).await
            }
            SessionKind::Kvm => {
                let socket = self.kvm.as_deref();
                kvm::run(link, rest, &self.firmware, ticket, socket).await
            }
        };
        match result {
            Ok(reason) => tracing::info!("{session} ended: {reason}"),
            Err(error) => tracing::info!("{session} broke off: {error}"),
        }
    }
}
