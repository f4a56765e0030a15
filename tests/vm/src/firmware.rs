//! The kinds of virtual PC: firmware and network adapter.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;

use crate::host::first_existing;

/// What the PC starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS
    Bios,
    /// OVMF without Secure Boot
    Uefi,
}

impl Firmware {
    /// Both.
    pub const ALL: [Firmware; 2] = [Firmware::Bios, Firmware::Uefi];

    /// OVMF's program and its variable store, which has to be copied before use.
    pub(crate) fn flash() -> Result<(PathBuf, PathBuf)> {
        Ok((
            first_existing(
                "OVMF",
                &[
                    "/usr/share/OVMF/OVMF_CODE_4M.fd",
                    "/usr/share/OVMF/OVMF_CODE.fd",
                ],
            )?,
            first_existing(
                "OVMF",
                &[
                    "/usr/share/OVMF/OVMF_VARS_4M.fd",
                    "/usr/share/OVMF/OVMF_VARS.fd",
                ],
            )?,
        ))
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Firmware::Bios => "bios",
            Firmware::Uefi => "uefi",
        })
    }
}

impl std::str::FromStr for Firmware {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|firmware| firmware.to_string() == text)
            .ok_or_else(|| format!("no firmware {text}"))
    }
}

/// Network adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nic {
    /// Intel 82574L, the closest QEMU has to a vPro PC's adapter
    E1000e,
    /// Paravirtual
    Virtio,
}

impl Nic {
    /// Both.
    pub const ALL: [Nic; 2] = [Nic::E1000e, Nic::Virtio];

    /// QEMU's name.
    pub(crate) fn device(self) -> &'static str {
        match self {
            Nic::E1000e => "e1000e",
            Nic::Virtio => "virtio-net-pci",
        }
    }
}

impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Nic::E1000e => "e1000e",
            Nic::Virtio => "virtio",
        })
    }
}
