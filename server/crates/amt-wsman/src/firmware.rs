//! Firmware versions, and what differs between them: one table, so that no other file asks for a version.
//!
//! What a device tells about itself (capabilities, states offered, properties present) goes before this table, which only
//! holds what cannot be asked.

use serde::Serialize;

/// A firmware version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Generation, such as 12.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
    /// Hotfix number.
    pub hotfix: u16,
    /// Build number; 0 when not told.
    pub build: u16,
}

impl Version {
    /// From the text of an HTTP `Server` header.
    #[must_use]
    pub fn of_server(header: &str) -> Option<Self> {
        header
            .split_whitespace()
            .rev()
            .find_map(|word| word.parse().ok())
    }
}

impl std::str::FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let mut parts = [0u16; 4];
        let mut count = 0;
        for (index, part) in text.split('.').enumerate() {
            let slot = parts.get_mut(index).ok_or(NotAVersion)?;
            *slot = part.parse().map_err(|_| NotAVersion)?;
            count += 1;
        }
        // A lone number could be anything.
        if count < 2 {
            return Err(NotAVersion);
        }
        let [major, minor, hotfix, build] = parts;
        Ok(Self {
            major,
            minor,
            hotfix,
            build,
        })
    }
}

/// A text that is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a firmware version")]
pub struct NotAVersion;

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.hotfix)?;
        if self.build != 0 {
            write!(f, ".{}", self.build)?;
        }
        Ok(())
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a generation can do and how it wants to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits {
    /// First generation that this row is for: major, minor.
    pub since: (u16, u16),
    /// The role "not next" (32768) of a boot configuration is understood.
    pub not_next_role: bool,
    /// Graceful power states (12, 14) exist, where the device does not list its own.
    pub graceful_power: bool,
    /// Storage redirection is offered to the PC as a USB drive, not an IDE one.
    pub usb_redirection: bool,
    /// Can boot by HTTPS on its own (One-Click Recovery), if the BIOS can too.
    pub https_boot: bool,
    /// Answers on the ports without TLS from outside, if its policy lets it.
    pub clear_text: bool,
}

/// What holds until a row of the table says otherwise.
const OLDEST: Traits = Traits {
    since: (0, 0),
    not_next_role: false,
    graceful_power: false,
    usb_redirection: false,
    https_boot: false,
    clear_text: true,
};
const AMT_7: Traits = Traits {
    since: (7, 0),
    not_next_role: true,
    ..OLDEST
};
const AMT_10: Traits = Traits {
    since: (10, 0),
    graceful_power: true,
    ..AMT_7
};
const AMT_11: Traits = Traits {
    since: (11, 0),
    usb_redirection: true,
    ..AMT_10
};
const AMT_15: Traits = Traits {
    since: (15, 0),
    https_boot: true,
    ..AMT_11
};
const AMT_16_1: Traits = Traits {
    since: (16, 1),
    clear_text: false,
    ..AMT_15
};
const TABLE: [Traits; 5] = [AMT_7, AMT_10, AMT_11, AMT_15, AMT_16_1];

/// What is known of a version; of an unknown one, what holds for most machines in use.
#[must_use]
pub fn traits_of(version: Option<Version>) -> Traits {
    let (major, minor) = version.map_or(AMT_11.since, |version| (version.major, version.minor));
    let row = TABLE.iter().rev().find(|row| row.since <= (major, minor));
    row.copied().unwrap_or(OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_header_tells_the_version() {
        let version = Version::of_server("Intel(R) Active Management Technology 15.0.23.1706");
        assert_eq!(version.unwrap().to_string(), "15.0.23.1706");
        assert_eq!("12.0.67".parse::<Version>().unwrap().to_string(), "12.0.67");
        for other in [
            "nginx",
            "Intel(R) Active Management Technology",
            "x 1.2.3.4.5",
            "",
            "server 5",
            "a 70000.1",
        ] {
            assert_eq!(Version::of_server(other), None, "{other}");
        }
    }

    #[test]
    fn rows_of_the_table_are_in_order() {
        assert!(TABLE.windows(2).all(|rows| rows[0].since < rows[1].since));
        let of = |text: &str| traits_of(Some(text.parse().unwrap()));
        assert!(!of("6.2.0").not_next_role);
        assert!(of("7.0.0").not_next_role && !of("9.5.0").graceful_power);
        assert!(of("16.0.0").clear_text && !of("16.1.0").clear_text && !of("18.0.0").clear_text);
        assert!(traits_of(None).usb_redirection);
    }
}
