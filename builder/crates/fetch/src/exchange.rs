//! What the machine and its caller say to each other.

use std::ops::Range;
use std::time::Duration;

use crate::fault::{Fault, FetchError};

/// How to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Most requests at the same time, over all sources; 1 to [`MAX_CONNECTIONS`](crate::MAX_CONNECTIONS).
    pub connections: usize,
    /// Requests at the same time to begin with; more come while more bring more.
    pub first_connections: usize,
    /// Time for the whole, counted from the machine's zero.
    pub deadline: Option<Duration>,
    /// Time that may pass without a single new chunk: long enough for a server to restart or a link to come back.
    pub patience: Option<Duration>,
    /// A request that brings fewer than `stall_bytes` in this time is cut.
    pub stall: Duration,
    /// See `stall`.
    pub stall_bytes: u64,
    /// Rest of a source after its first failure; doubles with each further one.
    pub back_off: Duration,
    /// Longest rest of a source.
    pub back_off_max: Duration,
    /// Failures in a row, without one good chunk between them, after which a source is given up.
    /// `None`: only a lie or a refusal ends it, or the deadline.
    pub give_up: Option<u32>,
    /// Bytes to ask for in one request while there is plenty left; less towards the end.
    pub run: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // More than most servers need, and what a lossy link does; the limit is rarely reached elsewhere.
            connections: 24,
            first_connections: 4,
            deadline: None,
            patience: None,
            stall: Duration::from_secs(20),
            stall_bytes: 1024,
            back_off: Duration::from_millis(250),
            back_off_max: Duration::from_secs(8),
            give_up: None,
            run: 4 << 20,
        }
    }
}

/// Names a request; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// A GET with a Range header, to be sent to one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its name in everything that follows.
    pub id: RequestId,
    /// Which connection carries it; each carries one at a time.
    pub connection: usize,
    /// Which source, in the order they were given.
    pub source: usize,
    /// Path below the source's base URL.
    pub path: String,
    /// Bytes asked for; never empty.
    pub range: Range<u64>,
    /// Value of If-Range.
    pub if_range: Option<String>,
}

/// What the caller has to do.
#[derive(Debug)]
pub enum Action {
    /// Send this request.
    Request(Request),
    /// Close the connection of this request, and hand in no more of it.
    Cancel(RequestId),
    /// Nothing, unless something is received, until this time.
    Wait {
        /// On the machine's clock.
        until: Duration,
    },
    /// The image is complete.
    Done,
    /// The image will not arrive.
    Failed(FetchError),
}

/// What to do with the request that input was handed in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// Read on.
    Continue,
    /// Close its connection; the machine has no more use for it.
    Stop,
}

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchEvent {
    /// A request went wrong.
    Fault(Fault),
    /// A source gets no requests for a while.
    SourceRests {
        /// Which one.
        source: usize,
        /// On the machine's clock.
        until: Duration,
    },
    /// A source gets no more requests.
    SourceDropped {
        /// Which one.
        source: usize,
    },
    /// Part of what a slow connection still had to bring is asked for again, so that the rest does not wait for it.
    Overtaken {
        /// The source of the slow connection.
        source: usize,
        /// The source that takes over; may be the same.
        by: usize,
    },
}
