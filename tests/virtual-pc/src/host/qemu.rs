//! QEMU's command line for a configured PC, and where its files are.
//!
//! Emulation only, so that results do not depend on the host. QEMU starts paused: drives and
//! boot order are set before the first instruction. A guest that resets or switches off only
//! pauses, so that the management firmware decides what that boot does.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Firmware, Nic, Pc, SerialPort};

/// COM1, where SeaBIOS repeats its text screen.
const COM1: u16 = 0x3f8;
/// How long the BIOS waits for a key that opens its menu, in milliseconds.
const MENU_WAIT: u16 = 300;

/// QEMU's identifiers of what is plugged in later or changed.
pub(crate) mod id {
    /// The cable.
    pub(crate) const NETDEV: &str = "net";
    /// The network adapter.
    pub(crate) const NIC: &str = "nic";
    /// The disk.
    pub(crate) const DISK: &str = "disk";
    /// The PC's own CD drive.
    pub(crate) const DVD: &str = "dvd";
    /// The USB controller.
    pub(crate) const USB: &str = "xhci";
}

/// Files of one PC, all in one folder that only we can enter.
#[derive(Debug, Clone)]
pub struct Files {
    directory: PathBuf,
}

impl Files {
    /// Files in `directory`, which exists.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Files {
            directory: directory.to_owned(),
        }
    }

    /// QEMU's machine protocol; we listen.
    #[must_use]
    pub fn qmp(&self) -> PathBuf {
        self.directory.join("qmp")
    }

    /// The serial port; we listen.
    #[must_use]
    pub fn serial(&self) -> PathBuf {
        self.directory.join("serial")
    }

    /// The display; QEMU listens while the PC is on.
    #[must_use]
    pub fn vnc(&self) -> PathBuf {
        self.directory.join("vnc")
    }

    /// The redirected drive of that name; we listen.
    #[must_use]
    pub fn drive(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Scratch space for memory and screen contents.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.directory.join("scratch")
    }

    fn sercon(&self) -> PathBuf {
        self.directory.join("sercon-port")
    }

    fn variables(&self) -> PathBuf {
        self.directory.join("variables")
    }

    /// Makes what QEMU expects to be there: the variable store and the BIOS's settings.
    pub fn prepare(&self, pc: &Pc) -> io::Result<()> {
        std::fs::write(self.sercon(), COM1.to_le_bytes())?;
        if pc.firmware == Firmware::Uefi && !self.variables().exists() {
            std::fs::copy(flash("VARS")?, self.variables())?;
        }
        Ok(())
    }
}

/// One half of OVMF, which comes in two layouts; the newer one is preferred.
fn flash(half: &str) -> io::Result<PathBuf> {
    ["_4M", ""]
        .into_iter()
        .map(|layout| PathBuf::from(format!("/usr/share/OVMF/OVMF_{half}{layout}.fd")))
        .find(|path| path.exists())
        .ok_or_else(|| {
            let what = format!("OVMF is not installed: no OVMF_{half}*.fd in /usr/share/OVMF");
            io::Error::new(io::ErrorKind::NotFound, what)
        })
}

/// The command line after the program's name.
pub fn arguments(pc: &Pc, files: &Files) -> io::Result<Vec<OsString>> {
    let mut list = Options::default();
    list.flag("nodefaults");
    // Paused until drives and boot order are set.
    list.flag("S");
    list.add("machine", "q35");
    list.add("accel", "tcg");
    list.add("cpu", "max");
    list.add("m", &pc.memory_mib.to_string());
    list.add("smp", &pc.processors.to_string());
    list.add("vga", "std");
    list.add("vnc", &format!("unix:{}", escaped(&files.vnc())));
    list.add(
        "boot",
        &format!("strict=on,menu=on,splash-time={MENU_WAIT}"),
    );
    list.add("action", "reboot=shutdown,shutdown=pause");
    if let Some(clock) = &pc.clock {
        list.add("rtc", &format!("base={}", clock.replace(',', ",,")));
    }
    if pc.firmware == Firmware::Uefi {
        let code = escaped(&flash("CODE")?);
        list.add(
            "drive",
            &format!("if=pflash,unit=0,format=raw,readonly=on,file={code}"),
        );
        let variables = escaped(&files.variables());
        list.add(
            "drive",
            &format!("if=pflash,unit=1,format=raw,file={variables}"),
        );
    }
    list.add(
        "chardev",
        &format!("socket,id=qmp,path={}", escaped(&files.qmp())),
    );
    list.add("mon", "chardev=qmp,mode=control");
    list.add(
        "chardev",
        &format!("socket,id=serial,path={}", escaped(&files.serial())),
    );
    list.add(
        "device",
        match pc.serial_port {
            SerialPort::Isa => "isa-serial,chardev=serial",
            SerialPort::Pci => "pci-serial,chardev=serial",
        },
    );
    if pc.console_redirection && pc.firmware == Firmware::Bios && pc.serial_port == SerialPort::Isa
    {
        list.add(
            "fw_cfg",
            &format!("name=etc/sercon-port,file={}", escaped(&files.sercon())),
        );
    }
    let model = match pc.nic {
        Nic::E1000e => Some("e1000e"),
        Nic::Virtio => Some("virtio-net-pci"),
        Nic::None => None,
    };
    if let Some(model) = model {
        list.add("netdev", &format!("{},id={}", pc.netdev, id::NETDEV));
        // Its boot ROM costs seconds at each start.
        let rom = if pc.network_boot { "" } else { ",romfile=" };
        list.add(
            "device",
            &format!("{model},netdev={},id={}{rom}", id::NETDEV, id::NIC),
        );
    }
    list.add("device", &format!("qemu-xhci,id={}", id::USB));
    list.add("device", &format!("usb-kbd,bus={}.0", id::USB));
    list.add("device", &format!("usb-tablet,bus={}.0", id::USB));
    if let Some(disk) = &pc.disk {
        let snapshot = if pc.disk_snapshot { "on" } else { "off" };
        let format = pc.disk_format.replace(',', ",,");
        list.add(
            "drive",
            &format!(
                "if=none,id=disk-image,format={format},snapshot={snapshot},file={}",
                escaped(disk)
            ),
        );
        list.add(
            "device",
            &format!("ide-hd,bus=ide.0,drive=disk-image,id={}", id::DISK),
        );
    }
    if has_dvd(pc) {
        let medium = match &pc.cd {
            Some(cd) => {
                let cd = escaped(cd);
                list.add(
                    "drive",
                    &format!("if=none,id=dvd-image,format=raw,readonly=on,file={cd}"),
                );
                ",drive=dvd-image"
            }
            None => "",
        };
        list.add(
            "device",
            &format!("ide-cd,bus=ide.1,id={}{medium}", id::DVD),
        );
    }
    list.0.extend(pc.qemu_options.iter().map(OsString::from));
    Ok(list.0)
}

/// A PC without a disk has an empty CD drive: unless some device is in the boot order, `strict`
/// means nothing and SeaBIOS boots what it finds.
pub(crate) fn has_dvd(pc: &Pc) -> bool {
    pc.cd.is_some() || pc.disk.is_none()
}

#[derive(Default)]
struct Options(Vec<OsString>);

impl Options {
    fn flag(&mut self, name: &str) {
        self.0.push(format!("-{name}").into());
    }

    fn add(&mut self, name: &str, value: &str) {
        self.flag(name);
        self.0.push(value.into());
    }
}

/// A comma ends an option's value unless doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pc: &Pc) -> String {
        let arguments = arguments(pc, &Files::new(Path::new("/run/pc"))).unwrap();
        let words: Vec<String> = arguments
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        words.join(" ")
    }

    #[test]
    fn a_comma_in_a_path_does_not_end_the_option() {
        let pc = Pc {
            disk: Some("/a,b".into()),
            ..Pc::default()
        };
        assert!(line(&pc).contains("file=/a,,b "));
    }

    #[test]
    fn nothing_runs_with_kvm_and_nothing_starts_before_it_is_told() {
        let line = line(&Pc::default());
        assert!(line.contains("-accel tcg"));
        assert!(line.contains(" -S "));
        assert!(!line.contains("kvm"));
    }

    #[test]
    fn the_boot_rom_is_there_only_for_network_boot() {
        assert!(line(&Pc::default()).contains("id=nic,romfile= "));
        let pc = Pc {
            network_boot: true,
            ..Pc::default()
        };
        assert!(!line(&pc).contains("romfile"));
    }

    #[test]
    fn a_pc_always_has_something_in_its_boot_order() {
        assert!(line(&Pc::default()).contains("ide-cd"));
        let pc = Pc {
            disk: Some("/disk".into()),
            ..Pc::default()
        };
        assert!(!line(&pc).contains("ide-cd"));
    }
}
