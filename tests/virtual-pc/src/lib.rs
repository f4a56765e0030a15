//! A simulated PC with Intel AMT, around QEMU.

pub mod config;
pub mod firmware;
pub mod host;
pub mod redirection;
pub mod wsman;
