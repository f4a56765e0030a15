//! The head of a response, and whether it answers the Range request it belongs to (RFC 9110, 14.4 and 15.3.7).

use std::ops::Range;

use crate::fault::What;

/// What the machine wants to know of a response head. Header values are as received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// `Content-Range`.
    pub content_range: Option<String>,
    /// `Content-Length`.
    pub content_length: Option<u64>,
    /// `ETag`, quotes included.
    pub etag: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
}

/// Longest ETag worth remembering; a longer one counts as none.
const MAX_ETAG: usize = 256;
/// How much of a header value goes into a fault.
const MAX_QUOTED: usize = 80;

impl Head {
    /// The ETag, if it is a strong one that If-Range can use (RFC 9110, 13.1.5).
    pub(crate) fn strong_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| {
            etag.len() <= MAX_ETAG
                && etag.len() >= 2
                && etag.starts_with('"')
                && etag.ends_with('"')
        })
    }

    /// Checks a response to a request for `range` of a file of `file_length` bytes.
    ///
    /// `known_etag` is what the source said about this file before; `if_range` says whether it was sent along.
    pub(crate) fn check(
        &self,
        range: &Range<u64>,
        file_length: u64,
        known_etag: Option<&str>,
        if_range: bool,
    ) -> Result<(), What> {
        match self.status {
            206 => {}
            200 if if_range => {
                let before = known_etag.unwrap_or_default().to_owned();
                return Err(What::Changed {
                    before,
                    after: self.strong_etag().map(str::to_owned),
                });
            }
            200 => return Err(What::RangeIgnored),
            status => return Err(What::Status(status)),
        }
        if let Some(encoding) = &self.content_encoding
            && !encoding.trim().eq_ignore_ascii_case("identity")
        {
            return Err(What::Encoded(quoted(encoding)));
        }
        let answered = self.content_range.as_deref().and_then(parse_content_range);
        let is_ours = answered.is_some_and(|(found, total)| {
            found == *range && total.is_none_or(|total| total == file_length)
        });
        if !is_ours {
            return Err(What::WrongRange {
                asked: format!(
                    "bytes {}-{}/{file_length}",
                    range.start,
                    range.end.saturating_sub(1)
                ),
                found: self.content_range.as_deref().map(quoted),
            });
        }
        let expected = range.end.saturating_sub(range.start);
        if let Some(found) = self.content_length
            && found != expected
        {
            return Err(What::WrongLength { expected, found });
        }
        if let (Some(before), Some(after)) = (known_etag, self.strong_etag())
            && before != after
        {
            return Err(What::Changed {
                before: before.to_owned(),
                after: Some(after.to_owned()),
            });
        }
        Ok(())
    }
}

/// Parses `bytes FIRST-LAST/LENGTH` or `bytes FIRST-LAST/*` into a half-open range and the length.
fn parse_content_range(value: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (unit, rest) = value.trim().split_once(' ')?;
    let (span, length) = rest.trim().split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let end = number(last)?.checked_add(1)?;
    let length = if length == "*" {
        None
    } else {
        Some(number(length)?)
    };
    unit.eq_ignore_ascii_case("bytes")
        .then_some((number(first)?..end, length))
}

// `str::parse` would take a leading plus sign.
fn number(digits: &str) -> Option<u64> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        digits.parse().ok()
    } else {
        None
    }
}

fn quoted(value: &str) -> String {
    value.chars().take(MAX_QUOTED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Head {
        Head {
            status: 206,
            content_range: Some("bytes 100-199/5000".into()),
            content_length: Some(100),
            etag: Some("\"v1\"".into()),
            content_encoding: None,
        }
    }

    fn check(head: &Head) -> Result<(), What> {
        head.check(&(100..200), 5000, Some("\"v1\""), true)
    }

    #[test]
    fn takes_an_honest_answer_in_every_spelling() {
        let cases: [fn(&mut Head); 7] = [
            |_| {},
            |head| head.content_range = Some("bytes 100-199/*".into()),
            |head| head.content_range = Some("Bytes 100-199/5000 ".into()),
            |head| head.content_length = None,
            |head| head.content_encoding = Some("identity".into()),
            |head| head.etag = None,
            // A weak ETag says nothing about bytes.
            |head| head.etag = Some("W/\"other\"".into()),
        ];
        for (number, change) in cases.iter().enumerate() {
            let mut head = good();
            change(&mut head);
            assert_eq!(check(&head), Ok(()), "case {number}");
        }
    }

    #[test]
    fn names_each_lie() {
        let wrong_range = |found: Option<&str>| What::WrongRange {
            asked: "bytes 100-199/5000".into(),
            found: found.map(str::to_owned),
        };
        type Case = (fn(&mut Head), What);
        let cases: [Case; 15] = [
            (|head| head.status = 404, What::Status(404)),
            (|head| head.status = 503, What::Status(503)),
            (|head| head.status = 304, What::Status(304)),
            (
                |head| head.status = 200,
                What::Changed {
                    before: "\"v1\"".into(),
                    after: Some("\"v1\"".into()),
                },
            ),
            (|head| head.content_range = None, wrong_range(None)),
            (
                |head| head.content_range = Some("bytes 101-200/5000".into()),
                wrong_range(Some("bytes 101-200/5000")),
            ),
            (
                |head| head.content_range = Some("bytes 100-198/5000".into()),
                wrong_range(Some("bytes 100-198/5000")),
            ),
            (
                |head| head.content_range = Some("bytes 100-199/5001".into()),
                wrong_range(Some("bytes 100-199/5001")),
            ),
            (
                |head| head.content_range = Some("bytes +100-199/5000".into()),
                wrong_range(Some("bytes +100-199/5000")),
            ),
            (
                |head| head.content_range = Some("lines 100-199/5000".into()),
                wrong_range(Some("lines 100-199/5000")),
            ),
            (
                |head| head.content_range = Some("bytes */5000".into()),
                wrong_range(Some("bytes */5000")),
            ),
            (
                |head| head.content_range = Some("bytes 0-18446744073709551615/*".into()),
                wrong_range(Some("bytes 0-18446744073709551615/*")),
            ),
            (
                |head| head.content_length = Some(99),
                What::WrongLength {
                    expected: 100,
                    found: 99,
                },
            ),
            (
                |head| head.content_encoding = Some("gzip".into()),
                What::Encoded("gzip".into()),
            ),
            (
                |head| head.etag = Some("\"v2\"".into()),
                What::Changed {
                    before: "\"v1\"".into(),
                    after: Some("\"v2\"".into()),
                },
            ),
        ];
        for (number, (change, expected)) in cases.into_iter().enumerate() {
            let mut head = good();
            change(&mut head);
            assert_eq!(check(&head), Err(expected), "case {number}");
        }
        let whole = Head {
            status: 200,
            ..good()
        };
        assert_eq!(
            whole.check(&(100..200), 5000, None, false),
            Err(What::RangeIgnored)
        );
    }

    #[test]
    fn a_fault_quotes_only_the_beginning_of_a_header() {
        let head = Head {
            content_encoding: Some("x".repeat(100_000)),
            ..good()
        };
        assert_eq!(check(&head), Err(What::Encoded("x".repeat(80))));
    }

    proptest::proptest! {
        #[test]
        fn any_content_range_is_read_without_panic(value in ".{0,60}") {
            let _ = parse_content_range(&value);
        }

        #[test]
        fn a_content_range_is_read_back(first in 0..1u64 << 60, length in 1..1u64 << 40, total in proptest::option::of(0..u64::MAX)) {
            let total_text = total.map_or("*".to_owned(), |total| total.to_string());
            let text = format!("bytes {first}-{}/{total_text}", first + length - 1);
            proptest::prop_assert_eq!(parse_content_range(&text), Some((first..first + length, total)));
        }
    }
}
