//! What distinguishes one virtual machine's firmware from another's.

use std::time::{Duration, Instant};

use super::{
    BiosVeto, BootCapabilities, ConsentPolicy, ConsentTimes, LockoutPolicy, PowerState, Profile,
    Switches,
};

/// How the firmware was provisioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlMode {
    /// Admin Control Mode: consent is a matter of policy.
    Admin,
    /// Client Control Mode: redirection and boot options always need consent.
    Client,
}

impl ControlMode {
    /// `IPS_HostBasedSetupService.CurrentControlMode`.
    pub fn code(self) -> u32 {
        match self {
            Self::Client => 1,
            Self::Admin => 2,
        }
    }

    /// `AMT_SetupAndConfigurationService.ProvisioningMode`.
    pub fn provisioning_mode(self) -> u32 {
        match self {
            Self::Admin => 1,
            Self::Client => 4,
        }
    }
}

/// Where the monotonic clock stood at which wall-clock time.
#[derive(Debug, Clone, Copy)]
pub struct Epoch {
    /// The monotonic clock.
    pub instant: Instant,
    /// Seconds since 1970 at that moment.
    pub unix: u64,
}

/// Everything that a configuration file may decide about the firmware.
#[derive(Debug, Clone)]
pub struct Config {
    /// Firmware generation.
    pub profile: &'static Profile,
    /// `Digest:` and 32 upper-case hexadecimal digits.
    pub digest_realm: String,
    /// Password of the account `admin`.
    pub admin_password: String,
    /// How the firmware was provisioned.
    pub control_mode: ControlMode,
    /// `OptInRequired` at the start.
    pub consent: ConsentPolicy,
    /// `CanModifyOptInPolicy`.
    pub consent_can_change: bool,
    /// Limits of the consent dialogue.
    pub consent_times: ConsentTimes,
    /// When an account is locked.
    pub lockout: LockoutPolicy,
    /// Firmware seconds per real second, so that tests need not wait: 1 is real time.
    pub speed: u32,
    /// Redirection switches at the start.
    pub switches: Switches,
    /// Switches that the BIOS set-up keeps off.
    pub veto: BiosVeto,
    /// Power state at the start.
    pub power: PowerState,
    /// The operating system has Intel's agent (LMS).
    pub agent: bool,
    /// What the machine can boot, lock and skip.
    pub capabilities: BootCapabilities,
    /// SMBIOS UUID, raw: its first three fields are little-endian.
    pub uuid: [u8; 16],
    /// Host name.
    pub host_name: String,
    /// Domain name.
    pub domain_name: String,
}

impl Config {
    /// A provisioned machine of that generation with everything switched on, as most tests want it.
    pub fn new(profile: &'static Profile, admin_password: impl Into<String>) -> Self {
        Self {
            profile,
            digest_realm: "Digest:F3EB554784E729164447A89F60B641C5".into(),
            admin_password: admin_password.into(),
            control_mode: ControlMode::Admin,
            consent: profile.default_consent,
            consent_can_change: true,
            consent_times: ConsentTimes::default(),
            lockout: LockoutPolicy {
                attempts: 10,
                duration: Duration::from_secs(60),
            },
            speed: 1,
            switches: Switches {
                ider: true,
                sol: true,
                kvm: true,
                listener: true,
            },
            veto: BiosVeto::default(),
            power: PowerState::Off,
            agent: false,
            capabilities: BootCapabilities::nuc9(),
            uuid: [
                0x13, 0xae, 0xe3, 0x55, 0xd2, 0xbf, 0xbb, 0x61, 0x17, 0xa0, 0x88, 0xae, 0xdd, 0x70,
                0x37, 0xea,
            ],
            host_name: "virtual-pc".into(),
            domain_name: "example.test".into(),
        }
    }
}
