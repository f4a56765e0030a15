//! What the slot says: the schema of the TOML, its defaults and its limits.
//!
//! Unknown keys are refused by name: a misspelt `min_version` must not quietly mean "any version". So a key that an older
//! loader does not know stops that loader, and new keys go into an overlay only for loaders that have them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sparetire_manifest::{ImageName, KeyError, Timestamp, TrustedKeys};
use toml::{Table, Value};
use zeroize::Zeroize;

use crate::{Plain, Secret, Slot, url};

/// The `format` that this version knows.
pub const FORMAT: u32 = 1;

/// Everything stage one can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Version of this schema: [`FORMAT`].
    pub format: u32,
    /// When the ISO was built: a clock that stands earlier is set to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_date: Option<Timestamp>,
    /// Base URL of the server with the session API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Base URLs of image stores with the same content; see [`Config::store_urls`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stores: Vec<String>,
    /// Image to boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageName>,
    /// Exactly this version, whatever `latest.json` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_version: Option<u64>,
    /// Oldest version to accept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<u64>,
    /// Where the image goes.
    #[serde(skip_serializing_if = "is_default")]
    pub target: Target,
    /// Added to the second kernel's command line: printable ASCII.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append: Option<String>,
    /// Seconds until a failed boot is tried again, 1 to 86,400.
    #[serde(skip_serializing_if = "is_default_retry")]
    pub retry_seconds: u32,
    /// Most connections used at once for fetching, 1 to 32.
    #[serde(skip_serializing_if = "is_default_connections")]
    pub connections: u8,
    /// Seconds that the download may go without a single new chunk before it counts as failed, 10 to 86,400: servers
    /// that restart and links that are lost for shorter are waited for.
    #[serde(skip_serializing_if = "is_default_patience")]
    pub patience_seconds: u32,
    /// Whether an image that nobody has signed may be booted; see [`Plain`].
    #[serde(skip_serializing_if = "is_default")]
    pub allow_unsigned: bool,
    /// The boot session to report to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionConfig>,
    /// Whose signatures and certificates count.
    #[serde(skip_serializing_if = "is_default")]
    pub trust: Trust,
    /// How to reach the network.
    #[serde(skip_serializing_if = "is_default")]
    pub network: Network,
    /// Where to write, and what the keyboard may do.
    #[serde(skip_serializing_if = "is_default")]
    pub console: Console,
    /// The file to boot instead of an image of a store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plain: Option<Plain>,
}

/// A boot session of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionConfig {
    /// Its ID: letters, digits, `-`, `_`.
    pub id: String,
    /// Its token, good for this session alone.
    pub token: Secret,
}

/// Where the image goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Into RAM, and boots from there.
    #[default]
    Ram,
    /// Onto a USB stick.
    Usb,
    /// Onto the disk.
    Disk,
}

/// Whose word counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trust {
    /// minisign public keys (`RW...`) that may sign images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Certificates, PEM, that may vouch for HTTPS servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// `sha256/BASE64` of the SubjectPublicKeyInfo of servers that need no CA.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pin: Vec<String>,
}

/// How to reach the network. Nothing set: DHCP on every wired interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Only this interface: its name or its MAC address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// VLAN ID, 1 to 4094.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Static addresses; none = DHCP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub address: Vec<Cidr>,
    /// Default gateways, at most one of each IP version is used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateway: Vec<IpAddr>,
    /// DNS servers, instead of those from DHCP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// URL of an HTTP proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
}

/// Where to write, and what the keyboard may do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Console {
    /// Consoles besides the screen and the kernel's own, such as `ttyS4` or `ttyS0,115200`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Whether the failure screen offers a shell.
    #[serde(skip_serializing_if = "is_default")]
    pub shell: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            format: FORMAT,
            build_date: None,
            server: None,
            stores: Vec::new(),
            image: None,
            image_version: None,
            min_version: None,
            target: Target::default(),
            append: None,
            retry_seconds: DEFAULT_RETRY,
            connections: DEFAULT_CONNECTIONS,
            patience_seconds: DEFAULT_PATIENCE,
            allow_unsigned: false,
            session: None,
            trust: Trust::default(),
            network: Network::default(),
            console: Console::default(),
            plain: None,
        }
    }
}

impl Config {
    /// Reads one TOML text that stands alone.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Self::from_table(parse_table("configuration", text)?)
    }

    /// The TOML of this configuration, without what equals the defaults. Holds the session's token in the clear.
    pub fn to_toml(&self) -> String {
        serialize(self)
    }

    /// Base URLs of the stores, without slash at the end: those configured, or else `/store` on the server.
    pub fn store_urls(&self) -> Vec<String> {
        let trimmed = |url: &String| url.trim_end_matches('/').to_owned();
        match &self.server {
            Some(server) if self.stores.is_empty() => vec![trimmed(server) + "/store"],
            _ => self.stores.iter().map(trimmed).collect(),
        }
    }

    /// Where the image comes from: the stores, or the URLs of the plain file.
    pub fn source_urls(&self) -> Vec<String> {
        match &self.plain {
            Some(plain) => plain.urls.clone(),
            None => self.store_urls(),
        }
    }

    /// The keys whose signatures count.
    pub fn trusted_keys(&self) -> Result<TrustedKeys, KeyError> {
        TrustedKeys::parse(self.trust.keys.iter().map(String::as_str))
    }

    /// Whether every value is within its limits. Reading checks; writers should before they emit.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.format != FORMAT {
            return Err(ConfigError::Unsupported {
                format: self.format,
            });
        }
        for (key, urls) in [
            ("server", self.server.as_slice()),
            ("stores", &self.stores),
            ("network.proxy", self.network.proxy.as_slice()),
            (
                "plain.urls",
                self.plain
                    .as_ref()
                    .map_or(&[][..], |plain| plain.urls.as_slice()),
            ),
        ] {
            at_most(key, urls.len(), MAX_LIST)?;
            if let Some(problem) = urls.iter().find_map(|url| url::problem(url)) {
                return Err(ConfigError::Value { key, problem });
            }
        }
        if let Some(append) = &self.append {
            at_most("append", append.len(), MAX_APPEND)?;
            require(
                "append",
                "has other than printable ASCII",
                append.bytes().all(|byte| matches!(byte, b' '..=b'~')),
            )?;
        }
        require(
            "retry_seconds",
            "is not 1 to 86400",
            (1..=86_400).contains(&self.retry_seconds),
        )?;
        require(
            "connections",
            "is not 1 to 32",
            (1..=32).contains(&self.connections),
        )?;
        require(
            "patience_seconds",
            "is not 10 to 86400",
            (10..=86_400).contains(&self.patience_seconds),
        )?;
        if let Some(session) = &self.session {
            session.check()?;
        }
        if let Some(plain) = &self.plain {
            require(
                "allow_unsigned",
                "is not true, and `plain` names an image that nobody has signed",
                self.allow_unsigned,
            )?;
            require("plain.urls", "names no URL", !plain.urls.is_empty())?;
            plain.manifest().map_err(|error| ConfigError::Plain {
                message: error.to_string(),
            })?;
        }
        self.trust.check()?;
        self.network.check()?;
        self.console.check()
    }

    fn from_table(table: Table) -> Result<Self, ConfigError> {
        // A newer schema may differ in everything else, so its number comes first.
        if let Some(Value::Integer(format)) = table.get("format")
            && *format != i64::from(FORMAT)
        {
            return Err(ConfigError::Unsupported {
                format: u32::try_from(*format).unwrap_or(u32::MAX),
            });
        }
        let config: Self =
            table
                .try_into()
                .map_err(|error: toml::de::Error| ConfigError::Schema {
                    message: error.message().to_owned(),
                })?;
        config.check()?;
        Ok(config)
    }
}

impl Slot {
    /// What the slot says: its base, with the overlay's values in front of it.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut table = parse_table("base", self.base())?;
        merge(&mut table, parse_table("overlay", self.overlay())?);
        Config::from_table(table)
    }
}

/// Lays `overlay` over `base`: tables key by key, everything else replaced whole.
pub fn merge(base: &mut Table, overlay: Table) {
    for (key, value) in overlay {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (Some(below), value) => {
                wipe(below);
                *below = value;
            }
            (None, value) => {
                base.insert(key, value);
            }
        }
    }
}

impl SessionConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let word = |text: &str, max, also: &[u8]| {
            (1..=max).contains(&text.len())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte))
        };
        require(
            "session.id",
            "is not 1 to 64 letters, digits, - or _",
            word(&self.id, 64, b"-_"),
        )?;
        // RFC 6750, section 2.1: what may follow "Bearer".
        require(
            "session.token",
            "is not a bearer token of 1 to 256 characters",
            word(self.token.reveal(), 256, b"-._~+/="),
        )
    }
}

impl Trust {
    fn check(&self) -> Result<(), ConfigError> {
        TrustedKeys::parse(self.keys.iter().map(String::as_str)).map_err(ConfigError::Key)?;
        let is_pem = |pem: &String| pem.is_ascii() && pem.contains("-----BEGIN CERTIFICATE-----");
        require(
            "trust.ca",
            "holds no PEM certificate",
            self.ca.as_ref().is_none_or(is_pem),
        )?;
        at_most("trust.pin", self.pin.len(), MAX_LIST)?;
        require(
            "trust.pin",
            "is not sha256/ and 44 characters of base64",
            self.pin.iter().all(|pin| is_pin(pin)),
        )
    }
}

// 32 bytes are 43 base64 digits and one "="; the last digit carries four bits, so its lowest two are zero.
fn is_pin(pin: &str) -> bool {
    let Some(digits) = pin
        .strip_prefix("sha256/")
        .and_then(|rest| rest.strip_suffix('='))
    else {
        return false;
    };
    digits.len() == 43
        && digits
            .bytes()
            .all(|digit| digit.is_ascii_alphanumeric() || matches!(digit, b'+' | b'/'))
        && digits.ends_with([
            'A', 'E', 'I', 'M', 'Q', 'U', 'Y', 'c', 'g', 'k', 'o', 's', 'w', '0', '4', '8',
        ])
}

impl Network {
    fn check(&self) -> Result<(), ConfigError> {
        let is_interface = |name: &String| {
            (1..=17).contains(&name.len())
                && !matches!(name.as_str(), "." | "..")
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b'/')
        };
        require(
            "network.interface",
            "is no interface name or MAC address",
            self.interface.as_ref().is_none_or(is_interface),
        )?;
        require(
            "network.vlan",
            "is not 1 to 4094",
            self.vlan.is_none_or(|vlan| (1..=4094).contains(&vlan)),
        )?;
        at_most("network.address", self.address.len(), MAX_LIST)?;
        at_most("network.gateway", self.gateway.len(), MAX_LIST)?;
        at_most("network.dns", self.dns.len(), MAX_LIST)
    }
}

impl Console {
    fn check(&self) -> Result<(), ConfigError> {
        at_most("console.devices", self.devices.len(), MAX_LIST)?;
        // Opened as /dev/NAME by PID 1.
        let is_device = |device: &String| {
            let (name, options) = device.split_once(',').unwrap_or((device, "9600"));
            let word = |text: &str| {
                (1..=16).contains(&text.len())
                    && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
            };
            word(name) && word(options)
        };
        require(
            "console.devices",
            "is not like ttyS0 or ttyS0,115200",
            self.devices.iter().all(is_device),
        )
    }
}

/// An address with the length of its network's prefix, such as `192.168.7.5/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    /// The host's address.
    pub address: IpAddr,
    /// Bits of it that name the network.
    pub prefix: u8,
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = text.split_once('/').ok_or(CidrError)?;
        let address: IpAddr = address.parse().map_err(|_| CidrError)?;
        let digits =
            (1..=3).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|_| digits).ok_or(CidrError)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix <= bits {
            Ok(Self { address, prefix })
        } else {
            Err(CidrError)
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A text that is no address with prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no address with prefix length, as in 192.168.7.5/24")]
pub struct CidrError;

/// Why a configuration is refused. Texts never repeat the source: it may hold a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML.
    #[error("{part} is not TOML in line {line}: {message}")]
    Syntax {
        /// Base, overlay, or configuration.
        part: &'static str,
        /// Line, from 1.
        line: usize,
        /// What the TOML parser says.
        message: String,
    },
    /// TOML, but with unknown keys, missing keys or values of another type.
    #[error("configuration does not fit the schema: {message}")]
    Schema {
        /// What the deserialiser says; names the key.
        message: String,
    },
    /// Made for a newer reader.
    #[error("configuration format {format} is not supported by this version")]
    Unsupported {
        /// Its format.
        format: u32,
    },
    /// A value outside its limits.
    #[error("{key} {problem}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Too many items, or too long a text.
    #[error("{key} has {found} items or bytes, at most {most} allowed")]
    Count {
        /// Which key.
        key: &'static str,
        /// How many.
        found: usize,
        /// How many are allowed.
        most: usize,
    },
    /// A plain file that cannot be booted as the slot says.
    #[error("plain is refused: {message}")]
    Plain {
        /// What a manifest with these values would be refused for.
        message: String,
    },
    /// A trusted key that is none.
    #[error("trust.keys is refused")]
    Key(#[source] KeyError),
}

fn parse_table(part: &'static str, text: &str) -> Result<Table, ConfigError> {
    text.parse::<Table>().map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        ConfigError::Syntax {
            part,
            line,
            message: error.message().to_owned(),
        }
    })
}

// Values that the overlay replaced: the base of a customised ISO could hold an old token.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| wipe(value)),
        _ => {}
    }
}

fn require(key: &'static str, problem: &'static str, holds: bool) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::Value { key, problem })
    }
}

fn at_most(key: &'static str, found: usize, most: usize) -> Result<(), ConfigError> {
    if found <= most {
        Ok(())
    } else {
        Err(ConfigError::Count { key, found, most })
    }
}

#[expect(
    clippy::expect_used,
    reason = "a struct of texts, numbers and tables is always TOML"
)]
fn serialize(config: &Config) -> String {
    toml::to_string(config).expect("plain structs are always TOML")
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_default_retry(seconds: &u32) -> bool {
    *seconds == DEFAULT_RETRY
}

fn is_default_connections(connections: &u8) -> bool {
    *connections == DEFAULT_CONNECTIONS
}

fn is_default_patience(seconds: &u32) -> bool {
    *seconds == DEFAULT_PATIENCE
}

const DEFAULT_RETRY: u32 = 30;
const DEFAULT_CONNECTIONS: u8 = 24;
const DEFAULT_PATIENCE: u32 = 600;
const MAX_LIST: usize = 8;
/// Less than the kernel's 2,048, which the image's own command line shares.
const MAX_APPEND: usize = 1024;
