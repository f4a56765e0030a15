//! The user's consent: whether it is needed, asking for it, the code, and its end.
//!
//! The device never says "timed out": its state falls back to none. [`Watch`] tells that from "not yet asked". Once the
//! code was accepted, consent lasts until no redirection session has been open for two minutes; when it ends before the
//! boot, the firmware clears the boot options.

use super::{Observer, Step};
use crate::class::OPT_IN_SERVICE;
use crate::class::consent::{ConsentPolicy, ConsentState, OptIn};
use crate::class::setup::{ControlMode, Setup};
use crate::device::{Device, Error, Output};
use crate::explain::{Blame, Explain};
use crate::request::{Repeat, Value};
use crate::transport::Transport;

/// What consent may be needed for. Plain power actions never need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Storage redirection and boot options.
    Boot,
    /// The screen.
    Kvm,
}

/// Consent as the device tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsentStatus {
    /// The consent service; `None` on firmware that has none.
    pub opt_in: Option<OptIn>,
    /// The control mode; `None` when the account may not read it.
    pub mode: Option<ControlMode>,
}

/// Whether consent stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Policy and control mode ask for none.
    NotNeeded,
    /// It is given.
    Granted,
    /// It has to be got first.
    Needed,
}

impl ConsentStatus {
    /// Whether consent stands in the way of a purpose.
    #[must_use]
    pub fn need(&self, purpose: Purpose) -> Need {
        let Some(opt_in) = self.opt_in else {
            return Need::NotNeeded;
        };
        let asked = match (self.mode, opt_in.policy, purpose) {
            // Client control mode always needs it, whatever the policy says.
            (Some(ControlMode::Client), _, _) => true,
            (_, ConsentPolicy::Nothing, _) | (_, ConsentPolicy::Kvm, Purpose::Boot) => false,
            _ => true,
        };
        match (asked, opt_in.state.is_granted()) {
            (false, _) => Need::NotNeeded,
            (true, true) => Need::Granted,
            (true, false) => Need::Needed,
        }
    }

    /// How far consent is; none where there is no such service.
    #[must_use]
    pub fn state(&self) -> ConsentState {
        self.opt_in
            .map_or(ConsentState::NotStarted, |opt_in| opt_in.state)
    }
}

/// Six digits that the user reads out. Leading zeros belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(u32);

/// A text that is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a consent code has six digits")]
pub struct NotACode;

impl std::str::FromStr for Code {
    type Err = NotACode;

    /// Spaces and dashes between digits are how people write them down.
    fn from_str(text: &str) -> Result<Self, NotACode> {
        let digits: String = text
            .chars()
            .filter(|c| !matches!(c, ' ' | '-' | '\n' | '\r'))
            .collect();
        if digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotACode);
        }
        digits.parse().map(Self).map_err(|_| NotACode)
    }
}

/// Why there is no consent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsentError {
    /// A call failed.
    #[error(transparent)]
    Device(#[from] Error),
    /// Too many wrong codes: the device takes none for a while.
    #[error("the PC takes no consent codes for a while, after too many wrong ones")]
    Blocked,
    /// The code was withdrawn: its time is over, the user refused, or there were too many wrong tries.
    #[error("the consent code is no longer on the PC's screen")]
    Ended,
    /// Not the code on the screen, which is still there.
    #[error("that is not the code on the PC's screen")]
    WrongCode,
    /// The device is in another state than the call needs.
    #[error("the PC cannot ask for consent now (it says: {state})")]
    NotNow {
        /// Its state.
        state: ConsentState,
    },
    /// The device failed at it.
    #[error("the PC could not ask for consent (error {value})")]
    Failed {
        /// The return value.
        value: u32,
    },
    /// The firmware has no consent.
    #[error("this PC's firmware knows no user consent")]
    Absent,
}

impl Explain for ConsentError {
    fn blame(&self) -> Blame {
        match self {
            Self::Device(error) => error.blame(),
            Self::Blocked | Self::Ended | Self::WrongCode | Self::NotNow { .. } => Blame::Refused,
            Self::Failed { .. } | Self::Absent => Blame::Failed,
        }
    }

    fn cure(&self) -> Option<&'static str> {
        Some(match self {
            Self::Device(error) => return error.cure(),
            Self::Blocked => "wait some minutes, then ask for a new code",
            Self::Ended => {
                "ask for a new code (`pc consent HOST start`) and enter it while it is on the screen"
            }
            Self::WrongCode => "have the user read out all six digits again",
            Self::NotNow { .. } => {
                "cancel the consent that is under way, or have its console finish"
            }
            Self::Failed { .. } => {
                "the code is drawn on the PC's own screen: switch the PC on and connect a display to its built-in graphics"
            }
            Self::Absent => "nothing needs consent there",
        })
    }
}

/// Reads whether consent is needed and how far it is.
///
/// # Errors
///
/// When a call fails otherwise than by the firmware or the account not having it.
pub async fn status<T: Transport>(device: &mut Device<T>) -> Result<ConsentStatus, Error> {
    let opt_in = device.read_if_present::<OptIn>().await?;
    let mode = match device.read::<Setup>().await {
        Ok(setup) => Some(setup.mode),
        Err(error) if error.is_absent() || error.is_denied() => None,
        Err(error) => return Err(error),
    };
    Ok(ConsentStatus { opt_in, mode })
}

/// Reads how far it is. Ask every second or two, no faster, while a code is awaited.
///
/// # Errors
///
/// When a call fails, or there is no such service.
pub async fn poll<T: Transport>(device: &mut Device<T>) -> Result<ConsentState, ConsentError> {
    let opt_in = device.read_if_present::<OptIn>().await?;
    opt_in
        .map(|opt_in| opt_in.state)
        .ok_or(ConsentError::Absent)
}

/// Has the code shown on the PC's screen. A code that is there already, or consent already given, is left as it is.
///
/// # Errors
///
/// When the device is blocked after wrong codes, cannot show one, or a call fails.
pub async fn start<T: Transport>(
    device: &mut Device<T>,
    observer: &mut Observer<'_>,
) -> Result<ConsentState, ConsentError> {
    observer(Step::ReadConsent);
    let state = poll(device).await?;
    if state != ConsentState::NotStarted {
        return Ok(state);
    }
    observer(Step::AskConsent);
    let output = call(device, "StartOptIn", &[]).await?;
    match output.return_value {
        0 => poll(device).await,
        BLOCKED => Err(ConsentError::Blocked),
        INVALID_STATE => match poll(device).await? {
            // Another console was faster.
            state if state != ConsentState::NotStarted => Ok(state),
            state => Err(ConsentError::NotNow { state }),
        },
        value => Err(ConsentError::Failed { value }),
    }
}

/// Sends the code.
///
/// # Errors
///
/// When it is wrong, no longer asked for, or the device is blocked.
pub async fn send_code<T: Transport>(
    device: &mut Device<T>,
    code: Code,
    observer: &mut Observer<'_>,
) -> Result<ConsentState, ConsentError> {
    observer(Step::SendConsentCode);
    let number = Value::Number(code.0.into());
    let output = call(device, "SendOptInCode", &[("OptInCode", number)]).await?;
    match output.return_value {
        0 => poll(device).await,
        BLOCKED => Err(ConsentError::Blocked),
        // The same value says "wrong" and "not asked for"; the state tells which.
        _ => match poll(device).await? {
            state if state.is_granted() => Ok(state),
            ConsentState::Requested | ConsentState::Displayed => Err(ConsentError::WrongCode),
            ConsentState::NotStarted => Err(ConsentError::Ended),
            state => Err(ConsentError::NotNow { state }),
        },
    }
}

/// Gives up consent, given or asked for. Nothing happens when there is none.
///
/// # Errors
///
/// When a call fails, or the device keeps the consent.
pub async fn cancel<T: Transport>(
    device: &mut Device<T>,
    observer: &mut Observer<'_>,
) -> Result<(), ConsentError> {
    observer(Step::ReadConsent);
    if poll(device).await? == ConsentState::NotStarted {
        return Ok(());
    }
    observer(Step::CancelConsent);
    call(device, "CancelOptIn", &[]).await?;
    match poll(device).await? {
        ConsentState::NotStarted => Ok(()),
        state => Err(ConsentError::NotNow { state }),
    }
}

async fn call<T: Transport>(
    device: &mut Device<T>,
    method: &'static str,
    parameters: &[(&str, Value<'_>)],
) -> Result<Output, Error> {
    device
        .invoke(OPT_IN_SERVICE.into(), method, parameters, Repeat::Never)
        .await
}

const INVALID_STATE: u32 = 2;
const BLOCKED: u32 = 3;

/// What a newly polled state means, given the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing new.
    Same,
    /// The code appeared on the screen.
    Shown,
    /// Consent was given.
    Given,
    /// Consent, or the request for it, ended: by time, by the user, or by wrong codes.
    Ended,
}

/// Follows the state of consent over polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    last: ConsentState,
}

impl Watch {
    /// Starts at the state that [`start`] returned.
    #[must_use]
    pub fn new(state: ConsentState) -> Self {
        Self { last: state }
    }

    /// Takes a polled state.
    pub fn observe(&mut self, state: ConsentState) -> Change {
        let before = std::mem::replace(&mut self.last, state);
        if state.is_granted() {
            return if before.is_granted() {
                Change::Same
            } else {
                Change::Given
            };
        }
        match state {
            ConsentState::NotStarted if before != ConsentState::NotStarted => Change::Ended,
            ConsentState::Displayed if before != ConsentState::Displayed => Change::Shown,
            _ => Change::Same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(policy: u32, state: u32, mode: Option<ControlMode>) -> ConsentStatus {
        ConsentStatus {
            opt_in: Some(OptIn {
                policy: policy.into(),
                state: state.into(),
                code_timeout: None,
                display_timeout: None,
            }),
            mode,
        }
    }

    #[test]
    fn policy_and_control_mode_decide_what_needs_consent() {
        use Need::{Granted, Needed, NotNeeded};
        let admin = Some(ControlMode::Admin);
        let client = Some(ControlMode::Client);
        for (policy, state, mode, boot, kvm) in [
            (0, 0, admin, NotNeeded, NotNeeded),
            (1, 0, admin, NotNeeded, Needed),
            (1, 3, admin, NotNeeded, Granted),
            (u32::MAX, 0, admin, Needed, Needed),
            (u32::MAX, 2, admin, Needed, Needed),
            (u32::MAX, 3, admin, Granted, Granted),
            (u32::MAX, 4, None, Granted, Granted),
            (0, 0, client, Needed, Needed),
            (1, 4, client, Granted, Granted),
            // What is not known is taken for the stricter.
            (7, 0, admin, Needed, Needed),
        ] {
            let status = status_of(policy, state, mode);
            assert_eq!(
                status.need(Purpose::Boot),
                boot,
                "{policy} {state} {mode:?}"
            );
            assert_eq!(status.need(Purpose::Kvm), kvm, "{policy} {state} {mode:?}");
        }
        let old = ConsentStatus {
            opt_in: None,
            mode: admin,
        };
        assert_eq!(old.need(Purpose::Boot), NotNeeded);
    }

    #[test]
    fn codes_keep_their_leading_zeros_and_take_no_other_text() {
        assert_eq!("012 345".parse(), Ok(Code(12345)));
        assert_eq!("000000".parse(), Ok(Code(0)));
        for text in ["", "12345", "1234567", "12345a", "+12345", "１２３４５６"] {
            assert_eq!(text.parse::<Code>(), Err(NotACode), "{text}");
        }
    }

    #[test]
    fn a_fall_back_to_nothing_is_told_from_never_asked() {
        let mut watch = Watch::new(ConsentState::NotStarted);
        for (state, change) in [
            (0, Change::Same),
            (1, Change::Same),
            (2, Change::Shown),
            (2, Change::Same),
            (3, Change::Given),
            (4, Change::Same),
            (0, Change::Ended),
            (0, Change::Same),
        ] {
            assert_eq!(watch.observe(state.into()), change, "{state}");
        }
    }
}
