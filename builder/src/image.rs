//! The subcommand `image`: putting images into a store and looking at what is there.

mod build;
mod fetch;
mod import;
mod list;
mod show;
mod verify;

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use sparetire_manifest::{ImageName, TrustedKeys};

use crate::cli::{Ui, default_store};
use crate::exit::{ExitCode, WithCode, coded};
use crate::key::key_path;
use crate::signing::{self, Password, PublicKey, SigningKey};

/// Builds, imports, lists and checks images.
#[derive(Debug, clap::Subcommand)]
pub enum ImageCommand {
    /// Put an image into the store as a new signed version
    Import(Box<ImportArgs>),
    /// Build an image from a recipe folder: a bootable ISO, or a kernel with its initramfs
    Build(Box<BuildArgs>),
    /// List the images of the store, newest version of each
    List(ListArgs),
    /// Show one image: manifest, boot recipe, chunks, signature
    Show(ShowArgs),
    /// Read an image back and check every chunk, the whole digest and the signatures
    Verify(VerifyArgs),
    /// Fetch an image over HTTP into a file, checking everything
    Fetch(FetchArgs),
}

/// Where the store is.
#[derive(Debug, clap::Args)]
pub struct StoreArgs {
    /// Store directory [default: sparetire/store in the user's data directory]
    #[arg(long, value_name = "DIR", env = "SPARETIRE_STORE")]
    pub(crate) store: Option<PathBuf>,
}

impl StoreArgs {
    pub(crate) fn path(&self) -> anyhow::Result<PathBuf> {
        match &self.store {
            Some(path) => Ok(path.clone()),
            None => default_store(),
        }
    }
}

/// What kind of file is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KindArg {
    /// A Linux live or installer ISO; kernel, initramfs and command line come from its own boot configuration
    LinuxIso,
    /// A kernel with its initramfs files
    LinuxNetboot,
}

/// How the second system looks for its medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum MediumArg {
    /// Found out from the ISO
    Auto,
    /// Needs none: everything is in its initramfs
    None,
    /// Debian live-boot
    LiveBoot,
    /// Ubuntu casper
    Casper,
    /// Fedora and others: dracut
    Dracut,
    /// Arch Linux: archiso
    Archiso,
}

/// Where the image is put for the second system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PlacementArg {
    /// In the initramfs, unless it is too large for that
    Auto,
    /// A file in an extra initramfs member
    Initramfs,
    /// A persistent-memory device in RAM
    Pmem,
}

/// What a new version is called and how it is signed; shared by `import` and `build`.
#[derive(Debug, clap::Args)]
pub struct PublishArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Secret key that signs it [default: sparetire/keys/default.key in the configuration directory]
    #[arg(long, value_name = "FILE", env = "SPARETIRE_KEY")]
    pub(crate) key: Option<PathBuf>,
    /// File whose first line is the key's password
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Version number; must be above every version in the store [default: UTC time as YYYYMMDDhhmmss]
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u64>,
    /// Short text for people, shown in listings
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// Longer text for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Days after which the image must not be booted any more
    #[arg(long, value_name = "DAYS")]
    pub(crate) expires_days: Option<u32>,
    /// Days for which "this is the newest version" stays believable
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    pub(crate) latest_days: u32,
}

/// Arguments of `image import`.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// ISO file; not used with `--kind linux-netboot`
    #[arg(value_name = "FILE", required_unless_present = "kernel")]
    pub(crate) file: Option<PathBuf>,
    /// Name of the image: lower-case letters, digits, `.`, `_`, `-`
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// What FILE is
    #[arg(long, value_enum, default_value = "linux-iso")]
    pub(crate) kind: KindArg,
    /// Kernel image (linux-netboot)
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    pub(crate) kernel: Option<PathBuf>,
    /// Initramfs file, in loading order (linux-netboot; repeatable)
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub(crate) initrd: Vec<PathBuf>,
    /// Kernel command line instead of the boot entry's
    #[arg(long, value_name = "TEXT")]
    pub(crate) cmdline: Option<String>,
    /// Added to the boot entry's kernel command line
    #[arg(long, value_name = "TEXT", conflicts_with = "cmdline")]
    pub(crate) append: Option<String>,
    /// Boot entry to take, by title or by number from 1 [default: the ISO's own default entry]
    #[arg(long, value_name = "TITLE")]
    pub(crate) entry: Option<String>,
    /// How the second system looks for its medium
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) medium: MediumArg,
    /// Where the image is put for the second system
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) placement: PlacementArg,
    #[command(flatten)]
    pub(crate) publish: PublishArgs,
    /// Read and chunk everything, say what would be stored, write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Arguments of `image build`.
#[derive(Debug, clap::Args)]
pub struct BuildArgs {
    /// Recipe folder, for example `images/diagnostic`
    #[arg(value_name = "DIR")]
    pub(crate) recipe: PathBuf,
    /// ISO file to write, or folder for kernel and initramfs [default: NAME.iso or NAME in the current directory]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Also import the result into the store under the recipe's name
    #[arg(long)]
    pub(crate) import: bool,
    /// Also import the result into the store under this name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Package mirror [default: the one in the host's apt sources]
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Option<String>,
    /// Take a netboot recipe's files from this root directory, where its package is installed (`/`: this machine)
    #[arg(long, value_name = "DIR", conflicts_with = "mirror")]
    pub(crate) installed: Option<PathBuf>,
    /// Put this file at the root of the ISO as site-note.txt
    #[arg(long, value_name = "FILE")]
    pub(crate) site_note: Option<PathBuf>,
    /// Seconds since 1970 for every time stamp [default: now]
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    pub(crate) source_date_epoch: Option<u64>,
    /// Keep the installed system in this directory, and take it from there while the recipe stays the same
    #[arg(long, value_name = "DIR")]
    pub(crate) reuse: Option<PathBuf>,
    /// Keep the working directory, and say where it is
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) publish: PublishArgs,
}

/// Arguments of `image list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Show every version, not only the newest
    #[arg(long)]
    pub(crate) all: bool,
}

/// Arguments of `image show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Name of the image
    pub(crate) name: String,
    /// Version [default: the newest]
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u64>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Arguments of `image verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Name of the image
    pub(crate) name: String,
    /// Version [default: the newest]
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u64>,
    /// Public key file or `RW...` line to trust [default: the user's own key]
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Vec<String>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Arguments of `image fetch`.
#[derive(Debug, clap::Args)]
pub struct FetchArgs {
    /// Name of the image
    pub(crate) name: String,
    /// Base URL of a store; repeat for mirrors
    #[arg(long, value_name = "URL", required = true)]
    pub(crate) from: Vec<String>,
    /// File to write
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Version [default: the newest]
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u64>,
    /// Refuse anything older
    #[arg(long, value_name = "N")]
    pub(crate) min_version: Option<u64>,
    /// Public key file or `RW...` line to trust [default: the user's own key]
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Vec<String>,
    /// Certificate authority (PEM file) for HTTPS
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Public key of an HTTPS server, as sha256/BASE64 of its SubjectPublicKeyInfo; repeatable
    #[arg(long, value_name = "PIN")]
    pub(crate) pin: Vec<String>,
    /// HTTP proxy
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<String>,
    /// Replace an existing file
    #[arg(long)]
    pub(crate) force: bool,
    /// Most connections at the same time; it starts with 4 and adds more while they bring more
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub(crate) connections: u8,
    /// Give up after so many seconds without anything new: servers may restart, links may be lost
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) patience: u32,
}

impl ImageCommand {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What went wrong, with its exit code.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        match self {
            Self::Import(args) => import::run(*args, ui),
            Self::Build(args) => build::run(*args, ui),
            Self::List(args) => list::run(&args, ui),
            Self::Show(args) => show::run(&args, ui),
            Self::Verify(args) => verify::run(&args, ui),
            Self::Fetch(args) => fetch::run(&args, ui),
        }
    }
}

impl PublishArgs {
    fn signing_key(&self) -> anyhow::Result<SigningKey> {
        let password = Password::Ask {
            file: self.password_file.clone(),
        };
        SigningKey::read(&key_path(self.key.clone())?, &password)
    }
}

fn image_name(text: &str) -> anyhow::Result<ImageName> {
    text.parse::<ImageName>()
        .with_context(|| format!("reading image name {text:?}"))
        .code(ExitCode::Usage)
}

fn trusted_keys(given: &[String]) -> anyhow::Result<TrustedKeys> {
    let keys = public_keys(given)?;
    TrustedKeys::parse(keys.iter().map(|key| key.line.as_str()))
        .context("reading the keys to trust")
        .code(ExitCode::Usage)
}

/// The keys named on the command line, each a file or the key itself; else the user's own.
///
/// # Errors
///
/// When one cannot be read, or none is named and the user has none.
pub fn public_keys(given: &[String]) -> anyhow::Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    for key in given {
        keys.push(match PublicKey::parse(key) {
            Ok(key) => key,
            Err(_) => PublicKey::read(&PathBuf::from(key)).code(ExitCode::Usage)?,
        });
    }
    if keys.is_empty() {
        let own = signing::public_path(&key_path(None)?);
        if !own.exists() {
            return Err(coded(
                ExitCode::Usage,
                anyhow!(
                    "no key to trust is named, and {} does not exist",
                    own.display()
                ),
            ));
        }
        keys.push(PublicKey::read(&own)?);
    }
    Ok(keys)
}
