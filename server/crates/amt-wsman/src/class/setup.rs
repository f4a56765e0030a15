//! `AMT_SetupAndConfigurationService` and `AMT_GeneralSettings`: who controls the device, and what it is called.

use serde::Serialize;

use super::{GENERAL_SETTINGS, Instance, SETUP_AND_CONFIGURATION};
use crate::names::Class;
use crate::reply::{Element, ReplyError};

/// How much the device lets its console do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlMode {
    /// Admin control mode: consent as the policy says.
    Admin,
    /// Client control mode: consent is always needed.
    Client,
    /// Any other.
    Unknown(u32),
}

impl std::fmt::Display for ControlMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Admin => f.write_str("admin control mode"),
            Self::Client => f.write_str("client control mode"),
            Self::Unknown(value) => write!(f, "unknown control mode {value}"),
        }
    }
}

/// Whether the device has been set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provisioning {
    /// 0: not begun.
    Before,
    /// 1: under way.
    Under,
    /// 2: done.
    Done,
    /// Any other.
    Unknown(u32),
}

/// Control mode and provisioning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// Control mode.
    pub mode: ControlMode,
    /// Provisioning; taken for done when the firmware does not tell.
    pub provisioning: Provisioning,
}

impl Instance for Setup {
    const CLASS: Class = SETUP_AND_CONFIGURATION;

    fn of(element: &Element) -> Result<Self, ReplyError> {
        let mode = match element.required_number(Self::CLASS.name(), "ProvisioningMode")? {
            1 => ControlMode::Admin,
            4 => ControlMode::Client,
            other => ControlMode::Unknown(other),
        };
        let provisioning = match element.number("ProvisioningState") {
            Some(0) => Provisioning::Before,
            Some(1) => Provisioning::Under,
            Some(2) | None => Provisioning::Done,
            Some(other) => Provisioning::Unknown(other),
        };
        Ok(Self { mode, provisioning })
    }
}

/// What the device is called.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct GeneralSettings {
    /// Host name, without domain.
    pub host_name: Option<String>,
    /// Domain.
    pub domain_name: Option<String>,
    /// Full name as the operating system last told it.
    pub os_name: Option<String>,
    /// Realm of digest authentication.
    pub digest_realm: Option<String>,
    /// Runs on battery.
    pub on_battery: Option<bool>,
}

impl Instance for GeneralSettings {
    const CLASS: Class = GENERAL_SETTINGS;

    fn of(element: &Element) -> Result<Self, ReplyError> {
        let text = |name| element.text(name).map(str::to_owned);
        Ok(Self {
            host_name: text("HostName"),
            domain_name: text("DomainName"),
            os_name: text("HostOSFQDN"),
            digest_realm: text("DigestRealm"),
            on_battery: element
                .number::<u32>("PowerSource")
                .map(|source| source == 1),
        })
    }
}
