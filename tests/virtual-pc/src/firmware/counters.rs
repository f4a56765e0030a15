//! What the console sent: for tests that assert on a console's manners.

use std::collections::BTreeMap;

/// Numbers since the firmware started.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Calls that reached a class, as `Class.Method`; Get, Put, Enumerate, Pull count as methods. What no class knows
    /// is counted as `?`, so that names from outside cost no memory.
    pub calls: BTreeMap<String, u64>,
    /// HTTP connections accepted.
    pub http_connections: u64,
    /// HTTP requests read to their end.
    pub http_requests: u64,
    /// Answers with status 401, the first challenge of a connection included.
    pub http_unauthorized: u64,
    /// SOAP faults sent.
    pub faults: u64,
    /// Credentials that were checked and found wrong, on all ports.
    pub wrong_credentials: u64,
    /// Redirection sessions that began.
    pub sessions: u64,
    /// Redirection sessions that were refused.
    pub sessions_refused: u64,
    /// Boots that consumed forced options.
    pub forced_boots: u64,
    /// Boots in all.
    pub boots: u64,
}
