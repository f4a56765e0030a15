//! Power: states, which request leads from which to which, and what each is answered with.
//!
//! Codes are those of `CIM_PowerManagementService.RequestPowerStateChange` and `PowerState` (DSP1027).

/// What the PC is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerState {
    /// S0.
    On = 2,
    /// S3.
    Sleep = 4,
    /// S4.
    Hibernate = 7,
    /// S5.
    Off = 8,
}

impl PowerState {
    /// The number on the wire.
    pub fn code(self) -> u32 {
        self as u32
    }
}

/// What a permitted request makes the PC do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Power up through the BIOS.
    Boot,
    /// Reset, or off and on again, through the BIOS.
    Reset {
        cycle: bool,
    },
    /// Go on where it slept.
    Wake,
    Off,
    Interrupt,
    /// Ask the operating system.
    Ask(GuestRequest),
}

/// What the operating system is asked to do by its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum GuestRequest {
    Shutdown,
    Reset,
    Sleep,
    Hibernate,
}

/// `ReturnValue` of `RequestPowerStateChange`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the return values")]
pub enum PowerReturn {
    Completed = 0,
    NotSupported = 1,
    /// Also what power-off and power-cycle get while a redirection session is open (AMT status 2, not ready).
    UnknownError = 2,
    InvalidParameter = 5,
    InvalidStateTransition = 4097,
}

/// What the decision depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    pub(super) state: PowerState,
    /// The operating system has Intel's agent (LMS), which sleep and graceful requests need.
    pub(super) agent: bool,
    pub(super) graceful: bool,
    pub(super) sessions_open: bool,
}

pub(super) fn decide(code: u32, at: Situation) -> Result<Change, PowerReturn> {
    use PowerState::{Hibernate, Off, On, Sleep};
    let on = at.state == On;
    let powered = matches!(at.state, On | Sleep);
    let graceful = |request| match (at.graceful, on && at.agent) {
        (false, _) => Err(PowerReturn::NotSupported),
        (true, false) => Err(PowerReturn::InvalidStateTransition),
        (true, true) => Ok(Change::Ask(request)),
    };
    let agent = |request| {
        if on && at.agent {
            Ok(Change::Ask(request))
        } else {
            Err(PowerReturn::InvalidStateTransition)
        }
    };
    let when = |allowed, change| {
        if allowed {
            Ok(change)
        } else {
            Err(PowerReturn::InvalidStateTransition)
        }
    };
    match code {
        2 => match at.state {
            On => Err(PowerReturn::InvalidStateTransition),
            Sleep => Ok(Change::Wake),
            Hibernate | Off => Ok(Change::Boot),
        },
        4 => agent(GuestRequest::Sleep),
        7 => agent(GuestRequest::Hibernate),
        5 | 8 if at.sessions_open => Err(PowerReturn::UnknownError),
        5 => when(powered, Change::Reset { cycle: true }),
        8 => when(powered, Change::Off),
        10 => when(powered, Change::Reset { cycle: false }),
        11 => when(on, Change::Interrupt),
        12 => graceful(GuestRequest::Shutdown),
        14 => graceful(GuestRequest::Reset),
        3 | 6 | 9 | 13 | 15 | 16 => Err(PowerReturn::NotSupported),
        _ => Err(PowerReturn::InvalidParameter),
    }
}

/// `AvailableRequestedPowerStates`, in the order in which real firmware lists them.
pub(super) fn available(at: Situation) -> Vec<u32> {
    [10, 8, 5, 11, 2, 4, 7, 14, 12]
        .into_iter()
        .filter(|code| {
            decide(
                *code,
                Situation {
                    sessions_open: false,
                    ..at
                },
            )
            .is_ok()
        })
        .collect()
}
