//! A virtual PC with management firmware: the program `virtual-pc`, its control socket, and the console that talks to it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::firmware::Firmware;
use crate::host::{Background, Lines, patient};
use crate::parts::{Format, Parts};
use crate::site::{HOST, Site};

/// Password of its account "admin".
pub const PASSWORD: &str = "P@ssw0rd";

/// A virtual PC that is plugged in. Dropping it pulls the plug.
#[derive(Debug)]
pub struct Vpro {
    control: PathBuf,
    wsman_port: u16,
    redirection_port: u16,
    log: Lines,
    _process: Background,
}

/// What a virtual PC is configured with, beside its firmware and memory.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Lines for the table `[pc]`.
    pub pc: String,
    /// Lines for the table `[amt]`.
    pub amt: String,
    /// Lines for the table `[redirection]`.
    pub redirection: String,
}

impl Vpro {
    /// Plugs one in, with its configuration in `dir`.
    pub fn start(
        parts: &Parts,
        dir: &Path,
        firmware: Firmware,
        memory_mib: u32,
        setup: &Setup,
    ) -> Result<Self> {
        let file = dir.join("virtual-pc.toml");
        let text = format!(
            "[pc]\nfirmware = \"{firmware}\"\nmemory_mib = {memory_mib}\n{}\n\
             [amt]\nwsman_port = 0\nredirection_port = 0\n{}\n\
             [redirection]\n{}\n",
            setup.pc, setup.amt, setup.redirection
        );
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        let mut command = Command::new(&parts.virtual_pc);
        command.args(["run", "--verbose"]).arg(&file);
        let mut process = Background::start(&command)?;
        let (said, log) = (process.stdout()?, process.stderr()?);
        let line = said
            .next_within(patient(Duration::from_secs(60)))?
            .with_context(|| {
                format!(
                    "virtual-pc ended: {}",
                    log.rest_within(Duration::from_secs(5))
                )
            })?;
        let value: Value =
            serde_json::from_str(&line).with_context(|| format!("understanding {line:?}"))?;
        let text = |name: &str| {
            value[name]
                .as_str()
                .with_context(|| format!("virtual-pc named no {name}: {line}"))
        };
        let port = |name: &str| -> Result<u16> {
            let address = text(name)?;
            let port = address.rsplit(':').next().unwrap_or_default();
            port.parse()
                .with_context(|| format!("{address} has no port"))
        };
        Ok(Vpro {
            control: PathBuf::from(text("control")?),
            wsman_port: port("wsman")?,
            redirection_port: port("redirection")?,
            log,
            _process: process,
        })
    }

    /// Sends a command to its control socket, which may take so long to answer.
    pub fn control_within(&self, command: &Value, limit: Duration) -> Result<Value> {
        let doing = || format!("telling virtual-pc {command}");
        let mut stream = UnixStream::connect(&self.control).with_context(doing)?;
        stream
            .set_read_timeout(Some(limit + Duration::from_secs(10)))
            .with_context(doing)?;
        stream
            .write_all(format!("{command}\n").as_bytes())
            .with_context(doing)?;
        let mut line = String::new();
        BufReader::new(stream)
            .read_line(&mut line)
            .with_context(doing)?;
        let mut answer: Value = serde_json::from_str(&line)
            .with_context(|| format!("understanding virtual-pc's {line:?}"))?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => bail!("virtual-pc: {error}"),
            None => Ok(answer["ok"].take()),
        }
    }

    /// The same for commands that answer at once.
    pub fn control(&self, command: &Value) -> Result<Value> {
        self.control_within(command, patient(Duration::from_secs(30)))
    }

    /// Waits until its serial port has printed `text`; what stands behind it on the line.
    pub fn wait_serial(&self, text: &str, limit: Duration) -> Result<String> {
        let mut after = Value::from(0);
        // The text first, then the end of its line.
        for text in [text, "\n"] {
            let command = json!({
                "command": "wait-serial", "text": text, "after": after, "seconds": limit.as_secs(),
            });
            let mut found = self.control_within(&command, limit).with_context(|| {
                format!("waiting for {text:?}; it printed {:?}", self.serial(12))
            })?;
            after = found["position"].take();
        }
        let lines = self.serial(4000)?;
        let line = lines
            .iter()
            .find(|line| line.contains(text))
            .with_context(|| format!("{text:?} was found but is not among the lines"))?;
        let rest = line.split_once(text).map_or("", |(_, rest)| rest);
        Ok(rest.trim_end().to_owned())
    }

    /// The last lines of its serial port.
    pub fn serial(&self, lines: usize) -> Result<Vec<String>> {
        let answer = self.control(&json!({ "command": "serial", "lines": lines }))?;
        let text = answer["text"].as_str().unwrap_or_default();
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Its state, a part of it.
    pub fn state(&self, pointer: &str) -> Result<Value> {
        let state = self.control(&json!({ "command": "state" }))?;
        state
            .pointer(pointer)
            .cloned()
            .with_context(|| format!("virtual-pc's state has no {pointer}: {state}"))
    }

    /// That its next start is not forced to anything.
    pub fn ensure_nothing_forced(&self) -> Result<()> {
        let forced = self.state("/firmware/boot_forced")?;
        ensure!(forced == false, "a boot option is left forced");
        Ok(())
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.ready().collect()
    }

    /// `sparetire pc VERB` for this PC, with its credentials.
    #[must_use]
    pub fn console(&self, parts: &Parts, verb: &str) -> Command {
        let mut command = parts.sparetire();
        command
            .env("SPARETIRE_AMT_USER", "admin")
            .env("SPARETIRE_AMT_PASSWORD", PASSWORD)
            .args(["pc", verb, "127.0.0.1", "--port"])
            .arg(self.wsman_port.to_string())
            .arg("--redirection-port")
            .arg(self.redirection_port.to_string());
        command
    }

    /// `sparetire pc boot` with an image of a site that this command serves by itself.
    pub fn boot(&self, site: &Site, parts: &Parts, image: &str) -> Command {
        let mut command = self.console(parts, "boot");
        command
            .args(["--image", image, "--advertise", HOST, "--store"])
            .arg(site.store());
        self.stage_one(&mut command, site, parts);
        command
    }

    /// The same through the site's running server.
    pub fn boot_through_server(&self, site: &Site, parts: &Parts, image: &str) -> Result<Command> {
        let mut command = self.console(parts, "boot");
        command
            .args(["--image", image, "--advertise", &site.guest_url()?])
            .args(["--server", &site.url()?, "--operator-token-file"])
            .arg(site.operator_token());
        self.stage_one(&mut command, site, parts);
        Ok(command)
    }

    fn stage_one(&self, command: &mut Command, site: &Site, parts: &Parts) {
        command
            .arg("--stage1")
            .arg(parts.stage1(Format::Iso))
            .arg("--trust-key")
            .arg(site.public_key());
    }
}
