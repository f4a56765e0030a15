//! The log: `tracing` on standard error, so that standard output stays for results.
//!
//! `SPARETIRE_LOG` chooses what is logged, in the manner of `warn,sparetire_server=debug`.

use sparetire_builder::cli::UiArgs;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Starts logging for the whole process. A command that `shows` its own progress is not talked over.
pub fn start(ui: UiArgs, shows: bool) {
    let chosen = std::env::var("SPARETIRE_LOG")
        .ok()
        .map(|text| text.parse::<Targets>());
    let filter = match &chosen {
        Some(Ok(targets)) => targets.clone(),
        Some(Err(_)) | None => default_filter(ui.quiet || shows),
    };
    // Systemd and friends put their own time beside each line; a terminal has none.
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if ui.json {
        lines.json().flatten_event(true).boxed()
    } else {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        lines.with_ansi(terminal).with_target(false).boxed()
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .init();
    if let Some(Err(error)) = chosen {
        tracing::warn!(%error, "SPARETIRE_LOG makes no sense and is ignored");
    }
}

/// Dependencies speak up when something is wrong; the server also says what it does.
fn default_filter(quiet: bool) -> Targets {
    let own = if quiet {
        LevelFilter::WARN
    } else {
        LevelFilter::INFO
    };
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("sparetire", own)
        .with_target("sparetire_server", own)
        .with_target("sparetire_builder", own)
}
