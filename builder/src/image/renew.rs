//! `image renew`: which version is the newest, signed again.

use std::time::SystemTime;

use anyhow::Context;

use super::{SignArgs, WriteArgs, days, image_names};
use crate::cli::Ui;
use crate::release::Signing;
use crate::store::Store;

/// Arguments of `image renew`.
#[derive(Debug, clap::Args)]
pub struct RenewArgs {
    /// Names of images [default: all]
    pub(crate) names: Vec<String>,
    /// Days for which "this is the newest version" stays believable
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    pub(crate) latest_days: u32,
    /// Public key file or `RW...` line that may have signed before, beside the keys that sign now
    #[arg(long, value_name = "KEY")]
    pub(crate) trust_key: Vec<String>,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
}

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
