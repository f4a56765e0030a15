//! Two drives, their media and the statistics: turns the commands of a console session into its answers. No socket, no task.
//!
//! A read that its source cannot serve at once becomes a [`Job`] for a thread that may wait; a long one is served in pieces, each
//! made only when the one before was sent.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amt_redirection::console::ider::{Command, CommandId, Console, DriveSelect};
use atapi::{Drive, DriveKind, Reply, Sense};
use tokio::time::Instant;

use super::statistics::Statistics;
use super::{Config, ConfigError};
use crate::redirection::block_source::BlockSource;

/// Most bytes of a reply that are in memory at once.
const PIECE: u64 = 256 << 10;
/// Most bytes asked for from the host at once.
const FETCH: u64 = 64 << 10;

pub(super) struct Service {
    cd: Slot,
    floppy: Slot,
    work: Option<Work>,
    piece: u64,
    statistics: Arc<Mutex<Statistics>>,
    /// When the last answer was sent.
    answered: Option<Instant>,
    /// When the last medium was read or written, or nothing was yet.
    pub(super) busy: Instant,
}

struct Slot {
    drive: Drive,
    source: Option<Arc<dyn BlockSource>>,
}

/// A command that takes more than one step.
struct Work {
    id: CommandId,
    drive: DriveSelect,
    arrived: Instant,
    offset: u64,
    left: u64,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    /// The next piece can be made.
    Read,
    /// A job has the next piece.
    Await,
    /// The host was asked for data, to be written.
    Write,
    /// The host was asked for data, to be forgotten.
    Drain(Sense),
}

/// A read for a thread that may wait.
pub(super) struct Job {
    source: Arc<dyn BlockSource>,
    offset: u64,
    length: usize,
}

impl Job {
    pub(super) fn run(self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.length];
        read_padded(&*self.source, self.offset, &mut bytes, |at, into| {
            self.source.read(at, into)
        })?;
        Ok(bytes)
    }
}

impl Service {
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let slot = |kind, source: &Option<Arc<dyn BlockSource>>| {
            let medium = source.as_ref().map(|source| atapi::Medium {
                bytes: source.bytes(),
                writable: kind == DriveKind::Floppy && source.writable(),
            });
            let drive = Drive::new(kind, medium, config.behaviour)
                .map_err(|source| ConfigError { kind, source })?;
            Ok(Slot {
                drive,
                source: source.clone(),
            })
        };
        let bytes = |source: &Option<Arc<dyn BlockSource>>| {
            source.as_ref().map_or(0, |source| source.bytes())
        };
        let statistics = Statistics::new(bytes(&config.cd), bytes(&config.floppy));
        Ok(Self {
            cd: slot(DriveKind::Cd, &config.cd)?,
            floppy: slot(DriveKind::Floppy, &config.floppy)?,
            work: None,
            piece: PIECE,
            statistics: Arc::new(Mutex::new(statistics)),
            answered: None,
            busy: Instant::now(),
        })
    }

    pub(super) fn shared_statistics(&self) -> Arc<Mutex<Statistics>> {
        self.statistics.clone()
    }

    pub(super) fn statistics(&self) -> MutexGuard<'_, Statistics> {
        lock(&self.statistics)
    }

    /// A new connection: nothing of the old one goes on, and the host sees drives after a reset.
    pub(super) fn opened(&mut self, read_buffer: u16) {
        let read_buffer = u64::from(read_buffer.max(1));
        self.piece = (PIECE / read_buffer).max(1) * read_buffer;
        self.busy = Instant::now();
        self.forget();
    }

    /// The host was reset.
    pub(super) fn reset(&mut self) {
        self.forget();
        self.statistics().resets += 1;
    }

    fn forget(&mut self) {
        self.work = None;
        self.answered = None;
        self.cd.drive.reset();
        self.floppy.drive.reset();
    }

    /// Everything that was made is with the kernel.
    pub(super) fn sent(&mut self, now: Instant) {
        if self.work.is_none() {
            self.answered = Some(now);
        }
    }

    /// Answers a command, or begins to.
    pub(super) fn command(&mut self, console: &mut Console, command: &Command, arrived: Instant) {
        let cdb = command.cdb.get(..command.cdb_len).unwrap_or(&command.cdb);
        let gap = self.answered.take();
        {
            let mut statistics = self.statistics();
            statistics.opcodes[usize::from(command.cdb[0])] += 1;
            if let Some(answered) = gap {
                let gap = arrived.saturating_duration_since(answered);
                statistics.gap_times.add_time(gap);
            }
        }
        let reply = self.slot(command.drive).drive.execute(cdb);
        let mut work = Work {
            id: command.id,
            drive: command.drive,
            arrived,
            offset: 0,
            left: 0,
            step: Step::Read,
        };
        match reply {
            Reply::Done | Reply::Flush => {
                console.finish(command.id);
                self.answered_at(arrived);
            }
            Reply::Check(sense) => self.refuse(console, command.id, arrived, sense),
            Reply::Data(bytes) => {
                let mut rest = &bytes[..];
                let copied = console.data(command.id, true, bytes.len(), |into| {
                    let (now, later) = rest
                        .split_at_checked(into.len())
                        .ok_or(io::ErrorKind::UnexpectedEof)?;
                    into.copy_from_slice(now);
                    rest = later;
                    Ok::<(), io::Error>(())
                });
                match copied {
                    Ok(_) => self.answered_at(arrived),
                    Err(_) => self.refuse(console, command.id, arrived, Sense::UNRECOVERED_READ),
                }
            }
            Reply::Read { offset, length } => {
                {
                    let mut statistics = self.statistics();
                    statistics.reads += 1;
                    statistics.read_sizes.add(length);
                    match command.drive {
                        DriveSelect::Cd => statistics.cd.mark(offset, length),
                        DriveSelect::Floppy => statistics.floppy.mark(offset, length),
                    }
                }
                work.offset = offset;
                work.left = length;
                self.work = Some(work);
            }
            Reply::Write { offset, length } => {
                work.offset = offset;
                work.left = length;
                work.step = Step::Write;
                self.fetch(console, work);
            }
            Reply::Drain { length, then } => {
                work.left = length;
                work.step = Step::Drain(then);
                self.fetch(console, work);
            }
        }
    }

    /// Makes the next piece of a read. To be called when all before it was sent. A job that comes out has to be run, and
    /// its outcome told to [`Service::job_done`].
    pub(super) fn advance(&mut self, console: &mut Console) -> Option<Job> {
        let mut work = self.work.take_if(|work| matches!(work.step, Step::Read))?;
        let length = work.left.min(self.piece);
        let Some(source) = self.slot(work.drive).source.clone() else {
            self.refuse(console, work.id, work.arrived, Sense::NO_MEDIUM);
            return None;
        };
        let mut at = work.offset;
        let last = length == work.left;
        // At most PIECE, or one read buffer.
        let filled = console.data(work.id, last, length as usize, |into| {
            let offset = at;
            at += into.len() as u64;
            read_padded(&*source, offset, into, |at, into| source.read_now(at, into))
        });
        match filled {
            Ok(_) => {
                self.piece_made(work, length);
                None
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                work.step = Step::Await;
                let offset = work.offset;
                self.work = Some(work);
                Some(Job {
                    source,
                    offset,
                    length: length as usize,
                })
            }
            Err(error) => {
                self.read_failed(console, &work, &error);
                None
            }
        }
    }

    /// The outcome of a job, unless the command it was for is gone.
    pub(super) fn job_done(&mut self, console: &mut Console, outcome: io::Result<Vec<u8>>) {
        let Some(work) = self.work.take_if(|work| matches!(work.step, Step::Await)) else {
            return;
        };
        let bytes = match outcome {
            Ok(bytes) => bytes,
            Err(error) => return self.read_failed(console, &work, &error),
        };
        let length = bytes.len() as u64;
        let last = length == work.left;
        let mut rest = &bytes[..];
        let copied = console.data(work.id, last, bytes.len(), |into| {
            let (now, later) = rest
                .split_at_checked(into.len())
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            into.copy_from_slice(now);
            rest = later;
            Ok::<(), io::Error>(())
        });
        match copied {
            Ok(_) => self.piece_made(work, length),
            Err(error) => self.read_failed(console, &work, &error),
        }
    }

    /// Data of a write has come.
    pub(super) fn written(&mut self, console: &mut Console, id: CommandId, data: &[u8]) {
        let Some(mut work) = self.work.take_if(|work| work.id == id) else {
            return;
        };
        if matches!(work.step, Step::Write) {
            let slot = self.slot(work.drive);
            let kept = match &slot.source {
                Some(source) => source.write_now(work.offset, data),
                None => Err(io::ErrorKind::NotFound.into()),
            };
            if let Err(error) = kept {
                tracing::warn!(offset = work.offset, %error, "writing to a redirected drive");
                slot.drive.failed(Sense::WRITE_ERROR);
                return self.refuse(console, id, work.arrived, Sense::WRITE_ERROR);
            }
            self.statistics().bytes_written += data.len() as u64;
        }
        work.offset += data.len() as u64;
        work.left = work.left.saturating_sub(data.len() as u64);
        match work.step {
            _ if work.left > 0 => self.fetch(console, work),
            Step::Drain(sense) => self.refuse(console, id, work.arrived, sense),
            _ => {
                console.finish(id);
                self.answered_at(work.arrived);
            }
        }
    }

    fn fetch(&mut self, console: &mut Console, work: Work) {
        self.busy = Instant::now();
        match console.fetch(work.id, work.left.min(FETCH) as usize) {
            Ok(_) => self.work = Some(work),
            // The limit of the session is below ours: nothing larger than it can be written.
            Err(error) => {
                tracing::warn!(%error, "writing to a redirected drive");
                self.refuse(console, work.id, work.arrived, Sense::WRITE_ERROR);
            }
        }
    }

    fn piece_made(&mut self, mut work: Work, length: u64) {
        self.busy = Instant::now();
        self.statistics().bytes_read += length;
        if length == work.left {
            self.answered_at(work.arrived);
            return;
        }
        work.offset += length;
        work.left -= length;
        work.step = Step::Read;
        self.work = Some(work);
    }

    fn read_failed(&mut self, console: &mut Console, work: &Work, error: &io::Error) {
        tracing::warn!(offset = work.offset, %error, "reading a served image");
        self.slot(work.drive).drive.failed(Sense::UNRECOVERED_READ);
        self.refuse(console, work.id, work.arrived, Sense::UNRECOVERED_READ);
    }

    fn refuse(&mut self, console: &mut Console, id: CommandId, arrived: Instant, sense: Sense) {
        console.check(id, sense.key, sense.asc, sense.ascq);
        self.statistics().refused += 1;
        self.answered_at(arrived);
    }

    fn answered_at(&mut self, arrived: Instant) {
        let service = arrived.elapsed();
        let mut statistics = self.statistics();
        statistics.commands += 1;
        statistics.service_times.add_time(service);
    }

    fn slot(&mut self, drive: DriveSelect) -> &mut Slot {
        match drive {
            DriveSelect::Cd => &mut self.cd,
            DriveSelect::Floppy => &mut self.floppy,
        }
    }
}

pub(super) fn lock(statistics: &Mutex<Statistics>) -> MutexGuard<'_, Statistics> {
    // Counters: one that is off by a panic elsewhere harms nobody.
    statistics.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads what the source has, and zeros for the rest of its last block.
fn read_padded(
    source: &dyn BlockSource,
    offset: u64,
    into: &mut [u8],
    read: impl FnOnce(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    let there = source.bytes().saturating_sub(offset);
    let there = usize::try_from(there).unwrap_or(usize::MAX).min(into.len());
    let (bytes, padding) = into.split_at_mut(there);
    padding.fill(0);
    if bytes.is_empty() {
        return Ok(());
    }
    read(offset, bytes)
}
