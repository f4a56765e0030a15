//! How many requests to have under way: few at first, more while more of them bring more, and fewer again where they
//! did not.
//!
//! One measurement at a time: the rate with the present number, then the rate with twice as many. Doubling makes the
//! difference larger than the noise of a lossy link. A window in which something broke says nothing and starts anew.
//!
//! A number that proved enough is kept for a while, but only as long as it goes on bringing what it brought then: the first
//! second of a connection is its fastest on a link that loses packets, where TCP has not met a loss yet, and a few such
//! connections fill the link that they will use a tenth of soon.

use std::time::Duration;

/// After a change, until connections have come about and sped up.
const SETTLE: Duration = Duration::from_millis(250);
/// How long a rate is measured.
const WINDOW: Duration = Duration::from_millis(500);
/// How long a number that proved enough is kept before the next try; doubles with each try in vain.
const HOLD: Duration = Duration::from_secs(8);
const HOLD_MAX: Duration = Duration::from_secs(64);
/// What twice the connections must bring at least, in percent of the rate before.
const WORTH_IT: u64 = 115;
/// What a number that proved enough must go on bringing, in percent of the rate when it was chosen.
const STILL_ENOUGH: u64 = 67;

#[derive(Debug)]
pub(crate) struct Ramp {
    most: usize,
    limit: usize,
    /// The limit before the last doubling, and the rate that it had.
    before: Option<(usize, u64)>,
    /// No measurement before this time.
    from: Duration,
    hold: Duration,
    /// The rate for which the present number is kept.
    kept_for: Option<u64>,
    /// Where the measurement under way began, and the byte count there.
    begun: Option<(Duration, u64)>,
}

impl Ramp {
    /// Starts with `first` and goes up to `most`.
    pub(crate) fn new(first: usize, most: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            limit: first.clamp(1, most),
            before: None,
            from: SETTLE,
            hold: HOLD,
            kept_for: None,
            begun: None,
        }
    }

    /// How many requests there may be.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Something broke: what is being measured is not the link.
    pub(crate) fn disturbed(&mut self, now: Duration) {
        self.begun = None;
        self.from = self.from.max(now.saturating_add(SETTLE));
    }

    /// Takes note of the time and of all bytes received so far. `in_use`: requests under way.
    pub(crate) fn tick(&mut self, now: Duration, bytes: u64, in_use: usize) {
        let keeps = now < self.from;
        if keeps && self.kept_for.is_none() {
            return;
        }
        // Where there is not enough to ask for, or nobody to ask, the limit is not what limits.
        if in_use < self.limit {
            self.begun = None;
            return;
        }
        let Some(rate) = self.measured(now, bytes) else {
            return;
        };
        if let Some(expected) = self.kept_for {
            if keeps && rate >= expected.saturating_mul(STILL_ENOUGH) / 100 {
                return;
            }
            self.kept_for = None;
        }
        if let Some((fewer, rate_then)) = self.before.take()
            && rate < rate_then.saturating_mul(WORTH_IT) / 100
        {
            self.limit = fewer;
            self.from = now.saturating_add(self.hold);
            self.hold = self.hold.saturating_mul(2).min(HOLD_MAX);
            self.kept_for = Some(rate_then);
            return;
        }
        if self.limit < self.most {
            self.before = Some((self.limit, rate));
            self.limit = self.limit.saturating_mul(2).min(self.most);
            self.from = now.saturating_add(SETTLE);
        }
    }

    /// Bytes per second over a window that ends now, if one does.
    fn measured(&mut self, now: Duration, bytes: u64) -> Option<u64> {
        let Some((since, bytes_then)) = self.begun else {
            self.begun = Some((now, bytes));
            return None;
        };
        let took = now.saturating_sub(since);
        if took < WINDOW {
            return None;
        }
        self.begun = None;
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = bytes.saturating_sub(bytes_then).saturating_mul(1000) / millis;
        (rate > 0).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the ramp over a link that brings `rate(connections)` bytes a second; the limit after each tenth of a second.
    fn limits(mut ramp: Ramp, seconds: u64, rate: impl Fn(usize) -> u64) -> Vec<usize> {
        let mut bytes = 0;
        let mut limits = Vec::new();
        for step in 0..seconds * 10 {
            bytes += rate(ramp.limit()) / 10;
            ramp.tick(Duration::from_millis(step * 100), bytes, ramp.limit());
            limits.push(ramp.limit());
        }
        limits
    }

    #[test]
    fn grows_while_each_connection_brings_its_own_share() {
        let found = limits(Ramp::new(4, 16), 5, |connections| {
            connections as u64 * 300_000
        });
        assert_eq!(*found.last().unwrap(), 16);
        assert!(found.windows(2).all(|pair| pair[0] <= pair[1]), "{found:?}");
    }

    #[test]
    fn gives_back_what_brought_nothing_and_tries_again_ever_more_rarely() {
        let found = limits(Ramp::new(4, 16), 120, |_| 100_000_000);
        let tries = found.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((2..=5).contains(&tries), "{tries} tries in {found:?}");
        assert!(found.iter().filter(|limit| **limit > 4).count() < 100);
    }

    #[test]
    fn a_number_that_stops_being_enough_is_not_kept() {
        // Until the first loss four connections fill the link; after it each carries a tenth.
        let mut ramp = Ramp::new(4, 16);
        let mut bytes = 0;
        for step in 0..60u64 {
            let connections = ramp.limit() as u64;
            bytes += if step < 20 {
                1_000_000
            } else {
                connections * 25_000
            };
            ramp.tick(Duration::from_millis(step * 100), bytes, ramp.limit());
        }
        assert_eq!(ramp.limit(), 16);
    }

    #[test]
    fn finds_the_number_where_the_link_is_full() {
        let found = limits(Ramp::new(2, 32), 6, |connections| {
            (connections as u64).min(7) * 500_000
        });
        assert_eq!(*found.last().unwrap(), 8);
    }

    #[test]
    fn a_disturbed_or_idle_window_changes_nothing() {
        let mut ramp = Ramp::new(4, 16);
        for step in 0..100u64 {
            let now = Duration::from_millis(step * 100);
            ramp.disturbed(now);
            ramp.tick(now, step * step * 1_000_000, 4);
        }
        assert_eq!(ramp.limit(), 4);
        let mut ramp = Ramp::new(4, 16);
        for step in 0..100u64 {
            ramp.tick(Duration::from_millis(step * 100), step * 1_000_000, 3);
        }
        assert_eq!(ramp.limit(), 4);
    }

    #[test]
    fn extreme_numbers_are_harmless() {
        let mut ramp = Ramp::new(0, 0);
        for now in [Duration::ZERO, Duration::MAX, Duration::ZERO, Duration::MAX] {
            ramp.tick(now, u64::MAX, usize::MAX);
            ramp.disturbed(now);
            ramp.tick(now, 0, usize::MAX);
        }
        assert_eq!(ramp.limit(), 1);
    }
}
