//! Power actions that fit the state the PC is in.
//!
//! AMT at times drops the connection instead of answering a power request, since its network starts anew. Such an answer is
//! taken for unknown: the request is not repeated, the state is looked at.

use std::time::Duration;

use super::{Observer, Step};
use crate::class::power::{AssociatedPower, PowerChange, PowerState};
use crate::class::{MANAGED_SYSTEM, OS_POWER_SAVING, POWER_MANAGEMENT_SERVICE};
use crate::device::{Call, Cause, Device, Error};
use crate::explain::{Blame, Explain};
use crate::firmware::traits_of;
use crate::request::{Repeat, Value};
use crate::status::{AmtStatus, PowerStatus};
use crate::transport::Transport;

/// How often the state is looked at; faster polling has made devices time out.
pub const POLL_EVERY: Duration = Duration::from_secs(10);

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerAction {
    /// On; nothing to do if it is.
    On,
    /// Off at once; nothing to do if it is.
    Off,
    /// Off by the operating system, or at once where that cannot be asked for.
    ShutDown,
    /// A fresh start: reset when on, switched on when off.
    Restart,
    /// A fresh start by way of the operating system when it is on, at once where that cannot be asked for.
    GracefulRestart,
    /// A fresh start with the power cut in between, for a PC that a reset does not bring back.
    Cycle,
    /// Sleep.
    Sleep,
    /// Hibernate.
    Hibernate,
    /// Interrupt the operating system, for a crash dump.
    Interrupt,
}

/// What will be asked of the device, and what is to be said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerPlan {
    /// The change; `None` when the PC is in the state already.
    pub change: Option<PowerChange>,
    /// Why this is not quite what was wanted, in words.
    pub remark: Option<&'static str>,
}

/// What came of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerOutcome {
    /// State before.
    pub before: PowerState,
    /// What was asked for.
    pub plan: PowerPlan,
    /// Whether the device said yes.
    pub answer: PowerAnswer,
}

/// What the device said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerAnswer {
    /// Nothing was asked.
    NothingToDo,
    /// Accepted. The change itself takes seconds.
    Accepted,
    /// The connection broke; this is the state afterwards. A reset cannot be seen in it.
    Lost {
        /// State afterwards, if the device came back in time.
        state: Option<PowerState>,
    },
}

/// Why an action was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PowerError {
    /// A call failed.
    #[error(transparent)]
    Device(#[from] Error),
    /// The PC is not in a state for it.
    #[error("{action} is not possible while the PC is {state}")]
    WrongState {
        /// What was to be asked for.
        action: PowerChange,
        /// The state.
        state: PowerState,
    },
    /// The device does not offer it now.
    #[error("this PC does not offer {action} now")]
    NotOffered {
        /// What was to be asked for.
        action: PowerChange,
    },
}

impl Explain for PowerError {
    fn blame(&self) -> Blame {
        match self {
            Self::Device(error) => error.blame(),
            Self::WrongState { .. } | Self::NotOffered { .. } => Blame::Failed,
        }
    }

    fn cure(&self) -> Option<&'static str> {
        match self {
            Self::Device(error) => error.cure(),
            Self::WrongState { .. } => Some("switch the PC on first"),
            Self::NotOffered { .. } => Some(
                "it needs Intel's management agent (LMS) running in the PC's operating system; on, off, reset and cycle do not",
            ),
        }
    }
}

/// Chooses what to ask for. `agent` says whether graceful changes may be tried on a device that lists none.
///
/// # Errors
///
/// When nothing fits the state, or the device does not offer it.
pub fn plan(
    action: PowerAction,
    power: &AssociatedPower,
    agent: bool,
) -> Result<PowerPlan, PowerError> {
    use PowerChange as Change;
    let on = match power.state {
        PowerState::On => true,
        PowerState::Off | PowerState::Hibernating => false,
        // Neither running nor off: only hard changes lead anywhere from here.
        PowerState::Asleep | PowerState::Unknown(_) => return plan_between(action, power),
    };
    let offered = |change: Change| match power.available.as_slice() {
        [] => agent,
        available => available.contains(&change.code()),
    };
    let nothing = Ok(PowerPlan {
        change: None,
        remark: None,
    });
    match action {
        PowerAction::On if on => nothing,
        PowerAction::Off | PowerAction::ShutDown if !on => nothing,
        PowerAction::On => simply(Change::On),
        PowerAction::Off => simply(Change::Off),
        PowerAction::Restart | PowerAction::GracefulRestart | PowerAction::Cycle if !on => {
            Ok(PowerPlan {
                change: Some(Change::On),
                remark: Some("the PC is off, so it is switched on"),
            })
        }
        PowerAction::Restart => simply(Change::Reset),
        PowerAction::Cycle => simply(Change::Cycle),
        PowerAction::ShutDown if offered(Change::GracefulOff) => simply(Change::GracefulOff),
        PowerAction::ShutDown => Ok(PowerPlan {
            change: Some(Change::Off),
            remark: Some("the operating system cannot be asked to shut down, so the power is cut"),
        }),
        PowerAction::GracefulRestart if offered(Change::GracefulReset) => {
            simply(Change::GracefulReset)
        }
        PowerAction::GracefulRestart => Ok(PowerPlan {
            change: Some(Change::Reset),
            remark: Some("the operating system cannot be asked to restart, so the PC is reset"),
        }),
        PowerAction::Sleep => running(Change::Sleep, power, on && offered(Change::Sleep)),
        PowerAction::Hibernate => {
            running(Change::Hibernate, power, on && offered(Change::Hibernate))
        }
        PowerAction::Interrupt => running(Change::DiagnosticInterrupt, power, on),
    }
}

fn plan_between(action: PowerAction, power: &AssociatedPower) -> Result<PowerPlan, PowerError> {
    use PowerChange as Change;
    let asleep = power.state == PowerState::Asleep;
    let with = |change, remark| {
        Ok(PowerPlan {
            change: Some(change),
            remark: Some(remark),
        })
    };
    match action {
        PowerAction::On if asleep => with(Change::On, "the PC is asleep, so it is woken"),
        PowerAction::On => simply(Change::On),
        PowerAction::Off => simply(Change::Off),
        PowerAction::ShutDown => with(
            Change::Off,
            "the operating system does not run, so the power is cut",
        ),
        PowerAction::Restart | PowerAction::GracefulRestart => with(
            Change::Cycle,
            "the PC is neither on nor off, so its power is cut and given again",
        ),
        PowerAction::Cycle => simply(Change::Cycle),
        PowerAction::Sleep if asleep => Ok(PowerPlan {
            change: None,
            remark: None,
        }),
        PowerAction::Sleep => running(Change::Sleep, power, false),
        PowerAction::Hibernate => running(Change::Hibernate, power, false),
        PowerAction::Interrupt => running(Change::DiagnosticInterrupt, power, false),
    }
}

fn simply(change: PowerChange) -> Result<PowerPlan, PowerError> {
    Ok(PowerPlan {
        change: Some(change),
        remark: None,
    })
}

/// A change that only a running operating system can make.
fn running(
    change: PowerChange,
    power: &AssociatedPower,
    possible: bool,
) -> Result<PowerPlan, PowerError> {
    match (power.state, possible) {
        (PowerState::On, true) => simply(change),
        (PowerState::On, false) => Err(PowerError::NotOffered { action: change }),
        (state, _) => Err(PowerError::WrongState {
            action: change,
            state,
        }),
    }
}

/// Reads the power state.
///
/// # Errors
///
/// When the call fails.
pub async fn state<T: Transport>(device: &mut Device<T>) -> Result<AssociatedPower, Error> {
    device.read().await
}

/// Takes an action, as the state of the PC asks.
///
/// # Errors
///
/// When it is not possible now, or a call fails. A lost answer to the request itself is an outcome, not an error.
pub async fn power<T: Transport>(
    device: &mut Device<T>,
    action: PowerAction,
    observer: &mut Observer<'_>,
) -> Result<PowerOutcome, PowerError> {
    observer(Step::ReadPower);
    let power = state(device).await?;
    let agent = traits_of(device.version()).graceful_power;
    let plan = plan(action, &power, agent)?;
    let outcome = |answer| PowerOutcome {
        before: power.state,
        plan,
        answer,
    };
    let Some(change) = plan.change else {
        return Ok(outcome(PowerAnswer::NothingToDo));
    };
    if power.state == PowerState::On && matches!(change, PowerChange::Reset | PowerChange::Cycle) {
        wake_from_standby(device, observer).await?;
    }
    observer(Step::ChangePower);
    let answer = match request(device, change).await {
        Ok(()) => PowerAnswer::Accepted,
        Err(Error {
            cause: Cause::Transport(error),
            ..
        }) if error.may_have_worked(Repeat::Never) => {
            observer(Step::WatchPower);
            PowerAnswer::Lost {
                state: look_again(device).await,
            }
        }
        Err(error) => return Err(error.into()),
    };
    Ok(outcome(answer))
}

/// Waits until the PC is in a state, looking at most `looks` times, [`POLL_EVERY`] apart. Failures in between count as
/// looks: AMT drops connections while the power state changes.
///
/// # Errors
///
/// When the last look failed.
pub async fn wait_for<T: Transport>(
    device: &mut Device<T>,
    wanted: PowerState,
    looks: u32,
) -> Result<bool, Error> {
    let mut last = Ok(false);
    for _ in 0..looks {
        device.pause(POLL_EVERY).await;
        last = state(device).await.map(|power| power.state == wanted);
        if last == Ok(true) {
            break;
        }
    }
    last
}

async fn request<T: Transport>(device: &mut Device<T>, change: PowerChange) -> Result<(), Error> {
    let method = "RequestPowerStateChange";
    let output = device
        .invoke(
            POWER_MANAGEMENT_SERVICE.into(),
            method,
            &[
                ("PowerState", Value::Number(change.code().into())),
                ("ManagedElement", Value::Reference(MANAGED_SYSTEM)),
            ],
            Repeat::Never,
        )
        .await?;
    match PowerStatus::of(output.return_value) {
        None => Ok(()),
        Some(status) => Err(Error {
            call: Call::Invoke(POWER_MANAGEMENT_SERVICE, method),
            cause: Cause::Power(status),
        }),
    }
}

async fn look_again<T: Transport>(device: &mut Device<T>) -> Option<PowerState> {
    for _ in 0..LOOKS_AFTER_LOSS {
        device.pause(POLL_EVERY).await;
        if let Ok(power) = state(device).await {
            return Some(power.state);
        }
    }
    None
}

/// In modern standby a PC counts as on, but does not take a reset. Firmware without it has no such class, and other accounts
/// than the administrator's may not look; both are fine.
async fn wake_from_standby<T: Transport>(
    device: &mut Device<T>,
    observer: &mut Observer<'_>,
) -> Result<(), Error> {
    let saving = match device.get(OS_POWER_SAVING.into()).await {
        Ok(service) => service.number::<u32>("OSPowerSavingState"),
        Err(error) if error.is_transport() => return Err(error),
        Err(_) => None,
    };
    if saving != Some(STANDBY) {
        return Ok(());
    }
    observer(Step::WakeFromStandby);
    let method = "RequestOSPowerSavingStateChange";
    let output = device
        .invoke(
            OS_POWER_SAVING.into(),
            method,
            &[
                ("OSPowerSavingState", Value::Number(FULL_POWER)),
                ("ManagedElement", Value::Reference(MANAGED_SYSTEM)),
            ],
            Repeat::Safe,
        )
        .await?;
    match AmtStatus::of(output.return_value) {
        None => Ok(()),
        Some(status) => Err(Error {
            call: Call::Invoke(OS_POWER_SAVING, method),
            cause: Cause::Amt(status),
        }),
    }
}

const FULL_POWER: u64 = 2;
const STANDBY: u32 = 3;
const LOOKS_AFTER_LOSS: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn in_state(state: u32, available: &[u32]) -> AssociatedPower {
        AssociatedPower {
            state: state.into(),
            available: available.to_vec(),
        }
    }

    #[test]
    fn the_change_fits_the_state() {
        use PowerAction as Action;
        use PowerChange as Change;
        const RUNNING: &[u32] = &[10, 8, 5, 11, 4, 7, 14, 12];
        for (action, state, available, change) in [
            (Action::Restart, 2, RUNNING, Some(Change::Reset)),
            (Action::Restart, 8, &[2], Some(Change::On)),
            (Action::Restart, 7, &[2], Some(Change::On)),
            (Action::Restart, 4, RUNNING, Some(Change::Cycle)),
            (Action::Restart, 99, &[], Some(Change::Cycle)),
            (Action::Cycle, 2, RUNNING, Some(Change::Cycle)),
            (Action::Cycle, 6, &[], Some(Change::On)),
            (Action::On, 2, RUNNING, None),
            (Action::On, 4, RUNNING, Some(Change::On)),
            (Action::Off, 2, &[], Some(Change::Off)),
            (Action::Off, 8, &[], None),
            (Action::ShutDown, 2, RUNNING, Some(Change::GracefulOff)),
            (Action::ShutDown, 2, &[10, 8, 5], Some(Change::Off)),
            (
                Action::GracefulRestart,
                2,
                RUNNING,
                Some(Change::GracefulReset),
            ),
            (Action::GracefulRestart, 2, &[10], Some(Change::Reset)),
            (Action::Sleep, 2, RUNNING, Some(Change::Sleep)),
            (Action::Sleep, 3, RUNNING, None),
            (
                Action::Interrupt,
                2,
                RUNNING,
                Some(Change::DiagnosticInterrupt),
            ),
        ] {
            let plan = plan(action, &in_state(state, available), false).unwrap();
            assert_eq!(plan.change, change, "{action:?} in state {state}");
        }
    }

    #[test]
    fn a_fallback_is_stated() {
        let reset = plan(PowerAction::GracefulRestart, &in_state(2, &[10]), true).unwrap();
        assert_eq!(
            reset.remark,
            Some("the operating system cannot be asked to restart, so the PC is reset")
        );
        let listed = plan(PowerAction::GracefulRestart, &in_state(2, &[14]), false).unwrap();
        assert_eq!(listed.remark, None);
    }

    #[test]
    fn what_needs_a_running_system_is_refused_without_one() {
        assert_eq!(
            plan(PowerAction::Sleep, &in_state(8, &[]), true),
            Err(PowerError::WrongState {
                action: PowerChange::Sleep,
                state: PowerState::Off
            })
        );
        assert_eq!(
            plan(PowerAction::Hibernate, &in_state(2, &[10]), true),
            Err(PowerError::NotOffered {
                action: PowerChange::Hibernate
            })
        );
    }
}
