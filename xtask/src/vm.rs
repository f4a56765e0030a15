//! Commands that boot virtual machines: set-up first, then `vm-tests` does the work.
//!
//! `vm-tests` gets the parts' places through the environment, so it can also be run alone.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use crate::setup::{self, Ready};
use crate::{parts, tree};

/// `cargo xtask vm`
#[derive(Args)]
pub(crate) struct Options {
    /// Run every scenario
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Run the fault table's scenarios (docs/faults.md)
    #[arg(long, conflicts_with_all = ["all", "names"])]
    faults: bool,
    /// Print the scenarios' names and exit
    #[arg(long)]
    list: bool,
    /// Scenarios to run; a name that ends in `*` means all that start so
    names: Vec<String>,
}

/// `cargo xtask demo`
#[derive(Args)]
pub(crate) struct DemoOptions {
    /// Firmware of the virtual PC
    #[arg(long, value_parser = ["bios", "uefi"], default_value = "bios")]
    firmware: String,
    /// No window, even where there is a display
    #[arg(long)]
    headless: bool,
    /// Speed of storage redirection in KB/s (1 KB = 1,000 bytes); management controllers reach 300 to 600
    #[arg(long, value_name = "KB/S", default_value_t = 600)]
    cd_rate: u32,
    /// Round trip in ms that each command over it costs
    #[arg(long, value_name = "MS", default_value_t = 20)]
    cd_delay: u32,
    /// Then send the same image over storage redirection alone for two minutes, and extrapolate
    #[arg(long)]
    compare: bool,
}

/// The command `vm`.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.list {
        // Needs no set-up.
        let mut command = Command::new("cargo");
        command
            .current_dir(tree::root())
            .args(["run", "--quiet", "--package", "vm-tests", "--"]);
        return status(command.args(["run", "--list"]));
    }
    let ready = setup::ready()?;
    let mut command = vm_tests(&ready, "run");
    if options.all {
        command.arg("--all");
    }
    if options.faults {
        command.arg("--faults");
    }
    command.args(&options.names);
    status(&mut command)
}

/// The scenarios continuous integration runs; whether all passed.
pub(crate) fn chosen(ready: &Ready) -> Result<bool> {
    Ok(status(&mut vm_tests(ready, "run"))? == ExitCode::SUCCESS)
}

/// The command `demo`.
pub(crate) fn demo(options: &DemoOptions) -> Result<ExitCode> {
    let ready = setup::ready()?;
    let mut command = vm_tests(&ready, "demo");
    command.args([
        "--firmware",
        &options.firmware,
        "--cd-rate",
        &options.cd_rate.to_string(),
        "--cd-delay",
        &options.cd_delay.to_string(),
    ]);
    for (wanted, argument) in [
        (options.headless, "--headless"),
        (options.compare, "--compare"),
    ] {
        if wanted {
            command.arg(argument);
        }
    }
    status(&mut command)
}

/// `vm-tests` with the parts it needs.
pub(crate) fn vm_tests(ready: &Ready, subcommand: &str) -> Command {
    let mut command = Command::new(&ready.vm_tests);
    command
        .arg(subcommand)
        .env("SPARETIRE", &ready.sparetire)
        .env("VIRTUAL_PC", &ready.virtual_pc)
        .env("SPARETIRE_PARTS", parts::dir())
        .env("SPARETIRE_DIAGNOSTIC", &ready.diagnostic);
    command
}

/// Runs; whether it said that all is well.
pub(crate) fn status(command: &mut Command) -> Result<ExitCode> {
    let status = command
        .status()
        .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
