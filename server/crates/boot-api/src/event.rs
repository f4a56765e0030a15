//! What happens during a boot, as the loader reports it and as the server keeps it.
//!
//! The set of kinds is open: a server keeps and passes on kinds that it does not know ([`ReportKind::Other`]), so that a
//! newer loader can report to it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sparetire_manifest::Timestamp;

/// Names of the loader's steps, used in reports, on the screen and in the documentation.
pub mod step {
    /// Mounts and console.
    pub const MOUNT: &str = "mount";
    /// Config slot and kernel command line.
    pub const CONFIG: &str = "config";
    /// Links and addresses.
    pub const NETWORK: &str = "network";
    /// First report to the server.
    pub const REPORT: &str = "report";
    /// Manifest and index, verified.
    pub const MANIFEST: &str = "manifest";
    /// Where the image goes, and whether it fits.
    pub const TARGET: &str = "target";
    /// The image's chunks.
    pub const FETCH: &str = "fetch";
    /// Start of the second system.
    pub const HAND_OFF: &str = "hand-off";
    /// All steps in their order.
    pub const ALL: [&str; 8] = [
        MOUNT, CONFIG, NETWORK, REPORT, MANIFEST, TARGET, FETCH, HAND_OFF,
    ];
}

/// Body of a POST of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventBatch {
    /// Reports in the order in which they happened.
    pub events: Vec<Report>,
}

/// One thing that happened, told by the loader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Milliseconds since the loader started.
    pub at_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: ReportKind,
}

/// One thing that happened, as the server keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the session, from 1, without gaps.
    pub seq: u64,
    /// When the server received it.
    pub received: Timestamp,
    /// What the loader told.
    pub report: Report,
}

/// What happened. In JSON the variant is the field `kind`, in kebab-case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ReportKind {
    /// A step begins.
    StepStarted {
        /// Its name, from [`step`].
        step: String,
    },
    /// A step succeeded.
    StepDone {
        /// Its name.
        step: String,
        /// Its result in a few words.
        #[serde(default)]
        detail: String,
    },
    /// A step failed; the loader waits for its retry.
    StepFailed {
        /// Its name.
        step: String,
        /// What it worked on.
        #[serde(default)]
        input: String,
        /// Why it failed.
        cause: String,
        /// What a person can do.
        #[serde(default)]
        advice: String,
    },
    /// How far a long step is.
    Progress {
        /// Which step or part of one.
        phase: String,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
        /// Bytes per second.
        #[serde(default)]
        rate: u64,
    },
    /// A network link.
    Link {
        /// Interface name.
        interface: String,
        /// Kernel driver.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        driver: Option<String>,
        /// Hardware address.
        mac: String,
        /// Such as `up` or `no-carrier`.
        state: String,
    },
    /// An address was obtained.
    Address {
        /// Interface name.
        interface: String,
        /// With prefix length.
        address: String,
        /// Such as `dhcp`, `static`, `slaac`.
        source: String,
    },
    /// Something went wrong that was recovered from.
    Fault {
        /// Who: a mirror's URL, an interface.
        source: String,
        /// What.
        what: String,
    },
    /// RAM of the PC, in bytes.
    Memory {
        /// Installed and usable.
        total: u64,
        /// Available now.
        available: u64,
        /// Most that was in use so far.
        #[serde(default)]
        peak_used: u64,
    },
    /// What the PC says it is.
    Inventory(Inventory),
    /// Lines of the loader's log.
    Log {
        /// Without line feeds.
        lines: Vec<String>,
    },
    /// The second system is about to start. Last report of a boot; the token dies with it.
    HandOff {
        /// Such as `kexec-file-load` or `kexec-load`.
        method: String,
    },
    /// A kind that this version does not know, with all its fields.
    #[serde(untagged)]
    Other {
        /// Name of the kind.
        kind: String,
        /// Its other fields.
        #[serde(flatten)]
        fields: Map<String, Value>,
    },
}

/// What a PC says it is, from its SMBIOS tables.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Inventory {
    /// Manufacturer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// System UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Version of the firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bios_version: Option<String>,
    /// Date of the firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bios_date: Option<String>,
    /// How it booted: `bios` or `uefi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
}

impl ReportKind {
    /// The value of the field `kind`.
    pub fn name(&self) -> &str {
        match self {
            Self::StepStarted { .. } => "step-started",
            Self::StepDone { .. } => "step-done",
            Self::StepFailed { .. } => "step-failed",
            Self::Progress { .. } => "progress",
            Self::Link { .. } => "link",
            Self::Address { .. } => "address",
            Self::Fault { .. } => "fault",
            Self::Memory { .. } => "memory",
            Self::Inventory(_) => "inventory",
            Self::Log { .. } => "log",
            Self::HandOff { .. } => "hand-off",
            Self::Other { kind, .. } => kind,
        }
    }

    /// A known kind with missing or wrong fields reads as [`ReportKind::Other`]; this tells it from an unknown kind.
    pub(crate) fn check(&self) -> Result<(), InvalidReport> {
        match self {
            Self::Other { kind, .. } if KNOWN.contains(&kind.as_str()) => {
                Err(InvalidReport { kind: kind.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Names of fields that the sender chose: those of an unknown kind.
    pub(crate) fn field_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        if let Self::Other { fields, .. } = self {
            for (name, field) in fields {
                names.push(name.as_str());
                collect_names(field, &mut names);
            }
        }
        names
    }

    /// Every text in the report.
    pub(crate) fn texts_mut(&mut self) -> Vec<&mut String> {
        match self {
            Self::StepStarted { step } => vec![step],
            Self::StepDone { step, detail } => vec![step, detail],
            Self::StepFailed {
                step,
                input,
                cause,
                advice,
            } => vec![step, input, cause, advice],
            Self::Progress { phase, .. } => vec![phase],
            Self::Link {
                interface,
                driver,
                mac,
                state,
            } => [interface, mac, state].into_iter().chain(driver).collect(),
            Self::Address {
                interface,
                address,
                source,
            } => vec![interface, address, source],
            Self::Fault { source, what } => vec![source, what],
            Self::Memory { .. } => Vec::new(),
            Self::Inventory(Inventory {
                vendor,
                product,
                serial,
                uuid,
                bios_version,
                bios_date,
                firmware,
            }) => [
                vendor,
                product,
                serial,
                uuid,
                bios_version,
                bios_date,
                firmware,
            ]
            .into_iter()
            .flatten()
            .collect(),
            Self::Log { lines } => lines.iter_mut().collect(),
            Self::HandOff { method } => vec![method],
            Self::Other { kind, fields } => {
                let mut texts = vec![kind];
                fields
                    .values_mut()
                    .for_each(|value| collect_texts(value, &mut texts));
                texts
            }
        }
    }
}

/// A report of a known kind whose fields are not those of that kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("report of kind {kind} has missing or wrong fields")]
pub struct InvalidReport {
    /// The kind.
    pub kind: String,
}

fn collect_names<'a>(value: &'a Value, names: &mut Vec<&'a str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_names(item, names)),
        Value::Object(fields) => fields.iter().for_each(|(name, field)| {
            names.push(name);
            collect_names(field, names);
        }),
        _ => {}
    }
}

// Depth is bounded by serde_json's recursion limit of 128.
fn collect_texts<'a>(value: &'a mut Value, texts: &mut Vec<&'a mut String>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter_mut().for_each(|item| collect_texts(item, texts)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| collect_texts(field, texts)),
        _ => {}
    }
}

const KNOWN: [&str; 11] = [
    "step-started",
    "step-done",
    "step-failed",
    "progress",
    "link",
    "address",
    "fault",
    "memory",
    "inventory",
    "log",
    "hand-off",
];
