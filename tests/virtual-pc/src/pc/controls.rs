//! What one can do to a virtual PC beside talking to its ports: what a person beside it could do,
//! and looks inside.

use std::time::Instant;

use anyhow::Result;

use super::{Addresses, Controls};
use crate::firmware::{PowerState, Shared, Snapshot};
use crate::host::{Host, MachineError, NotPrinted, Screen, keys};
use crate::redirection::Redirection;
use crate::wsman;

impl Controls {
    /// The firmware's state in short.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.parts.firmware.quietly(|firmware| firmware.snapshot())
    }

    /// The firmware itself, for what has no method here. Telling others of changes is
    /// [`Shared::with`]'s.
    #[must_use]
    pub fn firmware(&self) -> &Shared {
        &self.parts.firmware
    }

    /// The redirection ports, for counters.
    #[must_use]
    pub fn redirection(&self) -> &Redirection {
        &self.parts.redirection
    }

    /// Where the PC can be reached.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.parts.addresses
    }

    /// The hardware, for what has no method here.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.parts.host
    }

    /// What the user sees, without the consent code.
    pub async fn screen(&self) -> Result<Screen, MachineError> {
        self.parts.host.screen().await
    }

    /// Six digits that the firmware draws over the screen.
    #[must_use]
    pub fn consent_code(&self) -> Option<String> {
        self.snapshot().consent_code
    }

    /// See [`crate::VirtualPc::wait_for_serial`].
    pub async fn wait_for_serial(
        &self,
        text: &str,
        position: u64,
        deadline: Instant,
    ) -> Result<u64, NotPrinted> {
        self.parts
            .host
            .serial()
            .wait_for(text, position, deadline)
            .await
    }

    /// Types on the keyboard.
    pub async fn type_text(&self, text: &str) -> Result<()> {
        Ok(self.parts.host.press(&keys::text(text)?).await?)
    }

    /// Presses keys by name, such as `f2` or `ctrl-alt-delete`.
    pub async fn press(&self, names: &[String]) -> Result<()> {
        let chords: Result<Vec<_>, _> = names.iter().map(|name| keys::chord(name)).collect();
        Ok(self.parts.host.press(&chords?).await?)
    }

    /// Somebody presses the button on the case.
    pub fn press_power_button(&self) {
        self.parts
            .firmware
            .with(|firmware| firmware.press_power_button(Instant::now()));
    }

    /// Mains failure: the PC is off, all connections are gone. The firmware keeps its settings.
    pub async fn pull_plug(&self) -> Result<(), MachineError> {
        self.parts.cable.break_streams();
        self.parts.redirection_cable.break_streams();
        self.parts.host.power_off().await?;
        self.parts
            .firmware
            .with(|firmware| firmware.host_changed(PowerState::Off));
        Ok(())
    }

    /// Cuts or mends the network of firmware and host, which share a cable.
    pub async fn set_network(&self, up: bool) -> Result<(), MachineError> {
        self.parts.cable.set_cut(!up);
        self.parts.redirection_cable.set_cut(!up);
        match self.parts.host.set_cable(up).await {
            // Nothing to cut; at power-on the state of the cable is looked at again.
            Err(MachineError::Off) => Ok(()),
            result => result,
        }
    }

    /// Whether the network is cut.
    #[must_use]
    pub fn network_is_cut(&self) -> bool {
        self.parts.cable.is_cut()
    }

    /// Breaks the connections of all redirection sessions.
    pub fn drop_redirection(&self) {
        self.parts.redirection_cable.break_streams();
    }

    /// How WS-MAN misbehaves, now.
    #[must_use]
    pub fn wsman_knobs(&self) -> wsman::Knobs {
        self.parts.wsman.service().knobs()
    }

    /// Changes how WS-MAN misbehaves.
    pub fn set_wsman_knobs(&self, knobs: wsman::Knobs) {
        self.parts
            .wsman
            .service()
            .change_knobs(|current| *current = knobs);
    }

    /// Asks whoever runs this PC to end it.
    pub fn quit(&self) {
        self.parts.quit.send_replace(true);
    }

    /// Returns when somebody has asked for the end.
    pub async fn asked_to_quit(&self) {
        let mut quit = self.parts.quit.subscribe();
        // The sender lives as long as this.
        let _ = quit.wait_for(|quit| *quit).await;
    }
}
