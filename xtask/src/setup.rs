//! `cargo xtask setup`: everything between a fresh machine and a first boot.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::kernel::Series;
use crate::{apt, diagnostic, kernel, loader, packages, parts, process, tree};

/// `cargo xtask setup`
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Ignore what the cache holds and build everything again
    #[arg(long)]
    fresh: bool,
    /// Say what is there and what is missing; change nothing
    #[arg(long, conflicts_with = "fresh")]
    check: bool,
    /// Which of Debian's kernel sources
    #[arg(long, value_enum, default_value_t)]
    kernel_series: Series,
    /// Link the loader with musl; its Rust target has to be installed already
    #[arg(long)]
    musl: bool,
}

/// What set-up made.
pub(crate) struct Ready {
    /// The program `sparetire`.
    pub(crate) sparetire: PathBuf,
    /// The program `virtual-pc`.
    pub(crate) virtual_pc: PathBuf,
    /// The program `vm-tests`.
    pub(crate) vm_tests: PathBuf,
    /// The diagnostic image's ISO.
    pub(crate) diagnostic: PathBuf,
}

/// The command by itself.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.check {
        return check(options);
    }
    let ready = ensure(options)?;
    println!("kernel and loader: {}", parts::dir().display());
    println!("diagnostic image:  {}", ready.diagnostic.display());
    println!("program:           {}", ready.sparetire.display());
    Ok(ExitCode::SUCCESS)
}

/// Set-up with its defaults, as the other commands call it.
pub(crate) fn ready() -> Result<Ready> {
    ensure(&Options::default())
}

/// Does what is left to do. With everything cached this takes seconds.
fn ensure(options: &Options) -> Result<Ready> {
    let started = Instant::now();
    announce(options)?;
    apt::install_missing(packages::GROUPS)?;
    kernel::ensure(options.kernel_series, options.fresh)?;
    loader::ensure(options.musl, options.fresh)?;
    println!("building sparetire, virtual-pc and vm-tests");
    process::run(Command::new("cargo").current_dir(tree::root()).args([
        "build",
        "--quiet",
        "--locked",
        "--package",
        "sparetire",
        "--package",
        "virtual-pc",
        "--package",
        "vm-tests",
    ]))
    .context("building sparetire, virtual-pc and vm-tests")?;
    let program = |name: &str| tree::target().join("debug").join(name);
    let sparetire = program("sparetire");
    let diagnostic = diagnostic::ensure(&sparetire, options.fresh)?;
    println!("set-up: {} s", started.elapsed().as_secs());
    Ok(Ready {
        sparetire,
        virtual_pc: program("virtual-pc"),
        vm_tests: program("vm-tests"),
        diagnostic,
    })
}

/// Before a long wait, says how long it will be.
fn announce(options: &Options) -> Result<()> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let nothing_cached =
        options.fresh || kernel::find(options.kernel_series).ok().flatten().is_none();
    if nothing_cached {
        println!(
            "first set-up on this machine: kernel, loader and diagnostic image, about {} min on {cpus} CPUs; later runs take seconds",
            10 + 30 / cpus
        );
    }
    Ok(())
}

fn check(options: &Options) -> Result<ExitCode> {
    let missing = apt::missing(packages::GROUPS)?;
    let packages = if missing.is_empty() {
        None
    } else {
        Some(missing.join(" "))
    };
    let mut complete = packages.is_none();
    println!(
        "host packages:    {}",
        packages.map_or("all installed".to_owned(), |names| format!(
            "missing {names}"
        ))
    );
    let mut say = |what: &str, found: Result<Option<PathBuf>>| {
        let state = match found {
            Ok(Some(path)) => path.display().to_string(),
            Ok(None) => "not built yet".to_owned(),
            Err(error) => format!("cannot tell: {error:#}"),
        };
        complete &= Path::new(&state).is_absolute();
        println!("{what:<17} {state}");
    };
    say("kernel:", kernel::find(options.kernel_series));
    say("loader:", loader::find(options.musl));
    say("diagnostic image:", diagnostic::find());
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
