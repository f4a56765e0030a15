//! The stage-one kernel: Debian's kernel source with the fragments of
//! `images/stage1/kernel`, built once per set of inputs.

mod build;
mod config;
mod source;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::cache::{self, Inputs, Shelf};
use crate::{apt, checks, parts, process, tree};
pub(crate) use config::settings;
use source::Source;

/// Raised when the way of building changes in a way the other inputs do not show.
const RECIPE: u32 = 1;

/// `cargo xtask kernel`
#[derive(Args)]
pub(crate) struct Options {
    /// Ignore what the cache holds
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Which of Debian's kernel sources
    #[arg(long, value_enum, default_value_t)]
    pub(crate) kernel_series: Series,
    /// Stop after checking that every requested option survives; builds nothing
    #[arg(long)]
    config_only: bool,
}

/// Kernel series Debian packages the source of. The newest has the newest network adapters;
/// the older one is there for comparison and for releases without the newer.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Series {
    /// Debian 13, and Debian 12 through bookworm-backports
    #[default]
    #[value(name = "6.12")]
    Linux6_12,
    /// Debian 12
    #[value(name = "6.1")]
    Linux6_1,
}

impl Series {
    /// What to look for, best first.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Series::Linux6_12 => &["linux-source-6.12", "linux-source-6.1"],
            Series::Linux6_1 => &["linux-source-6.1"],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Series::Linux6_12 => "6.12",
            Series::Linux6_1 => "6.1",
        }
    }
}

/// The command by itself.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    apt::install_missing(crate::packages::GROUPS)?;
    if options.config_only {
        let source = Source::resolve(options.kernel_series, options.fresh)?;
        let work = tempfile::tempdir().context("creating a temporary directory")?;
        config::prepare(
            &source.tree()?,
            work.path(),
            &fragments()?,
            source.is_older(),
        )?;
        println!("every requested option survives in {source}");
        return Ok(ExitCode::SUCCESS);
    }
    let result = ensure(options.kernel_series, options.fresh)?;
    let size = std::fs::metadata(result.join(parts::KERNEL))
        .context("reading the kernel's size")?
        .len();
    println!("{} ({size} bytes)", result.join(parts::KERNEL).display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the kernel unless the cache has it, checks it, and copies it to `target/parts`.
pub(crate) fn ensure(series: Series, fresh: bool) -> Result<PathBuf> {
    let source = Source::resolve(series, fresh)?;
    let fragments = fragments()?;
    let hash = inputs(&source, &fragments)?.hash();
    let shelf = Shelf::open("kernel")?;
    let result = match shelf.find(&hash).filter(|_| !fresh) {
        Some(found) => found,
        None => make(&shelf, &hash, &source, &fragments, fresh)?,
    };
    checks::kernel_files(&result.join(parts::KERNEL), &result.join("config"))?;
    parts::install(parts::KERNEL, &result.join(parts::KERNEL))?;
    parts::install(parts::KERNEL_CONFIG, &result.join("config"))?;
    Ok(result)
}

/// The finished kernel, if the cache has it.
pub(crate) fn find(series: Series) -> Result<Option<PathBuf>> {
    let Some(source) = Source::known(series)? else {
        return Ok(None);
    };
    let hash = inputs(&source, &fragments()?)?.hash();
    Ok(Shelf::open("kernel")?.find(&hash))
}

/// Source package and version of the kernel that is or would be built, as far as it was looked up.
pub(crate) fn source(series: Series) -> Result<Option<String>> {
    Ok(Source::known(series)?.map(|source| source.to_string()))
}

fn make(
    shelf: &Shelf,
    hash: &str,
    source: &Source,
    fragments: &[PathBuf],
    fresh: bool,
) -> Result<PathBuf> {
    let work = shelf.work(hash, fresh)?;
    let build_dir = work.join("build");
    let tree = source.tree()?;
    config::prepare(&tree, &build_dir, fragments, source.is_older())?;
    let image = build::image(&tree, &build_dir, source, shelf.dir())?;
    checks::kernel_files(&image, &build_dir.join(".config"))?;
    let about = work.join("version");
    std::fs::write(&about, format!("{source}\n"))
        .with_context(|| format!("writing {}", about.display()))?;
    let files = [
        (parts::KERNEL, image.as_path()),
        ("config", &build_dir.join(".config")),
        ("version", &about),
    ];
    let result = shelf.publish(hash, &files)?;
    // 2 GB that only an interrupted build needs again. The package itself stays.
    cache::remove(&work)?;
    source.remove_tree()?;
    Ok(result)
}

/// The configuration fragments in the order they are merged.
fn fragments() -> Result<Vec<PathBuf>> {
    let dir = tree::root().join("images/stage1/kernel");
    let mut files = cache::files_below(&dir)?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "config")
    });
    Ok(files)
}

fn inputs(source: &Source, fragments: &[PathBuf]) -> Result<Inputs> {
    let mut inputs = Inputs::new("kernel", RECIPE).add("source", source.to_string().as_bytes());
    for program in ["gcc", "ld"] {
        let version = process::capture(Command::new(program).arg("--version"))?;
        inputs = inputs.add(
            program,
            version.lines().next().unwrap_or_default().as_bytes(),
        );
    }
    for fragment in fragments {
        inputs = inputs.add_path(tree::root(), Path::new(fragment))?;
    }
    Ok(inputs)
}
