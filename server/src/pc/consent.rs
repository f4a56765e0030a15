//! `sparetire pc consent`: six digits on the PC's screen, read out by its user, typed in here.

use std::io::IsTerminal;
use std::time::Duration;

use amt_wsman::flow::consent::{self, Change, Code, ConsentError, Need, Purpose, Watch};
use anyhow::{Context, anyhow};
use serde_json::json;
use sparetire_builder::cli::Ui;
use sparetire_builder::exit::{ExitCode, WithCode, coded};
use tokio::sync::oneshot;

use super::{PcArgs, explained, info, tell_steps};
use crate::amt::Pc;

/// Options of `pc consent`.
#[derive(Debug, clap::Args)]
pub struct ConsentArgs {
    /// The PC.
    #[command(flatten)]
    pub pc: PcArgs,
    /// What to do
    #[arg(default_value = "status")]
    pub action: Action,
}

/// What can be done about consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Action {
    /// Show whether consent is needed and given
    Status,
    /// Show a code on the PC's screen; on a terminal, ask for it here
    Start,
    /// Send the code, read from standard input
    Code,
    /// Give up the consent
    Cancel,
}

pub(super) async fn run(args: &ConsentArgs, ui: Ui) -> anyhow::Result<()> {
    let mut pc = args.pc.open()?;
    let host = &args.pc.host;
    match args.action {
        Action::Status => status(&mut pc, ui).await,
        Action::Start => start(&mut pc, host, ui).await,
        Action::Code => match read_line().await {
            Ok(line) => send(&mut pc, &line, ui).await,
            Err(error) => Err(error),
        },
        Action::Cancel => match consent::cancel(&mut pc, &mut tell_steps(ui)).await {
            Ok(()) => tell(ui, "cancelled", "there is no consent now"),
            Err(error) => Err(explained(error)),
        },
    }
    .with_context(|| format!("consent at {host}"))
}

async fn status(pc: &mut Pc, ui: Ui) -> anyhow::Result<()> {
    let status = consent::status(pc).await.map_err(explained)?;
    let need = |purpose| match status.need(purpose) {
        Need::NotNeeded => "not needed",
        Need::Granted => "given",
        Need::Needed => "needed",
    };
    let (boot, kvm) = (need(Purpose::Boot), need(Purpose::Kvm));
    if ui.json {
        ui.print_json(&json!({
            "policy": status.opt_in.map(|opt_in| opt_in.policy), "state": status.state(),
            "control_mode": status.mode, "boot": boot, "kvm": kvm,
        }))?;
    }
    ui.line(format!("boot and storage redirection  {boot}"));
    ui.line(format!("screen                        {kvm}"));
    if let Some(opt_in) = status.opt_in {
        ui.line(format!(
            "policy                        {}",
            info::policy(opt_in.policy)
        ));
        ui.line(format!("state                         {}", opt_in.state));
    }
    Ok(())
}

async fn start(pc: &mut Pc, host: &str, ui: Ui) -> anyhow::Result<()> {
    let state = consent::start(pc, &mut tell_steps(ui))
        .await
        .map_err(explained)?;
    if state.is_granted() {
        return tell(ui, "given", "consent is given already");
    }
    if !std::io::stdin().is_terminal() || ui.json {
        return tell(
            ui,
            "asked",
            &format!("the code is on the screen of {host}; give it with `pc consent {host} code`"),
        );
    }
    let mut watch = Watch::new(state);
    loop {
        ui.note("Six digits are on the PC's screen. Code: ");
        let mut typed = std::pin::pin!(read_line());
        let line = loop {
            tokio::select! {
                line = &mut typed => break line?,
                () = tokio::time::sleep(POLL_EVERY) => {}
            }
            let state = consent::poll(pc).await.map_err(explained)?;
            match watch.observe(state) {
                Change::Ended => return Err(explained(ConsentError::Ended)),
                Change::Given => return tell(ui, "given", "consent was given by another console"),
                Change::Same | Change::Shown => {}
            }
        };
        let code = match line.parse::<Code>() {
            Ok(code) => code,
            Err(error) => {
                ui.note(error);
                continue;
            }
        };
        let sent = consent::send_code(pc, code, &mut tell_steps(ui)).await;
        match sent {
            Ok(_) => return tell(ui, "given", "consent is given"),
            // The code is still there; the device itself limits how often.
            Err(error @ ConsentError::WrongCode) => ui.note(error),
            Err(error) => return Err(explained(error)),
        }
    }
}

async fn send(pc: &mut Pc, line: &str, ui: Ui) -> anyhow::Result<()> {
    let code: Code = line.parse().code(ExitCode::Usage)?;
    consent::send_code(pc, code, &mut tell_steps(ui))
        .await
        .map_err(explained)?;
    tell(ui, "given", "consent is given")
}

fn tell(ui: Ui, event: &str, text: &str) -> anyhow::Result<()> {
    if ui.json {
        ui.print_json(&json!({ "event": "consent", "consent": event }))?;
    }
    ui.line(text);
    Ok(())
}

/// A line of standard input. Reading it blocks for as long as a person likes, hence a thread that nobody waits for.
async fn read_line() -> anyhow::Result<String> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        // Nobody listens any more when the consent ended meanwhile.
        let _ = sender.send(read.map(|_| line));
    });
    let line = receiver
        .await
        .context("reading the code")?
        .context("reading the code from standard input")?;
    if line.is_empty() {
        return Err(coded(
            ExitCode::Usage,
            anyhow!("standard input ended before a code came"),
        ));
    }
    Ok(line)
}

const POLL_EVERY: Duration = Duration::from_secs(2);
