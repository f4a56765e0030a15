//! The steps of a boot in their order, where to go on after one failed, and the wait in
//! between. Pure: the shell in `boot` does what is decided here.

use std::fmt;
use std::time::Duration;

/// The steps, by the names that the screen, the reports and the documentation use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Kernel file systems and consoles.
    Mount,
    /// Config slot and kernel command line.
    Config,
    /// Links, addresses, routes, names.
    Network,
    /// First word to the server.
    Report,
    /// Which image, verified.
    Manifest,
    /// Where it goes, and whether it fits.
    Target,
    /// The image's bytes.
    Fetch,
    /// The jump.
    HandOff,
}

impl Step {
    /// All steps in order.
    pub const ALL: [Step; 8] = [
        Step::Mount,
        Step::Config,
        Step::Network,
        Step::Report,
        Step::Manifest,
        Step::Target,
        Step::Fetch,
        Step::HandOff,
    ];

    /// The step's name.
    pub fn name(self) -> &'static str {
        match self {
            Step::Mount => "mount",
            Step::Config => "config",
            Step::Network => "network",
            Step::Report => "report",
            Step::Manifest => "manifest",
            Step::Target => "target",
            Step::Fetch => "fetch",
            Step::HandOff => "hand-off",
        }
    }

    /// The step after this one; none after the jump.
    pub fn next(self) -> Option<Step> {
        Self::ALL.iter().copied().find(|step| *step > self)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What holds at the moment of a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// The interface in use has a link, and its lease is not half over.
    pub network_holds: bool,
}

/// The step a retry starts with.
///
/// Everything up to the network only concerns this PC, so those steps repeat themselves. After
/// that the manifest is the anchor: whatever went wrong with the image, the store may meanwhile
/// hold a newer version; bytes already verified are kept while the index stays the same.
pub fn resume(failed: Step, unreachable: bool, situation: Situation) -> Step {
    match failed {
        Step::Mount | Step::Config | Step::Network => failed,
        _ if !situation.network_holds => Step::Network,
        // Nothing answered although the network holds: perhaps it is the wrong network. Ask
        // anew; other interfaces come first then.
        Step::Report | Step::Manifest if unreachable => Step::Network,
        Step::Report => failed,
        Step::Manifest | Step::Target | Step::Fetch | Step::HandOff => Step::Manifest,
    }
}

/// What the person in front of the failure screen, or time, decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Go on.
    Retry,
    /// The built-in prompt.
    Shell,
}

/// The wait on the failure screen.
#[derive(Debug, Clone)]
pub struct Countdown {
    ends: Duration,
    shell: bool,
}

impl Countdown {
    /// Starts the wait. `shell`: whether the configuration allows the prompt.
    pub fn new(now: Duration, wait: Duration, shell: bool) -> Self {
        Self {
            ends: now + wait,
            shell,
        }
    }

    /// A key was pressed.
    pub fn key(&self, key: u8) -> Option<Choice> {
        match key {
            b'\r' | b'\n' => Some(Choice::Retry),
            b's' | b'S' if self.shell => Some(Choice::Shell),
            _ => None,
        }
    }

    /// Time has passed.
    pub fn tick(&self, now: Duration) -> Option<Choice> {
        (now >= self.ends).then_some(Choice::Retry)
    }

    /// When [`Countdown::text`] changes next, at the latest when the wait is over.
    pub fn next_change(&self, now: Duration) -> Duration {
        let left = self.ends.saturating_sub(now);
        now + Duration::from_nanos(u64::from(left.subsec_nanos())).max(Duration::from_millis(1))
    }

    /// The line under the failure screen.
    pub fn text(&self, now: Duration, from: Step) -> String {
        let left = self.ends.saturating_sub(now);
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        let shell = if self.shell { " s: prompt." } else { "" };
        format!("Trying again from step {from} in {seconds} s. Enter: now.{shell}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDS: Situation = Situation {
        network_holds: true,
    };
    const LOST: Situation = Situation {
        network_holds: false,
    };

    #[test]
    fn steps_follow_each_other_and_end_with_the_hand_off() {
        let mut step = Step::Mount;
        let mut walked = vec![step];
        while let Some(next) = step.next() {
            walked.push(next);
            step = next;
        }
        assert_eq!(walked, Step::ALL);
    }

    #[test]
    fn a_retry_starts_where_the_cause_can_have_gone() {
        let cases = [
            (Step::Mount, false, HOLDS, Step::Mount),
            (Step::Config, false, HOLDS, Step::Config),
            (Step::Network, false, LOST, Step::Network),
            (Step::Manifest, false, HOLDS, Step::Manifest),
            (Step::Manifest, true, HOLDS, Step::Network),
            (Step::Target, false, HOLDS, Step::Manifest),
            (Step::Fetch, true, HOLDS, Step::Manifest),
            (Step::Fetch, true, LOST, Step::Network),
            (Step::HandOff, false, HOLDS, Step::Manifest),
            (Step::HandOff, false, LOST, Step::Network),
        ];
        for (failed, unreachable, situation, expected) in cases {
            assert_eq!(
                resume(failed, unreachable, situation),
                expected,
                "{failed}, unreachable: {unreachable}, {situation:?}"
            );
        }
    }

    #[test]
    fn a_retry_never_jumps_ahead() {
        for failed in Step::ALL {
            for unreachable in [false, true] {
                for situation in [HOLDS, LOST] {
                    assert!(resume(failed, unreachable, situation) <= failed);
                }
            }
        }
    }

    #[test]
    fn enter_retries_now_and_s_needs_permission() {
        let now = Duration::from_secs(100);
        let with = Countdown::new(now, Duration::from_secs(30), true);
        let without = Countdown::new(now, Duration::from_secs(30), false);
        assert_eq!(with.key(b'\r'), Some(Choice::Retry));
        assert_eq!(without.key(b'\n'), Some(Choice::Retry));
        assert_eq!(with.key(b's'), Some(Choice::Shell));
        assert_eq!(without.key(b's'), None);
        assert_eq!(with.key(b'x'), None);
    }

    #[test]
    fn the_countdown_counts_whole_seconds_to_one_and_then_retries() {
        let start = Duration::from_millis(100_250);
        let countdown = Countdown::new(start, Duration::from_secs(2), true);
        let mut now = start;
        let mut texts = Vec::new();
        while countdown.tick(now).is_none() {
            texts.push(countdown.text(now, Step::Network));
            now = countdown.next_change(now);
        }
        texts.dedup();
        assert_eq!(
            texts,
            [
                "Trying again from step network in 2 s. Enter: now. s: prompt.",
                "Trying again from step network in 1 s. Enter: now. s: prompt."
            ]
        );
        assert!(now >= start + Duration::from_secs(2));
        assert!(now < start + Duration::from_millis(2010));
    }

    #[test]
    fn a_wait_of_zero_retries_at_once() {
        let now = Duration::from_secs(5);
        let countdown = Countdown::new(now, Duration::ZERO, false);
        assert_eq!(countdown.tick(now), Some(Choice::Retry));
    }
}
