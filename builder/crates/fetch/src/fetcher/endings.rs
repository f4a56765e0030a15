//! What becomes of a request that ends, well or badly, and of its source.

use std::mem;
use std::time::Duration;

use sparetire_manifest::Digest;

use super::Fetcher;
use crate::exchange::{FetchEvent, Flow};
use crate::fault::{Fault, What};
use crate::receiver::Receiver;
use crate::slots::{Busy, Partial, Slot, twin};
use crate::source::{BackOff, Standing};

/// A request that brought so much was no failure, if the next one can continue where it ended.
const WORTHWHILE: u64 = 16 << 10;

impl Fetcher<'_> {
    /// Ends a request whose only piece has come over another connection.
    pub(super) fn lose(&mut self, now: Duration, connection: usize) {
        if let Some(Slot::Busy(busy)) = self.slots.get(connection) {
            self.cancels.push_back(busy.id);
            if let Some(source) = self.sources.get_mut(busy.source) {
                source.overtaken(now);
            }
        }
        self.release(connection);
    }

    /// Ends a request whose run is complete.
    pub(super) fn release(&mut self, connection: usize) {
        let Some(slot) = self.slots.get_mut(connection) else {
            return;
        };
        if let Slot::Busy(busy) = mem::take(slot)
            && let Some(source) = self.sources.get_mut(busy.source)
        {
            source.finished();
        }
    }

    /// Ends a request that went wrong, and parks what is left of its run.
    pub(super) fn fail(&mut self, now: Duration, connection: usize, what: What) -> Flow {
        let jitter = self.jitter.next();
        let Some(slot) = self.slots.get_mut(connection) else {
            return Flow::Stop;
        };
        let Slot::Busy(busy) = mem::take(slot) else {
            return Flow::Stop;
        };
        let busy = *busy;
        let verdict = what.verdict();
        let keeps_partial = what.keeps_partial();
        let fault = self.fault(&busy, what);
        self.progress.faults += 1;

        self.ramp.disturbed(now);
        let keeps = keeps_partial && busy.head_seen && busy.etag.is_some();
        let brought = busy.delivered || (keeps && busy.received >= WORTHWHILE);
        let asks_for_fewer = matches!(fault.what, What::Status(429 | 503));

        let mut standing = Standing::Dropped;
        if let Some(source) = self.sources.get_mut(busy.source) {
            source.finished();
            let back_off = BackOff {
                first: self.settings.back_off,
                longest: self.settings.back_off_max,
                give_up: self.settings.give_up,
            };
            standing = if asks_for_fewer && source.refused_more(now) {
                Standing::Good
            } else {
                source.fail(now, busy.asked, verdict, brought, back_off, jitter)
            };
            source.last_fault = Some(fault.clone());
        }
        self.event(FetchEvent::Fault(fault));
        self.park(
            connection,
            busy.receiver,
            busy.source,
            busy.etag.filter(|_| keeps),
        );
        match standing {
            Standing::Good => {}
            Standing::Resting(until) => self.event(FetchEvent::SourceRests {
                source: busy.source,
                until,
            }),
            Standing::Dropped => self.drop_source(busy.source),
        }
        Flow::Stop
    }

    fn park(&mut self, connection: usize, receiver: Receiver, source: usize, etag: Option<String>) {
        // Nothing is left to do for what another connection is bringing, too.
        let due = receiver.due_number();
        if due.is_some_and(|piece| twin(&self.slots, piece, connection).is_some()) {
            return;
        }
        let (run, bytes) = receiver.into_rest();
        let Some(slot) = self.slots.get_mut(connection).filter(|_| !run.is_empty()) else {
            return;
        };
        let partial = etag.filter(|_| !bytes.is_empty()).map(|etag| Partial {
            source,
            etag,
            bytes,
        });
        *slot = Slot::Parked { run, partial };
    }

    /// Takes all its work away from a source that has just been dropped.
    fn drop_source(&mut self, dropped: usize) {
        self.event(FetchEvent::SourceDropped { source: dropped });
        for connection in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(connection) else {
                continue;
            };
            match mem::take(slot) {
                Slot::Busy(busy) if busy.source == dropped => {
                    self.cancels.push_back(busy.id);
                    if let Some(source) = self.sources.get_mut(dropped) {
                        source.finished();
                    }
                    self.park(connection, busy.receiver, dropped, None);
                }
                Slot::Parked { run, partial } => {
                    *slot = Slot::Parked {
                        run,
                        partial: partial.filter(|partial| partial.source != dropped),
                    };
                }
                other => *slot = other,
            }
        }
    }

    pub(super) fn cut_stalled(&mut self, now: Duration) {
        let settings = &self.settings;
        let mut stalled = Vec::new();
        for (connection, slot) in self.slots.iter_mut().enumerate() {
            let Slot::Busy(busy) = slot else { continue };
            if now.saturating_sub(busy.watch_since) < settings.stall {
                continue;
            }
            if busy.watch_bytes >= settings.stall_bytes.max(1) {
                busy.watch_since = now;
                busy.watch_bytes = 0;
            } else {
                stalled.push((connection, busy.id, busy.receiver.due(&self.plan).is_none()));
            }
        }
        for (connection, id, complete) in stalled {
            self.cancels.push_back(id);
            if complete {
                self.release(connection);
            } else {
                let _ = self.fail(
                    now,
                    connection,
                    What::Stalled {
                        after: self.settings.stall,
                    },
                );
            }
        }
    }

    fn fault(&self, busy: &Busy, what: What) -> Fault {
        // Once the run is complete, its last piece stands for it.
        let piece = busy
            .receiver
            .due(&self.plan)
            .or_else(|| busy.receiver.last(&self.plan));
        let target = piece.and_then(|piece| self.plan.targets(piece).first());
        let pack = usize::try_from(busy.pack)
            .ok()
            .and_then(|pack| self.index.packs.get(pack));
        Fault {
            source_index: busy.source,
            chunk: target.map_or(0, |target| target.chunk),
            image_offset: target.map_or(0, |target| target.image_offset),
            pack: pack.map_or_else(|| Digest::from_bytes([0; 32]), |pack| pack.sha256),
            what,
        }
    }

    pub(super) fn last_faults(&self) -> Vec<Fault> {
        self.sources
            .iter()
            .filter_map(|source| source.last_fault.clone())
            .collect()
    }
}
