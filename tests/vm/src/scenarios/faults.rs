//! What servers, networks and people do wrong on the way to the second system, and how each ends: the starred rows of
//! `docs/faults.md`. All with a small image, whose server is slowed down where a fault has to hit a download.

mod delivery;
mod https;
mod network;
mod refusals;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{Bench, Run, to_loader, to_second};
use crate::cd_drive::{CdDrive, Speed};
use crate::firmware::{Firmware, Nic};
use crate::host::patient;
use crate::machine::{Machine, Medium, Running};
use crate::mirror::{Habit, Mirror};
use crate::parts::Format;
use crate::second::{CMDLINE, MARKER, Pair};
use crate::site::{FIRST_LINE, STOPPED, Session, Site};

/// What the names of these scenarios start with.
pub const PREFIX: &str = "fault-";

/// A fault, by name: what it shows, the firmwares continuous integration meets it on, and how it is run.
type Fault = (
    &'static str,
    &'static str,
    &'static [Firmware],
    fn(&Bench, Firmware) -> Result<()>,
);

const BIOS: &[Firmware] = &[Firmware::Bios];
const UEFI: &[Firmware] = &[Firmware::Uefi];

const FAULTS: &[Fault] = &[
    (
        "cut-ranges",
        "each range is cut at some byte, and goes on from there",
        UEFI,
        delivery::cut_ranges,
    ),
    (
        "server-killed",
        "the server dies in mid-download and comes back",
        BIOS,
        delivery::server_killed,
    ),
    (
        "one-mirror-lies",
        "one of two mirrors sends wrong bytes; it is named and left",
        UEFI,
        delivery::one_mirror_lies,
    ),
    (
        "all-mirrors-lie",
        "all mirrors send wrong bytes: chunk and mirrors are named, nothing starts",
        BIOS,
        delivery::all_mirrors_lie,
    ),
    (
        "link-down",
        "the cable is out for 20 s in mid-download",
        &[],
        network::link_down,
    ),
    (
        "dhcp-late",
        "DHCP answers after 20 s",
        &[],
        network::dhcp_late,
    ),
    (
        "lease-changed",
        "the PC gets another address in mid-download",
        UEFI,
        network::lease_changed,
    ),
    (
        "two-adapters",
        "of two adapters with addresses one leads nowhere",
        BIOS,
        network::two_adapters,
    ),
    (
        "tls-wrong-ca",
        "the server's certificate is from another authority",
        UEFI,
        https::wrong_ca,
    ),
    (
        "tls-expired",
        "the server's certificate has expired",
        &[],
        https::expired,
    ),
    (
        "tls-wrong-clock",
        "the PC's clock is 20 years ahead",
        &[],
        https::wrong_clock,
    ),
    (
        "wrong-key",
        "an image signed by an unknown key is refused",
        BIOS,
        refusals::wrong_key,
    ),
    (
        "expired",
        "an expired manifest is refused",
        &[],
        refusals::expired,
    ),
    (
        "damaged-slot",
        "a damaged config slot is refused",
        &[],
        refusals::damaged_slot,
    ),
    (
        "too-little-ram",
        "too little RAM is said before the download, with numbers",
        BIOS,
        refusals::too_little_ram,
    ),
    (
        "kexec-refused",
        "a kernel that cannot be loaded is refused by both ways, and the loader goes on",
        UEFI,
        refusals::kexec_refused,
    ),
    (
        "broken-initrd",
        "a second system without a usable initramfs says so itself",
        &[],
        refusals::broken_initrd,
    ),
];

/// Adds these scenarios to the table.
pub(super) fn add(add: &mut impl FnMut(String, bool, &'static str, Run)) {
    for &(name, about, chosen, run) in FAULTS {
        for firmware in Firmware::ALL {
            add(
                format!("{PREFIX}{name}-{firmware}"),
                chosen.contains(&firmware),
                about,
                Box::new(move |bench| run(bench, firmware)),
            );
        }
    }
}

/// Bytes per second of a slow mirror: some ten seconds for the image.
const SLOW: u64 = 1 << 20;
/// Fetched by then: enough to lose something, little enough to have much left.
const SOME: u64 = 2 << 20;

/// From an event in the loader to its report at the server.
const TO_SERVER: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A site with a small image, and a PC with this firmware.
struct Scene<'a> {
    bench: &'a Bench<'a>,
    firmware: Firmware,
    site: Site<'a>,
    pair: Pair,
    session: Session,
}

impl<'a> Scene<'a> {
    fn new(bench: &'a Bench<'a>, firmware: Firmware) -> Result<Self> {
        Self::with(bench, firmware, &[], |_| Ok(()))
    }

    /// With options of `image import`, and a change of the image before it.
    fn with(
        bench: &'a Bench<'a>,
        firmware: Firmware,
        import: &[&str],
        change: impl FnOnce(&mut Pair) -> Result<()>,
    ) -> Result<Self> {
        let mut pair = Pair::make(&bench.dir)?;
        change(&mut pair)?;
        let mut site = Site::new(bench.parts, &bench.dir)?;
        site.import_pair("pair", &pair, import)?;
        site.serve()?;
        let session = site.open_session("pair")?;
        Ok(Self {
            bench,
            firmware,
            site,
            pair,
            session,
        })
    }

    /// A mirror of the site's store.
    fn mirror(&self, habit: Habit, rate: Option<u64>) -> Result<Mirror> {
        Mirror::start(self.site.port()?, habit, rate)
    }

    /// Starts the PC from stage one, customized with these options, up to the loader's first line.
    fn start(&self, options: &[&str]) -> Result<Boot> {
        self.start_with(options, |_| {})
    }

    fn start_with(&self, options: &[&str], change: impl FnOnce(&mut Machine)) -> Result<Boot> {
        let mut boot = self.switch_on(&self.prepare(options)?, change)?;
        boot.wait_for_loader()?;
        Ok(boot)
    }

    /// Stage one, customized with these options.
    fn prepare(&self, options: &[&str]) -> Result<PathBuf> {
        let stage1 = self.bench.parts.stage1(Format::Iso);
        self.site.customize(&stage1, &self.session, options)
    }

    fn switch_on(&self, iso: &Path, change: impl FnOnce(&mut Machine)) -> Result<Boot> {
        let drive = CdDrive::insert(iso, Speed::default())?;
        let medium = Medium::UsbCd(drive.socket());
        let mut machine = Machine::new(self.firmware, Nic::Virtio, 512, medium);
        change(&mut machine);
        let pc = machine.start(&self.bench.dir)?;
        Ok(Boot { pc, _drive: drive })
    }

    fn events(&self) -> Result<Vec<Value>> {
        self.site.events(&self.session)
    }

    /// Waits until the server was told of a fault of `source` in words that hold `what`.
    fn told_of_fault(&self, source: &str, what: &str) -> Result<()> {
        let ends = Instant::now() + patient(TO_SERVER);
        loop {
            let events = self.events()?;
            let faults: Vec<&Value> = events
                .iter()
                .map(|event| &event["report"])
                .filter(|report| report["kind"] == "fault")
                .collect();
            let told = faults.iter().any(|fault| {
                fault["source"] == source
                    && fault["what"]
                        .as_str()
                        .is_some_and(|text| text.contains(what))
            });
            if told {
                return Ok(());
            }
            ensure!(
                Instant::now() < ends,
                "no report names {source} with {what:?}, only {faults:?}"
            );
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// That a refusal came before any part of the image crossed the network.
    fn nothing_fetched(&self) -> Result<()> {
        let fetching = self.events()?.iter().any(|event| {
            event["report"]["kind"] == "progress" || event["report"]["step"] == "fetch"
        });
        ensure!(
            !fetching,
            "the image was fetched although it was going to be refused"
        );
        Ok(())
    }
}

/// A PC that boots from stage one.
struct Boot {
    // Dropped first: the drive waits for QEMU to let go of it.
    pc: Running,
    _drive: CdDrive,
}

impl Boot {
    fn wait_for_loader(&mut self) -> Result<()> {
        self.pc.console.wait_for(FIRST_LINE, to_loader()).map(drop)
    }

    /// Waits for the second system's own words.
    fn reaches_second(&mut self, scene: &Scene) -> Result<()> {
        let marker = self.pc.console.line_after(MARKER, to_second())?;
        ensure!(
            marker == scene.pair.marker,
            "the second system's marker is {marker:?}, expected {:?}",
            scene.pair.marker
        );
        Ok(())
    }

    /// That no failure screen was shown so far.
    fn never_stopped(&self) -> Result<()> {
        let text = self.pc.console.text();
        ensure!(
            !text.contains(STOPPED),
            "the loader stopped on the way:\n{}",
            text.split(STOPPED).nth(1).unwrap_or_default()
        );
        Ok(())
    }

    /// Waits for the failure screen of this step and returns its text.
    fn refused_in(&mut self, step: &str) -> Result<String> {
        let console = &mut self.pc.console;
        let found = console.wait_for_any(&[STOPPED, CMDLINE], to_second())?;
        ensure!(found.which == 0, "the second system was started");
        let stopped_in = console.line_after("", to_second())?;
        ensure!(
            stopped_in == step,
            "the loader stopped in step {stopped_in}, expected {step}"
        );
        let before = console.text().len();
        console.wait_for("Trying again", to_second())?;
        let text = console.text();
        let start = text[..before].rfind(STOPPED).unwrap_or(0);
        Ok(text[start..].to_owned())
    }
}

/// That the screen holds one of these words.
fn says(screen: &str, words: &[&str]) -> Result<()> {
    ensure!(
        words.iter().any(|word| screen.contains(word)),
        "the screen says none of {words:?}:\n{screen}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    #[test]
    fn the_fault_table_names_these_scenarios_and_no_others() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/faults.md");
        let page = fs::read_to_string(page).unwrap();
        let named: BTreeSet<&str> = page
            .split('`')
            .filter_map(|word| word.strip_prefix(PREFIX))
            .collect();
        let ours: BTreeSet<&str> = FAULTS.iter().map(|fault| fault.0).collect();
        assert_eq!(named, ours);
    }
}
