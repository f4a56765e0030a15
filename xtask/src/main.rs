//! `cargo xtask`: what would otherwise be shell scripts.
//!
//! xtask runs programs and links none of ours, so it builds in seconds and works when
//! they do not. Whatever drives a virtual machine is in `tests/vm`, which xtask starts.

mod apt;
mod bench;
mod cache;
mod checks;
mod diagnostic;
mod dist;
mod fuzz;
mod kernel;
mod loader;
mod metadata;
mod packages;
mod parts;
mod process;
mod progress;
mod setup;
mod test;
mod tree;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Set-up, demo, tests and benches of sparetire"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install host packages, build kernel, loader and diagnostic image; the other commands call this
    Setup(setup::Options),
    /// Build only the stage-one kernel
    Kernel(kernel::Options),
    /// Build only the loader; print its size and what it is made of
    Loader(loader::Options),
    /// Formatting, lints, unit tests, docs, fuzz targets and the chosen VM tests
    Test(test::Options),
    /// VM tests by name; without names, the ones continuous integration runs
    Vm(vm::Options),
    /// From nothing to the second system's menu, watched live
    Demo(vm::DemoOptions),
    /// Measurements with budgets
    Bench(bench::Options),
    /// A Debian package and a tarball, to be used without cargo
    Dist(dist::Options),
    /// Run the fuzz targets, all or by name
    Fuzz(fuzz::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup(options) => setup::run(&options),
        Command::Kernel(options) => kernel::run(&options),
        Command::Loader(options) => loader::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Vm(options) => vm::run(&options),
        Command::Demo(options) => vm::demo(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Dist(options) => dist::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
    }
}
