//! The demo: one command boots a virtual PC with management firmware, from switched off to the diagnostic system's menu,
//! watched live, and what it cost. Then, if wanted, the same image over storage redirection alone.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::firmware::Firmware;
use crate::host::{self, Background, patient};
use crate::parts::Parts;
use crate::site::Site;
use crate::vpro::{Setup, Vpro};

/// How to run it.
#[derive(Debug, Args)]
pub struct Options {
    /// Firmware of the virtual PC
    #[arg(long, default_value = "bios")]
    firmware: Firmware,
    /// No window
    #[arg(long)]
    headless: bool,
    /// Speed of storage redirection in KB/s
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    cd_rate: u32,
    /// Round trip in ms that each command over it costs
    #[arg(long, default_value_t = 20)]
    cd_delay: u32,
    /// Then send the same image over storage redirection alone for two minutes, and extrapolate
    #[arg(long)]
    compare: bool,
}

const MENU: &str = "Main menu";
const MEMORY_MIB: u32 = 2048;
const LIMIT: Duration = Duration::from_secs(1800);
/// How long the comparison runs.
const COMPARISON: Duration = Duration::from_secs(120);

/// Runs the demo; whether the second system came up.
pub fn run(parts: &Parts, options: &Options) -> Result<bool> {
    let size = std::fs::metadata(parts.diagnostic()?)
        .context("reading the diagnostic image's size")?
        .len();
    let more = if options.compare {
        ", and two more for the comparison"
    } else {
        ""
    };
    println!(
        "\nThis boots a virtual PC with Intel AMT ({} firmware). Stage one crosses storage redirection at {} KB/s and \
         {} ms per command; the system of {} MB comes over HTTP.",
        options.firmware,
        options.cd_rate,
        options.cd_delay,
        size / 1_000_000
    );
    println!(
        "It takes one to three minutes{more}: QEMU emulates the processor, ten times slower than a real one.\n"
    );
    let dir = parts.fresh_dir("demo")?;
    let site = Site::new(parts, &dir)?;
    println!("importing the diagnostic image into a signed store");
    site.import_iso("diagnostic", parts.diagnostic()?, &[])?;
    let setup = Setup {
        pc: window(options.headless),
        redirection: format!(
            "bandwidth = {}\nround_trip_ms = {}",
            u64::from(options.cd_rate) * 1000,
            options.cd_delay
        ),
        ..Setup::default()
    };
    let windowed = !setup.pc.is_empty();
    let vpro = Vpro::start(parts, &dir, options.firmware, MEMORY_MIB, &setup)?;
    let mut command = vpro.boot(&site, parts, "diagnostic");
    command.arg("--stop-on-failure");
    println!(
        "the PC is plugged in and off; now the technician's one command:\n\n  {}\n",
        shown(&command)
    );

    let began = Instant::now();
    let booted = Background::start_shown(&command)?.wait()?;
    ensure!(booted, "the PC did not boot; see {}", dir.display());
    let handed_off = began.elapsed();
    println!("\nwaiting for the second system's menu ...");
    vpro.wait_serial(MENU, patient(LIMIT))?;
    let up = began.elapsed();
    println!(
        "\nThe second system is up: its menu is on the screen and on the serial line.\n\n{:<44} {:>8}\n{:<44} {:>8.1}\n{:<44} {:>8.1}\n{:<44} {:>8.1}",
        "phase",
        "seconds",
        "the command, until the hand-off",
        handed_off.as_secs_f64(),
        "second system until its menu (emulated)",
        (up - handed_off).as_secs_f64(),
        "in all",
        up.as_secs_f64()
    );
    vpro.ensure_nothing_forced()?;
    if options.compare {
        compare(parts, &vpro, options, size, handed_off)?;
    }
    if let Some(other) = Firmware::ALL
        .into_iter()
        .find(|firmware| *firmware != options.firmware)
    {
        println!("\nThe same on the other firmware: cargo xtask demo --firmware {other}");
    }
    if windowed {
        println!("The PC keeps running; switch it off in its window, or press Ctrl-C here.");
        while vpro.state("/firmware/power")? != "off" {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    Ok(true)
}

/// The same image without stage one: what two minutes bring, and what the rest would take.
fn compare(
    parts: &Parts,
    vpro: &Vpro,
    options: &Options,
    size: u64,
    two_stages: Duration,
) -> Result<()> {
    println!(
        "\nNow the same image over storage redirection alone, for {} s:",
        COMPARISON.as_secs()
    );
    let mut command = vpro.console(parts, "boot");
    command.args(["--json", "--iso"]).arg(parts.diagnostic()?);
    let mut process = Background::start(&command)?;
    let (lines, errors) = (process.stdout()?, process.stderr()?);
    let end = Instant::now() + COMPARISON;
    let mut last = (0, 0);
    let mut first = None;
    // The last figures before the end of the time count; silence until then is no error.
    while let Ok(Some(line)) = lines.next_within(end.saturating_duration_since(Instant::now())) {
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        if event["event"] == "drive" {
            let figure = |name: &str| event[name].as_u64().unwrap_or_default();
            let now = (figure("bytes"), figure("at_ms"));
            first.get_or_insert(now);
            last = now;
        }
    }
    process.interrupt()?;
    process.wait()?;
    let said = errors.rest_within(Duration::from_secs(5));
    let (first_bytes, first_ms) = first.with_context(|| format!("the PC read nothing: {said}"))?;
    let (bytes, ms) = (last.0 - first_bytes, (last.1 - first_ms).max(1));
    let rate = bytes as f64 / ms as f64;
    println!(
        "  {:.1} MB came in {:.0} s, {rate:.0} KB/s ({} KB/s and {} ms per command are set)",
        last.0 as f64 / 1e6,
        ms as f64 / 1e3,
        options.cd_rate,
        options.cd_delay
    );
    println!(
        "  at that rate the whole image of {:.0} MB takes {:.0} s (extrapolated), against {:.0} s measured in two stages; \
         a system that reads only part of its image while it starts takes less, one that reads at random longer",
        size as f64 / 1e6,
        size as f64 / 1e3 / rate,
        two_stages.as_secs_f64()
    );
    vpro.ensure_nothing_forced()
}

/// The command as a user would type it.
fn shown(command: &Command) -> String {
    let arguments: Vec<_> = command
        .get_args()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    format!("sparetire {}", arguments.join(" "))
}

/// Configuration for a window, if one is wanted and can be had.
fn window(headless: bool) -> String {
    if headless {
        return String::new();
    }
    if std::env::var_os("DISPLAY").is_none() && std::env::var_os("WAYLAND_DISPLAY").is_none() {
        println!("no display found, so no window is opened (as with --headless)");
        return String::new();
    }
    let known = host::capture(Command::new("qemu-system-x86_64").args(["-display", "help"]))
        .unwrap_or_default();
    let found = ["gtk", "sdl"]
        .into_iter()
        .find(|kind| known.lines().any(|line| line.trim() == *kind));
    match found {
        Some(kind) => format!("qemu_options = {}", json!(["-display", kind])),
        None => {
            println!("QEMU has no window here (package qemu-system-gui), so none is opened");
            String::new()
        }
    }
}
