//! Running a program to its end, and what that cost.

use std::io::{Read, Seek, SeekFrom};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use wait4::Wait4;

/// No single run takes longer; one that hangs ends here.
const LIMIT_SECONDS: u32 = 600;

/// What running a program cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// From start to end.
    pub(crate) wall: Duration,
    /// Processor time, the program's own and the kernel's on its behalf.
    pub(crate) processor: Duration,
    /// Most memory resident at a time, in bytes. Never less than what this process has, since
    /// the kernel counts from before the program is loaded; hence data here is streamed.
    pub(crate) peak: u64,
}

/// Runs to a good end.
///
/// # Errors
///
/// When it cannot be started, or ends with another code than 0; then with what it printed.
pub(crate) fn run(command: &mut Command) -> Result<Cost> {
    let (cost, status, said) = run_any(command)?;
    if !status.success() {
        bail!("{command:?} failed ({status}): {}", said.trim());
    }
    Ok(cost)
}

/// Runs to any end; also returns how it ended and the end of what it printed.
///
/// # Errors
///
/// When it cannot be started.
pub(crate) fn run_any(command: &Command) -> Result<(Cost, ExitStatus, String)> {
    let mut printed = tempfile::tempfile().context("making a file for a program's output")?;
    let mut limited = Command::new("timeout");
    limited
        .args(["--foreground", "--kill-after=5", &LIMIT_SECONDS.to_string()])
        .arg(command.get_program())
        .args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(key, value),
            None => limited.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        limited.current_dir(dir);
    }
    limited
        .stdin(Stdio::null())
        .stdout(printed.try_clone().context("sharing a file")?)
        .stderr(printed.try_clone().context("sharing a file")?);
    let started = Instant::now();
    let child = limited
        .spawn()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    // `timeout` waited for the program, so the program's use is part of its own.
    let used = child.wait4().context("waiting for a program")?;
    let wall = started.elapsed();
    let mut said = String::new();
    let length = printed.seek(SeekFrom::End(0)).context("reading output")?;
    printed
        .seek(SeekFrom::Start(length.saturating_sub(4096)))
        .context("reading output")?;
    let mut bytes = Vec::new();
    printed.read_to_end(&mut bytes).context("reading output")?;
    said.push_str(&String::from_utf8_lossy(&bytes));
    let cost = Cost {
        wall,
        processor: used.rusage.utime + used.rusage.stime,
        peak: used.rusage.maxrss,
    };
    Ok((cost, used.status, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_program_costs_processor_time_and_memory() {
        // dd copies from and to a buffer of that size.
        let mut command = Command::new("dd");
        command.args(["if=/dev/zero", "of=/dev/null", "bs=64M", "count=30"]);
        let cost = run(&mut command).unwrap();
        assert!(cost.peak > 64 << 20, "{cost:?}");
        assert!(cost.processor > Duration::ZERO, "{cost:?}");
    }

    #[test]
    fn a_failure_says_what_was_printed() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo broken; exit 3"]);
        let error = run(&mut command).unwrap_err().to_string();
        assert!(error.contains("broken") && error.contains('3'), "{error}");
    }
}
