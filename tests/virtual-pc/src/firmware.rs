//! What the management firmware knows and decides, without I/O.
//!
//! [`Firmware`] is the one state that the WS-MAN port, the redirection ports and the PC itself share. It reads no
//! clock and no randomness: `now` comes in with each call, a seed comes in once. What it wants done it says through
//! [`Firmware::poll_action`] (to the PC) and [`Firmware::session_event`] (to a redirection session); when it wants to
//! be called again it says through [`Firmware::poll_timeout`]. [`Shared`] is the lock around it that also wakes the
//! others.
//!
//! Not simulated: provisioning, Kerberos, alarms, One-Click Recovery, the audit log.

mod boot;
mod config;
mod consent;
mod counters;
mod event_log;
mod power;
mod profile;
mod redirection;
mod shared;
#[cfg(test)]
mod tests;
mod users;

use std::collections::VecDeque;
use std::time::Instant;

pub use boot::{
    BOOT_FLAGS, Boot, BootCapabilities, BootFlag, BootFlagRow, BootFlags, BootPlan, BootPut,
    BootRefusal, BootReturn, BootSettings, BootSource, IderDevice, ROLE_NEXT_SINGLE_USE,
    ROLE_NOT_NEXT,
};
pub use config::{Config, ControlMode, Epoch};
pub use consent::{ConsentReturn, ConsentState, ConsentTimes};
pub use counters::Counters;
pub use event_log::{Event, MAX_RECORDS, RECORD_LEN};
pub use power::{GuestRequest, PowerReturn, PowerState};
pub use profile::{ConsentPolicy, DEFAULT_PROFILE, PROFILES, Profile, Qop};
pub use redirection::{BiosVeto, SessionEvent, SessionKind, SessionTicket, StartStatus, Switches};
pub use shared::Shared;
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

    // ---- accounts

    /// The realm of all digest challenges of this device.
    pub fn digest_realm(&self) -> &str {
        self.users.realm()
    }

    /// A fresh nonce: 32 characters, as real firmware's.
    pub fn new_nonce(&mut self) -> String {
        let bytes: Vec<u8> = (0..2)
            .flat_map(|_| self.random.next().to_be_bytes())
            .collect();
        hex(&bytes)
    }

    /// Not secret: for chunk borders and the like.
    pub(crate) fn random(&mut self) -> u64 {
        self.random.next()
    }

    /// Checks a digest response. That the nonce is ours and fresh is the caller's to know.
    ///
    /// # Errors
    /// Wrong credentials and a locked account, which look the same to the client.
    pub fn check_digest(
        &mut self,
        now: Instant,
        proof: &DigestProof<'_>,
    ) -> Result<Account, Rejected> {
        let result = self.users.check_digest(now, proof, self.config.speed);
        self.checked(now, result)
    }

    /// Checks a password sent in clear (redirection authentication type 1).
    ///
    /// # Errors
    /// As [`Self::check_digest`].
    pub fn check_password(
        &mut self,
        now: Instant,
        user: &str,
        password: &str,
    ) -> Result<Account, Rejected> {
        let result = self
            .users
            .check_password(now, user, password, self.config.speed);
        self.checked(now, result)
    }

    fn checked(
        &mut self,
        now: Instant,
        result: Result<Account, users::Failure>,
    ) -> Result<Account, Rejected> {
        result.map_err(|failure| {
            self.counters.wrong_credentials += 1;
            let attempts = self.config.lockout.attempts;
            if failure.why == Rejected::BadCredentials
                && attempts != 0
                && failure.in_a_row.is_multiple_of(attempts)
            {
                self.record(now, Event::authentication_failed(failure.in_a_row));
            }
            failure.why
        })
    }

    /// What an account may do now; `None` once it is gone or disabled.
    pub fn realms_of(&self, user: &str) -> Option<Realms> {
        self.users.realms_of(user)
    }

    /// The access control list, without the administrator.
    pub fn acl_entries(&self) -> impl Iterator<Item = &User> {
        self.users.entries()
    }

    /// Adds an account; returns its handle.
    ///
    /// # Errors
    /// Names that AMT does not take, and a full list.
    pub fn add_acl_entry(&mut self, entry: AclEntry) -> Result<u32, AclError> {
        self.users.add(entry)
    }

    /// Replaces an account.
    ///
    /// # Errors
    /// As [`Self::add_acl_entry`], and an unknown handle.
    pub fn update_acl_entry(&mut self, handle: u32, entry: AclEntry) -> Result<(), AclError> {
        self.users.update(handle, entry)
    }

    /// Removes an account.
    ///
    /// # Errors
    /// An unknown handle.
    pub fn remove_acl_entry(&mut self, handle: u32) -> Result<(), AclError> {
        self.users.remove(handle)
    }

    /// Lets an account log in, or not.
    ///
    /// # Errors
    /// An unknown handle.
    pub fn enable_acl_entry(&mut self, handle: u32, enabled: bool) -> Result<(), AclError> {
        self.users.enable(handle, enabled)
    }

    // ---- consent

    /// Whether the operation would be refused for want of consent.
    pub fn lacks_consent(&self, what: ConsentUse) -> bool {
        let needed = match (self.config.control_mode, self.consent_policy, what) {
            (ControlMode::Client, _, _) => true,
            (ControlMode::Admin, ConsentPolicy::None, _) => false,
            (ControlMode::Admin, ConsentPolicy::Kvm, what) => {
                what == ConsentUse::Session(SessionKind::Kvm)
            }
            // A serial console alone shows nothing that the user has not been asked about.
            (ControlMode::Admin, ConsentPolicy::All, what) => {
                what != ConsentUse::Session(SessionKind::Sol)
            }
        };
        needed && !self.consent.given()
    }

    /// `OptInRequired`.
    pub fn consent_policy(&self) -> ConsentPolicy {
        self.consent_policy
    }

    /// Changes `OptInRequired`; `false` where the machine's owner does not allow it.
    pub fn set_consent_policy(&mut self, policy: ConsentPolicy) -> bool {
        let may = self.config.consent_can_change || policy == self.consent_policy;
        if may {
            self.consent_policy = policy;
        }
        may
    }

    /// `OptInState`.
    pub fn consent_state(&self) -> ConsentState {
        self.consent.state()
    }

    /// The limits of the dialogue.
    pub fn consent_times(&self) -> &ConsentTimes {
        self.consent.times()
    }

    /// The code on the user's screen, for the user who sits there.
    pub fn displayed_consent_code(&self) -> Option<u32> {
        self.consent.displayed()
    }

    /// StartOptIn. Firmware draws the code over the screen, so the PC has to be on.
    pub fn start_consent(&mut self, now: Instant) -> ConsentReturn {
        if self.power != PowerState::On {
            return ConsentReturn::InternalError;
        }
        let code = u32::try_from(self.random.next() % 1_000_000).unwrap_or(0);
        self.consent.start(now, code)
    }

    /// SendOptInCode.
    pub fn send_consent_code(&mut self, now: Instant, code: u32) -> ConsentReturn {
        self.handle_timeout(now);
        let (result, effect) = self.consent.send_code(now, code);
        if let Some(effect) = effect {
            self.consent_effect(effect);
        }
        if self.redirection.any() {
            self.consent.sessions_open(now, true);
        }
        result
    }

    /// CancelOptIn.
    pub fn cancel_consent(&mut self) -> ConsentReturn {
        let (result, effect) = self.consent.cancel();
        if let Some(effect) = effect {
            self.consent_effect(effect);
        }
        result
    }

    fn consent_effect(&mut self, effect: consent::Effect) {
        match effect {
            consent::Effect::Show(code) => self.act(Action::ShowConsentCode(code)),
            consent::Effect::Hide => self.act(Action::HideConsentCode),
            consent::Effect::Ended => {
                if self.lacks_consent(ConsentUse::Boot) {
                    self.boot.clear();
                }
                for kind in SessionKind::ALL {
                    if self.lacks_consent(ConsentUse::Session(kind)) {
                        self.redirection.notify(Some(kind), SessionEvent::Terminate);
                    }
                }
            }
        }
    }

    // ---- boot settings

    /// The settings in force.
    pub fn boot_settings(&self) -> &BootSettings {
        &self.boot
    }

    /// ChangeBootOrder; `None` clears the source.
    ///
    /// # Errors
    /// Only [`BootRefusal::ConsentRequired`].
    pub fn change_boot_order(
        &mut self,
        now: Instant,
        source: Option<BootSource>,
    ) -> Result<BootReturn, BootRefusal> {
        self.boot_permitted(now)?;
        Ok(self.boot.change_order(source, &self.config.capabilities))
    }

    /// SetBootConfigRole.
    ///
    /// # Errors
    /// Only [`BootRefusal::ConsentRequired`].
    pub fn set_boot_config_role(
        &mut self,
        now: Instant,
        role: u32,
    ) -> Result<BootReturn, BootRefusal> {
        self.boot_permitted(now)?;
        let rules = Self::boot_rules(&self.config);
        Ok(self.boot.set_role(role, rules))
    }

    /// Put of `AMT_BootSettingData`.
    ///
    /// # Errors
    /// Missing consent, missing elements, values that cannot be; nothing is changed then.
    pub fn put_boot_settings(&mut self, now: Instant, put: &BootPut) -> Result<(), BootRefusal> {
        self.boot_permitted(now)?;
        let rules = Self::boot_rules(&self.config);
        self.boot.put(put, rules)
    }

    fn boot_permitted(&mut self, now: Instant) -> Result<(), BootRefusal> {
        self.handle_timeout(now);
        if self.lacks_consent(ConsentUse::Boot) {
            Err(BootRefusal::ConsentRequired)
        } else {
            Ok(())
        }
    }

    fn boot_rules(config: &Config) -> boot::Rules<'_> {
        boot::Rules {
            capabilities: &config.capabilities,
            client_control: config.control_mode == ControlMode::Client,
            secure_boot_control: config.profile.secure_boot_control,
            clash_at_role: config.profile.clash_at_role,
        }
    }

    // ---- power

    /// What the PC is doing, as far as the firmware knows.
    pub fn power(&self) -> PowerState {
        self.power
    }

    /// `AvailableRequestedPowerStates`.
    pub fn available_power_states(&self) -> Vec<u32> {
        power::available(self.situation())
    }

    /// RequestPowerStateChange with the code of the specification.
    pub fn request_power_state(&mut self, now: Instant, code: u32) -> PowerReturn {
        match power::decide(code, self.situation()) {
            Err(refused) => refused,
            Ok(change) => {
                self.change_power(now, change);
                PowerReturn::Completed
            }
        }
    }

    /// Somebody presses the button on the case.
    pub fn press_power_button(&mut self, now: Instant) {
        match self.power {
            PowerState::On => self.act(Action::Ask(GuestRequest::Shutdown)),
            PowerState::Sleep => self.change_power(now, power::Change::Wake),
            PowerState::Hibernate | PowerState::Off => self.change_power(now, power::Change::Boot),
        }
    }

    /// The PC has switched itself off, or its operating system has gone to sleep.
    pub fn host_changed(&mut self, state: PowerState) {
        self.power = state;
        if state != PowerState::On
            && matches!(
                self.consent.state(),
                ConsentState::Requested | ConsentState::Displayed
            )
        {
            // There is no screen any more that shows the code.
            self.cancel_consent();
        }
    }

    /// The PC resets itself: its BIOS asks what to boot.
    pub fn host_reset(&mut self, now: Instant) -> Boot {
        self.power = PowerState::On;
        self.next_boot(now)
    }

    fn situation(&self) -> power::Situation {
        power::Situation {
            state: self.power,
            agent: self.config.agent,
            graceful: self.config.profile.graceful_power,
            sessions_open: self.redirection.any(),
        }
    }

    fn change_power(&mut self, now: Instant, change: power::Change) {
        let action = match change {
            power::Change::Boot => {
                self.power = PowerState::On;
                Action::PowerOn(self.next_boot(now))
            }
            power::Change::Reset { cycle } => {
                self.power = PowerState::On;
                Action::Reset {
                    boot: self.next_boot(now),
                    cycle,
                }
            }
            power::Change::Wake => {
                self.power = PowerState::On;
                Action::Wake
            }
            power::Change::Off => {
                self.host_changed(PowerState::Off);
                Action::PowerOff
            }
            power::Change::Interrupt => Action::Interrupt,
            power::Change::Ask(request) => Action::Ask(request),
        };
        self.act(action);
    }

    fn next_boot(&mut self, now: Instant) -> Boot {
        let forced = self.boot.forced() && self.boot.role == ROLE_NEXT_SINGLE_USE;
        let boot = self.boot.consume(self.redirection.has(SessionKind::Ider));
        self.counters.boots += 1;
        self.counters.forced_boots += u64::from(forced);
        self.redirection.notify(None, SessionEvent::HostReset);
        if boot.flags.has(BootFlag::ForcedProgressEvents) {
            // Memory, disks, PCI, option ROMs, video, then either the set-up screen or the operating system.
            let last = if boot.plan == BootPlan::BiosSetup {
                0x05
            } else {
                0x13
            };
            for code in [0x01, 0x02, 0x07, 0x08, 0x09, last] {
                self.record(now, Event::progress(code));
            }
        }
        boot
    }

    // ---- redirection

    /// The switches.
    pub fn switches(&self) -> &Switches {
        &self.redirection.switches
    }

    /// Changes the switches. What the BIOS vetoes stays off: read them again to know.
    pub fn set_switches(&mut self, switches: Switches) {
        self.redirection.switch(switches);
    }

    /// Whether the redirection port accepts connections.
    pub fn redirection_listening(&self) -> bool {
        self.redirection.listening()
    }

    /// A console asks for a session. `peer` is its address, for the log.
    ///
    /// # Errors
    /// The status for StartRedirectionSessionReply.
    pub fn begin_session(
        &mut self,
        now: Instant,
        kind: SessionKind,
        peer: &str,
    ) -> Result<SessionTicket, StartStatus> {
        self.handle_timeout(now);
        let lacking = self.lacks_consent(ConsentUse::Session(kind));
        let result = match self.redirection.begin(kind, peer) {
            Ok(ticket) if lacking => {
                self.redirection.end(ticket);
                Err(StartStatus::ConsentRequired)
            }
            other => other,
        };
        if result.is_ok() {
            self.counters.sessions += 1;
            self.consent.sessions_open(now, true);
            self.session_logged(now, kind, false);
        } else {
            self.counters.sessions_refused += 1;
        }
        result
    }

    /// The session is over, for whatever reason. A second call changes nothing.
    pub fn end_session(&mut self, now: Instant, ticket: SessionTicket) {
        if self.redirection.end(ticket) {
            self.session_logged(now, ticket.kind, true);
        }
        if !self.redirection.any() {
            self.consent.sessions_open(now, false);
        }
    }

    fn session_logged(&mut self, now: Instant, kind: SessionKind, ended: bool) {
        let code = match kind {
            SessionKind::Sol => 0,
            SessionKind::Ider => 2,
            SessionKind::Kvm => return,
        };
        self.record(now, Event::remote_diagnostics(code + u8::from(ended)));
    }

    /// What a session has to know; also wakes through [`Shared::changes`].
    pub fn session_event(&mut self, ticket: SessionTicket) -> Option<SessionEvent> {
        self.redirection.event(ticket)
    }

    /// TerminateSession; `false` when there is none of that kind.
    pub fn terminate_session(&mut self, kind: SessionKind) -> bool {
        self.redirection.notify(Some(kind), SessionEvent::Terminate);
        self.redirection.has(kind)
    }

    /// The redirected drives became visible to the host, or vanished.
    pub fn ider_attached(&mut self, attached: bool) {
        self.redirection.set_attached(attached);
    }

    // ---- log, counters, state

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

    /// The state in short, for people and tests.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            profile: self.profile().name,
            version: self.profile().full_version(),
            power: self.power,
            control_mode: self.config.control_mode,
            consent_policy: self.consent_policy,
            consent_state: self.consent.state(),
            consent_code: self.consent.displayed().map(|code| format!("{code:06}")),
            boot_forced: self.boot.forced(),
            boot_role: self.boot.role,
            boot_source: self.boot.source,
            boot_options: BOOT_FLAGS
                .iter()
                .filter(|row| self.boot.flags.has(row.flag))
                .map(|row| row.name)
                .collect(),
            options_cleared: self.boot.options_cleared,
            redirection_state: self.switches().enabled_state(),
            listener_enabled: self.switches().listener,
            kvm_enabled: self.switches().kvm,
            sessions: self
                .redirection
                .peers()
                .map(|(kind, peer)| (kind, peer.to_owned()))
                .collect(),
            ider_attached: self.redirection.attached(),
            event_log_records: self.log.records().len(),
            counters: self.counters.clone(),
        }
    }
}

/// [`Firmware::snapshot`].
#[derive(Debug, Clone, serde::Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Snapshot {
    pub profile: &'static str,
    pub version: String,
    pub power: PowerState,
    pub control_mode: ControlMode,
    pub consent_policy: ConsentPolicy,
    pub consent_state: ConsentState,
    /// Six digits, while they are on the screen.
    pub consent_code: Option<String>,
    /// Whether the next boot, or a later one, would differ from a normal one.
    pub boot_forced: bool,
    pub boot_role: u32,
    pub boot_source: Option<BootSource>,
    pub boot_options: Vec<&'static str>,
    pub options_cleared: bool,
    /// `EnabledState` of the redirection service.
    pub redirection_state: u32,
    pub listener_enabled: bool,
    pub kvm_enabled: bool,
    /// Kind and peer of each open session.
    pub sessions: Vec<(SessionKind, String)>,
    pub ider_attached: bool,
    pub event_log_records: usize,
    pub counters: Counters,
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
