//! Sessions against firmware that is written by hand, byte by byte.

mod connecting;
mod crowd;
mod drives;
mod endings;
mod firmware;
mod serial;
