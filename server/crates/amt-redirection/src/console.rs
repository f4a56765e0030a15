//! The console's side of a session, as state machines without I/O, clock or randomness.
//!
//! [`Opening`] takes a fresh connection through start and authentication; then one of [`ider::Console`],
//! [`sol::Console`] or [`kvm::Entry`] takes over, beginning with the bytes that `Opening` has left over.
//!
//! All have the same shape: the caller hands in bytes (`handle_input`) and says when a timer is due
//! (`handle_timeout`, `poll_timeout`); it sends what `poll_transmit` yields, in order, and acts on events.
//! The end of the connection is the caller's to see.

pub mod ider;
pub mod kvm;
pub mod opening;
pub mod sol;

pub use opening::{AuthPolicy, Credentials, OpenError, Opened, Opening, ProtocolError, Step};
