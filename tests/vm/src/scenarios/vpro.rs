//! A PC with management firmware, from any state to the second system, by `sparetire pc boot`; and all the ways in which
//! that ends early. Whatever happens, no boot option stays forced.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Bench, to_loader, to_second};
use crate::firmware::Firmware;
use crate::host::{Background, Lines};
use crate::parts::Format;
use crate::second::{CMDLINE, EMULATED, MARKER, Pair};
use crate::site::{FIRST_LINE, Site};
use crate::vpro::{Setup, Vpro};

mod console;
pub(super) mod iso;

/// Memory of the PC in MiB.
const MEMORY: u32 = 512;

/// A site with a pair, and a PC.
struct Scene<'a> {
    bench: &'a Bench<'a>,
    site: Site<'a>,
    pair: Pair,
    vpro: Vpro,
}

impl<'a> Scene<'a> {
    fn set(bench: &'a Bench<'a>, firmware: Firmware, setup: &Setup) -> Result<Self> {
        let pair = Pair::make(&bench.dir)?;
        let site = Site::new(bench.parts, &bench.dir)?;
        site.import_pair("pair", &pair, &[])?;
        let vpro = Vpro::start(bench.parts, &bench.dir, firmware, MEMORY, setup)?;
        Ok(Scene {
            bench,
            site,
            pair,
            vpro,
        })
    }

    /// `pc boot` of the pair.
    fn boot(&self) -> Command {
        let mut command = self.vpro.boot(&self.site, self.bench.parts, "pair");
        command.args(["--json", "--stop-on-failure"]);
        command
    }

    /// That the second system came up, by its own words, and that nothing is left behind.
    fn second_system_is_up(&self) -> Result<()> {
        let cmdline = self.vpro.wait_serial(CMDLINE, to_second())?;
        ensure!(
            cmdline == format!("{} {EMULATED}", self.pair.cmdline),
            "the second system's command line is {cmdline:?}, expected {:?} and {EMULATED}",
            self.pair.cmdline
        );
        let marker = self.vpro.wait_serial(MARKER, to_second())?;
        ensure!(
            marker == self.pair.marker,
            "the second system's marker is {marker:?}, expected {:?}",
            self.pair.marker
        );
        self.vpro.ensure_nothing_forced()?;
        // The virtual PC's host models check each answer that they get.
        let broken = self.ider("violation_list")?;
        let none = broken.as_array().is_some_and(Vec::is_empty);
        ensure!(none, "the console broke the protocol: {broken}");
        Ok(())
    }

    /// What the virtual PC has counted of storage redirection.
    fn ider(&self, counter: &str) -> Result<Value> {
        let counters = self.vpro.control(&json!({ "command": "counters" }))?;
        let counter = counters["ider"].get(counter).cloned();
        counter.with_context(|| format!("the virtual PC counts otherwise: {counters}"))
    }
}

/// A command that runs and tells events as JSON.
struct Told {
    process: Background,
    lines: Lines,
    errors: Lines,
    heard: Vec<Value>,
}

impl Told {
    fn start(command: &Command) -> Result<Self> {
        Self::of(Background::start(command)?)
    }

    fn of(mut process: Background) -> Result<Self> {
        Ok(Told {
            lines: process.stdout()?,
            errors: process.stderr()?,
            process,
            heard: Vec::new(),
        })
    }

    /// Waits for the first event that `wanted` likes.
    fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Some(line) = self.lines.next_within(left)? else {
                let said = self.errors.rest_within(Duration::from_secs(5));
                bail!("the command ended before {what}: {said}");
            };
            let event: Value =
                serde_json::from_str(&line).with_context(|| format!("understanding {line:?}"))?;
            let found = wanted(&event);
            self.heard.push(event);
            if found {
                return Ok(());
            }
        }
    }

    fn wait_for_phase(&mut self, phase: &str, limit: Duration) -> Result<()> {
        let wanted =
            |event: &Value| event["event"] == "phase" && event["name"].as_str() == Some(phase);
        self.wait_for(&format!("phase {phase}"), limit, wanted)
    }

    /// Waits for its end: exit code and outcome.
    fn end(mut self, limit: Duration) -> Result<Ended> {
        let end = Instant::now() + limit;
        while let Some(line) = self
            .lines
            .next_within(end.saturating_duration_since(Instant::now()))?
        {
            self.heard.push(
                serde_json::from_str(&line).with_context(|| format!("understanding {line:?}"))?,
            );
        }
        let code = self.process.code()?;
        let said = self.errors.rest_within(Duration::from_secs(5));
        Ok(Ended {
            code,
            events: self.heard,
            said,
        })
    }
}

struct Ended {
    code: Option<i32>,
    events: Vec<Value>,
    said: String,
}

impl Ended {
    /// That it ended so, and its last object.
    fn expect(&self, code: i32, outcome: &str) -> Result<&Value> {
        let found = self
            .events
            .iter()
            .rfind(|event| event["event"] == "outcome")
            .with_context(|| format!("no outcome was told: {}", self.said))?;
        ensure!(
            self.code == Some(code) && found["outcome"] == outcome,
            "the command ended with {:?} and {found}, expected {code} and {outcome}: {}",
            self.code,
            self.said
        );
        Ok(found)
    }

    /// That its error speaks of this.
    fn expect_words(&self, words: &str) -> Result<()> {
        ensure!(
            self.said.contains(words),
            "the error says nothing of {words:?}: {}",
            self.said
        );
        Ok(())
    }
}

/// Off, on, or on and hung: the PC comes up in the second system.
pub(super) fn boots(bench: &Bench, firmware: Firmware, power: Power) -> Result<()> {
    let mut setup = Setup::default();
    match power {
        Power::Off => {}
        Power::On => setup.amt = "power = \"on\"".into(),
        Power::Hung => {
            let disk = hanging_disk(bench)?;
            setup.amt = "power = \"on\"".into();
            setup.pc = format!("disk = {:?}", disk.display().to_string());
        }
    }
    let scene = Scene::set(bench, firmware, &setup)?;
    if power == Power::Hung {
        scene.vpro.wait_serial(HANGS, to_loader())?;
    }
    let ended = Told::start(scene.boot().arg("--sol"))?.end(to_loader() + to_second())?;
    let outcome = ended.expect(0, "handed-off")?;
    let printed = |text: &str| {
        ended.events.iter().any(|event| {
            event["event"] == "serial"
                && event["text"]
                    .as_str()
                    .is_some_and(|line| line.contains(text))
        })
    };
    ensure!(printed(FIRST_LINE), "the serial line was not shown");
    ensure!(
        outcome["drive"]["bytes"].as_u64() > Some(3_000_000),
        "stage one did not come over the redirected drive: {outcome}"
    );
    scene.second_system_is_up()
}

/// What a PC is doing when its boot is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    Off,
    On,
    Hung,
}

const HANGS: &str = "own disk";

/// A disk whose boot sector says so and halts with interrupts off.
fn hanging_disk(bench: &Bench) -> Result<PathBuf> {
    let mut sector = vec![
        0xfa, // cli
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x20, 0x7c, // mov si, 0x7c20
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xac, // lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x03, // jz +3
        0xee, // out dx, al
        0xeb, 0xf8, // jmp -8
        0xf4, // hlt
        0xeb, 0xfd, // jmp -3
    ];
    sector.resize(0x20, 0);
    sector.extend_from_slice(HANGS.as_bytes());
    sector.extend_from_slice(b"\r\n\0");
    sector.resize(510, 0);
    sector.extend_from_slice(&[0x55, 0xaa]);
    sector.resize(1 << 20, 0);
    let path = bench.dir.join("disk.img");
    fs::write(&path, sector).context("writing the PC's disk")?;
    Ok(path)
}

/// In client control mode the boot needs the user's consent: refused without a code, done with it.
pub(super) fn consent(bench: &Bench) -> Result<()> {
    let setup = Setup {
        amt: "control_mode = \"client\"\npower = \"on\"".into(),
        ..Setup::default()
    };
    let scene = Scene::set(bench, Firmware::Bios, &setup)?;
    let refused = Told::start(&scene.boot())?.end(to_loader())?;
    refused.expect(3, "failed")?;
    refused.expect_words("--consent")?;
    scene.vpro.ensure_nothing_forced()?;

    let (process, mut input) = Background::start_to_type_at(scene.boot().arg("--consent"))?;
    let mut told = Told::of(process)?;
    told.wait_for_phase("consent", to_loader())?;
    let end = Instant::now() + to_loader();
    let code = loop {
        if let Some(code) = scene.vpro.state("/firmware/consent_code")?.as_str() {
            break code.to_owned();
        }
        ensure!(
            Instant::now() < end,
            "no consent code appeared on the screen"
        );
    };
    writeln!(input, "{code}").context("typing the consent code")?;
    told.end(to_loader() + to_second())?
        .expect(0, "handed-off")?;
    scene.second_system_is_up()
}

/// The session is cut in the middle of stage one; the drive comes back, and the boot goes on.
pub(super) fn dropped(bench: &Bench, percent: u64) -> Result<()> {
    let setup = Setup {
        redirection: "reattach_wait_ms = 60000".into(),
        ..Setup::default()
    };
    let scene = Scene::set(bench, Firmware::Bios, &setup)?;
    let at = 3_600_000 * percent / 100;
    scene
        .vpro
        .control(&json!({ "command": "fault", "at": at, "kind": "drop" }))?;
    let ended = Told::start(&scene.boot())?.end(to_loader() + to_second())?;
    ended.expect(0, "handed-off")?;
    let sessions = scene.ider("sessions")?;
    ensure!(
        sessions == 2,
        "there were {sessions} sessions, not one more after the cut"
    );
    scene.second_system_is_up()
}

/// The server is killed while stage one crosses the slow link, and comes back: the loader finds it.
pub(super) fn server_restarts(bench: &Bench) -> Result<()> {
    let setup = Setup {
        redirection: "bandwidth = 2000000".into(),
        ..Setup::default()
    };
    let mut scene = Scene::set(bench, Firmware::Bios, &setup)?;
    scene.site.serve()?;
    let mut command = scene
        .vpro
        .boot_through_server(&scene.site, bench.parts, "pair")?;
    command.args(["--json", "--wait"]);
    let mut told = Told::start(&command)?;
    told.wait_for_phase("stage one", to_loader())?;
    scene.site.restart()?;
    told.end(to_loader() + to_second())?
        .expect(0, "handed-off")?;
    scene.second_system_is_up()
}

/// While one console holds the session, another one is told so.
pub(super) fn second_console(bench: &Bench) -> Result<()> {
    let scene = Scene::set(bench, Firmware::Bios, &Setup::default())?;
    let mut first = scene.vpro.console(bench.parts, "boot");
    first
        .args(["--json", "--mode", "next-boot", "--iso"])
        .arg(bench.parts.stage1(Format::Iso));
    let mut first = Told::start(&first)?;
    first.wait_for_phase("waiting", to_loader())?;
    let second = Told::start(&scene.boot())?.end(to_loader())?;
    second.expect(3, "failed")?;
    second.expect_words("another console")?;
    first.process.interrupt()?;
    first.end(to_loader())?.expect(1, "stopped")?;
    scene.vpro.ensure_nothing_forced()
}

/// A wrong password is one try and a plain refusal.
pub(super) fn wrong_password(bench: &Bench) -> Result<()> {
    let scene = Scene::set(bench, Firmware::Bios, &Setup::default())?;
    let mut command = scene.boot();
    command.env("SPARETIRE_AMT_PASSWORD", "not the password");
    let ended = Told::start(&command)?.end(to_loader())?;
    ended.expect(3, "failed")?;
    ended.expect_words("password")?;
    scene.vpro.ensure_nothing_forced()
}

/// Stopped by Ctrl-C while stage one is read: the PC's condition is told, and true.
pub(super) fn stopped(bench: &Bench) -> Result<()> {
    let setup = Setup {
        redirection: "bandwidth = 300000".into(),
        ..Setup::default()
    };
    let scene = Scene::set(bench, Firmware::Bios, &setup)?;
    let mut told = Told::start(&scene.boot())?;
    let reading =
        |event: &Value| event["event"] == "drive" && event["bytes"].as_u64() > Some(500_000);
    told.wait_for("stage one is read", to_loader(), reading)?;
    told.process.interrupt()?;
    let ended = told.end(to_loader())?;
    let outcome = ended.expect(1, "stopped")?;
    ensure!(
        outcome["remarks"].to_string().contains("plain one"),
        "the PC's condition is not told: {outcome}"
    );
    scene.vpro.ensure_nothing_forced()?;
    let open = scene.vpro.state("/drives/attached")?;
    ensure!(open == false, "the redirected drives are still there");
    Ok(())
}

/// Serial over LAN: what the BIOS prints arrives, what is typed gets to it.
pub(super) fn serial(bench: &Bench) -> Result<()> {
    console::serial(bench)
}

/// Redirection is switched off and on, and a held session is ended from elsewhere.
pub(super) fn redirection(bench: &Bench) -> Result<()> {
    console::redirection(bench)
}
