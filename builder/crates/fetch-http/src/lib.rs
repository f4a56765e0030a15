//! Drives the [`fetch`] state machine over HTTP and HTTPS, and finds the image that it is to fetch.
//!
//! [`open_image`] goes from a name to a verified manifest and index, [`fetch_image`] from an index to the image
//! in a sink, [`fetch_plain`] a file that only its SHA-256 is known of; [`HttpClient`] does single requests. Runs on any tokio runtime with timers and I/O, a
//! single-threaded one included. The loader links it, so what it costs in bytes matters: reqwest without
//! defaults, rustls over ring, HTTP/1.1, no decompression, no roots of its own.
//!
//! Trust: TLS believes the CA bundle and the pinned keys it is given, and nothing else; plain HTTP is fine,
//! because manifests are signed and all else is named by digest. Not here: resuming on disk, host name lookup
//! other than the system's, cookies, HTTP/2.

mod client;
mod download;
mod error;
mod open;
mod plain;
mod provider;
mod tls;

pub use client::{HttpClient, HttpOptions, USER_AGENT};
pub use download::{DownloadError, FetchSummary, NamedFault, drive, fetch_image};
pub use error::{HttpError, HttpFailure, public_url};
pub use open::{OpenCause, OpenError, OpenFailure, OpenStage, OpenedImage, open_image};
pub use plain::{PlainError, PlainFile, PlainSink, fetch_plain};
pub use tls::{Pin, Trust, TrustError};

pub use fetch::{
    ConnectionFailure, Fault, FetchError, FetchEvent, Fetcher, PLAIN_PIECE, PlanError, Progress,
    Settings, Sink, SourceHealth, SourceState, TlsFailure, What,
};
