//! Which part of a file a GET or HEAD request is answered with: the request's conditions and
//! its range, decided in the order of RFC 9110 section 13.2.2.
//!
//! Reads `If-Match`, `If-None-Match`, `If-Range` and `Range`. There are no modification dates
//! here: `If-Modified-Since` and `If-Unmodified-Since` must then be ignored (13.1.3, 13.1.4), and
//! an `If-Range` with a date never matches (13.1.5). A request for several ranges is answered
//! with the whole file, which 14.2 allows: no client of ours asks for that.
//!
//! The header values come from anyone on the network.

use axum::http::header::{AsHeaderName, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use axum::http::{HeaderMap, Method};

/// What the request is to be answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    /// 200, everything.
    Whole,
    /// 206, the bytes from `first` to `last`, both included.
    Part {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
    },
    /// 304: the client has it already.
    NotModified,
    /// 412: the client wanted another version of the file.
    PreconditionFailed,
    /// 416: no byte of the file is in the range.
    Unsatisfiable,
}

/// Selects from a file of `length` bytes whose strong validator is `etag` (with its quotes).
pub(crate) fn select(method: &Method, headers: &HeaderMap, etag: &str, length: u64) -> Selection {
    // 13.1.1: strong comparison; a field that cannot be read matches nothing.
    if headers.contains_key(IF_MATCH) && !list_matches(headers, IF_MATCH, etag, Compare::Strong) {
        return Selection::PreconditionFailed;
    }
    // 13.1.2: weak comparison.
    if list_matches(headers, IF_NONE_MATCH, etag, Compare::Weak) {
        return Selection::NotModified;
    }
    // 14.2: GET is the only method with ranges.
    if *method != Method::GET {
        return Selection::Whole;
    }
    let Some(range) = single(headers, RANGE) else {
        return Selection::Whole;
    };
    // 13.1.5: strong comparison; on a mismatch the range is ignored.
    if headers.contains_key(IF_RANGE) && single(headers, IF_RANGE) != Some(etag) {
        return Selection::Whole;
    }
    match ByteRange::parse(range) {
        Some(range) => range.within(length),
        None => Selection::Whole,
    }
}

/// One `int-range` or `suffix-range` of RFC 9110 section 14.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByteRange {
    From { first: u64, last: Option<u64> },
    Suffix { length: u64 },
}

impl ByteRange {
    /// `None` for whatever is to be ignored: another unit, several ranges, no range at all.
    fn parse(value: &str) -> Option<Self> {
        let (unit, set) = value.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = set.trim_matches([' ', '\t']).split_once('-')?;
        match (first, last) {
            ("", length) => Some(Self::Suffix {
                length: position(length)?,
            }),
            (first, "") => Some(Self::From {
                first: position(first)?,
                last: None,
            }),
            (first, last) => {
                let (first, last) = (position(first)?, position(last)?);
                // 14.1.1: a range that ends before it begins is invalid.
                (first <= last).then_some(Self::From {
                    first,
                    last: Some(last),
                })
            }
        }
    }

    fn within(self, length: u64) -> Selection {
        let Some(end) = length.checked_sub(1) else {
            return Selection::Unsatisfiable;
        };
        match self {
            Self::From { first, .. } if first > end => Selection::Unsatisfiable,
            Self::From { first, last } => Selection::Part {
                first,
                last: last.unwrap_or(end).min(end),
            },
            Self::Suffix { length: 0 } => Selection::Unsatisfiable,
            Self::Suffix { length: suffix } => Selection::Part {
                first: length.saturating_sub(suffix),
                last: end,
            },
        }
    }
}

/// Digits only; a number beyond 64 bits is as good as infinite.
fn position(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// The value of a field that may stand once; a repeated or unreadable one counts as absent.
fn single(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value.trim())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Strong,
    Weak,
}

/// Whether `*` or one of the listed entity tags matches `etag`, a strong one.
fn list_matches(
    headers: &HeaderMap,
    name: impl AsHeaderName,
    etag: &str,
    compare: Compare,
) -> bool {
    headers.get_all(name).iter().any(|value| {
        let Ok(value) = value.to_str() else {
            return false;
        };
        if value.trim() == "*" {
            return true;
        }
        let mut rest = value;
        while let Some((weak, tag, after)) = entity_tag(rest) {
            if tag == etag && !(weak && compare == Compare::Strong) {
                return true;
            }
            rest = after;
        }
        false
    })
}

/// Takes one entity tag off a comma-separated list: whether it is weak, the tag with its quotes,
/// and what follows. A comma may stand inside the quotes (RFC 9110 section 8.8.3).
fn entity_tag(list: &str) -> Option<(bool, &str, &str)> {
    let list = list.trim_start_matches([' ', '\t', ',']);
    let (weak, tag) = match list.strip_prefix("W/") {
        Some(tag) => (true, tag),
        None => (false, list),
    };
    let end = tag.strip_prefix('"')?.find('"')? + 2;
    Some((weak, tag.get(..end)?, tag.get(end..)?))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    const ETAG: &str = "\"abc\"";
    const LENGTH: u64 = 1000;

    fn answer(method: &Method, fields: &[(&'static str, &'static str)], length: u64) -> Selection {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        select(method, &headers, ETAG, length)
    }

    fn get(fields: &[(&'static str, &'static str)]) -> Selection {
        answer(&Method::GET, fields, LENGTH)
    }

    fn part(first: u64, last: u64) -> Selection {
        Selection::Part { first, last }
    }

    #[test]
    fn ranges_follow_rfc_9110_section_14() {
        use Selection::{Unsatisfiable, Whole};
        let cases = [
            ("bytes=0-0", part(0, 0)),
            ("bytes=0-499", part(0, 499)),
            ("bytes=500-", part(500, 999)),
            ("bytes=-500", part(500, 999)),
            ("bytes=999-999", part(999, 999)),
            // The end is cut to the file.
            ("bytes=990-5000", part(990, 999)),
            ("bytes=-5000", part(0, 999)),
            ("bytes=0-99999999999999999999999999", part(0, 999)),
            // The unit is case-insensitive.
            ("Bytes=0-1", part(0, 1)),
            // Nothing of it is there.
            ("bytes=1000-", Unsatisfiable),
            ("bytes=1000-1000", Unsatisfiable),
            ("bytes=99999999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            // Ignored: other units, several ranges, no ranges.
            ("chunks=0-1", Whole),
            ("bytes=0-0,2-2", Whole),
            ("bytes=5000-,6000-", Whole),
            ("bytes=500-499", Whole),
            ("bytes=-", Whole),
            ("bytes=", Whole),
            ("bytes", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1-+2", Whole),
            ("bytes=0x0-0x1", Whole),
            ("bytes=1 - 2", Whole),
            ("bytes=--1", Whole),
            ("", Whole),
        ];
        for (value, expected) in cases {
            assert_eq!(get(&[("range", value)]), expected, "{value}");
        }
    }

    #[test]
    fn an_empty_file_satisfies_no_range() {
        assert_eq!(
            answer(&Method::GET, &[("range", "bytes=0-")], 0),
            Selection::Unsatisfiable
        );
        assert_eq!(answer(&Method::GET, &[], 0), Selection::Whole);
    }

    #[test]
    fn head_has_no_ranges() {
        assert_eq!(
            answer(&Method::HEAD, &[("range", "bytes=0-1")], LENGTH),
            Selection::Whole
        );
    }

    #[test]
    fn a_repeated_range_is_ignored() {
        assert_eq!(
            get(&[("range", "bytes=0-1"), ("range", "bytes=2-3")]),
            Selection::Whole
        );
    }

    #[test]
    fn if_range_compares_strongly() {
        let range = ("range", "bytes=0-1");
        let cases = [
            ("\"abc\"", part(0, 1)),
            ("\"abd\"", Selection::Whole),
            ("W/\"abc\"", Selection::Whole),
            ("abc", Selection::Whole),
            ("*", Selection::Whole),
            ("\"abc\", \"x\"", Selection::Whole),
            ("Fri, 21 Nov 2026 23:54:00 GMT", Selection::Whole),
        ];
        for (value, expected) in cases {
            assert_eq!(get(&[range, ("if-range", value)]), expected, "{value}");
        }
        // A changed file is sent whole even where the range could not be satisfied.
        assert_eq!(
            get(&[("range", "bytes=5000-"), ("if-range", "\"old\"")]),
            Selection::Whole
        );
        assert_eq!(
            get(&[range, ("if-range", ETAG), ("if-range", ETAG)]),
            Selection::Whole
        );
    }

    #[test]
    fn if_none_match_compares_weakly_over_the_whole_list() {
        let cases = [
            ("\"abc\"", Selection::NotModified),
            ("W/\"abc\"", Selection::NotModified),
            ("*", Selection::NotModified),
            ("\"x\", \"abc\"", Selection::NotModified),
            ("\"x\",,  W/\"abc\"", Selection::NotModified),
            ("\"a,b\", \"abc\"", Selection::NotModified),
            ("\"x\"", Selection::Whole),
            ("\"x,abc\"", Selection::Whole),
            ("abc", Selection::Whole),
            ("\"abc", Selection::Whole),
            ("", Selection::Whole),
        ];
        for (value, expected) in cases {
            assert_eq!(get(&[("if-none-match", value)]), expected, "{value}");
        }
        assert_eq!(
            answer(&Method::HEAD, &[("if-none-match", ETAG)], LENGTH),
            Selection::NotModified
        );
    }

    #[test]
    fn if_none_match_comes_before_the_range() {
        assert_eq!(
            get(&[("if-none-match", ETAG), ("range", "bytes=0-1")]),
            Selection::NotModified
        );
        assert_eq!(
            get(&[("if-none-match", "\"x\""), ("range", "bytes=0-1")]),
            part(0, 1)
        );
    }

    #[test]
    fn if_match_compares_strongly_and_comes_first() {
        let cases = [
            ("\"abc\"", Selection::Whole),
            ("*", Selection::Whole),
            ("\"x\", \"abc\"", Selection::Whole),
            ("W/\"abc\"", Selection::PreconditionFailed),
            ("\"x\"", Selection::PreconditionFailed),
            ("garbage", Selection::PreconditionFailed),
        ];
        for (value, expected) in cases {
            assert_eq!(get(&[("if-match", value)]), expected, "{value}");
        }
        assert_eq!(
            get(&[("if-match", "\"x\""), ("if-none-match", ETAG)]),
            Selection::PreconditionFailed
        );
    }

    proptest::proptest! {
        #[test]
        fn any_range_yields_bytes_inside_the_file(
            range in "(bytes=)?[0-9,\\- ]{0,24}",
            length in 0_u64..64,
        ) {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_str(&range).unwrap());
            if let Selection::Part { first, last } = select(&Method::GET, &headers, ETAG, length) {
                assert!(first <= last && last < length);
            }
        }

        #[test]
        fn any_header_bytes_are_answered(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                for name in [IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE] {
                    let mut headers = HeaderMap::new();
                    headers.insert(RANGE, HeaderValue::from_static("bytes=1-2"));
                    headers.insert(name, value.clone());
                    select(&Method::GET, &headers, ETAG, LENGTH);
                }
            }
        }
    }
}
