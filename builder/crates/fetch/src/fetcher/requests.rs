//! Who is asked for what next.

use std::mem;
use std::ops::Range;
use std::time::Duration;

use sparetire_manifest::layout;

use super::Fetcher;
use crate::exchange::{FetchEvent, Request, RequestId};
use crate::plan::MAX_CHUNK;
use crate::receiver::Receiver;
use crate::slots::{Busy, Partial, Rescue, Slot, rescue};
use crate::source::Source;

/// A request should last no longer than this at its source's speed, so that work is not tied to a slow one.
const RUN_SECONDS: f64 = 8.0;

impl Fetcher<'_> {
    /// Gives a free slot work, if there is any that an available source can do. What broke off comes first.
    pub(super) fn next_request(&mut self, now: Duration) -> Option<Request> {
        if self.in_use() >= self.ramp.limit() {
            return None;
        }
        for connection in 0..self.slots.len() {
            let Some(Slot::Parked { partial, .. }) = self.slots.get(connection) else {
                continue;
            };
            // The source that can continue in mid-chunk comes first.
            let remembered = partial.as_ref().map(|partial| partial.source);
            let is_available = |source: &usize| {
                let source = self.sources.get(*source);
                source.is_some_and(|source| source.available(now))
            };
            let chosen = remembered
                .filter(is_available)
                .or_else(|| self.choose(now))?;
            if let Some(Slot::Parked { run, partial }) =
                self.slots.get_mut(connection).map(mem::take)
            {
                return self.ask(now, connection, chosen, run, partial);
            }
        }
        let connection = self
            .slots
            .iter()
            .position(|slot| matches!(slot, Slot::Idle))?;
        let chosen = self.choose(now)?;
        let run = match self.queue.pop_front() {
            Some(waiting) => {
                let size = self.run_size(now, chosen);
                let run = self.plan.run(waiting.clone(), size);
                if run.end < waiting.end {
                    self.queue.push_front(run.end..waiting.end);
                }
                run
            }
            None => self.take_over(now, chosen)?,
        };
        self.ask(now, connection, chosen, run, None)
    }

    /// The available source that will probably bring most over one more connection.
    fn choose(&self, now: Duration) -> Option<usize> {
        let fastest = self
            .sources
            .iter()
            .filter_map(|source| source.speed(now))
            .fold(1.0, f64::max);
        // Of one that was not measured the best is assumed, so that it is measured.
        let promise = |source: &Source| {
            let speed = source.speed(now).unwrap_or(fastest).max(1.0);
            speed * source.confidence(now) / (source.active as f64 + 1.0)
        };
        let available = self.sources.iter().enumerate();
        available
            .filter(|(_, source)| source.available(now))
            .min_by(|(_, a), (_, b)| promise(b).total_cmp(&promise(a)))
            .map(|(number, _)| number)
    }

    /// Bytes to ask a source for: less towards the end, so that all connections finish at about the same time.
    fn run_size(&self, now: Duration, source: usize) -> u64 {
        let left = self
            .progress
            .stored_total
            .saturating_sub(self.progress.stored_done);
        let share = left / (2 * self.ramp.limit() as u64).max(1);
        let speed = self
            .sources
            .get(source)
            .and_then(|source| source.speed(now));
        // A float beyond u64 becomes its greatest value.
        let lasting = speed.map_or(u64::MAX, |speed| (speed * RUN_SECONDS) as u64);
        self.settings.run.min(share).min(lasting)
    }

    /// When all is asked for: part of what the slowest connection has still to bring.
    fn take_over(&mut self, now: Duration, by: usize) -> Option<Range<usize>> {
        let speed = self.sources.get(by)?.speed(now).or_else(|| {
            let known = self.sources.iter().filter_map(|source| source.speed(now));
            known.reduce(f64::max)
        })?;
        let (victim, run) = match rescue(&self.slots, &self.plan, speed, now)? {
            Rescue::Split { victim, from } => {
                let Some(Slot::Busy(busy)) = self.slots.get_mut(victim) else {
                    return None;
                };
                let run = from..busy.receiver.untouched().end;
                busy.receiver.shorten(from);
                busy.shortened = true;
                (victim, run)
            }
            Rescue::Race { victim, piece } => {
                let stored = self.plan.piece(piece)?.stored;
                let budget = MAX_CHUNK + self.progress.stored_total / 100;
                if self.raced.saturating_add(stored) > budget {
                    return None;
                }
                self.raced = self.raced.saturating_add(stored);
                (victim, piece..piece + 1)
            }
        };
        if let Some(Slot::Busy(busy)) = self.slots.get(victim) {
            let source = busy.source;
            self.event(FetchEvent::Overtaken { source, by });
        }
        Some(run)
    }

    /// Makes a request for a run.
    fn ask(
        &mut self,
        now: Duration,
        connection: usize,
        chosen: usize,
        run: Range<usize>,
        partial: Option<Partial>,
    ) -> Option<Request> {
        let source = self.sources.get_mut(chosen)?;
        let pack = self.plan.piece(run.start)?.pack;
        let etag = source.etag(pack).map(str::to_owned);
        // Only bytes of the same source and the same version of the file may be joined.
        let partial = partial
            .filter(|partial| partial.source == chosen && Some(&partial.etag) == etag.as_ref())
            .map(|partial| partial.bytes)
            .unwrap_or_default();
        let receiver = Receiver::new(&self.plan, run, partial)?;
        let range = receiver.missing(&self.plan);
        let digest = usize::try_from(pack)
            .ok()
            .and_then(|pack| self.index.packs.get(pack))?
            .sha256;

        source.active += 1;
        let speed = source.speed(now).unwrap_or_default();
        self.progress.requests += 1;
        let id = RequestId(self.next_id);
        self.next_id += 1;
        *self.slots.get_mut(connection)? = Slot::Busy(Box::new(Busy {
            id,
            source: chosen,
            pack,
            range: range.clone(),
            etag: etag.clone(),
            if_range: etag.is_some(),
            head_seen: false,
            receiver,
            shortened: false,
            asked: now,
            received: 0,
            delivered: false,
            watch_since: now,
            watch_bytes: 0,
            speed,
            fresh: 0,
        }));
        Some(Request {
            id,
            connection,
            source: chosen,
            path: if self.judges {
                layout::pack_path(&digest)
            } else {
                String::new()
            },
            range,
            if_range: etag,
        })
    }
}
