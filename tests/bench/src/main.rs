//! `benches`: the released `sparetire` beside programs that are not ours, on the same data,
//! in turns within one run.
//!
//! Absolute numbers are those of the machine; the ratios are the result. Every program runs
//! as a process of its own, so that its processor time and memory can be told.
//! `cargo xtask bench` installs the other programs, builds ours, and starts this one.

mod data;
mod fetch;
mod import;
mod link;
mod measured;
mod network;
mod serve;
mod site;
mod table;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    about = "Measures sparetire beside other programs; `cargo xtask bench` sets up and starts this"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// `image fetch` over three kinds of link, beside aria2 and curl; needs root for network namespaces
    Fetch(fetch::Options),
    /// `image import` beside casync: time and peak memory
    Import(import::Options),
    /// `serve` beside nginx: requests and bytes per second
    Serve(serve::Options),
}

/// Ends with 1 when a target is missed, and when measuring failed.
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

/// Whether all targets are met.
fn run(command: Command) -> Result<bool> {
    match command {
        Command::Fetch(options) => fetch::run(&options),
        Command::Import(options) => import::run(&options),
        Command::Serve(options) => serve::run(&options),
    }
}
