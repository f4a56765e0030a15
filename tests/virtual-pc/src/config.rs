//! What a virtual PC is made of: its TOML file.
//!
//! [`EXAMPLE`] documents every knob; a test holds it against the defaults.

mod amt;
mod pc;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use amt::{Amt, AmtError, User};
pub use pc::{Firmware, Nic, Pc, SerialPort};

use crate::{redirection, wsman};

/// A commented file with every knob at its default.
pub const EXAMPLE: &str = include_str!("config/example.toml");

/// The whole file. Every section and every knob may be left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address that the management firmware has.
    pub listen: IpAddr,
    /// Where the control socket is made; in a temporary directory if absent.
    pub control_socket: Option<PathBuf>,
    /// The hardware.
    pub pc: Pc,
    /// The management firmware.
    pub amt: Amt,
    /// How WS-MAN misbehaves.
    pub wsman: wsman::Knobs,
    /// How redirection misbehaves.
    pub redirection: redirection::Knobs,
    /// Properties of WS-MAN instances that differ: for each class a table, or an array of
    /// tables in the order of its instances.
    pub classes: toml::Table,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: Ipv4Addr::LOCALHOST.into(),
            control_socket: None,
            pc: Pc::default(),
            amt: Amt::default(),
            wsman: wsman::Knobs::default(),
            redirection: redirection::Knobs::default(),
            classes: toml::Table::new(),
        }
    }
}

impl Config {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The defaults on any free ports, as tests want them.
    #[must_use]
    pub fn on_free_ports() -> Self {
        let amt = Amt {
            wsman_port: 0,
            redirection_port: 0,
            wsman_tls_port: 0,
            redirection_tls_port: 0,
            ..Amt::default()
        };
        Config {
            amt,
            ..Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_a_whole_pc() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn the_example_says_what_the_defaults_are() {
        assert_eq!(Config::parse(EXAMPLE).unwrap(), Config::default());
    }

    #[test]
    fn the_example_names_every_knob() {
        let value = toml::Value::try_from(Config::default()).unwrap();
        for (section, value) in value.as_table().unwrap() {
            let Some(knobs) = value.as_table() else {
                assert!(EXAMPLE.contains(&format!("\n{section} = ")), "{section}");
                continue;
            };
            assert!(EXAMPLE.contains(&format!("\n[{section}]\n")), "{section}");
            for knob in knobs.keys() {
                let named = ["", "# "]
                    .iter()
                    .any(|start| EXAMPLE.contains(&format!("\n{start}{knob} = ")));
                assert!(named, "{section}.{knob}");
            }
        }
    }

    #[test]
    fn a_misspelt_knob_is_an_error_that_names_it() {
        for text in [
            "lisen = '::1'",
            "[pc]\nmemory = 1",
            "[amt]\nprofil = 'x'",
            "[wsman]\nx = 1",
            "[redirection]\nx = 1",
        ] {
            assert!(
                Config::parse(text)
                    .unwrap_err()
                    .to_string()
                    .contains("unknown field"),
                "{text}"
            );
        }
    }
}
