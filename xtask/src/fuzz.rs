//! `cargo xtask fuzz`: builds the fuzz targets once, runs them, and says what they found.
//!
//! The pinned stable compiler does it: libFuzzer is linked by a crate, and the coverage it steers by comes from LLVM
//! passes that need no nightly. What a nightly adds is the address sanitizer, of little use to code without `unsafe`;
//! tests/fuzz/README.md has the command for that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::{process, tree};

/// Instrumentation as cargo-fuzz asks for it.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];
/// With a target named, build scripts and procedural macros stay free of the instrumentation.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// An input that takes longer than this is a finding.
const SLOWEST: Duration = Duration::from_secs(20);
/// Memory above this is a finding, in MiB. The largest honest image index takes a tenth of it.
const MEMORY: u32 = 1024;

/// `cargo xtask fuzz`
#[derive(Args)]
pub(crate) struct Options {
    /// Targets to run; all of them when none is named
    targets: Vec<String>,
    /// How long each target runs, in minutes [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    minutes: Option<u64>,
    /// How long each target runs, in seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Targets run at the same time [default: one for each CPU]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Print the names of the targets and stop
    #[arg(long)]
    list: bool,
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let all = targets()?;
    if options.list {
        for name in all {
            println!("{name}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = options.targets.iter().find(|name| !all.contains(name)) {
        bail!(
            "there is no fuzz target {unknown}; there are: {}",
            all.join(" ")
        );
    }
    let chosen = if options.targets.is_empty() {
        all
    } else {
        options.targets.clone()
    };
    let seconds = match (options.minutes, options.seconds) {
        (Some(minutes), _) => minutes.saturating_mul(60),
        (None, Some(seconds)) => seconds,
        (None, None) => 60,
    };
    if seconds == 0 {
        bail!("0 would let libFuzzer run without end; give each target at least a second");
    }
    let whole = fuzz(&chosen, Duration::from_secs(seconds), options.jobs)?;
    Ok(if whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Builds and runs every target for a few seconds, as continuous integration does.
pub(crate) fn each_for(time: Duration) -> Result<()> {
    if fuzz(&targets()?, time, None)? {
        Ok(())
    } else {
        bail!("a fuzz target found something, see above");
    }
}

/// How one target ended.
struct Outcome {
    name: String,
    took: Duration,
    executions: Option<u64>,
    edges: Option<u64>,
    /// The input libFuzzer left behind, or what else went wrong.
    failure: Option<Failure>,
}

enum Failure {
    Crash(PathBuf),
    Other(String),
}

fn fuzz(names: &[String], time: Duration, jobs: Option<usize>) -> Result<bool> {
    let started = Instant::now();
    build(names)?;
    println!("fuzz targets built in {} s", started.elapsed().as_secs());
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let waiting = Mutex::new(names.iter());
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.unwrap_or(cpus).clamp(1, names.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().ok().and_then(|mut names| names.next());
                    let Some(name) = next else { return };
                    let outcome = run_one(name, time);
                    if let Ok(mut outcomes) = outcomes.lock() {
                        println!("{}", line(&outcome));
                        outcomes.push(outcome);
                    }
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_default();
    let failed = outcomes
        .iter()
        .filter(|outcome| outcome.failure.is_some())
        .inspect(|outcome| explain(outcome))
        .count();
    if outcomes.len() != names.len() {
        bail!("{} of {} targets ran", outcomes.len(), names.len());
    }
    println!("{} targets, {failed} with findings", names.len());
    Ok(failed == 0)
}

fn run_one(name: &str, time: Duration) -> Outcome {
    let started = Instant::now();
    let mut outcome = Outcome {
        name: name.to_owned(),
        took: Duration::ZERO,
        executions: None,
        edges: None,
        failure: None,
    };
    if let Err(error) = run_in(name, time, &mut outcome) {
        outcome.failure = Some(Failure::Other(format!("{error:#}")));
    }
    outcome.took = started.elapsed();
    outcome
}

fn run_in(name: &str, time: Duration, outcome: &mut Outcome) -> Result<()> {
    let artifacts = work().join("artifacts").join(name);
    let found = work().join("corpus").join(name);
    for dir in [&artifacts, &found] {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    let log = work().join(format!("{name}.log"));
    let file = fs::File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    // Inputs that reach something new go to the first directory; the checked-in seeds stay as they are.
    let status = Command::new(program(name))
        .arg(format!("-max_total_time={}", time.as_secs()))
        .arg(format!("-timeout={}", SLOWEST.as_secs()))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .arg(&found)
        .arg(tree::root().join("tests/fuzz/corpus").join(name))
        .stdin(std::process::Stdio::null())
        .stdout(file.try_clone().context("duplicating a log file")?)
        .stderr(file)
        .status()
        .with_context(|| format!("starting {}", program(name).display()))?;
    let said = fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
    let said = String::from_utf8_lossy(&said);
    outcome.executions =
        number_after(&said, "stat::number_of_executed_units:").or_else(|| last_execution(&said));
    outcome.edges = number_after(&said, " cov: ");
    if status.success() {
        return Ok(());
    }
    outcome.failure = Some(match artifact(&said) {
        Some(path) => Failure::Crash(path),
        None => Failure::Other(format!("ended with {status}; see {}", log.display())),
    });
    Ok(())
}

fn line(outcome: &Outcome) -> String {
    let count = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    format!(
        "{:<6} {:<24} {:>10} executions {:>6} edges {:>5} s",
        if outcome.failure.is_none() {
            "ok"
        } else {
            "FOUND"
        },
        outcome.name,
        count(outcome.executions),
        count(outcome.edges),
        outcome.took.as_secs()
    )
}

fn explain(outcome: &Outcome) {
    match &outcome.failure {
        Some(Failure::Crash(path)) => println!(
            "{} fails on {}\n  again:   {} {}\n  smaller: {} -minimize_crash=1 -runs=10000 {}",
            outcome.name,
            path.display(),
            program(&outcome.name).display(),
            path.display(),
            program(&outcome.name).display(),
            path.display(),
        ),
        Some(Failure::Other(why)) => println!("{}: {why}", outcome.name),
        None => {}
    }
}

/// The number after the last occurrence of `label`.
fn number_after(text: &str, label: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(label)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The `#123` of the last progress line, for a target that did not live to print its statistics.
fn last_execution(text: &str) -> Option<u64> {
    text.lines().rev().find_map(|line| {
        line.strip_prefix('#')?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    })
}

/// The file in which libFuzzer says it left the input.
fn artifact(text: &str) -> Option<PathBuf> {
    text.lines()
        .find_map(|line| line.split_once("Test unit written to "))
        .map(|(_, path)| PathBuf::from(path.trim()))
}

fn build(names: &[String]) -> Result<()> {
    println!("building {} fuzz targets", names.len());
    let mut command = Command::new("cargo");
    command
        .current_dir(dir())
        .args([
            "build",
            "--quiet",
            "--locked",
            "--release",
            "--target",
            TRIPLE,
        ])
        .env("CARGO_TARGET_DIR", work())
        .env("RUSTFLAGS", FLAGS.join(" "))
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    for name in names {
        command.args(["--bin", name]);
    }
    process::run(&mut command).context("building the fuzz targets")
}

/// The names of the targets, as their manifest lists them.
fn targets() -> Result<Vec<String>> {
    let metadata = process::capture(Command::new("cargo").current_dir(dir()).args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--no-deps",
    ]))
    .context("listing the fuzz targets")?;
    let metadata: Metadata =
        serde_json::from_str(&metadata).context("reading cargo's list of fuzz targets")?;
    let mut names: Vec<String> = metadata
        .packages
        .into_iter()
        .flat_map(|package| package.targets)
        .filter(|target| target.kind.iter().any(|kind| kind == "bin"))
        .map(|target| target.name)
        .collect();
    names.sort();
    Ok(names)
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

fn dir() -> PathBuf {
    tree::root().join("tests/fuzz")
}

/// Everything fuzzing leaves behind: build, grown corpora, logs, artifacts.
fn work() -> PathBuf {
    tree::target().join("fuzz")
}

fn program(name: &str) -> PathBuf {
    work().join(TRIPLE).join("release").join(Path::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: &str = "INFO: seed corpus: files: 3\n#2\tINITED cov: 11 ft: 12 corp: 1/1b\n\
        #4096\tNEW    cov: 250 ft: 300 corp: 9/10b\nthread panicked at x.rs:1:1\n\
        artifact_prefix='/t/artifacts/x/'; Test unit written to /t/artifacts/x/crash-0a1b\nBase64: AAAA\n";

    #[test]
    fn a_crash_is_read_from_what_libfuzzer_says() {
        assert_eq!(
            artifact(CRASH),
            Some(PathBuf::from("/t/artifacts/x/crash-0a1b"))
        );
        assert_eq!(last_execution(CRASH), Some(4096));
        assert_eq!(number_after(CRASH, " cov: "), Some(250));
    }

    #[test]
    fn statistics_are_read_from_the_end() {
        let text = "#1 INITED cov: 5 ft: 5\nDone 77 runs in 2 second(s)\nstat::number_of_executed_units: 77\n";
        assert_eq!(
            number_after(text, "stat::number_of_executed_units:"),
            Some(77)
        );
        assert_eq!(artifact(text), None);
        assert_eq!(number_after("no numbers", " cov: "), None);
    }

    #[test]
    fn every_target_has_a_source_and_seeds() {
        for name in targets().unwrap() {
            let source = dir().join("fuzz_targets").join(format!("{name}.rs"));
            assert!(source.is_file(), "{}", source.display());
            let seeds = dir().join("corpus").join(&name);
            assert!(
                fs::read_dir(&seeds).is_ok_and(|mut files| files.next().is_some()),
                "no seeds in {}",
                seeds.display()
            );
        }
    }
}
