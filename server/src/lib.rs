//! The server and its command line.
//!
//! A library so that tests can start a server inside their own process; `main` only chooses.

pub mod amt;
pub mod cli;
pub mod doctor;
pub mod failure;
pub mod generate;
pub mod logging;
pub mod pc;
pub mod redirection;
pub mod serve;
pub mod session;
pub mod tcp;
