//! `image remove`: versions go, their packs stay for `gc`.

use std::time::SystemTime;

use indicatif::HumanBytes;

use super::{WriteArgs, image_name};
use crate::cli::Ui;
use crate::exit::{ExitCode, WithCode};
use crate::store::{Removal, Store, StoreError};

/// Arguments of `image remove`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct RemoveArgs {
    /// Name of the image
    pub(crate) name: String,
    /// Version to remove; repeatable
    #[arg(long, value_name = "N", group = "which")]
    pub(crate) version: Vec<u64>,
    /// Remove all versions but the newest N
    #[arg(long, value_name = "N", group = "which", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keep: Option<u64>,
    /// Remove the whole image
    #[arg(long, group = "which")]
    pub(crate) all: bool,
    /// Say what would go, remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
}

pub(super) fn run(args: &RemoveArgs, ui: &Ui) -> anyhow::Result<()> {
    let name = image_name(&args.name)?;
    let store = Store::open(&args.write.store.path()?)?;
    let chosen = || -> Result<Vec<u64>, StoreError> {
        let mut versions = if args.version.is_empty() {
            store.versions(&name)?
        } else {
            args.version.clone()
        };
        if let Some(keep) = args.keep {
            let keep = usize::try_from(keep).unwrap_or(usize::MAX);
            versions.truncate(versions.len().saturating_sub(keep));
        }
        versions.sort_unstable();
        versions.dedup();
        Ok(versions)
    };
    let result = if args.dry_run {
        chosen().and_then(|versions| Ok(store.plan_removal(&name, &versions)?.0))
    } else {
        let lock = args.write.lock(&store, ui)?;
        // Only now: another process may have published one in the meantime.
        chosen().and_then(
            |versions| match versions.is_empty() && args.keep.is_some() {
                true => Ok(store.plan_removal(&name, &[])?.0),
                false => lock.remove(&name, &versions, SystemTime::now().into()),
            },
        )
    };
    let removal: Removal = match result {
        Ok(removal) => removal,
        Err(error @ StoreError::Newest { .. }) => return Err(error).code(ExitCode::Refused),
        Err(error) => return Err(error.into()),
    };
    if ui.json {
        return ui.print_json(&removal);
    }
    let verb = if args.dry_run {
        "would remove"
    } else {
        "removed"
    };
    if removal.versions.is_empty() {
        ui.line(format_args!("{name} has no version to remove"));
        return Ok(());
    }
    for version in &removal.versions {
        ui.line(format_args!("{verb} {name} version {version}"));
    }
    ui.line(format_args!(
        "{} in packs are no longer needed; `image gc` gives them back after its grace period",
        HumanBytes(removal.unreferenced_bytes)
    ));
    Ok(())
}
