//! What people want done, each as a function over a device that tells its steps while it goes.

pub mod boot;
pub mod consent;
pub mod info;
pub mod power;
pub mod provisioning;
pub mod redirection;

/// A step of a flow, told before it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reading what can be booted.
    ReadCapabilities,
    /// Reading which redirection is on.
    ReadRedirection,
    /// Switching redirection on.
    SwitchRedirection,
    /// Opening the redirection ports.
    OpenListener,
    /// Checking that redirection stayed on.
    CheckRedirection,
    /// Ending a redirection session.
    TerminateSession,
    /// Taking away a boot source that was chosen before.
    ClearBootSource,
    /// Reading the options of the next boot.
    ReadBootOptions,
    /// Writing the options of the next boot.
    WriteBootOptions,
    /// Making the boot configuration count for the next boot.
    SelectBootConfiguration,
    /// Choosing the boot source.
    ChooseBootSource,
    /// Reading back the options of the next boot.
    CheckBootOptions,
    /// Setting the options of the next boot back.
    ResetBootOptions,
    /// Making the boot configuration not count any more.
    DeselectBootConfiguration,
    /// Reading the power state.
    ReadPower,
    /// Waking the PC from modern standby.
    WakeFromStandby,
    /// Asking for a change of power state.
    ChangePower,
    /// Looking what became of it.
    WatchPower,
    /// Reading whether the user's consent is needed and given.
    ReadConsent,
    /// Asking for the user's consent.
    AskConsent,
    /// Sending the code that the user read out.
    SendConsentCode,
    /// Giving up the consent.
    CancelConsent,
    /// Reading the inventory.
    ReadInventory,
}

impl Step {
    /// The step in words, as something that is being done.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::ReadCapabilities => "reading what this PC can boot",
            Self::ReadRedirection => "reading which redirection is on",
            Self::SwitchRedirection => "switching redirection on",
            Self::OpenListener => "opening the redirection port",
            Self::CheckRedirection => "checking that redirection stayed on",
            Self::TerminateSession => "ending the redirection session that is open",
            Self::ClearBootSource => "clearing the boot source",
            Self::ReadBootOptions => "reading the boot options",
            Self::WriteBootOptions => "writing the boot options",
            Self::SelectBootConfiguration => "making them count for the next boot",
            Self::ChooseBootSource => "choosing the boot source",
            Self::CheckBootOptions => "reading the boot options back",
            Self::ResetBootOptions => "setting the boot options back",
            Self::DeselectBootConfiguration => "making the next boot a plain one",
            Self::ReadPower => "reading the power state",
            Self::WakeFromStandby => "waking the PC from standby",
            Self::ChangePower => "asking for the change of power",
            Self::WatchPower => "looking what became of it",
            Self::ReadConsent => "reading whether consent is needed",
            Self::AskConsent => "asking the user at the PC for consent",
            Self::SendConsentCode => "sending the consent code",
            Self::CancelConsent => "giving up the consent",
            Self::ReadInventory => "reading the inventory",
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

/// Is told each step.
pub type Observer<'a> = dyn FnMut(Step) + Send + 'a;
