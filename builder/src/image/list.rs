//! `image list`: what a store has.

use indicatif::HumanBytes;
use serde::Serialize;
use sparetire_manifest::{ImageKind, ImageName, Timestamp};

use super::StoreArgs;
use super::show::kind_text;
use crate::cli::Ui;
use crate::store::Store;

/// Arguments of `image list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Show every version, not only the newest
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Serialize)]
struct Row {
    name: ImageName,
    version: u64,
    kind: ImageKind,
    size: u64,
    created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// Whether the signed pointer names this version.
    latest: bool,
}

pub(super) fn run(args: &ListArgs, ui: &Ui) -> anyhow::Result<()> {
    let store = Store::open(&args.store.path()?)?;
    let mut rows = Vec::new();
    for name in store.images()? {
        let mut versions = store.versions(&name)?;
        if !args.all {
            versions.drain(..versions.len().saturating_sub(1));
        }
        let latest = store.latest(&name).ok().map(|latest| latest.version);
        for version in versions {
            match store.manifest(&name, version) {
                Ok(manifest) => rows.push(Row {
                    name: name.clone(),
                    version,
                    kind: manifest.kind,
                    size: manifest.size,
                    created: manifest.created,
                    expires: manifest.expires,
                    label: manifest.label,
                    latest: latest == Some(version),
                }),
                // One bad version must not hide the others.
                Err(error) => unreadable(&name, version, error.into(), ui)?,
            }
        }
    }
    if ui.json {
        return ui.print_json(&rows);
    }
    if rows.is_empty() {
        ui.note(format!("no images in {}", store.root().display()));
        return Ok(());
    }
    let width = rows
        .iter()
        .map(|row| row.name.as_str().len())
        .max()
        .unwrap_or(0)
        .max(4);
    ui.line(format_args!(
        "{:width$}  {:<16} {:<13} {:>11}  {:<20}  LABEL",
        "NAME", "VERSION", "KIND", "SIZE", "CREATED"
    ));
    for row in rows {
        ui.line(format_args!(
            "{:width$}  {:<16} {:<13} {:>11}  {:<20}  {}",
            row.name.as_str(),
            format!("{}{}", row.version, if row.latest { "*" } else { "" }),
            kind_text(row.kind),
            HumanBytes(row.size).to_string(),
            row.created.to_string(),
            row.label.unwrap_or_default()
        ));
    }
    Ok(())
}

/// Says which version is left out and why.
fn unreadable(name: &ImageName, version: u64, error: anyhow::Error, ui: &Ui) -> anyhow::Result<()> {
    let error = format!("{error:#}");
    if ui.json {
        return ui.print_json(&serde_json::json!({
            "event": "unreadable", "name": name, "version": version, "error": error,
        }));
    }
    ui.note(format!("{name} {version}: {error}"));
    Ok(())
}
