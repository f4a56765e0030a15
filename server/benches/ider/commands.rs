//! One session: time per command and rate at four sizes, against a bare socket that sends as many bytes for the same request.
//!
//! Both are measured in turns within one run, by the same client. The server's own time is what it counts itself: from the
//! command received to its answer whole in the output buffer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sparetire_server::redirection::block_source::{BlockSource, FileImage};
use sparetire_server::redirection::ider::IderHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::firmware::{self, IMAGE};

const SIZES: [usize; 4] = [2 << 10, 8 << 10, 64 << 10, 128 << 10];
/// Turns of each kind per size, and how long one takes.
const TURNS: usize = 8;
const TURN: Duration = Duration::from_millis(150);

/// A client's end of one of the things that are compared.
struct Line {
    stream: TcpStream,
    reply: Vec<u8>,
    sequence: u32,
    times: Vec<Duration>,
}

impl Line {
    fn new(stream: TcpStream, size: usize) -> Self {
        Self {
            stream,
            reply: vec![0; firmware::reply_length(size)],
            sequence: 2,
            times: Vec::new(),
        }
    }

    /// One command; where it read.
    fn ask(&mut self, size: usize) -> usize {
        let blocks = size / 2048;
        let places = IMAGE as usize / size;
        let place = (self.sequence as usize).wrapping_mul(7919) % places;
        let lba = place * blocks;
        let message = firmware::read(self.sequence, lba as u32, blocks as u16);
        self.sequence += 1;
        self.stream.write_all(&message).unwrap();
        self.stream.read_exact(&mut self.reply).unwrap();
        lba * 2048
    }

    fn turn(&mut self, size: usize) {
        let end = Instant::now() + TURN;
        let mut begun = Instant::now();
        while begun < end {
            self.ask(size);
            let now = Instant::now();
            self.times.push(now - begun);
            begun = now;
        }
    }

    fn median(&mut self) -> Duration {
        self.times.sort_unstable();
        self.times[self.times.len() / 2]
    }

    /// Bytes of data per second, all turns together.
    fn rate(&self, size: usize) -> f64 {
        let time: Duration = self.times.iter().sum();
        (size * self.times.len()) as f64 / time.as_secs_f64()
    }
}

pub(crate) fn run(json: bool) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pattern = firmware::pattern();
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(&pattern).unwrap();
    let sources: [(&str, Arc<dyn BlockSource>); 2] = [
        ("memory", firmware::image()),
        ("file", Arc::new(FileImage::open(file.path()).unwrap())),
    ];
    if !json {
        println!(
            "source  KiB   ms/command  raw ms    MB/s   raw MB/s  of raw  own µs median  own µs 99 %"
        );
    }
    for (name, source) in sources {
        for size in SIZES {
            let (handle, stream) = runtime.block_on(session(source.clone()));
            let mut line = Line::new(stream, size);
            let mut raw = Line::new(runtime.block_on(raw(size)), size);
            for _ in 0..50 {
                let offset = line.ask(size);
                firmware::check(&line.reply, &pattern, offset);
                raw.ask(size);
            }
            for _ in 0..TURNS {
                line.turn(size);
                raw.turn(size);
            }
            let own = handle.statistics().service_times;
            let (own_median, own_late) = (own.quantile(0.5).unwrap(), own.quantile(0.99).unwrap());
            let millis = |time: Duration| time.as_secs_f64() * 1000.0;
            let (rate, raw_rate) = (line.rate(size) / 1e6, raw.rate(size) / 1e6);
            let (median, raw_median) = (millis(line.median()), millis(raw.median()));
            if json {
                let row = serde_json::json!({
                    "source": name, "bytes": size, "ms": median, "raw_ms": raw_median,
                    "mb_per_s": rate, "raw_mb_per_s": raw_rate,
                    "own_us_median": own_median, "own_us_p99": own_late, "commands": own.count(),
                });
                println!("{row}");
            } else {
                println!(
                    "{name:<7} {:>3}  {median:>11.4} {raw_median:>7.4} {rate:>7.0} {raw_rate:>10.0} {:>6.0}% {own_median:>14} {own_late:>12}",
                    size >> 10,
                    100.0 * rate / raw_rate,
                );
            }
        }
    }
}

/// A session with attached drives, and the client's end of its connection.
async fn session(source: Arc<dyn BlockSource>) -> (IderHandle, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let handle = firmware::spawn(listener.local_addr().unwrap().port(), source);
    let (mut stream, _) = listener.accept().await.unwrap();
    firmware::attach(&mut stream).await;
    (handle, blocking(stream))
}

/// The least that can answer: as many bytes as a reply has, one write, no look at the request.
async fn raw(size: usize) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    let (near, mut far) = (near.unwrap(), far.unwrap().0);
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    tokio::spawn(async move {
        let reply = vec![0x54; firmware::reply_length(size)];
        let mut request = [0; 28];
        // Until the client hangs up.
        while far.read_exact(&mut request).await.is_ok() {
            if far.write_all(&reply).await.is_err() {
                break;
            }
        }
    });
    blocking(near)
}

fn blocking(stream: tokio::net::TcpStream) -> TcpStream {
    let stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream
}
