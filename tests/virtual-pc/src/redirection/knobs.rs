//! How a virtual PC's redirection can be made to differ from a good and fast one. All of it may stand in the
//! configuration file; the defaults are a machine on a fast network that forgives what real firmware was seen to
//! forgive.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::HostModel;

/// Settings of the redirection ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    /// Bytes per second from the console; 0 for no limit.
    pub bandwidth: u64,
    /// Milliseconds that pass before each IDE-R command reaches the console, as a round trip would cost.
    pub round_trip_ms: u64,
    /// Milliseconds that the host thinks between two commands.
    pub think_time_ms: u64,
    /// Most data bytes in one DataToHost; 0 for what the firmware's profile says.
    pub read_buffer: u16,
    /// Most data bytes in one DataFromHost; 0 for what the firmware's profile says.
    pub write_buffer: u16,
    /// Most bytes that the host reads with one command. 120 KiB is what Linux asks of USB drives.
    pub max_host_read: u32,
    /// Most bytes that the host writes with one command.
    pub max_host_write: u32,
    /// The host asks for DMA when it reads.
    pub dma: bool,
    /// How the firmware's messages are cut up.
    pub segmentation: Segmentation,
    /// A mishap in the IDE-R stream.
    pub fault: Option<Fault>,
    /// What counts as a sign of life from an IDE-R console.
    pub silence: Silence,
    /// Close an IDE-R session whose console numbers its messages wrongly. Real firmware evidently does not.
    pub strict_sequence: bool,
    /// Answer to SetRegisterState.
    pub attach: AttachAnswer,
    /// What kinds of hosts try the drives when they appear. Each checks the answers.
    pub host_models: Vec<HostModel>,
    /// Milliseconds between two looks at the CD, as Linux has them; 0 for none.
    pub poll_ms: u64,
    /// Milliseconds that the host waits for the answer to a command before it resets the bus.
    pub command_timeout_ms: u64,
    /// Milliseconds that a read waits for the session to come back after it was lost; 0 fails it at once.
    pub reattach_wait_ms: u64,
    /// Authentication methods that the query lists; empty for what the firmware's profile says.
    pub methods: Vec<u8>,
    /// Accept the digest of ui-toolkit, which hashes a stray space after "auth".
    pub accept_stray_space: bool,
    /// Milliseconds until a connection must have authenticated.
    pub authentication_ms: u64,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            bandwidth: 0,
            round_trip_ms: 0,
            think_time_ms: 0,
            read_buffer: 0,
            write_buffer: 0,
            max_host_read: 120 << 10,
            max_host_write: 32 << 10,
            dma: false,
            segmentation: Segmentation::Whole,
            fault: None,
            silence: Silence::AnyMessage,
            strict_sequence: false,
            attach: AttachAnswer::Accept,
            host_models: HostModel::DEFAULT.to_vec(),
            poll_ms: 2000,
            command_timeout_ms: 30_000,
            reattach_wait_ms: 0,
            methods: Vec::new(),
            accept_stray_space: false,
            authentication_ms: 30_000,
        }
    }
}

impl Knobs {
    pub(super) fn command_timeout(&self) -> Duration {
        Duration::from_millis(self.command_timeout_ms)
    }
}

/// How writes of the firmware are cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Segmentation {
    /// As they come: all that is ready in one write.
    Whole,
    /// Pieces of so many bytes.
    Pieces {
        /// Bytes per piece; 0 counts as 1.
        bytes: usize,
        /// Milliseconds between pieces.
        gap_ms: u64,
    },
}

/// A mishap in the IDE-R stream, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// After so many bytes from the console, headers included, counted from its OpenSession.
    pub at: u64,
    /// What happens.
    pub kind: FaultKind,
}

/// What may happen in mid-stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The connection is cut.
    Drop,
    /// The host resets the bus.
    Reset,
    /// The firmware stops reading and writing for so many milliseconds.
    Stall {
        /// How long.
        ms: u64,
    },
}

/// What an IDE-R console has to send, within the rx_timeout that it asked for, to keep its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Silence {
    /// Nothing.
    Allowed,
    /// Any message.
    AnyMessage,
    /// A heartbeat or a keep-alive ping. Whether real firmware is so strict, nobody has measured.
    HeartbeatsOnly,
}

/// Answer to SetRegisterState.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachAnswer {
    /// Done.
    Accept,
    /// Refused, with value 0.
    Refuse,
    /// Nothing at all.
    Silent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_can_stand_in_a_file() {
        let text = r#"
            bandwidth = 600_000
            round_trip_ms = 20
            host_models = ["bios", "probe"]
            silence = "heartbeats-only"
            attach = "refuse"
            fault = { at = 1000, kind = { stall = { ms = 5 } } }
            segmentation = { pieces = { bytes = 1, gap_ms = 2 } }
        "#;
        let knobs: Knobs = toml::from_str(text).unwrap();
        assert_eq!((knobs.bandwidth, knobs.round_trip_ms), (600_000, 20));
        assert_eq!(knobs.host_models, [HostModel::Bios, HostModel::Probe]);
        assert_eq!(
            (knobs.silence, knobs.attach),
            (Silence::HeartbeatsOnly, AttachAnswer::Refuse)
        );
        let kind = FaultKind::Stall { ms: 5 };
        assert_eq!(knobs.fault, Some(Fault { at: 1000, kind }));
        let pieces = Segmentation::Pieces {
            bytes: 1,
            gap_ms: 2,
        };
        assert_eq!(knobs.segmentation, pieces);
        assert_eq!(toml::from_str::<Knobs>("").unwrap(), Knobs::default());
        assert!(toml::from_str::<Knobs>("bandwith = 1").is_err());
    }
}
