//! User consent (`IPS_OptInService`): a code on the user's screen that the console has to send back.
//!
//! States and return values are the specification's. How many wrong codes drop the request, when the service
//! blocks, and which of the two published timeouts limits which state are not published: see [`ConsentTimes`].

use std::time::{Duration, Instant};

/// `OptInState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsentState {
    /// Nothing asked for.
    NotStarted = 0,
    /// Asked for; the code is not on the screen yet.
    Requested = 1,
    /// The code is on the screen.
    Displayed = 2,
    /// The right code came back.
    Received = 3,
    /// A redirection session is open under the consent.
    InSession = 4,
}

/// Limits of the consent dialogue, in firmware time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsentTimes {
    /// From StartOptIn until the code is on the screen. Guess.
    pub sprite: Duration,
    /// How long the code stays there (`OptInDisplayTimeout`).
    pub display: Duration,
    /// How long consent lasts without an open session (`OptInCodeTimeout`; the published two minutes fit it).
    pub idle: Duration,
    /// Wrong codes until the request is dropped. Guess.
    pub wrong_codes: u32,
    /// Dropped requests until the service blocks. Guess.
    pub dropped_requests: u32,
    /// How long it blocks. Guess.
    pub block: Duration,
}

impl Default for ConsentTimes {
    fn default() -> Self {
        Self {
            sprite: Duration::from_secs(1),
            display: Duration::from_secs(300),
            idle: Duration::from_secs(120),
            wrong_codes: 3,
            dropped_requests: 2,
            block: Duration::from_secs(60),
        }
    }
}

/// `ReturnValue` of the methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the return values")]
pub enum ConsentReturn {
    Success = 0,
    InternalError = 1,
    InvalidState = 2,
    Blocked = 3,
}

/// What the rest of the firmware has to do about a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Show(u32),
    Hide,
    /// Consent had been given and is over: boot options set under it go too.
    Ended,
}

#[derive(Debug)]
pub(super) struct Consent {
    times: ConsentTimes,
    speed: u32,
    phase: Phase,
    dropped: u32,
    blocked_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    NotStarted,
    Requested {
        code: u32,
        until: Instant,
    },
    Displayed {
        code: u32,
        until: Instant,
        wrong: u32,
    },
    /// Right code received, no session open.
    Idle {
        until: Instant,
    },
    InSession,
}

impl Consent {
    pub(super) fn new(times: ConsentTimes, speed: u32) -> Self {
        Self {
            times,
            speed: speed.max(1),
            phase: Phase::NotStarted,
            dropped: 0,
            blocked_until: None,
        }
    }

    pub(super) fn times(&self) -> &ConsentTimes {
        &self.times
    }

    pub(super) fn state(&self) -> ConsentState {
        match self.phase {
            Phase::NotStarted => ConsentState::NotStarted,
            Phase::Requested { .. } => ConsentState::Requested,
            Phase::Displayed { .. } => ConsentState::Displayed,
            Phase::Idle { .. } => ConsentState::Received,
            Phase::InSession => ConsentState::InSession,
        }
    }

    pub(super) fn given(&self) -> bool {
        matches!(self.phase, Phase::Idle { .. } | Phase::InSession)
    }

    /// The code on the screen.
    pub(super) fn displayed(&self) -> Option<u32> {
        match self.phase {
            Phase::Displayed { code, .. } => Some(code),
            _ => None,
        }
    }

    pub(super) fn start(&mut self, now: Instant, code: u32) -> ConsentReturn {
        if self.blocked(now) {
            return ConsentReturn::Blocked;
        }
        let Phase::NotStarted = self.phase else {
            return ConsentReturn::InvalidState;
        };
        self.phase = Phase::Requested {
            code,
            until: now + self.times.sprite / self.speed,
        };
        ConsentReturn::Success
    }

    pub(super) fn send_code(&mut self, now: Instant, sent: u32) -> (ConsentReturn, Option<Effect>) {
        if self.blocked(now) {
            return (ConsentReturn::Blocked, None);
        }
        let Phase::Displayed { code, until, wrong } = self.phase else {
            return (ConsentReturn::InvalidState, None);
        };
        if sent == code {
            self.dropped = 0;
            self.phase = Phase::Idle {
                until: now + self.times.idle / self.speed,
            };
            return (ConsentReturn::Success, Some(Effect::Hide));
        }
        let wrong = wrong + 1;
        if wrong < self.times.wrong_codes {
            self.phase = Phase::Displayed { code, until, wrong };
            return (ConsentReturn::InvalidState, None);
        }
        self.phase = Phase::NotStarted;
        self.dropped += 1;
        if self.dropped >= self.times.dropped_requests {
            self.dropped = 0;
            self.blocked_until = Some(now + self.times.block / self.speed);
        }
        (ConsentReturn::InvalidState, Some(Effect::Hide))
    }

    pub(super) fn cancel(&mut self) -> (ConsentReturn, Option<Effect>) {
        match std::mem::replace(&mut self.phase, Phase::NotStarted) {
            Phase::NotStarted => (ConsentReturn::InvalidState, None),
            Phase::Requested { .. } => (ConsentReturn::Success, None),
            Phase::Displayed { .. } => (ConsentReturn::Success, Some(Effect::Hide)),
            Phase::Idle { .. } | Phase::InSession => (ConsentReturn::Success, Some(Effect::Ended)),
        }
    }

    /// A redirection session was opened, or the last one was closed.
    pub(super) fn sessions_open(&mut self, now: Instant, any: bool) {
        match (self.phase, any) {
            (Phase::Idle { .. }, true) => self.phase = Phase::InSession,
            (Phase::InSession, false) => {
                self.phase = Phase::Idle {
                    until: now + self.times.idle / self.speed,
                }
            }
            _ => {}
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Requested { until, .. }
            | Phase::Displayed { until, .. }
            | Phase::Idle { until } => Some(until),
            Phase::NotStarted | Phase::InSession => None,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Effect> {
        match self.phase {
            Phase::Requested { code, until } if until <= now => {
                self.phase = Phase::Displayed {
                    code,
                    until: now + self.times.display / self.speed,
                    wrong: 0,
                };
                Some(Effect::Show(code))
            }
            Phase::Displayed { until, .. } if until <= now => {
                self.phase = Phase::NotStarted;
                Some(Effect::Hide)
            }
            Phase::Idle { until } if until <= now => {
                self.phase = Phase::NotStarted;
                Some(Effect::Ended)
            }
            _ => None,
        }
    }

    fn blocked(&self, now: Instant) -> bool {
        self.blocked_until.is_some_and(|until| now < until)
    }
}
