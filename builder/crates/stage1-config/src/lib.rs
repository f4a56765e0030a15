//! The configuration of stage one: 16 KiB of its initramfs that can be overwritten in place.
//!
//! A server (or `sparetire stage1 customize`) puts per-session values into a finished ISO without rebuilding it. The slot
//! holds two TOML texts: the *base*, set when the ISO is built, and an *overlay* on top of it; dropping the overlay gives
//! back the built bytes, bit for bit. Layout: `docs/formats/config-slot.md`.
//!
//! Three questions, three modules: where the slot is and whether it is whole ([`slot`]), what it says ([`Config`]), and what
//! the kernel command line may change ([`apply_cmdline`]). No I/O. Who controls the bytes: whoever hands out the ISO, who
//! controls the loader as well; the checks here are against damage and mistakes. The command line is different: anyone at
//! the keyboard can edit it, so it never carries trust, secrets or the shell.

mod cmdline;
mod config;
mod plain;
mod secret;
pub mod slot;
mod url;

pub use cmdline::{CmdlineError, apply_cmdline};
pub use config::{
    Cidr, CidrError, Config, ConfigError, Console, FORMAT, Network, SessionConfig, Target, Trust,
    merge,
};
pub use plain::{NAME as UNSIGNED, Plain};
pub use secret::Secret;
pub use slot::{MAGIC, MEMBER, SLOT_LEN, Slot, SlotError, find};
pub use sparetire_manifest::{ImageName, Timestamp};
