//! `sparetire pc sol` against a BIOS that has nothing to boot.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::super::{Bench, to_loader};
use crate::firmware::Firmware;
use crate::host::{self, Background, Lines};
use crate::vpro::{Setup, Vpro};

pub(super) fn serial(bench: &Bench) -> Result<()> {
    let vpro = Vpro::start(
        bench.parts,
        &bench.dir,
        Firmware::Bios,
        256,
        &Setup::default(),
    )?;
    let (mut process, mut keys) = Background::start_to_type_at(&vpro.console(bench.parts, "sol"))?;
    let screen = process.stdout()?;
    let remarks = process.stderr()?;
    // The session is there before the PC says its first word.
    remarks
        .next_within(to_loader())?
        .context("the session was not opened")?;
    host::capture(vpro.console(bench.parts, "power").arg("on")).context("switching the PC on")?;
    wait_for(&screen, "ESC")?;
    keys.write_all(b"\x1b").context("typing Escape")?;
    wait_for(&screen, "Select boot device")?;
    keys.write_all(b"\x1d").context("typing Ctrl-]")?;
    match process.code()? {
        Some(0) => Ok(()),
        code => bail!(
            "it ended with {code:?}: {}",
            remarks.rest_within(Duration::from_secs(5))
        ),
    }
}

fn wait_for(screen: &Lines, text: &str) -> Result<()> {
    let end = Instant::now() + to_loader();
    let mut seen = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let line = screen
            .next_within(left)
            .with_context(|| format!("waiting for {text:?}; seen: {seen:?}"))?;
        let line = line.with_context(|| format!("the session ended before {text:?}"))?;
        if line.contains(text) {
            return Ok(());
        }
        seen.push(line);
    }
}
