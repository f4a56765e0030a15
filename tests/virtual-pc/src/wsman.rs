//! The WS-MAN port: HTTP as the firmware speaks it, classes, methods, faults.
//!
//! From outside in: [`Server`] reads HTTP requests from any byte stream and misbehaves as its [`Knobs`] say;
//! [`Service`] turns an envelope into a reply, without I/O; `classes` and `data/nuc9.toml` are the tables that say
//! which classes exist and what their instances contain; `methods` is what can be called. The XML is read and
//! written here and nowhere else: the console's crate for WS-MAN is not used, so that each checks the other.
//!
//! Specifications: DSP0226 1.0 (WS-Management), DSP0227 (its CIM binding), RFC 2617 (digest). Not simulated: Create,
//! Delete, Subscribe, Kerberos, fragment transfer, association filters.

mod classes;
mod digest;
mod enumeration;
mod fault;
mod http;
mod knobs;
mod methods;
mod put;
mod reply;
mod repository;
mod request;
mod server;
mod service;
#[cfg(test)]
mod tests;
mod value;

pub use knobs::Knobs;
pub use repository::DataError;
pub use server::Server;
pub use service::Service;
