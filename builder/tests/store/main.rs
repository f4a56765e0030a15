//! Keeping a store: remove, gc, republish, renew, change of keys, export and import of bundles, sync to folders and
//! servers, as users type them.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of a test fail as loudly as the test itself"
)]

mod damage;
mod keep;
mod objects;
mod transfer;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use sparetire_builder::cli::UiArgs;
use sparetire_builder::exit::{ExitCode, exit_code_of};
use sparetire_builder::image::ImageCommand;
use sparetire_builder::key::KeyCommand;
use sparetire_builder::store::Store;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    ui: UiArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    #[command(subcommand)]
    Image(ImageCommand),
    #[command(subcommand)]
    Key(KeyCommand),
}

/// A folder with keys, inputs and a store.
struct Bench(tempfile::TempDir);

impl Bench {
    /// Keys `a.key` and `b.key`, and an empty store.
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        bench.run("key generate --key @a.key --no-password");
        bench.run("key generate --key @b.key --no-password");
        let mut kernel = noise(20_000, 1);
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
        kernel[0x236] = 0x3f;
        fs::write(bench.path("vmlinuz"), kernel).unwrap();
        bench
    }

    /// Imports a version whose first 400 KB all versions share.
    fn import(&self, name: &str, version: u64) {
        self.try_import(name, version, "--key @a.key").unwrap();
    }

    fn try_import(&self, name: &str, version: u64, more: &str) -> anyhow::Result<()> {
        let mut initrd = noise(400_000, 7);
        initrd.extend(b"a line that repeats itself\n".repeat(3_000));
        initrd.extend(noise(100_000, version.wrapping_mul(31) + name.len() as u64));
        fs::write(self.path("initrd"), initrd).unwrap();
        self.try_run(&format!(
            "image import --name {name} --kind linux-netboot --kernel @vmlinuz --initrd @initrd \
             --version {version} --store @store {more}"
        ))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn store(&self, name: &str) -> Store {
        Store::open(&self.path(name)).unwrap()
    }

    fn versions(&self, store: &str, name: &str) -> Vec<u64> {
        self.store(store).versions(&name.parse().unwrap()).unwrap()
    }

    fn run(&self, line: &str) {
        self.try_run(line)
            .unwrap_or_else(|error| panic!("{line}: {error:#}"));
    }

    fn code(&self, line: &str) -> ExitCode {
        match self.try_run(line) {
            Ok(()) => ExitCode::Done,
            Err(error) => exit_code_of(&error),
        }
    }

    /// Runs a command line; words that begin with `@` are files of the bench.
    fn try_run(&self, line: &str) -> anyhow::Result<()> {
        let words = line
            .split_whitespace()
            .map(|word| match word.strip_prefix('@') {
                Some(name) => self.path(name).into_os_string(),
                None => word.into(),
            });
        let words = ["sparetire".into(), "--quiet".into()]
            .into_iter()
            .chain(words);
        let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        match cli.command {
            Command::Image(command) => command.run(&cli.ui.ui()),
            Command::Key(command) => command.run(&cli.ui.ui()),
        }
    }
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(length)
    .collect()
}

/// Every file below a folder.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                if name != ".lock" {
                    found.insert(name, fs::read(&path).unwrap());
                }
            }
        }
    }
    found
}
