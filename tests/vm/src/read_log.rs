//! nbdkit's request log: what firmware, boot loader and kernel read from the drive.
//!
//! Format as nbdkit-log-filter(1) describes it, nbdkit 1.32. A request has a line when it
//! starts (ends in `...`) and a line when it is answered (`...Read`). Read: starts of
//! `Read`. Other requests are ignored: the drive is read-only.

use std::time::Duration;

use anyhow::{Context, Result, bail};

/// One read request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Time of day; only differences mean something.
    pub at: Duration,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// Requests in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadLog {
    /// All of them.
    pub reads: Vec<Read>,
    /// When QEMU opened the drive, which it does right before it switches the PC on.
    pub connected: Option<Duration>,
    /// Time of the last line of any kind: when the last answer was out, while connected.
    pub last: Duration,
}

impl ReadLog {
    /// Reads the log's text. A last line without its end is still being written: left out.
    pub fn parse(text: &str) -> Result<Self> {
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut log = ReadLog::default();
        for line in complete.lines() {
            let mut fields = line.split(' ');
            let (_date, time) = (fields.next(), fields.next());
            let fields: Vec<&str> = fields.collect();
            log.last =
                clock(time.unwrap_or_default()).with_context(|| format!("in line {line:?}"))?;
            if fields.contains(&"Connect") {
                log.connected.get_or_insert(log.last);
            }
            if fields.contains(&"Read") {
                log.reads.push(Read {
                    at: log.last,
                    offset: number(&fields, "offset=")
                        .with_context(|| format!("in line {line:?}"))?,
                    length: number(&fields, "count=")
                        .with_context(|| format!("in line {line:?}"))?,
                });
            }
        }
        Ok(log)
    }

    /// Bytes read, repeated reads counted each time, as the link would.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.reads.iter().map(|read| read.length).sum()
    }

    /// How many requests.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.reads.len()
    }

    /// Sizes with how often each came, most frequent first.
    #[must_use]
    pub fn sizes(&self) -> Vec<(u64, usize)> {
        let mut sizes: Vec<(u64, usize)> = Vec::new();
        for read in &self.reads {
            match sizes.iter_mut().find(|(size, _)| *size == read.length) {
                Some((_, count)) => *count += 1,
                None => sizes.push((read.length, 1)),
            }
        }
        sizes.sort_by_key(|&(size, count)| (std::cmp::Reverse(count), size));
        sizes
    }
}

/// `hh:mm:ss.uuuuuu`.
fn clock(text: &str) -> Result<Duration> {
    let parse = || {
        let (whole, micros) = text.split_once('.')?;
        let mut parts = whole.split(':').map(|part| part.parse::<u64>().ok());
        let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
        let micros = micros.parse::<u64>().ok().filter(|_| micros.len() == 6)?;
        Some(
            Duration::from_secs((hours * 60 + minutes) * 60 + seconds)
                + Duration::from_micros(micros),
        )
    };
    parse().with_context(|| format!("no time of day: {text:?}"))
}

fn number(fields: &[&str], key: &str) -> Result<u64> {
    let Some(text) = fields.iter().find_map(|field| field.strip_prefix(key)) else {
        bail!("field {key} is missing");
    };
    let digits = text
        .strip_prefix("0x")
        .with_context(|| format!("{key}{text} is not hexadecimal"))?;
    u64::from_str_radix(digits, 16).with_context(|| format!("{key}{text} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-11-22 00:11:48.579167 Ready thread_model=3
2026-11-22 00:11:49.607867 Preconnect id=1 readonly=1 ...
2026-11-22 00:11:49.607896 ...Preconnect id=1 return=0
2026-11-22 00:11:49.608104 connection=1 Connect export=\"\" tls=0 size=0x200000 minsize=0x0 write=0
2026-11-22 00:11:49.755106 connection=1 Read id=1 offset=0x8800 count=0x800 ...
2026-11-22 00:11:49.755162 connection=1 ...Read id=1 return=0
2026-11-22 00:11:49.905708 connection=1 Read id=12 offset=0x142000 count=0x10000 ...
2026-11-22 00:11:49.905766 connection=1 ...Read id=12 return=0
2026-11-22 00:11:50.000000 connection=1 Read id=13 offset=0x8800 count=0x800 ...
2026-11-22 00:12:14.582489 connection=1 Disconnect transactions=21
";

    #[test]
    fn reads_are_counted_once_each_with_their_bytes() {
        let log = ReadLog::parse(LOG).unwrap();
        assert_eq!(log.requests(), 3);
        assert_eq!(log.bytes(), 0x800 + 0x10000 + 0x800);
        assert_eq!(log.sizes(), [(0x800, 2), (0x10000, 1)]);
        assert_eq!(log.reads[1].offset, 0x142000);
        assert_eq!(
            log.reads[1].at - log.reads[0].at,
            Duration::from_micros(150_602)
        );
        assert_eq!(
            log.reads[0].at - log.connected.unwrap(),
            Duration::from_micros(147_002)
        );
        assert_eq!(
            log.last - log.reads[0].at,
            Duration::from_micros(24_827_383)
        );
    }

    #[test]
    fn a_half_written_last_line_is_left_out() {
        for cut in 0..LOG.len() {
            let log = ReadLog::parse(&LOG[..cut]).unwrap();
            assert!(log.requests() <= 3);
        }
    }

    #[test]
    fn a_line_of_another_kind_is_an_error_rather_than_a_wrong_count() {
        ReadLog::parse("something else\n").unwrap_err();
        ReadLog::parse("2026-11-22 00:11:49.755106 connection=1 Read id=1 count=0x800 ...\n")
            .unwrap_err();
        ReadLog::parse(
            "2026-11-22 00:11:49.755106 connection=1 Read id=1 offset=88 count=0x800 ...\n",
        )
        .unwrap_err();
    }
}
