//! `sparetire`: boots a broken PC from far away.

use std::process::ExitCode;

use clap::Parser;
use sparetire_builder::stage1::cli as stage1;
use sparetire_server::cli::{Cli, Command};
use sparetire_server::{doctor, failure, generate, logging, pc, serve, session};

fn main() -> ExitCode {
    let Cli { ui, command } = Cli::parse();
    logging::start(ui, matches!(command, Command::Pc(_)));
    let ui = ui.ui();
    let result = match command {
        Command::Stage1(command) => stage1::run(command, &ui),
        Command::Image(command) => command.run(&ui),
        Command::Key(command) => command.run(&ui),
        Command::Pc(command) => pc::run(command, ui),
        Command::Serve(args) => serve::run(&args, ui),
        Command::Session(command) => session::run(command, ui),
        Command::Doctor(args) => doctor::run(&args, ui),
        Command::Completions { shell } => generate::completions(shell, ui),
        Command::Man { out } => generate::man(&out, ui),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, ui).into(),
    }
}
