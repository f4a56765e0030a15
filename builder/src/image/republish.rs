//! `image republish`: the bytes of one version as a new, newest one.

use std::time::SystemTime;

use indicatif::HumanBytes;

use super::{RepublishArgs, days, image_name};
use crate::cli::Ui;
use crate::release::Signing;
use crate::store::Store;

pub(super) fn run(args: &RepublishArgs, ui: &Ui) -> anyhow::Result<()> {
    let name = image_name(&args.name)?;
    let store = Store::open(&args.write.store.path()?)?;
    let key = args.sign.signing_key()?;
    let trusted = args.sign.trusted(&key, &args.trust_key)?;
    let signing = Signing {
        key: &key,
        latest_valid: days(args.latest_days),
        now: SystemTime::now().into(),
    };
    let lock = args.write.lock(&store, ui)?;
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
