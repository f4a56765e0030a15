//! Redirection sessions over a network: the shells around the state machines of `amt-redirection` and `atapi`.
//!
//! [`connect`] reaches a PC and authenticates; [`ider`] keeps one PC's drives attached; [`sol`] is a terminal on its serial
//! port. [`block_source`] is what the drives serve. Each PC has a task of its own; nothing is shared between tasks but images
//! that nobody changes.

pub mod block_source;
pub mod connect;
pub mod ider;
pub mod sol;

#[cfg(test)]
mod tests;
