//! Stage one: the small bootable file that brings up the network and fetches everything else.
//!
//! `parts` gathers the pieces, `check` refuses wrong ones, `initramfs`, `uki`, `esp` and `iso` each
//! write one layer, and `build` stacks them. `customize` fills the config slot of a finished file,
//! `show` explains one.

pub mod build;
pub mod check;
pub mod cli;
pub mod customize;
pub mod esp;
pub mod initramfs;
pub mod iso;
pub mod parts;
mod plain;
pub mod show;
pub mod uki;
