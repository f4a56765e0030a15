//! `bench serve`: wrk asks `sparetire serve` and nginx for files of the same store, in turns.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use vm_tests::host::{self, Background};

use crate::data::{self, Content};
use crate::site::{self, IMAGE, Site};
use crate::table::{Verdict, median, print_json};

/// Size of the image in MiB: fits the page cache, so that no disk is measured.
const MIB: usize = 256;
/// Time for a server to answer its first request.
const START: Duration = Duration::from_secs(20);

/// `bench serve`
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds that each load runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..600))]
    seconds: u32,
    /// Times each load runs against each server
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Connections that ask at the same time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..200))]
    connections: u32,
    /// Where to work [default: the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Load {
    /// `latest.json`, over and over
    SmallFile,
    /// 1 MiB at random places of a pack
    Ranges,
}

const LOADS: [Load; 2] = [Load::SmallFile, Load::Ranges];

/// One load against one server; medians over the rounds.
#[derive(Debug, Serialize)]
struct Row {
    load: Load,
    server: &'static str,
    requests_per_second: f64,
    /// Million bytes per second.
    mb_per_second: f64,
    /// Processor seconds of the server per GB sent.
    processor_seconds_per_gb: f64,
}

#[derive(Serialize)]
struct Results {
    bench: &'static str,
    rounds: u32,
    connections: u32,
    rows: Vec<Row>,
    /// Requests per second beside nginx, small file.
    requests_ratio: f64,
    verdicts: Vec<Verdict>,
}

/// A running server.
struct Server {
    name: &'static str,
    process: Background,
    port: u16,
    /// Where the store is on this server.
    prefix: &'static str,
}

/// What wrk counted in one run, and what the server used meanwhile.
#[derive(Debug, Clone, Copy)]
struct Count {
    requests_per_second: f64,
    bytes_per_second: f64,
    processor_per_byte: f64,
}

/// Measures and prints; whether the target is met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    // A real file system: what is in memory already is read in another way there than in tmpfs.
    let dir = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let site = Site::new(Some(&dir))?;
    let store = site.path("store");
    let image = site.path("image");
    data::write(&image, MIB, Content::Noise)?;
    host::capture(&mut site.import(&image, &store)).context("importing the image")?;
    std::fs::remove_file(&image).context("removing the image")?;
    let (pack, size) = largest_pack(&store)?;
    let servers = [ours(&site, &store)?, nginx(&site, &store)?];
    let mut counts = vec![Vec::new(); LOADS.len() * servers.len()];
    for _ in 0..options.rounds {
        for (load, counts) in LOADS.into_iter().zip(counts.chunks_mut(servers.len())) {
            for (server, counts) in servers.iter().zip(counts) {
                let script = script(&site, load, server.prefix, &pack, size)?;
                let count = count(server, load, &script, options)
                    .with_context(|| format!("loading {}", server.name))?;
                counts.push(count);
            }
        }
    }
    let results = results(options, &servers, &counts);
    if options.json {
        print_json(&results)?;
    } else {
        print(&results);
    }
    Ok(results.verdicts.iter().all(|verdict| verdict.met))
}

fn results(options: &Options, servers: &[Server], counts: &[Vec<Count>]) -> Results {
    let cases = LOADS
        .into_iter()
        .flat_map(|load| servers.iter().map(move |server| (load, server.name)));
    let rows: Vec<Row> = cases
        .zip(counts)
        .map(|((load, server), counts)| Row {
            load,
            server,
            requests_per_second: median(counts.iter().map(|count| count.requests_per_second)),
            mb_per_second: median(counts.iter().map(|count| count.bytes_per_second)) / 1e6,
            processor_seconds_per_gb: median(counts.iter().map(|count| count.processor_per_byte))
                * 1e9,
        })
        .collect();
    let ratio = |load: usize, of: fn(&Count) -> f64| {
        let pair = counts.get(load * servers.len()..).unwrap_or_default();
        match pair {
            [ours, theirs, ..] => median(
                ours.iter()
                    .zip(theirs)
                    .map(|(ours, theirs)| of(ours) / of(theirs)),
            ),
            _ => 0.0,
        }
    };
    Results {
        bench: "serve",
        rounds: options.rounds,
        connections: options.connections,
        rows,
        requests_ratio: ratio(0, |count| count.requests_per_second),
        verdicts: vec![Verdict::at_least(
            "MB/s beside nginx, ranges of 1 MiB",
            ratio(1, |count| count.bytes_per_second),
            0.8,
        )],
    }
}

fn print(results: &Results) {
    println!(
        "\n{} connections\n{:<24} {:<18} {:>12} {:>10} {:>10}",
        results.connections, "", "", "requests/s", "MB/s", "CPU s/GB"
    );
    for row in &results.rows {
        let load = match row.load {
            Load::SmallFile => "latest.json",
            Load::Ranges => "ranges of 1 MiB",
        };
        println!(
            "{load:<24} {:<18} {:>12.0} {:>10.1} {:>10.2}",
            row.server, row.requests_per_second, row.mb_per_second, row.processor_seconds_per_gb
        );
    }
    println!(
        "      requests/s beside nginx, latest.json: {:.2}",
        results.requests_ratio
    );
    results.verdicts.iter().for_each(Verdict::print);
}

/// Path below the store, and length.
fn largest_pack(store: &Path) -> Result<(String, u64)> {
    let packs = store.join("packs");
    let mut largest = None;
    for folder in std::fs::read_dir(&packs).context("listing packs")? {
        let folder = folder.context("listing packs")?.path();
        if !folder.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&folder).context("listing packs")? {
            let path = file.context("listing packs")?.path();
            let size = path.metadata().context("looking at a pack")?.len();
            if largest.as_ref().is_none_or(|(_, most)| size > *most) {
                largest = Some((path, size));
            }
        }
    }
    let (path, size) = largest.context("the store has no packs")?;
    let path = path.strip_prefix(store).context("naming a pack")?;
    Ok((format!("/{}", path.display()), size))
}

/// What wrk runs for each request, and how it prints what it counted.
fn script(site: &Site, load: Load, prefix: &str, pack: &str, size: u64) -> Result<PathBuf> {
    let text = match load {
        Load::SmallFile => format!("wrk.path = '{prefix}/images/{IMAGE}/latest.json'\n"),
        Load::Ranges => format!(
            "local last = {}\n\
             request = function()\n  local first = math.random(0, last)\n  \
             return wrk.format('GET', '{prefix}{pack}', {{Range = 'bytes=' .. first .. '-' .. (first + 1048575)}})\n\
             end\n",
            size.checked_sub(1 << 20).context("the pack is too small")?
        ),
    };
    let path = site.path("load.lua");
    let done = "done = function(summary, latency, requests)\n  \
         local e = summary.errors\n  \
         print(string.format('counted %d %d %d %d', summary.duration, summary.requests, summary.bytes,\n    \
         e.connect + e.read + e.write + e.status + e.timeout))\nend\n";
    std::fs::write(&path, text + done).context("writing wrk's script")?;
    Ok(path)
}

fn count(server: &Server, load: Load, script: &Path, options: &Options) -> Result<Count> {
    let before = processor(server)?;
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", &format!("-c{}", options.connections)]);
    wrk.arg(format!("-d{}s", options.seconds))
        .arg("-s")
        .arg(script);
    wrk.arg(format!("http://127.0.0.1:{}", server.port));
    let said = host::capture(&mut wrk)?;
    let used = processor(server)? - before;
    let numbers: Vec<f64> = said
        .lines()
        .find_map(|line| line.strip_prefix("counted "))
        .with_context(|| format!("wrk counted nothing: {said}"))?
        .split(' ')
        .filter_map(|number| number.parse().ok())
        .collect();
    let [micros, requests, bytes, errors] = numbers[..] else {
        bail!("wrk counted something else: {said}");
    };
    if errors > 0.0 || requests < 1.0 {
        bail!("{errors} of {requests} requests failed: {said}");
    }
    // wrk counts refusals, but would take a whole pack for a range.
    let mean = bytes / requests;
    if load == Load::Ranges && !(f64::from(1 << 20)..f64::from((1 << 20) + 4096)).contains(&mean) {
        bail!("answers have {mean:.0} bytes on average instead of 1 MiB: {said}");
    }
    let seconds = micros / 1e6;
    Ok(Count {
        requests_per_second: requests / seconds,
        bytes_per_second: bytes / seconds,
        processor_per_byte: used / bytes,
    })
}

fn ours(site: &Site, store: &Path) -> Result<Server> {
    let port = free_port()?;
    let mut command = site::sparetire();
    command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--store"]);
    command.arg(store).arg("--state").arg(site.path("state"));
    start("sparetire serve", &command, port, "/store")
}

fn nginx(site: &Site, store: &Path) -> Result<Server> {
    let port = free_port()?;
    let config = site.path("nginx.conf");
    let text = crate::site::nginx_config(site, store, &format!("127.0.0.1:{port}"));
    std::fs::write(&config, text).context("writing nginx's configuration")?;
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-c"]).arg(&config);
    start("nginx", &command, port, "")
}

/// Free when asked; nobody else here takes one before the server does.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a port")?;
    Ok(listener.local_addr().context("looking for a port")?.port())
}

fn start(name: &'static str, command: &Command, port: u16, prefix: &'static str) -> Result<Server> {
    let process = Background::start_quiet(command).with_context(|| format!("starting {name}"))?;
    let end = Instant::now() + START;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if Instant::now() > end {
            bail!("{name} does not answer on port {port}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Server {
        name,
        process,
        port,
        prefix,
    })
}

/// Processor seconds that the server and its children have used (proc(5), `stat`).
fn processor(server: &Server) -> Result<f64> {
    let main = u64::from(server.process.id());
    let mut ticks = 0;
    for entry in std::fs::read_dir("/proc").context("listing processes")? {
        let entry = entry.context("listing processes")?;
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u64>().ok()) else {
            continue;
        };
        // Others come and go meanwhile.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // The name in parentheses may hold anything; fields after it are numbered from 3.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_whitespace().collect())
            .unwrap_or_default();
        let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse().ok());
        if id == main || field(4) == Some(main) {
            ticks += field(14).unwrap_or(0) + field(15).unwrap_or(0);
        }
    }
    // A tick for user space is always a hundredth of a second on x86.
    Ok(ticks as f64 / 100.0)
}
