//! Commands and their answers: queue, framing by the negotiated buffers, data that the host writes.

use thiserror::Error;

use super::options::{Command, CommandId, Error, Event};
use super::{Console, State};
use crate::ider::{
    Attributes, CommandEnd, CommandWritten, ConsoleMessage, DATA_TO_HOST_HEADER, GetData, Sense,
    data_to_host_header,
};

/// Most bytes asked for in one 0x52 where the write buffer allows as much (reference, section 3.9).
const MAX_GET_DATA: u16 = 0xfe00;

/// The command that is being executed.
#[derive(Debug)]
pub(super) struct Running {
    command: Command,
    fetch: Option<Fetch>,
}

#[derive(Debug)]
struct Fetch {
    data: Vec<u8>,
    length: usize,
    /// Bytes that the last 0x52 asked for and that have not come.
    outstanding: usize,
}

/// Why a [`Console::fetch`] was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{length} bytes were to be fetched at once; the limit is {limit}")]
pub struct FetchError {
    /// Bytes wanted.
    pub length: usize,
    /// [`super::Options::max_fetch`].
    pub limit: usize,
}

/// Only 0x51 has attributes among the messages that are sent through here; 0x54 is framed by hand below.
pub(super) fn attributes_of(message: &ConsoleMessage<'_>) -> Attributes {
    match message {
        ConsoleMessage::CommandEnd(_) => Attributes(Attributes::LAST),
        _ => Attributes::default(),
    }
}

impl Console {
    /// Completes a command that succeeded without data, or whose data is complete. False if the id is void.
    pub fn finish(&mut self, id: CommandId) -> bool {
        let Some(command) = self.complete(id) else {
            return false;
        };
        let end = CommandEnd::success(command.drive, self.options.success_mask);
        self.send_for(ConsoleMessage::CommandEnd(end), true);
        self.next_command();
        true
    }

    /// Completes a command with a check condition, also after some of its data was sent. False if the id is
    /// void.
    pub fn check(&mut self, id: CommandId, sense_key: u8, asc: u8, ascq: u8) -> bool {
        let Some(command) = self.complete(id) else {
            return false;
        };
        let sense = Sense {
            key: sense_key,
            asc,
            ascq,
        };
        self.send_for(
            ConsoleMessage::CommandEnd(CommandEnd::check(command.drive, sense)),
            true,
        );
        self.next_command();
        true
    }

    /// Sends `len` bytes of data to the host and, if `last`, completes the command. Ok(false) if the id is void.
    ///
    /// `fill` is called for each piece in turn and writes straight into the outgoing buffer. If it fails, nothing
    /// of this call is sent, and the command still wants to be completed, usually with a check condition.
    ///
    /// A reply may be sent in several calls; the length of all but the last should be a multiple of the read
    /// buffer, so that firmware gets full pieces.
    pub fn data<E>(
        &mut self,
        id: CommandId,
        last: bool,
        len: usize,
        mut fill: impl FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let (Some(command), State::Open { read_buffer, .. }) = (self.current(id), self.state)
        else {
            return Ok(false);
        };
        if len == 0 {
            // A 0x54 without data is never sent.
            return Ok(if last { self.finish(id) } else { true });
        }
        let piece = usize::from(read_buffer);
        let total = len.saturating_add(len.div_ceil(piece).saturating_mul(DATA_TO_HOST_HEADER));
        let mut buffer = std::mem::take(&mut self.spare);
        // What a used buffer holds is overwritten, so only its growth is cleared.
        buffer.resize(total, 0);
        let first = self.sequence;
        let mut left = len;
        for frame in buffer.chunks_mut(DATA_TO_HOST_HEADER + piece) {
            let (header, data) = frame.split_at_mut(DATA_TO_HOST_HEADER.min(frame.len()));
            left = left.saturating_sub(data.len());
            let ends = last && left == 0;
            let sequence = self.next_sequence();
            // At most `read_buffer`, which has 16 bits.
            let length = data.len() as u16;
            header.copy_from_slice(&data_to_host_header(
                sequence,
                command.drive,
                command.dma,
                ends,
                length,
            ));
            if let Err(error) = fill(data) {
                self.sequence = first;
                self.spare = buffer;
                return Err(error);
            }
        }
        self.queue_bytes(buffer, first, true);
        if last {
            self.running = None;
            self.next_command();
        }
        Ok(true)
    }

    /// Asks for `len` bytes of what the host writes; they come as [`Event::Written`]. The command then still
    /// wants to be completed, or more to be fetched. Ok(false) if the id is void or a fetch is under way.
    pub fn fetch(&mut self, id: CommandId, len: usize) -> Result<bool, FetchError> {
        let limit = self.options.max_fetch;
        if len > limit {
            return Err(FetchError { length: len, limit });
        }
        match self.running.as_mut() {
            Some(running) if running.command.id == id && running.fetch.is_none() => {
                running.fetch = Some(Fetch {
                    data: Vec::new(),
                    length: len,
                    outstanding: 0,
                });
            }
            _ => return Ok(false),
        }
        self.fetch_more();
        Ok(true)
    }

    pub(super) fn command(&mut self, command: CommandWritten) -> Result<(), Error> {
        let limit = self.options.max_queued_commands;
        if self.running.is_some() && self.queue.len() >= limit {
            return Err(Error::TooManyCommands { limit });
        }
        self.queue.push_back(command);
        self.next_command();
        Ok(())
    }

    pub(super) fn written(&mut self, bytes: &[u8]) -> Result<(), Error> {
        // Without a fetch it answers nothing that is still wanted: a write was refused, or the host reset.
        let Some(fetch) = self
            .running
            .as_mut()
            .and_then(|running| running.fetch.as_mut())
        else {
            return Ok(());
        };
        let Some(outstanding) = fetch.outstanding.checked_sub(bytes.len()) else {
            return Err(Error::ExcessData {
                excess: bytes.len() - fetch.outstanding,
            });
        };
        fetch.outstanding = outstanding;
        fetch.data.extend_from_slice(bytes);
        if outstanding == 0 {
            self.fetch_more();
        }
        Ok(())
    }

    /// Asks for the next piece of a fetch, or reports that it is whole.
    fn fetch_more(&mut self) {
        let State::Open { write_buffer, .. } = self.state else {
            return;
        };
        let Some(running) = self.running.as_mut() else {
            return;
        };
        let Some(fetch) = running.fetch.as_mut() else {
            return;
        };
        let left = fetch.length.saturating_sub(fetch.data.len());
        if left == 0 {
            let data = std::mem::take(&mut fetch.data);
            running.fetch = None;
            let id = running.command.id;
            self.events.push_back(Event::Written { id, data });
            return;
        }
        // A write buffer of less than a block would be a mistake of the firmware; blocks are the least there is.
        let piece = usize::from(write_buffer.clamp(512, MAX_GET_DATA)).min(left);
        fetch.outstanding = piece;
        let get = GetData::new(running.command.drive, piece as u16);
        self.send_for(ConsoleMessage::GetData(get), true);
    }

    fn current(&self, id: CommandId) -> Option<Command> {
        self.running
            .as_ref()
            .map(|running| running.command)
            .filter(|command| command.id == id)
    }

    fn complete(&mut self, id: CommandId) -> Option<Command> {
        self.running
            .take_if(|running| running.command.id == id)
            .map(|running| running.command)
    }

    fn next_command(&mut self) {
        if self.running.is_some() {
            return;
        }
        let Some(written) = self.queue.pop_front() else {
            return;
        };
        self.commands += 1;
        let command = Command {
            id: CommandId {
                generation: self.generation,
                number: self.commands,
            },
            drive: written.drive(),
            dma: written.dma(),
            cdb: written.cdb,
            cdb_len: written.form.cdb_length(),
        };
        self.running = Some(Running {
            command,
            fetch: None,
        });
        self.events.push_back(Event::Command(command));
    }
}
