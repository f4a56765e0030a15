//! `image show`: one version of an image in full.

use std::collections::BTreeMap;

use anyhow::Context;
use indicatif::HumanBytes;
use serde::Serialize;
use sparetire_manifest::{BootRecipe, ImageKind, Index, Manifest, Medium, Place};

use super::{StoreArgs, image_name};
use crate::cli::Ui;
use crate::store::Store;

/// Arguments of `image show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Name of the image
    pub(crate) name: String,
    /// Version [default: the newest]
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u64>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Serialize)]
struct Shown<'a> {
    manifest: &'a Manifest,
    /// Whether the signed pointer names this version.
    latest: bool,
    versions: &'a [u64],
    chunks: Chunks,
    packs: Vec<Pack>,
}

#[derive(Serialize, Default)]
struct Chunks {
    count: usize,
    holes: usize,
    stored: usize,
    compressed: usize,
    /// Image bytes that are zero.
    hole_bytes: u64,
    /// What a PC fetches, in bytes.
    transfer_bytes: u64,
}

#[derive(Serialize)]
struct Pack {
    sha256: String,
    length: u64,
    /// Bytes of it that this image uses.
    used: u64,
}

pub(super) fn run(args: &ShowArgs, ui: &Ui) -> anyhow::Result<()> {
    let name = image_name(&args.name)?;
    let store = Store::open(&args.store.path()?)?;
    let version = store.version(&name, args.version)?;
    let manifest = store.manifest(&name, version)?;
    let index = store.index(&manifest)?;
    let versions = store.versions(&name)?;
    let latest = store
        .latest(&name)
        .is_ok_and(|latest| latest.version == version);
    let (chunks, packs) = measure(&index);
    if ui.json {
        return ui.print_json(&Shown {
            manifest: &manifest,
            latest,
            versions: &versions,
            chunks,
            packs,
        });
    }
    let bytes = HumanBytes;
    let newest = if latest { " (latest)" } else { "" };
    ui.line(format_args!("{name} version {version}{newest}"));
    if let Some(label) = &manifest.label {
        ui.line(format_args!("label      {label}"));
    }
    if let Some(description) = &manifest.description {
        ui.line(format_args!(
            "about      {}",
            description.replace('\n', "\n           ")
        ));
    }
    ui.line(format_args!("kind       {}", kind_text(manifest.kind)));
    ui.line(format_args!(
        "size       {} ({})",
        manifest.size,
        bytes(manifest.size)
    ));
    ui.line(format_args!("sha256     {}", manifest.sha256));
    ui.line(format_args!("created    {}", manifest.created));
    if let Some(expires) = manifest.expires {
        ui.line(format_args!("expires    {expires}"));
    }
    if let Some(min_ram) = manifest.min_ram {
        ui.line(format_args!("min. RAM   {}", bytes(min_ram)));
    }
    let BootRecipe::Linux(boot) = &manifest.boot;
    for (label, file) in
        std::iter::once(("kernel", &boot.kernel)).chain(boot.initrd.iter().map(|f| ("initrd", f)))
    {
        ui.line(format_args!(
            "{label:<10} {} ({} at {:#x})",
            file.path,
            bytes(file.length),
            file.offset
        ));
    }
    ui.line(format_args!("cmdline    {}", boot.cmdline));
    ui.line(format_args!("medium     {}", medium_text(boot.medium)));
    ui.line(format_args!(
        "chunks     {}: {} compressed, {} stored, {} zeros; {} to fetch",
        chunks.count,
        chunks.compressed,
        chunks.stored,
        chunks.holes,
        bytes(chunks.transfer_bytes)
    ));
    for pack in &packs {
        ui.line(format_args!(
            "pack       {} {} of {}",
            pack.sha256,
            bytes(pack.used),
            bytes(pack.length)
        ));
    }
    let signature = store.read_manifest(&name, version)?.signature;
    let comment = signature
        .lines()
        .find_map(|line| line.strip_prefix("trusted comment: "))
        .context("reading the signature's comment")?;
    ui.line(format_args!(
        "signed     {comment} (not checked; `image verify` does)"
    ));
    if versions.len() > 1 {
        let all: Vec<String> = versions.iter().map(u64::to_string).collect();
        ui.line(format_args!("versions   {}", all.join(" ")));
    }
    Ok(())
}

fn measure(index: &Index) -> (Chunks, Vec<Pack>) {
    let mut chunks = Chunks {
        count: index.chunks.len(),
        ..Chunks::default()
    };
    // A range that several chunks share is fetched, and counted, once.
    let mut ranges: BTreeMap<(u32, u64), u32> = BTreeMap::new();
    for chunk in &index.chunks {
        match chunk.place {
            Place::Hole => {
                chunks.holes += 1;
                chunks.hole_bytes += u64::from(chunk.length);
            }
            Place::Stored { .. } => chunks.stored += 1,
            Place::Zstd { .. } => chunks.compressed += 1,
        }
        if let Some((pack, offset, length)) = chunk.stored() {
            ranges.insert((pack, offset), length);
        }
    }
    chunks.transfer_bytes = ranges.values().map(|length| u64::from(*length)).sum();
    let packs = (0u32..)
        .zip(&index.packs)
        .map(|(number, pack)| Pack {
            sha256: pack.sha256.to_string(),
            length: pack.length,
            used: ranges
                .range((number, 0)..=(number, u64::MAX))
                .map(|(_, length)| u64::from(*length))
                .sum(),
        })
        .collect();
    (chunks, packs)
}

pub(super) fn kind_text(kind: ImageKind) -> &'static str {
    match kind {
        ImageKind::LinuxIso => "linux-iso",
        ImageKind::LinuxNetboot => "linux-netboot",
    }
}

pub(super) fn medium_text(medium: Medium) -> &'static str {
    match medium {
        Medium::None => "none",
        Medium::LiveBoot => "live-boot",
        Medium::Casper => "casper",
        Medium::Dracut => "dracut",
        Medium::Archiso => "archiso",
    }
}
