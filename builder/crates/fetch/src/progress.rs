//! How far a fetch is, and how fast.

use std::time::Duration;

use crate::source::SourceHealth;

/// How far a fetch is. Bytes unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Verified bytes of the image, holes and what was there before included.
    pub done: u64,
    /// Length of the image.
    pub total: u64,
    /// Verified stored bytes that came over the network.
    pub stored_done: u64,
    /// Stored bytes to bring over the network; with `stored_done` and `rate` the remaining time.
    pub stored_total: u64,
    /// Body bytes received, repeated and discarded ones included.
    pub network_bytes: u64,
    /// Body bytes per second, over the last few seconds.
    pub rate: u64,
    /// Requests sent.
    pub requests: u64,
    /// Requests under way.
    pub active: usize,
    /// Faults so far.
    pub faults: u64,
    /// Time since a chunk was last verified.
    pub quiet: Duration,
    /// How each source does, in the order they were given.
    pub sources: Vec<SourceHealth>,
}

impl Progress {
    /// Time to go at the present rate; `None` where nothing comes.
    pub fn remaining(&self) -> Option<Duration> {
        let missing = self.stored_total.saturating_sub(self.stored_done);
        missing.checked_div(self.rate).map(Duration::from_secs)
    }
}

/// Bytes per second over a sliding window.
#[derive(Debug, Default)]
pub(crate) struct RateMeter {
    /// Bytes in each of the last slices of time, the present one included; slice n stands at n modulo the length.
    slices: [u64; SLICES],
    /// The present slice.
    current: u64,
    started: Option<u64>,
}

const SLICES: usize = 8;
const SLICE: Duration = Duration::from_millis(500);

impl RateMeter {
    pub(crate) fn add(&mut self, now: Duration, bytes: u64) {
        self.advance(now);
        self.started.get_or_insert(self.current);
        if let Some(slice) = self.slices.get_mut(position(self.current)) {
            *slice = slice.saturating_add(bytes);
        }
    }

    pub(crate) fn rate(&mut self, now: Duration) -> u64 {
        self.advance(now);
        let Some(started) = self.started else {
            return 0;
        };
        // The present slice has only begun; the first one may have begun in its middle, which costs little.
        let oldest = self.current.saturating_sub(SLICES as u64 - 1).max(started);
        let begun = millis(SLICE).saturating_mul(oldest);
        let window = millis(now).saturating_sub(begun).max(millis(SLICE) / 2);
        let bytes = self
            .slices
            .iter()
            .fold(0u64, |sum, slice| sum.saturating_add(*slice));
        bytes.saturating_mul(1000) / window.max(1)
    }

    fn advance(&mut self, now: Duration) {
        let present = millis(now) / millis(SLICE).max(1);
        let passed = present.saturating_sub(self.current);
        for step in 1..=passed.min(SLICES as u64) {
            if let Some(slice) = self.slices.get_mut(position(self.current + step)) {
                *slice = 0;
            }
        }
        self.current = self.current.max(present);
    }
}

fn position(slice: u64) -> usize {
    usize::try_from(slice % SLICES as u64).unwrap_or(0)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_follows_the_last_seconds() {
        let mut meter = RateMeter::default();
        assert_eq!(meter.rate(Duration::from_secs(9)), 0);
        // 1 MB/s from second 10 on, in steps of 100 ms.
        for step in 100..200 {
            meter.add(Duration::from_millis(step * 100), 100_000);
        }
        let steady = meter.rate(Duration::from_secs(20));
        assert!((900_000..=1_100_000).contains(&steady), "{steady}");
        assert!(meter.rate(Duration::from_secs(22)) < steady);
        assert_eq!(meter.rate(Duration::from_secs(30)), 0);
    }

    #[test]
    fn a_far_jump_in_time_is_harmless() {
        let mut meter = RateMeter::default();
        meter.add(Duration::MAX, u64::MAX);
        meter.add(Duration::ZERO, u64::MAX);
        let _ = meter.rate(Duration::MAX);
    }

    #[test]
    fn remaining_time_needs_a_rate() {
        let progress = Progress {
            stored_total: 100,
            stored_done: 40,
            ..Progress::default()
        };
        assert_eq!(progress.remaining(), None);
        assert_eq!(
            Progress {
                rate: 30,
                ..progress
            }
            .remaining(),
            Some(Duration::from_secs(2))
        );
    }
}
