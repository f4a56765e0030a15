//! Intel AMT over WS-Management: messages, digest authentication, and the flows that a technician needs.
//!
//! WS-Management is DSP0226 1.0.0 as AMT has it: Get, Put, Delete, Enumerate, Pull, Invoke, Identify. Not here: Create and
//! subscriptions, users, certificates, fragment transfer. No I/O and no clock: a [`Transport`] carries messages
//! and waits. Who controls the bytes: answers come from a device, or from whoever stands on the way to it, so their size,
//! depth and number are bounded and everything in them may be missing.
//!
//! From the outside in: [`flow`] does what people want, over a [`Device`], whose [`class`]es have types; below these are
//! [`request`] and [`reply`]. [`digest`] is for those who write a transport.

pub mod class;
pub mod device;
pub mod digest;
mod escape;
pub mod explain;
pub mod fault;
pub mod firmware;
pub mod flow;
pub mod names;
pub mod reply;
pub mod request;
pub mod status;
pub mod transport;

pub use device::Device;
pub use explain::{Blame, Explain};
pub use flow::{Observer, Step};
pub use request::Request;
pub use transport::{Transport, TransportError};
