//! Virtual PCs under test: real firmware in QEMU, our stage one on a CD or stick, a server
//! on the host, and a second system that proves by what it prints that it is the right one.
//!
//! Nothing of ours is linked: the programs under test are started as a user would.

pub mod bench;
pub mod cd_drive;
pub mod console;
pub mod demo;
pub mod firmware;
pub mod host;
pub mod machine;
pub mod mirror;
pub mod parts;
pub mod qmp;
pub mod read_log;
pub mod scenarios;
pub mod second;
pub mod site;
pub mod story;
pub mod vpro;
