//! Power, the boots that it leads to, and the redirection sessions that watch both.

use std::time::Instant;

use super::power::{self, GuestRequest, PowerReturn, PowerState};
use super::redirection::{SessionEvent, SessionKind, SessionTicket, StartStatus, Switches};
use super::{
    Action, Boot, BootFlag, BootPlan, ConsentState, ConsentUse, Event, Firmware,
    ROLE_NEXT_SINGLE_USE,
};

impl Firmware {
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

    /// What a session has to know; also wakes through `Shared::changes`.
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
}
