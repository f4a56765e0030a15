//! What is in the PC. Every property is optional: the BIOS gathers them at boot, makers leave some out.

use ct_codecs::{Decoder, Hex};
use serde::Serialize;

use crate::reply::Element;

/// Maker, model and numbers of the PC or its board.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Product {
    /// Maker.
    pub manufacturer: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial_number: Option<String>,
    /// Version.
    pub version: Option<String>,
}

impl Product {
    /// From `CIM_Chassis` or `CIM_Card`.
    #[must_use]
    pub fn of(element: &Element) -> Self {
        Self {
            manufacturer: text(element, "Manufacturer"),
            model: text(element, "Model"),
            serial_number: text(element, "SerialNumber"),
            version: text(element, "Version"),
        }
    }
}

/// The BIOS.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Bios {
    /// Maker.
    pub manufacturer: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Date of release, as told: RFC 3339 in general.
    pub release_date: Option<String>,
}

impl Bios {
    /// From `CIM_BIOSElement`.
    #[must_use]
    pub fn of(element: &Element) -> Self {
        let date = element.child("ReleaseDate");
        Self {
            manufacturer: text(element, "Manufacturer"),
            version: text(element, "Version"),
            release_date: date.and_then(|date| text(date, "Datetime")),
        }
    }
}

/// A processor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Processor {
    /// Name, such as the brand string.
    pub name: Option<String>,
    /// Clock, in MHz.
    pub clock_mhz: Option<u32>,
    /// Enabled cores, where the firmware tells.
    pub cores: Option<u32>,
}

impl Processor {
    /// From `CIM_Processor` and the chip of the same number.
    #[must_use]
    pub fn of(element: &Element, chip: Option<&Element>) -> Self {
        Self {
            name: chip.and_then(|chip| text(chip, "Version")),
            clock_mhz: element.number("CurrentClockSpeed"),
            cores: element.number("NumberOfEnabledCores"),
        }
    }
}

/// A memory module.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct MemoryModule {
    /// Where it sits.
    pub bank: Option<String>,
    /// Size, in bytes.
    pub bytes: Option<u64>,
    /// Kind, such as `DDR4`.
    pub kind: Option<&'static str>,
    /// Clock, in MHz.
    pub clock_mhz: Option<u32>,
    /// Maker, often as a JEDEC number.
    pub manufacturer: Option<String>,
    /// Part number.
    pub part_number: Option<String>,
    /// Serial number.
    pub serial_number: Option<String>,
}

impl MemoryModule {
    /// From `CIM_PhysicalMemory`.
    #[must_use]
    pub fn of(element: &Element) -> Self {
        Self {
            bank: text(element, "BankLabel"),
            bytes: element.number("Capacity"),
            kind: element.number("MemoryType").and_then(memory_type),
            clock_mhz: element.number("ConfiguredMemoryClockSpeed"),
            manufacturer: text(element, "Manufacturer"),
            part_number: text(element, "PartNumber"),
            serial_number: text(element, "SerialNumber"),
        }
    }
}

/// SMBIOS memory types, as Intel numbers them here.
fn memory_type(code: u32) -> Option<&'static str> {
    Some(match code {
        20 => "DDR",
        21 => "DDR2",
        24 => "DDR3",
        26 => "DDR4",
        27 => "LPDDR",
        28 => "LPDDR2",
        29 => "LPDDR3",
        30 => "LPDDR4",
        34 => "DDR5",
        35 => "LPDDR5",
        _ => return None,
    })
}

/// A disk or drive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Disk {
    /// The firmware's name for it.
    pub id: Option<String>,
    /// Size, in bytes.
    pub bytes: Option<u64>,
}

impl Disk {
    /// From `CIM_MediaAccessDevice`, which counts in units of 1,000 bytes.
    #[must_use]
    pub fn of(element: &Element) -> Self {
        let kilobytes: Option<u64> = element.number("MaxMediaSize");
        Self {
            id: text(element, "DeviceID"),
            bytes: kilobytes.and_then(|kilobytes| kilobytes.checked_mul(1000)),
        }
    }
}

/// A part of AMT's firmware and its version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct FirmwarePart {
    /// Name, such as `AMT` or `Sku`.
    pub name: String,
    /// Version or value.
    pub version: String,
}

impl FirmwarePart {
    /// From `CIM_SoftwareIdentity`; `None` when either half is missing.
    #[must_use]
    pub fn of(element: &Element) -> Option<Self> {
        Some(Self {
            name: text(element, "InstanceID")?,
            version: text(element, "VersionString")?,
        })
    }
}

/// A network port as AMT uses it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct NetworkPort {
    /// Wireless, where the firmware tells.
    pub wireless: Option<bool>,
    /// MAC address, with dashes.
    pub mac: Option<String>,
    /// Has a link.
    pub link: Option<bool>,
    /// Address from DHCP.
    pub dhcp: Option<bool>,
    /// Address; missing while there is none.
    pub address: Option<String>,
    /// Subnet mask.
    pub mask: Option<String>,
    /// Default gateway.
    pub gateway: Option<String>,
}

impl NetworkPort {
    /// From `AMT_EthernetPortSettings`.
    #[must_use]
    pub fn of(element: &Element) -> Self {
        let second = text(element, "InstanceID").map(|id| id.ends_with("Ethernet Port Settings 1"));
        Self {
            wireless: element
                .number::<u32>("PhysicalConnectionType")
                .map(|kind| kind == 3)
                .or(second),
            mac: text(element, "MACAddress"),
            link: element.boolean("LinkIsUp"),
            dhcp: element.boolean("DHCPEnabled"),
            address: text(element, "IPAddress"),
            mask: text(element, "SubnetMask"),
            gateway: text(element, "DefaultGateway"),
        }
    }
}

/// The SMBIOS UUID as operating systems print it: the first three fields are little-endian in what AMT tells.
#[must_use]
pub fn uuid_of(platform_guid: &str) -> Option<String> {
    let mut raw = [0; 16];
    // A text of another length is no UUID.
    let bytes = Hex::decode(&mut raw, platform_guid, None).ok()?;
    let &[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes else {
        return None;
    };
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    Some(format!(
        "{}-{}-{}-{}-{}",
        hex(&[d, c, b, a]),
        hex(&[f, e]),
        hex(&[h, g]),
        hex(&[i, j]),
        hex(&[k, l, m, n, o, p])
    ))
}

fn text(element: &Element, name: &str) -> Option<String> {
    element.text(name).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_is_told_as_operating_systems_do() {
        assert_eq!(
            uuid_of("13AEE355D2BFBB6117A088AEDD7037EA").as_deref(),
            Some("55e3ae13-bfd2-61bb-17a0-88aedd7037ea")
        );
        for other in [
            "",
            "13AEE355",
            "13AEE355D2BFBB6117A088AEDD7037EA00",
            "xyAEE355D2BFBB6117A088AEDD7037EA",
        ] {
            assert_eq!(uuid_of(other), None, "{other}");
        }
    }

    #[test]
    fn nothing_at_all_is_inventory_too() {
        let none = Element::default();
        assert_eq!(Product::of(&none), Product::default());
        assert_eq!(Bios::of(&none), Bios::default());
        assert_eq!(Processor::of(&none, None), Processor::default());
        assert_eq!(MemoryModule::of(&none), MemoryModule::default());
        assert_eq!(Disk::of(&none), Disk::default());
        assert_eq!(FirmwarePart::of(&none), None);
        assert_eq!(NetworkPort::of(&none), NetworkPort::default());
    }

    #[test]
    fn disk_sizes_do_not_overflow() {
        let disk = |size: &str| {
            Disk::of(&Element {
                children: vec![Element {
                    name: "MaxMediaSize".into(),
                    text: size.into(),
                    ..Element::default()
                }],
                ..Element::default()
            })
        };
        assert_eq!(disk("960197124").bytes, Some(960_197_124_000));
        assert_eq!(disk("18446744073709551615").bytes, None);
    }
}
