//! `AMT_BootCapabilities` and `AMT_BootSettingData`: what a PC can boot, and the options of its next boot.
//!
//! Releases differ in which options they know. Hence nothing is written that was not read: an instance is kept as it came,
//! options in it are changed, and it goes back without what only the device writes.

use super::{BOOT_CAPABILITIES, BOOT_SETTING_DATA, Instance};
use crate::names::Class;
use crate::reply::{Element, ReplyError};

/// What a PC can boot, as its firmware and BIOS tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootCapabilities {
    names: Vec<String>,
}

impl Instance for BootCapabilities {
    const CLASS: Class = BOOT_CAPABILITIES;

    fn of(element: &Element) -> Result<Self, ReplyError> {
        let names = element.children.iter();
        Ok(Self {
            names: names
                .filter(|property| property.text == "true" || property.text == "1")
                .map(|property| property.name.clone())
                .collect(),
        })
    }
}

impl BootCapabilities {
    /// Whether a capability, such as `IDER`, is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|have| have == name)
    }

    /// All that are there, by Intel's names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// Options of the next boot, as read from the device and changed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootSettingData {
    properties: Vec<(String, String)>,
    options_cleared: Option<bool>,
}

impl Instance for BootSettingData {
    const CLASS: Class = BOOT_SETTING_DATA;

    fn of(element: &Element) -> Result<Self, ReplyError> {
        let properties = element
            .children
            .iter()
            .filter(|property| !READ_ONLY.contains(&property.name.as_str()))
            .map(|property| (property.name.clone(), property.text.clone()));
        Ok(Self {
            properties: properties.collect(),
            options_cleared: element.boolean("OptionsCleared"),
        })
    }
}

impl BootSettingData {
    /// Whether the firmware says that options were used or cleared; `None` when it does not tell.
    #[must_use]
    pub fn options_cleared(&self) -> Option<bool> {
        self.options_cleared
    }

    /// The value of an option; `None` when this firmware does not have it.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.properties
            .iter()
            .find(|(have, _)| have == name)
            .map(|(_, value)| value.as_str())
    }

    /// Sets an option if this firmware has it; says whether it does.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        match self.properties.iter_mut().find(|(have, _)| have == name) {
            Some((_, old)) => {
                value.clone_into(old);
                true
            }
            None => false,
        }
    }

    /// Sets every option back to what a plain boot has. `EnforceSecureBoot` is a policy and stays.
    pub fn clear(&mut self) {
        for &(name, plain) in OPTIONS {
            self.set(name, plain);
        }
    }

    /// Whether nothing but a plain boot is asked for.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        OPTIONS
            .iter()
            .all(|&(name, plain)| self.option(name).is_none_or(|value| same(value, plain)))
    }

    /// The first option that is not as in `wanted`: name, value wanted, value found.
    #[must_use]
    pub fn first_difference(&self, wanted: &Self) -> Option<(&'static str, String, String)> {
        OPTIONS.iter().find_map(|&(name, _)| {
            let want = wanted.option(name)?;
            let found = self.option(name).unwrap_or_default();
            (!same(want, found)).then(|| (name, want.to_owned(), found.to_owned()))
        })
    }

    /// What to write back, in the order it was read.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn same(one: &str, other: &str) -> bool {
    let plain = |text: &str| match text {
        "1" => "true".to_owned(),
        "0" => "false".to_owned(),
        text => text.to_ascii_lowercase(),
    };
    plain(one) == plain(other)
}

/// Properties that only the device or the BIOS writes, and those that consoles known to work leave out.
const READ_ONLY: &[&str] = &[
    "BIOSLastStatus",
    "BootguardStatus",
    "OptionsCleared",
    "RPEEnabled",
    "RSEPassword",
    "SecureBootControlEnabled",
    "UEFIHTTPSBootEnabled",
    "UEFILocalPBABootEnabled",
    "UefiBootNumberOfParams",
    "UefiBootParametersArray",
    "WinREBootEnabled",
];

/// The options, and what a plain boot has.
const OPTIONS: &[(&str, &str)] = &[
    ("BIOSPause", "false"),
    ("BIOSSetup", "false"),
    ("BootMediaIndex", "0"),
    ("ConfigurationDataReset", "false"),
    ("FirmwareVerbosity", "0"),
    ("ForcedProgressEvents", "false"),
    ("IDERBootDevice", "0"),
    ("LockKeyboard", "false"),
    ("LockPowerButton", "false"),
    ("LockResetButton", "false"),
    ("LockSleepButton", "false"),
    ("PlatformErase", "false"),
    ("ReflashBIOS", "false"),
    ("SecureErase", "false"),
    ("UseIDER", "false"),
    ("UseSafeMode", "false"),
    ("UseSOL", "false"),
    ("UserPasswordBypass", "false"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> BootSettingData {
        let element = Element {
            children: pairs
                .iter()
                .map(|(name, text)| Element {
                    name: (*name).into(),
                    text: (*text).into(),
                    ..Element::default()
                })
                .collect(),
            ..Element::default()
        };
        BootSettingData::of(&element).unwrap()
    }

    #[test]
    fn what_the_device_alone_writes_is_not_sent_back() {
        let settings = settings(&[
            ("BIOSLastStatus", "0"),
            ("BIOSLastStatus", "0"),
            ("BIOSPause", "false"),
            ("ElementName", "Intel(r) AMT Boot Configuration Settings"),
            ("OptionsCleared", "true"),
            ("UEFIHTTPSBootEnabled", "true"),
            ("UseIDER", "false"),
        ]);
        let names: Vec<&str> = settings.properties().map(|(name, _)| name).collect();
        assert_eq!(names, ["BIOSPause", "ElementName", "UseIDER"]);
        assert_eq!(settings.options_cleared(), Some(true));
    }

    #[test]
    fn options_that_the_firmware_lacks_are_never_added() {
        let mut settings = settings(&[("UseIDER", "false"), ("EnforceSecureBoot", "true")]);
        assert!(!settings.set("PlatformErase", "false"));
        assert!(settings.set("UseIDER", "true"));
        assert!(!settings.is_clear());
        settings.clear();
        assert!(settings.is_clear());
        let all: Vec<_> = settings.properties().collect();
        assert_eq!(all, [("UseIDER", "false"), ("EnforceSecureBoot", "true")]);
    }

    #[test]
    fn both_spellings_of_a_truth_value_compare_equal() {
        let wanted = settings(&[("UseIDER", "true"), ("IDERBootDevice", "1")]);
        assert_eq!(
            settings(&[("UseIDER", "1"), ("IDERBootDevice", "1")]).first_difference(&wanted),
            None
        );
        assert_eq!(
            settings(&[("UseIDER", "false"), ("IDERBootDevice", "1")]).first_difference(&wanted),
            Some(("UseIDER", "true".into(), "false".into()))
        );
    }
}
