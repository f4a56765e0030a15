//! `sparetire pc bios` and `pc once`: the next boot, and only that, ends in BIOS set-up, or comes from the network, the
//! disk or the PC's own CD drive.

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

/// Options of `pc once`.
#[derive(Debug, clap::Args)]
pub struct OnceArgs {
    /// The PC.
    #[command(flatten)]
    pub pc: PcArgs,
    /// What to start from
    #[arg(value_enum)]
    pub from: From,
    /// Do not restart the PC: its next boot, whenever that is, is the one
    #[arg(long)]
    pub next_boot: bool,
    /// Cut the power and give it again instead of a reset
    #[arg(long, conflicts_with = "next_boot")]
    pub cycle: bool,
    /// Have the BIOS send its text to serial over LAN
    #[arg(long)]
    pub serial: bool,
}

/// What a PC can start from by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum From {
    /// Its network boot (PXE)
    Network,
    /// Its hard disk
    Disk,
    /// The CD in its own drive
    Cd,
}

/// One boot that is to be different.
struct Once<'a> {
    host: &'a str,
    target: BootTarget,
    next_boot: bool,
    cycle: bool,
    serial: bool,
}

pub(super) async fn run(args: &BiosArgs, ui: Ui) -> anyhow::Result<()> {
    let mut pc = args.pc.open()?;
    if args.clear {
        return clear(&mut pc, &args.pc.host, ui).await;
    }
    let once = Once {
        host: &args.pc.host,
        target: BootTarget::BiosSetup,
        next_boot: args.next_boot,
        cycle: args.cycle,
        serial: args.serial,
    };
    unless_interrupted(&mut pc, &once, ui).await
}

pub(super) async fn run_once(args: &OnceArgs, ui: Ui) -> anyhow::Result<()> {
    let once = Once {
        host: &args.pc.host,
        target: match args.from {
            From::Network => BootTarget::Pxe,
            From::Disk => BootTarget::HardDisk,
            From::Cd => BootTarget::Cd,
        },
        next_boot: args.next_boot,
        cycle: args.cycle,
        serial: args.serial,
    };
    unless_interrupted(&mut args.pc.open()?, &once, ui).await
}

async fn unless_interrupted(pc: &mut Pc, once: &Once<'_>, ui: Ui) -> anyhow::Result<()> {
    let host = once.host;
    let interrupted = tokio::select! {
        result = boot(pc, once, ui) => return result,
        result = tokio::signal::ctrl_c() => result.context("waiting for Ctrl-C"),
    };
    interrupted?;
    ui.note("interrupted");
    clear(pc, host, ui).await?;
    Err(anyhow!(
        "interrupted; the next boot of {host} is a plain one"
    ))
}

async fn boot(pc: &mut Pc, once: &Once<'_>, ui: Ui) -> anyhow::Result<()> {
    let Once { host, target, .. } = *once;
    let way = match target {
        BootTarget::BiosSetup => "into",
        _ => "from",
    };
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
        serial: once.serial,
        secure_boot: None,
    };
    arm_boot(pc, target, &options, &mut steps)
        .await
        .map_err(explained)
        .with_context(|| format!("arming a boot from {target} at {host}"))?;
    if ui.json {
        ui.print_json(&json!({ "event": "armed", "host": host, "target": target.to_string() }))?;
    }
    if once.next_boot {
        ui.line(format!("the next start of {host} is {way} {target}"));
        return Ok(());
    }
    let action = if once.cycle {
        PowerAction::Cycle
    } else {
        PowerAction::Restart
    };
    if let Err(error) = power::change(pc, host, action, ui).await {
        // Armed for a boot that nobody asked for would be a trap.
        let cleared = disarm(pc, &mut steps).await;
        return Err(match cleared {
            Ok(()) => error,
            Err(left) => {
                error.context(format!("its next boot may still be from {target} ({left})"))
            }
        });
    }
    ui.line(format!("{host} starts {way} {target}"));
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
