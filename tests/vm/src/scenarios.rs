//! The table of scenarios, and running them.

mod desk;
mod diagnostic;
mod faults;
mod inspection;
mod installer;
mod media;
mod pair;
mod vpro;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::firmware::{Firmware, Nic};
use crate::host::patient;
use crate::parts::Parts;

pub use faults::PREFIX as FAULTS;

/// How a scenario is run; an error is its failure.
type Run = Box<dyn Fn(&Bench) -> Result<()>>;

/// One thing that is shown to work, or to be refused.
pub struct Scenario {
    /// Its name on the command line.
    pub name: String,
    /// What it shows, as a sentence.
    pub about: &'static str,
    /// Whether continuous integration runs it.
    pub chosen: bool,
    run: Run,
}

/// What a scenario works with.
#[derive(Debug)]
pub struct Bench<'a> {
    /// What is under test.
    pub parts: &'a Parts,
    /// An empty directory of its own, kept afterwards.
    pub dir: PathBuf,
}

/// From power-on to the loader's first line.
const TO_LOADER: Duration = Duration::from_secs(240);
/// From there to the second system's first words, for a small image.
const TO_SECOND: Duration = Duration::from_secs(300);
/// The same for a live system, which unpacks and mounts hundreds of megabytes.
const TO_MENU: Duration = Duration::from_secs(1200);

/// All scenarios, in the order in which they run.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let mut table = Vec::new();
    let mut add = |name: String, chosen: bool, about: &'static str, run: Run| {
        table.push(Scenario {
            name,
            about,
            chosen,
            run,
        });
    };
    add(
        "inspection-tools".into(),
        true,
        "xorriso and isoinfo read the ISO and find both boot entries",
        Box::new(inspection::other_readers),
    );
    add(
        "inspection-mount".into(),
        true,
        "a stock kernel mounts the ISO and reads every file",
        Box::new(inspection::kernel_mount),
    );
    for firmware in Firmware::ALL {
        for nic in Nic::ALL {
            let chosen = (firmware, nic) == (Firmware::Bios, Nic::E1000e)
                || (firmware, nic) == (Firmware::Uefi, Nic::Virtio);
            add(
                format!("pair-{firmware}-{nic}"),
                chosen,
                "a kernel and initramfs pair starts with its own command line",
                Box::new(move |bench| pair::boots(bench, firmware, nic)),
            );
            add(
                format!("diagnostic-{firmware}-{nic}"),
                !chosen,
                "the diagnostic ISO boots from memory to its menu",
                Box::new(move |bench| diagnostic::boots(bench, firmware, nic)),
            );
        }
    }
    for (firmware, nic) in [(Firmware::Bios, Nic::Virtio), (Firmware::Uefi, Nic::E1000e)] {
        add(
            format!("diagnostic-desk-{firmware}-{nic}"),
            // Minutes of emulation; the boot before it is chosen above.
            false,
            "a technician checks disks, collects logs and fetches them over SSH with the session's key",
            Box::new(move |bench| desk::works(bench, firmware, nic)),
        );
        add(
            format!("installer-{firmware}-{nic}"),
            false,
            "Debian's installer, made by its recipe, asks for the language on the serial line",
            Box::new(move |bench| installer::asks(bench, firmware, nic)),
        );
    }
    faults::add(&mut add);
    for firmware in Firmware::ALL {
        add(
            format!("stick-{firmware}"),
            false,
            "the ISO, written to a USB stick, starts the loader",
            Box::new(move |bench| media::iso_as_stick(bench, firmware)),
        );
        add(
            format!("img-{firmware}"),
            false,
            "the disk image, written to a USB stick, starts the loader",
            Box::new(move |bench| media::img_as_stick(bench, firmware)),
        );
    }
    add(
        "uki-uefi".into(),
        false,
        "the EFI program starts from an EFI system partition",
        Box::new(media::uki_from_esp),
    );
    vpro_scenarios(&mut add);
    table
}

/// PCs with management firmware, booted by `sparetire pc boot`.
fn vpro_scenarios(add: &mut impl FnMut(String, bool, &'static str, Run)) {
    use vpro::Power;
    for (firmware, power, chosen) in [
        (Firmware::Bios, Power::Off, true),
        (Firmware::Bios, Power::On, false),
        (Firmware::Bios, Power::Hung, false),
        (Firmware::Uefi, Power::Off, false),
        (Firmware::Uefi, Power::On, true),
    ] {
        add(
            format!("vpro-{firmware}-{power:?}").to_lowercase(),
            chosen,
            "one command takes the PC from this state to the second system",
            Box::new(move |bench| vpro::boots(bench, firmware, power)),
        );
    }
    for percent in [10, 50, 90] {
        add(
            format!("vpro-drop-{percent}"),
            percent == 50,
            "the session is cut in mid-boot, comes back, and the boot goes on",
            Box::new(move |bench| vpro::dropped(bench, percent)),
        );
    }
    let others = [
        (
            "vpro-consent",
            true,
            "the user's consent is asked for, and its code lets the boot go on",
            vpro::consent as fn(&Bench) -> Result<()>,
        ),
        (
            "vpro-server-restarts",
            false,
            "the server is killed in mid-boot, comes back, and the boot goes on",
            vpro::server_restarts,
        ),
        (
            "vpro-second-console",
            true,
            "a second console is told that another one holds the session",
            vpro::second_console,
        ),
        (
            "vpro-wrong-password",
            true,
            "a wrong password is told as one, after one try",
            vpro::wrong_password,
        ),
        (
            "vpro-stopped",
            true,
            "Ctrl-C leaves the PC in the condition that is told",
            vpro::stopped,
        ),
        (
            "vpro-large-iso",
            true,
            "an ISO of 2.5 GiB is read at its last sector over redirection alone",
            vpro::iso::large,
        ),
        (
            "vpro-serial",
            true,
            "serial over LAN carries text both ways",
            vpro::serial,
        ),
        (
            "vpro-redirection",
            true,
            "redirection is switched off and on, and a held session is ended from elsewhere",
            vpro::redirection,
        ),
    ];
    for (name, chosen, about, run) in others {
        add(name.into(), chosen, about, Box::new(run));
    }
}

/// Those that `names` select: exact names, or beginnings followed by `*`. `Err` is a name
/// that selects nothing.
pub fn select(names: &[String], scenarios: Vec<Scenario>) -> Result<Vec<Scenario>, String> {
    let matches = |name: &str, pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    for pattern in names {
        if !scenarios
            .iter()
            .any(|scenario| matches(&scenario.name, pattern))
        {
            return Err(pattern.clone());
        }
    }
    Ok(scenarios
        .into_iter()
        .filter(|scenario| names.iter().any(|pattern| matches(&scenario.name, pattern)))
        .collect())
}

/// Runs them one after the other and prints how each went. Whether all passed.
pub fn run(parts: &Parts, scenarios: &[Scenario]) -> Result<bool> {
    let started = Instant::now();
    let mut failed = Vec::new();
    for scenario in scenarios {
        println!("{}: {}", scenario.name, scenario.about);
        let bench = Bench {
            parts,
            dir: parts.fresh_dir(&scenario.name)?,
        };
        let began = Instant::now();
        let result = (scenario.run)(&bench);
        let seconds = began.elapsed().as_secs();
        match result {
            Ok(()) => println!("  passed in {seconds} s"),
            Err(error) => {
                println!("  FAILED after {seconds} s: {error:#}");
                println!("  files: {}", bench.dir.display());
                failed.push(scenario.name.as_str());
            }
        }
    }
    println!(
        "{} passed, {} failed in {} s",
        scenarios.len() - failed.len(),
        failed.len(),
        started.elapsed().as_secs()
    );
    if !failed.is_empty() {
        println!("failed: {}", failed.join(" "));
    }
    Ok(failed.is_empty())
}

fn to_loader() -> Duration {
    patient(TO_LOADER)
}

fn to_second() -> Duration {
    patient(TO_SECOND)
}

fn to_menu() -> Duration {
    patient(TO_MENU)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_some_are_chosen() {
        let mut names: Vec<String> = all().into_iter().map(|scenario| scenario.name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(all().iter().any(|scenario| scenario.chosen));
    }

    #[test]
    fn each_second_system_is_chosen_on_both_firmwares_and_both_adapters() {
        let chosen: Vec<String> = all()
            .into_iter()
            .filter(|s| s.chosen)
            .map(|s| s.name)
            .collect();
        for system in ["pair", "diagnostic"] {
            for part in ["bios", "uefi", "e1000e", "virtio"] {
                assert!(
                    chosen
                        .iter()
                        .any(|name| name.starts_with(system) && name.contains(part)),
                    "{system} {part}"
                );
            }
        }
    }

    #[test]
    fn a_star_selects_by_beginning_and_a_misspelt_name_is_an_error() {
        let pairs = select(&["pair-*".into()], all()).ok().unwrap();
        assert_eq!(pairs.len(), 4);
        assert_eq!(
            select(&["pair-bios-e1000e".into()], all())
                .ok()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(select(&["piar-*".into()], all()).err().unwrap(), "piar-*");
    }
}
