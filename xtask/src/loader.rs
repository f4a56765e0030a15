//! The loader: a static executable, built with every byte counted, cached by the hash of
//! its sources.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cache::{Inputs, Shelf};
use crate::metadata::Metadata;
use crate::{apt, checks, parts, process, tree};

/// Raised when the way of building changes in a way the other inputs do not show.
const RECIPE: u32 = 1;
const PACKAGE: &str = "stage1-loader";
pub(crate) const GLIBC: &str = "x86_64-unknown-linux-gnu";
const MUSL: &str = "x86_64-unknown-linux-musl";
/// Static, and at a fixed address: relocations would only cost bytes.
const FLAGS: &str = "-C target-feature=+crt-static -C relocation-model=static";

/// `cargo xtask loader`
#[derive(Args)]
pub(crate) struct Options {
    /// Ignore what the cache holds
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Link musl instead of glibc; its Rust target has to be installed already
    #[arg(long)]
    pub(crate) musl: bool,
}

/// The command by itself: builds, then prints size and crates.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    apt::install_missing(crate::packages::GROUPS)?;
    let path = ensure(options.musl, options.fresh)?;
    process::run(Command::new("cargo").current_dir(tree::root()).args([
        "tree",
        "--package",
        PACKAGE,
        "--edges",
        "normal",
        "--target",
        target(options.musl)?,
    ]))?;
    let size = fs::metadata(&path)
        .context("reading the loader's size")?
        .len();
    let packed = process::capture(Command::new("sh").args([
        "-c",
        "xz --format=xz --check=crc32 --x86 --lzma2=preset=9e --stdout \"$0\" | wc --bytes",
        &path.to_string_lossy(),
    ]))?;
    println!(
        "{}: {size} bytes, {} as it crosses the link",
        path.display(),
        packed.trim()
    );
    Ok(ExitCode::SUCCESS)
}

/// Builds the loader unless the cache has it, checks it, and copies it to `target/parts`.
pub(crate) fn ensure(musl: bool, fresh: bool) -> Result<PathBuf> {
    let target = target(musl)?;
    let hash = inputs(target)?.hash();
    let shelf = Shelf::open("loader")?;
    let result = match shelf.find(&hash).filter(|_| !fresh) {
        Some(found) => found,
        None => {
            let built = build(target)?;
            checks::loader_file(&built)?;
            shelf.publish(&hash, &[(parts::LOADER, &built)])?
        }
    };
    let path = result.join(parts::LOADER);
    checks::loader_file(&path)?;
    parts::install(parts::LOADER, &path)?;
    Ok(path)
}

/// The finished loader, if the cache has it.
pub(crate) fn find(musl: bool) -> Result<Option<PathBuf>> {
    let hash = inputs(target(musl)?)?.hash();
    Ok(Shelf::open("loader")?
        .find(&hash)
        .map(|dir| dir.join(parts::LOADER)))
}

fn target(musl: bool) -> Result<&'static str> {
    if !musl {
        return Ok(GLIBC);
    }
    let sysroot = process::capture(
        Command::new("rustc")
            .current_dir(tree::root())
            .args(["--print", "sysroot"]),
    )?;
    if !Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(MUSL)
        .is_dir()
    {
        bail!("the Rust target {MUSL} is not installed");
    }
    Ok(MUSL)
}

fn build(target: &str) -> Result<PathBuf> {
    println!("building the loader (about 3 min)");
    // A target directory of its own: other flags, and no waiting for a developer's builds.
    let target_dir = tree::target().join("loader");
    let mut flags = FLAGS.to_owned();
    // Paths end up in panic messages. Without them, two machines build the same bytes.
    for (from, to) in remapped()? {
        flags.push_str(&format!(" --remap-path-prefix={}={to}", from.display()));
    }
    process::run(
        Command::new("cargo")
            .current_dir(tree::root())
            .args([
                "build",
                "--quiet",
                "--locked",
                "--package",
                PACKAGE,
                "--profile",
                "loader",
                "--target",
                target,
            ])
            .env("CARGO_TARGET_DIR", &target_dir)
            .env("RUSTFLAGS", flags)
            .env_remove("CARGO_ENCODED_RUSTFLAGS"),
    )
    .context("building the loader")?;
    Ok(target_dir.join(target).join("loader").join(PACKAGE))
}

/// Paths of this machine, and what stands for them in what is built: two machines then build the same bytes.
pub(crate) fn remapped() -> Result<Vec<(PathBuf, &'static str)>> {
    let cargo_home = match env::var_os("CARGO_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?)
            .join(".cargo"),
    };
    Ok(vec![
        (cargo_home, "/cargo"),
        (tree::root().to_owned(), "/sparetire"),
    ])
}

fn inputs(target: &str) -> Result<Inputs> {
    let root = tree::root();
    let compiler = process::capture(Command::new("rustc").current_dir(root).arg("-vV"))?;
    let linker = process::capture(Command::new("gcc").arg("--version"))?;
    let metadata = Metadata::read(target).context("listing the loader's dependencies")?;
    let mut inputs = Inputs::new("loader", RECIPE)
        .add("compiler", compiler.as_bytes())
        .add("linker", linker.as_bytes())
        .add("target", target.as_bytes())
        .add("flags", FLAGS.as_bytes())
        .add_path(root, &root.join("Cargo.toml"))?;
    for dependency in metadata.closure(PACKAGE)? {
        inputs = match dependency.source {
            // The version is in the identifier; Cargo.lock holds the registry to its digests.
            Some(_) => inputs.add("crate", dependency.id.as_bytes()),
            None => {
                let dir = dependency
                    .manifest_path
                    .parent()
                    .context("a manifest has no directory")?;
                inputs.add_path(root, dir)?
            }
        };
    }
    Ok(inputs)
}
