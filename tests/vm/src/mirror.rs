//! A mirror of the store that is slow, or does what servers and networks do wrong: a proxy in front of the site's
//! server, for requests without bodies.
//!
//! Threads and blocking sockets: a few connections of one virtual PC.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::site::HOST;

/// Longest head of a request or response.
const MAX_HEAD: u64 = 16 << 10;
/// Bytes passed on at a time.
const PART: u64 = 16 << 10;

/// What a mirror does with packs. Everything else passes unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Passes everything on.
    Honest,
    /// Ends the connection at some byte of each range, once for each.
    CutsEachRange {
        /// Chooses the bytes.
        seed: u64,
    },
    /// Changes one byte in the middle of each range.
    ChangesByte,
}

/// A running mirror; it ends with the program.
#[derive(Debug)]
pub struct Mirror {
    port: u16,
    shared: Arc<Shared>,
}

/// What a mirror has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Body bytes of packs passed on.
    pub pack_bytes: u64,
    /// Ranges of packs asked for.
    pub ranges: u64,
    /// Connections ended on purpose.
    pub cuts: u64,
    /// Connections that found no server behind the mirror.
    pub unanswered: u64,
}

#[derive(Debug)]
struct Shared {
    upstream: u16,
    habit: Habit,
    /// Bytes per second of all connections together.
    rate: Option<u64>,
    tally: Mutex<Tally>,
    changed: Condvar,
    /// Last bytes of the ranges that were cut before, with their paths.
    cut: Mutex<HashSet<(String, u64)>>,
    /// When the link is free again.
    free: Mutex<Instant>,
}

impl Mirror {
    /// Starts a mirror of the server on `upstream`, a port of the loopback interface.
    pub fn start(upstream: u16, habit: Habit, rate: Option<u64>) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening for a mirror")?;
        let port = listener.local_addr().context("a mirror's address")?.port();
        let shared = Arc::new(Shared {
            upstream,
            habit,
            rate,
            tally: Mutex::default(),
            changed: Condvar::new(),
            cut: Mutex::default(),
            free: Mutex::new(Instant::now()),
        });
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = Arc::clone(&server);
                // How a connection ends is the client's business.
                thread::spawn(move || drop(server.serve(client)));
            }
        });
        Ok(Self { port, shared })
    }

    /// URL of its store, seen from the virtual PC.
    #[must_use]
    pub fn guest_url(&self) -> String {
        format!("http://{HOST}:{}/store", self.port)
    }

    /// What it has done so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        lock(&self.shared.tally).clone()
    }

    /// Waits until this holds.
    pub fn wait_until(&self, holds: impl Fn(&Tally) -> bool, limit: Duration) -> Result<()> {
        let tally = lock(&self.shared.tally);
        let (tally, timeout) = self
            .shared
            .changed
            .wait_timeout_while(tally, limit, |tally| !holds(tally))
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            bail!(
                "after {} s the mirror has seen only {tally:?}",
                limit.as_secs()
            );
        }
        Ok(())
    }
}

impl Shared {
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        let mut requests = BufReader::new(client.try_clone()?);
        let upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.upstream))
            .inspect_err(|_| self.note(|tally| tally.unanswered += 1))?;
        let mut answers = BufReader::new(upstream.try_clone()?);
        loop {
            let request = head(&mut requests)?;
            if request.is_empty() {
                return Ok(());
            }
            (&upstream).write_all(request.as_bytes())?;
            let answer = head(&mut answers)?;
            (&client).write_all(answer.as_bytes())?;
            let length = value(&answer, "content-length")
                .and_then(|length| length.parse().ok())
                .unwrap_or(0);
            let path = request.split(' ').nth(1).unwrap_or_default();
            let whole = self.pass(&mut answers, &client, path, &answer, length)?;
            if !whole {
                return client.shutdown(Shutdown::Both);
            }
        }
    }

    /// Passes a body on; whether the connection goes on.
    fn pass(
        &self,
        from: &mut impl Read,
        mut to: &TcpStream,
        path: &str,
        answer: &str,
        length: u64,
    ) -> io::Result<bool> {
        let is_pack = path.contains("/packs/");
        let mut end = length;
        let mut changed = None;
        if is_pack {
            match self.habit {
                Habit::Honest => {}
                Habit::CutsEachRange { seed } => {
                    let last = value(answer, "content-range").and_then(last_byte);
                    let key = (path.to_owned(), last.unwrap_or(length));
                    if lock(&self.cut).insert(key) {
                        let ranges = lock(&self.tally).ranges;
                        end = mixed(seed.wrapping_add(ranges)) % length.max(1);
                    }
                }
                Habit::ChangesByte => changed = Some(length / 2),
            }
            self.note(|tally| tally.ranges += 1);
        }
        let mut done = 0;
        while done < end {
            let mut part = vec![0; usize::try_from(PART.min(end - done)).unwrap_or(0)];
            from.read_exact(&mut part)?;
            if let Some(byte) = changed
                .and_then(|at: u64| at.checked_sub(done))
                .and_then(|at| part.get_mut(usize::try_from(at).ok()?))
            {
                *byte ^= 1;
            }
            if is_pack {
                self.take_turn(part.len());
            }
            to.write_all(&part)?;
            done += part.len() as u64;
            if is_pack {
                self.note(|tally| tally.pack_bytes += part.len() as u64);
            }
        }
        if end < length {
            self.note(|tally| tally.cuts += 1);
        }
        Ok(end == length)
    }

    fn note(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut lock(&self.tally));
        self.changed.notify_all();
    }

    /// Waits until the link has room for another `bytes`.
    fn take_turn(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let mut free = lock(&self.free);
        let start = (*free).max(Instant::now());
        *free = start + Duration::from_secs_f64(bytes as f64 / rate as f64);
        drop(free);
        thread::sleep(start.saturating_duration_since(Instant::now()));
    }
}

/// A head with its empty line; empty at the end of the stream.
fn head(stream: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    let mut limited = stream.take(MAX_HEAD);
    loop {
        let before = text.len();
        if limited.read_line(&mut text)? == 0 {
            return match before {
                0 => Ok(text),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        if text.ends_with("\r\n\r\n") {
            return Ok(text);
        }
    }
}

/// The value of a header.
fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The last byte that a Content-Range names.
fn last_byte(content_range: &str) -> Option<u64> {
    let (range, _) = content_range.split_once('/')?;
    range.rsplit('-').next()?.parse().ok()
}

/// SplitMix64's finalizer: spreads numbers.
fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8; 1000] = &[7; 1000];

    /// A server that answers each request with the same thousand bytes.
    fn upstream() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut requests = BufReader::new(client.try_clone().unwrap());
                    while head(&mut requests).is_ok_and(|head| !head.is_empty()) {
                        let head = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-999/1000\r\nContent-Length: 1000\r\n\r\n";
                        if (&client).write_all(head.as_bytes()).is_err()
                            || (&client).write_all(BODY).is_err()
                        {
                            return;
                        }
                    }
                });
            }
        });
        port
    }

    fn get(mirror: &Mirror, path: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, mirror.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let start = all
            .windows(4)
            .position(|bytes| bytes == b"\r\n\r\n")
            .unwrap();
        all.split_off(start + 4)
    }

    #[test]
    fn an_honest_mirror_passes_everything_and_counts_packs() {
        let mirror = Mirror::start(upstream(), Habit::Honest, None).unwrap();
        assert_eq!(get(&mirror, "/store/images/x/latest.json"), BODY);
        assert_eq!(mirror.tally().pack_bytes, 0);
        assert_eq!(get(&mirror, "/store/packs/ab/x.pack"), BODY);
        assert_eq!(mirror.tally().pack_bytes, 1000);
        let passed = |bytes| move |tally: &Tally| tally.pack_bytes >= bytes;
        mirror
            .wait_until(passed(1000), Duration::from_secs(1))
            .unwrap();
        mirror
            .wait_until(passed(1001), Duration::from_millis(1))
            .unwrap_err();
    }

    #[test]
    fn each_range_is_cut_once() {
        let mirror = Mirror::start(upstream(), Habit::CutsEachRange { seed: 3 }, None).unwrap();
        let path = "/store/packs/ab/x.pack";
        assert!(get(&mirror, path).len() < BODY.len());
        assert_eq!(get(&mirror, path), BODY);
        assert!(get(&mirror, "/store/packs/cd/y.pack").len() < BODY.len());
        assert_eq!((mirror.tally().cuts, mirror.tally().ranges), (2, 3));
    }

    #[test]
    fn one_byte_is_changed_in_packs_only() {
        let mirror = Mirror::start(upstream(), Habit::ChangesByte, None).unwrap();
        assert_eq!(get(&mirror, "/store/images/x/1/index"), BODY);
        let changed = get(&mirror, "/store/packs/ab/x.pack");
        let differing: Vec<usize> = (0..BODY.len())
            .filter(|&at| changed[at] != BODY[at])
            .collect();
        assert_eq!(differing, [500]);
    }
}
