//! Which bytes of an image to ask for next, from whom, and what came back wrong.
//!
//! A state machine without sockets, clock or randomness: the caller says what time it is, carries out
//! [`Action`]s, and hands in what the servers answered. [`Fetcher`] is the machine; [`Sink`] receives the
//! image, and sees only bytes whose digest the signed index names. The crate `fetch-http` drives it.
//!
//! A file without an index ([`Fetcher::plain`]) goes through the same machine. Its pieces cannot be judged one by one, so
//! there the sink holds anything until its caller has compared the digest of the whole.
//!
//! Who controls the bytes: the index is signed and still checked here; everything a server says or sends is
//! hostile. A server can waste time up to the deadline, never memory, and never a byte of the image.
//!
//! Not here: which file an image is (manifest), redirects, proxies and TLS (`fetch-http`).

mod exchange;
mod fault;
mod fetcher;
mod head;
mod plan;
mod progress;
mod ramp;
mod receiver;
mod slots;
mod source;

pub use exchange::{Action, FetchEvent, Flow, Request, RequestId, Settings};
pub use fault::{ConnectionFailure, Fault, FetchError, TlsFailure, What};
pub use fetcher::{Fetcher, MAX_CONNECTIONS};
pub use head::Head;
pub use plan::{MAX_CHUNK, PLAIN_PIECE, Plan, PlanError};
pub use progress::Progress;
pub use source::{SourceHealth, SourceState};

/// Where the image goes: RAM, a file, later a disk.
pub trait Sink {
    /// Takes a verified, decompressed chunk, which starts `offset` bytes into the image.
    ///
    /// Chunks come in any order, each once. Holes are never handed over: a sink starts out as zeros.
    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()>;
}
