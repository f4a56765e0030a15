//! The firmware's state in short, for the control socket and for tests.

use super::{
    BOOT_FLAGS, BootSource, ConsentPolicy, ConsentState, ControlMode, Counters, Firmware,
    PowerState, SessionKind,
};

impl Firmware {
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
