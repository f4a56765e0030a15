//! WS-Management over real sockets against a scripted device: bytes written by hand in AMT's own manner.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod commands;
mod device;
mod http;
#[expect(dead_code, reason = "the helpers that serve are for other tests")]
#[path = "../support/program.rs"]
mod program;
