//! The course of one boot, and what has to be taken back when it is left early.
//!
//! ```text
//! connect -> redirection -> (consent) -> session -> drive -> boot options -> power
//!         -> firmware (first read) -> stage one (until the loader reports) -> loader (until the hand-off)
//! ```
//! Wherever it stops, [`Course::leave`] clears the boot options, ends the drive and the session, and says what
//! state the PC is in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use amt_redirection::console::ider::StartMode;
use amt_wsman::class::consent::ConsentState;
use amt_wsman::class::power::PowerState;
use amt_wsman::flow::boot::{BootOptions, BootTarget, arm_boot, disarm};
use amt_wsman::flow::consent::{self, Need, Purpose};
use amt_wsman::flow::power::{self, PowerAction, PowerAnswer, power};
use amt_wsman::flow::provisioning::require_provisioned;
use amt_wsman::flow::redirection::{Wanted, enable_redirection};
use anyhow::{Context, anyhow};
use boot_api::{CreateSession, Event, State};
use sparetire_builder::exit::{ExitCode, WithCode, coded};
use tokio::sync::mpsc;

use super::explain;
use super::live::{Delivered, Live};
use super::medium::StageOne;
use super::reach::Reach;
use super::site::Site;
use super::{BootArgs, Mode, explained};
use crate::amt::Pc;
use crate::failure::advise;
use crate::redirection::block_source::{BlockSource, FileImage, MemoryImage};
use crate::redirection::ider::{self, Config, EndReason, IderHandle, IderServer, Statistics};
use crate::session::follow::{self, Ending, Subject, Watch};

/// One boot from its first message to the PC to its end.
pub(super) struct Course<'a> {
    args: &'a BootArgs,
    reach: &'a Reach,
    /// The view.
    pub(super) live: Live,
    site: Option<Site>,
    session: Option<String>,
    drive: Option<IderHandle>,
    /// Size of the medium in bytes.
    size: u64,
    armed: bool,
    /// Consent was asked for.
    asked: bool,
    restarted: bool,
}

/// How the course ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrived {
    /// The second system was started.
    HandedOff,
    /// The loader runs and needs nothing more from this program.
    LoaderRuns,
    /// A plain ISO was served until nothing more was read, or until the session ended.
    Served,
}

impl Arrived {
    /// As in `--json`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::HandedOff => "handed-off",
            Self::LoaderRuns => "loader-runs",
            Self::Served => "served",
        }
    }
}

impl<'a> Course<'a> {
    pub(super) fn new(args: &'a BootArgs, reach: &'a Reach, live: Live) -> Self {
        Self {
            args,
            reach,
            live,
            site: None,
            session: None,
            drive: None,
            size: 0,
            armed: false,
            asked: false,
            restarted: false,
        }
    }

    /// The boot. May be dropped at any point; [`Course::leave`] is called afterwards in every case.
    pub(super) async fn run(&mut self) -> anyhow::Result<Arrived> {
        let args = self.args;
        let medium = Medium::prepare(args)?;
        self.live.begin("connect", &args.pc.host)?;
        let mut device = self.reach.device();
        require_provisioned(&mut device).await.map_err(explained)?;
        let status = consent::status(&mut device).await.map_err(explained)?;
        if let Some(version) = device.version() {
            self.live.say(&format!("Intel AMT {version}"))?;
        }
        self.live.begin("redirection", "")?;
        let wanted = Wanted {
            storage: true,
            serial: args.sol,
        };
        enable_redirection(&mut device, wanted, &mut |_| ())
            .await
            .map_err(explained)?;
        if status.need(Purpose::Boot) == Need::Needed {
            self.live
                .begin("consent", "the user at the PC has to agree")?;
            self.consent(&mut device).await?;
        }
        self.wake(&mut device).await?;
        let source = self.source(medium).await?;
        self.live.begin("drive", "")?;
        self.attach(source).await?;
        self.live.begin("boot options", "from the redirected CD")?;
        // From here on there may be something to take back, however the call ends.
        self.armed = true;
        let options = BootOptions {
            serial: args.sol,
            ..BootOptions::default()
        };
        arm_boot(&mut device, BootTarget::IderCd, &options, &mut |_| ())
            .await
            .map_err(explained)?;
        self.restart(&mut device).await?;
        // The firmware serves few connections; whoever comes next finds it free.
        drop(device);
        self.watch().await
    }

    /// Wakes a sleeping PC: with a redirection session open, firmware refuses the changes that lead out of sleep.
    async fn wake(&mut self, device: &mut Pc) -> anyhow::Result<()> {
        if self.args.mode == Mode::NextBoot
            || power::state(device).await.map_err(explained)?.state != PowerState::Asleep
        {
            return Ok(());
        }
        self.live.begin("wake", "the PC is asleep")?;
        self.restarted = true;
        power(device, PowerAction::On, &mut |_| ())
            .await
            .map_err(explained)?;
        if power::wait_for(device, PowerState::On, WAKE_LOOKS)
            .await
            .map_err(explained)?
        {
            return Ok(());
        }
        let error = anyhow!("the PC sleeps on although it was switched on");
        let advice = format!(
            "switch it off first: sparetire pc power {} off",
            self.args.pc.host
        );
        Err(coded(ExitCode::Failed, advise(error, advice)))
    }

    /// Gets the code from the user at the PC by way of whoever runs this.
    async fn consent(&mut self, device: &mut Pc) -> anyhow::Result<()> {
        if !self.args.consent {
            let error =
                anyhow!("the user at the PC has to consent, which takes a code read out by phone");
            let error = advise(error, "run it with --consent to be asked for the code");
            return Err(coded(ExitCode::Refused, error));
        }
        self.asked = true;
        let state = consent::start(device, &mut |_| ())
            .await
            .map_err(explained)?;
        if state.is_granted() {
            return Ok(());
        }
        self.live
            .say("a code of six digits appears on the PC's screen; have it read out")?;
        for _ in 0..CODE_TRIES {
            let code = match super::consent_line().await?.parse() {
                Ok(code) => code,
                Err(error @ consent::NotACode) => {
                    self.live.say(&error.to_string())?;
                    continue;
                }
            };
            match consent::send_code(device, code, &mut |_| ()).await {
                Ok(ConsentState::Received | ConsentState::InSession) => return Ok(()),
                Err(error @ consent::ConsentError::WrongCode) => {
                    self.live.say(&error.to_string())?;
                }
                Ok(state) => {
                    let error = anyhow!("the PC took the code, but consent is {state}");
                    return Err(coded(ExitCode::Refused, error));
                }
                Err(error) => return Err(explained(error)),
            }
        }
        let error = anyhow!("{CODE_TRIES} codes were wrong");
        Err(coded(
            ExitCode::Refused,
            advise(error, "wait some minutes, then begin again with a new code"),
        ))
    }

    /// What the drive serves: a session's stage one, or the ISO as it is.
    async fn source(&mut self, medium: Medium) -> anyhow::Result<Arc<dyn BlockSource>> {
        let source: Arc<dyn BlockSource> = match medium {
            Medium::Iso(file) => Arc::new(file),
            Medium::StageOne { stage_one, new } => {
                let advertise = self.args.advertise.as_deref();
                let site = match &self.args.server {
                    Some(server) => {
                        let site =
                            Site::running(&self.args.server_args(server.clone()), advertise)?;
                        if let Some(warning) = site.client.warning() {
                            self.live.say(&warning)?;
                        }
                        site
                    }
                    None => {
                        let to = &self.reach.endpoint;
                        let pc = super::site::resolve(&to.host, to.port).await?;
                        Site::start(&self.args.store()?, pc, advertise).await?
                    }
                };
                self.live
                    .begin("session", &format!("at {}", site.loader_server))?;
                let site = self.site.insert(site);
                let created = site.open(&new).await?;
                self.session = Some(created.id.clone());
                let mut config =
                    crate::session::config::for_loader(&new, &created, &site.loader_server, &[]);
                config.console.devices.clone_from(&self.args.console);
                config.append.clone_from(&self.args.append);
                let bytes: Arc<[u8]> = stage_one.with(config)?.into();
                let image = MemoryImage::new(bytes, Vec::new());
                Arc::new(image.context("putting stage one into the drive")?)
            }
        };
        self.size = source.bytes();
        Ok(source)
    }

    /// Opens the redirection session; the drives appear when the PC restarts.
    async fn attach(&mut self, source: Arc<dyn BlockSource>) -> anyhow::Result<()> {
        let (dial, credentials) = self.reach.redirection();
        let mut config = Config::new(dial, credentials, Some(source));
        config.options.start_mode = StartMode::OnReboot;
        config.limits.idle = self.args.until_idle.map(Duration::from_secs);
        let handle = IderServer::spawn(config).context("putting the image into the drive")?;
        let mut events = handle.events();
        let handle = self.drive.insert(handle);
        let opened = async {
            loop {
                match events.recv().await {
                    Ok(ider::Event::Opened { .. } | ider::Event::Attached) => return Ok(()),
                    Ok(ider::Event::Ended(reason)) => return Err(reason),
                    Ok(_) => {}
                    // Missed or gone: the state says which.
                    Err(_) => return Err(handle.ended().await),
                }
            }
        };
        opened.await.map_err(ended)
    }

    /// Starts the PC anew, in the manner asked for.
    async fn restart(&mut self, device: &mut Pc) -> anyhow::Result<()> {
        let action = match self.args.mode {
            Mode::Now => PowerAction::Restart,
            Mode::Graceful => PowerAction::GracefulRestart,
            Mode::NextBoot => {
                return self
                    .live
                    .begin("waiting", "for the PC's next start, whoever causes it");
            }
        };
        self.live.begin("power", "")?;
        self.restarted = true;
        let outcome = power(device, action, &mut |_| ())
            .await
            .map_err(explained)?;
        self.live.say(&format!("the PC was {}", outcome.before))?;
        if let Some(remark) = outcome.plan.remark {
            self.live.say(remark)?;
        }
        if let PowerAnswer::Lost { .. } = outcome.answer {
            self.live
                .say("the connection broke before the PC confirmed; going by what it does")?;
        }
        self.live.begin("firmware", "until it reads the drive")
    }

    /// From the restart to the hand-off.
    async fn watch(&mut self) -> anyhow::Result<Arrived> {
        let (sender, mut reports) = mpsc::channel(64);
        let following = match (&self.site, &self.session) {
            (Some(site), Some(id)) => Some(follow_in_background(site, id, sender, self.args)),
            _ => None,
        };
        let mut serial = self.args.sol.then(|| super::serial::follow(self.reach));
        let mut signs = Signs::new();
        let mut tick = tokio::time::interval(TICK);
        let arrived = loop {
            tokio::select! {
                _ = tick.tick() => {
                    if let Some(end) = self.look(&mut signs, following.is_some()).await? {
                        break end;
                    }
                }
                line = line_of(&mut serial) => self.live.serial(&line)?,
                told = reports.recv(), if following.is_some() => match told {
                    Some(told) => if let Some(end) = self.hear(told, &mut signs)? {
                        break end;
                    },
                    None => return Err(anyhow!("the session could not be followed any more")),
                },
            }
        };
        if let Some(task) = following {
            task.0.abort();
        }
        Ok(arrived)
    }

    /// Looks at the drive.
    async fn look(&mut self, signs: &mut Signs, staged: bool) -> anyhow::Result<Option<Arrived>> {
        let Some(drive) = &self.drive else {
            return Ok(None);
        };
        let statistics = drive.statistics();
        let over = match &*drive.state().borrow() {
            ider::State::Ended(reason) => Some(reason.clone()),
            _ => None,
        };
        if signs.see(&statistics) {
            self.live.delivered(delivered(&statistics, self.size))?;
        }
        if statistics.reads > 0 && !signs.reading {
            signs.reading = true;
            let what = if staged { "stage one" } else { "ISO" };
            self.restarted = true;
            self.live.begin(what, "over storage redirection")?;
        }
        if let Some(reason) = over {
            return match reason {
                EndReason::Idle if !signs.reading => {
                    let limit = Duration::from_secs(self.args.until_idle.unwrap_or_default());
                    Err(silence(&statistics, limit))
                }
                EndReason::Idle | EndReason::Asked if !staged => Ok(Some(Arrived::Served)),
                // Stage one is in memory: what becomes of the drive is of no account.
                _ if self.live.loader_reports() => Ok(None),
                reason => Err(ended(reason)),
            };
        }
        let waiting = self.args.mode == Mode::NextBoot && !signs.reading;
        let served = !staged && signs.reading;
        if waiting || served || self.live.loader_reports() {
            return Ok(None);
        }
        let patience = Duration::from_secs(self.args.patience);
        if signs.last.elapsed() < patience {
            return Ok(None);
        }
        Err(silence(&statistics, patience))
    }

    /// Takes in what the loader told.
    fn hear(&mut self, told: Told, signs: &mut Signs) -> anyhow::Result<Option<Arrived>> {
        signs.last = Instant::now();
        match told {
            Told::Event(event) => {
                let first = !self.live.loader_reports();
                self.live.event(&event)?;
                if first && self.live.loader_reports() {
                    self.live.begin("loader", "stage one runs")?;
                    // Nothing is read from the drive any more.
                    if let Some(drive) = &self.drive {
                        drive.end();
                    }
                    let alone = self.site.as_ref().is_some_and(|site| !site.is_own());
                    if alone && !self.args.wait {
                        return Ok(Some(Arrived::LoaderRuns));
                    }
                }
                Ok(None)
            }
            Told::State(state) => self.live.state(&state).map(|()| None),
            Told::Remark(text) => self.live.remark(&text).map(|()| None),
            Told::Ending(ending) => {
                let ending = (*ending)?;
                let id = self.session.clone().unwrap_or_default();
                ending.into_result(&id).map(|()| Some(Arrived::HandedOff))
            }
        }
    }

    /// Takes back what has to be taken back and says how the PC is left. Never fails: what cannot be done is told.
    pub(super) async fn leave(&mut self, arrived: Option<Arrived>) -> Vec<String> {
        let mut said = Vec::new();
        if self.armed && matches!(arrived, None | Some(Arrived::Served)) {
            match self.disarm().await {
                Ok(()) => said.push("no boot option is forced: the PC's next start is a plain one".to_owned()),
                Err(error) => said.push(format!(
                    "the boot options could not be cleared ({error:#}), so the PC's next start may still be forced; \
                     clear them with: sparetire pc bios {} --clear",
                    self.args.pc.host
                )),
            }
        }
        if let Some(drive) = self.drive.take() {
            drive.end();
            // It ends by itself, within its own deadlines, when nobody waits any longer.
            let _ = tokio::time::timeout(LEAVE_PATIENCE, drive.ended()).await;
        }
        if self.asked && arrived.is_none() {
            // A code left on the screen would keep the next console waiting. It goes by itself in some minutes.
            let mut device = self.reach.device();
            let mut observer = |_| ();
            let cancelled = consent::cancel(&mut device, &mut observer);
            let _ = tokio::time::timeout(LEAVE_PATIENCE, cancelled).await;
        }
        if let Some(site) = self.site.take() {
            if arrived.is_none()
                && let Some(id) = &self.session
                && let Err(error) = site.client.cancel(id).await
            {
                said.push(format!("session {id} could not be cancelled: {error:#}"));
            }
            site.close().await;
        }
        if arrived.is_none() {
            said.push(self.condition().to_owned());
        }
        said
    }

    /// Whether the PC has read from the drive.
    pub(super) fn was_read(&self) -> bool {
        self.drive
            .as_ref()
            .is_some_and(|drive| drive.statistics().reads > 0)
    }

    /// The last word: the table of times, and how the PC was left.
    pub(super) fn tell(&mut self, outcome: &str, said: &[String]) -> anyhow::Result<()> {
        self.live.outcome(outcome, self.session.as_deref(), said)
    }

    async fn disarm(&self) -> anyhow::Result<()> {
        let mut device = self.reach.device();
        let done = tokio::time::timeout(LEAVE_PATIENCE * 3, disarm(&mut device, &mut |_| ())).await;
        done.context("the PC does not answer")?.map_err(explained)
    }

    /// What the PC is doing now that it is left alone.
    fn condition(&self) -> &'static str {
        match (self.restarted, self.live.loader_reports()) {
            (false, _) => "the PC was not restarted: it runs on, or stays off, as before",
            (true, false) => {
                "the PC was restarted; what it had begun to read from the redirected drive ends there, and a restart \
                 brings its own system back"
            }
            (true, true) => {
                "stage one runs on the PC and shows what it misses; nothing on its disks was changed, and a restart \
                 brings its own system back"
            }
        }
    }
}

/// The next line of a serial line that is followed and still there; else none ever.
async fn line_of(serial: &mut Option<mpsc::Receiver<String>>) -> String {
    if let Some(lines) = serial
        && let Some(line) = lines.recv().await
    {
        return line;
    }
    std::future::pending().await
}

/// What is going to be in the drive, checked before the PC is touched.
enum Medium {
    Iso(FileImage),
    StageOne {
        stage_one: Box<StageOne>,
        new: CreateSession,
    },
}

impl Medium {
    fn prepare(args: &BootArgs) -> anyhow::Result<Self> {
        if let Some(path) = &args.iso {
            let file = FileImage::open(path)
                .with_context(|| format!("opening {}", path.display()))
                .code(ExitCode::Usage)?;
            return Ok(Self::Iso(file));
        }
        let name = args
            .image
            .clone()
            .ok_or_else(|| anyhow!("neither an image nor an ISO is named"))
            .code(ExitCode::Usage)?;
        let stage_one = StageOne::read(&args.stage1()?, &args.trust_key)?;
        if args.server.is_none() {
            let now = crate::serve::Clock::system().now();
            stage_one.check_image(&args.store()?, &name, args.image_version, now)?;
        }
        Ok(Self::StageOne {
            stage_one: Box::new(stage_one),
            new: CreateSession {
                image: name,
                target: args.target,
                version: args.image_version,
                ttl_seconds: args.ttl,
                note: Some(format!("pc boot {}", args.pc.host)),
            },
        })
    }
}

/// Signs of life from the PC.
struct Signs {
    last: Instant,
    commands: u64,
    resets: u64,
    reading: bool,
}

impl Signs {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            commands: 0,
            resets: 0,
            reading: false,
        }
    }

    /// Whether something came since the last look. Reads count as signs, and so do resets.
    fn see(&mut self, statistics: &Statistics) -> bool {
        let news = statistics.commands != self.commands;
        let sign = statistics.reads > 0 && news || statistics.resets != self.resets;
        (self.commands, self.resets) = (statistics.commands, statistics.resets);
        if sign {
            self.last = Instant::now();
        }
        news
    }
}

/// What the follower tells.
enum Told {
    Event(Box<Event>),
    State(State),
    Remark(String),
    Ending(Box<anyhow::Result<Ending>>),
}

struct Teller(mpsc::Sender<Told>);

impl Teller {
    fn tell(&self, told: Told) -> anyhow::Result<()> {
        // The listener redraws a terminal, which is faster than any loader reports.
        self.0.try_send(told).map_err(|_| anyhow!("nobody listens"))
    }
}

impl Watch for Teller {
    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        self.tell(Told::Event(Box::new(event.clone())))
    }

    fn state(&mut self, state: &State) -> anyhow::Result<()> {
        self.tell(Told::State(*state))
    }

    fn remark(&mut self, text: &str) -> anyhow::Result<()> {
        self.tell(Told::Remark(text.to_owned()))
    }
}

/// A task that goes with its owner.
struct Following(tokio::task::JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn follow_in_background(
    site: &Site,
    id: &str,
    sender: mpsc::Sender<Told>,
    args: &BootArgs,
) -> Following {
    let client = Arc::clone(&site.client);
    let id = id.to_owned();
    let (patience, stop_on_failure) = (Duration::from_secs(args.patience), args.stop_on_failure);
    Following(tokio::spawn(async move {
        let subject = Subject {
            id: &id,
            patience,
            stop_on_failure,
        };
        let mut teller = Teller(sender.clone());
        let ending = follow::until_end(&client, subject, &mut teller).await;
        let _ = sender.send(Told::Ending(Box::new(ending))).await;
    }))
}

fn delivered(statistics: &Statistics, size: u64) -> Delivered {
    let part = |share: f32| {
        // Only what was read whole may look so.
        if share >= 1.0 {
            255
        } else {
            (share * 255.0).ceil().min(254.0) as u8
        }
    };
    Delivered {
        size,
        bytes: statistics.bytes_read,
        commands: statistics.commands,
        map: statistics
            .cd
            .shares(MAP_PARTS)
            .into_iter()
            .map(part)
            .collect(),
    }
}

/// A drive that ended although it was needed.
fn ended(reason: EndReason) -> anyhow::Error {
    explain::drive(&reason)
}

/// The PC does nothing any more.
fn silence(statistics: &Statistics, patience: Duration) -> anyhow::Error {
    let seconds = patience.as_secs();
    let (error, advice) = if statistics.reads == 0 {
        (
            anyhow!("the PC did not read from the redirected drive within {seconds} s"),
            "look at its screen (KVM): its BIOS may wait for a key or a password, or not boot from redirected drives \
             (allow storage redirection or USB boot there); --patience waits longer",
        )
    } else if statistics.cd.read() < FELL_THROUGH {
        (
            anyhow!(
                "the PC looked at the redirected drive ({} sectors) and went on to something else",
                statistics.cd.read()
            ),
            "its BIOS found nothing it can start: check that the image fits its firmware (BIOS or UEFI), and that \
             Secure Boot is off",
        )
    } else {
        (
            anyhow!("the PC read stage one, but its loader did not report within {seconds} s"),
            "look at its screen: stage one says there what it lacks. It may not reach the server: see --advertise, and \
             let the firewall pass its connections",
        )
    };
    coded(ExitCode::Failed, advise(error, advice))
}

/// Codes asked for before the PC is left alone: it blocks after several wrong ones.
const CODE_TRIES: usize = 3;
/// Parts of the picture of the medium.
const MAP_PARTS: usize = 40;
const TICK: Duration = Duration::from_millis(250);
/// Firmware that finds nothing bootable reads about 50 sectors of a CD.
const FELL_THROUGH: u64 = 200;
/// Looks at the power state, ten seconds apart, until a PC should have woken.
const WAKE_LOOKS: u32 = 6;
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);
