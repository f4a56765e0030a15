//! `AMT_RedirectionService` and `CIM_KVMRedirectionSAP`: which kinds of redirection are on.

use super::{Instance, KVM_REDIRECTION_SAP, REDIRECTION_SERVICE};
use crate::names::Class;
use crate::reply::{Element, ReplyError};

/// Both off; the two bits above it are storage and serial redirection.
const OFF: u32 = 32768;
const STORAGE: u32 = 1;
const SERIAL: u32 = 2;

/// Storage redirection (IDE-R) and serial over LAN, and whether the ports for them listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectionService {
    /// Storage redirection is on.
    pub storage: bool,
    /// Serial over LAN is on.
    pub serial: bool,
    /// Ports 16994 and 16995 listen.
    pub listener: bool,
    element: Element,
}

impl Instance for RedirectionService {
    const CLASS: Class = REDIRECTION_SERVICE;

    fn of(element: &Element) -> Result<Self, ReplyError> {
        let state: u32 = element.required_number(Self::CLASS.name(), "EnabledState")?;
        let on = |bit| (OFF..=OFF | STORAGE | SERIAL).contains(&state) && state & bit != 0;
        Ok(Self {
            storage: on(STORAGE),
            serial: on(SERIAL),
            listener: element.required_boolean(Self::CLASS.name(), "ListenerEnabled")?,
            element: element.clone(),
        })
    }
}

impl RedirectionService {
    /// The value of `RequestedState` that switches on what is asked for and nothing off.
    #[must_use]
    pub fn state_with(&self, storage: bool, serial: bool) -> u32 {
        let mut state = OFF;
        if self.storage || storage {
            state |= STORAGE;
        }
        if self.serial || serial {
            state |= SERIAL;
        }
        state
    }

    /// The value of `RequestedState` that switches off what is asked for and leaves the rest.
    #[must_use]
    pub fn state_without(&self, storage: bool, serial: bool) -> u32 {
        let mut state = OFF;
        if self.storage && !storage {
            state |= STORAGE;
        }
        if self.serial && !serial {
            state |= SERIAL;
        }
        state
    }

    /// What to write to open the ports: the object as it was read, but for the state, the listener, and the access log,
    /// which only the device writes.
    pub(crate) fn listening<'a>(&'a self, state: &'a str) -> Vec<(&'a str, &'a str)> {
        let properties = self.element.children.iter();
        properties
            .filter(|property| property.name != "AccessLog")
            .map(|property| {
                let value = match property.name.as_str() {
                    "EnabledState" => state,
                    "ListenerEnabled" => "true",
                    _ => property.text.as_str(),
                };
                (property.name.as_str(), value)
            })
            .collect()
    }
}

/// Whether the screen can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvmRedirection {
    /// KVM is on.
    pub enabled: bool,
}

impl Instance for KvmRedirection {
    const CLASS: Class = KVM_REDIRECTION_SAP;

    fn of(element: &Element) -> Result<Self, ReplyError> {
        let state: u32 = element.required_number(Self::CLASS.name(), "EnabledState")?;
        // 2 enabled, 6 enabled but without a session (CIM_EnabledLogicalElement).
        Ok(Self {
            enabled: matches!(state, 2 | 6),
        })
    }
}
