//! What the kernel command line may change.
//!
//! Quoting as the kernel does it (`next_arg` in lib/cmdline.c): blanks inside double quotes do not separate, quotes around a
//! value or around the whole parameter fall away. Everything after ` -- ` belongs to init's arguments and is left alone.
//!
//! Anyone at the keyboard can edit this text. So it chooses among what is trusted anyway (image, mirrors, network); keys,
//! certificates, tokens, version floors and the shell are refused by name.

use std::str::FromStr;

use crate::{Config, ConfigError, Target};

/// Applies `sparetire.*` parameters; all others are ignored. On an error nothing is changed.
///
/// List parameters (`store`, `console`, `address`, `gateway`, `dns`) may be repeated and replace the list of the config; of
/// the others the last one counts. Choosing another image drops the version and the floor, which belonged to the first.
pub fn apply_cmdline(config: &mut Config, cmdline: &str) -> Result<(), CmdlineError> {
    if cmdline.len() > MAX_LEN {
        return Err(CmdlineError::TooLong {
            found: cmdline.len(),
        });
    }
    let mut changed = config.clone();
    let mut lists = Lists::default();
    for (parameter, value) in parameters(cmdline) {
        let Some(name) = parameter.strip_prefix(PREFIX) else {
            continue;
        };
        let value = value
            .as_deref()
            .filter(|value| !value.is_empty())
            .ok_or_else(|| CmdlineError::NoValue {
                parameter: shown(&parameter),
            })?;
        match name {
            "server" => changed.server = Some(value.to_owned()),
            "store" => lists.stores.push(value.to_owned()),
            "image" => {
                let image = Some(parse(&parameter, value)?);
                // Whoever asks for an image of a store means that one.
                changed.plain = None;
                if changed.image != image {
                    (changed.image, changed.image_version, changed.min_version) =
                        (image, None, None);
                }
            }
            "target" => changed.target = parse(&parameter, value)?,
            "append" => changed.append = Some(value.to_owned()),
            "console" => lists.consoles.push(value.to_owned()),
            "interface" => changed.network.interface = Some(value.to_owned()),
            "vlan" => changed.network.vlan = Some(parse(&parameter, value)?),
            "address" => lists.addresses.push(parse(&parameter, value)?),
            "gateway" => lists.gateways.push(parse(&parameter, value)?),
            "dns" => lists.dns.push(parse(&parameter, value)?),
            "proxy" => changed.network.proxy = Some(value.to_owned()),
            _ if SLOT_ONLY.contains(&name) => {
                return Err(CmdlineError::SlotOnly {
                    parameter: shown(&parameter),
                });
            }
            _ => {
                return Err(CmdlineError::Unknown {
                    parameter: shown(&parameter),
                });
            }
        }
    }
    lists.apply(&mut changed);
    changed.check().map_err(CmdlineError::Refused)?;
    *config = changed;
    Ok(())
}

#[derive(Default)]
struct Lists {
    stores: Vec<String>,
    consoles: Vec<String>,
    addresses: Vec<crate::Cidr>,
    gateways: Vec<std::net::IpAddr>,
    dns: Vec<std::net::IpAddr>,
}

impl Lists {
    fn apply(self, config: &mut Config) {
        fn replace<T>(list: &mut Vec<T>, by: Vec<T>) {
            if !by.is_empty() {
                *list = by;
            }
        }
        replace(&mut config.stores, self.stores);
        replace(&mut config.console.devices, self.consoles);
        replace(&mut config.network.address, self.addresses);
        replace(&mut config.network.gateway, self.gateways);
        replace(&mut config.network.dns, self.dns);
    }
}

impl FromStr for Target {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "ram" => Ok(Self::Ram),
            "usb" => Ok(Self::Usb),
            "disk" => Ok(Self::Disk),
            _ => Err(()),
        }
    }
}

/// Why a kernel command line is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CmdlineError {
    /// Longer than any kernel's.
    #[error("kernel command line of {found} bytes")]
    TooLong {
        /// Length found.
        found: usize,
    },
    /// A `sparetire.` parameter that does not exist.
    #[error("unknown kernel parameter {parameter}")]
    Unknown {
        /// Its name.
        parameter: String,
    },
    /// Something that only the config slot may say.
    #[error("{parameter} is taken from the config slot only, not from the kernel command line")]
    SlotOnly {
        /// Its name.
        parameter: String,
    },
    /// A parameter without value.
    #[error("kernel parameter {parameter} has no value")]
    NoValue {
        /// Its name.
        parameter: String,
    },
    /// A value of another form.
    #[error("kernel parameter {parameter} has an unusable value")]
    Value {
        /// Its name.
        parameter: String,
    },
    /// Well formed, but outside the limits of the config.
    #[error("kernel command line makes a configuration that is refused")]
    Refused(#[source] ConfigError),
}

fn parse<T: FromStr>(parameter: &str, value: &str) -> Result<T, CmdlineError> {
    value.parse().map_err(|_| CmdlineError::Value {
        parameter: shown(parameter),
    })
}

/// Parameters in order, quotes removed: name, and value if there is a `=`.
fn parameters(cmdline: &str) -> impl Iterator<Item = (String, Option<String>)> {
    words(cmdline).into_iter().map(|word| {
        // `"name=a b"` and `name="a b"` mean the same.
        let word = match word.strip_prefix('"') {
            Some(inner) => inner.strip_suffix('"').unwrap_or(inner),
            None => word,
        };
        match word.split_once('=') {
            None => (word.to_owned(), None),
            Some((name, value)) => {
                let value = match value.strip_prefix('"') {
                    Some(inner) => inner.strip_suffix('"').unwrap_or(inner),
                    None => value,
                };
                (name.to_owned(), Some(value.to_owned()))
            }
        }
    })
}

fn words(cmdline: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (at, character) in cmdline.char_indices().chain([(cmdline.len(), ' ')]) {
        let at_end = at == cmdline.len();
        match character {
            '"' => quoted = !quoted,
            _ if character.is_ascii_whitespace() && (!quoted || at_end) => {
                match &cmdline[start..at] {
                    "" => {}
                    "--" => return words,
                    word => words.push(word),
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    words
}

// Goes to a screen.
fn shown(parameter: &str) -> String {
    parameter
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(64)
        .collect()
}

const PREFIX: &str = "sparetire.";
const SLOT_ONLY: [&str; 12] = [
    "shell",
    "token",
    "session",
    "key",
    "keys",
    "trust",
    "ca",
    "pin",
    "min_version",
    "image_version",
    "plain",
    "allow_unsigned",
];
/// Linux on x86 stops at 2,048; other boot paths may allow more.
const MAX_LEN: usize = 16 * 1024;
