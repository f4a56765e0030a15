//! A simulated PC with Intel AMT, around QEMU.
//!
//! [`VirtualPc::start`] makes one from a [`config::Config`]. Its firmware answers WS-MAN and
//! redirection on real ports; its hardware is a QEMU process that the firmware switches.

pub mod config;
pub mod control;
pub mod firmware;
pub mod host;
mod network;
mod pc;
pub mod redirection;
mod tls;
pub mod wsman;

pub use pc::{Addresses, Controls, TlsAddresses, VirtualPc};
