//! Running other programs, and saying which one failed and what it said.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Lines of a log that are shown when the program fails.
const TAIL: usize = 30;

/// Runs with the terminal's own streams.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("starting {}", name(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", line(command));
    }
    Ok(())
}

/// Runs and returns standard output; standard error only in the error.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", name(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed ({}): {}",
            line(command),
            output.status,
            said.trim()
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("reading the output of {}", name(command)))
}

/// Runs with both streams in a log file, calling `seen` for each line. On failure, the
/// log's last lines are part of the error.
pub(crate) fn run_logged(
    command: &mut Command,
    log: &Path,
    mut seen: impl FnMut(&str),
) -> Result<()> {
    let (reader, writer) = std::io::pipe().context("creating a pipe")?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("duplicating a pipe")?)
        .stderr(writer);
    let mut child = command
        .spawn()
        .with_context(|| format!("starting {}", name(command)))?;
    // The command holds the pipe's writing ends; without letting go of them the reader
    // below would never see the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("reading a build's output")?;
        file.write_all(&line)
            .and_then(|()| file.write_all(b"\n"))
            .context("writing a build log")?;
        seen(&String::from_utf8_lossy(&line));
    }
    let status = child.wait().context("waiting for a build")?;
    if !status.success() {
        bail!(
            "{} failed ({status}); the end of {}:\n{}",
            line(command),
            log.display(),
            tail(log)?
        );
    }
    Ok(())
}

fn tail(log: &Path) -> Result<String> {
    let bytes = fs::read(log).with_context(|| format!("reading {}", log.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(TAIL)..].join("\n"))
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn line(command: &Command) -> String {
    let mut text = name(command);
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capture_returns_what_the_program_printed() {
        assert_eq!(
            capture(Command::new("echo").arg("hello")).unwrap(),
            "hello\n"
        );
    }

    #[test]
    fn capture_names_the_program_and_what_it_said_when_it_fails() {
        let error = capture(Command::new("sh").args(["-c", "echo broken >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("sh -c") && error.contains("broken") && error.contains('3'),
            "{error}"
        );
    }

    #[test]
    fn a_logged_failure_shows_the_end_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut lines = 0;
        let mut command = Command::new("sh");
        command.args(["-c", "seq 100; echo last words >&2; exit 1"]);
        let error = run_logged(&mut command, &log, |_| lines += 1)
            .unwrap_err()
            .to_string();
        assert_eq!(lines, 101);
        assert!(
            error.contains("last words") && !error.contains("\n50\n"),
            "{error}"
        );
    }
}
