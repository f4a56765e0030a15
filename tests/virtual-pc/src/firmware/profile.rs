//! Firmware generations: which differences between releases a console can see.
//!
//! Every difference is a field of [`Profile`], so that the rest of the firmware never asks for a release by name.
//! Version numbers are those of captures and fixtures where there are any (AMT 11.8 and 12.0 start replies, the
//! NUC9 fixtures of AMT 12.0.67, the HTTP capture of AMT 15.0.23); the others are plausible members of their
//! generation. One-Click Recovery is described by the real capabilities but not simulated, so no profile offers it.

/// A quality of protection that HTTP digest authentication may ask for (RFC 2617 section 3.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qop {
    /// `auth`: method and URI are protected.
    Auth,
    /// `auth-int`: the body too.
    AuthInt,
}

impl Qop {
    /// The token on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthInt => "auth-int",
        }
    }
}

/// Which operations need the user's consent in Admin Control Mode (`IPS_OptInService.OptInRequired`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsentPolicy {
    /// Nothing needs consent.
    None,
    /// Only KVM does.
    Kvm,
    /// KVM, IDE-R and boot options do.
    All,
}

impl ConsentPolicy {
    /// The number on the wire.
    pub fn code(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Kvm => 1,
            Self::All => u32::MAX,
        }
    }

    /// The policy for a number on the wire; other numbers do not exist.
    pub fn from_code(code: u32) -> Option<Self> {
        [Self::None, Self::Kvm, Self::All]
            .into_iter()
            .find(|policy| policy.code() == code)
    }
}

/// One generation of management firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The name in configuration files.
    pub name: &'static str,
    /// Major, minor, maintenance and build number.
    pub version: [u16; 4],
    /// Most data bytes in one IDE-R DataToHost.
    pub read_buffer: u16,
    /// Most data bytes in one IDE-R DataFromHost.
    pub write_buffer: u16,
    /// What the HTTP challenge offers, in its order.
    pub http_qop: &'static [Qop],
    /// What the redirection authentication query lists (1 password, 3 and 4 digest).
    pub redirection_methods: &'static [u8],
    /// Whether consent exists at all (from AMT 6 on, for KVM).
    pub default_consent: ConsentPolicy,
    /// Graceful power requests exist (from AMT 9 on).
    pub graceful_power: bool,
    /// A clash between boot source and options is reported by SetBootConfigRole, not by Put (AMT 6.0).
    pub clash_at_role: bool,
    /// `AMT_BootSettingData` has `EnforceSecureBoot` and its read-only companions.
    pub secure_boot_control: bool,
    /// Platform event traps can be sent.
    pub pet: bool,
    /// Remote access is over TLS only (CSME 16.1 and later).
    pub tls_only: bool,
}

impl Profile {
    /// The profile of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PROFILES.iter().find(|profile| profile.name == name)
    }

    /// Major, minor and maintenance number, as in `12.0.67`.
    pub fn release(&self) -> String {
        let [major, minor, maintenance, _] = self.version;
        format!("{major}.{minor}.{maintenance}")
    }

    /// The text after the product's name in the HTTP `Server` header, as in `15.0.23.1706`.
    pub fn full_version(&self) -> String {
        format!("{}.{}", self.release(), self.version[3])
    }
}

/// The profile that configuration files get when they name none: the one with the most captured facts.
pub const DEFAULT_PROFILE: &str = "amt12-nuc";

const AUTH: &[Qop] = &[Qop::Auth];
const AUTH_INT_FIRST: &[Qop] = &[Qop::AuthInt, Qop::Auth];

/// All profiles, oldest first.
pub const PROFILES: &[Profile] = &[
    Profile {
        name: "amt6",
        version: [6, 2, 61, 3535],
        read_buffer: 8192,
        write_buffer: 8192,
        http_qop: AUTH,
        redirection_methods: &[1, 3, 4],
        default_consent: ConsentPolicy::None,
        graceful_power: false,
        clash_at_role: true,
        secure_boot_control: false,
        pet: true,
        tls_only: false,
    },
    Profile {
        name: "amt11",
        version: [11, 8, 50, 3425],
        read_buffer: 8192,
        write_buffer: 8192,
        http_qop: AUTH,
        redirection_methods: &[1, 3, 4],
        default_consent: ConsentPolicy::None,
        graceful_power: true,
        clash_at_role: false,
        secure_boot_control: true,
        pet: true,
        tls_only: false,
    },
    Profile {
        name: "amt12-nuc",
        version: [12, 0, 67, 1579],
        read_buffer: 8192,
        write_buffer: 8192,
        http_qop: AUTH,
        redirection_methods: &[4],
        default_consent: ConsentPolicy::None,
        graceful_power: true,
        clash_at_role: false,
        secure_boot_control: true,
        pet: true,
        tls_only: false,
    },
    Profile {
        name: "amt15",
        version: [15, 0, 23, 1706],
        read_buffer: 8192,
        write_buffer: 8192,
        http_qop: AUTH,
        redirection_methods: &[4],
        default_consent: ConsentPolicy::None,
        graceful_power: true,
        clash_at_role: false,
        secure_boot_control: true,
        pet: true,
        tls_only: false,
    },
    Profile {
        name: "amt16",
        version: [16, 1, 30, 2307],
        read_buffer: 8192,
        write_buffer: 8192,
        http_qop: AUTH_INT_FIRST,
        redirection_methods: &[4],
        default_consent: ConsentPolicy::None,
        graceful_power: true,
        clash_at_role: false,
        secure_boot_control: true,
        pet: true,
        tls_only: true,
    },
    Profile {
        name: "amt18",
        version: [18, 0, 5, 2098],
        read_buffer: 8192,
        write_buffer: 8192,
        http_qop: AUTH_INT_FIRST,
        redirection_methods: &[4],
        default_consent: ConsentPolicy::None,
        graceful_power: true,
        clash_at_role: false,
        secure_boot_control: true,
        pet: false,
        tls_only: true,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_found_by_its_name_and_the_default_exists() {
        for profile in PROFILES {
            assert_eq!(Profile::named(profile.name), Some(profile));
        }
        assert!(Profile::named(DEFAULT_PROFILE).is_some());
        assert_eq!(Profile::named("amt13"), None);
    }

    #[test]
    fn versions_read_like_those_of_real_machines() {
        let profile = Profile::named("amt15").unwrap();
        assert_eq!(profile.release(), "15.0.23");
        assert_eq!(profile.full_version(), "15.0.23.1706");
    }

    #[test]
    fn consent_policies_round_trip_and_other_numbers_do_not_exist() {
        for policy in [ConsentPolicy::None, ConsentPolicy::Kvm, ConsentPolicy::All] {
            assert_eq!(ConsentPolicy::from_code(policy.code()), Some(policy));
        }
        assert_eq!(ConsentPolicy::from_code(2), None);
    }
}
