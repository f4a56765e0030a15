//! What a virtual PC is made of: its TOML file.
//!
//! [`EXAMPLE`] is the documentation of every knob; a test holds it against the defaults.

mod pc;

pub use pc::{Firmware, Nic, Pc, SerialPort};

/// A commented file with every knob at its default.
pub const EXAMPLE: &str = include_str!("config/example.toml");
