//! `image resign`: signatures of a new key on what is in the store.

use std::time::SystemTime;

use anyhow::Context;

use super::{ResignatureArgs, days, image_names};
use crate::cli::Ui;
use crate::release::Signing;

/// Arguments of `image resign`.
#[derive(Debug, clap::Args)]
pub struct ResignArgs {
    /// Names of images [default: all]
    pub(crate) names: Vec<String>,
    /// Drop the signatures of all other keys: the end of a change of keys
    #[arg(long)]
    pub(crate) only: bool,
    #[command(flatten)]
    pub(crate) again: ResignatureArgs,
}

pub(super) fn run(args: &ResignArgs, ui: &Ui) -> anyhow::Result<()> {
    let (store, key, trusted) = args.again.open()?;
    let signing = Signing {
        key: &key,
        // Pointers keep their dates: only signatures change.
        latest_valid: days(0),
        now: SystemTime::now().into(),
    };
    let lock = args.again.write.lock(&store, ui)?;
    for name in image_names(&store, &args.names)? {
        let resigned = signing
            .resign(&lock, &name, &trusted, args.only)
            .with_context(|| format!("signing {name}"))?;
        if ui.json {
            ui.print_json(&resigned)?;
        } else {
            ui.line(format_args!(
                "{name}: {} versions and the pointer to the newest signed",
                resigned.versions.len()
            ));
        }
    }
    Ok(())
}
