//! `cargo xtask test`: every check there is, in the order in which they fail fastest.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::setup::{self, Ready};
use crate::{fuzz, process, tree, vm};

/// How long each fuzz target runs: enough to try its seeds and find what is broken outright. `cargo xtask fuzz` goes on.
const FUZZ_TIME: Duration = Duration::from_secs(4);

/// `cargo xtask test`
#[derive(Args)]
pub(crate) struct Options {
    /// Leave out set-up and the VM tests
    #[arg(long)]
    quick: bool,
}

/// A stage's name and how it ended.
struct Outcome {
    name: &'static str,
    took: Duration,
    error: Option<String>,
}

/// The command: runs every stage even after one failed, then sums up.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut outcomes = Vec::new();
    let mut ready: Option<Ready> = None;
    if !options.quick {
        stage(&mut outcomes, "set-up", || {
            ready = Some(setup::ready()?);
            Ok(())
        });
    }
    stage(&mut outcomes, "formatting", || {
        cargo(&["fmt", "--all", "--check"], &[])
    });
    stage(&mut outcomes, "lints", || {
        cargo(
            &[
                "clippy",
                "--quiet",
                "--locked",
                "--workspace",
                "--all-targets",
                "--",
                "--deny",
                "warnings",
            ],
            &[],
        )
    });
    stage(&mut outcomes, "unit and property tests", || {
        cargo(&["test", "--quiet", "--locked", "--workspace"], &[])
    });
    stage(&mut outcomes, "documentation", || {
        cargo(
            &[
                "doc",
                "--quiet",
                "--locked",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ],
            &[("RUSTDOCFLAGS", "--deny warnings")],
        )
    });
    stage(&mut outcomes, "fuzz targets, a few seconds each", || {
        fuzz::each_for(FUZZ_TIME)
    });
    if let Some(ready) = ready {
        stage(&mut outcomes, "VM tests", || {
            if !vm::chosen(&ready)? {
                bail!("see above");
            }
            Ok(())
        });
    }
    Ok(summary(&outcomes))
}

fn stage(outcomes: &mut Vec<Outcome>, name: &'static str, work: impl FnOnce() -> Result<()>) {
    println!("==> {name}");
    let started = Instant::now();
    let error = work().err().map(|error| format!("{error:#}"));
    if let Some(error) = &error {
        println!("{name} failed: {error}");
    }
    outcomes.push(Outcome {
        name,
        took: started.elapsed(),
        error,
    });
}

fn summary(outcomes: &[Outcome]) -> ExitCode {
    println!();
    for Outcome { name, took, error } in outcomes {
        println!(
            "{:<6} {name:<32} {:>6} s",
            if error.is_none() { "ok" } else { "FAILED" },
            took.as_secs()
        );
    }
    let failed = outcomes
        .iter()
        .filter(|outcome| outcome.error.is_some())
        .count();
    println!("{} stages passed, {failed} failed", outcomes.len() - failed);
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    process::run(
        Command::new("cargo")
            .current_dir(tree::root())
            .args(arguments)
            .envs(environment.iter().copied()),
    )
}
