//! Boot settings: what the next boot is to be, who may say so, and that it is forgotten afterwards.
//!
//! `CIM_BootConfigSetting`, `CIM_BootService` and `AMT_BootSettingData` together: a boot source, a role ("use it at
//! the next boot") and options. They are consumed by one boot; whatever ends them leaves no option forced.

use super::boot_tables::{
    BOOT_FLAGS, BootCapabilities, BootFlag, BootFlags, BootSource, IderDevice,
};

/// Role 1: use the boot configuration at the next boot only.
pub const ROLE_NEXT_SINGLE_USE: u32 = 1;
/// Role 32768: do not use it.
pub const ROLE_NOT_NEXT: u32 = 32768;

/// What the BIOS boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootPlan {
    /// A redirected drive.
    UseIder(IderDevice),
    /// Nothing: it shows its set-up screen.
    BiosSetup,
    /// The network.
    Pxe,
    /// The first disk.
    HardDisk,
    /// The machine's own CD drive.
    Cd,
    /// Whatever its own boot order says.
    Default,
}

/// What one boot does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// From where.
    pub plan: BootPlan,
    /// Everything that was asked for beside it.
    pub flags: BootFlags,
    /// `FirmwareVerbosity`.
    pub verbosity: u8,
}

impl Boot {
    /// A boot that nobody influenced.
    pub const NORMAL: Self = Self {
        plan: BootPlan::Default,
        flags: BootFlags::NONE,
        verbosity: 0,
    };
}

/// What Put sends; `None` where the element was absent.
#[derive(Debug, Clone, Default)]
pub struct BootPut {
    /// Flags that were present.
    pub flags: Vec<(BootFlag, bool)>,
    /// `IDERBootDevice`.
    pub ider_boot_device: Option<u32>,
    /// `BootMediaIndex`.
    pub boot_media_index: Option<u32>,
    /// `FirmwareVerbosity`.
    pub firmware_verbosity: Option<u32>,
}

/// Why boot settings were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BootRefusal {
    /// The user has to agree first.
    #[error("user consent needed")]
    ConsentRequired,
    /// A required element is absent.
    #[error("element {0} missing")]
    Missing(&'static str),
    /// An element has a value that cannot be at present.
    #[error("element {0} has a value that is not possible now")]
    Invalid(&'static str),
}

/// `ReturnValue` of ChangeBootOrder and SetBootConfigRole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the return values")]
pub enum BootReturn {
    Completed = 0,
    NotSupported = 1,
    InvalidParameter = 5,
}

/// Facts about the machine that Put depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) capabilities: &'a BootCapabilities,
    pub(super) client_control: bool,
    pub(super) secure_boot_control: bool,
    pub(super) clash_at_role: bool,
}

/// The settings in force.
#[derive(Debug, Clone)]
pub struct BootSettings {
    /// Boot source, if one is forced.
    pub source: Option<BootSource>,
    /// [`ROLE_NEXT_SINGLE_USE`] or [`ROLE_NOT_NEXT`].
    pub role: u32,
    /// Options.
    pub flags: BootFlags,
    /// Which redirected drive.
    pub ider_device: IderDevice,
    /// 0 default, 1 first of its kind, and so on.
    pub media_index: u8,
    /// 0 default, 1 quiet, 2 verbose, 3 blank screen.
    pub verbosity: u8,
    /// A boot has consumed the options, or something cleared them.
    pub options_cleared: bool,
}

impl BootSettings {
    pub(super) fn new() -> Self {
        let mut flags = BootFlags::default();
        flags.set(BootFlag::EnforceSecureBoot, true);
        Self {
            source: None,
            role: ROLE_NOT_NEXT,
            flags,
            ider_device: IderDevice::Floppy,
            media_index: 0,
            verbosity: 0,
            options_cleared: false,
        }
    }

    /// Whether the next boot, or a later one, would differ from a normal one.
    pub fn forced(&self) -> bool {
        self.source.is_some() || self.role != ROLE_NOT_NEXT || self.flags.forces_anything()
    }

    pub(super) fn clear(&mut self) {
        if self.forced() {
            *self = Self {
                options_cleared: true,
                ..Self::new()
            };
        }
    }

    pub(super) fn change_order(
        &mut self,
        source: Option<BootSource>,
        capabilities: &BootCapabilities,
    ) -> BootReturn {
        if source.is_some_and(|source| !capabilities.has(source.capability())) {
            return BootReturn::NotSupported;
        }
        self.source = source;
        BootReturn::Completed
    }

    pub(super) fn set_role(&mut self, role: u32, rules: Rules<'_>) -> BootReturn {
        let clash = rules.clash_at_role
            && self.source.is_some()
            && BOOT_FLAGS
                .iter()
                .any(|row| row.clashes_with_source && self.flags.has(row.flag));
        match role {
            ROLE_NEXT_SINGLE_USE if clash => BootReturn::InvalidParameter,
            ROLE_NEXT_SINGLE_USE | ROLE_NOT_NEXT => {
                self.role = role;
                BootReturn::Completed
            }
            _ => BootReturn::InvalidParameter,
        }
    }

    pub(super) fn put(&mut self, put: &BootPut, rules: Rules<'_>) -> Result<(), BootRefusal> {
        let mut flags = BootFlags::default();
        flags.set(BootFlag::EnforceSecureBoot, true);
        for row in BOOT_FLAGS {
            let Some((_, on)) = put.flags.iter().rev().find(|(flag, _)| *flag == row.flag) else {
                if row.required {
                    return Err(BootRefusal::Missing(row.name));
                }
                continue;
            };
            let possible = row
                .capability
                .is_none_or(|needed| rules.capabilities.has(needed));
            let clash = row.clashes_with_source && self.source.is_some() && !rules.clash_at_role;
            if *on && (!possible || clash) {
                return Err(BootRefusal::Invalid(row.name));
            }
            flags.set(row.flag, *on);
        }
        if !flags.has(BootFlag::EnforceSecureBoot)
            && (rules.client_control || !rules.secure_boot_control)
        {
            return Err(BootRefusal::Invalid("EnforceSecureBoot"));
        }
        let within = |value: Option<u32>, name, most: u8| match value {
            None => Err(BootRefusal::Missing(name)),
            Some(value) => u8::try_from(value)
                .ok()
                .filter(|value| *value <= most)
                .ok_or(BootRefusal::Invalid(name)),
        };
        let ider_device = match within(put.ider_boot_device, "IDERBootDevice", 1)? {
            0 => IderDevice::Floppy,
            _ => IderDevice::Cd,
        };
        let media_index = within(put.boot_media_index, "BootMediaIndex", 254)?;
        if media_index != 0 && flags.has(BootFlag::UseIder) {
            return Err(BootRefusal::Invalid("BootMediaIndex"));
        }
        let verbosity = within(put.firmware_verbosity, "FirmwareVerbosity", 3)?;
        *self = Self {
            flags,
            ider_device,
            media_index,
            verbosity,
            options_cleared: false,
            ..*self
        };
        Ok(())
    }

    /// What the BIOS gets when it boots. Single use: nothing is left.
    pub(super) fn consume(&mut self, ider_session: bool) -> Boot {
        if self.role != ROLE_NEXT_SINGLE_USE {
            return Boot::NORMAL;
        }
        let plan = match self.source {
            // A forced source wins over IDE-R, silently: seen on real machines.
            Some(BootSource::HardDrive) => BootPlan::HardDisk,
            Some(BootSource::Pxe) => BootPlan::Pxe,
            Some(BootSource::Cd) => BootPlan::Cd,
            None if self.flags.has(BootFlag::UseIder) && ider_session => {
                BootPlan::UseIder(self.ider_device)
            }
            None if self.flags.has(BootFlag::UseIder) => BootPlan::HardDisk,
            None if self.flags.has(BootFlag::BiosSetup) => BootPlan::BiosSetup,
            None => BootPlan::Default,
        };
        let boot = Boot {
            plan,
            flags: self.flags,
            verbosity: self.verbosity,
        };
        *self = Self {
            options_cleared: true,
            ..Self::new()
        };
        boot
    }
}
