//! Running the programs that recipes need: whether they are there, and what they say.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};

use super::Host;
use crate::exit::{ExitCode, coded};

/// Lines of a failed program's output that are shown.
const SHOWN_LINES: usize = 15;

/// Says which programs are missing, and how to get them.
pub(super) fn check(programs: &[&str], host: &Host) -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|program| !std::env::split_paths(&path).any(|dir| dir.join(program).exists()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(coded(
        ExitCode::Usage,
        anyhow!(
            "{} not found; this recipe needs: apt-get install {}",
            missing.join(", "),
            host.packages.join(" ")
        ),
    ))
}

/// mmdebstrap, in the mode that this user can have, with this machine's proxy.
pub(super) fn mmdebstrap() -> Command {
    let mut command = Command::new("mmdebstrap");
    // The owner of /proc/self is the effective user.
    let is_root = fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0);
    command.arg(if is_root {
        "--mode=root"
    } else {
        "--mode=unshare"
    });
    for proxy in apt_proxies() {
        command.arg(format!("--aptopt={proxy}"));
    }
    command
}

/// apt's proxy settings on this machine, as options for another apt.
fn apt_proxies() -> Vec<String> {
    let mut options = Vec::new();
    for name in ["Acquire::http::Proxy", "Acquire::https::Proxy"] {
        let output = Command::new("apt-config")
            .args(["dump", "--format", "%v%n", name])
            .stderr(Stdio::null())
            .output();
        if let Ok(output) = output
            && let Some(proxy) = String::from_utf8_lossy(&output.stdout).lines().next()
            && !proxy.is_empty()
        {
            options.push(format!("{name} \"{proxy}\""));
        }
    }
    options
}

/// Runs a program; its output goes to `log` and, line by line, to `line`.
pub(super) fn run(
    command: &mut Command,
    log: &Path,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut log_file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let output = log_file
        .try_clone()
        .with_context(|| format!("opening {}", log.display()))?;
    let mut child = command
        .stdout(output)
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let mut last = VecDeque::new();
    if let Some(stderr) = child.stderr.take() {
        // dpkg's progress has no line feeds for a long time, and package scripts any encoding.
        for bytes in BufReader::new(stderr).split(b'\n') {
            let bytes = bytes.with_context(|| format!("reading what {program} says"))?;
            let text = String::from_utf8_lossy(&bytes);
            let text = text.trim_end();
            let _ = writeln!(log_file, "{text}");
            line(text);
            if last.len() == SHOWN_LINES {
                last.pop_front();
            }
            last.push_back(text.to_owned());
        }
    }
    let status = child
        .wait()
        .with_context(|| format!("waiting for {program}"))?;
    if status.success() {
        return Ok(());
    }
    let last: Vec<String> = last.into();
    Err(anyhow!(
        "{program} ended with {status}; its last lines:\n  {}",
        last.join("\n  ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'E: no such suite' >&2; exit 3"]);
        let mut lines = Vec::new();
        let error = run(&mut command, &dir.path().join("log"), &mut |line| {
            lines.push(line.to_owned());
        })
        .unwrap_err();
        assert!(error.to_string().contains("E: no such suite"), "{error}");
        assert_eq!(lines, ["E: no such suite"]);
    }

    #[test]
    fn missing_programs_are_named_with_their_packages() {
        let host = Host {
            packages: vec!["mmdebstrap".to_owned()],
        };
        assert!(check(&["sh"], &host).is_ok());
        let error = check(&["sh", "no-such-program"], &host)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("no-such-program not found") && error.ends_with("install mmdebstrap"),
            "{error}"
        );
    }
}
