//! A bundle: versions of images as one tar file (`docs/formats/store.md`), for places without a network between them.
//!
//! Members have the paths of a store, so `tar -x` into an empty folder gives a store. The order
//! lets a reader check as it goes: each manifest with its signature, its index, then the packs,
//! then the pointers. Who controls the bytes of a bundle that is read: anyone, until a signature
//! by a trusted key held; so nothing is kept in memory that is not signed, no pack is written that
//! no signed index names, and members nobody expects end it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sparetire_manifest::{
    Digest, FORMAT, ImageName, Index, MAX_MANIFEST, MAX_SIGNATURE, PackRef, Timestamp, TrustedKeys,
    layout, verify_latest, verify_manifest,
};
use tar::{Archive, Builder, EntryType, Header};

use super::{Selection, packs_of};
use crate::exit::{ExitCode, WithCode, coded};
use crate::progress::Progress;
use crate::store::{Incoming, SignedFile, Store, StoreError, WriteLock};

/// The first member, by which a bundle is known.
const FIRST: &str = "sparetire-bundle.json";

/// Bytes of a path; those of a store have at most 114.
const LONGEST_PATH: u64 = 4096;

#[derive(Serialize, Deserialize)]
struct First {
    format: u32,
}

/// Writes versions of a store into a bundle.
///
/// # Errors
///
/// When a file of the store cannot be read, is not what its index says, or `to` cannot be written.
pub fn export(
    store: &Store,
    selections: &[Selection],
    to: impl io::Write,
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut tar = Builder::new(to);
    let first = serde_json::to_vec(&First { format: FORMAT }).context("writing the bundle")?;
    append(&mut tar, FIRST, &first, 0)?;
    let mut packs: Vec<(PackRef, u64)> = Vec::new();
    let mut seen = BTreeSet::new();
    for selection in selections {
        let versions = selection.incoming(store)?;
        for version in &versions {
            let manifest = &version.parsed;
            let time = manifest.created.unix();
            let path = layout::manifest_path(&manifest.name, manifest.version);
            append_signed(&mut tar, &path, &version.manifest, time)?;
            let path = layout::index_path(&manifest.name, manifest.version);
            append(&mut tar, &path, &version.index, time)?;
        }
        let time = versions.last().map_or(0, |last| last.parsed.created.unix());
        for pack in packs_of(store, &versions)? {
            if seen.insert(pack.sha256) {
                packs.push((pack, time));
            }
        }
    }
    for (pack, time) in packs {
        let relative = layout::pack_path(&pack.sha256);
        let path = store.path(&relative);
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let mut checked = Checked {
            from: BufReader::with_capacity(1 << 20, file).take(pack.length),
            hash: Sha256::new(),
            progress,
        };
        let mut header = header(pack.length, time);
        tar.append_data(&mut header, &relative, &mut checked)
            .with_context(|| format!("copying {relative} into the bundle"))?;
        if Digest::from_bytes(checked.hash.finalize().into()) != pack.sha256 {
            return Err(coded(
                ExitCode::Verification,
                anyhow!("{} is damaged; nothing was exported", path.display()),
            ));
        }
    }
    for selection in selections {
        if let Some(latest) = &selection.latest {
            let path = layout::latest_path(&selection.name);
            append_signed(&mut tar, &path, latest, 0)?;
        }
    }
    let mut to = tar.into_inner().context("completing the bundle")?;
    to.flush().context("completing the bundle")
}

struct Checked<'a, R> {
    from: R,
    hash: Sha256,
    progress: &'a Progress,
}

impl<R: Read> Read for Checked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        self.progress.inc(count as u64);
        Ok(count)
    }
}

fn header(length: u64, time: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(time);
    header.set_size(length);
    header
}

fn append<W: io::Write>(
    tar: &mut Builder<W>,
    path: &str,
    bytes: &[u8],
    time: u64,
) -> anyhow::Result<()> {
    tar.append_data(&mut header(bytes.len() as u64, time), path, bytes)
        .with_context(|| format!("writing {path} into the bundle"))
}

fn append_signed<W: io::Write>(
    tar: &mut Builder<W>,
    path: &str,
    file: &SignedFile,
    time: u64,
) -> anyhow::Result<()> {
    append(tar, path, &file.bytes, time)?;
    let signature = file.signature.as_bytes();
    append(tar, &layout::signature_path(path), signature, time)
}

/// Whether a file is a bundle; a folder, an ISO or anything else is none.
///
/// # Errors
///
/// When it cannot be read.
pub fn is_bundle(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(512).read_to_end(&mut start)?;
    let name = start.get(..FIRST.len()) == Some(FIRST.as_bytes());
    // POSIX.1-1988 ustar and GNU tar: the magic at 257.
    Ok(name && start.get(FIRST.len()) == Some(&0) && start.get(257..262) == Some(b"ustar"))
}

/// What came out of a bundle.
#[derive(Debug, Serialize)]
pub struct Received {
    /// Versions in it.
    pub versions: Vec<ReceivedVersion>,
    /// Whether nothing was written.
    pub dry_run: bool,
}

/// One version of a bundle.
#[derive(Debug, Serialize)]
pub struct ReceivedVersion {
    /// Which image.
    pub name: ImageName,
    /// Which version.
    pub version: u64,
    /// Whether the store did not have it.
    pub new: bool,
    /// Whether it is the newest one now.
    pub latest: bool,
}

/// Takes the versions of a bundle into a store, all of them checked before the first becomes
/// visible. Without a store, only checks.
///
/// # Errors
///
/// When the bundle is damaged, holds what no key in `trusted` signed, or would lead back to an
/// older version; the store then has at most packs that nothing refers to.
pub fn receive(
    bundle: impl Read,
    to: Option<&WriteLock>,
    trusted: &TrustedKeys,
    now: Timestamp,
    progress: &Progress,
) -> anyhow::Result<Received> {
    let mut reading = Reading {
        to,
        trusted,
        now,
        progress,
        unsigned: None,
        versions: Vec::new(),
        wanted: BTreeMap::new(),
        had: BTreeSet::new(),
        latest: Vec::new(),
    };
    let mut archive = Archive::new(bundle);
    let mut is_first = true;
    let mut long_path = None;
    // Raw, because otherwise a path is read into memory however long the bundle says it is.
    let entries = archive.entries().context("reading the bundle")?.raw(true);
    for entry in entries {
        let mut entry = entry.context("reading the bundle")?;
        if entry.header().entry_type() == EntryType::GNULongName {
            let mut path = capped(&mut entry, LONGEST_PATH).context("reading a path")?;
            if path.last() == Some(&0) {
                path.pop();
            }
            long_path = Some(path);
            continue;
        }
        let bytes = long_path
            .take()
            .unwrap_or_else(|| entry.path_bytes().into_owned());
        let path = String::from_utf8_lossy(&bytes).into_owned();
        if entry.header().entry_type() == EntryType::Directory {
            continue;
        }
        if entry.header().entry_type() != EntryType::Regular {
            bail!("{path:?} in the bundle is no plain file");
        }
        if is_first {
            let first = capped(&mut entry, MAX_MANIFEST as u64)?;
            let first: First = serde_json::from_slice(&first).context("reading the bundle")?;
            if path != FIRST || first.format != FORMAT {
                bail!(
                    "a bundle of format {}, which this version does not read",
                    first.format
                );
            }
            is_first = false;
            continue;
        }
        reading
            .member(&path, &mut entry)
            .with_context(|| format!("reading {path} of the bundle"))?;
    }
    reading.finish()
}

struct Reading<'a> {
    to: Option<&'a WriteLock>,
    trusted: &'a TrustedKeys,
    now: Timestamp,
    progress: &'a Progress,
    /// The JSON file whose signature comes next, and its path.
    unsigned: Option<(String, Vec<u8>)>,
    versions: Vec<Incoming>,
    /// Packs that signed indexes name.
    wanted: BTreeMap<Digest, PackRef>,
    /// Those that were in the bundle.
    had: BTreeSet<Digest>,
    latest: Vec<(ImageName, u64, SignedFile)>,
}

impl Reading<'_> {
    fn member(&mut self, path: &str, from: &mut impl Read) -> anyhow::Result<()> {
        if let Some((signed, bytes)) = self.unsigned.take() {
            if path != layout::signature_path(&signed) {
                bail!("the signature of {signed} has to come here");
            }
            let signature = capped(from, MAX_SIGNATURE as u64)?;
            let signature = String::from_utf8(signature).context("reading a signature")?;
            return self.signed(&signed, SignedFile { bytes, signature });
        }
        match path.split('/').collect::<Vec<_>>().as_slice() {
            ["images", _, _, "manifest.json"] | ["images", _, "latest.json"] => {
                self.unsigned = Some((path.to_owned(), capped(from, MAX_MANIFEST as u64)?));
                Ok(())
            }
            ["images", _, _, "index"] => self.index(path, from),
            ["packs", _, file] => {
                let pack = file
                    .strip_suffix(".pack")
                    .and_then(|digest| digest.parse::<Digest>().ok())
                    .and_then(|digest| self.wanted.get(&digest).copied())
                    .filter(|pack| layout::pack_path(&pack.sha256) == path)
                    .ok_or_else(|| anyhow!("no image in the bundle needs it"))?;
                self.pack(pack, from)
            }
            _ => bail!("it belongs to no bundle"),
        }
    }

    fn signed(&mut self, path: &str, file: SignedFile) -> anyhow::Result<()> {
        if path.ends_with("/latest.json") {
            let latest = verify_latest(&file.bytes, &file.signature, self.trusted, self.now, 0)
                .code(ExitCode::Verification)?;
            if layout::latest_path(&latest.name) != path {
                bail!("it is about {}", latest.name);
            }
            self.latest
                .push((latest.name.clone(), latest.version, file));
            return Ok(());
        }
        let manifest = verify_manifest(&file.bytes, &file.signature, self.trusted, self.now)
            .code(ExitCode::Verification)?;
        if layout::manifest_path(&manifest.name, manifest.version) != path {
            bail!("it is about {} {}", manifest.name, manifest.version);
        }
        self.versions.push(Incoming {
            manifest: file,
            parsed: manifest.into_inner(),
            index: Vec::new(),
        });
        Ok(())
    }

    fn index(&mut self, path: &str, from: &mut impl Read) -> anyhow::Result<()> {
        let version = self.versions.last_mut().filter(|version| {
            let manifest = &version.parsed;
            layout::index_path(&manifest.name, manifest.version) == path && version.index.is_empty()
        });
        let version = version.ok_or_else(|| anyhow!("its manifest has to come before it"))?;
        let bytes = capped(from, version.parsed.index.size)?;
        let index = Index::verify(&bytes, &version.parsed.index, version.parsed.size)
            .code(ExitCode::Verification)?;
        for pack in &index.packs {
            self.wanted.insert(pack.sha256, *pack);
        }
        version.index = bytes;
        Ok(())
    }

    fn pack(&mut self, pack: PackRef, from: &mut impl Read) -> anyhow::Result<()> {
        let progress = self.progress;
        match self.to {
            Some(to) => {
                let received = to.receive_pack(&pack, from, &mut |bytes| progress.inc(bytes));
                received.map_err(refused)?;
            }
            None => {
                let mut checked = Checked {
                    from: from.take(pack.length.saturating_add(1)),
                    hash: Sha256::new(),
                    progress,
                };
                let length = io::copy(&mut checked, &mut io::sink())?;
                let found = Digest::from_bytes(checked.hash.finalize().into());
                if length != pack.length || found != pack.sha256 {
                    return Err(refused(StoreError::OtherPack {
                        wanted: pack.sha256,
                        found,
                        length,
                    }));
                }
            }
        }
        self.had.insert(pack.sha256);
        Ok(())
    }

    fn finish(self) -> anyhow::Result<Received> {
        if let Some((path, _)) = self.unsigned {
            bail!("the bundle ends before the signature of {path}");
        }
        // Everything is checked before the first version becomes visible.
        for version in &self.versions {
            let manifest = &version.parsed;
            if version.index.is_empty() {
                bail!(
                    "the bundle has no index of {} {}",
                    manifest.name,
                    manifest.version
                );
            }
            let has_pointer = self.latest.iter().any(|(name, ..)| *name == manifest.name);
            let is_known = self
                .to
                .is_some_and(|to| to.store().read_latest(&manifest.name).is_ok());
            if self.to.is_some() && !has_pointer && !is_known {
                return Err(coded(
                    ExitCode::Refused,
                    anyhow!(
                        "the bundle does not say which version of {} is the newest, and the store does not have \
                         that image; export the newest version as well",
                        manifest.name
                    ),
                ));
            }
        }
        for (digest, pack) in &self.wanted {
            let is_there = self.to.is_some_and(|to| to.store().has_pack(pack));
            if !self.had.contains(digest) && !is_there {
                bail!("the bundle is incomplete: pack {digest} is missing");
            }
        }
        let mut received = Received {
            versions: Vec::new(),
            dry_run: self.to.is_none(),
        };
        for (name, version, _) in &self.latest {
            let here = self.to.and_then(|to| to.store().latest(name).ok());
            if let Some(here) = here.filter(|here| here.version > *version) {
                return Err(refused(StoreError::Older {
                    name: name.clone(),
                    here: here.version,
                    there: *version,
                }));
            }
        }
        for version in &self.versions {
            let manifest = &version.parsed;
            let new = match self.to {
                Some(to) => to.receive_version(version).map_err(refused)?,
                None => false,
            };
            let is_latest = |(name, version, _): &(ImageName, u64, SignedFile)| {
                *name == manifest.name && *version == manifest.version
            };
            received.versions.push(ReceivedVersion {
                name: manifest.name.clone(),
                version: manifest.version,
                new,
                latest: self.latest.iter().any(is_latest),
            });
        }
        if let Some(to) = self.to {
            for (name, _, latest) in &self.latest {
                to.receive_latest(name, latest).map_err(refused)?;
            }
        }
        Ok(received)
    }
}

fn capped(from: &mut impl Read, most: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        bail!("it is longer than {most} bytes");
    }
    Ok(bytes)
}

fn refused(error: StoreError) -> anyhow::Error {
    let code = match error {
        StoreError::OtherPack { .. } => ExitCode::Verification,
        StoreError::Older { .. } | StoreError::OtherVersion { .. } => ExitCode::Refused,
        _ => ExitCode::Failed,
    };
    coded(code, error)
}
