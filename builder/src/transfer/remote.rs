//! A store behind a server that takes files, brought up to date.
//!
//! There is no lock there and no renaming, but each file appears whole. So the order does all:
//! packs, index, signature, manifest; then the pointer's signature in a form that suits the old
//! pointer and the new one, the pointer, and its signature alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, anyhow};
use sparetire_manifest::{
    Digest, ImageName, Latest, MAX_MANIFEST, MAX_SIGNATURE, PackRef, Timestamp, layout,
};

use super::{Objects, Selection, Sent, SentVersion, packs_of};
use crate::exit::{ExitCode, coded};
use crate::progress::Progress;
use crate::store::{
    Incoming, MAX_UNREFERENCED, SignedFile, Store, StoreError, UNREFERENCED, Unreferenced,
};

/// Brings the server up to date with `selections` of `from`; with a time and a grace period in
/// `delete`, also removes what no selection has. With `dry_run`, only asks.
///
/// # Errors
///
/// When a file cannot be read or sent, or the server is ahead.
pub fn to_objects(
    from: &Store,
    to: &Objects,
    selections: &[Selection],
    delete: Option<(Timestamp, Duration)>,
    dry_run: bool,
    progress: &Progress,
) -> anyhow::Result<Sent> {
    let mut sending = Sending {
        from,
        to,
        progress,
        sent: Sent {
            dry_run,
            ..Sent::default()
        },
    };
    let mut needed = BTreeSet::new();
    for selection in selections {
        let versions = selection.incoming(from)?;
        // Refused before anything is sent.
        sending.check_pointer(selection)?;
        for pack in packs_of(from, &versions)? {
            sending.pack(&pack)?;
            needed.insert(pack.sha256);
        }
        for version in &versions {
            sending.version(version)?;
        }
        if let Some(latest) = &selection.latest
            && !dry_run
        {
            sending.latest(&selection.name, latest)?;
        }
    }
    if let Some((now, grace)) = delete {
        sending.remove_others(selections, &needed, now, grace)?;
    }
    Ok(sending.sent)
}

struct Sending<'a> {
    from: &'a Store,
    to: &'a Objects,
    progress: &'a Progress,
    sent: Sent,
}

impl Sending<'_> {
    fn pack(&mut self, pack: &PackRef) -> anyhow::Result<()> {
        let path = layout::pack_path(&pack.sha256);
        // The name says what is in it, and it appeared whole: the length is all there is to ask.
        if self.to.length(&path)? == Some(pack.length) {
            self.progress.inc(pack.length);
            return Ok(());
        }
        if !self.sent.dry_run {
            self.to
                .put_pack(&path, &self.from.path(&path), pack, self.progress)?;
        }
        self.sent.packs += 1;
        self.sent.bytes += pack.length;
        Ok(())
    }

    fn version(&mut self, version: &Incoming) -> anyhow::Result<()> {
        let (name, number) = (&version.parsed.name, version.parsed.version);
        let manifest = layout::manifest_path(name, number);
        let signature = layout::signature_path(&manifest);
        let there = self.to.get(&manifest, MAX_MANIFEST as u64)?;
        if let Some(there) = &there {
            if *there != version.manifest.bytes {
                return Err(refused(StoreError::OtherVersion {
                    name: name.clone(),
                    version: number,
                }));
            }
        } else {
            self.sent.versions.push(SentVersion {
                name: name.clone(),
                version: number,
            });
        }
        if self.sent.dry_run {
            return Ok(());
        }
        if there.is_none() {
            let index = layout::index_path(name, number);
            self.to.put(&index, &version.index)?;
        }
        let wanted = version.manifest.signature.as_bytes();
        if self.to.get(&signature, MAX_SIGNATURE as u64)?.as_deref() != Some(wanted) {
            self.to.put(&signature, wanted)?;
        }
        if there.is_none() {
            self.to.put(&manifest, &version.manifest.bytes)?;
        }
        Ok(())
    }

    fn pointer_there(&self, name: &ImageName) -> anyhow::Result<Option<Latest>> {
        let path = layout::latest_path(name);
        let there = self.to.get(&path, MAX_MANIFEST as u64)?;
        // One that makes no sense leads nobody anywhere, so it may be replaced.
        Ok(there.and_then(|bytes| Latest::parse_unverified(&bytes).ok()))
    }

    fn check_pointer(&self, selection: &Selection) -> anyhow::Result<()> {
        let Some(latest) = &selection.latest else {
            return Ok(());
        };
        let here = Latest::parse_unverified(&latest.bytes)
            .with_context(|| format!("reading {}", layout::latest_path(&selection.name)))?;
        match self.pointer_there(&selection.name)? {
            Some(there) if there.version > here.version => Err(refused(StoreError::Older {
                name: selection.name.clone(),
                here: there.version,
                there: here.version,
            })),
            _ => Ok(()),
        }
    }

    fn latest(&mut self, name: &ImageName, file: &SignedFile) -> anyhow::Result<()> {
        let path = layout::latest_path(name);
        let signature_path = layout::signature_path(&path);
        let there = self.to.get(&path, MAX_MANIFEST as u64)?;
        let old = self.to.get(&signature_path, MAX_SIGNATURE as u64)?;
        let new = file.signature.as_bytes();
        if there.as_deref() != Some(&file.bytes[..]) {
            if let Some(old) = old.filter(|_| there.is_some()) {
                let mut both = file.signature.trim_end().as_bytes().to_vec();
                both.push(b'\n');
                both.extend(old);
                if both.len() <= MAX_SIGNATURE {
                    self.to.put(&signature_path, &both)?;
                }
                self.to.put(&path, &file.bytes)?;
                return self.to.put(&signature_path, new);
            }
            // A reader asks for the pointer first.
            self.to.put(&signature_path, new)?;
            return self.to.put(&path, &file.bytes);
        }
        if old.as_deref() != Some(new) {
            self.to.put(&signature_path, new)?;
        }
        Ok(())
    }

    fn remove_others(
        &mut self,
        selections: &[Selection],
        needed: &BTreeSet<Digest>,
        now: Timestamp,
        grace: Duration,
    ) -> anyhow::Result<()> {
        let kept: BTreeMap<&ImageName, &[u64]> = selections
            .iter()
            .map(|selection| (&selection.name, &selection.versions[..]))
            .collect();
        let mut gone = Vec::new();
        let mut packs = Vec::new();
        for (path, length) in self.to.list()? {
            match path.split('/').collect::<Vec<_>>().as_slice() {
                ["images", name, file] if file.starts_with("latest.json") => {
                    let name = ImageName::try_from((*name).to_owned()).ok();
                    if name.is_some_and(|name| !kept.contains_key(&name)) {
                        gone.push(path);
                    }
                }
                ["images", name, version, _] => {
                    let name = ImageName::try_from((*name).to_owned()).ok();
                    let version = version.parse::<u64>().ok();
                    if let (Some(name), Some(version)) = (name, version)
                        && !kept.get(&name).is_some_and(|kept| kept.contains(&version))
                    {
                        gone.push(path);
                    }
                }
                ["packs", _, file] => {
                    let digest = file.strip_suffix(".pack").and_then(|d| d.parse().ok());
                    if let Some(sha256) = digest.filter(|digest| !needed.contains(digest)) {
                        packs.push(PackRef { sha256, length });
                    }
                }
                _ => {}
            }
        }
        // Pointers first, then manifests, so that nothing leads to what is gone.
        gone.sort_by_key(|path| {
            (
                !path.contains("latest.json"),
                !path.contains("manifest.json"),
            )
        });
        let record = self.to.get(UNREFERENCED, MAX_UNREFERENCED)?;
        let mut record =
            record.map_or_else(Unreferenced::default, |bytes| Unreferenced::parse(&bytes));
        let (due, waiting) = record.sweep(&packs, now, grace);
        if !self.sent.dry_run {
            for path in &gone {
                self.to.delete(path)?;
            }
            for pack in &due {
                self.to.delete(&layout::pack_path(&pack.sha256))?;
            }
            if waiting.is_empty() {
                self.to.delete(UNREFERENCED)?;
            } else {
                let bytes = record.to_json().context("writing what is not needed")?;
                self.to.put(UNREFERENCED, &bytes)?;
            }
        }
        self.sent.removed = gone;
        let due = due.iter().map(|pack| layout::pack_path(&pack.sha256));
        self.sent.removed.extend(due);
        Ok(())
    }
}

fn refused(error: StoreError) -> anyhow::Error {
    coded(ExitCode::Refused, anyhow!(error))
}
