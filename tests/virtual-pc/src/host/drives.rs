//! Redirected drives in the guest, and what the next boot starts from.
//!
//! AMT 11 and later present redirected media as USB storage (amt-redirection 3.12), and QEMU
//! hands a USB drive's reads on as they are, where its IDE drives split them into sectors.
//! QEMU reads `bootindex` again at each reset, so a drive can be plugged in before one and be
//! booted by it; this works with SeaBIOS and OVMF.

use serde_json::json;

use super::machine::{Machine, MachineError};
use super::nbd::session::EXPORT_NAME;
use super::qemu::{Files, has_dvd, id};
use crate::config::{Nic, Pc};

/// A redirected drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drive {
    /// CD-ROM.
    Cd,
    /// Floppy: a removable disk with 512-byte sectors.
    Floppy,
}

impl Drive {
    /// Both.
    pub const ALL: [Drive; 2] = [Drive::Cd, Drive::Floppy];

    /// Name of its socket and prefix of QEMU's identifiers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Drive::Cd => "ider-cd",
            Drive::Floppy => "ider-floppy",
        }
    }

    fn bridge(self) -> String {
        format!("{}-usb", self.name())
    }

    fn node(self) -> String {
        format!("{}-image", self.name())
    }
}

/// A medium in a redirected drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Medium {
    /// Bytes.
    pub size: u64,
    /// Whether the guest may write to it.
    pub writable: bool,
}

/// What is to be in the redirected drives; a drive without a medium is not plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Media {
    /// CD.
    pub cd: Option<Medium>,
    /// Floppy.
    pub floppy: Option<Medium>,
}

impl Media {
    /// The medium of one drive.
    #[must_use]
    pub fn of(&self, drive: Drive) -> Option<Medium> {
        match drive {
            Drive::Cd => self.cd,
            Drive::Floppy => self.floppy,
        }
    }

    pub(super) fn set(&mut self, drive: Drive, medium: Option<Medium>) {
        match drive {
            Drive::Cd => self.cd = medium,
            Drive::Floppy => self.floppy = medium,
        }
    }
}

/// What a boot starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootFrom {
    /// The PC's own order: disk, CD drive, network. Redirected drives are not in it.
    Usual,
    /// A redirected drive, then the usual.
    Redirected(Drive),
    /// The disk.
    Disk,
    /// The PC's own CD drive.
    Dvd,
    /// The network.
    Network,
    /// Nothing: the set-up screen.
    Setup,
}

/// The devices in the order in which they are tried.
fn order(pc: &Pc, from: BootFrom, plugged: &Media) -> Vec<&'static str> {
    let mut order = Vec::new();
    match from {
        BootFrom::Redirected(drive) if plugged.of(drive).is_some() => order.push(drive.name()),
        BootFrom::Network if pc.nic != Nic::None => order.push(id::NIC),
        BootFrom::Dvd if has_dvd(pc) => order.push(id::DVD),
        _ => {}
    }
    let usual = [
        (id::DISK, pc.disk.is_some()),
        (id::DVD, has_dvd(pc)),
        (id::NIC, pc.network_boot && pc.nic != Nic::None),
    ];
    for (device, there) in usual {
        if there && !order.contains(&device) {
            order.push(device);
        }
    }
    order
}

/// Makes the next reset start from `from`.
pub(super) async fn set_boot(
    machine: &Machine,
    pc: &Pc,
    from: BootFrom,
) -> Result<(), MachineError> {
    let mut there = vec![];
    there.extend(
        Drive::ALL
            .into_iter()
            .filter(|drive| machine.plugged.of(*drive).is_some())
            .map(Drive::name),
    );
    there.extend(pc.disk.is_some().then_some(id::DISK));
    there.extend(has_dvd(pc).then_some(id::DVD));
    there.extend((pc.nic != Nic::None).then_some(id::NIC));
    // No two devices may have the same place, not even for a moment.
    for device in there {
        set_index(machine, device, -1).await?;
    }
    for (index, device) in (0..).zip(order(pc, from, &machine.plugged)) {
        set_index(machine, device, index).await?;
    }
    Ok(())
}

async fn set_index(machine: &Machine, device: &str, index: i32) -> Result<(), MachineError> {
    let path = format!("/machine/peripheral/{device}");
    machine
        .execute(
            "qom-set",
            json!({ "path": path, "property": "bootindex", "value": index }),
        )
        .await?;
    Ok(())
}

/// Makes the plugged-in drives those of `wanted`.
pub(super) async fn plug_all(
    machine: &mut Machine,
    files: &Files,
    wanted: Media,
) -> Result<(), MachineError> {
    for drive in Drive::ALL {
        let (is, shall) = (machine.plugged.of(drive), wanted.of(drive));
        if is == shall {
            continue;
        }
        if is.is_some() {
            unplug(machine, drive).await?;
            machine.plugged.set(drive, None);
        }
        if let Some(medium) = shall {
            if let Err(error) = plug(machine, files, drive, medium).await {
                // What was made of it must not be in the way of the next try.
                let _ = unplug(machine, drive).await;
                return Err(error);
            }
            machine.plugged.set(drive, shall);
        }
    }
    Ok(())
}

async fn plug(
    machine: &Machine,
    files: &Files,
    drive: Drive,
    medium: Medium,
) -> Result<(), MachineError> {
    let block = json!({
        "driver": "nbd",
        "node-name": drive.node(),
        "server": { "type": "unix", "path": files.drive(drive.name()) },
        "export": EXPORT_NAME,
        "read-only": !medium.writable,
    });
    machine.execute("blockdev-add", block).await?;
    // A bridge that is plugged in at run time stays invisible until its drive is there.
    let bridge =
        json!({ "driver": "usb-bot", "id": drive.bridge(), "bus": format!("{}.0", id::USB) });
    machine.execute("device_add", bridge).await?;
    let mut device = json!({
        "id": drive.name(),
        "bus": format!("{}.0", drive.bridge()),
        "drive": drive.node(),
    });
    match drive {
        Drive::Cd => device["driver"] = "scsi-cd".into(),
        Drive::Floppy => {
            device["driver"] = "scsi-hd".into();
            device["removable"] = true.into();
            // Without a geometry QEMU reads the first sector to guess one, over the link.
            let (cylinders, heads, sectors) = geometry(medium.size);
            device["cyls"] = cylinders.into();
            device["heads"] = heads.into();
            device["secs"] = sectors.into();
        }
    }
    machine.execute("device_add", device).await?;
    let path = format!("/machine/peripheral/{}", drive.bridge());
    machine
        .execute(
            "qom-set",
            json!({ "path": path, "property": "attached", "value": true }),
        )
        .await?;
    Ok(())
}

async fn unplug(machine: &mut Machine, drive: Drive) -> Result<(), MachineError> {
    // Half plugged in, some of it is missing; what is there goes.
    let removed = machine
        .execute("device_del", json!({ "id": drive.bridge() }))
        .await;
    if removed.is_ok() {
        machine.wait_deleted(&drive.bridge()).await?;
    }
    machine
        .execute("blockdev-del", json!({ "node-name": drive.node() }))
        .await?;
    Ok(())
}

/// Cylinders, heads, sectors per track.
fn geometry(size: u64) -> (u64, u64, u64) {
    let sectors = size / 512;
    if sectors == 2880 {
        return (80, 2, 18);
    }
    ((sectors / (255 * 63)).clamp(1, 65_535), 255, 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CD: Media = Media {
        cd: Some(Medium {
            size: 2048,
            writable: false,
        }),
        floppy: None,
    };

    fn with_disk() -> Pc {
        Pc {
            disk: Some("/disk".into()),
            network_boot: true,
            ..Pc::default()
        }
    }

    #[test]
    fn a_redirected_drive_boots_only_when_asked_for() {
        assert_eq!(order(&with_disk(), BootFrom::Usual, &CD), ["disk", "nic"]);
        let asked = BootFrom::Redirected(Drive::Cd);
        assert_eq!(order(&with_disk(), asked, &CD), ["ider-cd", "disk", "nic"]);
        assert_eq!(
            order(&with_disk(), asked, &Media::default()),
            ["disk", "nic"]
        );
        assert_eq!(
            order(&with_disk(), BootFrom::Redirected(Drive::Floppy), &CD),
            ["disk", "nic"]
        );
    }

    #[test]
    fn forced_sources_come_first_and_only_once() {
        assert_eq!(order(&with_disk(), BootFrom::Network, &CD), ["nic", "disk"]);
        assert_eq!(order(&with_disk(), BootFrom::Disk, &CD), ["disk", "nic"]);
        let pc = Pc {
            cd: Some("/cd".into()),
            ..with_disk()
        };
        assert_eq!(order(&pc, BootFrom::Dvd, &CD), ["dvd", "disk", "nic"]);
    }

    #[test]
    fn a_pc_with_nothing_in_it_still_has_an_order() {
        assert_eq!(
            order(&Pc::default(), BootFrom::Usual, &Media::default()),
            ["dvd"]
        );
    }

    #[test]
    fn floppies_have_the_geometry_of_floppies() {
        assert_eq!(geometry(1_474_560), (80, 2, 18));
        assert_eq!(geometry(512), (1, 255, 63));
        assert_eq!(geometry(120 << 20), (15, 255, 63));
    }
}
