//! `image fetch`: an image from a store over HTTP into a file, by the same steps as stage one.
//!
//! The file grows under the name `OUTPUT.partial` and gets its own name when its digest is right.
//! What an earlier, interrupted fetch left there is checked chunk by chunk and kept where it holds,
//! also when it was an older version of the image.

mod running_digest;

use std::ffi::OsString;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use fetch_http::{
    DownloadError, FetchError, FetchEvent, Fetcher, HttpClient, HttpOptions, Settings, Sink,
    SourceHealth, SourceState, Trust, What, drive, open_image, public_url,
};
use indicatif::HumanBytes;
use serde::Serialize;
use sparetire_manifest::{Digest, Index, Place};

use super::{image_name, trusted_keys};
use crate::cli::Ui;
use crate::exit::{ExitCode, WithCode, coded};
use crate::progress::Progress;
use running_digest::RunningDigest;

/// Arguments of `image fetch`.
#[derive(Debug, clap::Args)]
pub struct FetchArgs {
    /// Name of the image
    pub(crate) name: String,
    /// Base URL of a store; repeat for mirrors
    #[arg(long, value_name = "URL", required = true)]
    pub(crate) from: Vec<String>,
    /// File to write
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Version [default: the newest]
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u64>,
    /// Refuse anything older
    #[arg(long, value_name = "N")]
    pub(crate) min_version: Option<u64>,
    /// Public key file or `RW...` line to trust [default: the user's own key]
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Vec<String>,
    /// Certificate authority (PEM file) for HTTPS
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Public key of an HTTPS server, as sha256/BASE64 of its SubjectPublicKeyInfo; repeatable
    #[arg(long, value_name = "PIN")]
    pub(crate) pin: Vec<String>,
    /// HTTP proxy
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<String>,
    /// Replace an existing file
    #[arg(long)]
    pub(crate) force: bool,
    /// Most connections at the same time; it starts with 4 and adds more while they bring more
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub(crate) connections: u8,
    /// MiB to ask for in one request while there is plenty left; for measurements
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=8), hide = true)]
    pub(crate) range_mib: u8,
    /// Give up after so many seconds without anything new: servers may restart, links may be lost
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) patience: u32,
}

/// A CA bundle of all public authorities has a quarter of this.
const MAX_CA: u64 = 1 << 20;

#[derive(Serialize)]
struct Fetched<'a> {
    name: String,
    version: u64,
    size: u64,
    sha256: Digest,
    output: &'a Path,
    /// Image bytes that an interrupted fetch had left.
    kept_bytes: u64,
    network_bytes: u64,
    requests: u64,
    faults: u64,
    elapsed_ms: u64,
    sources: Vec<FetchedFrom>,
}

/// What one source did.
#[derive(Serialize)]
struct FetchedFrom {
    /// Without user, password, query and fragment.
    url: String,
    received_bytes: u64,
    faults: u64,
    /// 100 without recent faults, 0 when dropped.
    score: u8,
    state: &'static str,
}

impl FetchedFrom {
    fn all(urls: &[String], health: &[SourceHealth]) -> Vec<Self> {
        let one = |(url, health): (&String, &SourceHealth)| Self {
            url: public_url(url),
            received_bytes: health.received,
            faults: health.faults,
            score: health.score,
            state: match health.state {
                SourceState::Good => "good",
                SourceState::Resting(_) => "resting",
                SourceState::Dropped => "dropped",
            },
        };
        urls.iter().zip(health).map(one).collect()
    }
}

/// An event in words; nothing where it is not worth a line.
fn told(urls: &[String], event: &FetchEvent) -> Option<String> {
    let name = |source: usize| {
        urls.get(source)
            .map_or_else(String::new, |url| public_url(url))
    };
    match event {
        FetchEvent::Fault(fault) => Some(format!(
            "{}: {} (chunk {})",
            name(fault.source_index),
            fault.what,
            fault.chunk
        )),
        FetchEvent::SourceDropped { source } => Some(format!("{}: given up", name(*source))),
        FetchEvent::Overtaken { source, by } if source != by => {
            Some(format!("{}: slow; {} takes over", name(*source), name(*by)))
        }
        FetchEvent::Overtaken { .. } | FetchEvent::SourceRests { .. } => None,
    }
}

pub(super) fn run(args: &FetchArgs, ui: &Ui) -> anyhow::Result<()> {
    if args.output.exists() && !args.force {
        return Err(coded(
            ExitCode::Refused,
            anyhow!("{} exists; --force replaces it", args.output.display()),
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the network runtime")?;
    runtime.block_on(fetch(args, ui))
}

async fn fetch(args: &FetchArgs, ui: &Ui) -> anyhow::Result<()> {
    let name = image_name(&args.name)?;
    let keys = trusted_keys(&args.key)?;
    let client = client(args)?;
    let now = SystemTime::now().into();
    let opened = open_image(
        &client,
        &args.from,
        &keys,
        &name,
        args.version,
        args.min_version,
        now,
    )
    .await
    .map_err(|error| {
        let code = if error.is_verification() {
            ExitCode::Verification
        } else if error.is_unreachable() {
            ExitCode::Unreachable
        } else {
            ExitCode::Failed
        };
        coded(code, error)
    })?;
    let (manifest, index) = (opened.manifest, opened.index);

    let partial = partial_path(&args.output);
    let file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&partial)
        .with_context(|| format!("opening {}", partial.display()))?;
    let had = file
        .metadata()
        .with_context(|| format!("looking at {}", partial.display()))?
        .len();
    // A sink starts out as zeros, which new room in a file is.
    file.set_len(manifest.size)
        .with_context(|| format!("making room for {} bytes", manifest.size))?;
    let have = if had == 0 {
        Vec::new()
    } else {
        let progress = ui.progress("checking what is there", manifest.size);
        let have = held_chunks(&file, &index, &progress)
            .with_context(|| format!("checking {}", partial.display()))?;
        progress.finish("done");
        have
    };
    let kept_bytes = index
        .chunks
        .iter()
        .zip(&have)
        .filter(|(_, held)| **held)
        .map(|(chunk, _)| u64::from(chunk.length))
        .sum();

    let progress = ui.progress(
        &format!("fetching {name} {}", manifest.version),
        manifest.size,
    );
    let settings = Settings {
        connections: usize::from(args.connections),
        run: u64::from(args.range_mib) << 20,
        patience: Some(Duration::from_secs(args.patience.into())),
        ..Settings::default()
    };
    // Any seed will do that differs between machines.
    let seed = RandomState::new().hash_one(&args.from);
    let mut fetcher =
        Fetcher::new(&index, args.from.len(), settings, seed).context("planning the download")?;
    fetcher
        .resume(|chunk| have.get(chunk).copied().unwrap_or(false))
        .context("planning the download")?;
    let mut sink = FileSink::new(&file, manifest.size, &index, &have)
        .with_context(|| format!("preparing to check {}", partial.display()))?;
    let summary = drive(&client, &args.from, fetcher, &mut sink, |state, event| {
        progress.set(state.done);
        if let Some(line) = event.and_then(|event| told(&args.from, event)) {
            progress.message(&line);
        }
    })
    .await
    .map_err(|error| coded(code_of(&error), error))?;

    file.sync_all().context("syncing the file")?;
    let found = sink
        .digest
        .finish()
        .with_context(|| format!("reading {} back", partial.display()))?;
    if found != manifest.sha256 {
        // Every chunk was right when it came: the disk, or another program, changed it since.
        return Err(coded(
            ExitCode::Verification,
            anyhow!(
                "{} has digest {found} instead of {}",
                partial.display(),
                manifest.sha256
            ),
        ));
    }
    std::fs::rename(&partial, &args.output)
        .with_context(|| format!("renaming to {}", args.output.display()))?;
    progress.finish("done, every chunk and the whole checked");

    let fetched = Fetched {
        name: name.to_string(),
        version: manifest.version,
        size: manifest.size,
        sha256: found,
        output: &args.output,
        kept_bytes,
        network_bytes: summary.progress.network_bytes,
        requests: summary.progress.requests,
        faults: summary.progress.faults,
        elapsed_ms: u64::try_from(summary.elapsed.as_millis()).unwrap_or(u64::MAX),
        sources: FetchedFrom::all(&args.from, &summary.progress.sources),
    };
    if ui.json {
        return ui.print_json(&fetched);
    }
    ui.line(format_args!(
        "{}: {} version {}, {} ({} fetched in {} requests, {} kept)",
        args.output.display(),
        fetched.name,
        fetched.version,
        HumanBytes(fetched.size),
        HumanBytes(fetched.network_bytes),
        fetched.requests,
        HumanBytes(fetched.kept_bytes)
    ));
    if fetched.sources.len() > 1 {
        for source in &fetched.sources {
            ui.line(format_args!(
                "  {}: {}, {} faults, {}",
                source.url,
                HumanBytes(source.received_bytes),
                source.faults,
                source.state
            ));
        }
    }
    Ok(())
}

fn client(args: &FetchArgs) -> anyhow::Result<HttpClient> {
    let mut pem = None;
    if let Some(path) = &args.ca {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_CA).read_to_string(&mut text))
            .with_context(|| format!("reading {}", path.display()))?;
        pem = Some(text);
    }
    let trust = Trust::new(pem.as_deref(), args.pin.iter().map(String::as_str))
        .context("reading whom to trust")
        .code(ExitCode::Usage)?;
    HttpClient::new(&HttpOptions {
        trust,
        proxy: args.proxy.clone(),
        ..HttpOptions::default()
    })
    .context("setting up HTTP")
    .code(ExitCode::Usage)
}

fn partial_path(output: &Path) -> PathBuf {
    let mut name = OsString::from(output);
    name.push(".partial");
    name.into()
}

struct FileSink<'a> {
    file: &'a File,
    digest: RunningDigest,
}

impl<'a> FileSink<'a> {
    fn new(file: &'a File, size: u64, index: &Index, have: &[bool]) -> io::Result<Self> {
        let mut digest = RunningDigest::new(file.try_clone()?, size)?;
        for (number, (offset, chunk)) in index.placed().enumerate() {
            if chunk.place == Place::Hole || have.get(number) == Some(&true) {
                digest.filled(offset, u64::from(chunk.length));
            }
        }
        Ok(Self { file, digest })
    }
}

impl Sink for FileSink<'_> {
    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        self.digest.filled(offset, bytes.len() as u64);
        Ok(())
    }
}

/// Which chunks the file has already; holes are made so.
fn held_chunks(file: &File, index: &Index, progress: &Progress) -> io::Result<Vec<bool>> {
    let mut have = Vec::with_capacity(index.chunks.len());
    let mut bytes = Vec::new();
    for (offset, chunk) in index.placed() {
        bytes.resize(chunk.length as usize, 0);
        file.read_exact_at(&mut bytes, offset)?;
        let held = Digest::of(&bytes) == chunk.digest;
        if chunk.place == Place::Hole && !held {
            bytes.fill(0);
            file.write_all_at(&bytes, offset)?;
        }
        have.push(held);
        progress.inc(u64::from(chunk.length));
    }
    Ok(have)
}

/// What a failed download says about the other side.
fn code_of(error: &DownloadError) -> ExitCode {
    let DownloadError::Fetch { faults, error } = error else {
        return ExitCode::Failed;
    };
    let of = |test: fn(&What) -> bool| faults.iter().any(|fault| test(&fault.fault.what));
    if matches!(error, FetchError::Sink { .. }) {
        ExitCode::Failed
    } else if of(|what| {
        matches!(
            what,
            What::Corrupt { .. } | What::Undecodable | What::Changed { .. }
        )
    }) {
        ExitCode::Verification
    } else if of(|what| matches!(what, What::Connection(_) | What::Stalled { .. })) {
        ExitCode::Unreachable
    } else {
        ExitCode::Failed
    }
}
