//! `sparetire pc redirection`: storage redirection and serial over LAN on, off, or freed of a stuck session.

use amt_wsman::class::redirection::RedirectionService;
use amt_wsman::flow::provisioning::require_provisioned;
use amt_wsman::flow::redirection::{
    SessionType, Wanted, disable_redirection, enable_redirection, terminate_session,
};
use anyhow::Context;
use serde_json::json;
use sparetire_builder::cli::Ui;

use super::{PcArgs, explained, tell_steps};

/// Options of `pc redirection`.
#[derive(Debug, clap::Args)]
pub struct RedirectionArgs {
    /// The PC.
    #[command(flatten)]
    pub pc: PcArgs,
    /// What to do
    #[arg(value_enum, default_value_t)]
    pub action: Action,
    /// Only storage redirection (IDE-R)
    #[arg(long)]
    pub storage: bool,
    /// Only serial over LAN
    #[arg(long)]
    pub serial: bool,
}

/// What can be done with redirection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Action {
    /// Show what is on
    #[default]
    Status,
    /// Switch it on
    On,
    /// Switch it off
    Off,
    /// End the session that a console holds, even one that is gone
    End,
}

pub(super) async fn run(args: &RedirectionArgs, ui: Ui) -> anyhow::Result<()> {
    let host = &args.pc.host;
    let mut pc = args.pc.open()?;
    let mut steps = tell_steps(ui);
    let asking = || format!("changing redirection at {host}");
    require_provisioned(&mut pc)
        .await
        .map_err(explained)
        .with_context(asking)?;
    // Neither named means both.
    let both = args.storage == args.serial;
    let kinds = Wanted {
        storage: args.storage || both,
        serial: args.serial || both,
    };
    let service: RedirectionService = match args.action {
        Action::Status => pc.read().await.map_err(explained),
        Action::On => enable_redirection(&mut pc, kinds, &mut steps)
            .await
            .map_err(explained),
        Action::Off => disable_redirection(&mut pc, kinds, &mut steps)
            .await
            .map_err(explained),
        Action::End => {
            for (wanted, session) in [
                (kinds.storage, SessionType::Storage),
                (kinds.serial, SessionType::Serial),
            ] {
                if wanted {
                    terminate_session(&mut pc, session, &mut steps)
                        .await
                        .map_err(explained)
                        .with_context(asking)?;
                }
            }
            pc.read().await.map_err(explained)
        }
    }
    .with_context(asking)?;
    let word = |on| if on { "on" } else { "off" };
    if ui.json {
        return ui.print_json(&json!({
            "host": host, "storage": service.storage, "serial": service.serial, "port_open": service.listener,
        }));
    }
    ui.line(format!(
        "{host}: storage redirection {}, serial over LAN {}, port {}",
        word(service.storage),
        word(service.serial),
        if service.listener { "open" } else { "closed" }
    ));
    Ok(())
}
