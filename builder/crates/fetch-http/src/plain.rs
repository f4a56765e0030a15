//! A file at a plain URL, which nobody has signed: all that is known of it is its length and its SHA-256.
//!
//! It comes over the same machine as an image from a store, in pieces that nobody can judge one by one. So the bytes in
//! the sink mean nothing until [`fetch_plain`] has returned: it reads them back, and compares the digest of the whole.
//! Where that is wrong and there are several mirrors, all is thrown away and fetched from one mirror at a time, which
//! names the liars.

use std::hash::{BuildHasher, RandomState};
use std::io;

use fetch::{Fault, FetchEvent, Fetcher, PlanError, Progress, Settings, Sink, What};
use reqwest::Url;
use sparetire_manifest::Digest;

use crate::client::HttpClient;
use crate::download::{DownloadError, FetchSummary, drive_at};
use crate::error::{HttpError, parse_url, public_url};

/// What is known of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainFile {
    /// Where it is; all have the same bytes.
    pub urls: Vec<String>,
    /// Its length in bytes.
    pub size: u64,
    /// Digest of the whole.
    pub sha256: Digest,
}

/// Where a plain file goes: it can be read back, and thrown away.
pub trait PlainSink: Sink {
    /// Digest of all bytes written, in the order of the file.
    fn digest(&mut self) -> io::Result<Digest>;

    /// Which pieces are there, by number; those are not asked for. A sink that keeps no account has none.
    fn has(&self, _piece: usize) -> bool {
        false
    }

    /// Forgets everything.
    fn discard(&mut self) -> io::Result<()>;
}

/// Why a plain file did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum PlainError {
    /// It makes no sense.
    #[error("planning the download")]
    Plan(#[from] PlanError),
    /// It did not come.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// It came, and is another file.
    #[error("SHA-256 is not {expected}: {}", Liars(liars))]
    Mismatch {
        /// What it should be.
        expected: Digest,
        /// The URLs whose bytes alone made another digest, fit to be shown, with that digest.
        liars: Vec<(String, Digest)>,
    },
    /// What was written cannot be read back or thrown away.
    #[error("reading the file back")]
    Sink(#[source] io::Error),
}

struct Liars<'a>(&'a [(String, Digest)]);

impl std::fmt::Display for Liars<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, (url, found)) in self.0.iter().enumerate() {
            let and = if number == 0 { "" } else { "; " };
            write!(f, "{and}{url} has {found}")?;
        }
        Ok(())
    }
}

/// Fetches `file` into `sink`, and returns once the digest of the whole is right.
///
/// `report` is called as by [`fetch_image`](crate::fetch_image); sources are numbered as in `file.urls`, also while only
/// one of them is asked.
pub async fn fetch_plain(
    client: &HttpClient,
    file: &PlainFile,
    settings: &Settings,
    sink: &mut (dyn PlainSink + Send),
    mut report: impl FnMut(&Progress, Option<&FetchEvent>),
) -> Result<FetchSummary, PlainError> {
    let urls = file
        .urls
        .iter()
        .map(|url| parse_url(url))
        .collect::<Result<Vec<Url>, HttpError>>()
        .map_err(DownloadError::Source)?;
    let summary = attempt(client, file, &urls, settings, sink, &mut report).await?;
    let found = sink.digest().map_err(PlainError::Sink)?;
    if found == file.sha256 {
        return Ok(summary);
    }
    sink.discard().map_err(PlainError::Sink)?;
    let mut liars = Vec::new();
    if let [only] = &file.urls[..] {
        liars.push((public_url(only), found));
        return Err(PlainError::Mismatch {
            expected: file.sha256,
            liars,
        });
    }
    let mut last = None;
    for (number, url) in urls.iter().enumerate() {
        let one = std::slice::from_ref(url);
        let mut as_one_of_all = |progress: &Progress, event: Option<&FetchEvent>| {
            report(
                progress,
                event.map(|event| renumbered(event, number)).as_ref(),
            );
        };
        match attempt(client, file, one, settings, sink, &mut as_one_of_all).await {
            Ok(summary) => {
                let found = sink.digest().map_err(PlainError::Sink)?;
                if found == file.sha256 {
                    return Ok(summary);
                }
                report(
                    &summary.progress,
                    Some(&corrupt(number, file.sha256, found)),
                );
                report(
                    &summary.progress,
                    Some(&FetchEvent::SourceDropped { source: number }),
                );
                let shown = file.urls.get(number).map(|url| public_url(url));
                liars.push((shown.unwrap_or_default(), found));
            }
            Err(error) => last = Some(error),
        }
        sink.discard().map_err(PlainError::Sink)?;
    }
    match last {
        // Some were not reached: that may change, lies do not.
        Some(error) => Err(error),
        None => Err(PlainError::Mismatch {
            expected: file.sha256,
            liars,
        }),
    }
}

async fn attempt(
    client: &HttpClient,
    file: &PlainFile,
    urls: &[Url],
    settings: &Settings,
    sink: &mut (dyn PlainSink + Send),
    report: &mut impl FnMut(&Progress, Option<&FetchEvent>),
) -> Result<FetchSummary, PlainError> {
    let seed = RandomState::new().hash_one(&file.urls);
    let mut fetcher = Fetcher::plain(file.size, urls.len(), settings.clone(), seed)?;
    fetcher.resume(|piece| sink.has(piece))?;
    Ok(drive_at(client, urls.to_vec(), fetcher, sink, report).await?)
}

/// The event of the only source, as one of source `number`.
fn renumbered(event: &FetchEvent, number: usize) -> FetchEvent {
    match event.clone() {
        FetchEvent::Fault(fault) => FetchEvent::Fault(Fault {
            source_index: number,
            ..fault
        }),
        FetchEvent::SourceRests { until, .. } => FetchEvent::SourceRests {
            source: number,
            until,
        },
        FetchEvent::SourceDropped { .. } => FetchEvent::SourceDropped { source: number },
        FetchEvent::Overtaken { .. } => FetchEvent::Overtaken {
            source: number,
            by: number,
        },
    }
}

fn corrupt(number: usize, expected: Digest, found: Digest) -> FetchEvent {
    FetchEvent::Fault(Fault {
        source_index: number,
        chunk: 0,
        image_offset: 0,
        pack: expected,
        what: What::Corrupt { expected, found },
    })
}
