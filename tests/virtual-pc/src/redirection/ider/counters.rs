//! What an IDE-R console did, for tests that assert on its manners.

use std::collections::BTreeMap;

/// Violations that are kept; later ones are only counted.
const MAX_KEPT: usize = 64;

/// Numbers since the PC was made, over all sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct IderCounters {
    /// Sessions that got as far as OpenSession.
    pub sessions: u64,
    /// Commands sent.
    pub commands: u64,
    /// Commands that ended in a check condition.
    pub check_conditions: u64,
    /// Bytes of data that commands brought.
    pub bytes_from_console: u64,
    /// Bytes of data that commands took.
    pub bytes_to_console: u64,
    /// How many commands brought so many bytes.
    pub sizes: BTreeMap<usize, u64>,
    /// Heartbeats received.
    pub heartbeats: u64,
    /// Keep-alive pings received.
    pub pings: u64,
    /// Resets that were sent.
    pub resets: u64,
    /// Resets that the console acknowledged.
    pub resets_acknowledged: u64,
    /// Messages whose number was not the next one.
    pub sequence_gaps: u64,
    /// Host models that ran to their end.
    pub host_models_run: u64,
    /// All violations.
    pub violations: u64,
    /// The first of them.
    pub violation_list: Vec<Violation>,
}

/// An answer that is not what the standard, or the protocol, wants.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// Hexadecimal; empty when it is not about a command.
    pub cdb: String,
    /// What would have been right.
    pub expected: String,
    /// What came.
    pub got: String,
}

impl IderCounters {
    pub(super) fn violated(&mut self, violation: Violation) {
        tracing::warn!(
            "console violates: {} expected {}, got {}",
            violation.cdb,
            violation.expected,
            violation.got
        );
        self.violations += 1;
        if self.violation_list.len() < MAX_KEPT {
            self.violation_list.push(violation);
        }
    }
}

/// Hexadecimal digits in pairs.
pub(super) fn hex_of(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(" ")
}

impl IderCounters {
    /// Adds what was counted elsewhere.
    pub(super) fn add(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.commands += other.commands;
        self.check_conditions += other.check_conditions;
        self.bytes_from_console += other.bytes_from_console;
        self.bytes_to_console += other.bytes_to_console;
        for (size, count) in other.sizes {
            *self.sizes.entry(size).or_default() += count;
        }
        self.heartbeats += other.heartbeats;
        self.pings += other.pings;
        self.resets += other.resets;
        self.resets_acknowledged += other.resets_acknowledged;
        self.sequence_gaps += other.sequence_gaps;
        self.host_models_run += other.host_models_run;
        self.violations += other.violations;
        let room = MAX_KEPT.saturating_sub(self.violation_list.len());
        self.violation_list
            .extend(other.violation_list.into_iter().take(room));
    }
}
