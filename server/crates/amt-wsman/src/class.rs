//! The classes that are used, by name, and the ones that have a type of their own.
//!
//! A typed class holds what its users need; whoever writes an instance back keeps the element it was read from, because
//! firmware wants to get what it gave.

use crate::names::Class;
use crate::reply::{Element, ReplyError};
use crate::request::Reference;

pub mod boot;
pub mod consent;
pub mod inventory;
pub mod power;
pub mod redirection;
pub mod setup;

/// A class with a type of its own, readable without selectors.
pub trait Instance: Sized {
    /// The class.
    const CLASS: Class;

    /// Reads an instance.
    ///
    /// # Errors
    ///
    /// When a property that cannot be done without is missing or malformed.
    fn of(element: &Element) -> Result<Self, ReplyError>;
}

/// Names and switches of the device.
pub const GENERAL_SETTINGS: Class = Class::new("AMT_GeneralSettings");
/// Control mode and provisioning.
pub const SETUP_AND_CONFIGURATION: Class = Class::new("AMT_SetupAndConfigurationService");
/// Storage redirection and serial over LAN, on and off.
pub const REDIRECTION_SERVICE: Class = Class::new("AMT_RedirectionService");
/// What can be booted.
pub const BOOT_CAPABILITIES: Class = Class::new("AMT_BootCapabilities");
/// Options of the next boot.
pub const BOOT_SETTING_DATA: Class = Class::new("AMT_BootSettingData");
/// Which source the next boot is from.
pub const BOOT_CONFIG_SETTING: Class = Class::new("CIM_BootConfigSetting");
/// Whether the boot configuration counts.
pub const BOOT_SERVICE: Class = Class::new("CIM_BootService");
/// The sources there are.
pub const BOOT_SOURCE_SETTING: Class = Class::new("CIM_BootSourceSetting");
/// Consent of the user at the PC.
pub const OPT_IN_SERVICE: Class = Class::new("IPS_OptInService");
/// Power actions.
pub const POWER_MANAGEMENT_SERVICE: Class = Class::new("CIM_PowerManagementService");
/// Power state.
pub const ASSOCIATED_POWER: Class = Class::new("CIM_AssociatedPowerManagementService");
/// Modern standby.
pub const OS_POWER_SAVING: Class = Class::new("IPS_PowerManagementService");
/// KVM, on and off.
pub const KVM_REDIRECTION_SAP: Class = Class::new("CIM_KVMRedirectionSAP");
/// The PC or the management engine.
pub const COMPUTER_SYSTEM: Class = Class::new("CIM_ComputerSystem");
/// SMBIOS UUID.
pub const COMPUTER_SYSTEM_PACKAGE: Class = Class::new("CIM_ComputerSystemPackage");
/// Maker, model, serial number.
pub const CHASSIS: Class = Class::new("CIM_Chassis");
/// Mainboard.
pub const CARD: Class = Class::new("CIM_Card");
/// BIOS.
pub const BIOS_ELEMENT: Class = Class::new("CIM_BIOSElement");
/// Processors, by number.
pub const PROCESSOR: Class = Class::new("CIM_Processor");
/// Processors, by name.
pub const CHIP: Class = Class::new("CIM_Chip");
/// Memory modules.
pub const PHYSICAL_MEMORY: Class = Class::new("CIM_PhysicalMemory");
/// Disks.
pub const MEDIA_ACCESS_DEVICE: Class = Class::new("CIM_MediaAccessDevice");
/// Versions of the firmware's parts.
pub const SOFTWARE_IDENTITY: Class = Class::new("CIM_SoftwareIdentity");
/// Network ports.
pub const ETHERNET_PORT_SETTINGS: Class = Class::new("AMT_EthernetPortSettings");

/// The one boot configuration that AMT has.
pub const BOOT_CONFIGURATION: Reference<'static> = Reference {
    class: BOOT_CONFIG_SETTING,
    selectors: &[("InstanceID", "Intel(r) AMT: Boot Configuration 0")],
};

/// The PC, as against the management engine in it.
pub const MANAGED_SYSTEM: Reference<'static> = Reference {
    class: COMPUTER_SYSTEM,
    selectors: &[
        ("CreationClassName", "CIM_ComputerSystem"),
        ("Name", "ManagedSystem"),
    ],
};
