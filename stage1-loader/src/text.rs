//! How numbers and words from outside look on the screen. Pure.

use std::time::Duration;

use fetch_http::SourceHealth;

/// Bytes in binary units, one digit after the point: `1.5 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // Tenths, so that no floating-point formatting is linked for this.
    let mut tenths = u128::from(count) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Whole minutes and seconds: `1:05`, `2:00:09`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// Kernel-style time stamp: `[    3.214]`.
pub fn stamp(time: Duration) -> String {
    format!("[{:5}.{:03}]", time.as_secs(), time.subsec_millis())
}

/// Percent of `total` that `done` is, rounded down, so that 100 means done.
pub fn percent(done: u64, total: u64) -> u64 {
    if total == 0 {
        return 100;
    }
    let percent = u128::from(done.min(total)) * 100 / u128::from(total);
    percent as u64
}

/// What one source of a download did: `http://a/: 12.0 MiB, 3 faults, health 40 of 100`.
pub fn source(url: &str, health: &SourceHealth) -> String {
    format!(
        "{url}: {}, {} faults, health {} of 100",
        bytes(health.received),
        health.faults,
        health.score
    )
}

/// The download on one line.
pub fn progress(done: u64, total: u64, rate: u64, left: Option<Duration>) -> String {
    let left = match left {
        Some(left) => format!("{} left", duration(left)),
        None => "-:-- left".to_owned(),
    };
    format!(
        "{} of {}  {} %  {}/s  {left}",
        bytes(done),
        bytes(total),
        percent(done, total),
        bytes(rate),
    )
}

/// Text from outside without anything that moves a terminal's cursor. Line breaks stay.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => '\n',
            '\t' => ' ',
            c if c.is_control() => '?',
            c => c,
        })
        .collect()
}

/// Breaks text at spaces so that no line is longer than `width` characters; words longer than
/// that are cut.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        let mut length = 0;
        for word in paragraph.split(' ').filter(|word| !word.is_empty()) {
            let mut word: Vec<char> = word.chars().collect();
            if length > 0 && length + 1 + word.len() > width {
                lines.push(std::mem::take(&mut line));
                length = 0;
            }
            while word.len() > width {
                lines.push(word.drain(..width).collect());
            }
            if length > 0 {
                line.push(' ');
                length += 1;
            }
            length += word.len();
            line.extend(word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_use_the_largest_unit_that_leaves_a_whole_number() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1023.9 KiB"),
            (1024 * 1024, "1.0 MiB"),
            (5 * 1024 * 1024 * 1024, "5.0 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn a_hundred_percent_means_done() {
        assert_eq!(percent(999_999, 1_000_000), 99);
        assert_eq!(percent(1_000_000, 1_000_000), 100);
        assert_eq!(percent(0, 0), 100);
        assert_eq!(percent(u64::MAX, 1), 100);
    }

    #[test]
    fn progress_says_bytes_percent_rate_and_time_left() {
        const MIB: u64 = 1024 * 1024;
        assert_eq!(
            progress(
                412 * MIB,
                1030 * MIB,
                11 * MIB + MIB / 5,
                Some(Duration::from_secs(54))
            ),
            "412.0 MiB of 1.0 GiB  40 %  11.1 MiB/s  0:54 left"
        );
        assert_eq!(
            progress(0, MIB, 0, None),
            "0 B of 1.0 MiB  0 %  0 B/s  -:-- left"
        );
    }

    #[test]
    fn a_stamp_looks_like_the_kernels() {
        assert_eq!(stamp(Duration::from_millis(3214)), "[    3.214]");
        assert_eq!(stamp(Duration::from_millis(123_456_007)), "[123456.007]");
    }

    #[test]
    fn escape_sequences_from_outside_lose_their_escape() {
        assert_eq!(printable("a\x1b[2Jb\r\nc\u{9b}"), "a?[2Jb?\nc?");
    }

    #[test]
    fn wrap_breaks_at_spaces_and_cuts_what_has_none() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrap("a\n\nb", 4), ["a", "", "b"]);
    }

    proptest! {
        #[test]
        fn wrapped_lines_fit_and_keep_every_letter(text in "[a-z \n]{0,80}", width in 1usize..20) {
            let lines = wrap(&text, width);
            prop_assert!(lines.iter().all(|line| line.chars().count() <= width));
            let letters = |t: &str| t.chars().filter(char::is_ascii_lowercase).collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}
