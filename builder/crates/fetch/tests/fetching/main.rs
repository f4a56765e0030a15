//! The machine against simulated servers on a simulated clock.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test"
)]

mod faults;
mod plain;
mod property;
mod resuming;
mod sharing;
mod sim;
mod store;
