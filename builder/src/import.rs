//! Importing: an ISO, or a kernel with its initramfs files, becomes a signed version in a store.
//!
//! Nothing is decided while bytes flow: what boots, and whether the version may exist, is settled
//! before the first chunk. The input is read once, from start to end, in constant memory. The
//! version appears in the store whole or not at all (`store.rs` says how).

mod chunks;
mod source;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde::Serialize;
use sparetire_manifest::{
    BootRecipe, Chunk, Digest, FORMAT, Firmware, ImageKind, ImageName, Index, IndexRef, LinuxBoot,
    Manifest, Medium, PackRef, Place, Placement, Timestamp, index::HEADER_LEN,
};

use crate::exit::{ExitCode, WithCode};
use crate::iso_image::IsoImage;
use crate::live_iso::linux_boot_of;
use crate::progress::Progress;
use crate::release::{Signing, next_version};
use crate::signing::SigningKey;
use crate::store::{FinishedPacks, Known, PackWriter, Store, StoreError};

use chunks::{Form, Piece};
use source::Source;

/// Longest pack that is written.
pub const PACK_CAP: u64 = 256 << 20;

/// What stage one itself and the second system's start need, on top of the copies of the image.
const RAM_ALLOWANCE: u64 = 128 << 20;

/// What is imported.
#[derive(Debug, Clone)]
pub enum Input {
    /// A bootable ISO.
    LinuxIso {
        /// The file.
        path: PathBuf,
        /// Boot entry to take instead of the ISO's own default.
        entry: Option<String>,
    },
    /// A kernel with its initramfs files, in loading order.
    LinuxNetboot {
        /// The kernel.
        kernel: PathBuf,
        /// The initramfs files.
        initrd: Vec<PathBuf>,
    },
}

/// Everything about a version that does not come from the input itself.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which image this is a version of.
    pub name: ImageName,
    /// Version; taken from `now` when absent.
    pub version: Option<u64>,
    /// Short text for people.
    pub label: Option<String>,
    /// Longer text for people.
    pub description: Option<String>,
    /// How long the image may be booted.
    pub valid: Option<Duration>,
    /// How long "this is the newest version" stays believable.
    pub latest_valid: Duration,
    /// Kernel command line instead of the input's own.
    pub cmdline: Option<String>,
    /// Added to the kernel command line.
    pub append: Option<String>,
    /// How the second system looks for its medium, instead of what was found out.
    pub medium: Option<Medium>,
    /// Where the image is put, instead of the place that suits its size.
    pub placement: Option<Placement>,
    /// The moment of the import.
    pub now: Timestamp,
    /// Whether to wait for another process that writes to the store.
    pub wait: bool,
}

/// What an import did, or would do.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Which image.
    pub name: ImageName,
    /// Its new version.
    pub version: u64,
    /// Length of the image in bytes.
    pub size: u64,
    /// Digest of the image.
    pub sha256: Digest,
    /// How it boots.
    pub boot: LinuxBoot,
    /// RAM in bytes below which booting is pointless.
    pub min_ram: u64,
    /// Pieces the image was cut into.
    pub chunks: usize,
    /// Image bytes that are zero and not stored.
    pub hole_bytes: u64,
    /// Image bytes that the store, or an earlier part of the image, already had.
    pub shared_bytes: u64,
    /// Image bytes that were new.
    pub new_bytes: u64,
    /// Bytes they take in packs.
    pub stored_bytes: u64,
    /// Packs written; a dry run counts all as one.
    pub packs: usize,
    /// What the user should know.
    pub notes: Vec<String>,
    /// Whether nothing was written.
    pub dry_run: bool,
}

/// Imports into the store at `root`, making it if need be.
///
/// # Errors
///
/// When the input cannot be booted or read or changes while it is read, when the version may not
/// exist, or when the store cannot be written. The store is then as it was.
pub fn import(
    root: &Path,
    input: &Input,
    options: &Options,
    key: &SigningKey,
    progress: &Progress,
) -> anyhow::Result<Report> {
    let prepared = Prepared::new(input, options)?;
    let store = Store::create(root).context("opening the store")?;
    import_into(&store, prepared, options, key, progress)
}

#[cfg(test)]
pub(crate) fn import_on(
    store: &Store,
    input: &Input,
    options: &Options,
    key: &SigningKey,
) -> anyhow::Result<Report> {
    let ui = crate::cli::Ui {
        json: false,
        quiet: true,
    };
    let progress = ui.progress("test", 0);
    let prepared = Prepared::new(input, options)?;
    import_into(store, prepared, options, key, &progress)
}

fn import_into(
    store: &Store,
    prepared: Prepared,
    options: &Options,
    key: &SigningKey,
    progress: &Progress,
) -> anyhow::Result<Report> {
    let lock = if options.wait {
        let waiting = || progress.message("waiting for another process that writes to the store");
        store.lock_waiting(waiting)
    } else {
        store.lock()
    }
    .context("opening the store for writing")?;
    // The version is chosen only now: the other process may have taken the one before it.
    let version = next_version(store, &options.name, options.version, options.now)?;
    prepared.check(options, version)?;
    let mut notes = prepared.notes.clone();
    let known = known_chunks(store, &mut notes)?;

    let mut collector = Collector::new(&known, Some(lock.packs(PACK_CAP)));
    let sha256 = collector.run(&prepared, progress)?;
    let mut done = collector.finish(prepared.source.size())?;
    let packs = done.packs.take().context("completing the packs")?;

    let index_bytes = done.index.emit();
    let manifest = prepared.manifest(options, version, sha256, &index_bytes);
    let signing = Signing {
        key,
        latest_valid: options.latest_valid,
        now: options.now,
    };
    signing.publish(&lock, packs, &manifest, &index_bytes)?;
    Ok(prepared.report(options, version, sha256, &done, notes, false))
}

/// Does everything that an import does short of writing; the store need not exist.
///
/// # Errors
///
/// As [`import`].
pub fn dry_run(
    root: &Path,
    input: &Input,
    options: &Options,
    progress: &Progress,
) -> anyhow::Result<Report> {
    let prepared = Prepared::new(input, options)?;
    let mut notes = prepared.notes.clone();
    let (version, known) = match Store::open(root) {
        Ok(store) => (
            next_version(&store, &options.name, options.version, options.now)?,
            known_chunks(&store, &mut notes)?,
        ),
        Err(_) => (
            options.version.unwrap_or(options.now.version_number()),
            HashMap::new(),
        ),
    };
    prepared.check(options, version)?;
    let mut collector = Collector::new(&known, None);
    let sha256 = collector.run(&prepared, progress)?;
    let done = collector.finish(prepared.source.size())?;
    Ok(prepared.report(options, version, sha256, &done, notes, true))
}

fn known_chunks(store: &Store, notes: &mut Vec<String>) -> anyhow::Result<HashMap<Digest, Known>> {
    store
        .known_chunks(|name, version, error| {
            let error = chain(error);
            notes.push(format!("not shared with {name} {version}: {error}"));
        })
        .context("reading the indexes of the store")
}

fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// An input that is known to be bootable.
struct Prepared {
    source: Source,
    kind: ImageKind,
    boot: LinuxBoot,
    notes: Vec<String>,
}

impl Prepared {
    fn new(input: &Input, options: &Options) -> anyhow::Result<Self> {
        let mut prepared = match input {
            Input::LinuxIso { path, entry } => {
                let source = Source::one(path)?;
                let iso = IsoImage::open(path)
                    .with_context(|| format!("reading ISO {}", path.display()))?;
                let system = linux_boot_of(&iso, entry.as_deref())
                    .with_context(|| format!("looking for a system on {}", path.display()))?;
                let mut notes = system.notes;
                notes.insert(0, format!("boots {:?} of {}", system.title, system.source));
                Self {
                    source,
                    kind: ImageKind::LinuxIso,
                    boot: system.boot,
                    notes,
                }
            }
            Input::LinuxNetboot { kernel, initrd } => {
                let (source, kernel, initrd) = Source::netboot(kernel, initrd)?;
                Self {
                    source,
                    kind: ImageKind::LinuxNetboot,
                    boot: LinuxBoot {
                        kernel,
                        initrd,
                        cmdline: String::new(),
                        medium: Medium::None,
                        placement: Placement::Initramfs,
                    },
                    notes: Vec::new(),
                }
            }
        };
        let boot = &mut prepared.boot;
        if let Some(cmdline) = &options.cmdline {
            boot.cmdline.clone_from(cmdline);
        }
        if let Some(append) = &options.append {
            boot.cmdline = format!("{} {append}", boot.cmdline).trim().to_owned();
        }
        if let Some(medium) = options.medium {
            boot.medium = medium;
        }
        if let Some(placement) = options.placement {
            boot.placement = placement;
        }
        Ok(prepared)
    }

    /// Twice the image (as it is fetched, and as the second kernel finds it) and its initramfs
    /// files (which are copied out of it), and the allowance, in whole MiB.
    fn min_ram(&self) -> u64 {
        let initrd: u64 = self
            .boot
            .initrd
            .iter()
            .fold(0, |sum, file| sum.saturating_add(file.length));
        self.source
            .size()
            .saturating_add(initrd)
            .saturating_mul(2)
            .saturating_add(RAM_ALLOWANCE)
            .div_ceil(1 << 20)
            .saturating_mul(1 << 20)
    }

    /// Whether the manifest will do, before the long part; its digests come later.
    fn check(&self, options: &Options, version: u64) -> anyhow::Result<()> {
        self.manifest(options, version, Digest::of(b""), &[0; HEADER_LEN])
            .check()
            .context("checking the manifest")
            .code(ExitCode::Usage)
    }

    fn manifest(&self, options: &Options, version: u64, sha256: Digest, index: &[u8]) -> Manifest {
        Manifest {
            format: FORMAT,
            name: options.name.clone(),
            version,
            label: options.label.clone(),
            description: options.description.clone(),
            kind: self.kind,
            created: options.now,
            expires: options.valid.map(|valid| options.now.plus(valid)),
            size: self.source.size(),
            sha256,
            index: IndexRef {
                sha256: Digest::of(index),
                size: index.len() as u64,
            },
            boot: BootRecipe::Linux(self.boot.clone()),
            min_ram: Some(self.min_ram()),
            // Linux starts Linux under either.
            firmware: vec![Firmware::Bios, Firmware::Uefi],
        }
    }

    fn report(
        &self,
        options: &Options,
        version: u64,
        sha256: Digest,
        done: &Collected,
        notes: Vec<String>,
        dry_run: bool,
    ) -> Report {
        Report {
            name: options.name.clone(),
            version,
            size: self.source.size(),
            sha256,
            boot: self.boot.clone(),
            min_ram: self.min_ram(),
            chunks: done.index.chunks.len(),
            hole_bytes: done.hole_bytes,
            shared_bytes: done.shared_bytes,
            new_bytes: done.new_bytes,
            stored_bytes: done.stored_bytes,
            packs: done.written,
            notes,
            dry_run,
        }
    }
}

/// Puts pieces into packs and remembers where.
struct Collector<'a> {
    known: &'a HashMap<Digest, Known>,
    /// None in a dry run.
    packs: Option<PackWriter<'a>>,
    /// Packs of the store that are referred to, in order of first use.
    old: Vec<PackRef>,
    old_numbers: HashMap<Digest, u32>,
    /// Chunks of this image that are new to the store.
    new: HashMap<Digest, (u32, Place)>,
    chunks: Vec<(Chunk, Pack)>,
    hole_bytes: u64,
    shared_bytes: u64,
    new_bytes: u64,
    stored_bytes: u64,
}

/// Which list the pack number of a chunk counts in.
#[derive(Clone, Copy)]
enum Pack {
    Old,
    New,
}

/// An image all of whose pieces have a place.
struct Collected {
    index: Index,
    /// None in a dry run.
    packs: Option<FinishedPacks>,
    /// Packs that were added, or in a dry run would be as one.
    written: usize,
    hole_bytes: u64,
    shared_bytes: u64,
    new_bytes: u64,
    stored_bytes: u64,
}

impl<'a> Collector<'a> {
    fn new(known: &'a HashMap<Digest, Known>, packs: Option<PackWriter<'a>>) -> Self {
        Self {
            known,
            packs,
            old: Vec::new(),
            old_numbers: HashMap::new(),
            new: HashMap::new(),
            chunks: Vec::new(),
            hole_bytes: 0,
            shared_bytes: 0,
            new_bytes: 0,
            stored_bytes: 0,
        }
    }

    /// Reads the whole source; returns the digest of the image.
    fn run(&mut self, prepared: &Prepared, progress: &Progress) -> anyhow::Result<Digest> {
        let source = &prepared.source;
        let known = self.known;
        let is_known = |digest: &Digest, length: u32| {
            known
                .get(digest)
                .is_some_and(|known| known.length == length)
        };
        let mut read = 0;
        let digest = chunks::cut(source.reader()?, &is_known, &mut |piece| {
            read += u64::from(piece.length);
            progress.inc(u64::from(piece.length));
            self.add(piece)
        })?;
        source.check_unchanged(read)?;
        Ok(digest)
    }

    fn add(&mut self, piece: Piece) -> anyhow::Result<()> {
        let length = u64::from(piece.length);
        let (place, pack) = match piece.form {
            Form::Zero => {
                self.hole_bytes += length;
                (Place::Hole, Pack::New)
            }
            Form::Known => {
                let known = self
                    .known
                    .get(&piece.digest)
                    .ok_or_else(|| anyhow!("a known chunk is not known any more"))?;
                self.shared_bytes += length;
                (
                    renumbered(known.place, self.old_number(known.pack)),
                    Pack::Old,
                )
            }
            Form::Stored(bytes) => self.store(piece.digest, piece.length, &bytes, false)?,
            Form::Zstd(bytes) => self.store(piece.digest, piece.length, &bytes, true)?,
        };
        let chunk = Chunk {
            digest: piece.digest,
            length: piece.length,
            place,
        };
        self.chunks.push((chunk, pack));
        Ok(())
    }

    fn store(
        &mut self,
        digest: Digest,
        length: u32,
        bytes: &[u8],
        compressed: bool,
    ) -> anyhow::Result<(Place, Pack)> {
        if let Some((found, place)) = self.new.get(&digest)
            && *found == length
        {
            self.shared_bytes += u64::from(length);
            return Ok((*place, Pack::New));
        }
        let (pack, offset) = match &mut self.packs {
            Some(packs) => {
                let added = packs.add(bytes).context("storing a chunk")?;
                (added.pack, added.offset)
            }
            None => (0, self.stored_bytes),
        };
        let place = if compressed {
            Place::Zstd {
                pack,
                offset,
                stored_length: u32::try_from(bytes.len()).context("storing a chunk")?,
            }
        } else {
            Place::Stored { pack, offset }
        };
        self.new_bytes += u64::from(length);
        self.stored_bytes += bytes.len() as u64;
        self.new.insert(digest, (length, place));
        Ok((place, Pack::New))
    }

    fn old_number(&mut self, pack: PackRef) -> u32 {
        *self.old_numbers.entry(pack.sha256).or_insert_with(|| {
            self.old.push(pack);
            // There are fewer packs than chunks, and those are counted in 32 bits.
            u32::try_from(self.old.len() - 1).unwrap_or(u32::MAX)
        })
    }

    /// Completes the packs and numbers them: those of the store first, then the new ones.
    fn finish(self, image_size: u64) -> anyhow::Result<Collected> {
        let finished = self
            .packs
            .map(PackWriter::finish)
            .transpose()
            .context("completing the packs")?;
        let new_packs: Vec<PackRef> = match &finished {
            Some(finished) => finished.refs().collect(),
            None if self.stored_bytes > 0 => vec![PackRef {
                sha256: Digest::of(b"dry run"),
                length: self.stored_bytes,
            }],
            None => Vec::new(),
        };
        let written = new_packs.len();
        let first_new = u32::try_from(self.old.len()).context("numbering packs")?;
        let chunks = self
            .chunks
            .into_iter()
            .map(|(chunk, pack)| Chunk {
                place: match (pack, chunk.stored()) {
                    (Pack::New, Some((number, ..))) => {
                        renumbered(chunk.place, first_new.saturating_add(number))
                    }
                    _ => chunk.place,
                },
                ..chunk
            })
            .collect();
        let mut packs = self.old;
        packs.extend(new_packs);
        let index = Index {
            image_size,
            packs,
            chunks,
        };
        index.check().context("checking the index")?;
        Ok(Collected {
            index,
            packs: finished,
            written,
            hole_bytes: self.hole_bytes,
            shared_bytes: self.shared_bytes,
            new_bytes: self.new_bytes,
            stored_bytes: self.stored_bytes,
        })
    }
}

fn renumbered(place: Place, pack: u32) -> Place {
    match place {
        Place::Hole => Place::Hole,
        Place::Stored { offset, .. } => Place::Stored { pack, offset },
        Place::Zstd {
            offset,
            stored_length,
            ..
        } => Place::Zstd {
            pack,
            offset,
            stored_length,
        },
    }
}

#[cfg(test)]
mod tests;
