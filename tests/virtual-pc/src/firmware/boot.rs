//! Boot settings: what the next boot is to be, who may say so, and that it is forgotten afterwards.
//!
//! `CIM_BootConfigSetting`, `CIM_BootService` and `AMT_BootSettingData` together: a boot source, a role ("use it at
//! the next boot") and options. They are consumed by one boot; whatever ends them leaves no option forced.

/// A boolean of `AMT_BootSettingData` that Put may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum BootFlag {
    UseIder,
    UseSol,
    BiosSetup,
    BiosPause,
    UseSafeMode,
    ReflashBios,
    LockKeyboard,
    LockPowerButton,
    LockResetButton,
    LockSleepButton,
    UserPasswordBypass,
    ForcedProgressEvents,
    ConfigurationDataReset,
    SecureErase,
    EnforceSecureBoot,
    PlatformErase,
}

/// One row of the table of flags.
#[derive(Debug)]
pub struct BootFlagRow {
    /// Which flag.
    pub flag: BootFlag,
    /// Its element name.
    pub name: &'static str,
    /// Put without it is an error.
    pub required: bool,
    /// The capability without which it cannot be set; `None` where every machine allows it.
    pub capability: Option<&'static str>,
    /// It cannot be set while a boot source is chosen.
    pub clashes_with_source: bool,
}

const fn row(
    flag: BootFlag,
    name: &'static str,
    capability: &'static str,
    clashes_with_source: bool,
) -> BootFlagRow {
    BootFlagRow {
        flag,
        name,
        required: true,
        capability: Some(capability),
        clashes_with_source,
    }
}

/// Every flag, with what Put has to know about it.
pub const BOOT_FLAGS: &[BootFlagRow] = &[
    row(BootFlag::UseIder, "UseIDER", "IDER", true),
    row(BootFlag::UseSol, "UseSOL", "SOL", true),
    row(BootFlag::BiosSetup, "BIOSSetup", "BIOSSetup", true),
    row(BootFlag::BiosPause, "BIOSPause", "BIOSPause", true),
    row(
        BootFlag::UseSafeMode,
        "UseSafeMode",
        "ForceHardDriveSafeModeBoot",
        false,
    ),
    row(BootFlag::ReflashBios, "ReflashBIOS", "BIOSReflash", true),
    row(
        BootFlag::LockKeyboard,
        "LockKeyboard",
        "KeyboardLock",
        false,
    ),
    row(
        BootFlag::LockPowerButton,
        "LockPowerButton",
        "PowerButtonLock",
        false,
    ),
    row(
        BootFlag::LockResetButton,
        "LockResetButton",
        "ResetButtonLock",
        false,
    ),
    row(
        BootFlag::LockSleepButton,
        "LockSleepButton",
        "SleepButtonLock",
        false,
    ),
    row(
        BootFlag::UserPasswordBypass,
        "UserPasswordBypass",
        "UserPasswordBypass",
        false,
    ),
    row(
        BootFlag::ForcedProgressEvents,
        "ForcedProgressEvents",
        "ForcedProgressEvents",
        false,
    ),
    row(
        BootFlag::ConfigurationDataReset,
        "ConfigurationDataReset",
        "ConfigurationDataReset",
        false,
    ),
    row(BootFlag::SecureErase, "SecureErase", "SecureErase", false),
    BootFlagRow {
        flag: BootFlag::EnforceSecureBoot,
        name: "EnforceSecureBoot",
        required: false,
        capability: None,
        clashes_with_source: false,
    },
    BootFlagRow {
        flag: BootFlag::PlatformErase,
        name: "PlatformErase",
        required: false,
        capability: Some("PlatformErase"),
        clashes_with_source: false,
    },
];

/// A set of [`BootFlag`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BootFlags(u32);

impl BootFlags {
    /// Whether `flag` is set.
    pub fn has(self, flag: BootFlag) -> bool {
        self.0 >> flag as u8 & 1 == 1
    }

    /// Sets or clears `flag`.
    pub fn set(&mut self, flag: BootFlag, on: bool) {
        let bit = 1 << flag as u8;
        self.0 = if on { self.0 | bit } else { self.0 & !bit };
    }

    /// Whether anything unusual is asked of the next boot. Keeping Secure Boot on is usual.
    pub fn forces_anything(self) -> bool {
        BOOT_FLAGS
            .iter()
            .any(|row| row.flag != BootFlag::EnforceSecureBoot && self.has(row.flag))
    }
}

/// What a machine can do (`AMT_BootCapabilities`), by property name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootCapabilities(Vec<String>);

impl BootCapabilities {
    /// Those of a NUC9 with AMT 12.
    pub fn nuc9() -> Self {
        let names = [
            "IDER",
            "SOL",
            "BIOSSetup",
            "BIOSReflash",
            "BIOSSecureBoot",
            "ForcePXEBoot",
            "ForceHardDriveBoot",
        ];
        let more = [
            "ForceCDorDVDBoot",
            "ForcedProgressEvents",
            "KeyboardLock",
            "UserPasswordBypass",
        ];
        Self(names.into_iter().chain(more).map(Into::into).collect())
    }

    /// A machine that can do what is named.
    pub fn of(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    /// Whether the machine can do `name`.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|known| known == name)
    }

    /// The same machine without `name`.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|known| known != name);
        self
    }
}

/// A boot source (`CIM_BootSourceSetting`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum BootSource {
    HardDrive,
    Pxe,
    /// The machine's own drive, not the redirected one.
    Cd,
}

impl BootSource {
    /// All that exist.
    pub const ALL: [Self; 3] = [Self::HardDrive, Self::Pxe, Self::Cd];

    /// `InstanceID`.
    pub fn instance_id(self) -> &'static str {
        match self {
            Self::HardDrive => "Intel(r) AMT: Force Hard-drive Boot",
            Self::Pxe => "Intel(r) AMT: Force PXE Boot",
            Self::Cd => "Intel(r) AMT: Force CD/DVD Boot",
        }
    }

    /// `StructuredBootString`.
    pub fn structured_boot_string(self) -> &'static str {
        match self {
            Self::HardDrive => "CIM:Hard-Disk:1",
            Self::Pxe => "CIM:Network:1",
            Self::Cd => "CIM:CD/DVD:1",
        }
    }

    /// The capability that it needs.
    pub fn capability(self) -> &'static str {
        match self {
            Self::HardDrive => "ForceHardDriveBoot",
            Self::Pxe => "ForcePXEBoot",
            Self::Cd => "ForceCDorDVDBoot",
        }
    }

    /// The source with that `InstanceID`.
    pub fn from_instance_id(id: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|source| source.instance_id() == id)
    }
}

/// `IDERBootDevice`: which redirected drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum IderDevice {
    #[default]
    Floppy = 0,
    Cd = 1,
}

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
        flags: BootFlags(0),
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
