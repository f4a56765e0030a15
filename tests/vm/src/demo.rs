//! The demo: one boot from switched-off PC to the diagnostic system's menu, watched live,
//! and what it cost.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::cd_drive::{CdDrive, Speed};
use crate::firmware::{Firmware, Nic};
use crate::host::{self, Background, patient};
use crate::machine::{Machine, Medium, Running};
use crate::parts::{Format, Parts};
use crate::read_log::ReadLog;
use crate::site::{FIRST_LINE, STOPPED, Session, Site};
use crate::story::Story;

/// How to run it.
#[derive(Debug, Args)]
pub struct Options {
    /// Firmware of the virtual PC
    #[arg(long, default_value = "bios")]
    firmware: Firmware,
    /// No window
    #[arg(long)]
    headless: bool,
    /// Speed of the CD in KB/s
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    cd_rate: u32,
}

const MENU: &str = "Main menu";
const MEMORY_MIB: u32 = 2048;
const LIMIT: Duration = Duration::from_secs(1800);

/// Runs the demo; whether the second system came up.
pub fn run(parts: &Parts, options: &Options) -> Result<bool> {
    let stage1 = parts.stage1(Format::Iso);
    let size = std::fs::metadata(parts.diagnostic()?)
        .context("reading the diagnostic image's size")?
        .len();
    println!(
        "\nThis boots a virtual PC ({} firmware) from a CD of {} KB/s into a system of {} MB that comes over HTTP.",
        options.firmware,
        options.cd_rate,
        size / 1_000_000
    );
    println!(
        "It takes one to three minutes: QEMU emulates the processor, ten times slower than a real one.\n"
    );

    let dir = parts.fresh_dir("demo")?;
    let mut site = Site::new(parts, &dir)?;
    println!("importing the diagnostic image into a signed store");
    site.import_iso("diagnostic", parts.diagnostic()?, &[])?;
    site.serve()?;
    println!("serving it on {}", site.url()?);
    let session = site.open_session("diagnostic")?;
    let iso = site.customize(&stage1, &session, &[])?;
    println!("stage one for this boot: {}\n", iso.display());

    let speed = Speed {
        rate: Some(u64::from(options.cd_rate) * 1000),
        delay: None,
    };
    let drive = CdDrive::insert(&iso, speed)?;
    let mut machine = Machine::new(
        options.firmware,
        Nic::E1000e,
        MEMORY_MIB,
        Medium::UsbCd(drive.socket()),
    );
    machine.display = if options.headless { None } else { display() };
    let mut running = machine.start(&dir)?;
    println!("switched on; firmware and boot loader read the CD ...");
    let boot = watch(&site, &session, &drive, &mut running, &dir)?;
    println!(
        "\nThe second system is up: its menu is on the screen and on the serial line ({}).\n",
        dir.join("serial.txt").display()
    );
    for line in table(&boot, options.cd_rate) {
        println!("{line}");
    }
    let other = Firmware::ALL
        .into_iter()
        .find(|firmware| *firmware != options.firmware);
    if let Some(other) = other {
        println!("\nThe same on the other firmware: cargo xtask demo --firmware {other}");
    }
    if machine.display.is_some() {
        println!("The PC keeps running; close its window to end the demo.");
        running
            .console
            .wait_closed(Duration::from_secs(24 * 3600))?;
    } else {
        running.stop()?;
    }
    Ok(true)
}

/// What one boot left to be told.
struct Boot {
    cd: ReadLog,
    story: Story,
    to_loader: Duration,
    to_menu: Duration,
}

fn watch(
    site: &Site,
    session: &Session,
    drive: &CdDrive,
    running: &mut Running,
    dir: &Path,
) -> Result<Boot> {
    let since = |at: Instant| at.saturating_duration_since(running.started);
    let loader = running.console.wait_for(FIRST_LINE, patient(LIMIT))?;
    let to_loader = since(loader.at);
    println!("{} (after {} s)", loader.line, to_loader.as_secs());
    let cd = drive.log()?;
    let mut follow = follow(site, session)?;
    let menu = running
        .console
        .wait_for_any(&[MENU, STOPPED], patient(LIMIT))?;
    let to_menu = since(menu.at);
    if menu.which != 0 {
        running.screenshot(&dir.join("screen.png"))?;
    }
    ensure!(
        menu.which == 0,
        "the loader failed: {}; see {}",
        menu.line,
        dir.display()
    );
    // It ends by itself with the hand-off, which is behind us.
    follow.wait()?;
    let story = Story::of(&site.events(session)?);
    Ok(Boot {
        cd,
        story,
        to_loader,
        to_menu,
    })
}

fn follow(site: &Site, session: &Session) -> Result<Background> {
    let mut command = site.session_command("follow")?;
    command.arg(&session.id);
    Background::start_shown(&command)
}

fn table(boot: &Boot, cd_rate: u32) -> Vec<String> {
    let Boot {
        cd,
        story,
        to_loader,
        to_menu,
    } = boot;
    let first = cd.reads.first().map_or(cd.last, |read| read.at);
    let power_on = cd.connected.unwrap_or(first);
    let firmware = first.saturating_sub(power_on);
    let reading = cd.last.saturating_sub(first);
    let kernel = to_loader.saturating_sub(firmware + reading);
    let handed_off = story
        .handed_off
        .as_ref()
        .map(|(at, _)| *at)
        .unwrap_or_default();
    let second = to_menu.saturating_sub(*to_loader + handed_off);
    let others: Duration = ["mount", "config", "report", "target"]
        .iter()
        .map(|step| story.took(step))
        .sum();
    let mut lines = vec![format!("{:<32} {:>8}", "phase", "seconds")];
    for (what, took) in [
        ("firmware", firmware),
        ("CD: boot loader, kernel, loader", reading),
        ("kernel start", kernel),
        ("network", story.took("network")),
        ("manifest and index, verified", story.took("manifest")),
        ("image into memory, verified", story.took("fetch")),
        ("other steps of the loader", others),
        ("hand-off", story.took("hand-off")),
        ("second system until its menu", second),
        ("in all", *to_menu),
    ] {
        lines.push(format!("{what:<32} {:>8.1}", took.as_secs_f64()));
    }
    lines.push(String::new());
    lines.push(format!(
        "over the CD:  {:.1} MB in {} requests at {cd_rate} KB/s",
        megabytes(cd.bytes()),
        cd.requests()
    ));
    let rate = story.rate().map_or(String::new(), |rate| {
        format!(" at {:.1} MB/s", megabytes(rate))
    });
    lines.push(format!(
        "over HTTP:    {:.1} MB of image{rate}",
        megabytes(story.fetched)
    ));
    if let Some(peak) = story.peak_memory {
        lines.push(format!("memory:       {:.1} MB at most", megabytes(peak)));
    }
    if let Some((_, method)) = &story.handed_off {
        lines.push(format!("hand-off by:  {method}"));
    }
    lines
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The kind of window QEMU can open here, if any.
fn display() -> Option<String> {
    if env::var_os("DISPLAY").is_none() && env::var_os("WAYLAND_DISPLAY").is_none() {
        println!("no display found, so no window is opened (as with --headless)");
        return None;
    }
    let known = host::capture(Command::new("qemu-system-x86_64").args(["-display", "help"]))
        .unwrap_or_default();
    let found = ["gtk", "sdl"]
        .into_iter()
        .find(|kind| known.lines().any(|line| line.trim() == *kind));
    if found.is_none() {
        println!("QEMU has no window here (package qemu-system-gui), so none is opened");
    }
    found.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_log::Read;

    #[test]
    fn the_phases_add_up_to_the_whole() {
        let seconds = Duration::from_secs;
        let boot = Boot {
            cd: ReadLog {
                reads: vec![
                    Read {
                        at: seconds(102),
                        offset: 0,
                        length: 2048,
                    },
                    Read {
                        at: seconds(103),
                        offset: 0,
                        length: 998_000,
                    },
                ],
                connected: Some(seconds(100)),
                last: seconds(108),
            },
            story: Story::of(&[
                serde_json::json!({"report": {"at_ms": 0, "kind": "step-started", "step": "fetch"}}),
                serde_json::json!({"report": {"at_ms": 4000, "kind": "progress", "done": 80_000_000}}),
                serde_json::json!({"report": {"at_ms": 4000, "kind": "step-done", "step": "fetch"}}),
                serde_json::json!({"report": {"at_ms": 4000, "kind": "step-started", "step": "hand-off"}}),
                serde_json::json!({"report": {"at_ms": 5000, "kind": "hand-off", "method": "kexec-load"}}),
            ]),
            to_loader: seconds(11),
            to_menu: seconds(46),
        };
        let lines = table(&boot, 600);
        let value = |what: &str| {
            let line = lines.iter().find(|line| line.starts_with(what)).unwrap();
            line.split_whitespace()
                .last()
                .unwrap()
                .parse::<f64>()
                .unwrap()
        };
        assert_eq!(
            [
                value("firmware"),
                value("CD:"),
                value("kernel"),
                value("image"),
                value("hand-off"),
                value("second"),
                value("in all")
            ],
            [2.0, 6.0, 3.0, 4.0, 1.0, 30.0, 46.0]
        );
        assert!(
            lines.contains(&"over the CD:  1.0 MB in 2 requests at 600 KB/s".to_owned()),
            "{lines:?}"
        );
        assert!(
            lines.contains(&"over HTTP:    80.0 MB of image at 20.0 MB/s".to_owned()),
            "{lines:?}"
        );
    }
}
