//! `sparetire pc sol` against a BIOS that has nothing to boot.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

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

/// `sparetire pc redirection`: what it says is what the firmware has; a held session is ended from another console.
pub(super) fn redirection(bench: &Bench) -> Result<()> {
    let vpro = Vpro::start(
        bench.parts,
        &bench.dir,
        Firmware::Bios,
        256,
        &Setup::default(),
    )?;
    let told = |action: &[&str]| {
        let mut command = vpro.console(bench.parts, "redirection");
        host::capture(command.args(action))
    };
    for (action, state) in [
        (&["off"][..], 32768),
        (&["on", "--serial"], 32770),
        (&["on"], 32771),
        (&["off", "--serial"], 32769),
        (&["on"], 32771),
    ] {
        told(action)?;
        let found = vpro.state("/firmware/redirection_state")?;
        ensure!(
            found == state,
            "after {action:?} the state is {found}, not {state}"
        );
    }
    let (mut process, _keys) = Background::start_to_type_at(&vpro.console(bench.parts, "sol"))?;
    let remarks = process.stderr()?;
    remarks
        .next_within(to_loader())?
        .context("the session was not opened")?;
    told(&["end", "--serial"])?;
    ensure!(
        process.code()? == Some(0),
        "the other console's session did not end"
    );
    Ok(())
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
