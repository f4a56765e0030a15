//! Points in time: Unix seconds inside, RFC 3339 in UTC with whole seconds outside.
//!
//! RFC 3339, section 5.6, in one spelling only (`2026-11-21T23:54:00Z`): no offsets, no fractions, no leap seconds, so
//! that a signed file has one form. The calendar is the proleptic Gregorian one.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Seconds since 1970-01-01T00:00:00Z, at most the last second of the year 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 9999-12-31T23:59:59Z, the last moment that RFC 3339 can write.
    pub const MAX: Self = Self(253_402_300_799);

    /// Takes Unix seconds; what lies after the year 9999 becomes [`Timestamp::MAX`].
    pub const fn from_unix(seconds: u64) -> Self {
        if seconds > Self::MAX.0 {
            Self::MAX
        } else {
            Self(seconds)
        }
    }

    /// Unix seconds.
    pub const fn unix(self) -> u64 {
        self.0
    }

    /// The moment `duration` later (whole seconds), at most [`Timestamp::MAX`].
    pub const fn plus(self, duration: Duration) -> Self {
        Self::from_unix(self.0.saturating_add(duration.as_secs()))
    }

    /// The digits YYYYMMDDhhmmss as one number: ordered like time, readable, the default version of an import.
    pub fn version_number(self) -> u64 {
        let Civil {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = Civil::from_unix(self.0);
        [month, day, hour, minute, second]
            .iter()
            .fold(year, |number, field| number * 100 + field)
    }
}

impl From<SystemTime> for Timestamp {
    /// A clock that stands before 1970 counts as 1970.
    fn from(time: SystemTime) -> Self {
        Self::from_unix(
            time.duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        )
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = Civil::from_unix(self.0);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let bytes = text.as_bytes();
        if bytes.len() != PATTERN.len() {
            return Err(TimestampError::Form {
                at: bytes.len().min(PATTERN.len()),
            });
        }
        let fits = |(byte, wanted): (&u8, &u8)| {
            if *wanted == b'0' {
                byte.is_ascii_digit()
            } else {
                byte == wanted
            }
        };
        if let Some(at) = bytes.iter().zip(PATTERN).position(|pair| !fits(pair)) {
            return Err(TimestampError::Form { at });
        }
        let number = |from: usize, to: usize| {
            bytes[from..to]
                .iter()
                .fold(0, |n, digit| n * 10 + u64::from(digit - b'0'))
        };
        let civil = Civil {
            year: number(0, 4),
            month: number(5, 7),
            day: number(8, 10),
            hour: number(11, 13),
            minute: number(14, 16),
            second: number(17, 19),
        };
        civil.to_unix().map(Self)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Why a text is no timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// Not of the form `2026-11-21T23:54:00Z`.
    #[error("timestamp departs from YYYY-MM-DDThh:mm:ssZ at position {at}")]
    Form {
        /// First position that does not fit.
        at: usize,
    },
    /// A field outside its range, as in 30 February or 25 o'clock.
    #[error("{field} {found} does not exist")]
    Range {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// Before 1970, which Unix seconds do not reach.
    #[error("year {year} is before 1970")]
    BeforeEpoch {
        /// The year.
        year: u64,
    },
}

/// Digits are `0`, everything else stands for itself.
const PATTERN: &[u8; 20] = b"0000-00-00T00:00:00Z";
const DAY: u64 = 86_400;

struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Civil {
    fn from_unix(seconds: u64) -> Self {
        let mut days = seconds / DAY;
        // Whole 400-year cycles (146,097 days) first, so that the loop below stays short.
        let mut year = 1970 + 400 * (days / 146_097);
        days %= 146_097;
        while days >= days_in_year(year) {
            days -= days_in_year(year);
            year += 1;
        }
        let mut month = 1;
        while days >= days_in_month(year, month) {
            days -= days_in_month(year, month);
            month += 1;
        }
        let second = seconds % DAY;
        Self {
            year,
            month,
            day: days + 1,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    fn to_unix(&self) -> Result<u64, TimestampError> {
        if self.year < 1970 {
            return Err(TimestampError::BeforeEpoch { year: self.year });
        }
        let range = |field, found, least, most| {
            if (least..=most).contains(&found) {
                Ok(())
            } else {
                Err(TimestampError::Range { field, found })
            }
        };
        range("month", self.month, 1, 12)?;
        range("day", self.day, 1, days_in_month(self.year, self.month))?;
        range("hour", self.hour, 0, 23)?;
        range("minute", self.minute, 0, 59)?;
        range("second", self.second, 0, 59)?;
        // At most 8,030 years: the field has four digits.
        let years: u64 = (1970..self.year).map(days_in_year).sum();
        let months: u64 = (1..self.month)
            .map(|month| days_in_month(self.year, month))
            .sum();
        Ok((years + months + self.day - 1) * DAY
            + self.hour * 3600
            + self.minute * 60
            + self.second)
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn days_in_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn agrees_with_date() {
        // Each line from `date -u -d @SECONDS +%FT%TZ`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_305_240, "2026-11-21T23:54:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp::from_unix(seconds).to_string(), text);
            assert_eq!(text.parse(), Ok(Timestamp::from_unix(seconds)));
        }
    }

    #[test]
    fn refuses_other_spellings_and_days_that_do_not_exist() {
        use TimestampError::*;
        for (text, error) in [
            ("", Form { at: 0 }),
            ("2026-11-21T23:54:00", Form { at: 19 }),
            ("2026-11-21T23:54:00ZZ", Form { at: 20 }),
            ("2026-11-21 23:54:00Z", Form { at: 10 }),
            ("2026-11-21t23:54:00z", Form { at: 10 }),
            ("+026-11-21T23:54:00Z", Form { at: 0 }),
            (
                "2026-13-21T23:54:00Z",
                Range {
                    field: "month",
                    found: 13,
                },
            ),
            (
                "2026-00-21T23:54:00Z",
                Range {
                    field: "month",
                    found: 0,
                },
            ),
            (
                "2026-02-29T23:54:00Z",
                Range {
                    field: "day",
                    found: 29,
                },
            ),
            (
                "2026-02-00T23:54:00Z",
                Range {
                    field: "day",
                    found: 0,
                },
            ),
            (
                "2026-11-21T24:00:00Z",
                Range {
                    field: "hour",
                    found: 24,
                },
            ),
            (
                "2026-11-21T23:60:00Z",
                Range {
                    field: "minute",
                    found: 60,
                },
            ),
            (
                "2026-11-21T23:54:60Z",
                Range {
                    field: "second",
                    found: 60,
                },
            ),
            ("1969-12-31T23:59:59Z", BeforeEpoch { year: 1969 }),
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn version_number_reads_like_the_date() {
        let time: Timestamp = "2026-11-21T23:54:07Z".parse().unwrap();
        assert_eq!(time.version_number(), 20_261_121_235_407);
    }

    #[test]
    fn far_future_is_clamped_to_what_can_be_written() {
        assert_eq!(Timestamp::from_unix(u64::MAX), Timestamp::MAX);
        assert_eq!(
            Timestamp::MAX.plus(Duration::from_secs(u64::MAX)),
            Timestamp::MAX
        );
        assert_eq!(
            Timestamp::from(SystemTime::UNIX_EPOCH - Duration::from_secs(1)).unix(),
            0
        );
    }

    proptest! {
        #[test]
        fn text_and_number_name_the_same_moment(seconds in 0..=Timestamp::MAX.0) {
            let time = Timestamp::from_unix(seconds);
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,24}") {
            let _ = text.parse::<Timestamp>();
        }
    }
}
