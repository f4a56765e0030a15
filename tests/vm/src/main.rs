//! `vm-tests`: scenarios, measurements and the demo, all of which need a virtual PC.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use vm_tests::demo;
use vm_tests::parts::Parts;
use vm_tests::{bench, scenarios};

#[derive(Parser)]
#[command(
    about = "Boots stage one in QEMU; `cargo xtask vm|demo|bench` call this after setting up"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run scenarios: by name, all, or those chosen for continuous integration
    Run {
        /// Run every scenario
        #[arg(long, conflicts_with = "names")]
        all: bool,
        /// Run what must survive or refuse faults: the starred rows of docs/faults.md
        #[arg(long, conflicts_with_all = ["all", "names"])]
        faults: bool,
        /// Print the scenarios and exit
        #[arg(long)]
        list: bool,
        /// Scenarios; a name that ends in `*` means all that start so
        names: Vec<String>,
    },
    /// Boot the diagnostic image, watched live
    Demo(demo::Options),
    /// Bytes and requests over the CD until the loader speaks
    BenchReads,
    /// Peak RAM of stage one
    BenchRam,
    /// From redirection's start to the second system
    BenchImage,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<bool> {
    match command {
        Command::Run { list: true, .. } => {
            for scenario in scenarios::all() {
                println!(
                    "{} {:<28} {}",
                    if scenario.chosen { "*" } else { " " },
                    scenario.name,
                    scenario.about
                );
            }
            println!("* = run by `cargo xtask test`");
            Ok(true)
        }
        Command::Run {
            all, faults, names, ..
        } => {
            let mut table = scenarios::all();
            if !names.is_empty() {
                table = match scenarios::select(&names, table) {
                    Ok(table) => table,
                    Err(name) => bail!("no scenario is called {name}; --list prints them"),
                };
            } else if faults {
                table.retain(|scenario| scenario.name.starts_with(scenarios::FAULTS));
            } else if !all {
                table.retain(|scenario| scenario.chosen);
            }
            scenarios::run(&Parts::find()?, &table)
        }
        Command::Demo(options) => demo::run(&Parts::find()?, &options),
        Command::BenchReads => bench::reads::run(&Parts::find()?),
        Command::BenchRam => bench::ram::run(&Parts::find()?),
        Command::BenchImage => bench::image::run(&Parts::find()?),
    }
}
