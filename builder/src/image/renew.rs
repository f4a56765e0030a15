//! `image renew`: which version is the newest, signed again.

use std::time::SystemTime;

use anyhow::Context;

use super::{RenewArgs, days, image_names};
use crate::cli::Ui;
use crate::release::Signing;
use crate::store::Store;

pub(super) fn run(args: &RenewArgs, ui: &Ui) -> anyhow::Result<()> {
    let store = Store::open(&args.write.store.path()?)?;
    let key = args.sign.signing_key()?;
    let trusted = args.sign.trusted(&key, &args.trust_key)?;
    let signing = Signing {
        key: &key,
        latest_valid: days(args.latest_days),
        now: SystemTime::now().into(),
    };
    let lock = args.write.lock(&store, ui)?;
    for name in image_names(&store, &args.names)? {
        let renewed = signing
            .renew(&lock, &name, &trusted)
            .with_context(|| format!("renewing {name}"))?;
        if ui.json {
            ui.print_json(&renewed)?;
        } else {
            ui.line(format_args!(
                "{name}: version {} is the newest, believable until {}",
                renewed.version, renewed.expires
            ));
        }
    }
    Ok(())
}
