//! Shell completions and manual pages, made from the command line's own definition.

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use sparetire_builder::cli::Ui;

use crate::cli::Cli;

/// Prints the completions of one shell on standard output; with `--json` as one string.
///
/// # Errors
///
/// When they cannot be printed.
pub fn completions(shell: Shell, ui: Ui) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sparetire", &mut text);
    if ui.json {
        return ui.print_json(&serde_json::json!({
            "shell": shell.to_string(), "script": String::from_utf8_lossy(&text),
        }));
    }
    std::io::Write::write_all(&mut std::io::stdout().lock(), &text).context("printing completions")
}

/// Writes `sparetire.1`, `sparetire-serve.1`, `sparetire-session-follow.1` and so on.
///
/// # Errors
///
/// When the folder cannot be written.
pub fn man(out: &Path, ui: Ui) -> anyhow::Result<()> {
    fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    // Building fills in what subcommands inherit, their full names among it.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    page(&command, out, ui)
}

fn page(command: &clap::Command, out: &Path, ui: Ui) -> anyhow::Result<()> {
    let page = clap_mangen::Man::new(command.clone());
    let path = out.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text)
        .and_then(|()| fs::write(&path, text))
        .with_context(|| format!("writing {}", path.display()))?;
    if ui.json {
        ui.print_json(&serde_json::json!({ "event": "written", "path": path }))?;
    }
    ui.line(path.display());
    for subcommand in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        self::page(subcommand, out, ui)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_gets_a_page_under_its_full_name() {
        let dir = tempfile::tempdir().unwrap();
        let quiet = Ui {
            json: false,
            quiet: true,
        };
        man(dir.path(), quiet).unwrap();
        for (page, content) in [
            ("sparetire.1", "Exit codes"),
            ("sparetire-serve.1", "operator\\-token\\-file"),
            ("sparetire-session-follow.1", "sparetire session follow"),
        ] {
            let text = fs::read_to_string(dir.path().join(page)).unwrap();
            assert!(text.replace('\n', " ").contains(content), "{page}: {text}");
        }
        assert!(!dir.path().join("sparetire-help.1").exists());
    }
}
