//! A store in another folder, brought up to date.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use sparetire_manifest::{Timestamp, layout};

use super::{Selection, Sent, SentVersion, packs_of};
use crate::progress::Progress;
use crate::store::{Store, WriteLock};

/// Brings `to` up to date with `selections` of `from`; `delete`, when it names a time and a grace
/// period, also removes there what `from` does not have.
///
/// # Errors
///
/// When a file of either store cannot be used, or the destination is ahead.
pub fn to_folder(
    from: &Store,
    to: &WriteLock,
    selections: &[Selection],
    delete: Option<(Timestamp, Duration)>,
    progress: &Progress,
) -> anyhow::Result<Sent> {
    let mut sent = Sent::default();
    for selection in selections {
        let versions = selection.incoming(from)?;
        for pack in packs_of(from, &versions)? {
            if to.store().has_pack(&pack) {
                progress.inc(pack.length);
                continue;
            }
            let path = from.path(&layout::pack_path(&pack.sha256));
            let mut file =
                File::open(&path).with_context(|| format!("opening {}", path.display()))?;
            to.receive_pack(&pack, &mut file, &mut |bytes| progress.inc(bytes))?;
            sent.packs += 1;
            sent.bytes += pack.length;
        }
        for version in &versions {
            if to.receive_version(version)? {
                sent.versions.push(SentVersion {
                    name: selection.name.clone(),
                    version: version.parsed.version,
                });
            }
        }
        if let Some(latest) = &selection.latest {
            to.receive_latest(&selection.name, latest)?;
        }
    }
    if let Some((now, grace)) = delete {
        remove_others(from, to, now, grace, &mut sent)?;
    }
    Ok(sent)
}

/// What [`to_folder`] would do; the destination need not exist.
///
/// # Errors
///
/// When a file of either store cannot be used.
pub fn plan_folder(from: &Store, to: &Path, selections: &[Selection]) -> anyhow::Result<Sent> {
    let to = Store::open(to).ok();
    let mut sent = Sent {
        dry_run: true,
        ..Sent::default()
    };
    for selection in selections {
        let versions = selection.incoming(from)?;
        for pack in packs_of(from, &versions)? {
            if !to.as_ref().is_some_and(|to| to.has_pack(&pack)) {
                sent.packs += 1;
                sent.bytes += pack.length;
            }
        }
        let there = match &to {
            Some(to) => to.versions(&selection.name)?,
            None => Vec::new(),
        };
        let new = selection.versions.iter().filter(|v| !there.contains(v));
        sent.versions.extend(new.map(|version| SentVersion {
            name: selection.name.clone(),
            version: *version,
        }));
    }
    Ok(sent)
}

fn remove_others(
    from: &Store,
    to: &WriteLock,
    now: Timestamp,
    grace: Duration,
    sent: &mut Sent,
) -> anyhow::Result<()> {
    for name in to.store().images()? {
        let here = from.versions(&name)?;
        let mut there = to.store().versions(&name)?;
        there.retain(|version| !here.contains(version));
        if there.is_empty() {
            continue;
        }
        let removal = to.remove(&name, &there, now)?;
        let removed = removal.versions.iter();
        sent.removed
            .extend(removed.map(|version| layout::version_dir(&name, *version)));
    }
    let collection = to.gc(now, grace)?;
    let removed = collection.removed.iter();
    sent.removed.extend(removed.map(layout::pack_path));
    Ok(())
}
