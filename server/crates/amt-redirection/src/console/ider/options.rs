//! What goes into an IDE-R console session and what comes out of it.

use std::time::Duration;

use thiserror::Error;

use crate::ider::{DriveSelect, StartMode, SuccessMask};
use crate::wire::DecodeError;

/// How a session is to be held.
#[derive(Clone, Debug)]
pub struct Options {
    /// Firmware drops the session when it hears nothing from us for this long. At most 65.535 s; 10 s to that
    /// are allowed by Intel's library.
    pub rx_timeout: Duration,
    /// Firmware is asked to send a heartbeat this often; zero for none, which also switches off our watchdog.
    pub heartbeat: Duration,
    /// When the drives are to appear.
    pub start_mode: StartMode,
    /// How long a reply to OpenSession or SetRegisterState may take.
    pub reply_timeout: Duration,
    /// End the session when firmware's sequence numbers have a gap, as other consoles do.
    pub strict_sequence: bool,
    /// Mask of the registers after success.
    pub success_mask: SuccessMask,
    /// Most commands that may wait while one is running. Firmware is expected to send one at a time.
    pub max_queued_commands: usize,
    /// Most bytes that one [`super::Console::fetch`] may ask for; they are held in memory.
    pub max_fetch: usize,
}

impl Default for Options {
    /// Timeouts of the widespread consoles: 30 s and 20 s; drives appear at the next reset.
    fn default() -> Self {
        Self {
            rx_timeout: Duration::from_secs(30),
            heartbeat: Duration::from_secs(20),
            start_mode: StartMode::OnReboot,
            reply_timeout: Duration::from_secs(10),
            strict_sequence: true,
            success_mask: SuccessMask::WithDrive,
            max_queued_commands: 16,
            max_fetch: 1 << 20,
        }
    }
}

/// Milliseconds as the 16-bit fields of OpenSession have them; longer times become the longest.
pub(super) fn wire_millis(time: Duration) -> u16 {
    u16::try_from(time.as_millis()).unwrap_or(u16::MAX)
}

/// Names one command. Void after the host was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommandId {
    pub(super) generation: u32,
    pub(super) number: u64,
}

/// A command of the host, to be completed exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// To be named when answering.
    pub id: CommandId,
    /// Which drive.
    pub drive: DriveSelect,
    /// Whether the host reads by DMA. The console takes care of it.
    pub dma: bool,
    /// The command, zero padded.
    pub cdb: [u8; 16],
    /// How many bytes of it were sent: 12, or 16.
    pub cdb_len: usize,
}

/// What happens in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Firmware agreed to the session. SetRegisterState has been sent.
    Opened {
        /// IDE-R version, major and minor.
        version: (u8, u8),
        /// Firmware version, major and minor.
        firmware_version: (u8, u8),
        /// Most data bytes in one 0x54.
        read_buffer: u16,
        /// Most data bytes in one 0x53.
        write_buffer: u16,
        /// Private enterprise number.
        oem: u32,
    },
    /// SetRegisterState was done: the drives are there, or will be at the next reset.
    Attached,
    /// SetRegisterState was refused, with this value. See [`super::Console::attach`].
    AttachRefused(u32),
    /// The host asks for something.
    Command(Command),
    /// All that a [`super::Console::fetch`] asked for.
    Written {
        /// The command.
        id: CommandId,
        /// As many bytes as were asked for.
        data: Vec<u8>,
    },
    /// The host was reset: commands from before are void, and what drives remember between commands is lost.
    Reset {
        /// As received; meaning of the bits unknown.
        mask: u8,
    },
    /// 0x4A. Other consoles log it and go on.
    FirmwareError(u8),
    /// The session has ended in order, by firmware or as asked. The connection is to be closed.
    Closed,
}

/// What a reply was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// OpenSession.
    Open,
    /// SetRegisterState.
    Attach,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "OpenSession",
            Self::Attach => "SetRegisterState",
        })
    }
}

/// Why a session ended out of order.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Bytes that are no message.
    #[error("the firmware sent something that is not IDE-R")]
    Decode(#[from] DecodeError),
    /// Firmware's numbering has a gap.
    #[error("message {found} of the firmware came where {expected} was due")]
    Sequence {
        /// The number that was due.
        expected: u32,
        /// The number that came.
        found: u32,
    },
    /// The session was not granted.
    #[error("the firmware refused the IDE-R session with status 0x{0:02x}")]
    OpenRefused(u8),
    /// A second OpenSessionReply.
    #[error("the firmware opened the IDE-R session twice")]
    OpenedTwice,
    /// Something other than the reply to OpenSession came first.
    #[error("the firmware did not reply to OpenSession first")]
    BeforeOpen,
    /// A protocol number other than 0.
    #[error("IDE-R protocol {0} is not known")]
    Protocol(u8),
    /// A read buffer that is too small to be true.
    #[error("a read buffer of {0} bytes is too small")]
    ReadBuffer(u16),
    /// A reply did not come in time.
    #[error("the firmware did not reply to {0} in time")]
    Timeout(Step),
    /// Nothing was heard for three heartbeats.
    #[error("the firmware was silent for {0:?}")]
    Silence(Duration),
    /// More commands at once than agreed.
    #[error("the firmware sent more than {limit} commands without waiting")]
    TooManyCommands {
        /// [`Options::max_queued_commands`].
        limit: usize,
    },
    /// More data than was asked for.
    #[error("the firmware sent {excess} bytes more than were asked for")]
    ExcessData {
        /// By how much.
        excess: usize,
    },
    /// Messages that call for an answer came faster than answers were taken.
    #[error("the firmware sent too many messages at once")]
    Flood,
}
