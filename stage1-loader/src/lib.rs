//! Stage one's PID 1: brings the network up, fetches a verified image into memory, and hands
//! the machine to it.

pub mod console;
pub mod dhcp;
pub mod failure;
pub mod handoff;
pub mod log;
pub mod mounts;
pub mod network;
pub mod sequence;
pub mod sys;
pub mod text;
