//! A whole virtual PC: the management firmware, its ports, and the hardware behind it.
//!
//! The firmware decides; this file does what it says ([`crate::firmware::Action`]) and tells it
//! what happens: the guest resets itself, drives come and go, QEMU is lost.

mod controls;
mod media;
mod ports;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::control;
use crate::firmware::{
    Action, Boot, BootPlan, Epoch, Firmware, GuestRequest, IderDevice, PowerState, SessionKind,
    Shared, Snapshot,
};
use crate::host::nbd::Server as BlockServer;
use crate::host::{BootFrom, Drive, Host, HostEvent, MachineError, NotPrinted, keys};
use crate::network::Cable;
use crate::redirection::{GuestSerial, MediaState, Redirection, serial_port};
use crate::wsman;
use ports::Ports;

/// How long a boot from a redirected drive waits for the drive to appear, while a session is open.
const DRIVE_PATIENCE: Duration = Duration::from_secs(15);

/// Where a virtual PC can be reached.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Addresses {
    /// WS-MAN over HTTP.
    pub wsman: SocketAddr,
    /// Redirection.
    pub redirection: SocketAddr,
    /// The same over TLS, if configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsAddresses>,
    /// The control socket.
    pub control: PathBuf,
    /// The display as VNC, while the PC is on.
    pub vnc: PathBuf,
}

/// Where the firmware speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TlsAddresses {
    /// WS-MAN over HTTPS.
    pub wsman: SocketAddr,
    /// Redirection.
    pub redirection: SocketAddr,
    /// SHA-256 of the certificate in hexadecimal digits.
    pub fingerprint: String,
}

/// A virtual PC. Dropping it removes all of it, QEMU included.
#[derive(Debug)]
pub struct VirtualPc {
    controls: Controls,
    tasks: Vec<JoinHandle<()>>,
    // Removed last.
    _directory: TempDir,
}

/// What one can do to a virtual PC beside talking to its ports. Clones are the same PC.
#[derive(Debug, Clone)]
pub struct Controls {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    addresses: Addresses,
    firmware: Shared,
    host: Host,
    cable: Cable,
    redirection_cable: Cable,
    wsman: Arc<wsman::Server>,
    redirection: Arc<Redirection>,
    /// How long the guest keeps drives whose session is lost.
    reattach_wait: Duration,
    quit: watch::Sender<bool>,
}

impl VirtualPc {
    /// Plugs a PC in. Returns when its ports are open, and with `power = "on"` when it runs.
    pub async fn start(config: Config) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("virtual-pc")
            .tempdir()
            .context("making a directory for the PC's sockets")?;
        let firmware = firmware(&config)?;
        let (host, events) = Host::new(config.pc.clone(), directory.path());
        let (sol, guest) = serial_port();
        let redirection = Arc::new(Redirection::new(
            firmware.clone(),
            config.redirection.clone(),
            sol,
            Some(host.vnc()),
        ));
        let service = wsman::Service::new(firmware.clone(), &config.classes, config.wsman.clone())
            .context("reading section classes")?;
        let ports = Ports::bind(&config).await?;
        let control_path = config
            .control_socket
            .clone()
            .unwrap_or_else(|| directory.path().join("control"));
        let control_socket = control::listen(&control_path)
            .with_context(|| format!("making the control socket {}", control_path.display()))?;
        let mut block_servers = Vec::new();
        for drive in Drive::ALL {
            let device = media::Redirected::new(redirection.media().clone(), drive);
            let server = BlockServer::listen(&host.drive_socket(drive), Arc::new(device))
                .context("making a socket for a redirected drive")?;
            block_servers.push(server);
        }
        let (wsman, redirection_address) = ports.addresses()?;
        let addresses = Addresses {
            wsman,
            redirection: redirection_address,
            tls: ports.tls_addresses()?,
            control: control_path,
            vnc: host.vnc(),
        };
        let parts = Arc::new(Parts {
            addresses,
            firmware,
            host,
            cable: Cable::default(),
            redirection_cable: Cable::default(),
            wsman: Arc::new(wsman::Server::new(Arc::new(service))),
            redirection,
            reattach_wait: Duration::from_millis(config.redirection.reattach_wait_ms),
            quit: watch::Sender::new(false),
        });
        let controls = Controls {
            parts: Arc::clone(&parts),
        };
        let mut tasks = ports.serve(&parts);
        tasks.extend([
            tokio::spawn(run_firmware_timers(parts.firmware.clone())),
            tokio::spawn(pass_serial(parts.host.serial().clone(), guest)),
            tokio::spawn(control::serve(control_socket, controls.clone())),
            tokio::spawn(run(Arc::clone(&parts), events, block_servers)),
        ]);
        let pc = VirtualPc {
            controls,
            tasks,
            _directory: directory,
        };
        if config.amt.power == PowerState::On {
            let boot = parts
                .firmware
                .with(|firmware| firmware.host_reset(Instant::now()));
            parts
                .host
                .power_on(boot_from(boot))
                .await
                .context("switching the PC on")?;
        }
        Ok(pc)
    }

    /// What one can do to it.
    #[must_use]
    pub fn controls(&self) -> &Controls {
        &self.controls
    }

    /// Where it can be reached.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.controls.parts.addresses
    }

    /// Waits until `text` was printed on the serial port after `position` (0: from the start);
    /// returns the position behind it.
    pub async fn wait_for_serial(
        &self,
        text: &str,
        position: u64,
        deadline: Instant,
    ) -> Result<u64, NotPrinted> {
        self.controls
            .wait_for_serial(text, position, deadline)
            .await
    }

    /// Pulls the plug and waits until QEMU is gone.
    pub async fn shutdown(self) {
        // It can only fail when the PC is gone already.
        let _ = self.controls.parts.host.power_off().await;
    }
}

impl Drop for VirtualPc {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.controls.parts.host.destroy();
        // It may lie outside of our directory. Nobody can be waiting for it.
        let _ = std::fs::remove_file(&self.addresses().control);
    }
}

fn firmware(config: &Config) -> Result<Shared> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let epoch = Epoch {
        instant: Instant::now(),
        unix: now.as_secs(),
    };
    let seed = match config.amt.seed {
        Some(seed) => seed,
        None => getrandom::u64().context("asking the system for a random number")?,
    };
    let mut firmware = Firmware::new(config.amt.firmware()?, seed, epoch);
    let realm = firmware.digest_realm().to_owned();
    for entry in config.amt.accounts(&realm)? {
        let name = entry.user.clone();
        if let Err(error) = firmware.add_acl_entry(entry) {
            bail!("amt.users: the account {name:?} is refused: {error:?}");
        }
    }
    Ok(Shared::new(firmware))
}

async fn run_firmware_timers(firmware: Shared) {
    firmware.run_timers().await;
}

/// The guest's serial port and the firmware's end of it.
async fn pass_serial(serial: crate::host::Serial, mut guest: GuestSerial) {
    let mut output = serial.subscribe();
    let print = async {
        loop {
            match output.recv().await {
                // Without a session nobody listens.
                Ok(bytes) => drop(guest.output.send(bytes)),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    };
    let type_in = async {
        while let Some(bytes) = guest.input.recv().await {
            serial.send(bytes).await;
        }
    };
    tokio::join!(print, type_in);
}

/// Does what the firmware says and tells it what happens. Owns the block servers: they end with it.
async fn run(
    parts: Arc<Parts>,
    mut events: mpsc::Receiver<HostEvent>,
    _block_servers: Vec<BlockServer>,
) {
    let mut changes = parts.firmware.changes();
    let mut media = parts.redirection.media().watch();
    // When drives whose session is lost are taken away.
    let mut unplug_at = None;
    loop {
        changes.mark_unchanged();
        while let Some(action) = parts.firmware.quietly(|firmware| firmware.poll_action()) {
            parts.act(action, &mut media).await;
        }
        let unplug = async {
            match unplug_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Neither sender ends before this task.
            _ = changes.changed() => {}
            _ = media.changed() => {
                let lost = !media.borrow().attached && !parts.reattach_wait.is_zero();
                if lost {
                    unplug_at = Some(tokio::time::Instant::now() + parts.reattach_wait);
                } else {
                    unplug_at = None;
                    parts.follow(&mut media).await;
                }
            }
            () = unplug => {
                unplug_at = None;
                parts.follow(&mut media).await;
            }
            event = events.recv() => match event {
                Some(event) => parts.happened(event, &mut media).await,
                None => return,
            },
        }
    }
}

impl Parts {
    async fn act(&self, action: Action, media: &mut watch::Receiver<MediaState>) {
        tracing::info!(?action, "the firmware acts");
        let done = match action {
            Action::PowerOn(boot) => self.boot(boot, media, false).await,
            Action::Reset { boot, cycle } => {
                if cycle {
                    let _ = self.host.power_off().await;
                }
                self.boot(boot, media, true).await
            }
            Action::PowerOff => self.host.power_off().await,
            Action::Wake => self.host.wake().await,
            Action::Interrupt => self.host.interrupt().await,
            Action::Ask(GuestRequest::Shutdown) => self.host.press_power_button().await,
            Action::Ask(GuestRequest::Reset) => match keys::chord("ctrl-alt-delete") {
                Ok(chord) => self.host.press(&[chord]).await,
                Err(_) => Ok(()),
            },
            Action::Ask(request @ (GuestRequest::Sleep | GuestRequest::Hibernate)) => {
                tracing::warn!(
                    ?request,
                    "there is no agent in the guest that could be asked"
                );
                Ok(())
            }
            Action::ShowConsentCode(code) => {
                tracing::info!("consent code on the screen: {code:06}");
                Ok(())
            }
            Action::HideConsentCode => Ok(()),
        };
        if let Err(error) = done {
            tracing::warn!(
                ?action,
                error = format!("{error:#}"),
                "the PC did not do it"
            );
            if !*self.host.powered().borrow() {
                self.firmware
                    .with(|firmware| firmware.host_changed(PowerState::Off));
            }
        }
    }

    /// Starts a boot: by a reset if it is one and the PC is on, by power otherwise.
    async fn boot(
        &self,
        boot: Boot,
        media: &mut watch::Receiver<MediaState>,
        reset: bool,
    ) -> Result<(), MachineError> {
        let from = boot_from(boot);
        if let BootFrom::Redirected(drive) = from {
            self.wait_for_drive(drive, media).await;
        }
        self.follow(media).await;
        if reset && *self.host.powered().borrow() {
            self.host.reset(from).await
        } else {
            self.host.power_on(from).await?;
            if self.cable.is_cut() {
                self.host.set_cable(false).await?;
            }
            Ok(())
        }
    }

    /// A session whose drives appear at the reset needs a moment to make them appear.
    async fn wait_for_drive(&self, drive: Drive, media: &mut watch::Receiver<MediaState>) {
        let open = |snapshot: Snapshot| {
            snapshot
                .sessions
                .iter()
                .any(|(kind, _)| *kind == SessionKind::Ider)
        };
        if !open(self.firmware.quietly(|firmware| firmware.snapshot())) {
            return;
        }
        let there = media.wait_for(|state| media::wanted(state).of(drive).is_some());
        if tokio::time::timeout(DRIVE_PATIENCE, there).await.is_err() {
            tracing::warn!(
                ?drive,
                "booting without the redirected drive: it did not appear"
            );
        }
    }

    /// Makes the guest's drives those of the redirection session.
    async fn follow(&self, media: &mut watch::Receiver<MediaState>) {
        let wanted = media::wanted(&media.borrow_and_update());
        if let Err(error) = self.host.set_media(wanted).await {
            tracing::warn!(
                error = format!("{error:#}"),
                "a redirected drive did not change"
            );
        }
    }

    async fn happened(&self, event: HostEvent, media: &mut watch::Receiver<MediaState>) {
        match event {
            HostEvent::GuestReset => {
                let boot = self
                    .firmware
                    .with(|firmware| firmware.host_reset(Instant::now()));
                if let Err(error) = self.boot(boot, media, true).await {
                    tracing::warn!(error = format!("{error:#}"), "the guest's reset failed");
                }
            }
            HostEvent::Asleep => self
                .firmware
                .with(|firmware| firmware.host_changed(PowerState::Sleep)),
            HostEvent::Awake => self
                .firmware
                .with(|firmware| firmware.host_changed(PowerState::On)),
            HostEvent::GuestOff | HostEvent::Crashed(_) => {
                self.firmware
                    .with(|firmware| firmware.host_changed(PowerState::Off));
            }
        }
    }
}

fn boot_from(boot: Boot) -> BootFrom {
    match boot.plan {
        BootPlan::UseIder(IderDevice::Cd) => BootFrom::Redirected(Drive::Cd),
        BootPlan::UseIder(IderDevice::Floppy) => BootFrom::Redirected(Drive::Floppy),
        BootPlan::BiosSetup => BootFrom::Setup,
        BootPlan::Pxe => BootFrom::Network,
        BootPlan::HardDisk => BootFrom::Disk,
        BootPlan::Cd => BootFrom::Dvd,
        BootPlan::Default => BootFrom::Usual,
    }
}
