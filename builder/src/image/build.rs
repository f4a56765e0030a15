//! `image build`: from a recipe folder to a bootable ISO, or to a kernel with its initramfs, and on
//! into the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use anyhow::{Context, anyhow};
use indicatif::{HumanBytes, HumanDuration};
use serde::Serialize;

use super::PublishArgs;
use super::import::{Overrides, publish};
use crate::cli::Ui;
use crate::exit::{ExitCode, WithCode, coded};
use crate::import::Input;
use crate::recipe::debian::{self, Plan, SystemFiles};
use crate::recipe::iso::{self, LiveIso};
use crate::recipe::netboot::{self, NetbootFiles, Origin};
use crate::recipe::{Live, Make, Netboot, Recipe, mirror};
use crate::whole_file;

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

/// Longest note for whoever sits before the machine.
const MAX_SITE_NOTE: u64 = 64 * 1024;

#[derive(Serialize)]
struct Built<'a> {
    recipe: &'a str,
    version: &'a str,
    output: &'a Path,
    size: u64,
    source_date_epoch: u64,
    seconds: u64,
}

/// What came out.
struct Made {
    input: Input,
    output: PathBuf,
    size: u64,
    overrides: Overrides,
}

pub(super) fn run(args: BuildArgs, ui: &Ui) -> anyhow::Result<()> {
    let started = Instant::now();
    let recipe = Recipe::read(&args.recipe)
        .context("reading the recipe")
        .code(ExitCode::Usage)?;
    let spec = &recipe.spec;
    let epoch = match args.source_date_epoch {
        Some(epoch) => epoch,
        None => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .context("reading the clock")?
            .as_secs(),
    };
    let made = match &spec.make {
        Make::Live(live) => build_live(&recipe, live, epoch, &args, ui)?,
        Make::Netboot(netboot) => build_netboot(&recipe, netboot, &args, ui)?,
    };
    let version = debian::version(&recipe, epoch);
    if ui.json {
        ui.print_json(&Built {
            recipe: spec.name.as_str(),
            version: &version,
            output: &made.output,
            size: made.size,
            source_date_epoch: epoch,
            seconds: started.elapsed().as_secs(),
        })?;
    } else {
        ui.line(format_args!(
            "built {} {version}: {}, {}",
            spec.name,
            made.output.display(),
            HumanBytes(made.size)
        ));
    }

    let name = match (args.name, args.import) {
        (Some(name), _) => name,
        (None, true) => spec.name.to_string(),
        (None, false) => return Ok(()),
    };
    let publish_args = PublishArgs {
        label: args.publish.label.or_else(|| spec.label.clone()),
        description: args
            .publish
            .description
            .or_else(|| spec.description.clone()),
        ..args.publish
    };
    publish(&name, &made.input, made.overrides, &publish_args, false, ui)
}

fn build_live(
    recipe: &Recipe,
    live: &Live,
    epoch: u64,
    args: &BuildArgs,
    ui: &Ui,
) -> anyhow::Result<Made> {
    if args.installed.is_some() {
        return Err(unfit("--installed", "[netboot]"));
    }
    let spec = &recipe.spec;
    let site_note = args.site_note.as_deref().map(read_note).transpose()?;
    let sources = sources(recipe, args);
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{}.iso", spec.name)));
    ui.note(format!(
        "Building {} from {} packages and what they need; takes about {} minutes on two processors.\nArchive: {}",
        spec.name,
        live.system.packages.len(),
        live.system.expected_minutes,
        sources.first().map_or("", String::as_str)
    ));

    let plan = Plan {
        recipe,
        live,
        sources,
        epoch,
    };
    let started = Instant::now();
    let progress = ui.steps(&format!("building {}", spec.name), 3);
    let mut _kept = None;
    let system: SystemFiles = match &args.reuse {
        Some(dir) => plan.build_or_reuse(dir, &progress)?,
        None => {
            let dir = working_directory(args, ui)?;
            let system = plan.build(dir.path(), &progress)?;
            _kept = Some(dir);
            system
        }
    };
    progress.message("writing the ISO");
    let size = LiveIso {
        system: &system,
        name: spec.name.as_str(),
        boot: &live.boot,
        site_note,
        epoch,
    }
    .write(&output)?;
    iso::check(&output)?;
    progress.inc(1);
    progress.finish(&format!("done in {}", HumanDuration(started.elapsed())));
    Ok(Made {
        input: Input::LinuxIso {
            path: output.clone(),
            entry: None,
        },
        output,
        size,
        overrides: Overrides::default(),
    })
}

fn build_netboot(
    recipe: &Recipe,
    netboot: &Netboot,
    args: &BuildArgs,
    ui: &Ui,
) -> anyhow::Result<Made> {
    if args.site_note.is_some() {
        return Err(unfit("--site-note", "[system]"));
    }
    if args.reuse.is_some() {
        return Err(unfit("--reuse", "[system]"));
    }
    let spec = &recipe.spec;
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(spec.name.as_str()));
    let origin = match &args.installed {
        Some(root) => Origin::Installed(root.clone()),
        None => Origin::Archive(sources(recipe, args)),
    };
    ui.note(format!(
        "Building {} from the package {}; takes about {} minutes on two processors.\n{}",
        spec.name,
        netboot.package,
        netboot.expected_minutes,
        match &origin {
            Origin::Archive(sources) =>
                format!("Archive: {}", sources.first().map_or("", String::as_str)),
            Origin::Installed(root) => format!("Installed below {}", root.display()),
        }
    ));
    let started = Instant::now();
    let progress = ui.steps(&format!("building {}", spec.name), 2);
    let dir = working_directory(args, ui)?;
    let built = netboot::build(netboot, &spec.host, &origin, dir.path(), &progress)?;
    fs::create_dir_all(&output).with_context(|| format!("creating {}", output.display()))?;
    let files = NetbootFiles::in_dir(&output);
    let mut size = 0;
    for (from, to) in [
        (&built.kernel, &files.kernel),
        (&built.initrd, &files.initrd),
    ] {
        let bytes = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        size += bytes.len() as u64;
        whole_file::replace(to, &bytes, 0o644)
            .with_context(|| format!("writing {}", to.display()))?;
    }
    progress.finish(&format!("done in {}", HumanDuration(started.elapsed())));
    Ok(Made {
        input: Input::LinuxNetboot {
            kernel: files.kernel,
            initrd: vec![files.initrd],
        },
        output,
        size,
        overrides: Overrides {
            cmdline: Some(netboot.cmdline.clone()),
            ..Overrides::default()
        },
    })
}

fn sources(recipe: &Recipe, args: &BuildArgs) -> Vec<String> {
    let (suite, components) = recipe.spec.make.archive();
    mirror::sources(
        Path::new("/etc/apt"),
        args.mirror.as_deref(),
        suite,
        components,
    )
}

fn working_directory(args: &BuildArgs, ui: &Ui) -> anyhow::Result<tempfile::TempDir> {
    let mut dir = tempfile::Builder::new()
        .prefix("sparetire-image-")
        .tempdir()
        .context("creating a working directory")?;
    if args.keep {
        dir.disable_cleanup(true);
        ui.note(format!("working directory: {}", dir.path().display()));
    }
    Ok(dir)
}

fn unfit(option: &str, section: &str) -> anyhow::Error {
    coded(
        ExitCode::Usage,
        anyhow!("{option} is for recipes with {section}, which this one has not"),
    )
}

fn read_note(path: &Path) -> anyhow::Result<Vec<u8>> {
    use std::io::Read;
    let mut note = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_SITE_NOTE + 1).read_to_end(&mut note))
        .with_context(|| format!("reading {}", path.display()))?;
    if note.len() as u64 > MAX_SITE_NOTE {
        return Err(coded(
            ExitCode::Usage,
            anyhow!("{} is longer than {MAX_SITE_NOTE} bytes", path.display()),
        ));
    }
    Ok(note)
}
