//! The machine itself: which connection asks whom for what, and what follows from each answer.
//!
//! A connection is a slot that carries one request at a time. It is idle, under way, or parked: a parked slot
//! still owes the rest of a run, and keeps the first bytes of the unfinished chunk as long as the source they came
//! from can continue it under the same strong ETag. So memory stays at one stored chunk per slot, plus one
//! decoded chunk for all.
//!
//! Timers: the deadline of the whole; for each request a watch that wants [`Settings::stall_bytes`] in each
//! [`Settings::stall`]; for each source the time until which it rests.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::time::Duration;

use sparetire_manifest::index::{Index, Place};
use sparetire_manifest::{Digest, Verified, layout};

use crate::Sink;
use crate::exchange::{Action, FetchEvent, Flow, Request, RequestId, Settings};
use crate::fault::{ConnectionFailure, Fault, FetchError, What};
use crate::head::Head;
use crate::plan::{Plan, PlanError};
use crate::progress::{Progress, RateMeter};
use crate::receiver::{Decoder, Receiver, chunk_of};
use crate::source::{BackOff, Source, Standing};

const MAX_CONNECTIONS: usize = 16;
/// Events kept for a caller that does not collect them; the oldest go first.
const MAX_EVENTS: usize = 256;
/// When there is nothing to wait for but the answer to a request: how soon to look again.
const IDLE: Duration = Duration::from_secs(1);

/// Fetches one image.
pub struct Fetcher<'a> {
    index: &'a Index,
    settings: Settings,
    plan: Plan,
    /// Pieces that no slot has taken on.
    queue: VecDeque<Range<usize>>,
    sources: Vec<Source>,
    slots: Vec<Slot>,
    decoder: Decoder,
    progress: Progress,
    rate: RateMeter,
    events: VecDeque<FetchEvent>,
    cancels: VecDeque<RequestId>,
    sink_failure: Option<FetchError>,
    next_id: u64,
    jitter: Jitter,
}

#[derive(Debug, Default)]
enum Slot {
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
struct Partial {
    source: usize,
    etag: String,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Busy {
    id: RequestId,
    source: usize,
    pack: u32,
    range: Range<u64>,
    /// The strong ETag that the received bytes belong to.
    etag: Option<String>,
    if_range: bool,
    head_seen: bool,
    receiver: Receiver,
    asked: Duration,
    received: u64,
    /// Whether a chunk of it has been verified.
    delivered: bool,
    watch_since: Duration,
    watch_bytes: u64,
}

impl<'a> Fetcher<'a> {
    /// A machine that fetches what `index` lists from `sources` places, which are known by number.
    /// `seed` only spreads retries in time.
    pub fn new(
        index: &'a Verified<Index>,
        sources: usize,
        settings: Settings,
        seed: u64,
    ) -> Result<Self, PlanError> {
        let mut fetcher = Self {
            index,
            plan: Plan::default(),
            queue: VecDeque::new(),
            sources: (0..sources).map(|_| Source::default()).collect(),
            slots: (0..settings.connections.clamp(1, MAX_CONNECTIONS))
                .map(|_| Slot::Idle)
                .collect(),
            settings,
            decoder: Decoder::new(),
            progress: Progress::default(),
            rate: RateMeter::default(),
            events: VecDeque::new(),
            cancels: VecDeque::new(),
            sink_failure: None,
            next_id: 0,
            jitter: Jitter(seed),
        };
        fetcher.resume(|_| false)?;
        Ok(fetcher)
    }

    /// Leaves out the chunks that the sink has already and that the caller has verified.
    /// Starts the plan anew, so it comes before the first [`poll`](Self::poll).
    pub fn resume(&mut self, have: impl Fn(usize) -> bool) -> Result<(), PlanError> {
        self.plan = Plan::new(self.index, have)?;
        self.queue.clear();
        self.queue.push_back(0..self.plan.len());
        self.slots.fill_with(Slot::default);
        let total = self.index.image_size;
        self.progress = Progress {
            done: total.saturating_sub(self.plan.image_bytes()),
            total,
            stored_total: self.plan.stored_bytes(),
            ..Progress::default()
        };
        Ok(())
    }

    /// What to do next. To be called again after each action, each input, and when a wait is over.
    pub fn poll(&mut self, now: Duration) -> Action {
        if let Some(failure) = self.sink_failure.take() {
            return Action::Failed(failure);
        }
        self.cut_stalled(now);
        if let Some(id) = self.cancels.pop_front() {
            return Action::Cancel(id);
        }
        if self.progress.stored_done >= self.progress.stored_total {
            return Action::Done;
        }
        if self.sources.iter().all(Source::dropped) {
            return Action::Failed(FetchError::NoSourceLeft {
                faults: self.last_faults(),
            });
        }
        if let Some(deadline) = self.settings.deadline
            && now >= deadline
        {
            let missing = self.progress.total.saturating_sub(self.progress.done);
            return Action::Failed(FetchError::Deadline {
                deadline,
                missing,
                faults: self.last_faults(),
            });
        }
        for connection in 0..self.slots.len() {
            if let Some(request) = self.assign(now, connection) {
                return Action::Request(request);
            }
        }
        Action::Wait {
            until: self.next_timer(now),
        }
    }

    /// Takes the head of a response.
    pub fn response(&mut self, now: Duration, id: RequestId, head: &Head) -> Flow {
        let Some((connection, busy)) = find(&mut self.slots, id) else {
            return Flow::Stop;
        };
        if mem::replace(&mut busy.head_seen, true) {
            return self.fail(now, connection, ConnectionFailure::NotHttp.into());
        }
        busy.watch_since = now;
        let file_length = usize::try_from(busy.pack)
            .ok()
            .and_then(|pack| self.index.packs.get(pack))
            .map_or(0, |pack| pack.length);
        let source = self.sources.get_mut(busy.source);
        let known = source
            .as_ref()
            .and_then(|source| source.etag(busy.pack))
            .or(busy.etag.as_deref().filter(|_| busy.if_range));
        let checked = head.check(&busy.range, file_length, known, busy.if_range);
        match checked {
            Ok(()) => {
                busy.etag = head.strong_etag().map(str::to_owned);
                if let (Some(source), Some(etag)) = (source, &busy.etag) {
                    source.learn_etag(busy.pack, etag);
                }
                Flow::Continue
            }
            Err(what) => {
                if matches!(what, What::Changed { .. })
                    && let Some(source) = source
                {
                    source.distrust_etag(busy.pack);
                }
                self.fail(now, connection, what)
            }
        }
    }

    /// Takes bytes of a response's body. What they complete goes to `sink`, once verified.
    pub fn body(
        &mut self,
        now: Duration,
        id: RequestId,
        mut bytes: &[u8],
        sink: &mut dyn Sink,
    ) -> Flow {
        let Some((connection, busy)) = find(&mut self.slots, id) else {
            return Flow::Stop;
        };
        if !busy.head_seen {
            return self.fail(now, connection, ConnectionFailure::NotHttp.into());
        }
        let length = bytes.len() as u64;
        busy.received = busy.received.saturating_add(length);
        busy.watch_bytes = busy.watch_bytes.saturating_add(length);
        self.progress.network_bytes = self.progress.network_bytes.saturating_add(length);
        self.rate.add(now, length);

        let Self {
            index,
            plan,
            decoder,
            progress,
            sources,
            ..
        } = self;
        let Busy {
            receiver,
            delivered,
            source,
            ..
        } = &mut **busy;
        let taken = receiver.take(plan, &mut bytes, |piece, stored| {
            let targets = plan.targets(piece);
            // All targets of a piece have the same length and digest.
            let Some(chunk) = chunk_of(index, targets.first()) else {
                return Ok(());
            };
            let plain = decoder.decode(chunk, stored).map_err(Trouble::Chunk)?;
            for target in targets {
                sink.chunk(target.image_offset, plain).map_err(|source| {
                    Trouble::Sink(FetchError::Sink {
                        offset: target.image_offset,
                        source,
                    })
                })?;
                progress.done = progress.done.saturating_add(plain.len() as u64);
            }
            progress.stored_done = progress.stored_done.saturating_add(piece.stored);
            *delivered = true;
            if let Some(source) = sources.get_mut(*source) {
                source.delivered();
            }
            Ok(())
        });
        match taken {
            Ok(()) if bytes.is_empty() => Flow::Continue,
            Ok(()) => {
                let expected = busy.range.end.saturating_sub(busy.range.start);
                self.fail(now, connection, What::LongBody { expected })
            }
            Err(Trouble::Chunk(what)) => self.fail(now, connection, what),
            Err(Trouble::Sink(failure)) => {
                self.sink_failure = Some(failure);
                Flow::Stop
            }
        }
    }

    /// Takes note that a response is complete, as its server sees it.
    pub fn end(&mut self, now: Duration, id: RequestId) {
        let Some((connection, busy)) = find(&mut self.slots, id) else {
            return;
        };
        if busy.receiver.due(&self.plan).is_none() {
            self.release(now, connection);
        } else {
            let expected = busy.range.end.saturating_sub(busy.range.start);
            let what = What::ShortBody {
                expected,
                found: busy.received,
            };
            let _ = self.fail(now, connection, what);
        }
    }

    /// Takes note that there is no answer, or no more of it.
    pub fn error(&mut self, now: Duration, id: RequestId, failure: ConnectionFailure) {
        let Some((connection, busy)) = find(&mut self.slots, id) else {
            return;
        };
        if busy.receiver.due(&self.plan).is_none() {
            // Everything has come: how the connection ends no longer matters.
            self.release(now, connection);
        } else {
            let _ = self.fail(now, connection, failure.into());
        }
    }

    /// How far it is.
    pub fn progress(&mut self, now: Duration) -> Progress {
        Progress {
            rate: self.rate.rate(now),
            active: self
                .slots
                .iter()
                .filter(|slot| matches!(slot, Slot::Busy(_)))
                .count(),
            sources: self
                .sources
                .iter()
                .filter(|source| !source.dropped())
                .count(),
            ..self.progress
        }
    }

    /// Bytes of image data held: unfinished stored chunks, and the last decompressed one.
    pub fn held_bytes(&self) -> usize {
        let partial = |slot: &Slot| match slot {
            Slot::Busy(busy) => busy.receiver.held_bytes(),
            Slot::Parked {
                partial: Some(partial),
                ..
            } => partial.bytes.capacity(),
            Slot::Parked { partial: None, .. } | Slot::Idle => 0,
        };
        self.slots.iter().map(partial).sum::<usize>() + self.decoder.held_bytes()
    }

    /// What has happened since the last call; one event at a time, oldest first.
    pub fn poll_event(&mut self) -> Option<FetchEvent> {
        self.events.pop_front()
    }

    /// The parts of the image that are zeros and never fetched, for a sink that has to clear them: (offset, length).
    pub fn holes(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let holes = self
            .index
            .placed()
            .filter(|(_, chunk)| chunk.place == Place::Hole);
        holes.map(|(offset, chunk)| (offset, u64::from(chunk.length)))
    }

    /// Gives a free slot work, if there is any that an available source can do.
    fn assign(&mut self, now: Duration, connection: usize) -> Option<Request> {
        let slot = self.slots.get_mut(connection)?;
        let remembered = match slot {
            Slot::Busy(_) => return None,
            Slot::Idle if self.queue.is_empty() => return None,
            Slot::Idle => None,
            Slot::Parked { partial, .. } => partial.as_ref().map(|partial| partial.source),
        };
        // The source that can continue in mid-chunk comes first; then whoever is least busy.
        let is_available = |source: &usize| {
            self.sources
                .get(*source)
                .is_some_and(|source| source.available(now))
        };
        let chosen = remembered.filter(is_available).or_else(|| {
            (0..self.sources.len())
                .filter(is_available)
                .min_by_key(|source| self.sources.get(*source).map(Source::cost))
        })?;
        let source = self.sources.get_mut(chosen)?;

        let (run, partial) = match mem::take(slot) {
            Slot::Parked { run, partial } => (run, partial),
            Slot::Idle | Slot::Busy(_) => {
                let waiting = self.queue.pop_front()?;
                // Towards the end runs get shorter, so that all connections finish at about the same time.
                let left = self
                    .progress
                    .stored_total
                    .saturating_sub(self.progress.stored_done);
                let share = left / (2 * self.slots.len() as u64).max(1);
                let run = self.plan.run(waiting.clone(), self.settings.run.min(share));
                if run.end < waiting.end {
                    self.queue.push_front(run.end..waiting.end);
                }
                (run, None)
            }
        };
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
            asked: now,
            received: 0,
            delivered: false,
            watch_since: now,
            watch_bytes: 0,
        }));
        Some(Request {
            id,
            connection,
            source: chosen,
            path: layout::pack_path(&digest),
            range,
            if_range: etag,
        })
    }

    /// Ends a request whose run is complete.
    fn release(&mut self, now: Duration, connection: usize) {
        let Some(slot) = self.slots.get_mut(connection) else {
            return;
        };
        if let Slot::Busy(busy) = mem::take(slot)
            && let Some(source) = self.sources.get_mut(busy.source)
        {
            source.finished(busy.received, now.saturating_sub(busy.asked));
        }
    }

    /// Ends a request that went wrong, and parks what is left of its run.
    fn fail(&mut self, now: Duration, connection: usize, what: What) -> Flow {
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

        let mut standing = Standing::Dropped;
        if let Some(source) = self.sources.get_mut(busy.source) {
            source.finished(busy.received, now.saturating_sub(busy.asked));
            let back_off = BackOff {
                first: self.settings.back_off,
                longest: self.settings.back_off_max,
                give_up: self.settings.give_up,
            };
            standing = source.fail(now, busy.asked, verdict, busy.delivered, back_off, jitter);
            source.last_fault = Some(fault.clone());
        }
        self.event(FetchEvent::Fault(fault));
        self.park(
            connection,
            busy.receiver,
            busy.source,
            busy.etag.filter(|_| keeps_partial && busy.head_seen),
        );
        match standing {
            Standing::Good => {}
            Standing::Resting(until) => self.event(FetchEvent::SourceRests {
                source: busy.source,
                until,
            }),
            Standing::Dropped => self.drop_source(now, busy.source),
        }
        Flow::Stop
    }

    fn park(&mut self, connection: usize, receiver: Receiver, source: usize, etag: Option<String>) {
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
    fn drop_source(&mut self, now: Duration, dropped: usize) {
        self.event(FetchEvent::SourceDropped { source: dropped });
        for connection in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(connection) else {
                continue;
            };
            match mem::take(slot) {
                Slot::Busy(busy) if busy.source == dropped => {
                    self.cancels.push_back(busy.id);
                    if let Some(source) = self.sources.get_mut(dropped) {
                        source.finished(busy.received, now.saturating_sub(busy.asked));
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

    fn cut_stalled(&mut self, now: Duration) {
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
                self.release(now, connection);
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

    /// The next time at which something happens by itself.
    fn next_timer(&self, now: Duration) -> Duration {
        let stalls = self.slots.iter().filter_map(|slot| match slot {
            Slot::Busy(busy) => Some(busy.watch_since.saturating_add(self.settings.stall)),
            Slot::Idle | Slot::Parked { .. } => None,
        });
        let rests = self
            .sources
            .iter()
            .filter(|source| !source.dropped())
            .map(|source| source.rests_until);
        let timers = stalls
            .chain(rests)
            .chain(self.settings.deadline)
            .filter(|time| *time > now);
        timers.min().unwrap_or_else(|| now.saturating_add(IDLE))
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

    fn last_faults(&self) -> Vec<Fault> {
        self.sources
            .iter()
            .filter_map(|source| source.last_fault.clone())
            .collect()
    }

    fn event(&mut self, event: FetchEvent) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// Why a complete piece did not become a chunk of the image.
enum Trouble {
    Chunk(What),
    Sink(FetchError),
}

fn find(slots: &mut [Slot], id: RequestId) -> Option<(usize, &mut Box<Busy>)> {
    slots
        .iter_mut()
        .enumerate()
        .find_map(|(connection, slot)| match slot {
            Slot::Busy(busy) if busy.id == id => Some((connection, busy)),
            _ => None,
        })
}

/// SplitMix64 (Steele, Lea, Flood 2014): spreads retries; nothing secret depends on it.
struct Jitter(u64);

impl Jitter {
    /// Between 0 and 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from(u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }
}
