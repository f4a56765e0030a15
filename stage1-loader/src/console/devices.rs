//! Which terminals the loader talks on: every console of the kernel, every serial port that is
//! Intel AMT's Serial over LAN, and those the configuration names. Reads /proc and /sys under a
//! root that tests choose.

use std::fs;
use std::path::{Path, PathBuf};

use super::painter::Kind;

/// A terminal to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Name under /dev.
    pub name: String,
    /// Screen or serial line.
    pub kind: Kind,
    /// Why it was chosen.
    pub source: Source,
}

/// Why a terminal is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The kernel's own choice (its command line or the firmware).
    Kernel,
    /// A UART of Intel on PCI: Serial over LAN.
    SerialOverLan,
    /// `console.devices` of the configuration.
    Config,
}

/// More terminals than this are never useful.
const MAX_DEVICES: usize = 16;

/// All terminals of this machine, the kernel's first. `configured` come from the config slot.
pub fn find(root: &Path, configured: &[String]) -> Vec<Device> {
    let consoles = fs::read_to_string(root.join("proc/consoles")).unwrap_or_default();
    let mut devices: Vec<Device> = Vec::new();
    let mut add = |name: String, source: Source| {
        let known = devices.iter().any(|device| device.name == name);
        if !known && devices.len() < MAX_DEVICES && plausible(&name) {
            let kind = kind_of(&name);
            devices.push(Device { name, kind, source });
        }
    };
    for name in kernel_consoles(&consoles) {
        add(name, Source::Kernel);
    }
    for name in serial_over_lan(root) {
        add(name, Source::SerialOverLan);
    }
    for name in configured {
        add(name.clone(), Source::Config);
    }
    devices
}

/// Names in the first column of /proc/consoles.
fn kernel_consoles(table: &str) -> Vec<String> {
    table
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// A name under /dev, not a path out of it.
fn plausible(name: &str) -> bool {
    !name.is_empty() && name.len() < 32 && name.chars().all(|c| c.is_ascii_alphanumeric())
}

/// `tty0`, `tty1`, ... are the screen; `ttyS0`, `ttyUSB0`, `hvc0` are not.
fn kind_of(name: &str) -> Kind {
    match name.strip_prefix("tty") {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => Kind::Screen,
        _ => Kind::Serial,
    }
}

/// Serial ports whose PCI device is Intel's and of class "serial controller". On a vPro PC that
/// is function 3 of the management engine (00:16.3): Serial over LAN.
fn serial_over_lan(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join("sys/class/tty")) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("ttyS"))
        .filter(|name| {
            let device = root.join("sys/class/tty").join(name).join("device");
            pci_device_of(&device).is_some_and(|pci| is_intel_uart(&pci))
        })
        .collect();
    names.sort();
    names
}

/// The PCI device that a tty hangs on. Kernels since 6.5 put a controller and a port device
/// between the two.
fn pci_device_of(device: &Path) -> Option<PathBuf> {
    let device = fs::canonicalize(device).ok()?;
    device
        .ancestors()
        .take(4)
        .find(|path| path.join("vendor").is_file() && path.join("class").is_file())
        .map(Path::to_path_buf)
}

fn is_intel_uart(pci: &Path) -> bool {
    let field = |name: &str| fs::read_to_string(pci.join(name)).unwrap_or_default();
    // PCI base class 07 (communication), sub-class 00 (serial); the last byte is the interface.
    field("vendor").trim() == "0x8086" && field("class").trim().starts_with("0x0700")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc")).unwrap();
        fs::create_dir_all(root.path().join("sys/class/tty")).unwrap();
        root
    }

    fn serial_port(root: &Path, name: &str, pci: &str, vendor: &str, class: &str) {
        let pci = root.join("sys/devices/pci0000:00").join(pci);
        let port = pci.join("port:0").join("port:0.0");
        fs::create_dir_all(port.join("tty").join(name)).unwrap();
        fs::write(pci.join("vendor"), vendor).unwrap();
        fs::write(pci.join("class"), class).unwrap();
        symlink(&port, port.join("tty").join(name).join("device")).unwrap();
        symlink(
            port.join("tty").join(name),
            root.join("sys/class/tty").join(name),
        )
        .unwrap();
    }

    fn names(devices: &[Device]) -> Vec<(&str, Kind, Source)> {
        devices
            .iter()
            .map(|device| (device.name.as_str(), device.kind, device.source))
            .collect()
    }

    #[test]
    fn kernel_consoles_then_serial_over_lan_then_configured_ones_each_once() {
        let root = machine();
        fs::write(
            root.path().join("proc/consoles"),
            "ttyS0                -W- (EC p a)    4:64\ntty0                 -WU (E  p  )    4:1\n",
        )
        .unwrap();
        serial_port(
            root.path(),
            "ttyS0",
            "0000:00:1f.0",
            "0x8086\n",
            "0x060100\n",
        );
        serial_port(
            root.path(),
            "ttyS4",
            "0000:00:16.3",
            "0x8086\n",
            "0x070002\n",
        );
        serial_port(
            root.path(),
            "ttyS5",
            "0000:02:00.0",
            "0x1b36\n",
            "0x070002\n",
        );
        let configured = ["ttyS1", "tty0"].map(str::to_owned);
        let devices = find(root.path(), &configured);
        assert_eq!(
            names(&devices),
            [
                ("ttyS0", Kind::Serial, Source::Kernel),
                ("tty0", Kind::Screen, Source::Kernel),
                ("ttyS4", Kind::Serial, Source::SerialOverLan),
                ("ttyS1", Kind::Serial, Source::Config),
            ]
        );
    }

    #[test]
    fn a_configured_path_out_of_dev_is_ignored() {
        let root = machine();
        let configured = ["../etc/passwd", "", "tty S0"].map(str::to_owned);
        assert_eq!(find(root.path(), &configured), []);
    }

    #[test]
    fn a_machine_without_any_console_has_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(find(root.path(), &[]), []);
    }
}
