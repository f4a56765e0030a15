//! Several processes at one store: writers that wait for one another, readers that notice nothing, writers that are
//! killed at any moment.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::program::{Serving, code, err, folder, json_lines, program};

/// Kills in a plain run of the test; $SPARETIRE_KILLS for more.
const KILLS: u32 = 30;

struct Site(tempfile::TempDir);

impl Site {
    /// A key, and what passes for a kernel.
    fn new() -> Self {
        let site = Self(folder());
        site.run(&["key", "generate", "--no-password"]);
        let mut kernel = vec![0; 8192];
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x206..0x208].copy_from_slice(&0x020c_u16.to_le_bytes());
        kernel[0x236] = 1;
        std::fs::write(site.dir().join("kernel"), kernel).unwrap();
        site
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let output = program(self.dir())
            .args(arguments)
            .arg("--json")
            .output()
            .unwrap();
        assert_eq!(code(&output), 0, "{arguments:?}: {}", err(&output));
        json_lines(&output)
    }

    /// An import of `length` bytes, a third of them new with each version.
    fn import(&self, name: &str, version: u64, length: usize) -> Command {
        let initrd = self.dir().join(format!("initrd-{name}-{version}"));
        let mut bytes = noise(length * 2 / 3, 1);
        bytes.extend(noise(length / 3, version + name.len() as u64 * 1000));
        std::fs::write(&initrd, bytes).unwrap();
        let mut command = program(self.dir());
        command
            .args(["image", "import", "--kind", "linux-netboot", "--name", name])
            .args(["--version", &version.to_string()])
            .arg("--kernel")
            .arg(self.dir().join("kernel"))
            .arg("--initrd")
            .arg(initrd)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    fn lock(&self) -> std::fs::File {
        let file = std::fs::File::options()
            .write(true)
            .open(self.dir().join("store/.lock"))
            .unwrap();
        file.lock().unwrap();
        file
    }
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn a_second_writer_waits_and_says_so_or_gives_up_when_told() {
    let site = Site::new();
    assert!(site.import("first", 1, 100_000).status().unwrap().success());
    let lock = site.lock();
    let busy = site
        .import("second", 1, 100_000)
        .arg("--no-wait")
        .output()
        .unwrap();
    assert_eq!(code(&busy), 1);
    assert!(
        err(&busy).contains("another process is writing"),
        "{}",
        err(&busy)
    );

    let mut waiting = site.import("second", 2, 100_000).spawn().unwrap();
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let said = lines.find(|line| {
        line.as_ref()
            .unwrap()
            .contains("waiting for another process")
    });
    assert!(said.is_some(), "it did not say that it waits");
    assert!(waiting.try_wait().unwrap().is_none());
    drop(lock);
    assert!(waiting.wait().unwrap().success());
    site.run(&["image", "verify", "second"]);
}

#[test]
fn imports_at_the_same_time_all_arrive() {
    let site = Site::new();
    let imports: Vec<_> = [("one", 1), ("one", 2), ("two", 7), ("three", 9)]
        .into_iter()
        .map(|(name, version)| {
            // The second version of "one" may come first; then the first is refused, as it must be.
            (
                name,
                version,
                site.import(name, version, 600_000).spawn().unwrap(),
            )
        })
        .collect();
    for (name, version, import) in imports {
        let output = import.wait_with_output().unwrap();
        let is_late =
            name == "one" && version == 1 && err(&output).contains("PCs refuse to go back");
        assert!(
            output.status.success() || is_late,
            "{name} {version}: {}",
            err(&output)
        );
    }
    let listed = site.run(&["image", "list"]);
    let rows = listed.last().unwrap().as_array().unwrap();
    assert_eq!(rows.len(), 3, "{rows:?}");
    for row in rows {
        assert_eq!(row["latest"], true, "{row}");
    }
    site.run(&["image", "verify", "--all"]);
}

#[test]
fn readers_notice_nothing_of_imports_removals_and_collections() {
    let site = Site::new();
    assert!(site.import("image", 1, 900_000).status().unwrap().success());
    let serving = Serving::start(site.dir(), "127.0.0.1:0");
    let store = format!("{}/store", serving.url);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = std::collections::BTreeSet::new();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let output = program(site.dir())
                    .args([
                        "image", "fetch", "image", "--force", "--json", "--from", &store,
                    ])
                    .arg("-o")
                    .arg(site.dir().join("fetched"))
                    .output()
                    .unwrap();
                assert_eq!(code(&output), 0, "{}", err(&output));
                let version = json_lines(&output).last().unwrap()["version"]
                    .as_u64()
                    .unwrap();
                assert!(
                    seen.last().is_none_or(|last| *last <= version),
                    "{version} after {seen:?}"
                );
                seen.insert(version);
            }
            seen
        });
        for version in 2..=6 {
            let output = site.import("image", version, 900_000).output().unwrap();
            assert!(output.status.success(), "{}", err(&output));
            site.run(&["image", "remove", "image", "--keep", "2"]);
            site.run(&["image", "gc"]);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let seen = reader.join().unwrap();
        assert!(seen.len() > 1, "the reader saw one version only: {seen:?}");
    });
}

#[test]
fn a_writer_killed_at_any_moment_leaves_the_old_store_or_the_new_one() {
    let kills = std::env::var("SPARETIRE_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let site = Site::new();
    let started = Instant::now();
    assert!(site.import("image", 1, 300_000).status().unwrap().success());
    let whole = started.elapsed();
    let (mut newest, mut killed, mut advanced) = (1, 0, 0);
    for number in 0..kills {
        let version = 2 + u64::from(number);
        let mut import = site.import("image", version, 300_000).spawn().unwrap();
        // Every moment of its life gets its turn, in an order that is not that of time.
        let part = (number * 17) % kills;
        std::thread::sleep(whole * part / kills + Duration::from_millis(1));
        // SIGKILL.
        import.kill().unwrap();
        killed += u32::from(import.wait().unwrap().code().is_none());
        let verified = site.run(&["image", "verify", "image"]);
        let found = verified.last().unwrap()["version"].as_u64().unwrap();
        // One in between is that of an earlier writer, killed when its plan stood: the next one carried it out.
        assert!(
            (newest..=version).contains(&found),
            "{found} after {newest}, {version} being imported"
        );
        advanced += u32::from(found == version);
        newest = found;
    }
    assert!(
        killed > kills / 3,
        "only {killed} of {kills} were killed in time"
    );
    // The next writer finds a store in order, and leaves it so.
    assert!(
        site.import("image", 100_000, 300_000)
            .status()
            .unwrap()
            .success()
    );
    site.run(&["image", "verify", "--all"]);
    let mut dirs = vec![site.dir().join("store")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(
                !name.starts_with(".sparetire-"),
                "{} is litter",
                path.display()
            );
            if path.is_dir() {
                dirs.push(path);
            }
        }
    }
    println!("{killed} of {kills} killed, {advanced} of them or the rest after all was done");
}
