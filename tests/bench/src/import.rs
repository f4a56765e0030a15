//! `bench import`: the same file into a store of ours and into one of casync's, in turns.
//!
//! Both cut the file into chunks of 16, 64 and 256 KiB (least, average, most), compress with
//! zstd and write store and index. casync uses one processor, ours all. casync names chunks
//! by SHA-512/256 unless told; here it is told to use SHA-256, as ours does. Ours takes the
//! digest of the whole and of the packs besides, signs, and syncs what it writes.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::data::{self, Content};
use crate::measured::{self, Cost};
use crate::site::Site;
use crate::table::{Verdict, median, print_json};

/// Most memory in use at a time that is still fine, in MiB.
const MEMORY: f64 = 128.0;

/// `bench import`
#[derive(Args)]
pub(crate) struct Options {
    /// Size of the made-up image in MiB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..65536))]
    mib: u32,
    /// Times each program imports
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where to work [default: in memory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// What one program did; medians over the rounds.
#[derive(Debug, Serialize)]
struct Row {
    program: &'static str,
    seconds: f64,
    /// Million bytes per second.
    mb_per_second: f64,
    processor_seconds: f64,
    /// The highest of all rounds.
    peak_mib: f64,
    store_bytes: u64,
    /// Speed beside that of `image import`, round by round.
    sparetire_is_faster: f64,
    all_seconds: Vec<f64>,
}

#[derive(Serialize)]
struct Results {
    bench: &'static str,
    rounds: u32,
    bytes: u64,
    rows: Vec<Row>,
    verdicts: Vec<Verdict>,
}

/// Measures and prints; whether the targets are met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let site = Site::new(options.dir.as_deref())?;
    let image = site.path("image");
    data::write(&image, options.mib as usize, Content::Mixture)?;
    let bytes = u64::from(options.mib) << 20;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut sizes = [0, 0];
    for _ in 0..options.rounds {
        let store = site.path("store");
        ours.push(measured::run(&mut site.import(&image, &store)).context("image import")?);
        sizes[0] = used(&store)?;
        std::fs::remove_dir_all(&store).context("removing the store")?;

        let store = site.path("store.castr");
        let mut casync = Command::new("casync");
        casync
            .args(["make", "--digest=sha256", "--store"])
            .arg(&store);
        casync.arg(site.path("image.caibx")).arg(&image);
        theirs.push(measured::run(&mut casync).context("casync make")?);
        sizes[1] = used(&store)?;
        std::fs::remove_dir_all(&store).context("removing the store")?;
    }
    let [our_size, their_size] = sizes;
    let rows = vec![
        row("sparetire image import", &ours, &ours, bytes, our_size),
        row("casync make", &theirs, &ours, bytes, their_size),
    ];
    let verdicts = vec![
        Verdict::at_least(
            "speed beside casync",
            rows.last().map_or(0.0, |row| row.sparetire_is_faster),
            1.5,
        ),
        Verdict::at_most(
            "peak memory of import, MiB",
            rows.first().map_or(f64::MAX, |row| row.peak_mib),
            MEMORY,
        ),
    ];
    let results = Results {
        bench: "import",
        rounds: options.rounds,
        bytes,
        rows,
        verdicts,
    };
    if options.json {
        print_json(&results)?;
    } else {
        print(&results);
    }
    Ok(results.verdicts.iter().all(|verdict| verdict.met))
}

fn print(results: &Results) {
    println!("\n{} bytes", results.bytes);
    println!(
        "{:<24} {:>8} {:>8} {:>8} {:>10} {:>12} {:>12}",
        "", "s", "MB/s", "CPU s", "peak MiB", "store bytes", "ours/theirs"
    );
    for row in &results.rows {
        println!(
            "{:<24} {:>8.2} {:>8.0} {:>8.2} {:>10.0} {:>12} {:>12.2}",
            row.program,
            row.seconds,
            row.mb_per_second,
            row.processor_seconds,
            row.peak_mib,
            row.store_bytes,
            row.sparetire_is_faster
        );
    }
    results.verdicts.iter().for_each(Verdict::print);
}

fn row(program: &'static str, costs: &[Cost], ours: &[Cost], bytes: u64, store_bytes: u64) -> Row {
    let seconds = median(costs.iter().map(|cost| cost.wall.as_secs_f64()));
    Row {
        program,
        seconds,
        mb_per_second: bytes as f64 / seconds / 1e6,
        processor_seconds: median(costs.iter().map(|cost| cost.processor.as_secs_f64())),
        peak_mib: costs.iter().map(|cost| cost.peak).max().unwrap_or(0) as f64 / f64::from(1 << 20),
        store_bytes,
        sparetire_is_faster: median(
            costs
                .iter()
                .zip(ours)
                .map(|(theirs, ours)| theirs.wall.as_secs_f64() / ours.wall.as_secs_f64()),
        ),
        all_seconds: costs.iter().map(|cost| cost.wall.as_secs_f64()).collect(),
    }
}

/// Bytes in files below `dir`.
fn used(dir: &std::path::Path) -> Result<u64> {
    let context = || format!("listing {}", dir.display());
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).with_context(context)? {
        let entry = entry.with_context(context)?;
        let found = entry.metadata().with_context(context)?;
        sum += if found.is_dir() {
            used(&entry.path())?
        } else {
            found.len()
        };
    }
    Ok(sum)
}
