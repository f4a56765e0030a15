//! `sparetire pc bios`: the next boot, and only that, ends in BIOS set-up.

use amt_wsman::flow::boot::{BootOptions, BootTarget, arm_boot, disarm};
use amt_wsman::flow::consent::{self, Need, Purpose};
use amt_wsman::flow::power::PowerAction;
use amt_wsman::flow::provisioning::require_provisioned;
use anyhow::{Context, anyhow};
use serde_json::json;
use sparetire_builder::cli::Ui;
use sparetire_builder::exit::{ExitCode, coded};

use super::{PcArgs, explained, power, tell_steps};
use crate::amt::Pc;
use crate::failure::advise;

/// Options of `pc bios`.
#[derive(Debug, clap::Args)]
pub struct BiosArgs {
    /// The PC.
    #[command(flatten)]
    pub pc: PcArgs,
    /// Do not restart the PC: its next boot, whenever that is, ends in BIOS set-up
    #[arg(long)]
    pub next_boot: bool,
    /// Cut the power and give it again instead of a reset
    #[arg(long, conflicts_with = "next_boot")]
    pub cycle: bool,
    /// Have the BIOS send its text to serial over LAN
    #[arg(long)]
    pub serial: bool,
    /// Take back whatever was armed for the next boot, by this or another console
    #[arg(long, conflicts_with_all = ["next_boot", "cycle", "serial"])]
    pub clear: bool,
}

pub(super) async fn run(args: &BiosArgs, ui: Ui) -> anyhow::Result<()> {
    let host = &args.pc.host;
    let mut pc = args.pc.open()?;
    if args.clear {
        return clear(&mut pc, host, ui).await;
    }
    let interrupted = tokio::select! {
        result = boot(&mut pc, args, ui) => return result,
        result = tokio::signal::ctrl_c() => result.context("waiting for Ctrl-C"),
    };
    interrupted?;
    ui.note("interrupted");
    clear(&mut pc, host, ui).await?;
    Err(anyhow!(
        "interrupted; the next boot of {host} is a plain one"
    ))
}

async fn boot(pc: &mut Pc, args: &BiosArgs, ui: Ui) -> anyhow::Result<()> {
    let host = &args.pc.host;
    let mut steps = tell_steps(ui);
    require_provisioned(pc)
        .await
        .map_err(explained)
        .with_context(|| format!("asking {host}"))?;
    let status = consent::status(pc)
        .await
        .map_err(explained)
        .with_context(|| format!("asking {host}"))?;
    if status.need(Purpose::Boot) == Need::Needed {
        let error = anyhow!("the user at {host} has to consent first");
        let advice = format!(
            "run `sparetire pc consent {host} start` and enter the six digits from the PC's screen"
        );
        return Err(coded(ExitCode::Refused, advise(error, advice)));
    }
    let options = BootOptions {
        serial: args.serial,
        secure_boot: None,
    };
    arm_boot(pc, BootTarget::BiosSetup, &options, &mut steps)
        .await
        .map_err(explained)
        .with_context(|| format!("arming BIOS set-up at {host}"))?;
    if ui.json {
        ui.print_json(&json!({ "event": "armed", "host": host, "target": "bios-setup" }))?;
    }
    if args.next_boot {
        ui.line(format!("the next boot of {host} ends in BIOS set-up"));
        return Ok(());
    }
    let action = if args.cycle {
        PowerAction::Cycle
    } else {
        PowerAction::Restart
    };
    if let Err(error) = power::change(pc, host, action, ui).await {
        // Armed for a boot that nobody asked for would be a trap.
        let cleared = disarm(pc, &mut steps).await;
        return Err(match cleared {
            Ok(()) => error,
            Err(left) => error.context(format!(
                "its next boot may still end in BIOS set-up ({left})"
            )),
        });
    }
    ui.line(format!("{host} starts into BIOS set-up"));
    Ok(())
}

async fn clear(pc: &mut Pc, host: &str, ui: Ui) -> anyhow::Result<()> {
    disarm(pc, &mut tell_steps(ui))
        .await
        .map_err(explained)
        .with_context(|| format!("clearing what was armed at {host}"))?;
    if ui.json {
        ui.print_json(&json!({ "event": "cleared", "host": host }))?;
    }
    ui.line(format!("the next boot of {host} is a plain one"));
    Ok(())
}
