//! `image gc`: disk space of packs that no version needs.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use indicatif::HumanBytes;

use super::{WriteArgs, parse_duration};
use crate::cli::Ui;
use crate::store::Store;

/// Arguments of `image gc`.
#[derive(Debug, clap::Args)]
pub struct GcArgs {
    /// How long a pack stays after the last version that needs it went: a number with s, m, h or d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    pub(crate) grace: Duration,
    /// Say what would go, remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
}

pub(super) fn run(args: &GcArgs, ui: &Ui) -> anyhow::Result<()> {
    let store = Store::open(&args.write.store.path()?)?;
    let now = SystemTime::now().into();
    let found = if args.dry_run {
        store.plan_gc(now, args.grace)
    } else {
        args.write.lock(&store, ui)?.gc(now, args.grace)
    };
    let found = found.context(
        "finding out what is needed (a version that cannot be read can be removed, or put back)",
    )?;
    if ui.json {
        return ui.print_json(&found);
    }
    let verb = if args.dry_run {
        "would remove"
    } else {
        "removed"
    };
    ui.line(format_args!(
        "{verb} {} packs, {}; {} packs, {} are needed",
        found.removed.len(),
        HumanBytes(found.removed_bytes),
        found.kept,
        HumanBytes(found.kept_bytes)
    ));
    if let Some(last) = found.waiting.iter().map(|pack| pack.removable).max() {
        let bytes = found.waiting.iter().map(|pack| pack.length).sum();
        ui.line(format_args!(
            "{} packs, {} wait for readers that may still need them, until {last}",
            found.waiting.len(),
            HumanBytes(bytes)
        ));
    }
    for pack in &found.sparse {
        let images: Vec<&str> = pack.images.iter().map(|name| name.as_str()).collect();
        ui.line(format_args!(
            "only {} of {} in pack {} are needed, by {}",
            HumanBytes(pack.live),
            HumanBytes(pack.length),
            pack.sha256,
            images.join(", ")
        ));
    }
    if !found.sparse.is_empty() {
        ui.line(
            "`image republish NAME --repack`, then `image remove NAME --keep 1`, frees the rest",
        );
    }
    Ok(())
}
