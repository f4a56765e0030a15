//! The commands of the control socket, which are also those of `virtual-pc control`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::firmware::SessionKind;
use crate::pc::Controls;
use crate::redirection::{Fault, FaultKind};

/// Something to do to a virtual PC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, clap::Subcommand)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// State of firmware, power, boot settings, drives and sessions
    State,
    /// What consoles have sent
    Counters,
    /// The screen, if it shows text, and the consent code that the firmware draws over it
    Screen,
    /// Saves the screen as a PNG file
    Screenshot {
        /// The file
        path: PathBuf,
    },
    /// What the serial port has printed
    Serial {
        /// How many of the last lines
        #[arg(long, default_value_t = 25)]
        #[serde(default = "twenty_five")]
        lines: usize,
    },
    /// Waits until the serial port prints a text
    WaitSerial {
        /// The text
        text: String,
        /// Only what is printed after this position counts; answers tell positions
        #[arg(long, default_value_t = 0)]
        #[serde(default)]
        after: u64,
        /// Gives up after so many seconds
        #[arg(long, default_value_t = 60)]
        #[serde(default = "sixty")]
        seconds: u64,
    },
    /// Types on the serial port
    TypeSerial {
        /// The text, with \n for Enter
        text: String,
    },
    /// Presses keys: `f2`, `enter`, `ctrl-alt-delete`
    Keys {
        /// Names, pressed one after the other
        #[arg(required = true)]
        keys: Vec<String>,
    },
    /// Types on the keyboard, which is American
    Type {
        /// The text, with \n for Enter
        text: String,
    },
    /// Cuts the network cable, or mends it: firmware and host share it
    Network {
        /// Whether there is a network
        state: Switch,
    },
    /// Presses the power button
    PowerButton,
    /// Mains failure: the PC goes off and all connections break
    PullPlug,
    /// Breaks the connections of all redirection sessions
    DropRedirection,
    /// The firmware ends a redirection session, as TerminateSession does
    Terminate {
        /// Which kind
        kind: Kind,
    },
    /// Shows how WS-MAN misbehaves, or changes some of it
    WsmanKnobs {
        /// JSON object with the knobs to change
        #[arg(value_parser = json_object)]
        #[serde(default)]
        change: Option<Value>,
    },
    /// Shows how redirection differs, or changes some of it for sessions that start later
    RedirectionKnobs {
        /// JSON object with the knobs to change
        #[arg(value_parser = json_object)]
        #[serde(default)]
        change: Option<Value>,
    },
    /// A mishap in the IDE-R stream, once, in this session or a later one
    Fault {
        /// After so many bytes from the console
        at: u64,
        /// What happens
        kind: Mishap,
        /// How many milliseconds a stall lasts
        #[arg(long, default_value_t = 5000)]
        #[serde(default = "five_thousand")]
        ms: u64,
    },
    /// Ends the virtual PC
    Quit,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// It works
    On,
    /// It does not
    Off,
}

/// Kind of a redirection session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Serial over LAN
    Sol,
    /// IDE redirection
    Ider,
    /// Keyboard, video, mouse
    Kvm,
}

/// A mishap in the IDE-R stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mishap {
    /// The connection is cut
    Drop,
    /// The host resets the bus
    Reset,
    /// The firmware is silent for a while
    Stall,
}

fn five_thousand() -> u64 {
    5000
}

fn twenty_five() -> usize {
    25
}

fn sixty() -> u64 {
    60
}

fn json_object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("not a JSON object".into()),
        Err(error) => Err(error.to_string()),
    }
}

impl Command {
    /// Does it; what comes back depends on the command, and is null where there is nothing to say.
    pub(super) async fn run(self, pc: &Controls) -> Result<Value> {
        match self {
            Command::State => state(pc),
            Command::Counters => Ok(json!({
                "firmware": pc.snapshot().counters,
                "ider": pc.redirection().media().counters(),
            })),
            Command::Screen => {
                let screen = pc.screen().await?;
                let mut value = serde_json::to_value(screen).context("writing the screen")?;
                value["consent_code"] = json!(pc.consent_code());
                Ok(value)
            }
            Command::Screenshot { path } => done(pc.host().screenshot(&path).await),
            Command::Serial { lines } => {
                let serial = pc.host().serial();
                Ok(json!({ "position": serial.position(), "text": serial.tail(lines) }))
            }
            Command::WaitSerial {
                text,
                after,
                seconds,
            } => {
                let deadline = Instant::now() + Duration::from_secs(seconds.min(86_400));
                let position = pc.wait_for_serial(&text, after, deadline).await?;
                Ok(json!({ "position": position }))
            }
            Command::TypeSerial { text } => {
                // A terminal sends a carriage return for Enter.
                let typed = text.replace("\\n", "\r").replace('\n', "\r");
                pc.host().serial().send(typed.into_bytes()).await;
                Ok(Value::Null)
            }
            Command::Keys { keys } => done(pc.press(&keys).await),
            Command::Type { text } => done(pc.type_text(&text.replace("\\n", "\n")).await),
            Command::Network { state } => done(pc.set_network(state == Switch::On).await),
            Command::PowerButton => {
                pc.press_power_button();
                Ok(Value::Null)
            }
            Command::PullPlug => done(pc.pull_plug().await),
            Command::DropRedirection => {
                pc.drop_redirection();
                Ok(Value::Null)
            }
            Command::Terminate { kind } => {
                let kind = match kind {
                    Kind::Sol => SessionKind::Sol,
                    Kind::Ider => SessionKind::Ider,
                    Kind::Kvm => SessionKind::Kvm,
                };
                let was_open = pc
                    .firmware()
                    .with(|firmware| firmware.terminate_session(kind));
                Ok(json!({ "was_open": was_open }))
            }
            Command::WsmanKnobs { change } => {
                let knobs = changed(&pc.wsman_knobs(), change.as_ref())?;
                if change.is_some() {
                    pc.set_wsman_knobs(knobs.clone());
                }
                serde_json::to_value(knobs).context("writing the knobs")
            }
            Command::RedirectionKnobs { change } => {
                if change
                    .as_ref()
                    .is_some_and(|change| change.get("fault").is_some())
                {
                    bail!("mishaps have a command of their own: fault");
                }
                let knobs = changed(&pc.redirection().knobs(), change.as_ref())?;
                if change.is_some() {
                    pc.redirection().set_knobs(knobs.clone());
                }
                serde_json::to_value(knobs).context("writing the knobs")
            }
            Command::Fault { at, kind, ms } => {
                let kind = match kind {
                    Mishap::Drop => FaultKind::Drop,
                    Mishap::Reset => FaultKind::Reset,
                    Mishap::Stall => FaultKind::Stall { ms },
                };
                pc.redirection().set_fault(Some(Fault { at, kind }));
                Ok(Value::Null)
            }
            Command::Quit => {
                pc.quit();
                Ok(Value::Null)
            }
        }
    }
}

fn done<E: Into<anyhow::Error>>(result: Result<(), E>) -> Result<Value> {
    result.map(|()| Value::Null).map_err(Into::into)
}

fn state(pc: &Controls) -> Result<Value> {
    Ok(json!({
        "firmware": pc.snapshot(),
        "powered": *pc.host().powered().borrow(),
        "network": !pc.network_is_cut(),
        "drives": *pc.redirection().media().watch().borrow(),
        "serial_position": pc.host().serial().position(),
        "addresses": pc.addresses(),
    }))
}

/// The knobs as they are with `change` on top.
fn changed<K: Serialize + DeserializeOwned>(knobs: &K, change: Option<&Value>) -> Result<K> {
    let mut value = serde_json::to_value(knobs).context("writing the knobs")?;
    if let Some(change) = change {
        let change = change
            .as_object()
            .context("the change has to be a JSON object")?;
        for (name, to) in change {
            value[name] = to.clone();
        }
    }
    serde_json::from_value(value).context("reading the knobs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_named_as_on_the_command_line() {
        let line = serde_json::to_value(Command::WaitSerial {
            text: "login".into(),
            after: 0,
            seconds: 5,
        })
        .unwrap();
        assert_eq!(
            line,
            json!({ "command": "wait-serial", "text": "login", "after": 0, "seconds": 5 })
        );
        let short: Command = serde_json::from_value(json!({ "command": "serial" })).unwrap();
        assert_eq!(short, Command::Serial { lines: 25 });
        let off: Command =
            serde_json::from_value(json!({ "command": "network", "state": "off" })).unwrap();
        assert_eq!(off, Command::Network { state: Switch::Off });
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for value in [
            json!({}),
            json!({ "command": "explode" }),
            json!({ "command": "serial", "line": 3 }),
            json!(3),
        ] {
            assert!(
                serde_json::from_value::<Command>(value.clone()).is_err(),
                "{value}"
            );
        }
    }
}
