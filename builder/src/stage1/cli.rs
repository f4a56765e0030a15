//! `sparetire stage1 build | customize | show | check`.

use super::build::{self, DEFAULT_CMDLINE, Format, Recipe};
use super::check;
use super::customize::SlottedFile;
use super::parts::{Choice, KernelChoice, Parts, PartsError};
use super::plain::PlainArgs;
use super::show;
use crate::cli::Ui;
use crate::exit::{ExitCode, WithCode};
use crate::whole_file;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sparetire_manifest::Timestamp;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Build, customize and inspect stage-one files.
#[derive(Debug, clap::Subcommand)]
pub enum Stage1Command {
    /// Build a stage-one ISO image, EFI program or disk image
    Build(BuildArgs),
    /// Fill the config slot of a stage-one file in place, or reset it
    Customize(Box<CustomizeArgs>),
    /// Explain a stage-one file: boot entries, layout, sizes, digests, configuration
    Show(ShowArgs),
    /// Check a kernel and a loader before they are built in
    Check(CheckArgs),
}

/// Arguments of `stage1 build`.
#[derive(Debug, clap::Args)]
pub struct BuildArgs {
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Base configuration (TOML), built in and kept by `customize --reset`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Kernel: `tiny` (ours) or a bzImage file
    #[arg(
        long,
        value_name = "tiny|FILE",
        default_value = "tiny",
        env = "SPARETIRE_KERNEL"
    )]
    kernel: String,
    /// Loader program; ours by default
    #[arg(long, value_name = "FILE", env = "SPARETIRE_LOADER")]
    loader: Option<PathBuf>,
    /// What to build
    #[arg(long, value_enum, default_value_t = Format::Iso)]
    format: Format,
    /// Kernel command line of stage one
    #[arg(long, value_name = "TEXT", default_value = DEFAULT_CMDLINE)]
    cmdline: String,
    /// Date of everything in the file, in Unix seconds; the release date by default
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH", default_value_t = RELEASE_DATE)]
    date: i64,
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
}

/// Arguments of `stage1 customize`.
#[derive(Debug, clap::Args)]
pub struct CustomizeArgs {
    /// Stage-one file
    file: PathBuf,
    /// Write here instead of changing FILE in place
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Remove the customization: the file is then bit for bit as built
    #[arg(long)]
    reset: bool,
    /// Start from this TOML file; the other options are set on top
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Server the loader reports to (and fetches from, unless --store says otherwise)
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Image store; repeat for mirrors
    #[arg(long, value_name = "URL")]
    store: Vec<String>,
    /// Image to boot
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// Exactly this version of the image
    #[arg(long, value_name = "N")]
    image_version: Option<u64>,
    /// Refuse versions older than this
    #[arg(long, value_name = "N")]
    min_version: Option<u64>,
    /// Where the image goes
    #[arg(long, value_name = "ram|usb|disk")]
    target: Option<String>,
    /// Public key that image manifests must be signed with; repeat for several
    #[arg(long, value_name = "FILE")]
    trust_key: Vec<PathBuf>,
    /// Certificate authority for HTTPS (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Public key pin for HTTPS; repeat for several
    #[arg(long, value_name = "sha256/BASE64")]
    pin: Vec<String>,
    /// Boot session to report to
    #[arg(long, value_name = "ID", requires = "token_file")]
    session_id: Option<String>,
    /// File holding the boot session's token
    #[arg(long, value_name = "FILE", requires = "session_id")]
    token_file: Option<PathBuf>,
    /// Serial console besides those of the kernel command line, such as ttyS4; repeat for several
    #[arg(long, value_name = "DEVICE")]
    console: Vec<String>,
    /// Allow the command prompt on the failure screen
    #[arg(long)]
    allow_shell: bool,
    /// Use only this network interface
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// VLAN of the network interface
    #[arg(long, value_name = "1-4094")]
    vlan: Option<u16>,
    /// Static address with prefix length instead of DHCP; repeat for several
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    address: Vec<String>,
    /// Default gateway for static addresses; repeat for IPv4 and IPv6
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<IpAddr>,
    /// Name server; repeat for several
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// HTTP proxy
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Text to add to the second system's kernel command line
    #[arg(long, value_name = "TEXT")]
    append: Option<String>,
    /// Seconds before a failed step is tried again
    #[arg(long, value_name = "SECONDS")]
    retry_seconds: Option<u32>,
    #[command(flatten)]
    plain: PlainArgs,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Arguments of `stage1 show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Stage-one file
    file: PathBuf,
}

/// Arguments of `stage1 check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Kernel image
    #[arg(long, value_name = "FILE", required_unless_present = "loader")]
    kernel: Option<PathBuf>,
    /// The configuration the kernel was built with
    #[arg(long, value_name = "FILE", requires = "kernel")]
    kernel_config: Option<PathBuf>,
    /// Loader program
    #[arg(long, value_name = "FILE")]
    loader: Option<PathBuf>,
}

/// Runs one `stage1` subcommand.
pub fn run(command: Stage1Command, ui: &Ui) -> Result<()> {
    match command {
        Stage1Command::Build(args) => run_build(&args, ui),
        Stage1Command::Customize(args) => run_customize(&args, ui),
        Stage1Command::Show(args) => run_show(&args, ui),
        Stage1Command::Check(args) => run_check(&args, ui),
    }
}

#[derive(Serialize)]
struct BuildResult<'a> {
    file: &'a Path,
    size: usize,
    sha256: String,
    kernel: usize,
    loader: usize,
    initramfs: usize,
    uki: usize,
    slots: &'a [usize],
}

fn run_build(args: &BuildArgs, ui: &Ui) -> Result<()> {
    if args.output.exists() && !args.force {
        let error = anyhow::anyhow!("{} exists; --force overwrites it", args.output.display());
        return Err(error).code(ExitCode::Refused);
    }
    let kernel = match args.kernel.as_str() {
        "tiny" => KernelChoice::Tiny,
        "debian-signed" => {
            bail!("the Secure Boot flavour (--kernel debian-signed) is not built yet")
        }
        path => KernelChoice::File(PathBuf::from(path)),
    };
    let parts = Parts::gather(&Choice {
        kernel,
        loader: args.loader.clone(),
    })
    .map_err(|error| {
        let code = if matches!(error, PartsError::Wrong { .. }) {
            ExitCode::Refused
        } else {
            ExitCode::Failed
        };
        crate::exit::coded(code, error)
    })
    .context("gathering the parts of stage one")?;
    let config = base_config(args.config.as_deref(), args.date)?;
    ui.note("compressing the loader ...");
    let built = build::build(
        &parts,
        &Recipe {
            config: &config,
            cmdline: &args.cmdline,
            format: args.format,
            time: args.date,
        },
    )
    .context("building stage one")?;
    whole_file::replace(&args.output, &built.bytes, 0o644)
        .with_context(|| format!("writing {}", args.output.display()))?;
    let sha256 = hex(&Sha256::digest(&built.bytes));
    if ui.json {
        return ui.print_json(&BuildResult {
            file: &args.output,
            size: built.bytes.len(),
            sha256,
            kernel: built.kernel,
            loader: built.loader,
            initramfs: built.initramfs,
            uki: built.uki,
            slots: &built.slots,
        });
    }
    ui.line(format_args!(
        "{}  {} bytes  sha256 {sha256}",
        args.output.display(),
        built.bytes.len()
    ));
    ui.line(format_args!(
        "  kernel {}, loader {} (compressed), EFI program {}",
        built.kernel, built.loader, built.uki
    ));
    Ok(())
}

/// The user's TOML with the build date added: a PC whose clock is older than its software is wrong.
fn base_config(file: Option<&Path>, date: i64) -> Result<String> {
    let text = match file {
        Some(path) => read_text(path)?,
        None => String::new(),
    };
    let mut table: toml::Table = toml::from_str(&text)
        .context("parsing the base configuration")
        .code(ExitCode::Usage)?;
    table.entry("format").or_insert(toml::Value::Integer(1));
    let seconds = u64::try_from(date).context("the date lies before 1970")?;
    table.entry("build_date").or_insert(toml::Value::String(
        Timestamp::from_unix(seconds).to_string(),
    ));
    let text = toml::to_string(&table).context("writing the base configuration")?;
    stage1_config::Slot::new(&text)
        .context("writing the config slot")?
        .config()
        .context("checking the base configuration")
        .code(ExitCode::Usage)?;
    Ok(text)
}

fn run_customize(args: &CustomizeArgs, ui: &Ui) -> Result<()> {
    let overlay = overlay(args, ui)?;
    if args.reset != overlay.is_empty() {
        let error = match args.reset {
            true => anyhow::anyhow!("--reset removes every setting and takes none"),
            false => anyhow::anyhow!("nothing to change: name at least one setting, or --reset"),
        };
        return Err(error).code(ExitCode::Usage);
    }
    let mut file = open(&args.file)?;
    if args.reset {
        file.reset();
    } else {
        let text = toml::to_string(&overlay).context("writing the configuration")?;
        file.customize(&text)
            .context("filling the config slot")
            .code(ExitCode::Usage)?;
    }
    let output = args.output.as_deref().unwrap_or(&args.file);
    if !args.dry_run {
        // A file that holds a session's token is no more readable than it has to be.
        let holds_token = file
            .slot()
            .config()
            .is_ok_and(|config| config.session.is_some());
        let mode = if holds_token { 0o600 } else { 0o644 };
        whole_file::replace(output, file.bytes(), mode)
            .with_context(|| format!("writing {}", output.display()))?;
    }
    let config = show::redacted(file.slot())?;
    if ui.json {
        return ui.print_json(&serde_json::json!({
            "file": output, "slots": file.offsets(), "written": !args.dry_run, "config": config,
        }));
    }
    let verb = if args.dry_run { "would write" } else { "wrote" };
    ui.line(format_args!(
        "{verb} {} (config slot at bytes {:?})",
        output.display(),
        file.offsets()
    ));
    ui.line(
        toml::to_string(&config)
            .context("printing the configuration")?
            .trim_end(),
    );
    Ok(())
}

/// The settings given on the command line, as TOML.
fn overlay(args: &CustomizeArgs, ui: &Ui) -> Result<toml::Table> {
    let mut table: toml::Table = match &args.config {
        Some(path) => toml::from_str(&read_text(path)?)
            .context("parsing the configuration")
            .code(ExitCode::Usage)?,
        None => toml::Table::new(),
    };
    let mut set = |path: &[&str], value: Option<toml::Value>| insert(&mut table, path, value);
    set(&["server"], text(&args.server))?;
    set(&["stores"], texts(&args.store))?;
    set(&["image"], text(&args.image))?;
    set(&["image_version"], number(args.image_version)?)?;
    set(&["min_version"], number(args.min_version)?)?;
    set(&["target"], text(&args.target))?;
    set(&["append"], text(&args.append))?;
    set(
        &["retry_seconds"],
        args.retry_seconds.map(|n| toml::Value::Integer(n.into())),
    )?;
    let keys = args
        .trust_key
        .iter()
        .map(|path| public_key(path))
        .collect::<Result<Vec<_>>>()?;
    set(&["trust", "keys"], texts(&keys))?;
    let ca = args.ca.as_deref().map(read_text).transpose()?;
    set(&["trust", "ca"], text(&ca))?;
    set(&["trust", "pin"], texts(&args.pin))?;
    set(&["session", "id"], text(&args.session_id))?;
    let token = args
        .token_file
        .as_deref()
        .map(read_text)
        .transpose()?
        .map(|token| token.trim().to_owned());
    set(&["session", "token"], text(&token))?;
    set(&["console", "devices"], texts(&args.console))?;
    set(
        &["console", "shell"],
        args.allow_shell.then_some(toml::Value::Boolean(true)),
    )?;
    set(&["network", "interface"], text(&args.interface))?;
    set(
        &["network", "vlan"],
        args.vlan.map(|n| toml::Value::Integer(n.into())),
    )?;
    set(&["network", "address"], texts(&args.address))?;
    set(
        &["network", "gateway"],
        texts(
            &args
                .gateway
                .iter()
                .map(IpAddr::to_string)
                .collect::<Vec<_>>(),
        ),
    )?;
    set(
        &["network", "dns"],
        texts(&args.dns.iter().map(IpAddr::to_string).collect::<Vec<_>>()),
    )?;
    set(&["network", "proxy"], text(&args.proxy))?;
    set(
        &["allow_unsigned"],
        args.plain
            .allow_unsigned()
            .then_some(toml::Value::Boolean(true)),
    )?;
    let plain = args.plain.table(ca.as_deref(), &args.pin, ui)?;
    let plain = plain
        .map(toml::Value::try_from)
        .transpose()
        .context("writing the boot recipe")?;
    set(&["plain"], plain)?;
    Ok(table)
}

fn insert(table: &mut toml::Table, path: &[&str], value: Option<toml::Value>) -> Result<()> {
    let (Some(value), [parents @ .., key]) = (value, path) else {
        return Ok(());
    };
    let mut table = table;
    for parent in parents {
        let entry = table
            .entry(*parent)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        table = entry
            .as_table_mut()
            .with_context(|| format!("`{parent}` in the configuration is no table"))?;
    }
    table.insert((*key).to_owned(), value);
    Ok(())
}

fn text(value: &Option<String>) -> Option<toml::Value> {
    value.clone().map(toml::Value::String)
}

fn texts(values: &[String]) -> Option<toml::Value> {
    (!values.is_empty())
        .then(|| toml::Value::Array(values.iter().cloned().map(toml::Value::String).collect()))
}

fn number(value: Option<u64>) -> Result<Option<toml::Value>> {
    let value = value
        .map(i64::try_from)
        .transpose()
        .context("version number is too large")?;
    Ok(value.map(toml::Value::Integer))
}

/// The key line of a minisign public key file; the file's other line is an untrusted comment.
fn public_key(path: &Path) -> Result<String> {
    let text = read_text(path)?;
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("untrusted comment:"));
    Ok(line
        .with_context(|| format!("{} holds no public key", path.display()))?
        .to_owned())
}

fn run_show(args: &ShowArgs, ui: &Ui) -> Result<()> {
    let shown = show::show(open(&args.file)?)
        .with_context(|| format!("explaining {}", args.file.display()))?;
    if ui.json {
        return ui.print_json(&shown);
    }
    for line in shown.lines() {
        ui.line(line);
    }
    Ok(())
}

fn run_check(args: &CheckArgs, ui: &Ui) -> Result<()> {
    let mut kernel = None;
    if let Some(path) = &args.kernel {
        let bytes = read_capped(path)?;
        let info = check::kernel(&bytes)
            .with_context(|| format!("{} cannot be used as kernel", path.display()))
            .code(ExitCode::Refused)?;
        if let Some(config) = &args.kernel_config {
            check::kernel_config(&read_text(config)?)
                .with_context(|| format!("{} cannot be used as kernel", path.display()))
                .code(ExitCode::Refused)?;
        }
        ui.line(format_args!(
            "{}: Linux {}, boot protocol {}.{:02}",
            path.display(),
            info.version,
            info.protocol >> 8,
            info.protocol & 0xff
        ));
        kernel = Some(serde_json::json!({
            "file": path,
            "version": info.version,
            "protocol": format!("{}.{:02}", info.protocol >> 8, info.protocol & 0xff),
        }));
    }
    if let Some(path) = &args.loader {
        check::loader(&read_capped(path)?)
            .with_context(|| format!("{} cannot be used as loader", path.display()))
            .code(ExitCode::Refused)?;
        ui.line(format_args!("{}: static and stripped", path.display()));
    }
    if ui.json {
        ui.print_json(&serde_json::json!({ "ok": true, "kernel": kernel, "loader": args.loader }))?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<SlottedFile> {
    SlottedFile::parse(read_capped(path)?).with_context(|| format!("reading {}", path.display()))
}

fn read_capped(path: &Path) -> Result<Vec<u8>> {
    let reading = || format!("reading {}", path.display());
    let file = File::open(path).with_context(reading)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .with_context(reading)?;
    if bytes.len() as u64 > MAX_FILE {
        bail!(
            "{} exceeds {} MiB; it is no stage-one file",
            path.display(),
            MAX_FILE >> 20
        );
    }
    Ok(bytes)
}

fn read_text(path: &Path) -> Result<String> {
    let bytes = read_capped(path)?;
    String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8 text", path.display()))
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 2026-11-21 in Unix seconds, the date files carry unless one is given; moved with each release.
pub const RELEASE_DATE: i64 = 1_795_219_200;
/// Stage one is a few megabytes; this stops a mistaken path.
const MAX_FILE: u64 = 256 << 20;
