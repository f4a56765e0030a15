//! Section `[pc]`: the hardware beside the management firmware.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The hardware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pc {
    /// What it starts with.
    pub firmware: Firmware,
    /// RAM in MiB.
    pub memory_mib: u32,
    /// Number of processors.
    pub processors: u32,
    /// Disk image; none: no disk.
    pub disk: Option<PathBuf>,
    /// QEMU's name of the disk image's format.
    pub disk_format: String,
    /// Throw away what is written to the disk when the PC is switched off.
    pub disk_snapshot: bool,
    /// ISO image in the PC's own CD drive.
    pub cd: Option<PathBuf>,
    /// Network adapter.
    pub nic: Nic,
    /// What its cable leads to: QEMU's `-netdev` without the id.
    pub netdev: String,
    /// Try the network when nothing else boots, and make forced network boot possible.
    pub network_boot: bool,
    /// Where the serial port is that SOL is connected to.
    pub serial_port: SerialPort,
    /// The BIOS shows its text screen on the serial port as well.
    pub console_redirection: bool,
    /// What the clock says at power-on, such as `2031-01-01`; the host's time by default.
    pub clock: Option<String>,
    /// The QEMU program.
    pub qemu: PathBuf,
    /// Options for QEMU after all others.
    pub qemu_options: Vec<String>,
}

impl Default for Pc {
    fn default() -> Self {
        Pc {
            firmware: Firmware::Bios,
            memory_mib: 1024,
            processors: 1,
            disk: None,
            disk_format: "raw".into(),
            disk_snapshot: true,
            cd: None,
            nic: Nic::E1000e,
            netdev: "user".into(),
            network_boot: false,
            serial_port: SerialPort::Isa,
            console_redirection: true,
            clock: None,
            qemu: "qemu-system-x86_64".into(),
            qemu_options: Vec::new(),
        }
    }
}

/// What the PC starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF without Secure Boot.
    Uefi,
}

/// Network adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nic {
    /// Intel 82574L, the closest QEMU has to a vPro PC's adapter.
    E1000e,
    /// Paravirtual.
    Virtio,
    /// No adapter.
    None,
}

/// The serial port that SOL is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SerialPort {
    /// COM1 at 0x3f8: Linux' ttyS0.
    Isa,
    /// A PCI device, as on real machines: Linux' ttyS0 or later, if it has the driver. No
    /// BIOS text there.
    Pci,
}
