//! What can go wrong between a source and the sink, and what each fault says about its source.

use std::io;
use std::time::Duration;

use sparetire_manifest::Digest;

/// One thing that went wrong, with the source and the chunk it went wrong at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("source {source_index}, chunk {chunk} (image offset {image_offset}), pack {pack}")]
pub struct Fault {
    /// Which source, in the order they were given.
    pub source_index: usize,
    /// The chunk that was due, by its place in the index.
    pub chunk: usize,
    /// Where that chunk starts in the image.
    pub image_offset: u64,
    /// The pack that was asked for.
    pub pack: Digest,
    /// What went wrong.
    #[source]
    pub what: What,
}

/// What went wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// A status that is no success.
    #[error("HTTP status {0}")]
    Status(u16),
    /// 200 to a Range request: the source cannot do ranges.
    #[error("whole file sent instead of the range asked for")]
    RangeIgnored,
    /// 206 for other bytes than those asked for.
    #[error("wrong range sent: asked for {asked}, Content-Range is {found:?}")]
    WrongRange {
        /// What was asked for, as it would stand in Content-Range.
        asked: String,
        /// What the header says, cut to a printable length.
        found: Option<String>,
    },
    /// A Content-Length that disagrees with the range.
    #[error("Content-Length {found} for a range of {expected} bytes")]
    WrongLength {
        /// Bytes asked for.
        expected: u64,
        /// What the header says.
        found: u64,
    },
    /// A Content-Encoding that nobody asked for.
    #[error("body is encoded as {0:?}, which was not asked for")]
    Encoded(String),
    /// The ETag differs from what this source said about the pack before.
    #[error("pack changed at its source: ETag {before:?} became {after:?}")]
    Changed {
        /// The earlier ETag.
        before: String,
        /// The one seen now; `None` where If-Range was answered with 200.
        after: Option<String>,
    },
    /// The body ended early, and the server called it complete.
    #[error("body ended after {found} of {expected} bytes")]
    ShortBody {
        /// Bytes asked for.
        expected: u64,
        /// Bytes received.
        found: u64,
    },
    /// The body went on after the last byte asked for.
    #[error("body goes on after the {expected} bytes asked for")]
    LongBody {
        /// Bytes asked for.
        expected: u64,
    },
    /// The chunk does not decompress to its length.
    #[error("chunk does not decompress")]
    Undecodable,
    /// The chunk has the wrong digest.
    #[error("chunk has digest {found} instead of {expected}")]
    Corrupt {
        /// What the index says.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// Too few bytes came for too long.
    #[error("stalled for {after:?}")]
    Stalled {
        /// How long it was watched.
        after: Duration,
    },
    /// No connection, or a lost one.
    #[error(transparent)]
    Connection(#[from] ConnectionFailure),
}

/// Why there was no answer, or no more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ConnectionFailure {
    /// The name has no address, or no name server answered.
    #[error("name not resolved")]
    Dns,
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
    /// No way to that network or host.
    #[error("network or host unreachable")]
    Unreachable,
    /// No answer in time.
    #[error("timed out")]
    TimedOut,
    /// The connection ended before the answer did.
    #[error("connection lost")]
    Lost,
    /// TLS did not come about.
    #[error("TLS: {0}")]
    Tls(TlsFailure),
    /// The proxy did not let it through.
    #[error("proxy refused")]
    Proxy,
    /// Redirected too often, or to a place where no request may follow.
    #[error("too many or forbidden redirects")]
    Redirect,
    /// The answer is not HTTP.
    #[error("answer is not HTTP")]
    NotHttp,
    /// Anything else.
    #[error("connection failed")]
    Other,
}

/// Why TLS did not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TlsFailure {
    /// The configuration names neither a CA nor a pinned key.
    #[error("no CA and no pinned key configured")]
    NoTrust,
    /// Signed by a CA that is not ours.
    #[error("certificate is not from a trusted CA")]
    UnknownCa,
    /// The server's key is none of the pinned ones.
    #[error("server key is not a pinned one")]
    NotPinned,
    /// Past its end, or our clock is wrong.
    #[error("certificate has expired, or the clock is wrong")]
    Expired,
    /// Before its start, or our clock is wrong.
    #[error("certificate is not valid yet, or the clock is wrong")]
    NotYetValid,
    /// For another host.
    #[error("certificate is for another name")]
    WrongName,
    /// Any other trouble with the certificate.
    #[error("certificate is not acceptable")]
    BadCertificate,
    /// The handshake failed otherwise.
    #[error("handshake failed")]
    Handshake,
}

/// What a fault means for the source it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Ask it nothing more.
    Drop,
    /// Leave it alone for a while.
    Rest,
    /// Ask again at once if the request had brought a chunk; else rest.
    Again,
    /// Ask again at once: it cannot happen twice.
    AtOnce,
}

impl What {
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            // 408 Request Timeout, 425 Too Early and 429 Too Many Requests ask for patience (RFC 9110 15.5.9,
            // RFC 8470 5.2, RFC 6585 4); every other 4xx will be the same next time.
            Self::Status(408 | 425 | 429 | 500..) => Verdict::Rest,
            Self::Status(_) => Verdict::Drop,
            // Lies, or servers that can never serve a store.
            Self::RangeIgnored
            | Self::WrongRange { .. }
            | Self::WrongLength { .. }
            | Self::Encoded(_)
            | Self::LongBody { .. }
            | Self::Undecodable
            | Self::Corrupt { .. } => Verdict::Drop,
            // Servers behind one name may disagree on the ETags of the same bytes: digests decide, not ETags. The
            // source's ETags for that pack are not used again.
            Self::Changed { .. } => Verdict::AtOnce,
            Self::ShortBody { .. } | Self::Stalled { .. } => Verdict::Again,
            Self::Connection(failure) => match failure {
                ConnectionFailure::Lost | ConnectionFailure::TimedOut => Verdict::Again,
                ConnectionFailure::Redirect => Verdict::Drop,
                ConnectionFailure::Tls(TlsFailure::Handshake) => Verdict::Rest,
                ConnectionFailure::Tls(_) => Verdict::Drop,
                ConnectionFailure::Dns
                | ConnectionFailure::Refused
                | ConnectionFailure::Unreachable
                | ConnectionFailure::Proxy
                | ConnectionFailure::NotHttp
                | ConnectionFailure::Other => Verdict::Rest,
            },
        }
    }

    /// Whether the bytes received of the unfinished chunk are still good to build on.
    pub(crate) fn keeps_partial(&self) -> bool {
        matches!(
            self,
            Self::ShortBody { .. } | Self::Stalled { .. } | Self::Connection(_)
        )
    }
}

/// Why a fetch ended without the image.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Every source was dropped.
    #[error("no source left")]
    NoSourceLeft {
        /// The fault each source was dropped for.
        faults: Vec<Fault>,
    },
    /// Time is up.
    #[error("deadline of {deadline:?} passed with {missing} bytes of the image missing")]
    Deadline {
        /// The limit that was set.
        deadline: Duration,
        /// Bytes of the image that did not arrive.
        missing: u64,
        /// The last fault of each source that had one.
        faults: Vec<Fault>,
    },
    /// Nothing came for too long.
    #[error("no new chunk for {patience:?} with {missing} bytes of the image missing")]
    NoProgress {
        /// The limit that was set.
        patience: Duration,
        /// Bytes of the image that did not arrive.
        missing: u64,
        /// The last fault of each source that had one.
        faults: Vec<Fault>,
    },
    /// The target did not take a chunk.
    #[error("writing chunk at image offset {offset}")]
    Sink {
        /// Where in the image.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}
