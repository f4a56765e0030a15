//! Return values of methods: which calls failed, and why, in words.
//!
//! `AMT_*` and `IPS_*` methods share one numbering (Intel's status codes); `CIM_*` methods each have their own.

/// A return value of an `AMT_*` or `IPS_*` method other than success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AmtStatus {
    /// 1: the device failed.
    InternalError,
    /// 2: not ready, or not in the state for it.
    NotReady,
    /// 3: the wrong provisioning mode.
    InvalidMode,
    /// 16: a right is missing.
    NotPermitted,
    /// 23: no room for more.
    MaxLimitReached,
    /// 25: wrong credentials.
    AuthenticationFailed,
    /// 32: not in the provisioning state for it.
    InvalidProvisioningState,
    /// 33: no such object on this firmware.
    UnsupportedObject,
    /// 36: a parameter is wrong.
    InvalidParameter,
    /// 38: written too often in a short time.
    FlashWriteLimit,
    /// 1024: the device's policy forbids it.
    DisabledByPolicy,
    /// 2050: a boot option that this PC does not have.
    UnsupportedBootOption,
    /// 2053: a handle that the device does not know.
    InvalidHandle,
    /// 2058: it exists already.
    Duplicate,
    /// 2066: not on this firmware.
    Unsupported,
    /// 2068: no such thing.
    NotFound,
    /// 2081: the user at the PC has to consent first.
    UserConsentRequired,
    /// Any other.
    Unknown(u32),
}

impl AmtStatus {
    /// The status of a return value; `None` for success.
    #[must_use]
    pub fn of(value: u32) -> Option<Self> {
        Some(match value {
            0 => return None,
            0x01 => Self::InternalError,
            0x02 => Self::NotReady,
            0x03 => Self::InvalidMode,
            0x10 => Self::NotPermitted,
            0x17 => Self::MaxLimitReached,
            0x19 => Self::AuthenticationFailed,
            0x20 => Self::InvalidProvisioningState,
            0x21 => Self::UnsupportedObject,
            0x24 => Self::InvalidParameter,
            0x26 => Self::FlashWriteLimit,
            0x400 => Self::DisabledByPolicy,
            0x802 => Self::UnsupportedBootOption,
            0x805 => Self::InvalidHandle,
            0x80a => Self::Duplicate,
            0x812 => Self::Unsupported,
            0x814 => Self::NotFound,
            0x821 => Self::UserConsentRequired,
            other => Self::Unknown(other),
        })
    }
}

impl std::fmt::Display for AmtStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::InternalError => "internal error of the device",
            Self::NotReady => "the device is not ready for it",
            Self::InvalidMode => "the device is in the wrong mode for it",
            Self::NotPermitted => "the account lacks the right",
            Self::MaxLimitReached => "the device has no room for more",
            Self::AuthenticationFailed => "wrong credentials",
            Self::InvalidProvisioningState => "the device is not provisioned for it",
            Self::UnsupportedObject | Self::Unsupported => "this firmware does not have it",
            Self::InvalidParameter => "a parameter is wrong",
            Self::FlashWriteLimit => "written too often in a short time",
            Self::DisabledByPolicy => "the device's policy forbids it",
            Self::UnsupportedBootOption => "this PC does not have the boot option",
            Self::InvalidHandle => "the device does not know the handle",
            Self::Duplicate => "it exists already",
            Self::NotFound => "there is no such thing",
            Self::UserConsentRequired => "the user at the PC has to consent first",
            Self::Unknown(value) => return write!(f, "AMT status {value}"),
        })
    }
}

/// What `ChangeBootOrder` and `SetBootConfigRole` return other than success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootStatus {
    /// 1.
    NotSupported,
    /// 2. Seen for a source that the BIOS does not offer, and with Secure Boot switched off by the call.
    UnknownError,
    /// 3.
    Busy,
    /// 4.
    InvalidReference,
    /// 5.
    InvalidParameter,
    /// 6.
    AccessDenied,
    /// Any other.
    Unknown(u32),
}

impl BootStatus {
    /// The status of a return value; `None` for success.
    #[must_use]
    pub fn of(value: u32) -> Option<Self> {
        Some(match value {
            0 => return None,
            1 => Self::NotSupported,
            2 => Self::UnknownError,
            3 => Self::Busy,
            4 => Self::InvalidReference,
            5 => Self::InvalidParameter,
            6 => Self::AccessDenied,
            other => Self::Unknown(other),
        })
    }
}

impl std::fmt::Display for BootStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotSupported => "not supported by this PC",
            Self::UnknownError => "refused without a reason",
            Self::Busy => "the device is busy",
            Self::InvalidReference => "the device does not know the boot source",
            Self::InvalidParameter => "a parameter is wrong",
            Self::AccessDenied => "access denied",
            Self::Unknown(value) => return write!(f, "boot status {value}"),
        })
    }
}

/// What `RequestPowerStateChange` returns other than success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerStatus {
    /// 1.
    NotSupported,
    /// 2.
    UnknownError,
    /// 3.
    Timeout,
    /// 4.
    Failed,
    /// 5.
    InvalidParameter,
    /// 6.
    InUse,
    /// 4097: not from the state that the PC is in.
    InvalidTransition,
    /// 4098.
    TimeoutNotSupported,
    /// 4099.
    Busy,
    /// Any other.
    Unknown(u32),
}

impl PowerStatus {
    /// The status of a return value; `None` for success, and for 4096, which means that the device is at it.
    #[must_use]
    pub fn of(value: u32) -> Option<Self> {
        Some(match value {
            0 | 4096 => return None,
            1 => Self::NotSupported,
            2 => Self::UnknownError,
            3 => Self::Timeout,
            4 => Self::Failed,
            5 => Self::InvalidParameter,
            6 => Self::InUse,
            4097 => Self::InvalidTransition,
            4098 => Self::TimeoutNotSupported,
            4099 => Self::Busy,
            other => Self::Unknown(other),
        })
    }
}

impl std::fmt::Display for PowerStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotSupported => "not supported by this PC",
            Self::UnknownError => "refused without a reason",
            Self::Timeout => "the device took too long",
            Self::Failed => "it failed",
            Self::InvalidParameter => "a parameter is wrong",
            Self::InUse => "something else uses it",
            Self::InvalidTransition => "not possible from the state the PC is in",
            Self::TimeoutNotSupported => "a time limit is not supported",
            Self::Busy => "the device is busy",
            Self::Unknown(value) => return write!(f, "power status {value}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_is_no_status() {
        for value in 0..5000 {
            assert_eq!(AmtStatus::of(value).is_none(), value == 0, "{value}");
            assert_eq!(BootStatus::of(value).is_none(), value == 0, "{value}");
            let fine = value == 0 || value == 4096;
            assert_eq!(PowerStatus::of(value).is_none(), fine, "{value}");
        }
    }

    #[test]
    fn numbers_often_seen_have_words() {
        for (value, words) in [
            (16, "the account lacks the right"),
            (2081, "the user at the PC has to consent first"),
            (2058, "it exists already"),
            (777, "AMT status 777"),
        ] {
            assert_eq!(AmtStatus::of(value).unwrap().to_string(), words);
        }
    }
}
