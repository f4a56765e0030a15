//! `CIM_AssociatedPowerManagementService`: the power state, and which ones can be asked for (DSP1027, and Intel's list).

use serde::{Serialize, Serializer};

use super::{ASSOCIATED_POWER, Instance};
use crate::names::Class;
use crate::reply::{Element, ReplyError};

/// A state that a PC is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerState {
    /// 2.
    On,
    /// 3, 4: asleep, with memory powered.
    Asleep,
    /// 7.
    Hibernating,
    /// 6, 8, 12, 13: off.
    Off,
    /// Any other.
    Unknown(u32),
}

impl PowerState {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Asleep => "asleep",
            Self::Hibernating => "hibernating",
            Self::Off => "off",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl From<u32> for PowerState {
    fn from(value: u32) -> Self {
        match value {
            2 => Self::On,
            3 | 4 => Self::Asleep,
            7 => Self::Hibernating,
            6 | 8 | 12 | 13 => Self::Off,
            other => Self::Unknown(other),
        }
    }
}

impl std::fmt::Display for PowerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(value) => write!(f, "unknown ({value})"),
            other => f.write_str(other.word()),
        }
    }
}

impl Serialize for PowerState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// A change of power state that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum PowerChange {
    /// On.
    On = 2,
    /// Sleep with memory powered; needs an agent in the operating system.
    Sleep = 4,
    /// Hard off and on again.
    Cycle = 5,
    /// Hibernate; needs an agent.
    Hibernate = 7,
    /// Off at once.
    Off = 8,
    /// Reset at once.
    Reset = 10,
    /// Non-maskable interrupt, for a crash dump.
    DiagnosticInterrupt = 11,
    /// Shut down by the operating system; needs an agent.
    GracefulOff = 12,
    /// Restart by the operating system; needs an agent.
    GracefulReset = 14,
}

impl PowerChange {
    /// The number that stands for it on the wire.
    #[must_use]
    pub fn code(self) -> u32 {
        self as u32
    }
}

impl std::fmt::Display for PowerChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::On => "power on",
            Self::Sleep => "sleep",
            Self::Cycle => "power cycle",
            Self::Hibernate => "hibernate",
            Self::Off => "power off",
            Self::Reset => "reset",
            Self::DiagnosticInterrupt => "diagnostic interrupt",
            Self::GracefulOff => "shut-down by the operating system",
            Self::GracefulReset => "restart by the operating system",
        })
    }
}

/// The power state and what can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociatedPower {
    /// The state.
    pub state: PowerState,
    /// Numbers of the changes that the device offers now; empty when it does not tell.
    pub available: Vec<u32>,
}

impl Instance for AssociatedPower {
    const CLASS: Class = ASSOCIATED_POWER;

    fn of(element: &Element) -> Result<Self, ReplyError> {
        let state: u32 = element.required_number(Self::CLASS.name(), "PowerState")?;
        let available = element.all("AvailableRequestedPowerStates");
        Ok(Self {
            state: state.into(),
            available: available
                .filter_map(|state| state.text.parse().ok())
                .collect(),
        })
    }
}
