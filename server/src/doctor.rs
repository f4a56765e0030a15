//! `sparetire doctor`: is this machine set up to build stage one, keep images, and serve them?
//!
//! Each check looks at one thing, changes nothing, and says what it found and, where that is wrong, the way out. A
//! failed check means that a command will not work; a warning, that one may not, or soon will not.

use std::path::PathBuf;

use anyhow::anyhow;
use reqwest::Url;
use serde::Serialize;
use sparetire_builder::cli::Ui;
use sparetire_builder::exit::{ExitCode, coded};
use sparetire_manifest::Timestamp;

use crate::serve::{ServeArgs, Settings};

mod host;
mod keys;
mod network;
mod parts;
mod store;

/// Options of `sparetire doctor`.
#[derive(Debug, Default, clap::Args)]
pub struct DoctorArgs {
    /// Image store to look at [default: the one `image` and `serve` take]
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Signing key to look at [default: the user's own]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Configuration of the server [default: /etc/sparetire/server.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Server that has to answer
    #[arg(long, value_name = "URL", env = "SPARETIRE_SERVER")]
    pub server: Option<Url>,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// Something may not work, or not for long.
    Warn,
    /// Something does not work.
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at, in a few words.
    check: String,
    state: State,
    /// What was found.
    found: String,
    /// The way out, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

/// Findings in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: impl Into<String>, found: impl Into<String>) {
        self.add(State::Ok, check, found, None);
    }

    fn warn(
        &mut self,
        check: impl Into<String>,
        found: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.add(State::Warn, check, found, Some(cure.into()));
    }

    fn fail(
        &mut self,
        check: impl Into<String>,
        found: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.add(State::Fail, check, found, Some(cure.into()));
    }

    fn add(
        &mut self,
        state: State,
        check: impl Into<String>,
        found: impl Into<String>,
        cure: Option<String>,
    ) {
        self.0.push(Finding {
            check: check.into(),
            state,
            found: found.into(),
            cure,
        });
    }

    fn count(&self, state: State) -> usize {
        self.0
            .iter()
            .filter(|finding| finding.state == state)
            .count()
    }
}

#[derive(Serialize)]
struct Report<'a> {
    /// Whether no check failed.
    ok: bool,
    checks: &'a [Finding],
}

/// Runs every check.
///
/// # Errors
///
/// When a check failed.
pub fn run(args: &DoctorArgs, ui: Ui) -> anyhow::Result<()> {
    let now = std::time::SystemTime::now().into();
    let findings = examine(args, now);
    let failed = findings.count(State::Fail);
    if ui.json {
        ui.print_json(&Report {
            ok: failed == 0,
            checks: &findings.0,
        })?;
    }
    for finding in &findings.0 {
        let word = match finding.state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "FAIL",
        };
        ui.line(format_args!(
            "{word:<5} {}: {}",
            finding.check, finding.found
        ));
        if let Some(cure) = &finding.cure {
            ui.line(format_args!("      -> {cure}"));
        }
    }
    if failed > 0 {
        return Err(coded(
            ExitCode::Failed,
            anyhow!("{failed} of {} checks failed", findings.0.len()),
        ));
    }
    let warnings = findings.count(State::Warn);
    ui.line(format_args!(
        "{} checks, {warnings} warnings, no failure",
        findings.0.len()
    ));
    Ok(())
}

/// Every check, at this moment.
fn examine(args: &DoctorArgs, now: Timestamp) -> Findings {
    let mut findings = Findings::default();
    host::clock(now, &mut findings);
    parts::check(&mut findings);
    keys::check(args.key.as_deref(), &mut findings);
    host::programs(&mut findings);
    let settings = Settings::load(&ServeArgs {
        config: args.config.clone(),
        store: args.store.clone(),
        ..ServeArgs::default()
    });
    match settings {
        Ok(settings) => {
            store::check(&settings.store, now, &mut findings);
            host::disk("disk of the store", &settings.store, &mut findings);
            host::disk("disk of the server's state", &settings.state, &mut findings);
            network::configuration(&settings, &mut findings);
        }
        Err(error) => findings.fail(
            "server configuration",
            format!("{error:#}"),
            "correct the file; sparetire-serve(1) lists what it may say",
        ),
    }
    if let Some(server) = &args.server {
        network::reach(server, &mut findings);
    }
    findings
}

#[cfg(test)]
mod tests;
