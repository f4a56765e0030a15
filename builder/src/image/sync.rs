//! `image sync`: another folder or server, brought up to date with the store.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use indicatif::HumanBytes;

use super::{WriteArgs, image_names, parse_duration};
use crate::cli::Ui;
use crate::exit::{ExitCode, WithCode, coded};
use crate::store::{Store, StoreError};
use crate::transfer::{self, Credentials, Destination, Objects, Selection, Sent};

/// Arguments of `image sync`.
#[derive(Debug, clap::Args)]
pub struct SyncArgs {
    /// Folder, URL, or s3://BUCKET/PREFIX
    pub(crate) destination: String,
    /// Names of images [default: all]
    pub(crate) names: Vec<String>,
    /// Remove what the store does not have; packs go after the grace period (folders and S3)
    #[arg(long, conflicts_with = "names")]
    pub(crate) delete: bool,
    /// How long a pack stays there after the last version that needs it went: a number with s, m, h or d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    pub(crate) grace: Duration,
    /// Say what would be sent, send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// S3 server other than Amazon's [default: $AWS_ENDPOINT_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// File with credentials, as NAME=VALUE lines
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
    /// Certificate (PEM) of an authority to trust besides the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
}

pub(super) fn run(args: &SyncArgs, ui: &Ui) -> anyhow::Result<()> {
    let destination = Destination::parse(&args.destination).code(ExitCode::Usage)?;
    let store = Store::open(&args.write.store.path()?)?;
    let selections = image_names(&store, &args.names)?
        .iter()
        .map(|name| Selection::all(&store, name))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let total = transfer::pack_bytes(&store, &selections)?;
    let now = SystemTime::now().into();
    let delete = args.delete.then_some((now, args.grace));
    let progress = ui.progress("sending", total);
    let sent = match &destination {
        Destination::Folder(path) if args.dry_run => {
            transfer::plan_folder(&store, path, &selections)?
        }
        Destination::Folder(path) => {
            let to = Store::create(path).context("opening the destination")?;
            if to.root().canonicalize().ok() == store.root().canonicalize().ok() {
                return Err(coded(
                    ExitCode::Usage,
                    anyhow!("the destination is the store itself"),
                ));
            }
            let lock = args.write.lock(&to, ui)?;
            transfer::to_folder(&store, &lock, &selections, delete, &progress).map_err(with_code)?
        }
        Destination::Http(_) | Destination::S3 { .. } => {
            let credentials =
                Credentials::read(args.credentials.as_deref()).code(ExitCode::Usage)?;
            let objects = Objects::new(
                &destination,
                &credentials,
                args.endpoint.as_deref(),
                args.ca.as_deref(),
            )?;
            if args.delete && !objects.can_list() {
                return Err(coded(
                    ExitCode::Usage,
                    anyhow!(
                        "--delete works for folders and S3; a plain HTTP server cannot be asked what it has"
                    ),
                ));
            }
            transfer::to_objects(
                &store,
                &objects,
                &selections,
                delete,
                args.dry_run,
                &progress,
            )?
        }
    };
    progress.finish("done");
    if ui.json {
        return ui.print_json(&sent);
    }
    print(&sent, &args.destination, ui);
    Ok(())
}

fn with_code(error: anyhow::Error) -> anyhow::Error {
    let code = match error.downcast_ref::<StoreError>() {
        Some(StoreError::Older { .. } | StoreError::OtherVersion { .. }) => ExitCode::Refused,
        Some(StoreError::OtherPack { .. }) => ExitCode::Verification,
        _ => return error,
    };
    coded(code, error)
}

fn print(sent: &Sent, to: &str, ui: &Ui) {
    let (sends, removes) = if sent.dry_run {
        ("would send", "would remove")
    } else {
        ("sent", "removed")
    };
    for version in &sent.versions {
        ui.line(format_args!(
            "{sends} {} version {}",
            version.name, version.version
        ));
    }
    for path in &sent.removed {
        ui.line(format_args!("{removes} {path}"));
    }
    ui.line(format_args!(
        "{sends} {} packs, {} to {to}",
        sent.packs,
        HumanBytes(sent.bytes)
    ));
}
