//! `cargo xtask bench`: measurements, each beside a budget or beside another program.
//!
//! Those that boot are in `vm-tests`; those that measure the released program beside others
//! are in `benches`, which takes its own options.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::vm::{status, vm_tests};
use crate::{apt, packages, process, setup, tree};

/// `cargo xtask bench`
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: Bench,
}

/// The measurements there are.
#[derive(Subcommand)]
enum Bench {
    /// Bytes and requests over the CD until the loader speaks, beside iPXE and GRUB
    Stage1Reads,
    /// Peak RAM of stage one against twice the image plus 128 MiB
    BootRam,
    /// Seconds from the redirection session's start to the second system, the emulation's share apart
    TimeToImage,
    /// Time and rate of redirected reads on loopback, beside a bare socket
    Ider,
    /// 1,000 redirection sessions at 600 KB/s in one process
    IderScale,
    /// What a client that holds version 1 fetches for version 2, by chunk size
    Delta,
    /// `image fetch` over three kinds of link, beside aria2 and curl
    Fetch(Passed),
    /// `image import` beside casync: time and peak memory
    Import(Passed),
    /// `serve` beside nginx: requests and bytes per second
    Serve(Passed),
}

/// Options that `benches` reads itself.
#[derive(Args)]
#[command(disable_help_flag = true)]
struct Passed {
    /// Its options; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// The command `bench`.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    match &options.what {
        Bench::Stage1Reads => status(&mut vm_tests(&setup::ready()?, "bench-reads")),
        Bench::BootRam => status(&mut vm_tests(&setup::ready()?, "bench-ram")),
        Bench::TimeToImage => status(&mut vm_tests(&setup::ready()?, "bench-image")),
        // No virtual machine, so no set-up.
        Bench::Ider => status(&mut cargo_bench("sparetire", "ider", &["commands"])),
        Bench::IderScale => status(&mut cargo_bench("sparetire", "ider", &["scale"])),
        Bench::Delta => {
            apt::install_missing(packages::BENCH_GROUPS)?;
            status(&mut cargo_bench("sparetire-builder", "delta", &[]))
        }
        Bench::Fetch(passed) => beside_others("fetch", passed),
        Bench::Import(passed) => beside_others("import", passed),
        Bench::Serve(passed) => beside_others("serve", passed),
    }
}

fn cargo_bench(package: &str, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(tree::root()).args(["bench", "--quiet"]);
    command.args(["--package", package, "--bench", name, "--"]);
    command.args(arguments);
    command
}

/// Runs a measurement of `benches`, after installing the other programs and building ours as
/// it is released.
fn beside_others(what: &str, passed: &Passed) -> Result<ExitCode> {
    apt::install_missing(packages::BENCH_GROUPS)?;
    // With `--json` standard output is the results'.
    eprintln!("building sparetire and benches, optimised");
    process::run(Command::new("cargo").current_dir(tree::root()).args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        "sparetire",
        "--package",
        "benches",
    ]))
    .context("building sparetire and benches")?;
    let release = tree::target().join("release");
    status(
        Command::new(release.join("benches"))
            .arg(what)
            .args(&passed.options)
            .env("SPARETIRE", release.join("sparetire")),
    )
}
