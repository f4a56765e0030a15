//! What the management firmware knows and decides, without I/O.
//!
//! [`Firmware`] is the one state that the WS-MAN port, the redirection ports and the PC itself share. It reads no
//! clock and no randomness: `now` comes in with each call, a seed comes in once. What it wants done it says through
//! [`Firmware::poll_action`] (to the PC) and [`Firmware::session_event`] (to a redirection session); when it wants to
//! be called again it says through [`Firmware::poll_timeout`]. [`Shared`] is the lock around it that also wakes the
//! others.
//!
//! Not simulated: provisioning, Kerberos, alarms, One-Click Recovery, the audit log.

mod accounts;
mod boot;
mod boot_tables;
mod config;
mod consent;
mod counters;
mod event_log;
mod permission;
mod power;
mod power_and_sessions;
mod profile;
mod redirection;
mod shared;
mod snapshot;
#[cfg(test)]
mod tests;
mod users;

use std::collections::VecDeque;
use std::time::Instant;

pub use boot::{
    Boot, BootPlan, BootPut, BootRefusal, BootReturn, BootSettings, ROLE_NEXT_SINGLE_USE,
    ROLE_NOT_NEXT,
};
pub use boot_tables::{
    BOOT_FLAGS, BootCapabilities, BootFlag, BootFlagRow, BootFlags, BootSource, IderDevice,
};
pub use config::{Config, ControlMode, Epoch};
pub use consent::{ConsentReturn, ConsentState, ConsentTimes};
pub use counters::Counters;
pub use event_log::{Event, MAX_RECORDS, RECORD_LEN};
pub use power::{GuestRequest, PowerReturn, PowerState};
pub use profile::{ConsentPolicy, DEFAULT_PROFILE, PROFILES, Profile, Qop};
pub use redirection::{BiosVeto, SessionEvent, SessionKind, SessionTicket, StartStatus, Switches};
pub use shared::Shared;
pub use snapshot::Snapshot;
pub use users::{
    AccessPermission, Account, AclEntry, AclError, DigestProof, Exchange, Ha1, LockoutPolicy,
    Realm, Realms, Rejected, User, hex,
};

/// What the PC has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Power up and boot.
    PowerOn(Boot),
    /// Start again: with `cycle`, by switching off and on.
    Reset {
        /// What this boot does.
        boot: Boot,
        /// Power goes away for a moment.
        cycle: bool,
    },
    /// Switch off at once.
    PowerOff,
    /// Go on from sleep.
    Wake,
    /// Non-maskable interrupt.
    Interrupt,
    /// Ask the operating system; [`Firmware::host_changed`] says what came of it.
    Ask(GuestRequest),
    /// Draw the consent code over the screen; show it with six digits.
    ShowConsentCode(u32),
    /// Take it away.
    HideConsentCode,
}

/// What consent may be needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsentUse {
    /// To start a session of that kind.
    Session(SessionKind),
    /// To set boot options.
    Boot,
}

/// The whole of the firmware's state. See the module's text.
#[derive(Debug)]
pub struct Firmware {
    config: Config,
    users: users::Users,
    consent_policy: ConsentPolicy,
    consent: consent::Consent,
    boot: BootSettings,
    power: PowerState,
    redirection: redirection::Redirection,
    log: event_log::EventLog,
    counters: Counters,
    actions: VecDeque<Action>,
    random: SplitMix,
    epoch: Epoch,
}

/// Most actions that wait for a PC which does not fetch them; the oldest go first.
const MAX_ACTIONS: usize = 64;

impl Firmware {
    /// A machine that has just been plugged in. `seed` decides consent codes and nonces.
    pub fn new(config: Config, seed: u64, epoch: Epoch) -> Self {
        Self {
            users: users::Users::new(
                config.digest_realm.clone(),
                &config.admin_password,
                config.lockout,
            ),
            consent_policy: config.consent,
            consent: consent::Consent::new(config.consent_times, config.speed),
            boot: BootSettings::new(),
            power: config.power,
            redirection: redirection::Redirection::new(config.switches, config.veto),
            log: event_log::EventLog::default(),
            counters: Counters::default(),
            actions: VecDeque::new(),
            random: SplitMix(seed),
            epoch,
            config,
        }
    }

    /// How it was configured. What can change afterwards has methods of its own.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The generation of firmware.
    pub fn profile(&self) -> &'static Profile {
        self.config.profile
    }

    /// Seconds since 1970 by the firmware's clock.
    pub fn unix(&self, now: Instant) -> u64 {
        self.epoch
            .unix
            .saturating_add(now.saturating_duration_since(self.epoch.instant).as_secs())
    }

    // ---- time and outcome

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.consent.poll_timeout()
    }

    /// Does what is due. Calling it early or late is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(effect) = self.consent.handle_timeout(now) {
            self.consent_effect(effect);
        }
    }

    /// What the PC has to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn act(&mut self, action: Action) {
        if self.actions.len() == MAX_ACTIONS {
            self.actions.pop_front();
        }
        self.actions.push_back(action);
    }

    // ---- log, counters

    /// Writes to the event log.
    pub fn record(&mut self, now: Instant, event: Event) {
        let unix = u32::try_from(self.unix(now)).unwrap_or(u32::MAX);
        self.log.push(unix, event);
    }

    /// The event log, newest first.
    pub fn log_records(&self) -> impl ExactSizeIterator<Item = &[u8; RECORD_LEN]> {
        self.log.records()
    }

    /// ClearLog; `false` while the log is frozen.
    pub fn clear_log(&mut self) -> bool {
        self.log.clear()
    }

    /// FreezeLog.
    pub fn freeze_log(&mut self, frozen: bool) {
        self.log.freeze(frozen);
    }

    /// `IsFrozen`.
    pub fn log_frozen(&self) -> bool {
        self.log.frozen()
    }

    /// What the console sent.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// For the shells, which count what only they see.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Counts a call of `method` on a class that exists; `None` where it does not.
    pub fn count_call(&mut self, class_and_method: Option<(&'static str, &'static str)>) {
        let key = class_and_method
            .map_or_else(|| "?".into(), |(class, method)| format!("{class}.{method}"));
        *self.counters.calls.entry(key).or_default() += 1;
    }
}

/// The generator of Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014): reproducible runs
/// matter here, secrecy does not.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
