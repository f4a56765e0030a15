//! `cargo xtask dist`: what users install, a Debian package and a tarball, without cargo on their side.
//!
//! `tree` says which file goes where; `debian` and this file pack that one tree twice. `parts` are the pieces of
//! stage one with their origin and licence, `notices` what is known of every crate that is linked. `check` installs
//! the package on a clean Debian system and walks README's path there.
//!
//! Same sources, same tools, same bytes: every time stamp is the last commit's (or `SOURCE_DATE_EPOCH`), and no path
//! of the building machine stays in the program.

mod check;
mod debian;
mod notices;
mod pages;
mod parts;
mod tree;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;
use sha2::{Digest, Sha256};

use crate::kernel::Series;
use crate::{apt, kernel, loader, process};
use tree::Tree;

/// `cargo xtask dist`
#[derive(Args)]
pub(crate) struct Options {
    /// Folder for the packages [default: target/packages]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Pack the program, kernel and loader that are there, building nothing
    #[arg(long)]
    skip_build: bool,
    /// Then install the package on a clean Debian system and use it as README does; needs root
    #[arg(long)]
    check: bool,
}

/// What was packed.
struct Packages {
    debian: PathBuf,
    tarball: PathBuf,
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let out = match &options.out {
        Some(dir) => env::current_dir()
            .context("reading the current directory")?
            .join(dir),
        None => crate::tree::target().join("packages"),
    };
    if !options.skip_build {
        apt::install_missing(crate::packages::GROUPS)?;
        kernel::ensure(Series::default(), false)?;
        // The program takes long; a kernel that cannot be packed is said before.
        parts::kernel_source()?;
        loader::ensure(false, false)?;
        build()?;
    }
    let packages = pack(&out)?;
    for path in [&packages.debian, &packages.tarball] {
        let size = fs::metadata(path)
            .with_context(|| format!("reading the size of {}", path.display()))?
            .len();
        println!("{} ({} KiB)", path.display(), size / 1024);
    }
    if options.check {
        check::run(&packages.debian, &packages.tarball)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lays the tree out and packs it both ways.
fn pack(out: &Path) -> Result<Packages> {
    let about = About::read()?;
    let work = tempfile::tempdir().context("creating a temporary directory")?;
    let tree = Tree::lay_out(&work.path().join("tree"), &program(), &about)?;
    fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    let packages = Packages {
        debian: out.join(format!("sparetire_{}_amd64.deb", about.version)),
        tarball: out.join(format!("sparetire-{}-x86_64-linux.tar.gz", about.version)),
    };
    tarball(&tree, &packages.tarball, &about)?;
    debian::pack(
        &tree,
        &work.path().join("control"),
        &packages.debian,
        &about,
    )?;
    let mut sums = String::new();
    for path in [&packages.debian, &packages.tarball] {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        sums.push_str(&format!("{}  {name}\n", hex(&Sha256::digest(&bytes))));
    }
    let path = out.join("SHA256SUMS");
    fs::write(&path, sums).with_context(|| format!("writing {}", path.display()))?;
    Ok(packages)
}

/// Facts that several files of the packages state.
struct About {
    version: String,
    /// Seconds since 1970: the time of everything in the packages.
    epoch: u64,
    /// Name and address for the package's maintainer field.
    maintainer: String,
}

impl About {
    fn read() -> Result<Self> {
        let root = crate::tree::root();
        let epoch = match env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => text,
            Err(_) => process::capture(Command::new("git").current_dir(root).args([
                "log",
                "--max-count=1",
                "--format=%ct",
            ]))
            .context(
                "reading the last commit's time; outside a git checkout set SOURCE_DATE_EPOCH",
            )?,
        };
        let epoch = epoch
            .trim()
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH is no number of seconds: {epoch:?}"))?;
        // Debian's own variables for it.
        let name = env::var("DEBFULLNAME").unwrap_or_else(|_| "sparetire developers".to_owned());
        let address =
            env::var("DEBEMAIL").unwrap_or_else(|_| "sparetire@packages.invalid".to_owned());
        Ok(About {
            // The workspace has one version.
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch,
            maintainer: format!("{name} <{address}>"),
        })
    }

    /// The date as a Debian changelog writes it.
    fn date(&self) -> Result<String> {
        let date = process::capture(Command::new("date").env("LC_ALL", "C").args([
            "--utc",
            "--rfc-email",
            "--date",
            &format!("@{}", self.epoch),
        ]))?;
        Ok(date.trim().to_owned())
    }
}

fn tarball(tree: &Tree, to: &Path, about: &About) -> Result<()> {
    let name = format!("sparetire-{}-x86_64-linux", about.version);
    // The tree is laid out for `/`; a tarball is unpacked anywhere, so `usr/` goes.
    let moved = [format!("s,^\\./usr,{name},"), format!("s,^\\.,{name},")];
    process::run(
        Command::new("tar")
            .args([
                "--create",
                "--sort=name",
                "--format=gnu",
                "--owner=0",
                "--group=0",
            ])
            .args(["--numeric-owner", "--mode=u+rw,go+r-w,a+rX"])
            .arg(format!("--mtime=@{}", about.epoch))
            .args(moved.iter().map(|rule| format!("--transform={rule};")))
            // gzip's header would carry name and time.
            .arg("--use-compress-program=gzip -9 --no-name")
            .arg("--file")
            .arg(to)
            .arg("--directory")
            .arg(tree.root())
            .args(["./usr/bin", "./usr/lib", "./usr/share", "./etc"]),
    )
    .context("writing the tarball")
}

/// Builds the program that is packed: in a target directory of its own, as its flags differ from a developer's.
fn build() -> Result<()> {
    println!("building the program for packages (10 to 20 min on two cores, the first time)");
    let mut rust = String::new();
    let mut c = String::new();
    for (from, to) in loader::remapped()? {
        rust.push_str(&format!("--remap-path-prefix={}={to} ", from.display()));
        c.push_str(&format!("-ffile-prefix-map={}={to} ", from.display()));
    }
    process::run(
        Command::new("cargo")
            .current_dir(crate::tree::root())
            .args(["build", "--quiet", "--locked", "--package", "sparetire"])
            .args(["--profile", "dist"])
            .env("CARGO_TARGET_DIR", target())
            .env("RUSTFLAGS", rust.trim())
            .env("CFLAGS", c.trim())
            .env_remove("CARGO_ENCODED_RUSTFLAGS"),
    )
    .context("building the program")
}

fn target() -> PathBuf {
    crate::tree::target().join("dist")
}

fn program() -> PathBuf {
    target().join("dist/sparetire")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fails by naming the file when it is not there.
fn require(path: &Path) -> Result<&Path> {
    if !path.is_file() {
        bail!(
            "{} is not there; run `cargo xtask dist` without --skip-build",
            path.display()
        );
    }
    Ok(path)
}
