//! Which classes exist: keys, what they may be enumerated as, who may read and change them, what can be called.

use crate::firmware::Realm::{
    self, Acl, EventLogReader, EventManager, GeneralInfo, HardwareAsset, NetworkTime,
    PtAdministration, Redirection, RemoteControl,
};

/// One row of the table.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) name: &'static str,
    /// The properties that a selector may name.
    pub(super) keys: &'static [&'static str],
    /// Enumerating one of these yields this class too.
    pub(super) bases: &'static [&'static str],
    /// An account with one of these realms may read it.
    pub(super) realms: &'static [Realm],
    pub(super) put: Put,
    pub(super) methods: &'static [&'static str],
    /// Get without selectors gives the first of several instances.
    pub(super) first: bool,
}

/// What Put does.
#[derive(Debug)]
pub(super) enum Put {
    Never,
    /// Keeps the new values of these properties; others have to stay as they are or be absent.
    Keep(&'static [&'static str]),
    /// Means something: see `put`.
    BootSettings,
    RedirectionService,
    OptInService,
}

const SERVICE: &[&str] = &[
    "CreationClassName",
    "Name",
    "SystemCreationClassName",
    "SystemName",
];
const DEVICE: &[&str] = &[
    "CreationClassName",
    "DeviceID",
    "SystemCreationClassName",
    "SystemName",
];
const PACKAGE: &[&str] = &["CreationClassName", "Tag"];
const SETTING: &[&str] = &["InstanceID"];

const ASSET: &[Realm] = &[HardwareAsset];
const GENERAL: &[Realm] = &[GeneralInfo];
const REMOTE: &[Realm] = &[RemoteControl, Redirection];

const fn class(
    name: &'static str,
    keys: &'static [&'static str],
    bases: &'static [&'static str],
    realms: &'static [Realm],
    put: Put,
    methods: &'static [&'static str],
) -> Class {
    Class {
        name,
        keys,
        bases,
        realms,
        put,
        methods,
        first: false,
    }
}

/// All classes. Consoles read general information without thinking of realms, so those that a redirection user needs
/// to see are open to it: which realm opens which class is published for a few classes only.
pub(super) const CLASSES: &[Class] = &[
    class(
        "AMT_GeneralSettings",
        SETTING,
        &["CIM_SettingData"],
        &[GeneralInfo, RemoteControl, Redirection, HardwareAsset],
        Put::Keep(&[
            "AMTNetworkEnabled",
            "DDNSPeriodicUpdateInterval",
            "DDNSTTL",
            "DDNSUpdateByDHCPServerEnabled",
            "DDNSUpdateEnabled",
            "DHCPSyncRequiresHostname",
            "DomainName",
            "HostName",
            "HostOSFQDN",
            "IdleWakeTimeout",
            "PingResponseEnabled",
            "PreferredAddressFamily",
            "PresenceNotificationInterval",
            "PrivacyLevel",
            "RmcpPingResponseEnabled",
            "SharedFQDN",
            "ThunderboltDockEnabled",
            "WsmanOnlyMode",
        ]),
        &[],
    ),
    class(
        "AMT_SetupAndConfigurationService",
        SERVICE,
        &["CIM_Service"],
        &[GeneralInfo, RemoteControl, Redirection],
        Put::Never,
        &["GetUuid", "CommitChanges"],
    ),
    class(
        "IPS_HostBasedSetupService",
        SERVICE,
        &["CIM_Service"],
        &[GeneralInfo, RemoteControl, Redirection],
        Put::Never,
        &[],
    ),
    class(
        "AMT_AuthorizationService",
        SERVICE,
        &["CIM_Service", "CIM_AuthorizationService"],
        &[Acl, PtAdministration],
        Put::Never,
        &[
            "AddUserAclEntryEx",
            "EnumerateUserAclEntries",
            "GetUserAclEntryEx",
            "UpdateUserAclEntryEx",
            "RemoveUserAclEntry",
            "GetAclEnabledState",
            "SetAclEnabledState",
            "GetAdminAclEntry",
            "GetAdminAclEntryStatus",
        ],
    ),
    class(
        "AMT_TimeSynchronizationService",
        SERVICE,
        &["CIM_Service"],
        &[GeneralInfo, NetworkTime],
        Put::Never,
        &["GetLowAccuracyTimeSynch"],
    ),
    class(
        "AMT_MessageLog",
        &["CreationClassName", "Name"],
        &["CIM_MessageLog"],
        &[EventLogReader, EventManager],
        Put::Never,
        &[
            "PositionToFirstRecord",
            "GetRecords",
            "ClearLog",
            "FreezeLog",
        ],
    ),
    class(
        "AMT_EthernetPortSettings",
        SETTING,
        &["CIM_SettingData"],
        GENERAL,
        Put::Keep(&[
            "DHCPEnabled",
            "DefaultGateway",
            "IPAddress",
            "IpSyncEnabled",
            "LinkPolicy",
            "PrimaryDNS",
            "SecondaryDNS",
            "SharedStaticIp",
            "SubnetMask",
        ]),
        &[],
    ),
    class(
        "IPS_HostIPSettings",
        SETTING,
        &["CIM_SettingData"],
        GENERAL,
        Put::Never,
        &[],
    ),
    class(
        "AMT_TLSSettingData",
        SETTING,
        &["CIM_SettingData"],
        GENERAL,
        Put::Never,
        &[],
    ),
    class(
        "AMT_RedirectionService",
        SERVICE,
        &["CIM_Service", "CIM_RedirectionService"],
        REMOTE,
        Put::RedirectionService,
        &["RequestStateChange", "TerminateSession"],
    ),
    class(
        "CIM_KVMRedirectionSAP",
        SERVICE,
        &["CIM_ServiceAccessPoint"],
        REMOTE,
        Put::Never,
        &["RequestStateChange"],
    ),
    class(
        "IPS_KVMRedirectionSettingData",
        SETTING,
        &["CIM_SettingData"],
        REMOTE,
        Put::Keep(&[
            "BackToBackFbMode",
            "DefaultScreen",
            "Is5900PortEnabled",
            "OptInPolicy",
            "OptInPolicyTimeout",
            "RFBPassword",
            "SessionTimeout",
        ]),
        &[],
    ),
    class(
        "IPS_OptInService",
        SERVICE,
        &["CIM_Service"],
        REMOTE,
        Put::OptInService,
        &["StartOptIn", "SendOptInCode", "CancelOptIn"],
    ),
    class(
        "CIM_BootSourceSetting",
        SETTING,
        &["CIM_SettingData"],
        REMOTE,
        Put::Never,
        &[],
    ),
    class(
        "CIM_BootConfigSetting",
        SETTING,
        &["CIM_SettingData"],
        REMOTE,
        Put::Never,
        &["ChangeBootOrder"],
    ),
    class(
        "CIM_BootService",
        SERVICE,
        &["CIM_Service"],
        REMOTE,
        Put::Never,
        &["SetBootConfigRole", "RequestStateChange"],
    ),
    class(
        "AMT_BootSettingData",
        SETTING,
        &["CIM_SettingData", "CIM_BootSettingData"],
        REMOTE,
        Put::BootSettings,
        &[],
    ),
    class(
        "AMT_BootCapabilities",
        SETTING,
        &["CIM_BootCapabilities"],
        REMOTE,
        Put::Never,
        &[],
    ),
    class(
        "CIM_PowerManagementService",
        SERVICE,
        &["CIM_Service"],
        &[RemoteControl],
        Put::Never,
        &["RequestPowerStateChange"],
    ),
    class(
        "IPS_PowerManagementService",
        SERVICE,
        &["CIM_Service", "CIM_PowerManagementService"],
        &[RemoteControl],
        Put::Never,
        &["RequestOSPowerSavingStateChange"],
    ),
    class(
        "CIM_AssociatedPowerManagementService",
        &["ServiceProvided", "UserOfService"],
        &["CIM_ServiceAvailableToElement"],
        &[GeneralInfo, RemoteControl, Redirection, HardwareAsset],
        Put::Never,
        &[],
    ),
    Class {
        first: true,
        ..class(
            "CIM_ComputerSystem",
            &["CreationClassName", "Name"],
            &["CIM_System"],
            ASSET,
            Put::Never,
            &[],
        )
    },
    class(
        "CIM_ComputerSystemPackage",
        &["Antecedent", "Dependent"],
        &[],
        ASSET,
        Put::Never,
        &[],
    ),
    class(
        "CIM_Chassis",
        PACKAGE,
        &["CIM_PhysicalPackage", "CIM_PhysicalElement"],
        ASSET,
        Put::Never,
        &[],
    ),
    class(
        "CIM_Card",
        PACKAGE,
        &["CIM_PhysicalPackage", "CIM_PhysicalElement"],
        ASSET,
        Put::Never,
        &[],
    ),
    class(
        "CIM_BIOSElement",
        &[
            "Name",
            "SoftwareElementID",
            "SoftwareElementState",
            "TargetOperatingSystem",
            "Version",
        ],
        &["CIM_SoftwareElement"],
        ASSET,
        Put::Never,
        &[],
    ),
    Class {
        first: true,
        ..class(
            "CIM_Processor",
            DEVICE,
            &["CIM_LogicalDevice"],
            ASSET,
            Put::Never,
            &[],
        )
    },
    Class {
        first: true,
        ..class(
            "CIM_Chip",
            PACKAGE,
            &["CIM_PhysicalElement"],
            ASSET,
            Put::Never,
            &[],
        )
    },
    class(
        "CIM_PhysicalMemory",
        PACKAGE,
        &["CIM_Chip", "CIM_PhysicalElement"],
        ASSET,
        Put::Never,
        &[],
    ),
    class(
        "CIM_MediaAccessDevice",
        DEVICE,
        &["CIM_LogicalDevice"],
        ASSET,
        Put::Never,
        &[],
    ),
    class(
        "CIM_SoftwareIdentity",
        SETTING,
        &[],
        &[GeneralInfo, HardwareAsset],
        Put::Never,
        &[],
    ),
];

/// The row of a class.
pub(super) fn find(name: &str) -> Option<&'static Class> {
    CLASSES.iter().find(|class| class.name == name)
}

/// What enumerating `name` yields, in the table's order after the class itself; empty for an unknown name.
pub(super) fn kinds_of(name: &str) -> Vec<&'static Class> {
    let own = CLASSES.iter().filter(|class| class.name == name);
    own.chain(CLASSES.iter().filter(|class| class.bases.contains(&name)))
        .collect()
}

/// The resource URI of a class, which is also the namespace of its elements.
pub(super) fn uri(class: &str) -> String {
    match class.split_once('_') {
        Some(("AMT", _)) => format!("http://intel.com/wbem/wscim/1/amt-schema/1/{class}"),
        Some(("IPS", _)) => format!("http://intel.com/wbem/wscim/1/ips-schema/1/{class}"),
        _ => format!("http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/{class}"),
    }
}

/// The name in a resource URI, if it is spelled as [`uri`] spells it.
pub(super) fn name_in(resource: &str) -> Option<&str> {
    let name = resource.rsplit('/').next()?;
    (uri(name) == resource).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_class_opens_to_someone() {
        for (index, class) in CLASSES.iter().enumerate() {
            assert!(
                CLASSES
                    .iter()
                    .skip(index + 1)
                    .all(|other| other.name != class.name),
                "{}",
                class.name
            );
            assert!(!class.realms.is_empty(), "{}", class.name);
        }
    }

    #[test]
    fn uris_go_both_ways_and_wrong_schemas_are_not_accepted() {
        for class in CLASSES {
            assert_eq!(name_in(&uri(class.name)), Some(class.name));
        }
        assert_eq!(
            name_in("http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/AMT_GeneralSettings"),
            None
        );
        assert_eq!(name_in("AMT_GeneralSettings"), None);
    }

    #[test]
    fn memory_modules_are_chips_too() {
        let names: Vec<_> = kinds_of("CIM_Chip")
            .iter()
            .map(|class| class.name)
            .collect();
        assert_eq!(names, ["CIM_Chip", "CIM_PhysicalMemory"]);
        assert!(kinds_of("CIM_Nothing").is_empty());
    }
}
