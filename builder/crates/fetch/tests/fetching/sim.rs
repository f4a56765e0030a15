//! Simulated time, and servers that serve a store and misbehave by script.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use fetch::{
    Action, ConnectionFailure, FetchError, FetchEvent, Fetcher, Flow, Head, Progress, Request,
    RequestId, Settings, Sink,
};

use crate::store::Store;

/// What a server does to one request instead of answering it well.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Misdeed {
    /// None after all.
    None,
    /// The connection breaks after this many body bytes.
    Cut(usize),
    /// Nothing more comes after this many body bytes, for ever.
    Stall(usize),
    /// A byte every few seconds, for ever.
    Trickle,
    /// No answer at all.
    Silence,
    /// No connection.
    Fail(ConnectionFailure),
    /// This status, with a page that explains it.
    Status(u16),
    /// 200 and the whole file.
    Whole,
    /// 206 for a range one byte further on.
    Shifted,
    /// Content-Range names a longer file.
    OtherTotal,
    /// No Content-Range.
    NoRange,
    /// Content-Length of one byte less.
    ShorterLength,
    /// The body is complete one byte early.
    ShortBody,
    /// The body has bytes after its end.
    LongBody,
    /// The body never ends.
    Endless,
    /// One bit wrong at this place of the body (modulo its length).
    WrongBit(usize),
    /// Claims gzip.
    Encoded,
    /// The file gets a new ETag from here on.
    NewEtag,
    /// The answer has no ETag.
    NoEtag,
    /// The body comes before the head.
    BodyFirst,
}

/// A server with the whole store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    /// Misdeeds for its first requests.
    pub(crate) script: VecDeque<Misdeed>,
    /// What it does when the script is over.
    pub(crate) habit: Option<Misdeed>,
    /// Whether it sends ETags.
    pub(crate) without_etags: bool,
    /// Counts the changes of its ETags.
    pub(crate) edition: u32,
    /// Time that each body part takes, on each connection; by default [`PART_TIME`].
    pub(crate) part_time: Option<Duration>,
    /// Answers 503 to more requests at the same time than this.
    pub(crate) most: Option<usize>,
}

impl Server {
    pub(crate) fn honest() -> Self {
        Self::default()
    }

    pub(crate) fn scripted(script: impl IntoIterator<Item = Misdeed>) -> Self {
        Self {
            script: script.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(crate) fn always(misdeed: Misdeed) -> Self {
        Self {
            habit: Some(misdeed),
            ..Self::default()
        }
    }
}

enum Input {
    Head(Head),
    Body(Vec<u8>),
    End,
    Error(ConnectionFailure),
}

/// What came of a fetch.
pub(crate) struct Outcome {
    pub(crate) result: Result<(), FetchError>,
    pub(crate) image: Vec<u8>,
    pub(crate) requests: Vec<(Duration, Request)>,
    pub(crate) events: Vec<FetchEvent>,
    pub(crate) progress: Progress,
    pub(crate) elapsed: Duration,
    pub(crate) most_held: usize,
    /// Most requests at the same time.
    pub(crate) most_active: usize,
    /// Bytes of packs that came more than once.
    pub(crate) repeated: u64,
    /// Requests whose answers did not come to their end, or were refused, whoever ended them.
    pub(crate) cut: u64,
}

/// Refuses every byte that is not the image's, and every chunk that comes twice.
pub(crate) struct WatchfulSink<'a> {
    truth: &'a [u8],
    image: Vec<u8>,
    seen: BTreeSet<u64>,
    /// Whether bytes that are not the image's are a failure of the machine.
    pub(crate) judges: bool,
    /// Fails when this chunk comes.
    pub(crate) full_at: Option<u64>,
}

impl<'a> WatchfulSink<'a> {
    pub(crate) fn new(truth: &'a [u8]) -> Self {
        Self {
            truth,
            image: vec![0; truth.len()],
            seen: BTreeSet::new(),
            judges: true,
            full_at: None,
        }
    }
}

impl Sink for WatchfulSink<'_> {
    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        if self.full_at == Some(offset) {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        let start = usize::try_from(offset).unwrap();
        assert!(
            !self.judges || self.truth[start..start + bytes.len()] == *bytes,
            "unverified bytes at {offset}"
        );
        assert!(self.seen.insert(offset), "chunk at {offset} came twice");
        self.image[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

const LATENCY: Duration = Duration::from_millis(2);
/// One body part each.
const PART_TIME: Duration = Duration::from_micros(300);
/// Longer than any test needs; a machine that spins or waits for ever runs into it.
const STEPS: usize = 2_000_000;

pub(crate) struct Sim<'a> {
    pub(crate) store: &'a Store,
    pub(crate) servers: Vec<Server>,
    /// Body parts have up to this many bytes.
    pub(crate) part: usize,
    pub(crate) seed: u64,
    pub(crate) sink: WatchfulSink<'a>,
    inputs: BTreeMap<(Duration, u64), (RequestId, Input)>,
    sequence: u64,
    /// Which bytes of each pack have come.
    came: BTreeMap<String, Vec<bool>>,
    repeated: u64,
    /// Requests under way, and how much of each has come.
    open: BTreeMap<RequestId, (Request, u64)>,
    cut: u64,
    most_active: usize,
}

impl<'a> Sim<'a> {
    pub(crate) fn new(store: &'a Store, servers: Vec<Server>) -> Self {
        Self {
            store,
            servers,
            part: 16_000,
            seed: 1,
            sink: WatchfulSink::new(&store.image),
            inputs: BTreeMap::new(),
            sequence: 0,
            came: BTreeMap::new(),
            repeated: 0,
            open: BTreeMap::new(),
            cut: 0,
            most_active: 0,
        }
    }

    pub(crate) fn fetch(self, settings: Settings) -> Outcome {
        let fetcher =
            Fetcher::new(&self.store.index, self.servers.len(), settings, self.seed).unwrap();
        self.run(fetcher)
    }

    pub(crate) fn run(mut self, mut fetcher: Fetcher<'_>) -> Outcome {
        let mut now = Duration::ZERO;
        let mut requests = Vec::new();
        let mut events = Vec::new();
        let mut most_held = 0;
        for _ in 0..STEPS {
            let action = fetcher.poll(now);
            most_held = most_held.max(fetcher.held_bytes());
            while let Some(event) = fetcher.poll_event() {
                events.push(event);
            }
            let result = match action {
                Action::Request(request) => {
                    self.open.insert(request.id, (request.clone(), 0));
                    self.most_active = self.most_active.max(self.open.len());
                    self.answer(now, &request);
                    requests.push((now, request));
                    continue;
                }
                Action::Cancel(id) => {
                    self.forget(id);
                    continue;
                }
                Action::Wait { until } => {
                    assert!(until > now, "a wait that is over already");
                    let next = self
                        .inputs
                        .first_key_value()
                        .map(|(at, _)| *at)
                        .filter(|(at, _)| *at <= until);
                    let Some(at) = next else {
                        now = until;
                        continue;
                    };
                    now = now.max(at.0);
                    let (id, input) = self.inputs.remove(&at).unwrap();
                    self.hand_in(&mut fetcher, now, id, input);
                    continue;
                }
                Action::Done => Ok(()),
                Action::Failed(error) => Err(error),
            };
            let progress = fetcher.progress(now);
            let open: Vec<RequestId> = self.open.keys().copied().collect();
            for id in open {
                self.forget(id);
            }
            return Outcome {
                result,
                image: self.sink.image,
                requests,
                events,
                progress,
                elapsed: now,
                most_held,
                most_active: self.most_active,
                repeated: self.repeated,
                cut: self.cut,
            };
        }
        panic!(
            "no end after {STEPS} steps, {now:?}: {:?}",
            fetcher.progress(now)
        );
    }

    fn hand_in(&mut self, fetcher: &mut Fetcher<'_>, now: Duration, id: RequestId, input: Input) {
        let flow = match input {
            Input::Head(head) => {
                let flow = fetcher.response(now, id, &head);
                self.judge(id, flow);
                flow
            }
            Input::Body(bytes) => {
                self.count(id, bytes.len());
                let flow = fetcher.body(now, id, &bytes, &mut self.sink);
                self.judge(id, flow);
                flow
            }
            Input::End => {
                fetcher.end(now, id);
                Flow::Stop
            }
            Input::Error(failure) => {
                fetcher.error(now, id, failure);
                Flow::Stop
            }
        };
        if flow == Flow::Stop {
            self.forget(id);
        }
    }

    /// An answer that the machine wants no more of was cut, even if its last byte has just come.
    fn judge(&mut self, id: RequestId, flow: Flow) {
        if flow == Flow::Stop
            && let Some((_, brought)) = self.open.get_mut(&id)
        {
            *brought = u64::MAX;
        }
    }

    /// Takes note of bytes that a request has brought, at the place where it should have brought them.
    fn count(&mut self, id: RequestId, length: usize) {
        let Some((request, brought)) = self.open.get_mut(&id) else {
            return;
        };
        let start = request.range.start + *brought;
        let end = (start + length as u64).min(request.range.end).max(start);
        *brought = brought.saturating_add(length as u64);
        let store = self.store;
        let came = self
            .came
            .entry(request.path.clone())
            .or_insert_with(|| vec![false; store.pack(&request.path).len()]);
        for byte in &mut came[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()] {
            self.repeated += u64::from(*byte);
            *byte = true;
        }
    }

    fn forget(&mut self, id: RequestId) {
        if let Some((request, brought)) = self.open.remove(&id)
            && brought != request.range.end - request.range.start
        {
            self.cut += 1;
        }
        self.inputs.retain(|_, (other, _)| *other != id);
    }

    fn random(&mut self, below: usize) -> usize {
        self.seed = self
            .seed
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        usize::try_from(self.seed >> 33).unwrap() % below.max(1)
    }

    fn push(&mut self, at: Duration, id: RequestId, input: Input) {
        self.sequence += 1;
        self.inputs.insert((at, self.sequence), (id, input));
    }

    /// Schedules everything a server will send in answer to `request`.
    fn answer(&mut self, now: Duration, request: &Request) {
        let file = self.store.pack(&request.path);
        let server = &mut self.servers[request.source];
        let busy = self
            .open
            .values()
            .filter(|(other, _)| other.source == request.source);
        let refused = server.most.is_some_and(|most| busy.count() > most);
        let misdeed = refused
            .then_some(Misdeed::Status(503))
            .or_else(|| server.script.pop_front())
            .or_else(|| server.habit.clone())
            .unwrap_or(Misdeed::None);
        if misdeed == Misdeed::NewEtag {
            server.edition += 1;
        }
        let etag = format!("\"edition-{}\"", server.edition);
        let has_etag = !server.without_etags && misdeed != Misdeed::NoEtag;

        let range = request.range.clone();
        assert!(
            range.start < range.end && range.end <= file.len() as u64,
            "{range:?} of {}",
            file.len()
        );
        let changed = request
            .if_range
            .as_ref()
            .is_some_and(|wanted| *wanted != etag);
        let mut body = file
            [usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
            .to_vec();
        let mut head = Head {
            status: 206,
            content_range: Some(format!(
                "bytes {}-{}/{}",
                range.start,
                range.end - 1,
                file.len()
            )),
            content_length: Some(body.len() as u64),
            etag: has_etag.then(|| etag.clone()),
            content_encoding: None,
        };
        if changed || misdeed == Misdeed::Whole {
            head = Head {
                status: 200,
                content_length: Some(file.len() as u64),
                content_range: None,
                ..head
            };
            body = file.to_vec();
        }

        let mut end = Input::End;
        let mut endless = false;
        let mut pause = server.part_time.unwrap_or(PART_TIME);
        let length = body.len();
        match misdeed {
            Misdeed::None
            | Misdeed::Whole
            | Misdeed::NewEtag
            | Misdeed::NoEtag
            | Misdeed::BodyFirst => {}
            Misdeed::Cut(at) => {
                body.truncate(at % length);
                end = Input::Error(ConnectionFailure::Lost);
            }
            Misdeed::Stall(at) => {
                body.truncate(at % length);
                endless = true;
            }
            Misdeed::Trickle => {
                pause = Duration::from_secs(3);
                endless = true;
            }
            Misdeed::Silence => return,
            Misdeed::Fail(failure) => {
                self.push(now + LATENCY, request.id, Input::Error(failure));
                return;
            }
            Misdeed::Status(status) => {
                body = b"<html>".to_vec();
                head = Head {
                    status,
                    content_range: None,
                    content_length: Some(6),
                    ..head
                };
            }
            Misdeed::Shifted => {
                head.content_range = Some(format!(
                    "bytes {}-{}/{}",
                    range.start + 1,
                    range.end,
                    file.len()
                ));
            }
            Misdeed::OtherTotal => {
                head.content_range = Some(format!(
                    "bytes {}-{}/{}",
                    range.start,
                    range.end - 1,
                    file.len() + 1
                ));
            }
            Misdeed::NoRange => head.content_range = None,
            Misdeed::ShorterLength => head.content_length = Some(length as u64 - 1),
            Misdeed::ShortBody => {
                body.pop();
                head.content_length = None;
            }
            Misdeed::LongBody => {
                body.push(0);
                head.content_length = None;
            }
            Misdeed::Endless => {
                body.resize(length + 100_000, 0);
                head.content_length = None;
                endless = true;
            }
            Misdeed::WrongBit(at) => body[at % length] ^= 1 << (at % 8),
            Misdeed::Encoded => head.content_encoding = Some("gzip".into()),
        }

        let mut at = now + LATENCY;
        if misdeed != Misdeed::BodyFirst {
            self.push(at, request.id, Input::Head(head));
        }
        let mut rest = body.as_slice();
        while !rest.is_empty() {
            at += pause;
            let most = if misdeed == Misdeed::Trickle {
                1
            } else {
                self.part
            };
            let size = 1 + self.random(most);
            let (part, after) = rest.split_at(size.min(rest.len()));
            self.push(at, request.id, Input::Body(part.to_vec()));
            rest = after;
            if misdeed == Misdeed::Trickle && at > now + Duration::from_secs(600) {
                return;
            }
        }
        if !endless {
            self.push(at, request.id, end);
        }
    }
}
