//! The image's part of a boot: which one, does it fit, its bytes, the jump.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use boot_api::ReportKind;
use boot_config::hand_off::HandOffPlan;
use fetch_http::{
    ConnectionFailure, FetchEvent, Fetcher, HttpClient, HttpFailure, OpenCause, OpenError,
    OpenFailure, PlainFile, Progress, Settings, Sink, fetch_plain,
};
use sparetire_manifest::{BootRecipe, Manifest};
use stage1_config::{Plain, Target};

use super::unsigned::{self, Opened};
use super::{Boot, FLUSH, out_of_order, told};
use crate::config;
use crate::console::Console;
use crate::failure::Failure;
use crate::handoff::{self, ImageBuffer, Machine, MemoryPlan};
use crate::network::watch::{self, Disturbance};
use crate::report::Reports;
use crate::sequence::Step;
use crate::sys;
use crate::text;

/// Tries to reach a store before the step fails: the first packets after a link came up are
/// often lost.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// How long nothing may come before the screen says so.
const QUIET: Duration = Duration::from_secs(5);
/// How long the same fault of the same store is not shown again.
const SAME_FAULT: Duration = Duration::from_secs(15);
/// Faults shown line by line; more are only counted, by the store.
const SHOWN_FAULTS: u64 = 40;
/// How often the server hears of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How long the server may take to confirm the last report.
const LAST_WORD: Duration = Duration::from_secs(3);

/// An image that fits, how it will be handed over, and what of it is here already.
pub(super) struct Placed {
    manifest: Manifest,
    machine: Machine,
    memory: MemoryPlan,
    plan: HandOffPlan,
    buffer: Option<ImageBuffer>,
    /// Image offsets of the chunks that are in the buffer.
    have: BTreeSet<u64>,
}

/// How a fetch over one network ended.
enum Fetched {
    /// The image is here.
    Whole(String),
    /// The network needs to be set up anew.
    Disturbed(Disturbance),
}

impl Boot {
    pub(super) async fn find_image(&mut self) -> Result<String, Failure> {
        let client = self.client()?;
        let config = self.config()?;
        if let Some(plain) = config.plain.clone() {
            return self.take_unsigned(plain);
        }
        let stores = config.store_urls();
        let shown: Vec<String> = stores
            .iter()
            .map(|url| fetch_http::public_url(url))
            .collect();
        let Some(name) = config.image.clone() else {
            return Err(out_of_order("image"));
        };
        let input = format!("image {name} from {}", shown.join(" "));
        let keys = config.trusted_keys().map_err(|error| {
            Failure::new(
                Step::Manifest,
                "trust.keys of the configuration",
                &error,
                "Correct the configuration with `sparetire stage1 customize`.",
            )
        })?;
        let mut tries = 0;
        let opened = loop {
            tries += 1;
            let result = fetch_http::open_image(
                &client,
                &stores,
                &keys,
                &name,
                config.image_version,
                config.min_version,
                config::now(),
            )
            .await;
            match result {
                Ok(opened) => break opened,
                Err(error) if error.is_unreachable() && tries < TRIES => {
                    self.console
                        .status(Step::Manifest, &format!("{error}; trying again"));
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(not_opened(input, &error)),
            }
        };
        let manifest = &opened.manifest;
        let key = manifest
            .key_id()
            .map_or_else(String::new, |key| format!(", signed by {key}"));
        let detail = format!(
            "{} version {}, {}{key}",
            manifest.name,
            manifest.version,
            text::bytes(manifest.size)
        );
        self.opened = Some(Opened::Signed(Box::new(opened)));
        Ok(detail)
    }

    /// Takes the image that the configuration describes, and says loudly that nobody has signed it.
    fn take_unsigned(&mut self, plain: Plain) -> Result<String, Failure> {
        let refused = |cause: &dyn std::error::Error| {
            Failure::new(
                Step::Manifest,
                "plain of the configuration",
                cause,
                "Correct the configuration with `sparetire stage1 customize`.",
            )
        };
        // Whoever read the slot has checked this; what is booted unsigned is worth a second look.
        self.config()?.check().map_err(|error| refused(&error))?;
        let manifest = plain.manifest().map_err(|error| refused(&error))?;
        let file = PlainFile {
            urls: plain.urls,
            size: plain.size,
            sha256: plain.sha256,
        };
        self.console.line(&unsigned::warning(&file));
        let what = format!(
            "image is not signed; only its SHA-256 is checked: {}",
            file.sha256
        );
        self.reports.tell(ReportKind::Fault {
            source: boot_api::clip(&unsigned::shown(&file)),
            what: boot_api::clip(&what),
        });
        let detail = format!(
            "NOT SIGNED, sha256 {}, {}",
            file.sha256,
            text::bytes(file.size)
        );
        self.opened = Some(Opened::Unsigned {
            manifest: Box::new(manifest),
            file,
        });
        Ok(detail)
    }

    pub(super) fn choose_target(&mut self) -> Result<String, Failure> {
        let config = self.config()?;
        let (target, append) = (config.target, config.append.clone());
        let manifest: Manifest = match &self.opened {
            Some(opened) => opened.manifest().clone(),
            None => return Err(out_of_order("manifest")),
        };
        let input = format!(
            "{} version {}, {}",
            manifest.name,
            manifest.version,
            text::bytes(manifest.size)
        );
        let name = match target {
            Target::Ram => "ram",
            Target::Usb => "usb",
            Target::Disk => "disk",
        };
        if target != Target::Ram {
            return Err(Failure::plain(
                Step::Target,
                input,
                format!("target {name} is not supported yet"),
                "Choose target ram.",
            ));
        }
        // What a failed attempt has brought in counts only for the same image.
        if let Some(placed) = self.placed.as_ref().filter(|p| p.manifest == manifest) {
            let have = placed.have.len();
            return Ok(format!("ram, as before; {have} chunks are here already"));
        }
        self.placed = None;
        let read = Machine::read(&self.root);
        let machine = read.map_err(|error| {
            Failure::new(
                Step::Target,
                &input,
                &error,
                "This is a bug in stage one or its kernel; please report it.",
            )
        })?;
        let memory = handoff::check_memory(&manifest, &machine).map_err(|error| {
            Failure::new(
                Step::Target,
                &input,
                &error,
                "Boot a smaller image on this PC, or give it more RAM.",
            )
        })?;
        let BootRecipe::Linux(linux) = &manifest.boot;
        let append = match append {
            Some(append) => format!("{append} {}", handoff::machine_parameters()),
            None => handoff::machine_parameters().into(),
        };
        let plan = boot_config::hand_off::hand_off(
            linux.medium,
            memory.placement,
            &linux.cmdline,
            Some(&append),
            memory.pmem,
        )
        .map_err(|error| {
            Failure::new(
                Step::Target,
                &input,
                &error,
                "Correct the image's command line, or `append` in the configuration.",
            )
        })?;
        let detail = format!(
            "ram: needs {} at most, {} of {} available, then {}",
            text::bytes(memory.needed),
            text::bytes(memory.available),
            text::bytes(memory.total),
            memory.methods.first().map_or("", |method| method.name()),
        );
        self.placed = Some(Placed {
            manifest,
            machine,
            memory,
            plan,
            buffer: None,
            have: BTreeSet::new(),
        });
        Ok(detail)
    }

    /// Fetches the image, over as many networks as it takes. What has arrived is kept.
    pub(super) async fn fetch(&mut self) -> Result<String, Failure> {
        loop {
            match self.fetch_here().await? {
                Fetched::Whole(detail) => return Ok(detail),
                Fetched::Disturbed(disturbance) => {
                    let why = disturbance.describe();
                    self.console
                        .status(Step::Fetch, &format!("{why}; asking for an address again"));
                    let detail = self.connect()?;
                    self.console.status(Step::Network, &detail);
                    let client = self.client()?;
                    self.reports.go_on_with(&client);
                }
            }
        }
    }

    /// Fetches the image over the network in use, until that is disturbed.
    async fn fetch_here(&mut self) -> Result<Fetched, Failure> {
        let client: HttpClient = self.client()?;
        let config = self.config()?;
        let stores = config.source_urls();
        let connections = usize::from(config.connections);
        let patience = Duration::from_secs(config.patience_seconds.into());
        let shown: Vec<String> = stores
            .iter()
            .map(|url| fetch_http::public_url(url))
            .collect();
        let Some(opened) = &self.opened else {
            return Err(out_of_order("manifest"));
        };
        let Some(placed) = &mut self.placed else {
            return Err(out_of_order("target"));
        };
        let input = format!(
            "{} version {} from {}",
            placed.manifest.name,
            placed.manifest.version,
            shown.join(" ")
        );
        let failed = |error: &dyn std::error::Error| {
            Failure::new(
                Step::Fetch,
                &input,
                error,
                "Check the store and the network between it and this PC. What has arrived is kept.",
            )
        };
        let mut buffer = match placed.buffer.take() {
            Some(buffer) => buffer,
            None => ImageBuffer::new(&placed.manifest, &placed.plan, &placed.memory)
                .map_err(|error| failed(&error))?,
        };
        let settings = Settings {
            connections,
            // Restarts of the store and lost links are waited for.
            patience: Some(patience),
            ..Settings::default()
        };
        let mut sink = Recorded {
            buffer: &mut buffer,
            have: &mut placed.have,
        };
        let mut show = Show::new(&self.console, &self.reports, shown.clone());
        let report = |progress: &Progress, event: Option<&FetchEvent>| {
            show.progress(progress, event);
        };
        let download = async {
            match opened {
                Opened::Signed(opened) => {
                    let index = &opened.index;
                    let seed = u64::from(sys::random_u32());
                    let mut fetcher = Fetcher::new(index, stores.len(), settings, seed)
                        .map_err(|error| failed(&error))?;
                    let offsets: Vec<u64> = index.placed().map(|(offset, _)| offset).collect();
                    fetcher
                        .resume(|chunk| offsets.get(chunk).is_some_and(|at| sink.have.contains(at)))
                        .map_err(|error| failed(&error))?;
                    let driven = fetch_http::drive(&client, &stores, fetcher, &mut sink, report);
                    driven.await.map_err(|error| failed(&error))
                }
                Opened::Unsigned { file, .. } => {
                    let fetched = fetch_plain(&client, file, &settings, &mut sink, report);
                    fetched.await.map_err(|error| failed(&error))
                }
            }
        };
        let mut tell = |news| self.reports.tell(told(news));
        let disturbed = async {
            match &self.up {
                Some(up) => watch::disturbed(&self.root, up, &self.console, &mut tell).await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            result = download => Ok(result),
            disturbance = disturbed => Err(disturbance),
        };
        placed.buffer = Some(buffer);
        let summary = match ended {
            Ok(result) => result?,
            Err(disturbance) => return Ok(Fetched::Disturbed(disturbance)),
        };
        let progress = summary.progress;
        let milliseconds = summary.elapsed.as_millis().max(1);
        let rate = u128::from(progress.network_bytes) * 1000 / milliseconds;
        self.reports.tell(ReportKind::Progress {
            phase: Step::Fetch.name().to_owned(),
            done: progress.done,
            total: progress.total,
            rate: rate as u64,
        });
        self.tell_memory();
        if progress.sources.len() > 1 {
            for (url, health) in shown.iter().zip(&progress.sources) {
                self.console.status(Step::Fetch, &text::source(url, health));
            }
        }
        Ok(Fetched::Whole(format!(
            "{} verified, {} over the network in {}.{} s, {}/s",
            text::bytes(progress.total),
            text::bytes(progress.network_bytes),
            milliseconds / 1000,
            milliseconds / 100 % 10,
            text::bytes(rate as u64),
        )))
    }

    pub(super) async fn hand_off(&mut self) -> Result<String, Failure> {
        let (Some(placed), Some(watch)) = (&mut self.placed, &mut self.watch) else {
            return Err(out_of_order("target"));
        };
        let Some(buffer) = &mut placed.buffer else {
            return Err(out_of_order("fetch"));
        };
        let input = format!(
            "{} version {}",
            placed.manifest.name, placed.manifest.version
        );
        let loaded = handoff::load(buffer, &placed.machine, &placed.memory, watch);
        let loaded = loaded.map_err(|error| {
            Failure::new(
                Step::HandOff,
                &input,
                &error,
                "The kernel refused the image's kernel. Check that the image boots on this PC \
                 (architecture, Secure Boot), or choose another version.",
            )
        })?;
        for attempt in &loaded.refused {
            self.console
                .status(Step::HandOff, &format!("not {attempt}"));
        }
        let method = loaded.method.name();
        self.tell_memory();
        let peak = self.watch.as_ref().map_or(0, |watch| watch.peak_used());
        self.console.status(
            Step::HandOff,
            &format!("{input} loaded by {method}, peak {}", text::bytes(peak)),
        );
        self.reports.step_done(Step::HandOff, &input);
        self.reports.tell(ReportKind::HandOff {
            method: method.replace('_', "-"),
        });
        let told = self.reports.flush(LAST_WORD).await;
        self.wipe_secrets();
        let server = if told { ", the server knows" } else { "" };
        self.console
            .status(Step::HandOff, &format!("starting the image{server}"));
        self.console.flush(FLUSH);
        let error = handoff::execute();
        Err(Failure::new(
            Step::HandOff,
            input,
            &error,
            "The kernel refused to jump. Restart the PC and try again.",
        ))
    }

    /// The token, the slot it came in and connections that carried it. What the image boots with
    /// stays: it is no secret. A boot that goes on after this reports nothing any more.
    fn wipe_secrets(&mut self) {
        self.reports.close();
        let session = self
            .config
            .as_mut()
            .and_then(|config| config.session.take());
        if let Some(mut session) = session {
            session.token.wipe();
        }
        self.client = None;
        config::wipe_slot(&self.root);
    }
}

fn not_opened(input: String, error: &OpenError) -> Failure {
    let advice = if error.is_unreachable() {
        "Check that the server runs, that its address is right, and that this PC's network leads \
         to it."
    } else if error.is_verification() {
        "The store answers, but not with an image that this stage one may believe. Check which key \
         signed it, its expiry date, and the clock of this PC."
    } else {
        "Check the image's name and version: `sparetire image list` on the server shows what the \
         store holds."
    };
    let failure = Failure::new(Step::Manifest, input, error, advice);
    if error.failures.iter().all(leads_nowhere) {
        failure.unreachable()
    } else {
        failure
    }
}

/// Whether this may be the wrong network, as opposed to a server that is down: nobody answered
/// at all, not even to refuse.
fn leads_nowhere(failure: &OpenFailure) -> bool {
    use ConnectionFailure::{Dns, TimedOut, Unreachable};
    match &failure.cause {
        OpenCause::Http(error) => matches!(
            error.what,
            HttpFailure::Connection(Dns | TimedOut | Unreachable)
        ),
        OpenCause::Verify(_) | OpenCause::Index(_) => false,
    }
}

/// The buffer, remembering what is in it.
pub(super) struct Recorded<'a> {
    pub(super) buffer: &'a mut ImageBuffer,
    pub(super) have: &'a mut BTreeSet<u64>,
}

impl Sink for Recorded<'_> {
    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.buffer.chunk(offset, bytes)?;
        self.have.insert(offset);
        Ok(())
    }
}

/// Shows and reports a download.
struct Show<'a> {
    console: &'a Console,
    reports: &'a Reports,
    stores: Vec<String>,
    faults: u64,
    last: Option<(String, Duration)>,
    next_report: Duration,
}

impl<'a> Show<'a> {
    fn new(console: &'a Console, reports: &'a Reports, stores: Vec<String>) -> Self {
        Self {
            console,
            reports,
            stores,
            faults: 0,
            last: None,
            next_report: Duration::ZERO,
        }
    }

    fn progress(&mut self, progress: &Progress, event: Option<&FetchEvent>) {
        let now = sys::uptime();
        match event {
            Some(event) => self.event(event),
            None => {
                let line = text::progress(
                    progress.done,
                    progress.total,
                    progress.rate,
                    progress.remaining(),
                );
                let waiting = if progress.quiet < QUIET {
                    String::new()
                } else {
                    format!("  nothing new for {}", text::duration(progress.quiet))
                };
                self.console.bottom(&format!("fetch    {line}{waiting}"));
            }
        }
        if now >= self.next_report {
            self.next_report = now + PROGRESS_EVERY;
            self.reports.tell(ReportKind::Progress {
                phase: Step::Fetch.name().to_owned(),
                done: progress.done,
                total: progress.total,
                rate: progress.rate,
            });
        }
    }

    fn event(&mut self, event: &FetchEvent) {
        let store = |source: usize| self.stores.get(source).map_or("?", String::as_str);
        let (source, what, detail) = match event {
            FetchEvent::Fault(fault) => {
                let what = fault.what.to_string();
                let detail = format!("{what} (chunk {})", fault.chunk);
                (store(fault.source_index).to_owned(), what, detail)
            }
            FetchEvent::SourceDropped { source } => {
                let what = "given up".to_owned();
                (store(*source).to_owned(), what.clone(), what)
            }
            FetchEvent::Overtaken { source, by } if source != by => {
                let what = format!("slow; {} takes over", store(*by));
                (store(*source).to_owned(), what.clone(), what)
            }
            FetchEvent::Overtaken { .. } | FetchEvent::SourceRests { .. } => return,
        };
        // Several connections to one dead store say the same thing at once, and again later.
        let now = sys::uptime();
        let key = format!("{source} {what}");
        let same = |(last, at): &(String, Duration)| *last == key && now < *at + SAME_FAULT;
        if self.faults >= SHOWN_FAULTS || self.last.as_ref().is_some_and(same) {
            return;
        }
        self.last = Some((key, now));
        self.faults += 1;
        self.console
            .status(Step::Fetch, &format!("{source}: {detail}"));
        self.reports.tell(ReportKind::Fault {
            source,
            what: boot_api::clip(&detail),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fetch_http::{Fault, What};
    use sparetire_manifest::Digest;

    fn fault(chunk: usize, status: u16) -> FetchEvent {
        FetchEvent::Fault(Fault {
            source_index: 0,
            chunk,
            image_offset: 0,
            pack: Digest::of(b""),
            what: What::Status(status),
        })
    }

    #[test]
    fn a_dead_store_is_named_once_and_not_once_per_connection() {
        let console = Console::new();
        let reports = Reports::new(Duration::ZERO);
        let mut show = Show::new(&console, &reports, vec!["http://store".into()]);
        for chunk in 0..4 {
            show.progress(&Progress::default(), Some(&fault(chunk, 503)));
        }
        show.progress(&Progress::default(), Some(&fault(9, 404)));
        let lines = console.log_tail(usize::MAX);
        let lines: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.split_once("fetch    ").map(|(_, text)| text))
            .collect();
        assert_eq!(
            lines,
            [
                "http://store: HTTP status 503 (chunk 0)",
                "http://store: HTTP status 404 (chunk 9)"
            ]
        );
    }
}
