//! Intel AMT redirection on the wire: session start, authentication, IDE-R, SOL and the entry to KVM; no I/O.
//!
//! One TCP connection carries one session of one type. It begins with [`session`] messages, which say the type
//! and authenticate; after that it speaks [`ider`], [`sol`] or, for KVM, eight bytes of [`kvm`] and then RFB.
//!
//! Three layers: messages (encode and decode, for both ends), the digest, and the console's state machines in
//! [`console`]. The firmware's state machines belong to the simulated PC, which uses the same messages.
//!
//! Intel never published this protocol. Section numbers in comments are those of the project's reference
//! document on redirection, which collects what open consoles send and what captures of real firmware show.
//!
//! Who controls the bytes: the other end of the connection, before and after authentication. Nothing here
//! panics or grows without bound on any input.
//!
//! Not here: Kerberos (type 2), the WebSocket entry at `/ws-redirection`, the USB-R protocol of newer kits
//! (nobody has described it), RFB, ATAPI commands.

pub mod auth;
pub mod console;
pub mod digest;
#[cfg(test)]
mod golden;
pub mod ider;
pub mod kvm;
pub mod session;
pub mod sol;
pub mod wire;
