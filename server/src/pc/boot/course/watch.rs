//! From the restart to the hand-off: what the drive delivers, what the loader tells, and when to give up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use boot_api::{Event, State};
use sparetire_builder::exit::{ExitCode, coded};
use tokio::sync::mpsc;

use super::{Arrived, Course};
use crate::failure::advise;
use crate::pc::boot::live::Delivered;
use crate::pc::boot::site::Site;
use crate::pc::boot::{BootArgs, Mode, explain, serial};
use crate::redirection::ider::{self, EndReason, Statistics};
use crate::session::follow::{self, Ending, Subject, Watch};

impl Course<'_> {
    /// From the restart to the hand-off.
    pub(super) async fn watch(&mut self) -> anyhow::Result<Arrived> {
        let (sender, mut reports) = mpsc::channel(MAX_TOLD);
        let following = match (&self.site, &self.session) {
            (Some(site), Some(id)) => Some(follow_in_background(site, id, sender, self.args)),
            _ => None,
        };
        let mut serial = self.args.sol.then(|| serial::follow(self.reach));
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
        signs.reading |= statistics.reads > 0;
        // Whoever only looks what kind of medium it is reads less.
        if statistics.cd.read() >= LOADING && !signs.loading {
            signs.loading = true;
            self.restarted = true;
            let what = if staged { "stage one" } else { "ISO" };
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
                reason => Err(explain::drive(&reason)),
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
        match told {
            Told::Event(event) => {
                signs.last = Instant::now();
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

/// Signs of life from the PC.
struct Signs {
    last: Instant,
    commands: u64,
    resets: u64,
    reading: bool,
    loading: bool,
}

impl Signs {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            commands: 0,
            resets: 0,
            reading: false,
            loading: false,
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

/// More than a session has events, so that a slow terminal never loses one.
const MAX_TOLD: usize = 16_384;
/// Parts of the picture of the medium.
const MAP_PARTS: usize = 40;
const TICK: Duration = Duration::from_millis(250);
/// Sectors after which a boot loader must be at work.
const LOADING: u64 = 100;
/// Firmware that finds nothing bootable reads about 50 sectors of a CD.
const FELL_THROUGH: u64 = 200;
