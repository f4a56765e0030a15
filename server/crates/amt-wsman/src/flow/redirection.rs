//! Switching redirection on and keeping it so: state, listener, and a second look.

use super::{Observer, Step};
use crate::class::REDIRECTION_SERVICE;
use crate::class::redirection::RedirectionService;
use crate::device::{Call, Cause, Device, Error};
use crate::explain::{Blame, Explain};
use crate::request::{Repeat, Value};
use crate::status::AmtStatus;
use crate::transport::Transport;

/// Which redirection is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Storage redirection (IDE-R).
    pub storage: bool,
    /// Serial over LAN.
    pub serial: bool,
}

/// Why redirection is not on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectionError {
    /// A call failed.
    #[error(transparent)]
    Device(#[from] Error),
    /// It was switched on without complaint, and is off.
    #[error("{what} was switched on, but it is off again")]
    DoesNotStay {
        /// What is off.
        what: &'static str,
    },
    /// It was switched off without complaint, and is on.
    #[error("{what} was switched off, but it is on again")]
    StaysOn {
        /// What is on.
        what: &'static str,
    },
}

impl Explain for RedirectionError {
    fn blame(&self) -> Blame {
        match self {
            Self::Device(error) => error.blame(),
            Self::DoesNotStay { .. } | Self::StaysOn { .. } => Blame::Refused,
        }
    }

    fn cure(&self) -> Option<&'static str> {
        match self {
            Self::Device(error) => error.cure(),
            Self::StaysOn { .. } => {
                Some("another console may have switched it on; end its session first")
            }
            Self::DoesNotStay { .. } => Some(
                "it is forbidden in the PC's BIOS or MEBx: allow SOL and storage redirection (IDE-R, USB-R) there",
            ),
        }
    }
}

/// Switches on what is wanted, leaves on what is on, opens the ports, and checks that all of it stayed.
///
/// # Errors
///
/// When a call fails, or the device silently keeps something off.
pub async fn enable_redirection<T: Transport>(
    device: &mut Device<T>,
    wanted: Wanted,
    observer: &mut Observer<'_>,
) -> Result<RedirectionService, RedirectionError> {
    observer(Step::ReadRedirection);
    let service: RedirectionService = device.read().await?;
    if missing(&service, wanted).is_none() {
        return Ok(service);
    }
    let state = service.state_with(wanted.storage, wanted.serial);
    if state != service.state_with(false, false) {
        observer(Step::SwitchRedirection);
        let parameters = [("RequestedState", Value::Number(state.into()))];
        call(device, "RequestStateChange", &parameters).await?;
    }
    if !service.listener {
        observer(Step::OpenListener);
        device
            .put(
                REDIRECTION_SERVICE.into(),
                service.listening(&state.to_string()),
            )
            .await?;
    }
    observer(Step::CheckRedirection);
    let service: RedirectionService = device.read().await?;
    match missing(&service, wanted) {
        None => Ok(service),
        Some(what) => Err(RedirectionError::DoesNotStay { what }),
    }
}

/// A kind of redirection session; a device has room for one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionType {
    /// Storage redirection (IDE-R).
    Storage = 0,
    /// Serial over LAN.
    Serial = 1,
}

/// Switches off what is named, and checks that it stayed off. The ports stay as they are.
///
/// # Errors
///
/// When a call fails, or the device silently keeps something on.
pub async fn disable_redirection<T: Transport>(
    device: &mut Device<T>,
    unwanted: Wanted,
    observer: &mut Observer<'_>,
) -> Result<RedirectionService, RedirectionError> {
    observer(Step::ReadRedirection);
    let service: RedirectionService = device.read().await?;
    let (storage, serial) = (unwanted.storage, unwanted.serial);
    let state = service.state_without(storage, serial);
    if state == service.state_with(false, false) {
        return Ok(service);
    }
    observer(Step::SwitchRedirection);
    let parameters = [("RequestedState", Value::Number(state.into()))];
    call(device, "RequestStateChange", &parameters).await?;
    observer(Step::CheckRedirection);
    let service: RedirectionService = device.read().await?;
    if storage && service.storage || serial && service.serial {
        let what = if storage && service.storage {
            "storage redirection"
        } else {
            "serial over LAN"
        };
        return Err(RedirectionError::StaysOn { what });
    }
    Ok(service)
}

/// Ends a session, whoever holds it: for one that is stuck, or held by a console that is gone.
///
/// # Errors
///
/// When the call fails, or the device refuses.
pub async fn terminate_session<T: Transport>(
    device: &mut Device<T>,
    session: SessionType,
    observer: &mut Observer<'_>,
) -> Result<(), Error> {
    observer(Step::TerminateSession);
    let parameters = [("SessionType", Value::Number(session as u64))];
    call(device, "TerminateSession", &parameters).await
}

async fn call<T: Transport>(
    device: &mut Device<T>,
    method: &'static str,
    parameters: &[(&str, Value<'_>)],
) -> Result<(), Error> {
    let output = device
        .invoke(REDIRECTION_SERVICE.into(), method, parameters, Repeat::Safe)
        .await?;
    match AmtStatus::of(output.return_value) {
        None => Ok(()),
        Some(status) => Err(Error {
            call: Call::Invoke(REDIRECTION_SERVICE, method),
            cause: Cause::Amt(status),
        }),
    }
}

fn missing(service: &RedirectionService, wanted: Wanted) -> Option<&'static str> {
    if wanted.storage && !service.storage {
        Some("storage redirection")
    } else if wanted.serial && !service.serial {
        Some("serial over LAN")
    } else if !service.listener {
        Some("the redirection port")
    } else {
        None
    }
}
