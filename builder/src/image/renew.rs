//! `image renew`: which version is the newest, signed again.

use std::time::SystemTime;

use anyhow::Context;

use super::{ResignatureArgs, days, image_names};
use crate::cli::Ui;
use crate::release::Signing;

/// Arguments of `image renew`.
#[derive(Debug, clap::Args)]
pub struct RenewArgs {
    /// Names of images [default: all]
    pub(crate) names: Vec<String>,
    /// Days for which "this is the newest version" stays believable
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    pub(crate) latest_days: u32,
    #[command(flatten)]
    pub(crate) again: ResignatureArgs,
}

pub(super) fn run(args: &RenewArgs, ui: &Ui) -> anyhow::Result<()> {
    let (store, key, trusted) = args.again.open()?;
    let signing = Signing {
        key: &key,
        latest_valid: days(args.latest_days),
        now: SystemTime::now().into(),
    };
    let lock = args.again.write.lock(&store, ui)?;
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
