//! `image export`: versions as one bundle.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use indicatif::HumanBytes;
use serde::Serialize;

use super::{StoreArgs, image_name};
use crate::cli::Ui;
use crate::exit::{ExitCode, coded};
use crate::store::Store;
use crate::transfer::{self, Selection};

/// Arguments of `image export`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// Names of images
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
    /// File to write
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Version [default: the newest]
    #[arg(long, value_name = "N", conflicts_with = "all")]
    pub(crate) version: Option<u64>,
    /// All versions
    #[arg(long)]
    pub(crate) all: bool,
    /// Replace an existing file
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Serialize)]
struct Exported<'a> {
    output: &'a std::path::Path,
    size: u64,
    images: Vec<Image>,
}

#[derive(Serialize)]
struct Image {
    name: String,
    versions: Vec<u64>,
}

pub(super) fn run(args: &ExportArgs, ui: &Ui) -> anyhow::Result<()> {
    if args.output.exists() && !args.force {
        return Err(coded(
            ExitCode::Refused,
            anyhow!("{} exists; --force replaces it", args.output.display()),
        ));
    }
    let store = Store::open(&args.store.path()?)?;
    let mut selections = Vec::new();
    for name in &args.names {
        let name = image_name(name)?;
        selections.push(if args.all {
            Selection::all(&store, &name)?
        } else {
            Selection::one(&store, &name, args.version)?
        });
    }
    let total = transfer::pack_bytes(&store, &selections)?;
    let dir = match args.output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => std::path::Path::new("."),
    };
    // It has its own name only when it is complete.
    let file = tempfile::Builder::new()
        .prefix(".sparetire-")
        .tempfile_in(dir)
        .with_context(|| format!("creating a file in {}", dir.display()))?;
    let progress = ui.progress("exporting", total);
    let to = BufWriter::with_capacity(1 << 20, file.as_file());
    transfer::export(&store, &selections, to, &progress)?;
    let at = || format!("writing {}", args.output.display());
    file.as_file().sync_all().with_context(at)?;
    let size = File::metadata(file.as_file()).with_context(at)?.len();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).with_context(at)?;
    file.persist(&args.output)
        .map_err(|error| error.error)
        .with_context(at)?;
    progress.finish("done");
    let exported = Exported {
        output: &args.output,
        size,
        images: selections
            .iter()
            .map(|selection| Image {
                name: selection.name.to_string(),
                versions: selection.versions.clone(),
            })
            .collect(),
    };
    if ui.json {
        return ui.print_json(&exported);
    }
    for image in &exported.images {
        let versions: Vec<String> = image.versions.iter().map(u64::to_string).collect();
        ui.line(format_args!(
            "{} version {}",
            image.name,
            versions.join(", ")
        ));
    }
    ui.line(format_args!(
        "exported to {}, {}",
        args.output.display(),
        HumanBytes(size)
    ));
    Ok(())
}
