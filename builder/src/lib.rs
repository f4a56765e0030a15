//! Builds stage-one ISOs and packages images.
//!
//! A library that also holds the subcommands `stage1`, `image` and `key`, so that the one
//! binary users run only has to list them.

pub mod cli;
pub mod exit;
pub mod image;
pub mod import;
pub mod iso_image;
pub mod key;
pub mod live_iso;
pub mod progress;
pub mod recipe;
pub mod release;
pub mod signing;
pub mod stage1;
pub mod store;
pub mod transfer;
pub mod whole_file;
