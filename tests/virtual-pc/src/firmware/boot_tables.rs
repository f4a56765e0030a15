//! What there is to boot from and to ask of a boot: flags, capabilities, sources, redirected drives.

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
    /// None at all.
    pub const NONE: Self = Self(0);

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
