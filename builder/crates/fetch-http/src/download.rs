//! Carries out what the fetch state machine asks for: one future per connection, all in one task.
//!
//! Nothing is spawned and nothing is queued: a body is read when there is room for it, so memory is what the
//! machine holds, plus one read buffer of the HTTP library per connection.

use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use fetch::{
    Action, ConnectionFailure, Fault, FetchError, FetchEvent, Fetcher, Flow, Head, PlanError,
    Progress, RequestId, Settings, Sink,
};
use http_body::Body as _;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_RANGE, RANGE,
};
use reqwest::{Body, Method, Request, Response, Url};
use sparetire_manifest::{Index, Verified};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::client::HttpClient;
use crate::error::{HttpError, HttpFailure, parse_url, shown};

/// How often progress is reported when nothing else happens.
const REPORT_EVERY: Duration = Duration::from_millis(250);
/// Body parts taken from one connection before the others get their turn.
const PARTS_AT_ONCE: usize = 8;

/// What a fetch did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchSummary {
    /// Where it ended.
    pub progress: Progress,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why an image did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// No place to fetch from.
    #[error("no store given")]
    NoSource,
    /// A store's URL is unusable.
    #[error("store")]
    Source(#[source] HttpError),
    /// The index makes no sense.
    #[error("planning the download")]
    Plan(#[from] PlanError),
    /// The fetch failed.
    #[error("{}", Reasons(faults))]
    Fetch {
        /// The last fault of each store that had one, by name.
        faults: Vec<NamedFault>,
        /// Why it ended.
        #[source]
        error: FetchError,
    },
}

/// A fault and the URL of the store that committed it, fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFault {
    /// Base URL of the store.
    pub source: String,
    /// What it did.
    pub fault: Fault,
}

impl fmt::Display for NamedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault {
            chunk,
            image_offset,
            what,
            ..
        } = &self.fault;
        write!(
            f,
            "{}: chunk {chunk} (image offset {image_offset}): {what}",
            self.source
        )
    }
}

struct Reasons<'a>(&'a [NamedFault]);

impl fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fetching the image")?;
        for (number, fault) in self.0.iter().enumerate() {
            write!(f, "{} {fault}", if number == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

/// Fetches what `index` lists into `sink`, from whichever of `sources` (base URLs of stores) answer best.
///
/// `report` is called a few times a second with the progress, and once more for each event.
pub async fn fetch_image(
    client: &HttpClient,
    sources: &[String],
    index: &Verified<Index>,
    settings: Settings,
    sink: &mut (dyn Sink + Send),
    report: impl FnMut(&Progress, Option<&FetchEvent>),
) -> Result<FetchSummary, DownloadError> {
    // Any seed will do that differs between the machines of one outage.
    let seed = RandomState::new().hash_one(sources);
    let fetcher = Fetcher::new(index, sources.len(), settings, seed)?;
    drive(client, sources, fetcher, sink, report).await
}

/// As [`fetch_image`], for a machine that was set up by the caller, as when resuming.
pub async fn drive(
    client: &HttpClient,
    sources: &[String],
    fetcher: Fetcher<'_>,
    sink: &mut (dyn Sink + Send),
    report: impl FnMut(&Progress, Option<&FetchEvent>),
) -> Result<FetchSummary, DownloadError> {
    let bases = sources
        .iter()
        .map(|source| base(source))
        .collect::<Result<Vec<_>, _>>()
        .map_err(DownloadError::Source)?;
    drive_at(client, bases, fetcher, sink, report).await
}

/// As [`drive`], with URLs that paths are joined to as they are.
pub(crate) async fn drive_at(
    client: &HttpClient,
    bases: Vec<Url>,
    fetcher: Fetcher<'_>,
    sink: &mut (dyn Sink + Send),
    mut report: impl FnMut(&Progress, Option<&FetchEvent>),
) -> Result<FetchSummary, DownloadError> {
    if bases.is_empty() {
        return Err(DownloadError::NoSource);
    }
    let started = Instant::now();
    let mut download = Download {
        client,
        bases,
        fetcher,
        connections: Vec::new(),
        started,
    };
    let mut next_report = started;
    loop {
        let next = download.act();
        while let Some(event) = download.fetcher.poll_event() {
            report(&download.progress(), Some(&event));
        }
        let ended = !matches!(next, Next::Wait(_));
        if ended || Instant::now() >= next_report {
            report(&download.progress(), None);
            next_report = Instant::now() + REPORT_EVERY;
        }
        match next {
            Next::Wait(until) => download.wait(until.min(next_report), sink).await,
            Next::Done => {
                return Ok(FetchSummary {
                    progress: download.progress(),
                    elapsed: download.now(),
                });
            }
            Next::Failed(error) => {
                let faults = download.named(&error);
                return Err(DownloadError::Fetch { faults, error });
            }
        }
    }
}

/// A fetch under way.
struct Download<'a> {
    client: &'a HttpClient,
    bases: Vec<Url>,
    fetcher: Fetcher<'a>,
    /// By the machine's connection number.
    connections: Vec<Connection>,
    started: Instant,
}

#[derive(Default)]
enum Connection {
    #[default]
    Idle,
    Asking(
        RequestId,
        Pin<Box<dyn Future<Output = Result<Response, HttpFailure>> + Send>>,
    ),
    Reading(RequestId, Body),
}

enum Next {
    Wait(Instant),
    Done,
    Failed(FetchError),
}

impl Download<'_> {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn progress(&mut self) -> Progress {
        let now = self.now();
        self.fetcher.progress(now)
    }

    /// Does what the machine wants done, until it wants to wait.
    fn act(&mut self) -> Next {
        loop {
            match self.fetcher.poll(self.now()) {
                Action::Request(request) => {
                    let asking = self.ask(&request);
                    if self.connections.len() <= request.connection {
                        self.connections
                            .resize_with(request.connection + 1, Connection::default);
                    }
                    if let Some(connection) = self.connections.get_mut(request.connection) {
                        *connection = asking;
                    }
                }
                Action::Cancel(id) => {
                    if let Some(connection) = self
                        .connections
                        .iter_mut()
                        .find(|connection| connection.id() == Some(id))
                    {
                        *connection = Connection::Idle;
                    }
                }
                Action::Wait { until } => return Next::Wait(self.started + until.min(FAR)),
                Action::Done => return Next::Done,
                Action::Failed(error) => return Next::Failed(error),
            }
        }
    }

    fn ask(&self, request: &fetch::Request) -> Connection {
        let client = self.client.clone();
        // Paths in a store need no escaping and are relative, so this cannot fail for a base URL.
        let url = self
            .bases
            .get(request.source)
            .and_then(|base| base.join(&request.path).ok());
        let headers = headers(&request.range, request.if_range.as_deref());
        Connection::Asking(
            request.id,
            Box::pin(async move {
                let mut request = Request::new(Method::GET, url.ok_or(HttpFailure::Url)?);
                request.headers_mut().extend(headers);
                client.send(request).await
            }),
        )
    }

    /// Reads from all connections, until something has come or it is time.
    async fn wait(&mut self, until: Instant, sink: &mut (dyn Sink + Send)) {
        let timer = sleep_until(until);
        tokio::pin!(timer);
        poll_fn(|context| self.poll_all(context, timer.as_mut(), sink)).await;
    }

    fn poll_all(
        &mut self,
        context: &mut Context<'_>,
        timer: Pin<&mut Sleep>,
        sink: &mut (dyn Sink + Send),
    ) -> Poll<()> {
        let now = self.now();
        let mut came = false;
        for connection in &mut self.connections {
            for _ in 0..PARTS_AT_ONCE {
                if connection
                    .poll(context, now, &mut self.fetcher, sink)
                    .is_pending()
                {
                    break;
                }
                came = true;
            }
        }
        if came {
            Poll::Ready(())
        } else {
            timer.poll(context)
        }
    }

    fn named(&self, error: &FetchError) -> Vec<NamedFault> {
        let faults = match error {
            FetchError::NoSourceLeft { faults }
            | FetchError::Deadline { faults, .. }
            | FetchError::NoProgress { faults, .. } => faults.as_slice(),
            FetchError::Sink { .. } => &[],
        };
        let name = |fault: &Fault| {
            self.bases
                .get(fault.source_index)
                .map(shown)
                .unwrap_or_default()
        };
        faults
            .iter()
            .map(|fault| NamedFault {
                source: name(fault),
                fault: fault.clone(),
            })
            .collect()
    }
}

/// As good as never, and still safe to add to a time.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

impl Connection {
    fn id(&self) -> Option<RequestId> {
        match self {
            Self::Idle => None,
            Self::Asking(id, _) | Self::Reading(id, _) => Some(*id),
        }
    }

    /// Takes one step; `Pending` also when there is nothing to do.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        now: Duration,
        fetcher: &mut Fetcher<'_>,
        sink: &mut dyn Sink,
    ) -> Poll<()> {
        match self {
            Self::Idle => return Poll::Pending,
            Self::Asking(id, answer) => {
                let Poll::Ready(answer) = answer.as_mut().poll(context) else {
                    return Poll::Pending;
                };
                let id = *id;
                *self = match answer {
                    Ok(response) => match fetcher.response(now, id, &head(&response)) {
                        Flow::Continue => Self::Reading(id, response.into()),
                        Flow::Stop => Self::Idle,
                    },
                    Err(failure) => {
                        fetcher.error(now, id, connection(&failure));
                        Self::Idle
                    }
                };
            }
            Self::Reading(id, body) => {
                let Poll::Ready(frame) = Pin::new(body).poll_frame(context) else {
                    return Poll::Pending;
                };
                let id = *id;
                let flow = match frame {
                    // Trailers say nothing that matters.
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(bytes) => fetcher.body(now, id, &bytes, sink),
                        Err(_) => Flow::Continue,
                    },
                    Some(Err(error)) => {
                        fetcher.error(now, id, crate::error::connection_failure(&error));
                        Flow::Stop
                    }
                    None => {
                        fetcher.end(now, id);
                        Flow::Stop
                    }
                };
                if flow == Flow::Stop {
                    *self = Self::Idle;
                }
            }
        }
        Poll::Ready(())
    }
}

fn connection(failure: &HttpFailure) -> ConnectionFailure {
    match failure {
        HttpFailure::Connection(failure) => *failure,
        _ => ConnectionFailure::Other,
    }
}

/// The store's URL as one that paths can be joined to.
fn base(source: &str) -> Result<Url, HttpError> {
    let mut url = parse_url(source)?;
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

fn headers(range: &Range<u64>, if_range: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut insert = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    insert(
        RANGE,
        &format!("bytes={}-{}", range.start, range.end.saturating_sub(1)),
    );
    if let Some(etag) = if_range {
        insert(IF_RANGE, etag);
    }
    headers
}

fn head(response: &Response) -> Head {
    let text = |name: HeaderName| {
        let mut values = response.headers().get_all(name).iter();
        let value = values
            .next()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())?;
        // Said twice is not said clearly: joined as RFC 9110, 5.3 has it, so that no check takes it for one value.
        Some(values.fold(value, |all, value| {
            all + ", " + &String::from_utf8_lossy(value.as_bytes())
        }))
    };
    Head {
        status: response.status().as_u16(),
        content_range: text(CONTENT_RANGE),
        content_length: text(CONTENT_LENGTH).and_then(|length| length.parse().ok()),
        etag: text(ETAG),
        content_encoding: text(CONTENT_ENCODING),
    }
}
