//! A virtual PC: what it has, starting it, ending it.
//!
//! Emulation only (no KVM), so that results do not depend on the host. Chosen to resemble
//! a PC behind a management controller: redirected media is USB storage there.

pub mod network;

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::console::Console;
use crate::firmware::{Firmware, Nic};
use crate::host::{Background, Lines};
use crate::qmp::Qmp;
use network::Network;

/// What to boot from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Medium {
    /// A USB CD drive, behind this NBD socket.
    UsbCd(PathBuf),
    /// A USB stick with this content; writes are thrown away.
    UsbStick(PathBuf),
    /// QEMU loads a kernel itself; `cd` is a SATA CD the system can look at.
    Kernel {
        /// Kernel image.
        kernel: PathBuf,
        /// Initramfs.
        initrd: PathBuf,
        /// Command line.
        cmdline: String,
        /// Medium in the drive.
        cd: Option<PathBuf>,
    },
}

/// A disk of the PC, with what a file contains; writes are thrown away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// On the SATA controller.
    Sata(PathBuf),
    /// On PCI Express.
    Nvme(PathBuf),
}

/// A PC before it is switched on.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Firmware.
    pub firmware: Firmware,
    /// Network adapter.
    pub nic: Nic,
    /// What that is connected to.
    pub network: Network,
    /// RAM in MiB.
    pub memory_mib: u32,
    /// What it boots from.
    pub medium: Medium,
    /// What the clock says at power-on, as QEMU takes it (`2031-01-01`); host time by default.
    pub clock: Option<String>,
    /// Disks, in the order of their names.
    pub disks: Vec<Disk>,
}

impl Machine {
    /// A PC without peculiarities.
    #[must_use]
    pub fn new(firmware: Firmware, nic: Nic, memory_mib: u32, medium: Medium) -> Self {
        Machine {
            firmware,
            nic,
            network: Network::default(),
            memory_mib,
            medium,
            clock: None,
            disks: Vec::new(),
        }
    }

    /// Switches it on. Transcripts go to `logs`.
    pub fn start(&self, logs: &Path) -> Result<Running> {
        let dir = tempfile::Builder::new()
            .prefix("sparetire-vm")
            .tempdir()
            .context("creating a temporary directory")?;
        let serial = Waiting::bind(&dir.path().join("serial"))?;
        let control = Waiting::bind(&dir.path().join("qmp"))?;
        let mut command = Command::new("qemu-system-x86_64");
        command.args(self.arguments(dir.path())?);
        let started = Instant::now();
        let mut qemu = Background::start(&command)?;
        let errors = qemu.stderr()?;
        let paths = [serial.path.clone(), control.path.clone()];
        qemu.at_end(move || {
            // Whoever still waits for QEMU gets a connection that is closed at once.
            paths
                .iter()
                .for_each(|path| drop(UnixStream::connect(path)));
        })?;
        // QEMU connects to both before the machine runs: not one byte is lost.
        let connected = control
            .accept()
            .and_then(Qmp::new)
            .and_then(|qmp| Ok((qmp, serial.accept()?)));
        let (qmp, serial) = match connected {
            Ok(both) => both,
            Err(error) => {
                qemu.kill();
                let words = errors.rest_within(Duration::from_secs(5));
                return Err(error.context(format!("QEMU did not start; it says: {}", words.trim())));
            }
        };
        let console = Console::new(serial, &logs.join("serial.txt"))?;
        Ok(Running {
            qmp,
            console,
            started,
            errors,
            qemu,
            _dir: dir,
        })
    }

    fn arguments(&self, dir: &Path) -> Result<Vec<String>> {
        let mut list: Vec<String> = Vec::new();
        let mut add = |option: &str, value: String| list.extend([format!("-{option}"), value]);
        add("machine", "q35".into());
        add("accel", "tcg".into());
        add("cpu", "max".into());
        add("m", self.memory_mib.to_string());
        add("vga", "std".into());
        add("display", "none".into());
        // A PC that resets has crashed: nothing here reboots on purpose.
        add("action", "reboot=shutdown".into());
        if let Some(clock) = &self.clock {
            add("rtc", format!("base={clock}"));
        }
        if self.firmware == Firmware::Uefi {
            let (code, variables) = Firmware::flash()?;
            let copy = dir.join("variables");
            fs::copy(&variables, &copy)
                .with_context(|| format!("copying {}", variables.display()))?;
            add(
                "drive",
                format!(
                    "if=pflash,unit=0,format=raw,readonly=on,file={}",
                    escaped(&code)
                ),
            );
            add(
                "drive",
                format!("if=pflash,unit=1,format=raw,file={}", escaped(&copy)),
            );
        }
        for (option, value) in self.network.options(self.nic) {
            add(option, value);
        }
        for (name, option, rest) in [
            ("serial", "serial", "chardev:serial"),
            ("qmp", "mon", "chardev=qmp,mode=control"),
        ] {
            add(
                "chardev",
                format!("socket,id={name},path={}", escaped(&dir.join(name))),
            );
            add(option, rest.into());
        }
        add("device", "qemu-xhci,id=xhci".into());
        for (number, disk) in self.disks.iter().enumerate() {
            let (Disk::Sata(file) | Disk::Nvme(file)) = disk;
            let device = match disk {
                // One disk for each port of the controller.
                Disk::Sata(_) => format!("ide-hd,bus=ide.{number}"),
                Disk::Nvme(_) => "nvme".to_owned(),
            };
            let file = escaped(file);
            add(
                "drive",
                format!("if=none,id=disk{number},format=raw,snapshot=on,file={file}"),
            );
            add(
                "device",
                format!("{device},drive=disk{number},serial=DISK{number}"),
            );
        }
        match &self.medium {
            Medium::UsbCd(socket) => {
                let address = format!("nbd+unix:///?socket={}", escaped(socket));
                add(
                    "drive",
                    format!("if=none,id=cd,format=raw,readonly=on,file={address}"),
                );
                add("device", "usb-bot,id=bot,bus=xhci.0".into());
                add("device", "scsi-cd,bus=bot.0,drive=cd,bootindex=0".into());
            }
            Medium::UsbStick(image) => {
                add(
                    "drive",
                    format!(
                        "if=none,id=stick,format=raw,snapshot=on,file={}",
                        escaped(image)
                    ),
                );
                add(
                    "device",
                    "usb-storage,bus=xhci.0,drive=stick,removable=on,bootindex=0".into(),
                );
            }
            Medium::Kernel {
                kernel,
                initrd,
                cmdline,
                cd,
            } => {
                add("kernel", kernel.display().to_string());
                add("initrd", initrd.display().to_string());
                add("append", cmdline.clone());
                if let Some(cd) = cd {
                    add(
                        "drive",
                        format!("if=none,id=cd,format=raw,readonly=on,file={}", escaped(cd)),
                    );
                    add("device", "ide-cd,drive=cd".into());
                }
            }
        }
        list.push("-nodefaults".into());
        Ok(list)
    }
}

/// A comma ends an option's value unless doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// A PC that is switched on. Dropping it pulls the plug.
#[derive(Debug)]
pub struct Running {
    // Fields are dropped in this order: connections before QEMU, QEMU before its files.
    qmp: Qmp,
    /// Its serial console.
    pub console: Console,
    /// When it was switched on.
    pub started: Instant,
    errors: Lines,
    qemu: Background,
    _dir: TempDir,
}

impl Running {
    /// Switches it off.
    pub fn stop(mut self) -> Result<()> {
        self.qmp.execute("quit", Value::Null)?;
        self.console.wait_closed(Duration::from_secs(30))?;
        self.qemu.kill();
        Ok(())
    }

    /// Pulls or plugs a network cable: of the adapter, or of one of the networks at its socket.
    pub fn set_link(&mut self, name: &str, up: bool) -> Result<()> {
        let arguments = serde_json::json!({ "name": name, "up": up });
        self.qmp.execute("set_link", arguments).map(drop)
    }

    /// Delivers what [`Network::HeldBack`] has held back, and everything later at once.
    pub fn let_through(&mut self) -> Result<()> {
        let arguments = serde_json::json!({ "id": network::HOLD });
        self.qmp.execute("object-del", arguments).map(drop)
    }

    /// The host's port that leads to the PC's SSH server, with [`Network::Reachable`].
    pub fn forwarded(&mut self) -> Result<u16> {
        let arguments = serde_json::json!({ "command-line": "info usernet" });
        let table = self.qmp.execute("human-monitor-command", arguments)?;
        let table = table
            .as_str()
            .context("QEMU's table of connections is no text")?;
        host_port(table).with_context(|| format!("QEMU forwards nothing: {table}"))
    }

    /// Saves what the screen shows as a PNG file.
    pub fn screenshot(&mut self, path: &Path) -> Result<()> {
        let arguments = serde_json::json!({ "filename": path, "format": "png" });
        self.qmp.execute("screendump", arguments).map(drop)
    }

    /// What QEMU itself complained about so far.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.errors.ready().collect()
    }
}

/// The port in QEMU's table of connections: `TCP[HOST_FORWARD] FD ADDRESS PORT ...`.
fn host_port(table: &str) -> Option<u16> {
    let line = table
        .lines()
        .find(|line| line.contains("TCP[HOST_FORWARD]"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// A socket someone is about to connect to.
struct Waiting {
    path: PathBuf,
    listener: UnixListener,
}

impl Waiting {
    fn bind(path: &Path) -> Result<Self> {
        let listener =
            UnixListener::bind(path).with_context(|| format!("listening on {}", path.display()))?;
        Ok(Waiting {
            path: path.to_owned(),
            listener,
        })
    }

    fn accept(self) -> Result<UnixStream> {
        let (sender, receiver) = channel();
        let listener = self.listener;
        thread::spawn(move || sender.send(listener.accept()));
        match receiver.recv_timeout(Duration::from_secs(20)) {
            Ok(accepted) => Ok(accepted.context("accepting QEMU's connection")?.0),
            Err(_) => {
                // Lets the thread go.
                let _ = UnixStream::connect(&self.path);
                bail!("QEMU did not connect to {}", self.path.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_does_not_end_the_option() {
        assert_eq!(escaped(Path::new("/a,b")), "/a,,b");
    }

    #[test]
    fn the_forwarded_port_is_the_hosts() {
        let table = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                     TCP[HOST_FORWARD]   3       127.0.0.1 45003       10.0.2.15    22     0     0\r\n";
        assert_eq!(host_port(table), Some(45003));
        assert_eq!(host_port(&table.replace("TCP[HOST", "UDP[HOST")), None);
    }

    #[test]
    fn a_machine_qemu_refuses_is_reported_in_qemus_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut machine = Machine::new(
            Firmware::Bios,
            Nic::E1000e,
            64,
            Medium::UsbStick("/nonexistent/stick".into()),
        );
        machine.clock = Some("not a date".into());
        let error = format!("{:#}", machine.start(dir.path()).unwrap_err());
        assert!(
            error.contains("date") || error.contains("nonexistent"),
            "{error}"
        );
    }
}
