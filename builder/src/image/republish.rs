//! `image republish`: the bytes of one version as a new, newest one.

use std::time::SystemTime;

use indicatif::HumanBytes;

use super::{ResignatureArgs, days, image_name};
use crate::cli::Ui;
use crate::release::Signing;

/// Arguments of `image republish`.
#[derive(Debug, clap::Args)]
pub struct RepublishArgs {
    /// Name of the image
    pub(crate) name: String,
    /// Version whose bytes become the newest [default: the newest, which makes sense with --repack]
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u64>,
    /// New version number; must be above every version in the store [default: UTC time as YYYYMMDDhhmmss]
    #[arg(long, value_name = "N")]
    pub(crate) new_version: Option<u64>,
    /// Copy chunks out of packs that are mostly unused, so that `remove` and `gc` can give those back
    #[arg(long)]
    pub(crate) repack: bool,
    /// Days for which "this is the newest version" stays believable
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    pub(crate) latest_days: u32,
    #[command(flatten)]
    pub(crate) again: ResignatureArgs,
}

pub(super) fn run(args: &RepublishArgs, ui: &Ui) -> anyhow::Result<()> {
    let name = image_name(&args.name)?;
    let (store, key, trusted) = args.again.open()?;
    let signing = Signing {
        key: &key,
        latest_valid: days(args.latest_days),
        now: SystemTime::now().into(),
    };
    let lock = args.again.write.lock(&store, ui)?;
    let version = store.version(&name, args.version)?;
    let size = store.manifest(&name, version)?.size;
    let progress = args
        .repack
        .then(|| ui.progress(&format!("repacking {name} {version}"), size));
    let done = signing.republish(
        &lock,
        &name,
        version,
        args.new_version,
        &trusted,
        progress.as_ref(),
    )?;
    if let Some(progress) = progress {
        progress.finish("done");
    }
    if ui.json {
        return ui.print_json(&done);
    }
    ui.line(format_args!(
        "version {} of {name} is the newest now; its bytes are those of version {}, {} of them in new packs",
        done.version,
        done.from,
        HumanBytes(done.stored_bytes)
    ));
    Ok(())
}
