//! How a source behaves: whether to ask it, when, how fast it is and how far to be trusted with work.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fault::{Fault, Verdict};
use crate::progress::RateMeter;

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
    /// Body bytes received from it.
    received: u64,
    faults: u64,
    meter: RateMeter,
    /// Bytes a second of one connection to it, and when that was last measured.
    speed: Option<(f64, Duration)>,
    /// Bytes since the last measurement.
    fresh: u64,
    /// Faults, each counting half as much after each [`HALF_LIFE`], as of a time.
    trouble: (f64, Duration),
    /// Requests it may have at once, where it has refused more.
    most: Option<(usize, Duration)>,
}

/// Weight of a new measurement against those before it.
const SMOOTHING: f64 = 0.4;
/// How fast faults are forgiven.
const HALF_LIFE: Duration = Duration::from_secs(30);
/// A measurement older than this is worth repeating.
const STALE: Duration = Duration::from_secs(30);
/// How long a source that refused more connections gets one more.
const REFUSED_MORE: Duration = Duration::from_secs(10);

/// What a source is good for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// It gets requests.
    Good,
    /// It gets none until this time on the machine's clock.
    Resting(Duration),
    /// It gets none any more.
    Dropped,
}

/// How a source has behaved, as of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceHealth {
    /// What it is good for.
    pub state: SourceState,
    /// 100 for one without recent faults, 50 for one fault just now, and so on down; faults count half as much after
    /// half a minute.
    pub score: u8,
    /// Body bytes per second over the last few seconds, all its connections together.
    pub rate: u64,
    /// Body bytes received from it so far.
    pub received: u64,
    /// Its faults so far.
    pub faults: u64,
    /// Requests it is answering.
    pub active: usize,
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
        !self.dropped
            && self.rests_until <= now
            && (self.failures < 2 || self.active == 0)
            && self.most.is_none_or(|(most, _)| self.active < most)
    }

    /// Bytes a second that one more connection to it may bring; nothing where that was not measured lately.
    pub(crate) fn speed(&self, now: Duration) -> Option<f64> {
        let (speed, at) = self.speed?;
        // One that is being measured right now is not stale.
        (self.active > 0 || now.saturating_sub(at) < STALE).then_some(speed)
    }

    /// 1 without recent faults, less with each.
    pub(crate) fn confidence(&self, now: Duration) -> f64 {
        1.0 / (1.0 + self.trouble_at(now))
    }

    fn trouble_at(&self, now: Duration) -> f64 {
        let (trouble, at) = self.trouble;
        let half_lives = now.saturating_sub(at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        trouble * (-half_lives).exp2()
    }

    pub(crate) fn health(&mut self, now: Duration) -> SourceHealth {
        let state = if self.dropped {
            SourceState::Dropped
        } else if self.rests_until > now {
            SourceState::Resting(self.rests_until)
        } else {
            SourceState::Good
        };
        let score = if self.dropped {
            0
        } else {
            // Between 0 and 100, so nothing is lost.
            (self.confidence(now) * 100.0).round() as u8
        };
        SourceHealth {
            state,
            score,
            rate: self.meter.rate(now),
            received: self.received,
            faults: self.faults,
            active: self.active,
        }
    }

    /// Body bytes came from it.
    pub(crate) fn received(&mut self, now: Duration, bytes: u64) {
        self.received = self.received.saturating_add(bytes);
        self.fresh = self.fresh.saturating_add(bytes);
        self.meter.add(now, bytes);
    }

    /// Measures it: `passed` since the last call.
    pub(crate) fn tick(&mut self, now: Duration, passed: Duration) {
        let bytes = std::mem::take(&mut self.fresh);
        let seconds = passed.as_secs_f64();
        if self.active > 0 && seconds > 0.0 {
            let found = bytes as f64 / seconds / self.active as f64;
            let speed = match self.speed {
                Some((before, at)) if now.saturating_sub(at) < STALE => {
                    before + (found - before) * SMOOTHING
                }
                _ => found,
            };
            self.speed = Some((speed, now));
        }
        if let Some((most, since)) = self.most
            && now.saturating_sub(since) >= REFUSED_MORE
        {
            self.most = Some((most.saturating_add(1), now));
        }
    }

    /// A chunk from it has been verified.
    pub(crate) fn delivered(&mut self) {
        self.failures = 0;
    }

    /// A request is over, however it ended.
    pub(crate) fn finished(&mut self) {
        self.active = self.active.saturating_sub(1);
    }

    /// Another connection was faster with a chunk that it was asked for first: half a fault.
    pub(crate) fn overtaken(&mut self, now: Duration) {
        self.trouble = (self.trouble_at(now) + 0.5, now);
    }

    /// It refuses a request while it answers others: it gets no more than those for now. False where it answers none.
    pub(crate) fn refused_more(&mut self, now: Duration) -> bool {
        let works = self.active > 0 && self.failures == 0;
        if works {
            self.most = Some((self.active, now));
        }
        works
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
        self.faults = self.faults.saturating_add(1);
        self.trouble = (self.trouble_at(now) + 1.0, now);
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
    fn faults_are_forgiven_over_time() {
        let mut source = Source::default();
        let score = |source: &mut Source, second| source.health(Duration::from_secs(second)).score;
        assert_eq!(score(&mut source, 0), 100);
        let now = Duration::from_secs(10);
        source.fail(now, now, Verdict::Rest, false, BACK_OFF, 1.0);
        assert_eq!((score(&mut source, 10), score(&mut source, 40)), (50, 67));
        assert!(score(&mut source, 400) >= 99);
        source.fail(now, now, Verdict::Drop, false, BACK_OFF, 1.0);
        assert_eq!(score(&mut source, 1000), 0);
    }

    #[test]
    fn speed_is_that_of_one_connection_and_grows_stale() {
        let mut source = Source {
            active: 4,
            ..Source::default()
        };
        let mut now = Duration::ZERO;
        for _ in 0..20 {
            now += Duration::from_millis(500);
            source.received(now, 1_000_000);
            source.tick(now, Duration::from_millis(500));
        }
        let speed = source.speed(now).unwrap();
        assert!((490_000.0..510_000.0).contains(&speed), "{speed}");
        source.active = 0;
        assert!(source.speed(now + Duration::from_secs(29)).is_some());
        assert!(source.speed(now + Duration::from_secs(30)).is_none());
    }

    #[test]
    fn a_source_that_refuses_more_connections_keeps_those_it_has() {
        let mut source = Source {
            active: 3,
            ..Source::default()
        };
        let now = Duration::from_secs(1);
        assert!(source.refused_more(now));
        assert!(!source.available(now));
        source.active = 2;
        assert!(source.available(now));
        source.active = 3;
        source.tick(now + REFUSED_MORE, Duration::from_secs(1));
        assert!(source.available(now));
        // With nothing under way the refusal is an outage.
        assert!(!Source::default().refused_more(now));
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
