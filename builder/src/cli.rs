//! How commands talk to people and to scripts.
//!
//! With `--json` every line on standard output is one JSON object (NDJSON): progress lines carry
//! an `event`, and the result comes last. Without it, results go to standard output and progress
//! to standard error, so that a pipe only sees results.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

use crate::exit::{ExitCode, coded};
use crate::progress::{Mode, Progress, Unit};

/// The switches every command understands. Flatten it into the top-level parser.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct UiArgs {
    /// Print results and progress as JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// Print no progress, only results and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

impl UiArgs {
    /// The output these switches ask for.
    #[must_use]
    pub fn ui(self) -> Ui {
        Ui {
            json: self.json,
            quiet: self.quiet,
        }
    }
}

/// Where a command's output goes and in which form.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ui {
    /// One JSON object a line instead of text.
    pub json: bool,
    /// No progress.
    pub quiet: bool,
}

impl Ui {
    /// Prints a line of result text; nothing with `--json`, where [`Ui::print_json`] speaks.
    pub fn line(&self, text: impl Display) {
        if !self.json {
            print_line(&text.to_string());
        }
    }

    /// Prints a remark for people on standard error; nothing with `--json` or `--quiet`.
    pub fn note(&self, text: impl Display) {
        if !self.json && !self.quiet {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// Prints a result as one line of JSON.
    ///
    /// # Errors
    ///
    /// When the value has no JSON form; never for our own result types.
    pub fn print_json<T: Serialize + ?Sized>(&self, value: &T) -> anyhow::Result<()> {
        print_line(&serde_json::to_string(value).context("writing result as JSON")?);
        Ok(())
    }

    /// Starts a progress display over `total` bytes (0 = not known beforehand).
    #[must_use]
    pub fn progress(&self, name: &str, total: u64) -> Progress {
        Progress::new(self.mode(), name, total, Unit::Bytes)
    }

    /// Starts a progress display over `total` steps.
    #[must_use]
    pub fn steps(&self, name: &str, total: u64) -> Progress {
        Progress::new(self.mode(), name, total, Unit::Steps)
    }

    fn mode(self) -> Mode {
        match (self.quiet, self.json) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Json,
            (false, false) => Mode::Human,
        }
    }
}

/// A closed pipe (`sparetire image list | head`) ends the output, not the work.
fn print_line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// `$SPARETIRE_STORE`, or `sparetire/store` below the user's data directory.
///
/// # Errors
///
/// When neither is set nor a home directory known.
pub fn default_store() -> anyhow::Result<PathBuf> {
    if let Some(store) = non_empty("SPARETIRE_STORE") {
        return Ok(PathBuf::from(store));
    }
    Ok(base_dir("XDG_DATA_HOME", ".local/share")?.join("sparetire/store"))
}

/// `sparetire/keys` below the user's configuration directory.
///
/// # Errors
///
/// When no home directory is known.
pub fn default_key_dir() -> anyhow::Result<PathBuf> {
    Ok(base_dir("XDG_CONFIG_HOME", ".config")?.join("sparetire/keys"))
}

/// The XDG base directory specification: the variable, if it is absolute, else below `$HOME`.
fn base_dir(variable: &str, below_home: &str) -> anyhow::Result<PathBuf> {
    if let Some(dir) = non_empty(variable).map(PathBuf::from)
        && dir.is_absolute()
    {
        return Ok(dir);
    }
    match non_empty("HOME") {
        Some(home) => Ok(PathBuf::from(home).join(below_home)),
        None => Err(coded(
            ExitCode::Usage,
            anyhow::anyhow!("neither {variable} nor HOME is set; name the directory"),
        )),
    }
}

fn non_empty(variable: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}
