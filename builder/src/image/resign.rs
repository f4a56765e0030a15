//! `image resign`: signatures of a new key on what is in the store.

use std::time::SystemTime;

use anyhow::Context;

use super::{SignArgs, WriteArgs, days, image_names};
use crate::cli::Ui;
use crate::release::Signing;
use crate::store::Store;

/// Arguments of `image resign`.
#[derive(Debug, clap::Args)]
pub struct ResignArgs {
    /// Names of images [default: all]
    pub(crate) names: Vec<String>,
    /// Drop the signatures of all other keys: the end of a change of keys
    #[arg(long)]
    pub(crate) only: bool,
    /// Public key file or `RW...` line that has signed before; repeatable
    #[arg(long, value_name = "KEY")]
    pub(crate) trust_key: Vec<String>,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
}

pub(super) fn run(args: &ResignArgs, ui: &Ui) -> anyhow::Result<()> {
    let store = Store::open(&args.write.store.path()?)?;
    let key = args.sign.signing_key()?;
    let trusted = args.sign.trusted(&key, &args.trust_key)?;
    let signing = Signing {
        key: &key,
        // Pointers keep their dates: only signatures change.
        latest_valid: days(0),
        now: SystemTime::now().into(),
    };
    let lock = args.write.lock(&store, ui)?;
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
