//! Arming the next boot, once, and taking that back.
//!
//! The order of calls is the one that consoles found to work on many releases: source away, options read and written, boot
//! configuration selected, source chosen (or none again: with storage redirection and BIOS set-up a forced source would win
//! over the options). In another order some firmware applies the choice to the boot after the next.

use super::consent::{self, Need, Purpose};
use super::{Observer, Step};
use crate::class::boot::{BootCapabilities, BootSettingData};
use crate::class::{
    BOOT_CONFIG_SETTING, BOOT_CONFIGURATION, BOOT_SERVICE, BOOT_SETTING_DATA, BOOT_SOURCE_SETTING,
};
use crate::device::{Call, Cause, Device, Error};
use crate::explain::{Blame, Explain};
use crate::fault::FaultCode;
use crate::firmware::traits_of;
use crate::names::Class;
use crate::request::{Reference, Repeat, Value};
use crate::status::BootStatus;
use crate::transport::Transport;

/// What the next boot is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootTarget {
    /// The redirected CD. The redirection session has to be open when the PC starts.
    IderCd,
    /// The redirected floppy disk.
    IderFloppy,
    /// Network boot.
    Pxe,
    /// The PC's hard disk.
    HardDisk,
    /// The PC's own CD or DVD drive.
    Cd,
    /// BIOS set-up.
    BiosSetup,
}

impl std::fmt::Display for BootTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.plan().name)
    }
}

struct Plan {
    target: BootTarget,
    name: &'static str,
    /// Property of `AMT_BootCapabilities` that has to be true.
    capability: &'static str,
    /// Options that differ from a plain boot's. A source forced as well would win over them.
    options: &'static [(&'static str, &'static str)],
    /// Instance of `CIM_BootSourceSetting`, if one is to be forced.
    source: Option<&'static str>,
}

impl BootTarget {
    fn plan(self) -> Plan {
        let (name, capability, options, source): (_, _, &'static [_], _) = match self {
            Self::IderCd => (
                "redirected CD",
                "IDER",
                &[("UseIDER", "true"), ("IDERBootDevice", "1")],
                None,
            ),
            Self::IderFloppy => (
                "redirected floppy disk",
                "IDER",
                &[("UseIDER", "true"), ("IDERBootDevice", "0")],
                None,
            ),
            Self::Pxe => (
                "network boot (PXE)",
                "ForcePXEBoot",
                &[],
                Some("Intel(r) AMT: Force PXE Boot"),
            ),
            Self::HardDisk => (
                "hard disk",
                "ForceHardDriveBoot",
                &[],
                Some("Intel(r) AMT: Force Hard-drive Boot"),
            ),
            Self::Cd => (
                "the PC's own CD drive",
                "ForceCDorDVDBoot",
                &[],
                Some("Intel(r) AMT: Force CD/DVD Boot"),
            ),
            Self::BiosSetup => ("BIOS set-up", "BIOSSetup", &[("BIOSSetup", "true")], None),
        };
        Plan {
            target: self,
            name,
            capability,
            options,
            source,
        }
    }
}

/// Further wishes for the next boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BootOptions {
    /// The BIOS sends its text to serial over LAN.
    pub serial: bool,
    /// Secure Boot for this boot: kept as the PC has it when `None`; off only works in admin control mode, and where the
    /// BIOS lets it.
    pub secure_boot: Option<bool>,
}

/// A boot that was armed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Armed {
    /// The options as the device reads them back.
    pub settings: BootSettingData,
    /// Whether the firmware was asked to report progress; not all can.
    pub progress_events: bool,
}

/// Why the next boot is not armed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// A call failed.
    #[error(transparent)]
    Device(#[from] Error),
    /// The PC cannot boot that.
    #[error(
        "this PC cannot be made to boot from {target} ({capability} is not among its capabilities)"
    )]
    NotCapable {
        /// What was wanted.
        target: BootTarget,
        /// The capability that is missing.
        capability: &'static str,
    },
    /// The firmware does not know an option that is needed.
    #[error("this PC's firmware has no boot option {option}")]
    NoOption {
        /// The option.
        option: &'static str,
    },
    /// The user at the PC has not consented.
    #[error("the user at the PC has to consent before its boot is changed")]
    ConsentNeeded,
    /// An option did not stay.
    #[error("boot option {option} was set to {wanted:?}, but reads {found:?}")]
    DoesNotStay {
        /// The option.
        option: &'static str,
        /// Value that was written.
        wanted: String,
        /// Value that was read.
        found: String,
    },
    /// Arming failed, and so did taking back what was done.
    #[error("{first}; and the boot options could not be set back: {second}")]
    LeftBehind {
        /// Why arming failed.
        first: Box<BootError>,
        /// Why setting back failed.
        #[source]
        second: Box<Error>,
    },
}

impl Explain for BootError {
    fn blame(&self) -> Blame {
        match self {
            Self::Device(error) => error.blame(),
            Self::ConsentNeeded => Blame::Refused,
            Self::LeftBehind { first, .. } => first.blame(),
            Self::NotCapable { .. } | Self::NoOption { .. } | Self::DoesNotStay { .. } => {
                Blame::Failed
            }
        }
    }

    fn cure(&self) -> Option<&'static str> {
        match self {
            Self::Device(error) => match error.fault() {
                Some(FaultCode::InvalidRepresentation) => Some(
                    "another boot choice may be pending: cut the PC's mains for a moment or let it boot once, then try again",
                ),
                _ => error.cure(),
            },
            Self::NotCapable { .. } | Self::NoOption { .. } => Some(
                "allow it in the PC's BIOS or MEBx if it is switched off there; else choose another way to boot (`pc info` \
                 lists what the PC can)",
            ),
            Self::ConsentNeeded => Some(
                "ask for it with `pc consent HOST start` and enter the six digits from the PC's screen",
            ),
            Self::DoesNotStay { .. } => Some(
                "consent may have run out, or another console changes the options at the same time; try again",
            ),
            Self::LeftBehind { .. } => Some(
                "the PC's next boot may be the one that was asked for: clear it with `pc bios HOST --clear` once the PC answers",
            ),
        }
    }
}

/// Arms the next boot, and only that. On failure everything is set back.
///
/// Redirection has to be on and consent given, where needed, before; the power change comes after.
///
/// # Errors
///
/// When the PC cannot, consent is missing, a call fails, or an option does not stay.
pub async fn arm_boot<T: Transport>(
    device: &mut Device<T>,
    target: BootTarget,
    options: &BootOptions,
    observer: &mut Observer<'_>,
) -> Result<Armed, BootError> {
    observer(Step::ReadCapabilities);
    let capabilities: BootCapabilities = device.read().await?;
    let plan = target.plan();
    if !capabilities.has(plan.capability) {
        return Err(BootError::NotCapable {
            target: plan.target,
            capability: plan.capability,
        });
    }
    match arm(device, &plan, options, &capabilities, observer).await {
        Ok(armed) => Ok(armed),
        Err(first) => {
            // Nothing was changed when the very first call was refused, but then this does no harm.
            let cleared = disarm(device, observer).await;
            match cleared {
                Ok(()) => Err(explained(device, first).await),
                Err(second) => Err(BootError::LeftBehind {
                    first: Box::new(explained(device, first).await),
                    second: Box::new(second),
                }),
            }
        }
    }
}

async fn arm<T: Transport>(
    device: &mut Device<T>,
    plan: &Plan,
    options: &BootOptions,
    capabilities: &BootCapabilities,
    observer: &mut Observer<'_>,
) -> Result<Armed, BootError> {
    // A source left over would clash with the options written next.
    observer(Step::ClearBootSource);
    change_boot_order(device, None).await?;

    observer(Step::ReadBootOptions);
    let mut settings: BootSettingData = device.read().await?;
    let progress_events = change(&mut settings, plan, options, capabilities)?;

    observer(Step::WriteBootOptions);
    write(device, &settings).await?;

    observer(Step::SelectBootConfiguration);
    set_role(device, NEXT_SINGLE_USE).await?;

    observer(Step::ChooseBootSource);
    change_boot_order(device, plan.source).await?;

    observer(Step::CheckBootOptions);
    let found: BootSettingData = device.read().await?;
    match found.first_difference(&settings) {
        None => Ok(Armed {
            settings: found,
            progress_events,
        }),
        Some((option, wanted, found)) => Err(BootError::DoesNotStay {
            option,
            wanted,
            found,
        }),
    }
}

fn change(
    settings: &mut BootSettingData,
    plan: &Plan,
    options: &BootOptions,
    capabilities: &BootCapabilities,
) -> Result<bool, BootError> {
    settings.clear();
    let mut set = |option: &'static str, value: &str| match settings.set(option, value) {
        true => Ok(()),
        false => Err(BootError::NoOption { option }),
    };
    for &(option, value) in plan.options {
        set(option, value)?;
    }
    if options.serial {
        set("UseSOL", "true")?;
    }
    if let Some(on) = options.secure_boot {
        set("EnforceSecureBoot", if on { "true" } else { "false" })?;
    }
    Ok(capabilities.has("ForcedProgressEvents") && settings.set("ForcedProgressEvents", "true"))
}

/// Makes the next boot a plain one: no source, no options, no role.
///
/// May be called at any time and any number of times. A call that is refused does no harm as long as the options read as
/// cleared afterwards: firmware clears them by itself when consent or the redirection session ends, and then may no longer
/// let anyone write them.
///
/// # Errors
///
/// When the device cannot be asked, or options remain.
pub async fn disarm<T: Transport>(
    device: &mut Device<T>,
    observer: &mut Observer<'_>,
) -> Result<(), Error> {
    let mut first = None;
    let mut remember = |result: Result<(), Error>| match result {
        Err(error) if error.is_transport() => Err(error),
        Err(error) => {
            first.get_or_insert(error);
            Ok(())
        }
        Ok(()) => Ok(()),
    };
    observer(Step::ClearBootSource);
    remember(change_boot_order(device, None).await)?;
    observer(Step::ResetBootOptions);
    remember(reset_options(device).await)?;
    if traits_of(device.version()).not_next_role {
        observer(Step::DeselectBootConfiguration);
        remember(set_role(device, NOT_NEXT).await)?;
    }
    let Some(error) = first else {
        return Ok(());
    };
    observer(Step::CheckBootOptions);
    let settings: BootSettingData = device.read().await?;
    if settings.is_clear() {
        Ok(())
    } else {
        Err(error)
    }
}

async fn reset_options<T: Transport>(device: &mut Device<T>) -> Result<(), Error> {
    let mut settings: BootSettingData = device.read().await?;
    settings.clear();
    write(device, &settings).await
}

async fn write<T: Transport>(
    device: &mut Device<T>,
    settings: &BootSettingData,
) -> Result<(), Error> {
    device
        .put(BOOT_SETTING_DATA.into(), settings.properties())
        .await
        .map(drop)
}

/// Takes away the boot source, or forces one.
async fn change_boot_order<T: Transport>(
    device: &mut Device<T>,
    source: Option<&'static str>,
) -> Result<(), Error> {
    let selectors = source.map(|source| [("InstanceID", source)]);
    let parameters: Vec<_> = selectors
        .iter()
        .map(|selectors| {
            let class = BOOT_SOURCE_SETTING;
            ("Source", Value::Reference(Reference { class, selectors }))
        })
        .collect();
    checked(device, BOOT_CONFIG_SETTING, "ChangeBootOrder", &parameters).await
}

async fn set_role<T: Transport>(device: &mut Device<T>, role: u64) -> Result<(), Error> {
    let parameters = [
        ("BootConfigSetting", Value::Reference(BOOT_CONFIGURATION)),
        ("Role", Value::Number(role)),
    ];
    checked(device, BOOT_SERVICE, "SetBootConfigRole", &parameters).await
}

async fn checked<T: Transport>(
    device: &mut Device<T>,
    class: Class,
    method: &'static str,
    parameters: &[(&str, Value<'_>)],
) -> Result<(), Error> {
    let output = device
        .invoke(class.into(), method, parameters, Repeat::Safe)
        .await?;
    match BootStatus::of(output.return_value) {
        None => Ok(()),
        Some(status) => Err(Error {
            call: Call::Invoke(class, method),
            cause: Cause::Boot(status),
        }),
    }
}

/// "Access denied" has two causes with different cures; the consent service knows which it is.
async fn explained<T: Transport>(device: &mut Device<T>, error: BootError) -> BootError {
    let BootError::Device(denied) = &error else {
        return error;
    };
    if !denied.is_denied() {
        return error;
    }
    match consent::status(device).await {
        Ok(status) if status.need(Purpose::Boot) == Need::Needed => BootError::ConsentNeeded,
        _ => error,
    }
}

/// The configuration counts for the next boot, and once.
const NEXT_SINGLE_USE: u64 = 1;
/// The configuration does not count.
const NOT_NEXT: u64 = 32768;
