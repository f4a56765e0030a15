//! How long it takes from the first redirected byte to the second system, and how much of that is the slow link.
//!
//! The same boot twice: over a link as AMT has it, and over one without limits. What the second takes is the emulated
//! processor's and the fast network's; the difference is the link's.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::firmware::Firmware;
use crate::host::{Background, patient};
use crate::parts::Parts;
use crate::second::{MARKER, Pair};
use crate::site::Site;
use crate::vpro::{Setup, Vpro};

const LIMIT: Duration = Duration::from_secs(900);
/// KB/s and ms per command of the slow link.
const LINK: (u32, u32) = (600, 20);

/// Measures both firmwares and prints a table.
pub fn run(parts: &Parts) -> Result<bool> {
    println!("measuring four boots, about 4 min");
    let mut lines = Vec::new();
    for firmware in Firmware::ALL {
        let slow = boot(parts, firmware, LINK)?;
        let fast = boot(parts, firmware, (0, 0))?;
        let seconds = |time: Duration| time.as_secs_f64();
        lines.push(format!(
            "{firmware:<6} {:>10.1} {:>14.1} {:>22.1}",
            seconds(slow),
            seconds(slow.saturating_sub(fast)),
            seconds(fast)
        ));
    }
    println!(
        "\nseconds from the redirection session's start to the second system's first words, {} KB/s and {} ms per command\n",
        LINK.0, LINK.1
    );
    println!(
        "{:<6} {:>10} {:>14} {:>22}",
        "", "in all", "the link's", "emulation and the rest"
    );
    for line in lines {
        println!("{line}");
    }
    Ok(true)
}

fn boot(parts: &Parts, firmware: Firmware, (rate, delay): (u32, u32)) -> Result<Duration> {
    let dir = parts.fresh_dir(&format!("bench-image-{firmware}-{rate}"))?;
    let pair = Pair::make(&dir)?;
    let site = Site::new(parts, &dir)?;
    site.import_pair("pair", &pair, &[])?;
    let setup = Setup {
        redirection: format!(
            "bandwidth = {}\nround_trip_ms = {delay}",
            u64::from(rate) * 1000
        ),
        ..Setup::default()
    };
    let vpro = Vpro::start(parts, &dir, firmware, 512, &setup)?;
    let mut process = Background::start(&vpro.boot(&site, parts, "pair"))?;
    let lines = process.stdout()?;
    let errors = process.stderr()?;
    // The session with the PC begins with this phase; everything before it is talk with the firmware.
    let end = Instant::now() + patient(LIMIT);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let line = lines.next_within(left)?.with_context(|| {
            format!(
                "the command ended: {}",
                errors.rest_within(Duration::from_secs(5))
            )
        })?;
        if line.split_whitespace().nth(2) == Some("drive") {
            break;
        }
    }
    let began = Instant::now();
    let marker = vpro.wait_serial(MARKER, patient(LIMIT))?;
    let took = began.elapsed();
    ensure!(marker == pair.marker, "another system came up: {marker:?}");
    ensure!(
        process.wait()?,
        "the command failed: {}",
        errors.rest_within(Duration::from_secs(5))
    );
    Ok(took)
}
