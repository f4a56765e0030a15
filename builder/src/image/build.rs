//! `image build`: from a recipe folder to a bootable ISO, and on into the store.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use anyhow::{Context, anyhow};
use indicatif::{HumanBytes, HumanDuration};
use serde::Serialize;

use super::import::{Overrides, publish};
use super::{BuildArgs, PublishArgs};
use crate::cli::Ui;
use crate::exit::{ExitCode, WithCode, coded};
use crate::import::Input;
use crate::recipe::debian::{Plan, SystemFiles};
use crate::recipe::iso::{self, LiveIso};
use crate::recipe::{Recipe, mirror};

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

pub(super) fn run(args: BuildArgs, ui: &Ui) -> anyhow::Result<()> {
    let started = Instant::now();
    let recipe = Recipe::read(&args.recipe)
        .context("reading the recipe")
        .code(ExitCode::Usage)?;
    let spec = &recipe.spec;
    let site_note = args.site_note.as_deref().map(read_note).transpose()?;
    let epoch = match args.source_date_epoch {
        Some(epoch) => epoch,
        None => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .context("reading the clock")?
            .as_secs(),
    };
    let sources = mirror::sources(
        Path::new("/etc/apt"),
        args.mirror.as_deref(),
        &spec.system.suite,
        &spec.system.components,
    );
    let output = args
        .output
        .unwrap_or_else(|| PathBuf::from(format!("{}.iso", spec.name)));
    ui.note(format!(
        "Building {} from {} packages and what they need; takes about {} minutes on two processors.\nArchive: {}",
        spec.name,
        spec.system.packages.len(),
        spec.system.expected_minutes,
        sources.first().map_or("", String::as_str)
    ));

    let plan = Plan {
        recipe: &recipe,
        sources,
        epoch,
    };
    let progress = ui.steps(&format!("building {}", spec.name), 3);
    let mut _kept = None;
    let system: SystemFiles = match &args.reuse {
        Some(dir) => plan.build_or_reuse(dir, &progress)?,
        None => {
            let mut dir = tempfile::Builder::new()
                .prefix("sparetire-image-")
                .tempdir()
                .context("creating a working directory")?;
            if args.keep {
                dir.disable_cleanup(true);
                ui.note(format!("working directory: {}", dir.path().display()));
            }
            let system = plan.build(dir.path(), &progress)?;
            _kept = Some(dir);
            system
        }
    };
    progress.message("writing the ISO");
    let size = LiveIso {
        system: &system,
        name: spec.name.as_str(),
        boot: &spec.boot,
        site_note,
        epoch,
    }
    .write(&output)?;
    iso::check(&output)?;
    progress.inc(1);
    let elapsed = started.elapsed();
    progress.finish(&format!("done in {}", HumanDuration(elapsed)));

    if ui.json {
        ui.print_json(&Built {
            recipe: spec.name.as_str(),
            version: &plan.version(),
            output: &output,
            size,
            source_date_epoch: epoch,
            seconds: elapsed.as_secs(),
        })?;
    } else {
        ui.line(format_args!(
            "built {} {}: {}, {}",
            spec.name,
            plan.version(),
            output.display(),
            HumanBytes(size)
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
    let input = Input::LinuxIso {
        path: output,
        entry: None,
    };
    publish(
        &name,
        &input,
        Overrides::default(),
        &publish_args,
        false,
        ui,
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
