//! The redirected drives as the host's disk layer sees them: reads and writes at any place, cut into commands.
//!
//! Without a session there is no medium. When a session is lost, a read that was under way fails, or waits for the
//! session to come back for as long as the knobs say; a reset makes it try again, as USB storage does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use amt_redirection::ider::DriveSelect;
use atapi::Sense;
use atapi::cdb::{self, Cdb};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::super::knobs::Knobs;
use super::counters::IderCounters;
use super::initiator::{Answer, Command};

/// How often a command is tried again after a reset, as Linux does for disks.
const MAX_RESETS: u32 = 5;

/// Size of a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Capacity {
    /// Number of blocks.
    pub blocks: u64,
    /// Bytes per block.
    pub block_size: u32,
    /// Whether the drive says that it takes writes.
    pub writable: bool,
}

impl Capacity {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size.into())
    }
}

/// What the host sees of the drives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct MediaState {
    /// The drives are there.
    pub attached: bool,
    /// Medium in the CD drive.
    pub cd: Option<Capacity>,
    /// Medium in the floppy drive.
    pub floppy: Option<Capacity>,
}

impl MediaState {
    /// The medium in a drive.
    pub fn medium(&self, drive: DriveSelect) -> Option<Capacity> {
        match drive {
            DriveSelect::Cd => self.cd,
            DriveSelect::Floppy => self.floppy,
        }
    }
}

/// Why a read or write failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DriveError {
    /// No session, or nothing in the drive.
    #[error("no medium")]
    NoMedium,
    /// Outside of the medium.
    #[error("outside of the medium")]
    OutOfRange,
    /// The drive said so.
    #[error("check condition {:02x}/{:02x}/{:02x}", .0.key, .0.asc, .0.ascq)]
    Check(Sense),
    /// The session ended while the command was under way.
    #[error("the redirection session was lost")]
    SessionLost,
    /// The bus was reset again and again, or commands stayed without an answer.
    #[error("the drive does not answer")]
    NoAnswer,
    /// Success, but not with as much data as was asked for.
    #[error("the drive sent {got} of {expected} bytes")]
    ShortData {
        /// Bytes asked for.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
}

/// A command on its way to the session.
pub(super) struct Job {
    pub(super) command: Command,
    pub(super) reply: oneshot::Sender<Result<Answer, Aborted>>,
}

/// A command that a reset took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aborted {
    pub(super) unanswered: bool,
}

/// A handle to both drives; clones are handles to the same.
#[derive(Debug, Clone)]
pub struct IderMedia(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: watch::Sender<MediaState>,
    jobs: watch::Sender<Option<mpsc::Sender<Job>>>,
    counters: Mutex<IderCounters>,
    max_read: u32,
    max_write: u32,
    dma: bool,
    reattach_wait: Duration,
}

impl IderMedia {
    pub(in super::super) fn new(knobs: &Knobs) -> Self {
        Self(Arc::new(Inner {
            state: watch::Sender::new(MediaState::default()),
            jobs: watch::Sender::new(None),
            counters: Mutex::default(),
            max_read: knobs.max_host_read,
            max_write: knobs.max_host_write,
            dma: knobs.dma,
            reattach_wait: Duration::from_millis(knobs.reattach_wait_ms),
        }))
    }

    /// Tells when drives and media come and go.
    pub fn watch(&self) -> watch::Receiver<MediaState> {
        self.0.state.subscribe()
    }

    /// The medium in a drive, now.
    pub fn capacity(&self, drive: DriveSelect) -> Option<Capacity> {
        self.0.state.borrow().medium(drive)
    }

    /// What the console did so far.
    pub fn counters(&self) -> IderCounters {
        self.count(|counters| counters.clone())
    }

    /// Reads from a drive. Place and length need not be multiples of the block size.
    ///
    /// # Errors
    /// See [`DriveError`]; what `buffer` holds then is undefined.
    pub async fn read(
        &self,
        drive: DriveSelect,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), DriveError> {
        let until = Instant::now() + self.0.reattach_wait;
        let medium = self.medium_until(drive, until).await?;
        let block = u64::from(medium.block_size.max(1));
        let end = range_end(medium, offset, buffer.len())?;
        let at_once = u64::from(self.0.max_read) / block;
        let mut lba = offset / block;
        let mut rest = buffer;
        let mut skip = usize::try_from(offset % block).unwrap_or(0);
        while !rest.is_empty() {
            let blocks = (end.div_ceil(block) - lba).clamp(1, at_once.clamp(1, 0xffff));
            let length = usize::try_from(blocks * block).unwrap_or(usize::MAX);
            // The medium has at most 2^32 blocks, and at most 2^16 - 1 are asked for.
            let cdb = cdb::read_10(lba as u32, blocks as u16);
            let data = self.transfer(drive, cdb, length, Vec::new(), until).await?;
            let Some(useful) = data.get(skip..).filter(|_| data.len() == length) else {
                return Err(DriveError::ShortData {
                    expected: length,
                    got: data.len(),
                });
            };
            let count = useful.len().min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(useful.get(..count).unwrap_or_default());
            rest = later;
            skip = 0;
            lba += blocks;
        }
        Ok(())
    }

    /// Writes whole blocks to the floppy.
    ///
    /// # Errors
    /// See [`DriveError`]. Place and length that are not multiples of the block size are out of range.
    pub async fn write(
        &self,
        drive: DriveSelect,
        offset: u64,
        data: &[u8],
    ) -> Result<(), DriveError> {
        let until = Instant::now() + self.0.reattach_wait;
        let medium = self.medium_until(drive, until).await?;
        let block = medium.block_size.max(1);
        let end = range_end(medium, offset, data.len())?;
        if !offset.is_multiple_of(block.into()) || !end.is_multiple_of(block.into()) {
            return Err(DriveError::OutOfRange);
        }
        let at_once = (self.0.max_write / block).clamp(1, 0xffff) as usize;
        let mut lba = offset / u64::from(block);
        for piece in data.chunks(at_once * block as usize) {
            let blocks = piece.len() / block as usize;
            let cdb = cdb::write_10(lba as u32, blocks as u16);
            self.transfer(drive, cdb, 0, piece.to_vec(), until).await?;
            lba += blocks as u64;
        }
        Ok(())
    }

    /// Makes the console bring what was written to where it stays.
    ///
    /// # Errors
    /// See [`DriveError`].
    pub async fn flush(&self, drive: DriveSelect) -> Result<(), DriveError> {
        let until = Instant::now() + self.0.reattach_wait;
        let cdb = cdb::synchronize_cache();
        let flushed = self.transfer(drive, cdb, 0, Vec::new(), until).await;
        flushed.map(|_| ())
    }

    async fn transfer(
        &self,
        drive: DriveSelect,
        cdb: Cdb,
        limit: usize,
        out: Vec<u8>,
        until: Instant,
    ) -> Result<Vec<u8>, DriveError> {
        let command = Command {
            drive,
            cdb,
            dma: self.0.dma && limit > 0,
            limit,
            out,
        };
        let mut resets = 0;
        loop {
            let jobs = self.jobs_until(until).await?;
            match execute(&jobs, command.clone()).await {
                Some(Ok(Answer {
                    outcome: Ok(()),
                    data,
                })) => return Ok(data),
                // What a drive reports once after a change, and a host takes note of and asks again.
                Some(Ok(Answer {
                    outcome: Err(Sense { key: 6, .. }),
                    ..
                })) if resets < MAX_RESETS => resets += 1,
                Some(Ok(Answer {
                    outcome: Err(Sense::NO_MEDIUM),
                    ..
                })) => return Err(DriveError::NoMedium),
                Some(Ok(Answer {
                    outcome: Err(sense),
                    ..
                })) => return Err(DriveError::Check(sense)),
                Some(Err(_)) if resets < MAX_RESETS => resets += 1,
                Some(Err(_)) => return Err(DriveError::NoAnswer),
                None if Instant::now() >= until => return Err(DriveError::SessionLost),
                None => {}
            }
        }
    }

    async fn medium_until(
        &self,
        drive: DriveSelect,
        until: Instant,
    ) -> Result<Capacity, DriveError> {
        if let Some(medium) = self.capacity(drive) {
            return Ok(medium);
        }
        if self.0.state.borrow().attached {
            return Err(DriveError::NoMedium);
        }
        let mut state = self.watch();
        let attached = timeout_at(until, state.wait_for(|state| state.attached)).await;
        match attached {
            Ok(Ok(state)) => state.medium(drive).ok_or(DriveError::NoMedium),
            _ => Err(DriveError::NoMedium),
        }
    }

    async fn jobs_until(&self, until: Instant) -> Result<mpsc::Sender<Job>, DriveError> {
        let mut jobs = self.0.jobs.subscribe();
        let live =
            |jobs: &Option<mpsc::Sender<Job>>| jobs.as_ref().is_some_and(|jobs| !jobs.is_closed());
        match timeout_at(until, jobs.wait_for(live)).await {
            Ok(Ok(jobs)) => jobs.clone().ok_or(DriveError::NoMedium),
            _ => Err(DriveError::NoMedium),
        }
    }

    /// The session has the drives ready: reads go to it from now on.
    pub(super) fn plug(&self, state: MediaState, jobs: mpsc::Sender<Job>) {
        self.0.jobs.send_replace(Some(jobs));
        self.0.state.send_replace(state);
    }

    /// The drives are gone.
    pub(super) fn unplug(&self) {
        self.0.jobs.send_replace(None);
        self.0.state.send_if_modified(|state| {
            let changed = *state != MediaState::default();
            *state = MediaState::default();
            changed
        });
    }

    /// A medium came or went while the drives stayed.
    pub(super) fn change(&self, drive: DriveSelect, medium: Option<Capacity>) {
        self.0.state.send_if_modified(|state| {
            let slot = match drive {
                DriveSelect::Cd => &mut state.cd,
                DriveSelect::Floppy => &mut state.floppy,
            };
            let changed = *slot != medium;
            *slot = medium;
            changed
        });
    }

    pub(super) fn count<R>(&self, count: impl FnOnce(&mut IderCounters) -> R) -> R {
        // Counting leaves nothing half done, so a panicking test elsewhere does not spoil it.
        count(
            &mut self
                .0
                .counters
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

/// Runs a command on a session; none when the session was lost.
pub(super) async fn execute(
    jobs: &mpsc::Sender<Job>,
    command: Command,
) -> Option<Result<Answer, Aborted>> {
    let (reply, answer) = oneshot::channel();
    jobs.send(Job { command, reply }).await.ok()?;
    answer.await.ok()
}

fn range_end(medium: Capacity, offset: u64, length: usize) -> Result<u64, DriveError> {
    u64::try_from(length)
        .ok()
        .and_then(|length| offset.checked_add(length))
        .filter(|&end| end <= medium.bytes())
        .ok_or(DriveError::OutOfRange)
}
