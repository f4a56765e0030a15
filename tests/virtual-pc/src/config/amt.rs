//! Section `[amt]`: the management firmware.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::firmware::{
    self, AccessPermission, AclEntry, BiosVeto, BootCapabilities, ConsentPolicy, ConsentTimes,
    ControlMode, DEFAULT_PROFILE, Ha1, LockoutPolicy, PROFILES, PowerState, Profile, Realms,
    Switches,
};

/// The management firmware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Amt {
    /// Firmware generation.
    pub profile: String,
    /// Password of the account `admin`.
    pub password: String,
    /// Further accounts.
    pub users: Vec<User>,
    /// Port of WS-MAN over HTTP; 0: any.
    pub wsman_port: u16,
    /// Port of redirection; 0: any.
    pub redirection_port: u16,
    /// Open the TLS ports as well.
    pub tls: bool,
    /// Port of WS-MAN over TLS; 0: any.
    pub wsman_tls_port: u16,
    /// Port of redirection over TLS; 0: any.
    pub redirection_tls_port: u16,
    /// Admin or client control mode.
    pub control_mode: ControlMode,
    /// What needs the user's consent in admin control mode; the profile's default if absent.
    pub consent: Option<ConsentPolicy>,
    /// A console may change that.
    pub consent_can_change: bool,
    /// Seconds that consent lasts without an open session.
    pub consent_idle: u64,
    /// Seconds that the code stays on the screen.
    pub consent_display: u64,
    /// Wrong passwords in a row until an account is locked; 0: never.
    pub lockout_attempts: u32,
    /// Seconds for which it is.
    pub lockout_seconds: u64,
    /// Firmware seconds per real second.
    pub speed: u32,
    /// IDE-R is switched on.
    pub ider: bool,
    /// SOL is switched on.
    pub sol: bool,
    /// KVM is switched on.
    pub kvm: bool,
    /// The redirection port is open.
    pub listener: bool,
    /// The BIOS keeps SOL and IDE-R off.
    pub bios_forbids_redirection: bool,
    /// The BIOS keeps KVM off.
    pub bios_forbids_kvm: bool,
    /// What the PC is doing when virtual-pc starts: `on` or `off`.
    pub power: PowerState,
    /// The operating system runs Intel's agent, which graceful power requests need.
    pub agent: bool,
    /// Boot capabilities that this PC lacks, such as `ForcePXEBoot`.
    pub lacks: Vec<String>,
    /// Host name.
    pub host_name: String,
    /// Domain name.
    pub domain_name: String,
    /// SMBIOS UUID, as its 16 raw bytes in hexadecimal.
    pub uuid: String,
    /// Decides nonces and consent codes, so that a run can be repeated; by chance if absent.
    pub seed: Option<u64>,
}

impl Default for Amt {
    fn default() -> Self {
        Amt {
            profile: DEFAULT_PROFILE.into(),
            password: "P@ssw0rd".into(),
            users: Vec::new(),
            wsman_port: 16992,
            redirection_port: 16994,
            tls: false,
            wsman_tls_port: 16993,
            redirection_tls_port: 16995,
            control_mode: ControlMode::Admin,
            consent: None,
            consent_can_change: true,
            consent_idle: 120,
            consent_display: 300,
            lockout_attempts: 10,
            lockout_seconds: 60,
            speed: 1,
            ider: true,
            sol: true,
            kvm: true,
            listener: true,
            bios_forbids_redirection: false,
            bios_forbids_kvm: false,
            power: PowerState::Off,
            agent: false,
            lacks: Vec::new(),
            host_name: "virtual-pc".into(),
            domain_name: "example.test".into(),
            uuid: "13aee355d2bfbb6117a088aedd7037ea".into(),
            seed: None,
        }
    }
}

/// An account beside `admin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Name, at most 16 characters.
    pub name: String,
    /// Password.
    pub password: String,
    /// Realm numbers: 2 redirection, 3 administration, 5 remote control, 13 general information.
    pub realms: Vec<u32>,
}

/// Why a configuration makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmtError {
    /// No such firmware generation.
    #[error("amt.profile: no profile {name:?}; there are {known}")]
    Profile {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No UUID.
    #[error("amt.uuid: {0:?} is not 32 hexadecimal digits")]
    Uuid(String),
    /// A realm that does not exist.
    #[error("amt.users: {0:?} has a realm that does not exist")]
    Realm(String),
    /// A PC starts on or off.
    #[error("amt.power: a PC starts `on` or `off`")]
    Power,
}

impl Amt {
    /// The firmware's own form of it.
    pub fn firmware(&self) -> Result<firmware::Config, AmtError> {
        let profile = Profile::named(&self.profile).ok_or_else(|| AmtError::Profile {
            name: self.profile.clone(),
            known: PROFILES
                .iter()
                .map(|profile| profile.name)
                .collect::<Vec<_>>()
                .join(", "),
        })?;
        if !matches!(self.power, PowerState::On | PowerState::Off) {
            return Err(AmtError::Power);
        }
        let lacking = |capabilities: BootCapabilities, name: &String| capabilities.without(name);
        Ok(firmware::Config {
            control_mode: self.control_mode,
            consent: self.consent.unwrap_or(profile.default_consent),
            consent_can_change: self.consent_can_change,
            consent_times: ConsentTimes {
                idle: Duration::from_secs(self.consent_idle),
                display: Duration::from_secs(self.consent_display),
                ..ConsentTimes::default()
            },
            lockout: LockoutPolicy {
                attempts: self.lockout_attempts,
                duration: Duration::from_secs(self.lockout_seconds),
            },
            speed: self.speed,
            switches: Switches {
                ider: self.ider,
                sol: self.sol,
                kvm: self.kvm,
                listener: self.listener,
            },
            veto: BiosVeto {
                redirection: self.bios_forbids_redirection,
                kvm: self.bios_forbids_kvm,
            },
            power: PowerState::Off,
            agent: self.agent,
            capabilities: self.lacks.iter().fold(BootCapabilities::nuc9(), lacking),
            uuid: uuid(&self.uuid).ok_or_else(|| AmtError::Uuid(self.uuid.clone()))?,
            host_name: self.host_name.clone(),
            domain_name: self.domain_name.clone(),
            ..firmware::Config::new(profile, self.password.clone())
        })
    }

    /// The further accounts as entries of the access control list of `realm`.
    pub fn accounts(&self, realm: &str) -> Result<Vec<AclEntry>, AmtError> {
        let entry = |user: &User| {
            let realms = Realms::from_numbers(user.realms.iter().copied());
            Ok(AclEntry {
                user: user.name.clone(),
                ha1: Ha1::of(&user.name, realm, &user.password),
                realms: realms.ok_or_else(|| AmtError::Realm(user.name.clone()))?,
                access: AccessPermission::Both,
            })
        };
        self.users.iter().map(entry).collect()
    }
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    let decoded = <ct_codecs::Hex as ct_codecs::Decoder>::decode(&mut bytes, text, None).ok()?;
    (decoded.len() == 16).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_a_provisioned_pc() {
        let config = Amt::default().firmware().unwrap();
        assert_eq!(config.profile.name, DEFAULT_PROFILE);
        assert_eq!(config.uuid[0], 0x13);
        assert!(config.capabilities.has("IDER"));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let error = Amt {
            profile: "amt5".into(),
            ..Amt::default()
        }
        .firmware()
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("amt5") && error.contains(DEFAULT_PROFILE),
            "{error}"
        );
        for uuid in ["", "13", "13aee355d2bfbb6117a088aedd7037eaff", "zz"] {
            let amt = Amt {
                uuid: uuid.into(),
                ..Amt::default()
            };
            assert!(matches!(amt.firmware(), Err(AmtError::Uuid(_))), "{uuid}");
        }
        let user = User {
            name: "eve".into(),
            password: "x".into(),
            realms: vec![1],
        };
        let amt = Amt {
            users: vec![user],
            ..Amt::default()
        };
        assert_eq!(
            amt.accounts("r").unwrap_err(),
            AmtError::Realm("eve".into())
        );
        let amt = Amt {
            power: PowerState::Sleep,
            ..Amt::default()
        };
        assert_eq!(amt.firmware().unwrap_err(), AmtError::Power);
    }

    #[test]
    fn a_capability_can_be_missing() {
        let amt = Amt {
            lacks: vec!["ForcePXEBoot".into()],
            ..Amt::default()
        };
        let config = amt.firmware().unwrap();
        assert!(!config.capabilities.has("ForcePXEBoot"));
        assert!(config.capabilities.has("ForceHardDriveBoot"));
    }
}
