//! The client and the driver against real sockets: a scripted server, one with TLS, and Debian's nginx.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test"
)]

mod client;
mod download;
mod nginx;
mod open;
mod plain;
mod server;
mod store;
mod tls;
