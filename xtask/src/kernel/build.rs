//! Compiling the kernel image, the same way every time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};

use super::source::Source;
use crate::cache;
use crate::process;
use crate::progress::Steps;

/// Object files of a build, until one on this machine has been counted.
const TYPICAL_STEPS: u64 = 1_400;
/// CPU minutes of a build, measured on the machine described in docs.
const TYPICAL_CPU_MINUTES: u64 = 15;

/// Builds `bzImage`. make continues where an interrupted build stopped.
pub(super) fn image(tree: &Path, build: &Path, source: &Source, shelf: &Path) -> Result<PathBuf> {
    let cpus = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let total_file = shelf.join("steps");
    let total = fs::read_to_string(&total_file)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(TYPICAL_STEPS);
    let before = objects(build)?;
    let left = total.saturating_sub(before) * TYPICAL_CPU_MINUTES / total.max(1);
    println!(
        "building {source}: about {} min on {cpus} CPUs",
        left.div_ceil(cpus).max(1)
    );

    let mut steps = Steps::start("kernel", before, total);
    let log = build.join("build.log");
    process::run_logged(&mut make(tree, build, cpus)?, &log, |line| {
        if is_object(line) {
            steps.step();
        }
    })?;
    steps.finish();
    let built = objects(build)?;
    fs::write(&total_file, built.to_string())
        .with_context(|| format!("writing {}", total_file.display()))?;
    Ok(build.join("arch/x86/boot/bzImage"))
}

fn make(tree: &Path, build: &Path, cpus: u64) -> Result<Command> {
    let mut output = String::from("O=");
    output.push_str(&build.to_string_lossy());
    let mut command = Command::new("make");
    command
        .arg("-C")
        .arg(tree)
        .args([&output, &format!("-j{cpus}"), "bzImage"])
        // What would otherwise differ between two machines, or two builds on one.
        .env("KBUILD_BUILD_TIMESTAMP", timestamp(tree)?)
        .env("KBUILD_BUILD_USER", "sparetire")
        .env("KBUILD_BUILD_HOST", "sparetire")
        .env("KBUILD_BUILD_VERSION", "1")
        .env("LC_ALL", "C")
        .env_remove("MAKEFLAGS");
    Ok(command)
}

/// When Debian made the source: the same for everyone who builds this version.
fn timestamp(tree: &Path) -> Result<String> {
    let makefile = tree.join("Makefile");
    let modified = fs::metadata(&makefile).and_then(|meta| meta.modified());
    let time = modified.with_context(|| format!("reading the time of {}", makefile.display()))?;
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .context("the source is older than 1970")?
        .as_secs();
    let text = process::capture(Command::new("date").args([
        "--utc",
        "--date",
        &format!("@{seconds}"),
        "+%F %T UTC",
    ]))?;
    Ok(text.trim().to_owned())
}

fn objects(build: &Path) -> Result<u64> {
    let files = cache::files_below(build)?;
    Ok(files
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "o"))
        .count() as u64)
}

/// Whether a line of kbuild's output announces an object file.
fn is_object(line: &str) -> bool {
    ["CC", "AS", "LD"].iter().any(|tool| {
        line.trim_start()
            .strip_prefix(tool)
            .is_some_and(|rest| rest.starts_with(' '))
    }) && line.ends_with(".o")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_object_files_count_as_steps() {
        for line in [
            "  CC      init/main.o",
            "  AS      arch/x86/entry/entry_64.o",
            "  LD      vmlinux.o",
        ] {
            assert!(is_object(line), "{line}");
        }
        for line in [
            "  HOSTCC  scripts/basic/fixdep",
            "  CC [M]",
            "  AR      init/built-in.a",
            "CCC foo.o",
        ] {
            assert!(!is_object(line), "{line}");
        }
    }
}
