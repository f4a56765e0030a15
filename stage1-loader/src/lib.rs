//! Stage one's PID 1: brings the network up, fetches a verified image into memory, and hands
//! the machine to it.
//!
//! Read [`sequence`] for the order of things, [`boot`] for how each is done. Everything that
//! decides is pure and tested on any host: [`dhcp`], [`network::race`], [`report::outbox`],
//! [`sequence`], [`console::painter`]. Roots of /proc, /sys and /dev are arguments.

pub mod boot;
pub mod config;
pub mod console;
pub mod dhcp;
pub mod failure;
pub mod handoff;
pub mod keys;
pub mod log;
pub mod mounts;
pub mod network;
pub mod panic;
pub mod prompt;
pub mod report;
pub mod sequence;
pub mod sys;
pub mod text;

/// Version of stage one.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
