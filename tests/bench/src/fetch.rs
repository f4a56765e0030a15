//! `bench fetch`: the same bytes from the same server over the same link, by `image fetch`,
//! aria2 and curl in turns.
//!
//! nginx serves the store directory, with the image as a plain file beside it. The image is
//! noise, so its pack has as many bytes as the file. `image fetch` verifies each chunk and
//! the whole, the others verify nothing. Everybody writes to memory, as stage one does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use vm_tests::host::{self, Background};

use crate::data::{self, Content};
use crate::link::Shape;
use crate::measured::{self, Cost};
use crate::network::{self, Network, SERVER, with_cuts};
use crate::site::{self, IMAGE, Site};
use crate::table::{Verdict, median, print_json};

/// Connections a program may make after cuts before the bench gives up on it.
const RESUMPTIONS: u32 = 1000;

/// `bench fetch`
#[derive(Args)]
pub(crate) struct Options {
    /// Only this link; repeatable [default: all]
    #[arg(long, value_enum)]
    link: Vec<Link>,
    /// Times each program fetches over each link
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Size in MiB instead of the link's own
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..65536))]
    mib: Option<u32>,
    /// TCP congestion control of both ends
    #[arg(long, default_value = "cubic")]
    congestion: String,
    /// Passed to `image fetch`: connections at the same time
    #[arg(long)]
    connections: Option<u8>,
    /// Passed to `image fetch`: MiB asked for in one request
    #[arg(long)]
    range_mib: Option<u8>,
    /// Only this program; repeatable [default: all]
    #[arg(long, value_enum)]
    program: Vec<Program>,
    /// Where to work [default: in memory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// The links there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Link {
    /// 1 Gbit/s, no delay, no loss
    Clean,
    /// 100 Mbit/s, 50 ms round trip, 1 % of packets lost
    Lossy,
    /// 20 Mbit/s, 20 ms round trip, every connection cut every 10 s
    Cut,
}

const LINKS: [Link; 3] = [Link::Clean, Link::Lossy, Link::Cut];

impl Link {
    fn about(self) -> &'static str {
        match self {
            Self::Clean => "1 Gbit/s",
            Self::Lossy => "100 Mbit/s, 50 ms, 1 % loss",
            Self::Cut => "20 Mbit/s, 20 ms, connections cut every 10 s",
        }
    }

    fn shape(self) -> Shape {
        match self {
            Self::Clean => Shape {
                rate: 1_000_000_000,
                round_trip: Duration::ZERO,
                loss: 0.0,
                queue: 1 << 20,
            },
            // Queues of one round trip at full rate, and of 100 ms where that would be little.
            Self::Lossy => Shape {
                rate: 100_000_000,
                round_trip: Duration::from_millis(50),
                loss: 0.01,
                queue: 625_000,
            },
            Self::Cut => Shape {
                rate: 20_000_000,
                round_trip: Duration::from_millis(20),
                loss: 0.0,
                queue: 250_000,
            },
        }
    }

    fn cuts(self) -> Option<Duration> {
        (self == Self::Cut).then(|| Duration::from_secs(10))
    }

    /// Long enough for steady state, and for three cuts.
    fn mib(self) -> u32 {
        match self {
            Self::Clean => 1024,
            Self::Lossy => 128,
            Self::Cut => 80,
        }
    }
}

/// Who fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Program {
    Sparetire,
    Aria2,
    Curl,
}

const PROGRAMS: [Program; 3] = [Program::Sparetire, Program::Aria2, Program::Curl];

impl Program {
    fn about(self) -> &'static str {
        match self {
            Self::Sparetire => "sparetire image fetch",
            Self::Aria2 => "aria2c -x16 -s16",
            Self::Curl => "curl",
        }
    }
}

/// What one program did over one link; medians over the rounds.
#[derive(Debug, Serialize)]
struct Row {
    program: Program,
    seconds: f64,
    /// Million bytes per second.
    mb_per_second: f64,
    /// Share of what TCP carries over the link at best.
    of_line_rate: f64,
    processor_seconds_per_gb: f64,
    /// Speed of `image fetch` beside this one's, round by round.
    sparetire_is_faster: Option<f64>,
    all_seconds: Vec<f64>,
}

/// One link.
#[derive(Debug, Serialize)]
struct Table {
    link: Link,
    about: &'static str,
    bytes: u64,
    line_rate_mb_per_second: f64,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Results {
    bench: &'static str,
    rounds: u32,
    congestion: String,
    links: Vec<Table>,
    verdicts: Vec<Verdict>,
}

/// Measures and prints; whether the targets are met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let links = if options.link.is_empty() {
        LINKS.to_vec()
    } else {
        options.link.clone()
    };
    let mut results = Results {
        bench: "fetch",
        rounds: options.rounds,
        congestion: options.congestion.clone(),
        links: Vec::new(),
        verdicts: Vec::new(),
    };
    for link in links {
        let table = measure(link, options).with_context(|| format!("link {:?}", link.about()))?;
        results.verdicts.extend(verdict(&table));
        if !options.json {
            print(&table);
        }
        results.links.push(table);
    }
    if options.json {
        print_json(&results)?;
    } else {
        results.verdicts.iter().for_each(Verdict::print);
    }
    Ok(results.verdicts.iter().all(|verdict| verdict.met))
}

/// None when a program that it takes was left out.
fn verdict(table: &Table) -> Option<Verdict> {
    let row = |program| table.rows.iter().find(|row| row.program == program);
    Some(match table.link {
        Link::Clean => Verdict::at_least(
            "share of line rate, 1 Gbit/s",
            row(Program::Sparetire)?.of_line_rate,
            0.97,
        ),
        Link::Lossy | Link::Cut => Verdict::at_least(
            format!("speed beside aria2, {}", table.about),
            row(Program::Aria2)?.sparetire_is_faster?,
            1.0,
        ),
    })
}

fn print(table: &Table) {
    println!(
        "\n{}: {} bytes, at best {:.2} MB/s",
        table.about, table.bytes, table.line_rate_mb_per_second
    );
    println!(
        "{:<24} {:>8} {:>8} {:>10} {:>10} {:>12}",
        "", "s", "MB/s", "of line", "CPU s/GB", "ours/theirs"
    );
    for row in &table.rows {
        let ratio = row.sparetire_is_faster;
        println!(
            "{:<24} {:>8.2} {:>8.2} {:>8.1} % {:>10.2} {:>12}",
            row.program.about(),
            row.seconds,
            row.mb_per_second,
            row.of_line_rate * 100.0,
            row.processor_seconds_per_gb,
            ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"))
        );
    }
}

fn measure(link: Link, options: &Options) -> Result<Table> {
    let site = Site::new(options.dir.as_deref())?;
    let mib = options.mib.unwrap_or(link.mib());
    let store = site.path("store");
    let plain = site.path("plain");
    data::write(&plain, mib as usize, Content::Noise)?;
    host::capture(&mut site.import(&plain, &store)).context("importing the image")?;
    std::fs::hard_link(&plain, store.join("plain")).context("putting the file into the store")?;

    let network = Network::new(&link.shape(), &options.congestion)?;
    let _server = serve(&network, &site, &store)?;
    let bytes = u64::from(mib) << 20;
    let programs: Vec<Program> = PROGRAMS
        .into_iter()
        .filter(|program| options.program.is_empty() || options.program.contains(program))
        .collect();
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); programs.len()];
    for _ in 0..options.rounds {
        for (&program, costs) in programs.iter().zip(&mut costs) {
            let output = site.path("fetched");
            let cost = with_cuts(&network, link.cuts(), || {
                fetch(program, &network, &site, &output, options)
            })
            .with_context(|| format!("fetching with {}", program.about()))?;
            // What is fast but wrong is no result.
            host::capture(Command::new("cmp").arg(&plain).arg(&output))
                .with_context(|| format!("comparing what {} fetched", program.about()))?;
            std::fs::remove_file(&output).context("removing what was fetched")?;
            costs.push(cost);
        }
    }
    let best = network::goodput(link.shape().rate);
    let ours = programs.iter().position(|who| *who == Program::Sparetire);
    let ours = ours.and_then(|at| costs.get(at));
    let rows = programs
        .iter()
        .zip(&costs)
        .map(|(&program, costs)| row(program, costs, ours, bytes, best))
        .collect();
    Ok(Table {
        link,
        about: link.about(),
        bytes,
        line_rate_mb_per_second: best / 1e6,
        rows,
    })
}

fn row(program: Program, costs: &[Cost], ours: Option<&Vec<Cost>>, bytes: u64, best: f64) -> Row {
    let seconds = median(costs.iter().map(|cost| cost.wall.as_secs_f64()));
    let processor = median(costs.iter().map(|cost| cost.processor.as_secs_f64()));
    let rate = bytes as f64 / seconds;
    Row {
        program,
        seconds,
        mb_per_second: rate / 1e6,
        of_line_rate: rate / best,
        processor_seconds_per_gb: processor / (bytes as f64 / 1e9),
        sparetire_is_faster: ours.map(|ours| {
            let both = costs.iter().zip(ours);
            median(both.map(|(theirs, ours)| theirs.wall.as_secs_f64() / ours.wall.as_secs_f64()))
        }),
        all_seconds: costs.iter().map(|cost| cost.wall.as_secs_f64()).collect(),
    }
}

/// nginx with the store as its root; answers when this returns.
fn serve(network: &Network, site: &Site, store: &Path) -> Result<Background> {
    let config = site.path("nginx.conf");
    let text = site::nginx_config(site, store, &format!("{SERVER}:80"));
    std::fs::write(&config, text).context("writing nginx's configuration")?;
    // Its workers outlive a killed master; in a process namespace of its own they do not.
    let mut nginx = network.at_server("unshare");
    nginx.args(["--pid", "--fork", "--kill-child", "nginx"]);
    nginx.args(["-e", "stderr", "-c"]).arg(&config);
    let nginx = Background::start_quiet(&nginx).context("starting nginx")?;
    let mut curl = network.at_client("curl");
    curl.args([
        "-sf",
        "--retry",
        "20",
        "--retry-connrefused",
        "--retry-max-time",
        "20",
    ]);
    curl.args(["-o", "/dev/null", "-r", "0-0", &url("plain")]);
    host::capture(&mut curl).context("waiting for nginx")?;
    Ok(nginx)
}

fn url(path: &str) -> String {
    format!("http://{SERVER}/{path}")
}

fn fetch(
    program: Program,
    network: &Network,
    site: &Site,
    output: &Path,
    options: &Options,
) -> Result<Cost> {
    match program {
        Program::Sparetire => {
            let mut command = network.at_client(site::sparetire().get_program());
            command.args(["image", "fetch", IMAGE, "--from", &url("")]);
            command.arg("--key").arg(site.public_key());
            command.arg("--output").arg(output);
            if let Some(connections) = options.connections {
                command.args(["--connections", &connections.to_string()]);
            }
            if let Some(mib) = options.range_mib {
                command.args(["--range-mib", &mib.to_string()]);
            }
            measured::run(&mut command)
        }
        Program::Aria2 => {
            let mut command = network.at_client("aria2c");
            // Pieces of 1 MiB let it use all its connections; it may try for ever, as ours.
            command.args(["--no-conf", "-x16", "-s16", "-k1M", "--max-tries=0"]);
            command.args(["--retry-wait=0", "--file-allocation=none", "--quiet"]);
            command.arg("--dir").arg(site.path(""));
            let name = output.file_name().context("the output has a name")?;
            command.arg("--out").arg(name).arg(url("plain"));
            measured::run(&mut command)
        }
        Program::Curl => curl(network, output),
    }
}

/// curl goes on where it was cut when it is called again; that is how scripts use it.
fn curl(network: &Network, output: &Path) -> Result<Cost> {
    let mut sum = Cost {
        wall: Duration::ZERO,
        processor: Duration::ZERO,
        peak: 0,
    };
    for _ in 0..RESUMPTIONS {
        let mut command = network.at_client("curl");
        command
            .args(["-sSf", "-C", "-", "-o"])
            .arg(output)
            .arg(url("plain"));
        let (cost, status, said) = measured::run_any(&command)?;
        sum.wall += cost.wall;
        sum.processor += cost.processor;
        sum.peak = sum.peak.max(cost.peak);
        if status.success() {
            return Ok(sum);
        }
        // 18: fewer bytes than announced, 52: no answer, 56: failure while receiving.
        ensure!(
            matches!(status.code(), Some(7 | 18 | 52 | 56)),
            "curl failed ({status}): {}",
            said.trim()
        );
    }
    bail!("curl did not arrive after {RESUMPTIONS} resumptions")
}
