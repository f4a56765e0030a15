//! `image verify`: reads versions back and says whether all of it holds.

use std::time::SystemTime;

use anyhow::anyhow;
use serde::Serialize;
use sparetire_manifest::{Digest, ImageName, TrustedKeys};

use super::{StoreArgs, image_name, trusted_keys};
use crate::cli::Ui;
use crate::exit::{ExitCode, WithCode, coded, exit_code_of};
use crate::store::{CheckError, Store, verify_version};

/// Arguments of `image verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Name of the image
    #[arg(required_unless_present = "all")]
    pub(crate) name: Option<String>,
    /// Version [default: the newest]
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u64>,
    /// Check every version, of every image where no name is given
    #[arg(long, conflicts_with = "version")]
    pub(crate) all: bool,
    /// Public key file or `RW...` line to trust [default: the user's own key]
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Vec<String>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Serialize)]
struct Holds {
    name: String,
    version: u64,
    sha256: Digest,
    size: u64,
    chunks: usize,
    packs: usize,
    key_id: Option<String>,
}

pub(super) fn run(args: &VerifyArgs, ui: &Ui) -> anyhow::Result<()> {
    let keys = trusted_keys(&args.key)?;
    let store = Store::open(&args.store.path()?)?;
    let names = match &args.name {
        Some(name) => vec![image_name(name)?],
        None => store.images()?,
    };
    if !args.all {
        for name in &names {
            let version = store.version(name, args.version)?;
            verify(&store, name, version, &keys, ui)?;
        }
        return Ok(());
    }
    // All of them, also after one that does not hold.
    let mut worst = None;
    for name in &names {
        for version in store.versions(name)? {
            if let Err(error) = verify(&store, name, version, &keys, ui) {
                ui.line(format_args!("{name} version {version}: {error:#}"));
                worst = Some(match worst {
                    Some(ExitCode::Verification) => ExitCode::Verification,
                    _ => exit_code_of(&error),
                });
            }
        }
    }
    match worst {
        None => Ok(()),
        Some(code) => Err(coded(code, anyhow!("not all versions hold"))),
    }
}

fn verify(
    store: &Store,
    name: &ImageName,
    version: u64,
    keys: &TrustedKeys,
    ui: &Ui,
) -> anyhow::Result<()> {
    let size = store
        .manifest(name, version)
        .map_or(0, |manifest| manifest.size);
    let progress = ui.progress(&format!("verifying {name} {version}"), size);
    let now = SystemTime::now().into();
    let result = verify_version(store, name, version, keys, now, |done, _| {
        progress.set(done)
    });
    let summary = match result {
        Ok(summary) => summary,
        Err(error) => {
            // A file that cannot be read is no verdict about the image.
            let code = match error {
                CheckError::Store(crate::store::StoreError::Io { .. }) => ExitCode::Failed,
                _ => ExitCode::Verification,
            };
            return Err(error).code(code);
        }
    };
    progress.finish("holds");
    let holds = Holds {
        name: name.to_string(),
        version,
        sha256: summary.manifest.sha256,
        size: summary.manifest.size,
        chunks: summary.chunks,
        packs: summary.packs,
        key_id: summary.manifest.key_id().map(|id| id.to_string()),
    };
    if ui.json {
        return ui.print_json(&holds);
    }
    ui.line(format_args!(
        "{name} version {version} holds: {} chunks in {} packs, signed by {}",
        holds.chunks,
        holds.packs,
        holds.key_id.unwrap_or_default()
    ));
    Ok(())
}
