//! The subcommand `image`: putting images into a store and looking at what is there.

mod build;
mod export;
mod fetch;
mod gc;
mod import;
mod list;
mod remove;
mod renew;
mod republish;
mod resign;
mod show;
mod sync;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use sparetire_manifest::{ImageName, TrustedKeys};

use crate::cli::{Ui, default_store};
use crate::exit::{ExitCode, WithCode, coded};
use crate::key::key_path;
use crate::signing::{self, Password, PublicKey, SigningKey};
use crate::store::{Store, WriteLock};
use build::BuildArgs;
use export::ExportArgs;
use fetch::FetchArgs;
use gc::GcArgs;
use import::ImportArgs;
use list::ListArgs;
use remove::RemoveArgs;
use renew::RenewArgs;
use republish::RepublishArgs;
use resign::ResignArgs;
use show::ShowArgs;
use sync::SyncArgs;
use verify::VerifyArgs;

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
    /// Remove versions of an image, or the whole image
    ///
    /// PCs refuse to go back to an older version, so the newest one only goes with the whole image. To withdraw a newest
    /// version that is no good, make an older one the newest again (`image republish NAME --version OLDER`), then remove
    /// it. Disk space comes back with `image gc`.
    Remove(RemoveArgs),
    /// Give back the disk space of packs that no version needs any more
    ///
    /// A PC that is downloading a removed version still asks for its packs, so they stay for a grace period after the
    /// version went. Run this once a day, for example; packs that a removal has left are counted from that removal.
    Gc(GcArgs),
    /// Sign anew which version is the newest, so that this stays believable for longer
    Renew(RenewArgs),
    /// Make an old version the newest again, under a new version number
    Republish(RepublishArgs),
    /// Add a new key's signatures to everything that is already in the store
    ///
    /// While keys change, files carry one signature per key, and whoever trusts any of them believes the file.
    Resign(ResignArgs),
    /// Write images into one file, a bundle, which `image import` takes in elsewhere
    ///
    /// The bundle is a tar file with the paths of a store and every signature. What is taken in has been checked first.
    Export(ExportArgs),
    /// Bring another folder, web server or S3 bucket up to date with the store
    ///
    /// DESTINATION is a folder, an http:// or https:// URL below which PUT works (WebDAV, for example), or
    /// s3://BUCKET/PREFIX. What is there already is not sent again, so an interrupted run is simply repeated. Readers see
    /// a version whole or not at all.
    ///
    /// Credentials come from the environment or a file of NAME=VALUE lines: SPARETIRE_SYNC_TOKEN, or SPARETIRE_SYNC_USER
    /// and SPARETIRE_SYNC_PASSWORD; for S3 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION,
    /// AWS_ENDPOINT_URL.
    Sync(SyncArgs),
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

/// The store, and what to do while another process changes it.
#[derive(Debug, clap::Args)]
pub struct WriteArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Fail at once when another process is writing to the store, instead of waiting for it
    #[arg(long)]
    pub(crate) no_wait: bool,
}

impl WriteArgs {
    fn lock(&self, store: &Store, ui: &Ui) -> anyhow::Result<WriteLock> {
        let lock = if self.no_wait {
            store.lock()
        } else {
            store.lock_waiting(|| {
                ui.note(format_args!(
                    "waiting for another process that writes to {}",
                    store.root().display()
                ));
            })
        };
        lock.context("opening the store for writing")
    }
}

/// The secret keys that sign.
#[derive(Debug, clap::Args)]
pub struct SignArgs {
    /// Secret key that signs; repeat while keys change, then each signs
    /// [default: sparetire/keys/default.key in the configuration directory]
    #[arg(long, value_name = "FILE", env = "SPARETIRE_KEY")]
    pub(crate) key: Vec<PathBuf>,
    /// File whose first line is the key's password; repeat for further keys that have another one
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Vec<PathBuf>,
}

impl SignArgs {
    fn signing_key(&self) -> anyhow::Result<SigningKey> {
        let paths = if self.key.is_empty() {
            vec![key_path(None)?]
        } else {
            self.key.clone()
        };
        let mut keys = Vec::new();
        for (number, path) in paths.iter().enumerate() {
            let file = self.password_file.get(number);
            let password = Password::Ask {
                file: file.or(self.password_file.last()).cloned(),
            };
            keys.push(SigningKey::read(path, &password)?);
        }
        let further = keys.split_off(1);
        let first = keys.pop().context("naming a signing key")?;
        Ok(first.and(further))
    }

    /// The keys that sign and those of `more`: what they signed is believed.
    fn trusted(&self, key: &SigningKey, more: &[String]) -> anyhow::Result<TrustedKeys> {
        let mut lines: Vec<String> = key.public_keys().map(|key| key.line.clone()).collect();
        if !more.is_empty() {
            lines.extend(public_keys(more)?.into_iter().map(|key| key.line));
        }
        TrustedKeys::parse(lines.iter().map(String::as_str))
            .context("reading the keys to trust")
            .code(ExitCode::Usage)
    }
}

/// Signing what is in a store already; shared by `renew`, `republish` and `resign`.
#[derive(Debug, clap::Args)]
pub struct ResignatureArgs {
    /// Public key file or `RW...` line that may have signed before, beside the keys that sign now; repeatable
    #[arg(long, value_name = "KEY")]
    trust_key: Vec<String>,
    #[command(flatten)]
    sign: SignArgs,
    #[command(flatten)]
    write: WriteArgs,
}

impl ResignatureArgs {
    /// The store, the key that signs, and the keys whose signatures are believed.
    fn open(&self) -> anyhow::Result<(Store, SigningKey, TrustedKeys)> {
        let store = Store::open(&self.write.store.path()?)?;
        let key = self.sign.signing_key()?;
        let trusted = self.sign.trusted(&key, &self.trust_key)?;
        Ok((store, key, trusted))
    }
}

/// What a new version is called and how it is signed; shared by `import` and `build`.
#[derive(Debug, clap::Args)]
pub struct PublishArgs {
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
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
            Self::Remove(args) => remove::run(&args, ui),
            Self::Gc(args) => gc::run(&args, ui),
            Self::Renew(args) => renew::run(&args, ui),
            Self::Republish(args) => republish::run(&args, ui),
            Self::Resign(args) => resign::run(&args, ui),
            Self::Export(args) => export::run(&args, ui),
            Self::Sync(args) => sync::run(&args, ui),
        }
    }
}

/// The images named, or all there are.
fn image_names(store: &Store, given: &[String]) -> anyhow::Result<Vec<ImageName>> {
    if given.is_empty() {
        return Ok(store.images()?);
    }
    given.iter().map(|name| image_name(name)).collect()
}

/// A whole number with a unit: `90s`, `30m`, `24h`, `7d`; `0` needs none.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match text.get(number.len()..) {
        Some("s") => 1,
        Some("m") => 60,
        Some("h") => 3600,
        Some("d") => 86_400,
        Some("") if number == "0" => 1,
        _ => return Err("a number with s, m, h or d is wanted, for example 24h".into()),
    };
    let number: u64 = number
        .parse()
        .map_err(|error| format!("{number:?} is no number: {error}"))?;
    number
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(|| "longer than time itself".into())
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 86_400)
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
