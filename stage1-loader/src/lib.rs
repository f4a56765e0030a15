//! Stage one's PID 1: brings the network up, fetches a verified image into memory, and hands
//! the machine to it.

pub mod dhcp;
pub mod handoff;
pub mod sys;
