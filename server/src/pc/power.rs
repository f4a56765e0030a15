//! `sparetire pc power`: the power state of a PC, shown or changed.

use amt_wsman::class::power::PowerState;
use amt_wsman::flow::power::{self, PowerAction, PowerAnswer, PowerOutcome};
use anyhow::{Context, anyhow};
use serde_json::json;
use sparetire_builder::cli::Ui;
use sparetire_builder::exit::{ExitCode, coded};

use super::{PcArgs, explained, tell_steps};
use crate::amt::Pc;
use crate::failure::advise;

/// Options of `pc power`.
#[derive(Debug, clap::Args)]
pub struct PowerArgs {
    /// The PC.
    #[command(flatten)]
    pub pc: PcArgs,
    /// What to do [default: show the state]
    pub action: Option<Action>,
    /// Wait until an on, off or shutdown has happened, for five minutes at most
    #[arg(long, requires = "action")]
    pub wait: bool,
}

/// A change of power state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Action {
    /// Switch on
    On,
    /// Cut the power at once
    Off,
    /// Have the operating system shut down; cut the power where that cannot be asked for
    Shutdown,
    /// Reset at once; switch on a PC that is off
    Reset,
    /// Have the operating system restart; reset where that cannot be asked for
    Restart,
    /// Cut the power and give it again, for a PC that a reset does not bring back
    Cycle,
    /// Sleep; needs Intel's agent in the operating system
    Sleep,
    /// Hibernate; needs Intel's agent in the operating system
    Hibernate,
    /// Interrupt the operating system, for a crash dump
    Interrupt,
}

impl Action {
    fn wish(self) -> PowerAction {
        match self {
            Self::On => PowerAction::On,
            Self::Off => PowerAction::Off,
            Self::Shutdown => PowerAction::ShutDown,
            Self::Reset => PowerAction::Restart,
            Self::Restart => PowerAction::GracefulRestart,
            Self::Cycle => PowerAction::Cycle,
            Self::Sleep => PowerAction::Sleep,
            Self::Hibernate => PowerAction::Hibernate,
            Self::Interrupt => PowerAction::Interrupt,
        }
    }

    /// The state that shows that it happened.
    fn goal(self) -> Option<PowerState> {
        match self {
            Self::On => Some(PowerState::On),
            Self::Off | Self::Shutdown => Some(PowerState::Off),
            _ => None,
        }
    }
}

pub(super) async fn run(args: &PowerArgs, ui: Ui) -> anyhow::Result<()> {
    let host = &args.pc.host;
    let mut pc = args.pc.open()?;
    let Some(action) = args.action else {
        let power = power::state(&mut pc)
            .await
            .map_err(explained)
            .with_context(|| format!("asking {host}"))?;
        if ui.json {
            ui.print_json(&json!({ "host": host, "power": power.state }))?;
        }
        ui.line(power.state);
        return Ok(());
    };
    change(&mut pc, host, action.wish(), ui).await?;
    match (args.wait, action.goal()) {
        (true, Some(goal)) => wait(&mut pc, host, goal, ui).await,
        _ => Ok(()),
    }
}

/// Changes the power state and says what came of it.
pub(super) async fn change(
    pc: &mut Pc,
    host: &str,
    action: PowerAction,
    ui: Ui,
) -> anyhow::Result<PowerOutcome> {
    let outcome = power::power(pc, action, &mut tell_steps(ui))
        .await
        .map_err(explained)
        .with_context(|| format!("changing the power state of {host}"))?;
    let change = outcome.plan.change.map(|change| change.to_string());
    let (answer, after) = match outcome.answer {
        PowerAnswer::NothingToDo => ("nothing to do", None),
        PowerAnswer::Accepted => ("accepted", None),
        PowerAnswer::Lost { state } => ("lost", state),
    };
    if ui.json {
        ui.print_json(&json!({
            "event": "power", "host": host, "before": outcome.before, "change": change,
            "remark": outcome.plan.remark, "answer": answer, "after": after,
        }))?;
    }
    if let Some(remark) = outcome.plan.remark {
        ui.note(remark);
    }
    let change = change.unwrap_or_default();
    ui.line(match outcome.answer {
        PowerAnswer::NothingToDo => format!("{host} is {} already", outcome.before),
        PowerAnswer::Accepted => format!("{host} was {}; {change} is under way", outcome.before),
        PowerAnswer::Lost { state: Some(state) } => format!(
            "{host} was {}; the connection broke at the {change}, and the PC is {state} now",
            outcome.before
        ),
        PowerAnswer::Lost { state: None } => {
            let error = anyhow!("{host} has not answered since the {change} was asked for");
            let advice =
                "whether it was carried out is unknown: look with `pc power HOST` in a minute";
            return Err(coded(ExitCode::Unreachable, advise(error, advice)));
        }
    });
    Ok(outcome)
}

async fn wait(pc: &mut Pc, host: &str, goal: PowerState, ui: Ui) -> anyhow::Result<()> {
    let reached = power::wait_for(pc, goal, LOOKS)
        .await
        .map_err(explained)
        .with_context(|| format!("waiting for {host} to be {goal}"))?;
    if !reached {
        let error = anyhow!("{host} is not {goal} after five minutes");
        return Err(advise(
            error,
            "an operating system that hangs does not shut down: `pc power HOST off` cuts the power",
        ));
    }
    if ui.json {
        ui.print_json(&json!({ "event": "power", "host": host, "after": goal }))?;
    }
    ui.line(format!("{host} is {goal}"));
    Ok(())
}

/// Five minutes at the pace of [`power::POLL_EVERY`].
const LOOKS: u32 = 30;
