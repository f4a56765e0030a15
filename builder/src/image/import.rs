//! `image import`: from the command line to [`crate::import`], and its report in words.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, anyhow};
use indicatif::HumanBytes;
use sparetire_manifest::{Medium, Placement};

use super::{KindArg, MediumArg, PlacementArg, PublishArgs, days, image_name, trusted_keys};
use crate::cli::Ui;
use crate::exit::{ExitCode, coded};
use crate::import::{self, Input, Options, Report};
use crate::store::Store;
use crate::transfer;

/// Arguments of `image import`.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// ISO file, or a bundle from `image export`; not used with `--kind linux-netboot`
    #[arg(value_name = "FILE", required_unless_present = "kernel")]
    pub(crate) file: Option<PathBuf>,
    /// Name of the image: lower-case letters, digits, `.`, `_`, `-`; a bundle brings its own
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Public key file or `RW...` line that may have signed a bundle [default: the user's own key]
    #[arg(long, value_name = "KEY")]
    pub(crate) trust_key: Vec<String>,
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

pub(super) fn run(args: ImportArgs, ui: &Ui) -> anyhow::Result<()> {
    // What cannot be read is complained of below, as what it was meant to be.
    if let Some(path) = &args.file
        && transfer::is_bundle(path).unwrap_or(false)
    {
        return receive(path, &args, ui);
    }
    let name = args.name.ok_or_else(|| {
        coded(
            ExitCode::Usage,
            anyhow!("--name is missing: only a bundle brings its own"),
        )
    })?;
    let input = match (args.kind, args.file, args.kernel) {
        (KindArg::LinuxIso, Some(path), None) => Input::LinuxIso {
            path,
            entry: args.entry,
        },
        (KindArg::LinuxNetboot, None, Some(kernel)) => Input::LinuxNetboot {
            kernel,
            initrd: args.initrd,
        },
        (KindArg::LinuxIso, ..) => {
            return Err(coded(
                ExitCode::Usage,
                anyhow!("a linux-iso is one FILE; --kernel belongs to --kind linux-netboot"),
            ));
        }
        (KindArg::LinuxNetboot, ..) => {
            return Err(coded(
                ExitCode::Usage,
                anyhow!("a linux-netboot image is made of --kernel and --initrd, without FILE"),
            ));
        }
    };
    let overrides = Overrides {
        cmdline: args.cmdline,
        append: args.append,
        medium: match args.medium {
            MediumArg::Auto => None,
            MediumArg::None => Some(Medium::None),
            MediumArg::LiveBoot => Some(Medium::LiveBoot),
            MediumArg::Casper => Some(Medium::Casper),
            MediumArg::Dracut => Some(Medium::Dracut),
            MediumArg::Archiso => Some(Medium::Archiso),
        },
        placement: match args.placement {
            PlacementArg::Auto => None,
            PlacementArg::Initramfs => Some(Placement::Initramfs),
            PlacementArg::Pmem => Some(Placement::Pmem),
        },
    };
    publish(&name, &input, overrides, &args.publish, args.dry_run, ui)
}

fn receive(path: &std::path::Path, args: &ImportArgs, ui: &Ui) -> anyhow::Result<()> {
    if args.name.is_some() {
        return Err(coded(
            ExitCode::Usage,
            anyhow!(
                "{} is a bundle, which brings its own names; leave --name out",
                path.display()
            ),
        ));
    }
    let trusted = trusted_keys(&args.trust_key)?;
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let size = file.metadata().map_or(0, |found| found.len());
    let progress = ui.progress("importing", size);
    let now = SystemTime::now().into();
    let file = std::io::BufReader::with_capacity(1 << 20, file);
    let write = &args.publish.write;
    let received = if args.dry_run {
        transfer::receive(file, None, &trusted, now, &progress)
    } else {
        let store = Store::create(&write.store.path()?).context("opening the store")?;
        let lock = write.lock(&store, ui)?;
        transfer::receive(file, Some(&lock), &trusted, now, &progress)
    };
    let received = received.with_context(|| format!("importing {}", path.display()))?;
    progress.finish("done");
    if ui.json {
        return ui.print_json(&received);
    }
    for version in &received.versions {
        let what = match (received.dry_run, version.new) {
            (true, _) => "holds",
            (false, true) => "imported",
            (false, false) => "is there already",
        };
        let newest = if version.latest { " (newest)" } else { "" };
        ui.line(format_args!(
            "{} version {}{newest}: {what}",
            version.name, version.version
        ));
    }
    Ok(())
}

/// What the command line says against the input's own boot configuration.
#[derive(Default)]
pub(super) struct Overrides {
    pub(super) cmdline: Option<String>,
    pub(super) append: Option<String>,
    pub(super) medium: Option<Medium>,
    pub(super) placement: Option<Placement>,
}

pub(super) fn publish(
    name: &str,
    input: &Input,
    overrides: Overrides,
    args: &PublishArgs,
    dry_run: bool,
    ui: &Ui,
) -> anyhow::Result<()> {
    let options = Options {
        name: image_name(name)?,
        version: args.version,
        label: args.label.clone(),
        description: args.description.clone(),
        valid: args.expires_days.map(days),
        latest_valid: days(args.latest_days),
        cmdline: overrides.cmdline,
        append: overrides.append,
        medium: overrides.medium,
        placement: overrides.placement,
        now: SystemTime::now().into(),
        wait: !args.write.no_wait,
    };
    let root = args.write.store.path()?;
    let files = match input {
        Input::LinuxIso { path, .. } => vec![path],
        Input::LinuxNetboot { kernel, initrd } => std::iter::once(kernel).chain(initrd).collect(),
    };
    let mut total = 0;
    for file in files {
        let found =
            std::fs::metadata(file).with_context(|| format!("looking at {}", file.display()))?;
        total += found.len();
    }
    let report = if dry_run {
        let progress = ui.progress(&format!("reading {name}"), total);
        let report = import::dry_run(&root, input, &options, &progress)?;
        progress.finish("done, nothing written");
        report
    } else {
        // Before the long part: a wrong password should not cost minutes.
        let key = args.sign.signing_key()?;
        let progress = ui.progress(&format!("importing {name}"), total);
        let report = import::import(&root, input, &options, &key, &progress)?;
        progress.finish("done");
        report
    };
    if ui.json {
        return ui.print_json(&report);
    }
    print(&report, ui);
    Ok(())
}

fn print(report: &Report, ui: &Ui) {
    let verb = if report.dry_run {
        "would import"
    } else {
        "imported"
    };
    let bytes = HumanBytes;
    ui.line(format_args!(
        "{verb} {} version {}: {}, {} chunks",
        report.name,
        report.version,
        bytes(report.size),
        report.chunks
    ));
    ui.line(format_args!("  sha256   {}", report.sha256));
    ui.line(format_args!(
        "  stored   {} new ({} of the image), {} shared, {} zeros",
        bytes(report.stored_bytes),
        bytes(report.new_bytes),
        bytes(report.shared_bytes),
        bytes(report.hole_bytes)
    ));
    ui.line(format_args!("  kernel   {}", report.boot.kernel.path));
    for initrd in &report.boot.initrd {
        ui.line(format_args!("  initrd   {}", initrd.path));
    }
    ui.line(format_args!("  cmdline  {}", report.boot.cmdline));
    ui.line(format_args!(
        "  medium   {}, min. RAM {}",
        super::show::medium_text(report.boot.medium),
        bytes(report.min_ram)
    ));
    for note in &report.notes {
        ui.line(format_args!("  note     {note}"));
    }
}
