//! The machine itself: what comes in, what has to be done, and the clock.
//!
//! Who is asked for what next is in `requests`, what becomes of a request that ends in `endings`. How many requests there
//! are is the business of `ramp`, how sources are judged that of `source`, and what a connection holds that of `slots`.
//!
//! Timers: the deadline of the whole, and the patience since the last chunk; for each request a watch that wants
//! [`Settings::stall_bytes`] in each [`Settings::stall`]; for each source the time until which it rests; and a tick, by
//! which speeds are measured and slow connections noticed.

mod endings;
mod requests;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::time::Duration;

use sparetire_manifest::Verified;
use sparetire_manifest::index::{Index, Place};

use crate::Sink;
use crate::exchange::{Action, FetchEvent, Flow, RequestId, Settings};
use crate::fault::{ConnectionFailure, FetchError, What};
use crate::head::Head;
use crate::plan::{Plan, PlanError};
use crate::progress::{Progress, RateMeter};
use crate::ramp::Ramp;
use crate::receiver::{Decoder, chunk_of};
use crate::slots::{Busy, Slot, find, twin};
use crate::source::Source;

/// Most requests there can be at the same time.
pub const MAX_CONNECTIONS: usize = 32;
/// Events kept for a caller that does not collect them; the oldest go first.
const MAX_EVENTS: usize = 256;
/// When there is nothing to wait for but the answer to a request: how soon to look again.
const IDLE: Duration = Duration::from_secs(1);
/// How often speeds are measured.
const TICK: Duration = Duration::from_millis(500);

/// Fetches one image.
pub struct Fetcher<'a> {
    index: Cow<'a, Index>,
    /// Whether the index says which bytes are right. Where it does not, nobody knows before the whole is there.
    judges: bool,
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
    ramp: Ramp,
    /// When speeds were last measured.
    ticked: Duration,
    /// When a chunk was last verified.
    delivered_at: Duration,
    /// Stored bytes asked for twice at the same time.
    raced: u64,
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
        Self::with(Cow::Borrowed(index), true, sources, settings, seed)
    }

    /// A machine that fetches one file of `size` bytes, of whose parts nobody knows the digests. Requests have an empty
    /// path: a source is the file itself.
    ///
    /// Lengths and ranges are checked as ever, but the sink gets whatever bytes come, in pieces of
    /// [`PLAIN_PIECE`](crate::PLAIN_PIECE). They mean nothing until the caller has compared the digest of the whole.
    pub fn plain(
        size: u64,
        sources: usize,
        settings: Settings,
        seed: u64,
    ) -> Result<Fetcher<'static>, PlanError> {
        let index = crate::plan::plain(size)?;
        Fetcher::with(Cow::Owned(index), false, sources, settings, seed)
    }

    fn with(
        index: Cow<'a, Index>,
        judges: bool,
        sources: usize,
        settings: Settings,
        seed: u64,
    ) -> Result<Self, PlanError> {
        let most = settings.connections.clamp(1, MAX_CONNECTIONS);
        let mut fetcher = Self {
            index,
            judges,
            plan: Plan::default(),
            queue: VecDeque::new(),
            sources: (0..sources).map(|_| Source::default()).collect(),
            slots: (0..most).map(|_| Slot::Idle).collect(),
            ramp: Ramp::new(settings.first_connections, most),
            ticked: Duration::ZERO,
            delivered_at: Duration::ZERO,
            raced: 0,
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
        self.plan = Plan::new(&self.index, have)?;
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
        self.tick(now);
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
            return Action::Failed(FetchError::Deadline {
                deadline,
                missing: self.missing(),
                faults: self.last_faults(),
            });
        }
        if let Some(patience) = self.settings.patience
            && now.saturating_sub(self.delivered_at) >= patience
        {
            return Action::Failed(FetchError::NoProgress {
                patience,
                missing: self.missing(),
                faults: self.last_faults(),
            });
        }
        if let Some(request) = self.next_request(now) {
            return Action::Request(request);
        }
        let in_use = self.in_use();
        self.ramp.tick(now, self.progress.network_bytes, in_use);
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
        busy.fresh = busy.fresh.saturating_add(length);
        if let Some(source) = self.sources.get_mut(busy.source) {
            source.received(now, length);
        }
        self.progress.network_bytes = self.progress.network_bytes.saturating_add(length);
        self.rate.add(now, length);

        let Self {
            index,
            judges,
            plan,
            decoder,
            progress,
            sources,
            delivered_at,
            ..
        } = self;
        let index: &Index = index;
        let judges = *judges;
        let Busy {
            receiver,
            delivered,
            source,
            shortened,
            ..
        } = &mut **busy;
        let due_before = receiver.due_number();
        let taken = receiver.take(plan, &mut bytes, |piece, stored| {
            let targets = plan.targets(piece);
            // All targets of a piece have the same length and digest.
            let Some(chunk) = chunk_of(index, targets.first()) else {
                return Ok(());
            };
            let plain = decoder
                .decode(chunk, stored, judges)
                .map_err(Trouble::Chunk)?;
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
            *delivered_at = now;
            if let Some(source) = sources.get_mut(*source) {
                source.delivered();
            }
            Ok(())
        });
        // What was left to another connection is its business: the rest of this answer is not read.
        let handed_over = *shortened && receiver.due_number().is_none();
        let due_now = receiver.due_number();
        if due_before != due_now
            && let Some(piece) = due_before
            && let Some(other) = twin(&self.slots, piece, connection)
        {
            self.lose(now, other);
        }
        let Some((connection, busy)) = find(&mut self.slots, id) else {
            return Flow::Stop;
        };
        match taken {
            Ok(()) if handed_over => {
                self.release(connection);
                Flow::Stop
            }
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
            self.release(connection);
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
            self.release(connection);
        } else {
            let _ = self.fail(now, connection, failure.into());
        }
    }

    /// How far it is.
    pub fn progress(&mut self, now: Duration) -> Progress {
        Progress {
            rate: self.rate.rate(now),
            active: self.in_use(),
            quiet: now.saturating_sub(self.delivered_at),
            sources: self
                .sources
                .iter_mut()
                .map(|source| source.health(now))
                .collect(),
            ..self.progress.clone()
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

    fn in_use(&self) -> usize {
        let is_busy = |slot: &&Slot| matches!(slot, Slot::Busy(_));
        self.slots.iter().filter(is_busy).count()
    }

    /// Bytes of the image that are not there.
    fn missing(&self) -> u64 {
        self.progress.total.saturating_sub(self.progress.done)
    }

    /// Measures speeds.
    fn tick(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.ticked);
        if passed < TICK {
            return;
        }
        self.ticked = now;
        for source in &mut self.sources {
            source.tick(now, passed);
        }
        for slot in &mut self.slots {
            if let Slot::Busy(busy) = slot {
                busy.tick(now, passed.as_secs_f64());
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
        let patience = self.settings.patience;
        let patience = patience.map(|patience| self.delivered_at.saturating_add(patience));
        let tick = (self.in_use() > 0).then(|| self.ticked.saturating_add(TICK));
        let timers = stalls
            .chain(rests)
            .chain(self.settings.deadline)
            .chain(patience)
            .chain(tick)
            .filter(|time| *time > now);
        timers.min().unwrap_or_else(|| now.saturating_add(IDLE))
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
