//! `sparetire pc`: one PC with Intel AMT at a time, talked to directly.

use amt_wsman::{Blame, Explain};
use anyhow::Context;
use sparetire_builder::cli::Ui;
use sparetire_builder::exit::{ExitCode, WithCode, coded};

use crate::amt::credentials::CredentialArgs;
use crate::amt::dial::Endpoint;
use crate::amt::{self, Pc};
use crate::failure::advise;

mod bios;
mod boot;
mod consent;
mod info;
mod power;
mod redirection;
mod sol;

/// What can be done with a PC.
#[derive(Debug, clap::Subcommand)]
pub enum PcCommand {
    /// Boot a PC from an image, from whatever state it is in
    ///
    /// Stage one goes over storage redirection (IDE-R), fetches the image over HTTP, and starts it. Exits with 0 when the PC
    /// was handed off to the image. However it ends, the PC's next start is a plain one; Ctrl-C says how the PC is left.
    Boot(Box<boot::BootArgs>),
    /// Show what a PC is and can: versions, state, redirection, consent, hardware
    Info(info::InfoArgs),
    /// Show or change a PC's power state
    Power(power::PowerArgs),
    /// Ask the user at a PC for consent, and give the code that the user reads out
    Consent(consent::ConsentArgs),
    /// Start a PC into its BIOS set-up, once
    Bios(bios::BiosArgs),
    /// Start a PC from its network, its disk or its own CD drive, once
    Once(bios::OnceArgs),
    /// Show redirection, switch it on or off, or end a stuck session
    Redirection(redirection::RedirectionArgs),
    /// Use a PC's serial line (SOL) in this terminal
    Sol(sol::SolArgs),
}

/// Which PC, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub struct PcArgs {
    /// Name or address of the PC's AMT
    #[arg(value_name = "HOST")]
    pub host: String,
    /// Port of its WS-Management
    #[arg(long, value_name = "PORT", default_value_t = amt::dial::Protection::Plain.wsman_port())]
    pub port: u16,
    /// Port of its redirection (IDE-R, SOL, KVM)
    #[arg(long, value_name = "PORT", default_value_t = amt::dial::Protection::Plain.redirection_port())]
    pub redirection_port: u16,
    /// As whom to log in.
    #[command(flatten)]
    pub credentials: CredentialArgs,
}

impl PcArgs {
    /// Where the PC's WS-Management listens.
    ///
    /// # Errors
    ///
    /// When the host cannot be one.
    pub fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let strange = |c: char| c.is_whitespace() || c.is_control() || "/@?#\\\"".contains(c);
        let mut endpoint = Endpoint::of(&self.host);
        // A colon is IPv6's, or else someone wrote host:port.
        let is_address =
            endpoint.host.parse::<std::net::Ipv6Addr>().is_ok() || endpoint.host.contains('%');
        if endpoint.host.is_empty()
            || endpoint.host.contains(strange)
            || (endpoint.host.contains(':') && !is_address)
        {
            return Err(anyhow::anyhow!(
                "{:?} is no host name or address",
                self.host
            ))
            .map_err(|error| {
                advise(
                    error,
                    "give the bare name or address; a port goes with --port",
                )
            })
            .code(ExitCode::Usage);
        }
        endpoint.port = self.port;
        Ok(endpoint)
    }

    /// The PC, with credentials; may ask for a password.
    ///
    /// # Errors
    ///
    /// When the host cannot be one, or there are no credentials.
    pub fn open(&self) -> anyhow::Result<Pc> {
        let endpoint = self.endpoint()?;
        let credentials = self.credentials.get(&self.host)?;
        Ok(amt::open(&endpoint, credentials))
    }
}

/// Runs one of the commands.
///
/// # Errors
///
/// When the PC cannot be reached, refuses, or fails at it.
pub fn run(command: PcCommand, ui: Ui) -> anyhow::Result<()> {
    let command = match command {
        // These two have threads of their own.
        PcCommand::Boot(args) => return boot::run(&args, ui),
        PcCommand::Sol(args) => return sol::run(&args, ui),
        command => command,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        match command {
            PcCommand::Boot(_) | PcCommand::Sol(_) => Ok(()),
            PcCommand::Info(args) => info::run(&args, ui).await,
            PcCommand::Power(args) => power::run(&args, ui).await,
            PcCommand::Consent(args) => consent::run(&args, ui).await,
            PcCommand::Bios(args) => bios::run(&args, ui).await,
            PcCommand::Redirection(args) => redirection::run(&args, ui).await,
            PcCommand::Once(args) => bios::run_once(&args, ui).await,
        }
    })
}

/// An error of `amt-wsman` with its exit code and its cure.
pub(crate) fn explained<E>(error: E) -> anyhow::Error
where
    E: Explain + std::error::Error + Send + Sync + 'static,
{
    let code = match error.blame() {
        Blame::Unreachable => ExitCode::Unreachable,
        Blame::Refused => ExitCode::Refused,
        Blame::Failed => ExitCode::Failed,
    };
    let cure = error.cure();
    let error = anyhow::Error::new(error);
    let error = match cure {
        Some(cure) => advise(error, cure),
        None => error,
    };
    coded(code, error)
}

/// Tells each step to whoever watches.
pub(crate) fn tell_steps(ui: Ui) -> impl FnMut(amt_wsman::Step) + Send {
    move |step| {
        if ui.json {
            // A step that cannot be printed is no reason to stop.
            let _ = ui.print_json(&serde_json::json!({ "event": "step", "step": step.text() }));
        }
        ui.note(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str) -> anyhow::Result<Endpoint> {
        let credentials = CredentialArgs { file: None };
        PcArgs {
            host: host.to_owned(),
            port: 16992,
            redirection_port: 16994,
            credentials,
        }
        .endpoint()
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_nothing_else() {
        for host in [
            "pc7",
            "pc7.example",
            "10.0.0.7",
            "fe80::1",
            "[2001:db8::7]",
            "fe80::1%eth0",
        ] {
            assert!(endpoint(host).is_ok(), "{host}");
        }
        for host in ["", "pc7:16992", "http://pc7", "user@pc7", "pc 7", "pc7\n"] {
            assert!(endpoint(host).is_err(), "{host}");
        }
    }
}
