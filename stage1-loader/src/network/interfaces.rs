//! Which network interfaces this PC has, as /sys/class/net tells it under a root that tests
//! choose; and, when it has none, which adapters no driver took.

use std::fs;
use std::path::Path;

/// A wired interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's name for it.
    pub name: String,
    /// The kernel's number for it.
    pub index: u32,
    /// Hardware address.
    pub mac: [u8; 6],
    /// Driver; none for a virtual interface.
    pub driver: Option<String>,
    /// A cable is plugged in and the other end is awake.
    pub carrier: bool,
    /// Mbit/s, once there is a link.
    pub speed: Option<u32>,
}

impl Interface {
    /// `eth0 e1000e 52:54:00:12:34:56`.
    pub fn describe(&self) -> String {
        match &self.driver {
            Some(driver) => format!("{} {driver} {}", self.name, mac_text(self.mac)),
            None => format!("{} {}", self.name, mac_text(self.mac)),
        }
    }

    /// `link 1000 Mbit/s`.
    pub fn describe_link(&self) -> String {
        match (self.carrier, self.speed) {
            (false, _) => "no link".to_owned(),
            (true, None) => "link".to_owned(),
            (true, Some(speed)) => format!("link {speed} Mbit/s"),
        }
    }
}

/// Six bytes in the usual writing.
pub fn mac_text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// ARPHRD_ETHER of include/uapi/linux/if_arp.h.
const ETHERNET: &str = "1";

/// Wired Ethernet interfaces on real hardware, by name. With `wanted`, a name or a hardware
/// address, only that one, be it real or virtual.
pub fn find(root: &Path, wanted: Option<&str>) -> Vec<Interface> {
    let Ok(entries) = fs::read_dir(root.join("sys/class/net")) else {
        return Vec::new();
    };
    let mut found: Vec<Interface> = entries
        .flatten()
        .filter_map(|entry| read(&entry.path(), wanted))
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The interface of that name, whatever it is.
pub fn by_name(root: &Path, name: &str) -> Option<Interface> {
    read(&root.join("sys/class/net").join(name), Some(name))
}

fn read(path: &Path, wanted: Option<&str>) -> Option<Interface> {
    let field = |name: &str| -> Option<String> {
        let text = fs::read_to_string(path.join(name)).ok()?;
        Some(text.trim().to_owned())
    };
    if field("type")? != ETHERNET {
        return None;
    }
    let name = path.file_name()?.to_str()?.to_owned();
    let mac = parse_mac(&field("address")?)?;
    match wanted {
        Some(wanted) => {
            if wanted != name && parse_mac(wanted) != Some(mac) {
                return None;
            }
        }
        None => {
            let wired = path.join("device").exists()
                && !path.join("wireless").exists()
                && !path.join("phy80211").exists();
            if !wired {
                return None;
            }
        }
    }
    let driver = fs::read_link(path.join("device/driver")).ok();
    Some(Interface {
        index: field("ifindex")?.parse().ok()?,
        mac,
        driver: driver.and_then(|link| Some(link.file_name()?.to_str()?.to_owned())),
        // While an interface is down, reading `carrier` is an error (EINVAL).
        carrier: field("carrier").is_some_and(|carrier| carrier == "1"),
        speed: field("speed").and_then(|speed| speed.parse().ok()),
        name,
    })
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// Ethernet controllers on PCI without a driver, as `0000:02:00.0 14e4:16a1`.
pub fn without_driver(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join("sys/bus/pci/devices")) else {
        return Vec::new();
    };
    let mut found: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let field = |name: &str| fs::read_to_string(path.join(name)).ok();
            // PCI base class 02 (network), sub-class 00 (Ethernet).
            if !field("class")?.starts_with("0x0200") || path.join("driver").exists() {
                return None;
            }
            let id = |name: &str| Some(field(name)?.trim().trim_start_matches("0x").to_owned());
            Some(format!(
                "{} {}:{}",
                entry.file_name().to_str()?,
                id("vendor")?,
                id("device")?
            ))
        })
        .collect();
    found.sort();
    found
}

/// Global IPv6 addresses that are ready for use, with the interface's name, from the text of
/// /proc/net/if_inet6: address, index, prefix length, scope, flags, name, all but the name in
/// hexadecimal.
pub fn global_ipv6(table: &str) -> Vec<(String, std::net::Ipv6Addr)> {
    const GLOBAL: u8 = 0;
    // IFA_F_TENTATIVE, IFA_F_DADFAILED, IFA_F_DEPRECATED of include/uapi/linux/if_addr.h.
    const NOT_READY: u32 = 0x40 | 0x08 | 0x20;
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let address = u128::from_str_radix(fields.next()?, 16).ok()?;
            let scope = u8::from_str_radix(fields.nth(2)?, 16).ok()?;
            let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
            let name = fields.next()?;
            (scope == GLOBAL && flags & NOT_READY == 0).then(|| (name.to_owned(), address.into()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Pc(tempfile::TempDir);

    impl Pc {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn root(&self) -> &Path {
            self.0.path()
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.root().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn interface(&self, name: &str, index: u32, driver: Option<&str>) {
            let dir = format!("sys/class/net/{name}");
            self.write(&format!("{dir}/type"), "1\n");
            self.write(&format!("{dir}/ifindex"), &format!("{index}\n"));
            self.write(
                &format!("{dir}/address"),
                &format!("52:54:00:00:00:{index:02x}\n"),
            );
            if let Some(driver) = driver {
                let driver_dir = self.root().join("sys/bus/pci/drivers").join(driver);
                fs::create_dir_all(&driver_dir).unwrap();
                fs::create_dir_all(self.root().join(&dir).join("device")).unwrap();
                symlink(driver_dir, self.root().join(&dir).join("device/driver")).unwrap();
            }
        }
    }

    fn names(found: &[Interface]) -> Vec<&str> {
        found
            .iter()
            .map(|interface| interface.name.as_str())
            .collect()
    }

    #[test]
    fn only_wired_hardware_is_used_by_itself() {
        let pc = Pc::new();
        pc.interface("eth1", 3, Some("igc"));
        pc.interface("eth0", 2, Some("e1000e"));
        pc.interface("wlan0", 4, Some("iwlwifi"));
        fs::create_dir(pc.root().join("sys/class/net/wlan0/wireless")).unwrap();
        pc.interface("dummy0", 5, None);
        pc.write("sys/class/net/lo/type", "772\n");
        pc.write("sys/class/net/lo/address", "00:00:00:00:00:00\n");
        pc.write("sys/class/net/lo/ifindex", "1\n");
        let found = find(pc.root(), None);
        assert_eq!(names(&found), ["eth0", "eth1"]);
        assert_eq!(found[0].describe(), "eth0 e1000e 52:54:00:00:00:02");
    }

    #[test]
    fn a_configured_interface_is_found_by_name_and_by_hardware_address() {
        let pc = Pc::new();
        pc.interface("eth0", 2, Some("e1000e"));
        pc.interface("dummy0", 5, None);
        assert_eq!(names(&find(pc.root(), Some("dummy0"))), ["dummy0"]);
        assert_eq!(names(&find(pc.root(), Some("52:54:00:00:00:02"))), ["eth0"]);
        assert!(find(pc.root(), Some("eth7")).is_empty());
    }

    #[test]
    fn the_link_is_described_with_its_speed() {
        let pc = Pc::new();
        pc.interface("eth0", 2, Some("e1000e"));
        assert_eq!(
            by_name(pc.root(), "eth0").unwrap().describe_link(),
            "no link"
        );
        pc.write("sys/class/net/eth0/carrier", "1\n");
        pc.write("sys/class/net/eth0/speed", "-1\n");
        assert_eq!(by_name(pc.root(), "eth0").unwrap().describe_link(), "link");
        pc.write("sys/class/net/eth0/speed", "2500\n");
        assert_eq!(
            by_name(pc.root(), "eth0").unwrap().describe_link(),
            "link 2500 Mbit/s"
        );
    }

    #[test]
    fn broken_entries_are_left_out() {
        let pc = Pc::new();
        pc.interface("eth0", 2, Some("e1000e"));
        pc.write("sys/class/net/eth0/address", "52:54:00:12:34\n");
        pc.write("sys/class/net/bonding_masters", "\n");
        assert!(find(pc.root(), None).is_empty());
    }

    #[test]
    fn adapters_that_no_driver_took_are_named() {
        let pc = Pc::new();
        for (slot, class) in [("0000:02:00.0", "0x020000"), ("0000:03:00.0", "0x010601")] {
            let dir = format!("sys/bus/pci/devices/{slot}");
            pc.write(&format!("{dir}/class"), &format!("{class}\n"));
            pc.write(&format!("{dir}/vendor"), "0x14e4\n");
            pc.write(&format!("{dir}/device"), "0x16a1\n");
        }
        assert_eq!(without_driver(pc.root()), ["0000:02:00.0 14e4:16a1"]);
    }

    #[test]
    fn only_global_addresses_that_are_ready_count() {
        let table = "\
fe80000000000000505400fffe123456 02 40 20 80     eth0
fec0000000000000505400fffe123456 02 40 40 00     eth0
20010db8000000000000000000000007 02 40 00 40     eth0
20010db8000000000000000000000008 03 40 00 00     eth1
garbage
";
        assert_eq!(
            global_ipv6(table),
            [("eth1".to_owned(), "2001:db8::8".parse().unwrap())]
        );
    }
}
