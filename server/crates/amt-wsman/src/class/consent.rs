//! `IPS_OptInService`: the user's consent, by policy and state.

use serde::Serialize;

use super::{Instance, OPT_IN_SERVICE};
use crate::names::Class;
use crate::reply::{Element, ReplyError};

/// What needs consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsentPolicy {
    /// Nothing.
    Nothing,
    /// The screen only.
    Kvm,
    /// Screen, storage redirection and boot options.
    All,
    /// A value that is not known; best taken for [`ConsentPolicy::All`].
    Unknown(u32),
}

impl From<u32> for ConsentPolicy {
    fn from(value: u32) -> Self {
        match value {
            0 => Self::Nothing,
            1 => Self::Kvm,
            u32::MAX => Self::All,
            other => Self::Unknown(other),
        }
    }
}

/// How far the user's consent has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsentState {
    /// 0: none, or over. There is no state "timed out": it falls back to this.
    NotStarted,
    /// 1: asked for, the code is not yet on the screen.
    Requested,
    /// 2: six digits stand on the PC's screen.
    Displayed,
    /// 3: the right code came.
    Received,
    /// 4: a redirection session is open under it.
    InSession,
    /// Any other.
    Unknown(u32),
}

impl ConsentState {
    /// Whether what needs consent may be done.
    #[must_use]
    pub fn is_granted(self) -> bool {
        matches!(self, Self::Received | Self::InSession)
    }
}

impl From<u32> for ConsentState {
    fn from(value: u32) -> Self {
        match value {
            0 => Self::NotStarted,
            1 => Self::Requested,
            2 => Self::Displayed,
            3 => Self::Received,
            4 => Self::InSession,
            other => Self::Unknown(other),
        }
    }
}

impl std::fmt::Display for ConsentState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotStarted => "not asked for",
            Self::Requested => "asked for; the code is not yet on the PC's screen",
            Self::Displayed => "the code is on the PC's screen",
            Self::Received => "given",
            Self::InSession => "given, and in use by a session",
            Self::Unknown(value) => return write!(f, "unknown state {value}"),
        })
    }
}

/// The consent service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptIn {
    /// What needs consent.
    pub policy: ConsentPolicy,
    /// How far it is.
    pub state: ConsentState,
    /// How long the code counts, in seconds, if told.
    pub code_timeout: Option<u32>,
    /// How long the code stays on the screen, in seconds, if told.
    pub display_timeout: Option<u32>,
}

impl Instance for OptIn {
    const CLASS: Class = OPT_IN_SERVICE;

    fn of(element: &Element) -> Result<Self, ReplyError> {
        let number = |name| element.required_number::<u32>(Self::CLASS.name(), name);
        Ok(Self {
            policy: number("OptInRequired")?.into(),
            state: number("OptInState")?.into(),
            code_timeout: element.number("OptInCodeTimeout"),
            display_timeout: element.number("OptInDisplayTimeout"),
        })
    }
}
