//! 1,000 sessions in one process, each read at 600 KB/s in commands of 64 KiB: processor time, memory, and the slowest session.
//!
//! The clients are a process of their own, so that what is counted here is the server's alone. They send the next command when
//! the rate allows it and the last answer is whole; who falls behind does not wait. 1 KB = 1,000 bytes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::firmware::{self, IMAGE};

const SESSIONS: u32 = 1000;
/// Bytes per second and session.
const RATE: f64 = 600_000.0;
const SIZE: usize = 64 << 10;
const DURATION: Duration = Duration::from_secs(20);
/// Ticks per second in /proc, the same on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

pub(crate) fn run(json: bool) {
    raise_file_limit();
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program)
        .arg("scale-firmware")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || lines.next().expect("the other process ended").unwrap();
    let port: u16 = line().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let image = firmware::image();
    let guard = runtime.enter();
    let handles: Vec<_> = (0..SESSIONS)
        .map(|_| firmware::spawn(port, image.clone()))
        .collect();
    drop(guard);
    assert_eq!(line(), "attached");
    let (cpu, begun) = (cpu_seconds(), Instant::now());
    let rates: serde_json::Value = serde_json::from_str(&line()).unwrap();
    let (cpu, wall) = (cpu_seconds() - cpu, begun.elapsed().as_secs_f64());
    let mut own = handles[0].statistics().service_times;
    for handle in &handles[1..] {
        own.merge(&handle.statistics().service_times);
    }
    let peak = peak_memory();
    child.wait().unwrap();
    let number = |name: &str| rates[name].as_f64().unwrap();
    let (slowest, total) = (number("slowest"), number("total"));
    let row = serde_json::json!({
        "sessions": SESSIONS,
        "target_kb_per_s": RATE / 1000.0,
        "slowest_kb_per_s": slowest / 1000.0,
        "total_mb_per_s": total / 1e6,
        "worst_command_ms": number("worst_ms"),
        "seconds": wall,
        "cpu_seconds": cpu,
        "cores": cpu / wall,
        "peak_rss_mib": peak,
        "own_us_median": own.quantile(0.5),
        "own_us_p99": own.quantile(0.99),
    });
    if json {
        println!("{row}");
        return;
    }
    println!(
        "sessions            {SESSIONS}, each at {:.0} KB/s in commands of {} KiB",
        RATE / 1000.0,
        SIZE >> 10
    );
    println!("slowest session     {:.1} KB/s", slowest / 1000.0);
    println!(
        "all together        {:.0} MB/s over {wall:.1} s",
        total / 1e6
    );
    println!("worst command       {:.0} ms", number("worst_ms"));
    println!("processor           {cpu:.1} s, {:.2} cores", cpu / wall);
    println!("peak memory         {peak:.0} MiB");
    println!(
        "own time            {} µs median, {} µs 99 %",
        row["own_us_median"], row["own_us_p99"]
    );
}

/// All clients. Prints its port, then "attached", then what they got.
pub(crate) fn firmware() {
    raise_file_limit();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        let mut streams = JoinSet::new();
        for _ in 0..SESSIONS {
            let (mut stream, _) = listener.accept().await.unwrap();
            streams.spawn(async move {
                firmware::attach(&mut stream).await;
                stream
            });
        }
        let streams = streams.join_all().await;
        println!("attached");
        let begun = Instant::now() + Duration::from_millis(100);
        let mut clients = JoinSet::new();
        for (number, stream) in (0..).zip(streams) {
            // Spread over the time of one command.
            let step = Duration::from_secs_f64(SIZE as f64 / RATE);
            clients.spawn(client(
                stream,
                begun + step * number / SESSIONS,
                step,
                number,
            ));
        }
        let clients = clients.join_all().await;
        let rates = || clients.iter().map(|client| client.0);
        let worst = clients.iter().map(|client| client.1).max().unwrap();
        let row = serde_json::json!({
            "slowest": rates().fold(f64::INFINITY, f64::min),
            "total": rates().sum::<f64>(),
            "worst_ms": worst.as_secs_f64() * 1000.0,
        });
        println!("{row}");
    });
}

/// Bytes per second over the whole time, and the longest that one command took.
async fn client(
    mut stream: tokio::net::TcpStream,
    begun: Instant,
    step: Duration,
    number: u32,
) -> (f64, Duration) {
    let mut reply = vec![0; firmware::reply_length(SIZE)];
    let blocks = (SIZE / 2048) as u16;
    let mut worst = Duration::ZERO;
    let count = (DURATION.as_secs_f64() / step.as_secs_f64()) as u32;
    for command in 0..count {
        sleep_until(begun + step * command).await;
        let lba = (number + command) * u32::from(blocks) % (IMAGE / 2048);
        let sent = Instant::now();
        let message = firmware::read(command + 2, lba, blocks);
        stream.write_all(&message).await.unwrap();
        stream.read_exact(&mut reply).await.unwrap();
        worst = worst.max(sent.elapsed());
        assert_eq!((reply[0], reply[3]), (0x54, 0));
    }
    // At its rate, the last answer is there when the next command would be due.
    let due = begun + step * count;
    let elapsed = Instant::now().max(due) - begun;
    let bytes = f64::from(count) * SIZE as f64;
    (bytes / elapsed.as_secs_f64(), worst)
}

/// A socket for each session, and some files.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = u64::from(SESSIONS) + 200;
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised).expect("more open files");
    }
}

/// User and system time of this process (proc(5), fields 14 and 15 of stat).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let times = fields.split_whitespace().skip(11).take(2);
    times
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum::<f64>()
        / TICKS
}

/// MiB of memory that this process had at its peak.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1024.0
}
