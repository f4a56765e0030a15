//! Whether a device has been set up at all: everything else is in vain before.

use crate::class::setup::{Provisioning, Setup};
use crate::device::{Device, Error};
use crate::explain::{Blame, Explain};
use crate::transport::Transport;

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvisioningError {
    /// A call failed.
    #[error(transparent)]
    Device(#[from] Error),
    /// It is not, or not wholly, provisioned.
    #[error("this PC's AMT is not provisioned yet")]
    NotProvisioned,
}

impl Explain for ProvisioningError {
    fn blame(&self) -> Blame {
        match self {
            Self::Device(error) => error.blame(),
            Self::NotProvisioned => Blame::Refused,
        }
    }

    fn cure(&self) -> Option<&'static str> {
        match self {
            Self::Device(error) => error.cure(),
            Self::NotProvisioned => {
                Some("activate AMT in the PC's MEBx menu, or with a provisioning tool on the PC")
            }
        }
    }
}

/// Passes when the device is provisioned, or when the account may not see whether it is.
///
/// # Errors
///
/// When it is not provisioned, or does not answer.
pub async fn require_provisioned<T: Transport>(
    device: &mut Device<T>,
) -> Result<(), ProvisioningError> {
    match device.read::<Setup>().await {
        Ok(setup) if setup.provisioning != Provisioning::Done => {
            Err(ProvisioningError::NotProvisioned)
        }
        Ok(_) => Ok(()),
        Err(error) if error.is_denied() || error.is_absent() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
