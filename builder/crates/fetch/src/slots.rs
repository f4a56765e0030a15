//! Connections: what each is doing, and whose work an idle one should take over.
//!
//! A connection is a slot that carries one request at a time. It is idle, under way, or parked: a parked slot
//! still owes the rest of a run, and keeps the first bytes of the unfinished chunk as long as the source they came
//! from can continue it under the same strong ETag. So memory stays at one stored chunk per slot, plus one
//! decoded chunk for all.

use std::ops::Range;
use std::time::Duration;

use crate::exchange::RequestId;
use crate::plan::Plan;
use crate::receiver::Receiver;

/// Nobody takes over what will be there in this time.
const SOON: Duration = Duration::from_secs(2);
/// A request younger than this has not shown how fast it is.
const YOUNG: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) enum Slot {
    #[default]
    Idle,
    Parked {
        run: Range<usize>,
        partial: Option<Partial>,
    },
    Busy(Box<Busy>),
}

/// The first bytes of the first piece of a parked run.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(crate) source: usize,
    pub(crate) etag: String,
    pub(crate) bytes: Vec<u8>,
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Busy {
    pub(crate) id: RequestId,
    pub(crate) source: usize,
    pub(crate) pack: u32,
    pub(crate) range: Range<u64>,
    /// The strong ETag that the received bytes belong to.
    pub(crate) etag: Option<String>,
    pub(crate) if_range: bool,
    pub(crate) head_seen: bool,
    pub(crate) receiver: Receiver,
    /// Whether it was asked for more than it still has to bring.
    pub(crate) shortened: bool,
    pub(crate) asked: Duration,
    pub(crate) received: u64,
    /// Whether a chunk of it has been verified.
    pub(crate) delivered: bool,
    pub(crate) watch_since: Duration,
    pub(crate) watch_bytes: u64,
    /// Bytes a second, smoothed; and bytes since it was last measured.
    pub(crate) speed: f64,
    pub(crate) fresh: u64,
}

impl Busy {
    /// Measures its speed: `seconds` since the last call.
    pub(crate) fn tick(&mut self, now: Duration, seconds: f64) {
        let found = std::mem::take(&mut self.fresh) as f64 / seconds.max(f64::MIN_POSITIVE);
        let is_new = now.saturating_sub(self.asked) <= YOUNG;
        self.speed = if is_new {
            found.max(self.speed)
        } else {
            (self.speed + found) / 2.0
        };
    }
}

/// What an idle connection can do when there is nothing left to ask for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rescue {
    /// Take the pieces from this one on from the run of that slot.
    Split { victim: usize, from: usize },
    /// Ask for the only piece that slot still has to bring, and see who is first.
    Race { victim: usize, piece: usize },
}

/// The slot with the piece as the one it is working on, other than `except`.
pub(crate) fn twin(slots: &[Slot], piece: usize, except: usize) -> Option<usize> {
    slots.iter().enumerate().find_map(|(connection, slot)| {
        let Slot::Busy(busy) = slot else { return None };
        (connection != except && busy.receiver.due_number() == Some(piece)).then_some(connection)
    })
}

/// Finds the slot that will be done last, if someone who brings `speed` bytes a second can help it along.
pub(crate) fn rescue(slots: &[Slot], plan: &Plan, speed: f64, now: Duration) -> Option<Rescue> {
    let mut slowest: Option<(f64, Rescue)> = None;
    for (victim, slot) in slots.iter().enumerate() {
        let Slot::Busy(busy) = slot else { continue };
        let Some(due) = busy.receiver.due_number() else {
            continue;
        };
        if now.saturating_sub(busy.asked) < YOUNG {
            continue;
        }
        let missing = busy.receiver.missing(plan);
        let bytes = missing.end.saturating_sub(missing.start) as f64;
        let left = bytes / busy.speed.max(1.0);
        if left <= SOON.as_secs_f64() || slowest.as_ref().is_some_and(|(most, _)| left <= *most) {
            continue;
        }
        let untouched = busy.receiver.untouched();
        let found = if untouched.is_empty() {
            // Starting the piece anew must pay, also if the guess is off by a factor of two.
            let anew = plan
                .piece(due)
                .map_or(f64::INFINITY, |piece| piece.stored as f64 / speed.max(1.0));
            let pays = left > SOON.as_secs_f64() + 2.0 * anew;
            (pays && twin(slots, due, victim).is_none())
                .then_some(Rescue::Race { victim, piece: due })
        } else {
            // Both should be done at the same time.
            let share = bytes * speed / (speed + busy.speed).max(1.0);
            let reaches = |number: &usize| {
                plan.piece(*number)
                    .is_some_and(|piece| missing.end.saturating_sub(piece.offset) as f64 <= share)
            };
            let last = untouched.end - 1;
            let from = untouched.clone().find(reaches).unwrap_or(last);
            Some(Rescue::Split { victim, from })
        };
        if let Some(found) = found {
            slowest = Some((left, found));
        }
    }
    slowest.map(|(_, rescue)| rescue)
}

/// The slot that a request is in.
pub(crate) fn find(slots: &mut [Slot], id: RequestId) -> Option<(usize, &mut Box<Busy>)> {
    slots
        .iter_mut()
        .enumerate()
        .find_map(|(connection, slot)| match slot {
            Slot::Busy(busy) if busy.id == id => Some((connection, busy)),
            _ => None,
        })
}
