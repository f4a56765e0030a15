//! Consent and the boot settings that depend on it.

use std::time::Instant;

use super::boot::{self, BootPut, BootRefusal, BootReturn, BootSettings};
use super::boot_tables::BootSource;
use super::consent::{self, ConsentReturn, ConsentState, ConsentTimes};
use super::{
    Action, Config, ConsentPolicy, ConsentUse, ControlMode, Firmware, PowerState, SessionEvent,
    SessionKind,
};

impl Firmware {
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

    pub(super) fn consent_effect(&mut self, effect: consent::Effect) {
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
}
