//! `virtual-pc`: a simulated PC with Intel AMT, around QEMU.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use virtual_pc::VirtualPc;
use virtual_pc::config::{Config, EXAMPLE};
use virtual_pc::control;

/// A simulated PC with Intel AMT, around QEMU
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plugs a PC in and keeps it until interrupted; prints its addresses as one line of JSON
    Run {
        /// Configuration; all defaults without it
        file: Option<PathBuf>,
        /// Takes any free ports instead of those of the configuration
        #[arg(long)]
        any_port: bool,
        /// Log messages as JSON
        #[arg(long)]
        json: bool,
        /// More log messages; twice: all of them
        #[arg(short, long, action = clap::ArgAction::Count)]
        verbose: u8,
    },
    /// Prints a configuration with every knob, explained
    ExampleConfig,
    /// Sends a command to a PC that runs
    Control {
        /// Its control socket
        socket: PathBuf,
        #[command(subcommand)]
        command: control::Command,
        /// Prints the answer as JSON even where it is text
        #[arg(long, global = true)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("virtual-pc: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    match command {
        Command::Run {
            file,
            any_port,
            json,
            verbose,
        } => {
            log(json, verbose);
            runtime.block_on(plug_in(file.as_deref(), any_port))
        }
        Command::ExampleConfig => print(EXAMPLE.trim_end()),
        Command::Control {
            socket,
            command,
            json,
        } => {
            let answer = runtime.block_on(control::send(&socket, &command))?;
            print(&if json {
                answer.to_string()
            } else {
                readable(&answer)
            })
        }
    }
}

async fn plug_in(file: Option<&Path>, any_port: bool) -> Result<()> {
    let mut config = match file {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("reading {}", file.display()))?;
            Config::parse(&text).with_context(|| format!("reading {}", file.display()))?
        }
        None => Config::default(),
    };
    if any_port {
        config.amt.wsman_port = 0;
        config.amt.redirection_port = 0;
        config.amt.wsman_tls_port = 0;
        config.amt.redirection_tls_port = 0;
    }
    let mut terminate = signal(SignalKind::terminate()).context("waiting for signals")?;
    let mut hang_up = signal(SignalKind::hangup()).context("waiting for signals")?;
    let pc = VirtualPc::start(config).await?;
    print(&serde_json::to_string(pc.addresses()).context("writing the addresses")?)?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("waiting for signals")?,
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
        () = pc.controls().asked_to_quit() => {}
    }
    pc.shutdown().await;
    Ok(())
}

/// Text as it is, what is made of text line by line, everything else as indented JSON.
fn readable(answer: &Value) -> String {
    if let Some(lines) = answer.get("lines").and_then(Value::as_array) {
        let mut text: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
        while text.last().is_some_and(|line| line.is_empty()) {
            text.pop();
        }
        let mut text = text.join("\n");
        if let Some(code) = answer.get("consent_code").and_then(Value::as_str) {
            text.push_str(&format!("\n[consent code {code}]"));
        }
        return text;
    }
    match answer.get("text").unwrap_or(answer) {
        Value::String(text) => text.clone(),
        Value::Null => "done".into(),
        other => format!("{other:#}"),
    }
}

fn print(text: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{text}")
        .and_then(|()| output.flush())
        .context("writing to standard output")
}

fn log(json: bool, verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::INFO,
        1 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr);
    if json {
        log.json().init();
    } else {
        log.with_target(false).init();
    }
}
