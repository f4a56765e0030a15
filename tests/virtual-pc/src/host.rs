//! The PC itself: QEMU, its power, drives, serial port and display.
//!
//! [`Host`] is the handle; one task behind it owns the machine, so that commands, the guest's
//! own resets and the loss of QEMU happen in an order. It does what it is told and reports what
//! happens; deciding is the firmware's.

mod drives;
pub mod keys;
mod machine;
pub mod nbd;
mod process;
pub mod qemu;
pub mod qmp;
mod screen;
mod serial;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use drives::{BootFrom, Drive, Media, Medium};
pub use machine::MachineError;
pub use screen::Screen;
pub use serial::{NotPrinted, Output, Serial};

use crate::config::Pc;
use machine::{Machine, Report};
use qemu::Files;
use qmp::Qmp;

/// How often the key for the set-up screen is pressed, and for how long at most.
const SETUP_KEY_EVERY: Duration = Duration::from_millis(250);
const SETUP_KEY_FOR: Duration = Duration::from_secs(60);
/// What SeaBIOS and OVMF print when it has worked.
const SETUP_SHOWN: [&str; 2] = ["Select boot device", "Boot Maintenance Manager"];

/// What happens at the PC by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostEvent {
    /// The guest resets itself and waits for [`Host::reset`].
    GuestReset,
    /// The guest has switched the PC off.
    GuestOff,
    /// The guest sleeps (S3).
    Asleep,
    /// It is awake again.
    Awake,
    /// QEMU is gone, and with it the power.
    Crashed(String),
}

type Reply<T> = oneshot::Sender<Result<T, MachineError>>;

enum Command {
    PowerOn(BootFrom, Reply<()>),
    Reset(BootFrom, Reply<()>),
    PowerOff(Reply<()>),
    SetMedia(Media, Reply<()>),
    Control(Reply<Arc<Qmp>>),
    ProcessId(oneshot::Sender<Option<u32>>),
}

/// The PC. Dropping it pulls the plug.
#[derive(Debug)]
pub struct Host {
    commands: mpsc::Sender<Command>,
    powered: watch::Receiver<bool>,
    serial: Serial,
    files: Files,
    task: JoinHandle<()>,
}

impl Host {
    /// A PC that is off. Its sockets are made in `directory`; what happens comes out of the
    /// receiver, which has to be read.
    #[must_use]
    pub fn new(pc: Pc, directory: &Path) -> (Self, mpsc::Receiver<HostEvent>) {
        let (commands, queue) = mpsc::channel(16);
        let (events, receiver) = mpsc::channel(16);
        let (power, powered) = watch::channel(false);
        let files = Files::new(directory);
        let serial = Serial::default();
        let actor = Actor {
            pc,
            files: files.clone(),
            serial: serial.clone(),
            machine: None,
            media: Media::default(),
            power,
            events,
            setup_key: None,
        };
        let task = tokio::spawn(actor.run(queue));
        (
            Host {
                commands,
                powered,
                serial,
                files,
                task,
            },
            receiver,
        )
    }

    /// Whether it is on, now and later.
    #[must_use]
    pub fn powered(&self) -> watch::Receiver<bool> {
        self.powered.clone()
    }

    /// Its serial port.
    #[must_use]
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// Where QEMU offers the display as VNC while the PC is on.
    #[must_use]
    pub fn vnc(&self) -> PathBuf {
        self.files.vnc()
    }

    /// Where QEMU looks for a redirected drive's content.
    #[must_use]
    pub fn drive_socket(&self, drive: Drive) -> PathBuf {
        self.files.drive(drive.name())
    }

    /// Switches it on; what is on stays as it is.
    pub async fn power_on(&self, from: BootFrom) -> Result<(), MachineError> {
        self.ask(|reply| Command::PowerOn(from, reply)).await
    }

    /// Resets it, hung or not.
    pub async fn reset(&self, from: BootFrom) -> Result<(), MachineError> {
        self.ask(|reply| Command::Reset(from, reply)).await
    }

    /// Pulls the plug.
    pub async fn power_off(&self) -> Result<(), MachineError> {
        self.ask(Command::PowerOff).await
    }

    /// Changes what is in the redirected drives, now or when the PC is switched on.
    pub async fn set_media(&self, media: Media) -> Result<(), MachineError> {
        self.ask(|reply| Command::SetMedia(media, reply)).await
    }

    /// QEMU's process number; `None` while the PC is off.
    pub async fn process_id(&self) -> Option<u32> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::ProcessId(reply)).await.ok()?;
        answer.await.ok()?
    }

    /// The button on the case, as an operating system sees it.
    pub async fn press_power_button(&self) -> Result<(), MachineError> {
        self.execute("system_powerdown", Value::Null)
            .await
            .map(drop)
    }

    /// Ends it for good: QEMU is killed, later calls fail with [`MachineError::Off`].
    pub fn destroy(&self) {
        self.task.abort();
    }

    /// Wakes it from sleep.
    pub async fn wake(&self) -> Result<(), MachineError> {
        self.execute("system_wakeup", Value::Null).await.map(drop)
    }

    /// Non-maskable interrupt.
    pub async fn interrupt(&self) -> Result<(), MachineError> {
        self.execute("inject-nmi", Value::Null).await.map(drop)
    }

    /// Plugs the network cable in or out.
    pub async fn set_cable(&self, plugged_in: bool) -> Result<(), MachineError> {
        let arguments = json!({ "name": qemu::id::NETDEV, "up": plugged_in });
        self.execute("set_link", arguments).await.map(drop)
    }

    /// Presses keys one chord after the other.
    pub async fn press(&self, chords: &[keys::Chord]) -> Result<(), MachineError> {
        for chord in chords {
            self.execute("send-key", send_key(chord)).await?;
            // QEMU holds keys for 100 ms and queues what comes meanwhile; guests poll slower.
            tokio::time::sleep(Duration::from_millis(120)).await;
        }
        Ok(())
    }

    /// What the screen shows.
    pub async fn screen(&self) -> Result<Screen, MachineError> {
        let qmp = match self.control().await {
            Ok(qmp) => qmp,
            Err(MachineError::Off) => return Ok(Screen::Off),
            Err(error) => return Err(error),
        };
        let picture = self.files.scratch().with_extension("ppm");
        qmp.execute("screendump", json!({ "filename": picture }))
            .await?;
        let bytes = take_file(&picture).await?;
        let (width, height) = screen::pixmap_size(&bytes).unwrap_or_default();
        if !screen::is_text_size(width, height) {
            return Ok(Screen::Graphics { width, height });
        }
        let memory = self.files.scratch().with_extension("memory");
        let arguments = json!({ "val": screen::TEXT_MEMORY, "size": screen::TEXT_MEMORY_LENGTH, "filename": memory });
        // Paused, or the guest could use the controller's registers in between.
        qmp.execute("stop", Value::Null).await?;
        let start = text_start(&qmp).await;
        let saved = qmp.execute("pmemsave", arguments).await;
        qmp.execute("cont", Value::Null).await?;
        saved?;
        let memory = take_file(&memory).await?;
        Ok(Screen::Text {
            lines: screen::rows(&memory, start?),
        })
    }

    /// Saves what the screen shows as a PNG file.
    pub async fn screenshot(&self, path: &Path) -> Result<(), MachineError> {
        let arguments = json!({ "filename": path, "format": "png" });
        self.execute("screendump", arguments).await.map(drop)
    }

    async fn execute(&self, command: &str, arguments: Value) -> Result<Value, MachineError> {
        Ok(self.control().await?.execute(command, arguments).await?)
    }

    async fn control(&self) -> Result<Arc<Qmp>, MachineError> {
        self.ask(Command::Control).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, MachineError> {
        let (reply, answer) = oneshot::channel();
        // The task ends only with this handle.
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| MachineError::Off)?;
        answer.await.map_err(|_| MachineError::Off)?
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Drops the machine, which kills QEMU.
        self.destroy();
    }
}

fn send_key(chord: &[String]) -> Value {
    let keys: Vec<Value> = chord
        .iter()
        .map(|key| json!({ "type": "qcode", "data": key }))
        .collect();
    json!({ "keys": keys })
}

/// The CRT controller's start address (IBM VGA, registers 0Ch and 0Dh), with its index register
/// left as it was.
async fn text_start(qmp: &Qmp) -> Result<u16, MachineError> {
    const INDEX: u16 = 0x3d4;
    const DATA: u16 = 0x3d5;
    let before = read_port(qmp, INDEX).await?;
    let mut start = 0;
    for register in [0x0c, 0x0d] {
        qmp.monitor(&format!("o /b {INDEX:#x} {register:#x}"))
            .await?;
        start = start << 8 | u16::from(read_port(qmp, DATA).await?);
    }
    qmp.monitor(&format!("o /b {INDEX:#x} {before:#x}")).await?;
    Ok(start)
}

/// QEMU answers `portb[0x03d4] = 0x0e`.
async fn read_port(qmp: &Qmp, port: u16) -> Result<u8, MachineError> {
    let answer = qmp.monitor(&format!("i /b {port:#x}")).await?;
    let value = answer
        .rsplit_once("0x")
        .and_then(|(_, hex)| u8::from_str_radix(hex.trim(), 16).ok());
    Ok(value.unwrap_or(0))
}

/// Reads a file that QEMU has written, and removes it.
async fn take_file(path: &Path) -> Result<Vec<u8>, MachineError> {
    let bytes = tokio::fs::read(path).await?;
    tokio::fs::remove_file(path).await?;
    Ok(bytes)
}

/// Whoever asked may have gone; the PC has done it all the same.
fn answer<T>(reply: oneshot::Sender<T>, result: T) {
    let _ = reply.send(result);
}

struct Actor {
    pc: Pc,
    files: Files,
    serial: Serial,
    machine: Option<Machine>,
    /// What is to be in the redirected drives.
    media: Media,
    power: watch::Sender<bool>,
    events: mpsc::Sender<HostEvent>,
    setup_key: Option<JoinHandle<()>>,
}

impl Actor {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            let report = async {
                match &mut self.machine {
                    Some(machine) => machine.next_report().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.handle(command).await,
                    None => break,
                },
                report = report => self.reported(report).await,
            }
        }
        self.power_off().await;
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::PowerOn(from, reply) => answer(reply, self.power_on(from).await),
            Command::Reset(from, reply) => answer(reply, self.reset(from).await),
            Command::PowerOff(reply) => {
                self.power_off().await;
                answer(reply, Ok(()));
            }
            Command::SetMedia(media, reply) => answer(reply, self.set_media(media).await),
            Command::Control(reply) => {
                let qmp = self.machine.as_ref().map(Machine::qmp);
                answer(reply, qmp.ok_or(MachineError::Off));
            }
            Command::ProcessId(reply) => {
                answer(reply, self.machine.as_ref().and_then(Machine::process_id));
            }
        }
    }

    async fn power_on(&mut self, from: BootFrom) -> Result<(), MachineError> {
        if self.machine.is_some() {
            return Ok(());
        }
        let mut machine = Machine::start(&self.pc, &self.files, &self.serial).await?;
        self.plug(&mut machine).await;
        let started = async {
            drives::set_boot(&machine, &self.pc, from).await?;
            // The boot order is handed to the BIOS at a reset only.
            machine.reset().await
        };
        if let Err(error) = started.await {
            machine.stop().await;
            return Err(error);
        }
        self.enter_setup(&machine, from);
        self.machine = Some(machine);
        self.power.send_replace(true);
        Ok(())
    }

    async fn reset(&mut self, from: BootFrom) -> Result<(), MachineError> {
        self.leave_setup();
        let mut machine = self.machine.take().ok_or(MachineError::Off)?;
        self.plug(&mut machine).await;
        let result = async {
            drives::set_boot(&machine, &self.pc, from).await?;
            machine.reset().await
        };
        let result = result.await;
        if result.is_ok() {
            self.enter_setup(&machine, from);
        }
        self.machine = Some(machine);
        result
    }

    async fn power_off(&mut self) {
        self.leave_setup();
        if let Some(machine) = self.machine.take() {
            machine.stop().await;
        }
        self.power.send_replace(false);
    }

    async fn set_media(&mut self, media: Media) -> Result<(), MachineError> {
        self.media = media;
        match &mut self.machine {
            Some(machine) => drives::plug_all(machine, &self.files, media).await,
            None => Ok(()),
        }
    }

    /// A drive that cannot be plugged in must not keep the PC from starting: a real one would
    /// start without it.
    async fn plug(&self, machine: &mut Machine) {
        if let Err(error) = drives::plug_all(machine, &self.files, self.media).await {
            tracing::warn!(%error, "a redirected drive is missing");
        }
    }

    async fn reported(&mut self, report: Report) {
        let event = match report {
            Report::Reset => HostEvent::GuestReset,
            Report::Asleep => HostEvent::Asleep,
            Report::Awake => HostEvent::Awake,
            Report::SwitchedOff => {
                self.power_off().await;
                HostEvent::GuestOff
            }
            Report::Gone(why) => {
                tracing::warn!(why, "the PC is off because QEMU is gone");
                self.power_off().await;
                HostEvent::Crashed(why)
            }
        };
        // Nobody listens once the PC is being taken apart.
        let _ = self.events.send(event).await;
    }

    /// The firmware has no other way in than its key: somebody presses it until it works.
    fn enter_setup(&mut self, machine: &Machine, from: BootFrom) {
        if from != BootFrom::Setup {
            return;
        }
        let (qmp, serial) = (machine.qmp(), self.serial.clone());
        let start = serial.position();
        self.setup_key = Some(tokio::spawn(async move {
            let press = async {
                let escape = send_key(&["esc".to_owned()]);
                while qmp.execute("send-key", escape.clone()).await.is_ok() {
                    tokio::time::sleep(SETUP_KEY_EVERY).await;
                    let text = serial.text_since(start);
                    if SETUP_SHOWN.iter().any(|shown| text.contains(shown)) {
                        return;
                    }
                }
            };
            // Without a serial console nothing tells that it has worked.
            let _ = tokio::time::timeout(SETUP_KEY_FOR, press).await;
        }));
    }

    fn leave_setup(&mut self) {
        if let Some(task) = self.setup_key.take() {
            task.abort();
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.leave_setup();
    }
}
