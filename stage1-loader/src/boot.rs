//! One boot: performs the steps of [`crate::sequence`] in order, shows and reports each, and on
//! failure waits on the failure screen and goes on where that makes sense. Never ends.

mod image;
mod unsigned;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boot_api::ReportKind;
use fetch_http::{HttpClient, HttpOptions, Trust};
use stage1_config::Config;

use crate::config;
use crate::console::{Console, devices, devices::Source, painter::Kind};
use crate::failure::Failure;
use crate::handoff::{MemInfo, MemoryWatch};
use crate::keys::Keys;
use crate::mounts;
use crate::network;
use crate::prompt::{self, Editor, Outcome, Typed};
use crate::report::{self, Reports};
use crate::sequence::{Choice, Countdown, Situation, Step, resume};
use crate::sys::{self, Reboot};

/// Kernel messages below "error" stay off the consoles (include/linux/kern_levels.h).
const KERNEL_ERRORS: i32 = 4;
/// Wait for a retry before there is a configuration.
const DEFAULT_RETRY: Duration = Duration::from_secs(30);
/// Log that goes to the server with a failure.
const LOG_TO_SERVER: usize = 32 * 1024;
/// How long the terminals may take before the machine goes away.
const FLUSH: Duration = Duration::from_secs(2);

/// Everything a boot has found out so far.
pub struct Boot {
    root: PathBuf,
    console: Console,
    keys: Keys,
    reports: Reports,
    config: Option<Config>,
    up: Option<network::Up>,
    avoid: Option<String>,
    client: Option<HttpClient>,
    watch: Option<MemoryWatch>,
    opened: Option<unsigned::Opened>,
    placed: Option<image::Placed>,
}

impl Boot {
    /// A boot that has done nothing yet, of the machine whose files are below `root`.
    pub fn new(root: &Path, console: Console) -> Self {
        Self {
            root: root.to_owned(),
            console,
            keys: Keys::default(),
            reports: Reports::new(sys::uptime()),
            config: None,
            up: None,
            avoid: None,
            client: None,
            watch: None,
            opened: None,
            placed: None,
        }
    }

    /// Boots. The only ways out are the jump into the image, a restart and power off.
    pub async fn run(mut self) -> ! {
        let mut step = Step::Mount;
        loop {
            self.reports.step_started(step);
            match self.perform(step).await {
                Ok(detail) => {
                    self.reports.step_done(step, &detail);
                    self.console.status(step, &detail);
                    // After the hand-off there is no next step, and it does not get here.
                    step = step.next().unwrap_or(Step::Manifest);
                }
                Err(failure) => step = self.fail(failure).await,
            }
        }
    }

    async fn perform(&mut self, step: Step) -> Result<String, Failure> {
        match step {
            Step::Mount => self.mount(),
            Step::Config => self.configure(),
            Step::Network => self.connect(),
            Step::Report => self.report(),
            Step::Manifest => self.find_image().await,
            Step::Target => self.choose_target(),
            Step::Fetch => self.fetch().await,
            Step::HandOff => self.hand_off().await,
        }
    }

    fn mount(&mut self) -> Result<String, Failure> {
        let mounted = mounts::mount_all(&self.root);
        let first_time = self.console.names().is_empty();
        self.open_consoles(&[]);
        if self.console.names().is_empty() {
            // What the kernel opened for us; better than silence.
            if let Ok(stdout) = std::io::stdout().as_fd().try_clone_to_owned() {
                self.console
                    .add("console", Kind::Serial, File::from(stdout));
            }
        }
        if first_time {
            let up = sys::uptime();
            self.console.line(&format!(
                "sparetire stage one {} (Linux {}, up {}.{:03} s)",
                crate::VERSION,
                sys::kernel_release(),
                up.as_secs(),
                up.subsec_millis()
            ));
        }
        let mounted = mounted.map_err(|error| {
            Failure::new(
                Step::Mount,
                "/proc /sys /dev /run",
                &error,
                "This kernel lacks something stage one needs. Build stage one again.",
            )
        })?;
        // Only less text is lost when this fails.
        let _ = sys::set_console_log_level(KERNEL_ERRORS);
        self.watch = MemoryWatch::start(&self.root).ok();
        self.tell_memory();
        self.reports
            .tell(ReportKind::Inventory(report::inventory(&self.root)));
        Ok(format!(
            "{mounted}, speaking on {}",
            self.console.names().join(" ")
        ))
    }

    /// Opens the consoles found now that are not open yet.
    fn open_consoles(&mut self, configured: &[String]) {
        let found = devices::find(&self.root, configured);
        for (name, keyboard) in self.console.open(&self.root, &found) {
            self.keys.listen(keyboard);
            let source = found.iter().find(|device| device.name == name);
            match source.map(|device| device.source) {
                Some(Source::SerialOverLan) => self
                    .console
                    .status(Step::Mount, &format!("{name} is AMT Serial over LAN")),
                Some(Source::Config) => self
                    .console
                    .status(Step::Config, &format!("{name} added by configuration")),
                Some(Source::Kernel) | None => {}
            }
        }
    }

    fn configure(&mut self) -> Result<String, Failure> {
        // The slot is wiped before a hand-off; what was read from it before still holds.
        if self.config.is_none() || config::slot_path(&self.root).exists() {
            self.config = None;
            let loaded =
                config::load(&self.root).map_err(|error| config::failure(&self.root, &error))?;
            self.config = Some(loaded);
        }
        let config = self.config()?.clone();
        self.open_consoles(&config.console.devices);
        match config::set_clock(&config) {
            Ok(None) => {}
            Ok(Some(line)) => self.console.status(Step::Config, &line),
            // A wrong clock shows itself as an expired manifest, with a failure of its own.
            Err(error) => self.console.status(Step::Config, &error.to_string()),
        }
        config::check(&config)
    }

    fn connect(&mut self) -> Result<String, Failure> {
        if let Some(up) = self.up.take() {
            network::take_down(&up);
        }
        // Its connections were of the address before.
        self.client = None;
        let avoid = self.avoid.take();
        let config = self.config()?;
        let mut urls = config.source_urls();
        urls.extend(config.server.clone());
        let plan = network::Plan {
            root: &self.root,
            config: &config.network,
            urls: &urls,
            avoid,
        };
        let reports = &self.reports;
        let mut tell = |news| reports.tell(told(news));
        let up = network::bring_up(&plan, &self.console, &mut tell)?;
        let detail = up.summary.clone();
        self.up = Some(up);
        Ok(detail)
    }

    fn report(&mut self) -> Result<String, Failure> {
        let client = self.client()?;
        let config = self.config()?;
        let (Some(server), Some(session)) = (config.server.clone(), config.session.clone()) else {
            self.reports.close();
            return Ok("no session in the configuration; nothing is reported".to_owned());
        };
        let detail = format!(
            "session {} at {}",
            session.id,
            fetch_http::public_url(&server)
        );
        self.reports
            .start(client, &server, session, self.console.clone());
        Ok(detail)
    }

    /// The HTTP client, made once.
    fn client(&mut self) -> Result<HttpClient, Failure> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let config = self.config()?;
        let failed = |cause: &dyn std::error::Error, input: &str| {
            Failure::new(
                Step::Report,
                input,
                cause,
                "Correct the configuration with `sparetire stage1 customize`.",
            )
        };
        let pins = config.trust.pin.iter().map(String::as_str);
        let trust = Trust::new(config.trust.ca.as_deref(), pins)
            .map_err(|error| failed(&error, "trust.ca and trust.pin of the configuration"))?;
        let options = HttpOptions {
            trust,
            proxy: config.network.proxy.clone(),
            ..HttpOptions::default()
        };
        let client = HttpClient::new(&options)
            .map_err(|error| failed(&error, "trust and network.proxy of the configuration"))?;
        self.client = Some(client.clone());
        Ok(client)
    }

    fn config(&self) -> Result<&Config, Failure> {
        // Steps run in order, so this cannot be missing; if it is, the step says so.
        self.config.as_ref().ok_or_else(|| out_of_order("config"))
    }

    fn tell_memory(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.sample();
        }
        if let Ok(MemInfo { total, available }) = MemInfo::read(&self.root) {
            self.reports.tell(ReportKind::Memory {
                total,
                available,
                peak_used: self.watch.as_ref().map_or(0, MemoryWatch::peak_used),
            });
        }
    }

    /// Shows the failure and waits; gives the step to go on with.
    async fn fail(&mut self, failure: Failure) -> Step {
        self.console.line(&failure.screen(crate::VERSION));
        self.reports
            .step_failed(&failure, &self.console.log_tail(LOG_TO_SERVER));
        let (wait, shell) = match &self.config {
            Some(config) => (
                Duration::from_secs(config.retry_seconds.into()),
                config.console.shell,
            ),
            None => (DEFAULT_RETRY, false),
        };
        self.keys.forget();
        let countdown = Countdown::new(sys::uptime(), wait, shell);
        loop {
            let now = sys::uptime();
            let step = resume(failure.step, failure.unreachable, self.situation());
            if countdown.tick(now).is_some() {
                return self.go_on(step, &failure);
            }
            self.console.bottom(&countdown.text(now, step));
            let pause = countdown.next_change(now).saturating_sub(now);
            let key = self.keys.next(pause).await;
            match key.and_then(|key| countdown.key(key)) {
                Some(Choice::Retry) => return self.go_on(step, &failure),
                Some(Choice::Shell) => {
                    self.prompt().await;
                    let step = resume(failure.step, failure.unreachable, self.situation());
                    return self.go_on(step, &failure);
                }
                None => {}
            }
        }
    }

    fn go_on(&mut self, step: Step, failure: &Failure) -> Step {
        self.console
            .line(&format!("Trying again from step {step}."));
        if failure.unreachable {
            self.avoid = self.up.as_ref().map(|up| up.interface.clone());
        }
        step
    }

    fn situation(&self) -> Situation {
        let up = self.up.as_ref();
        Situation {
            network_holds: up.is_some_and(|up| network::holds(&self.root, up)),
        }
    }

    async fn prompt(&mut self) {
        let mut editor = Editor::default();
        self.console.line("`help` lists the commands.");
        self.console.echo("> ");
        loop {
            let Some(key) = self.keys.next(Duration::from_secs(3600)).await else {
                continue;
            };
            let line = match editor.key(key) {
                Typed::Echo(text) => {
                    self.console.echo(&text);
                    continue;
                }
                Typed::Line(line) => line,
            };
            self.console.echo("\n");
            let view = prompt::View {
                root: &self.root,
                log: self.console.log_tail(usize::MAX),
            };
            match prompt::run(&line, &view) {
                Outcome::Show(text) => self.show(&text),
                Outcome::Retry => return,
                Outcome::Reboot => self.stop(Reboot::Restart),
                Outcome::PowerOff => self.stop(Reboot::PowerOff),
            }
            self.console.echo("> ");
        }
    }

    /// Long text, no faster than the slowest terminal takes it.
    fn show(&self, text: &str) {
        for line in text.lines() {
            self.console.echo(line);
            self.console.echo("\n");
            self.console.pace();
        }
    }

    fn stop(&self, how: Reboot) {
        self.console.flush(FLUSH);
        let error = sys::reboot(how);
        self.console.line(&error.to_string());
    }
}

fn out_of_order(what: &str) -> Failure {
    Failure::plain(
        Step::Config,
        what,
        "a step ran before the one it needs",
        "This is a bug in stage one; please report it.",
    )
}

fn told(news: network::News) -> ReportKind {
    match news {
        network::News::Link { interface } => ReportKind::Link {
            state: interface.describe_link(),
            mac: network::interfaces::mac_text(interface.mac),
            interface: interface.name,
            driver: interface.driver,
        },
        network::News::Address {
            interface,
            address,
            source,
        } => ReportKind::Address {
            interface,
            address,
            source: source.to_owned(),
        },
    }
}
