//! The machine against simulated servers on a simulated clock.

mod faults;
mod property;
mod resuming;
mod sim;
mod store;
