//! The course of one boot, and what has to be taken back when it is left early.
//!
//! ```text
//! connect -> redirection -> (consent) -> session -> drive -> boot options -> power
//!         -> firmware (first read) -> stage one (until the loader reports) -> loader (until the hand-off)
//! ```
//! Wherever it stops, [`Course::leave`] clears the boot options, ends the drive and the session, and says what
//! state the PC is in.

use std::sync::Arc;
use std::time::Duration;

use amt_redirection::console::ider::StartMode;
use amt_wsman::class::consent::ConsentState;
use amt_wsman::class::power::PowerState;
use amt_wsman::flow::boot::{BootOptions, BootTarget, arm_boot};
use amt_wsman::flow::consent::{self, Need, Purpose};
use amt_wsman::flow::power::{self, PowerAction, PowerAnswer, power};
use amt_wsman::flow::provisioning::require_provisioned;
use amt_wsman::flow::redirection::{Wanted, enable_redirection};
use anyhow::{Context, anyhow};
use boot_api::CreateSession;
use sparetire_builder::exit::{ExitCode, WithCode, coded};

use super::explain;
use super::live::Live;
use super::medium::StageOne;
use super::reach::Reach;
use super::site::Site;
use super::{BootArgs, Mode, explained};
use crate::amt::Pc;
use crate::failure::advise;
use crate::redirection::block_source::{BlockSource, FileImage};
use crate::redirection::ider::{self, Config, IderHandle, IderServer};

mod leave;
mod watch;

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
                Arc::new(stage_one.with(config)?)
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
        opened.await.map_err(|reason| explain::drive(&reason))
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

/// Codes asked for before the PC is left alone: it blocks after several wrong ones.
const CODE_TRIES: usize = 3;
/// Looks at the power state, ten seconds apart, until a PC should have woken.
const WAKE_LOOKS: u32 = 6;
