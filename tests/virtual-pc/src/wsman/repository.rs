//! What the instances of the classes contain: the data file, the firmware's state over it, the configuration's
//! overrides over that, and what Put has kept on top.

use std::collections::BTreeMap;

use super::classes::{self, Class};
use super::value::{Properties, Reference, Value};
use crate::firmware::{BOOT_FLAGS, BootSource, Firmware, MAX_RECORDS, hex};

/// The instances of the default machine.
const DATA: &str = include_str!("../../data/nuc9.toml");

/// What is wrong with the data or with the configuration's overrides.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Not TOML.
    #[error("class data is not TOML")]
    Syntax(#[from] toml::de::Error),
    /// A class that does not exist.
    #[error("no class {0}")]
    UnknownClass(String),
    /// Something else than a table of properties, or an array of them.
    #[error("{class}: {what} expected")]
    Shape {
        /// In which class.
        class: String,
        /// What should stand there.
        what: &'static str,
    },
}

/// One instance.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) class: &'static Class,
    /// Its place among the instances of its class.
    pub(super) index: usize,
    pub(super) properties: Properties,
}

impl Instance {
    /// Whether it is the one that the selectors mean.
    pub(super) fn matches(&self, selectors: &[(String, String)]) -> bool {
        selectors
            .iter()
            .all(|(key, wanted)| match self.properties.get(key) {
                // References as selectors: the class is single, and their text form is nobody's.
                Some(Value::Reference(_)) => true,
                Some(value) => value.as_text() == *wanted,
                None => false,
            })
    }

    /// A reference to it.
    pub(super) fn reference(&self) -> Reference {
        let text = |key: &&str| {
            self.properties
                .get(*key)
                .map(|value| ((*key).to_owned(), value.as_text()))
        };
        Reference {
            class: self.class.name.into(),
            selectors: self.class.keys.iter().filter_map(text).collect(),
        }
    }
}

type Tables = BTreeMap<&'static str, Vec<Properties>>;

/// All instances.
#[derive(Debug)]
pub(super) struct Repository {
    data: Tables,
    overrides: Tables,
    /// Properties that overrides take away, by class and place.
    absent: BTreeMap<(&'static str, usize), Vec<String>>,
    kept: BTreeMap<(&'static str, usize), Properties>,
}

/// In an override: names of properties that this machine does not have.
const ABSENT: &str = "absent";

impl Repository {
    /// The default machine with a configuration's changes: for each class a table, or an array of tables in the order
    /// of the instances; further tables are further instances.
    pub(super) fn new(overrides: &toml::Table) -> Result<Self, DataError> {
        let data: toml::Table = DATA.parse()?;
        let mut absent = BTreeMap::new();
        let data = tables(&data, &mut absent)?;
        let overrides = tables(overrides, &mut absent)?;
        Ok(Self {
            data,
            overrides,
            absent,
            kept: BTreeMap::new(),
        })
    }

    /// The instances of one class, as they are now.
    pub(super) fn instances(&self, class: &'static Class, firmware: &Firmware) -> Vec<Instance> {
        let own = self
            .data
            .get(class.name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let over = self
            .overrides
            .get(class.name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut instances = Vec::new();
        for index in 0..own.len().max(over.len()) {
            let mut properties = own.get(index).cloned().unwrap_or_default();
            if !live(firmware, class.name, &mut properties) {
                continue;
            }
            properties.extend(over.get(index).cloned().unwrap_or_default());
            properties.extend(
                self.kept
                    .get(&(class.name, index))
                    .cloned()
                    .unwrap_or_default(),
            );
            for name in self.absent.get(&(class.name, index)).into_iter().flatten() {
                properties.remove(name);
            }
            instances.push(Instance {
                class,
                index,
                properties,
            });
        }
        instances
    }

    /// Keeps what a Put has changed.
    pub(super) fn keep(&mut self, instance: &Instance, properties: Properties) {
        self.kept
            .entry((instance.class.name, instance.index))
            .or_default()
            .extend(properties);
    }
}

fn tables(
    source: &toml::Table,
    absent: &mut BTreeMap<(&'static str, usize), Vec<String>>,
) -> Result<Tables, DataError> {
    let mut tables = Tables::new();
    for (name, value) in source {
        let class = classes::find(name)
            .ok_or_else(|| DataError::UnknownClass(name.clone()))?
            .name;
        let shape = |what| DataError::Shape {
            class: name.clone(),
            what,
        };
        let single = std::slice::from_ref(value);
        let instances = value.as_array().map_or(single, Vec::as_slice);
        for (index, instance) in instances.iter().enumerate() {
            let instance = instance
                .as_table()
                .ok_or_else(|| shape("a table of properties"))?;
            let mut properties = Properties::new();
            for (property, value) in instance {
                if property == ABSENT {
                    let names = value.as_array().ok_or_else(|| shape("an array of names"))?;
                    let names = names
                        .iter()
                        .filter_map(|name| name.as_str().map(Into::into))
                        .collect();
                    absent.insert((class, index), names);
                    continue;
                }
                properties.insert(
                    property.clone(),
                    value_of(value).ok_or_else(|| shape("text, number, boolean or reference"))?,
                );
            }
            tables.entry(class).or_default().push(properties);
        }
    }
    Ok(tables)
}

fn value_of(value: &toml::Value) -> Option<Value> {
    match value {
        toml::Value::String(text) => Some(Value::Text(text.clone())),
        toml::Value::Integer(number) => Some(Value::Int(*number)),
        toml::Value::Boolean(value) => Some(Value::Bool(*value)),
        toml::Value::Array(values) => values
            .iter()
            .map(value_of)
            .collect::<Option<_>>()
            .map(Value::List),
        toml::Value::Table(table) => {
            let text = |key| table.get(key).and_then(toml::Value::as_str);
            if let Some(text) = text("datetime") {
                return Some(Value::DateTime(text.into()));
            }
            let selectors = table.get("selectors")?.as_table()?;
            let selectors = selectors
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
            Some(Value::Reference(Reference {
                class: text("class")?.into(),
                selectors: selectors.collect(),
            }))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) => None,
    }
}

/// Puts the firmware's state over an instance; `false` when the instance does not exist on this machine.
fn live(firmware: &Firmware, class: &str, properties: &mut Properties) -> bool {
    let config = firmware.config();
    let profile = firmware.profile();
    let mut set = |name: &str, value: Value| drop(properties.insert(name.into(), value));
    match class {
        "AMT_GeneralSettings" => {
            set("DigestRealm", firmware.digest_realm().into());
            set("DomainName", config.domain_name.as_str().into());
            set("HostName", config.host_name.as_str().into());
        }
        "AMT_SetupAndConfigurationService" => set(
            "ProvisioningMode",
            config.control_mode.provisioning_mode().into(),
        ),
        "IPS_HostBasedSetupService" => set("CurrentControlMode", config.control_mode.code().into()),
        "AMT_MessageLog" => {
            set(
                "CurrentNumberOfRecords",
                number(firmware.log_records().len()),
            );
            set("MaxNumberOfRecords", number(MAX_RECORDS));
            set("IsFrozen", firmware.log_frozen().into());
        }
        "AMT_RedirectionService" => {
            set("EnabledState", firmware.switches().enabled_state().into());
            set("ListenerEnabled", firmware.switches().listener.into());
        }
        "CIM_KVMRedirectionSAP" => set(
            "EnabledState",
            if firmware.switches().kvm { 2 } else { 3u32 }.into(),
        ),
        "IPS_KVMRedirectionSettingData" => {
            set("EnabledByMEBx", (!config.veto.kvm).into());
            set(
                "OptInPolicy",
                (firmware.consent_policy().code() != 0).into(),
            );
        }
        "IPS_OptInService" => {
            set(
                "CanModifyOptInPolicy",
                u32::from(config.consent_can_change).into(),
            );
            set("OptInCodeTimeout", seconds(firmware.consent_times().idle));
            set(
                "OptInDisplayTimeout",
                seconds(firmware.consent_times().display),
            );
            set("OptInRequired", firmware.consent_policy().code().into());
            set("OptInState", (firmware.consent_state() as u32).into());
        }
        "CIM_BootSourceSetting" => {
            let id = properties
                .get("InstanceID")
                .map(Value::as_text)
                .unwrap_or_default();
            return BootSource::from_instance_id(&id)
                .is_none_or(|source| config.capabilities.has(source.capability()));
        }
        "AMT_BootSettingData" => boot_setting_data(firmware, properties),
        "AMT_BootCapabilities" => {
            for name in BOOT_CAPABILITIES {
                set(name, config.capabilities.has(name).into());
            }
            set(
                "PlatformErase",
                u32::from(config.capabilities.has("PlatformErase")).into(),
            );
        }
        "CIM_AssociatedPowerManagementService" => {
            let states = firmware.available_power_states();
            set(
                "AvailableRequestedPowerStates",
                Value::List(states.into_iter().map(Value::from).collect()),
            );
            set("PowerState", firmware.power().code().into());
        }
        "CIM_ComputerSystemPackage" => set("PlatformGUID", hex(&config.uuid).to_uppercase().into()),
        "CIM_SoftwareIdentity" => {
            let build = profile.version[3].to_string();
            let version = match properties.get("InstanceID").map(Value::as_text).as_deref() {
                Some(
                    "AMT"
                    | "Flash"
                    | "Netstack"
                    | "AMTApps"
                    | "Recovery Version"
                    | "AMT FW Core Version",
                ) => profile.release(),
                Some("Build Number" | "Recovery Build Num") => build,
                _ => return true,
            };
            properties.insert("VersionString".into(), version.into());
        }
        _ => {}
    }
    true
}

fn boot_setting_data(firmware: &Firmware, properties: &mut Properties) {
    let settings = firmware.boot_settings();
    let secure_boot = firmware.profile().secure_boot_control;
    let mut set = |name: &str, value: Value| drop(properties.insert(name.into(), value));
    for row in BOOT_FLAGS.iter().filter(|row| row.required || secure_boot) {
        set(row.name, settings.flags.has(row.flag).into());
    }
    if secure_boot {
        set("SecureBootControlEnabled", true.into());
    } else {
        // Firmware of that age knows none of these.
        let newer = [
            "WinREBootEnabled",
            "UEFILocalPBABootEnabled",
            "UEFIHTTPSBootEnabled",
            "RPEEnabled",
        ];
        let more = ["RSEPassword", "UefiBootNumberOfParams", "BootguardStatus"];
        properties
            .retain(|name, _| !newer.contains(&name.as_str()) && !more.contains(&name.as_str()));
    }
    let mut set = |name: &str, value: Value| drop(properties.insert(name.into(), value));
    set("BootMediaIndex", u32::from(settings.media_index).into());
    set("FirmwareVerbosity", u32::from(settings.verbosity).into());
    set("IDERBootDevice", (settings.ider_device as u32).into());
    set("OptionsCleared", settings.options_cleared.into());
}

/// The booleans of `AMT_BootCapabilities`.
const BOOT_CAPABILITIES: [&str; 26] = [
    "AMTSecureBootControl",
    "BIOSPause",
    "BIOSReflash",
    "BIOSSecureBoot",
    "BIOSSetup",
    "ConfigurationDataReset",
    "ForceCDorDVDBoot",
    "ForceDiagnosticBoot",
    "ForceHardDriveBoot",
    "ForceHardDriveSafeModeBoot",
    "ForcePXEBoot",
    "ForceUEFIHTTPSBoot",
    "ForceUEFIPBABoot",
    "ForceWinREBoot",
    "ForcedProgressEvents",
    "IDER",
    "KeyboardLock",
    "PowerButtonLock",
    "ResetButtonLock",
    "SOL",
    "SecureErase",
    "SleepButtonLock",
    "UserPasswordBypass",
    "VerbosityQuiet",
    "VerbosityScreenBlank",
    "VerbosityVerbose",
];

fn number(count: usize) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

fn seconds(duration: std::time::Duration) -> Value {
    Value::Int(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::classes::CLASSES;
    use super::*;
    use crate::firmware::{Config, Epoch, Profile};

    fn firmware(profile: &str) -> Firmware {
        let config = Config::new(Profile::named(profile).unwrap(), "P@ssw0rd");
        Firmware::new(
            config,
            1,
            Epoch {
                instant: Instant::now(),
                unix: 0,
            },
        )
    }

    fn overrides(text: &str) -> Result<Repository, DataError> {
        Repository::new(&text.parse().unwrap())
    }

    #[test]
    fn every_class_has_an_instance_with_all_its_keys_on_every_profile() {
        for profile in crate::firmware::PROFILES {
            let firmware = firmware(profile.name);
            let repository = overrides("").unwrap();
            for class in CLASSES {
                let instances = repository.instances(class, &firmware);
                assert!(!instances.is_empty(), "{}", class.name);
                for instance in instances {
                    for key in class.keys {
                        assert!(
                            instance.properties.contains_key(*key),
                            "{} without {key}",
                            class.name
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn overrides_change_add_and_take_away() {
        let firmware = firmware("amt12-nuc");
        let repository = overrides(
            r#"
            [CIM_Chassis]
            SerialNumber = "X1"
            absent = ["Model"]
            [[CIM_MediaAccessDevice]]
            MaxMediaSize = 1
            [[CIM_MediaAccessDevice]]
            [[CIM_MediaAccessDevice]]
            DeviceID = "MEDIA DEV 2"
            "#,
        )
        .unwrap();
        let instances = |name| repository.instances(classes::find(name).unwrap(), &firmware);
        let chassis = &instances("CIM_Chassis")[0].properties;
        assert_eq!(chassis.get("SerialNumber"), Some(&Value::from("X1")));
        assert_eq!(chassis.get("Model"), None);
        assert!(chassis.contains_key("Manufacturer"));
        let media = instances("CIM_MediaAccessDevice");
        assert_eq!(media.len(), 3);
        assert_eq!(
            media[0].properties.get("MaxMediaSize"),
            Some(&Value::Int(1))
        );
        assert_eq!(media[2].properties.len(), 1);
    }

    #[test]
    fn overrides_that_mean_nothing_are_refused_by_name() {
        assert!(
            matches!(overrides("[CIM_Nothing]\nA = 1"), Err(DataError::UnknownClass(name)) if name == "CIM_Nothing")
        );
        assert!(matches!(
            overrides("CIM_Chassis = 1"),
            Err(DataError::Shape { .. })
        ));
        assert!(matches!(
            overrides("[CIM_Chassis]\nA = 1.5"),
            Err(DataError::Shape { .. })
        ));
    }

    #[test]
    fn old_firmware_has_no_secure_boot_control_to_offer() {
        let repository = overrides("").unwrap();
        let class = classes::find("AMT_BootSettingData").unwrap();
        let old = &repository.instances(class, &firmware("amt6"))[0].properties;
        assert!(
            !old.contains_key("EnforceSecureBoot") && !old.contains_key("UEFIHTTPSBootEnabled")
        );
        let new = &repository.instances(class, &firmware("amt12-nuc"))[0].properties;
        assert_eq!(new.get("EnforceSecureBoot"), Some(&Value::Bool(true)));
    }

    #[test]
    fn a_boot_source_that_the_machine_lacks_is_not_listed() {
        let mut config = Config::new(Profile::named("amt12-nuc").unwrap(), "x");
        config.capabilities = config.capabilities.without("ForcePXEBoot");
        let firmware = Firmware::new(
            config,
            1,
            Epoch {
                instant: Instant::now(),
                unix: 0,
            },
        );
        let sources = overrides("")
            .unwrap()
            .instances(classes::find("CIM_BootSourceSetting").unwrap(), &firmware);
        assert_eq!(sources.len(), 2);
    }
}
