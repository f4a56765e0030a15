//! How a source behaves: whether to ask it, when, and how much at once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fault::{Fault, Verdict};

/// One place that has the store.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Requests under way.
    pub(crate) active: usize,
    /// No requests before this time.
    pub(crate) rests_until: Duration,
    /// What it last did wrong.
    pub(crate) last_fault: Option<Fault>,
    dropped: bool,
    /// Failures since the last good chunk.
    failures: u32,
    failed_at: Option<Duration>,
    /// What it said about each pack, by place in the index.
    etags: BTreeMap<u32, Etag>,
    received: u64,
    busy: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Etag {
    Known(String),
    /// It has said different things, so its ETags mean nothing.
    Fickle,
}

/// How long to wait after the n-th failure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackOff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
    /// Failures in a row after which a source is given up.
    pub(crate) give_up: Option<u32>,
}

/// What became of a source after a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    Resting(Duration),
    Dropped,
}

impl Source {
    pub(crate) fn dropped(&self) -> bool {
        self.dropped
    }

    /// Whether another request may go to it now. One that keeps failing is tried with one request at a time.
    pub(crate) fn available(&self, now: Duration) -> bool {
        !self.dropped && self.rests_until <= now && (self.failures < 2 || self.active == 0)
    }

    /// Less is better: requests under way first, then slowness.
    pub(crate) fn cost(&self) -> (usize, u64) {
        // Sources that were not measured yet come first, to be measured.
        let rate = self
            .received
            .checked_div(self.busy.as_millis().try_into().unwrap_or(u64::MAX));
        (self.active, rate.map_or(0, |rate| u64::MAX - rate))
    }

    /// A chunk from it has been verified.
    pub(crate) fn delivered(&mut self) {
        self.failures = 0;
    }

    /// A request is over, however it ended.
    pub(crate) fn finished(&mut self, bytes: u64, took: Duration) {
        self.active = self.active.saturating_sub(1);
        self.received = self.received.saturating_add(bytes);
        self.busy = self.busy.saturating_add(took);
    }

    /// Takes note of a fault of a request that was sent at `asked`. `jitter` is between 0 and 1.
    pub(crate) fn fail(
        &mut self,
        now: Duration,
        asked: Duration,
        verdict: Verdict,
        brought_something: bool,
        back_off: BackOff,
        jitter: f64,
    ) -> Standing {
        if self.dropped || verdict == Verdict::Drop {
            self.dropped = true;
            return Standing::Dropped;
        }
        if verdict == Verdict::AtOnce {
            return Standing::Good;
        }
        // One outage cuts all connections: it counts once.
        if self.failed_at.is_some_and(|before| asked < before) && self.failures > 0 {
            return if self.rests_until > now {
                Standing::Resting(self.rests_until)
            } else {
                Standing::Good
            };
        }
        self.failed_at = Some(now);
        if verdict == Verdict::Again && brought_something {
            return Standing::Good;
        }
        self.failures = self.failures.saturating_add(1);
        if back_off.give_up.is_some_and(|limit| self.failures >= limit) {
            self.dropped = true;
            return Standing::Dropped;
        }
        let doubled = back_off
            .first
            .saturating_mul(1u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX));
        // At least half of it, so that jitter never turns waiting into hammering.
        let wait = doubled
            .min(back_off.longest)
            .mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        self.rests_until = now.saturating_add(wait);
        Standing::Resting(self.rests_until)
    }

    /// The ETag to hold it to, if it has a reliable one for that pack.
    pub(crate) fn etag(&self, pack: u32) -> Option<&str> {
        match self.etags.get(&pack) {
            Some(Etag::Known(etag)) => Some(etag),
            Some(Etag::Fickle) | None => None,
        }
    }

    pub(crate) fn learn_etag(&mut self, pack: u32, etag: &str) {
        self.etags
            .entry(pack)
            .or_insert_with(|| Etag::Known(etag.to_owned()));
    }

    pub(crate) fn distrust_etag(&mut self, pack: u32) {
        self.etags.insert(pack, Etag::Fickle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACK_OFF: BackOff = BackOff {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(8),
        give_up: Some(7),
    };

    #[test]
    fn waits_longer_after_each_failure_and_gives_up_in_the_end() {
        let mut source = Source::default();
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        loop {
            match source.fail(now, now, Verdict::Rest, false, BACK_OFF, 1.0) {
                Standing::Resting(until) => {
                    assert!(!source.available(now) && source.available(until));
                    waits.push((until - now).as_secs());
                    now = until;
                }
                Standing::Dropped => break,
                Standing::Good => panic!("a failure is not good"),
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
        assert!(source.dropped());
    }

    #[test]
    fn jitter_halves_the_wait_at_most() {
        let mut source = Source::default();
        let standing = source.fail(
            Duration::ZERO,
            Duration::ZERO,
            Verdict::Rest,
            false,
            BACK_OFF,
            0.0,
        );
        assert_eq!(standing, Standing::Resting(Duration::from_millis(500)));
    }

    #[test]
    fn one_outage_of_many_connections_counts_once() {
        let mut source = Source::default();
        let asked = Duration::from_secs(1);
        let lost = Duration::from_secs(2);
        for connection in 0..20 {
            let lost = lost + Duration::from_millis(connection);
            source.fail(lost, asked, Verdict::Again, false, BACK_OFF, 1.0);
        }
        assert!(!source.dropped());
        assert!(source.available(Duration::from_secs(3)));
    }

    #[test]
    fn a_source_that_keeps_failing_is_tried_with_one_request() {
        let mut source = Source::default();
        for second in [0, 10] {
            let now = Duration::from_secs(second);
            source.fail(now, now, Verdict::Rest, false, BACK_OFF, 1.0);
        }
        let later = Duration::from_secs(20);
        assert!(source.available(later));
        source.active = 1;
        assert!(!source.available(later));
        source.delivered();
        assert!(source.available(later));
    }

    #[test]
    fn a_fickle_etag_is_never_used_again() {
        let mut source = Source::default();
        source.learn_etag(3, "\"a\"");
        assert_eq!((source.etag(3), source.etag(4)), (Some("\"a\""), None));
        source.distrust_etag(3);
        source.learn_etag(3, "\"b\"");
        assert_eq!(source.etag(3), None);
    }
}
