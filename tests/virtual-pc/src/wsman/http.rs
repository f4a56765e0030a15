//! HTTP/1.1 as far as the firmware speaks it: bytes in and out, no sockets (reference section 1.2).

use super::value::escape;

/// Most bytes in a request's head. AMT 1.0 could not take large ones.
pub(super) const MAX_HEAD: usize = 8 * 1024;
/// Most bytes in a request's body; 50,000 is the least that a service has to take.
pub(super) const MAX_BODY: usize = 64 * 1024;
/// Most header fields.
const MAX_FIELDS: usize = 64;

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) authorization: Option<String>,
    /// Bytes of the body.
    pub(super) length: usize,
    pub(super) keep_alive: bool,
}

/// Why no answer is given: the connection closes instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    #[error("not HTTP")]
    Malformed,
    #[error("head longer than {MAX_HEAD} bytes")]
    TooLong,
    #[error("body longer than {MAX_BODY} bytes")]
    BodyTooLong,
    #[error("chunked request body")]
    Chunked,
    #[error("Expect header")]
    Expect,
}

/// Reads a head from the front of `bytes`: `None` when there is more to come, otherwise with its length.
pub(super) fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>, HeadError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let end = match request.parse(bytes) {
        Ok(httparse::Status::Complete(end)) if end <= MAX_HEAD => end,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(_) => return Err(HeadError::TooLong),
        Err(_) => return Err(HeadError::Malformed),
    };
    let (Some(method), Some(path), Some(version)) = (request.method, request.path, request.version)
    else {
        return Err(HeadError::Malformed);
    };
    let mut head = Head {
        method: method.into(),
        path: path.into(),
        authorization: None,
        length: 0,
        keep_alive: version == 1,
    };
    let mut length = None;
    for field in request.headers.iter() {
        let value = str::from_utf8(field.value)
            .map_err(|_| HeadError::Malformed)?
            .trim();
        match field.name.to_ascii_lowercase().as_str() {
            "authorization" => head.authorization = Some(value.into()),
            "content-length" => {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                // Two lengths are how requests are smuggled.
                if !digits || length.is_some_and(|other| other != value) {
                    return Err(HeadError::Malformed);
                }
                length = Some(value);
            }
            "transfer-encoding" => return Err(HeadError::Chunked),
            "expect" => return Err(HeadError::Expect),
            "connection" if value.eq_ignore_ascii_case("close") => head.keep_alive = false,
            "connection" if value.eq_ignore_ascii_case("keep-alive") => head.keep_alive = true,
            _ => {}
        }
    }
    if let Some(length) = length {
        head.length = length
            .parse()
            .ok()
            .filter(|length| *length <= MAX_BODY)
            .ok_or(HeadError::BodyTooLong)?;
    }
    Ok(Some((head, end)))
}

/// `Server`: has the firmware's version, also on a 401.
pub(super) fn server_field(version: &str) -> String {
    format!("Server: Intel(R) Active Management Technology {version}\r\n")
}

/// A challenge. The connection closes after it.
pub(super) fn unauthorized(challenge: &str, version: &str) -> Vec<u8> {
    let text =
        "Log on failed. Incorrect user name or password, or user account temporarily locked.";
    let page = page("Log on failed", text);
    let server = server_field(version);
    format!(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nContent-Type: text/html\r\n{server}\
         Content-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    )
    .into_bytes()
}

/// A page for people. The connection closes after it.
pub(super) fn web_page(
    status: &str,
    title: &str,
    text: &str,
    version: &str,
    more: &str,
) -> Vec<u8> {
    let page = page(title, text);
    let server = server_field(version);
    format!(
        "HTTP/1.1 {status}\r\n{more}Content-Type: text/html\r\n{server}Content-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    )
    .into_bytes()
}

fn page(title: &str, text: &str) -> String {
    let mut out = String::from("<html><head><title>");
    escape(&mut out, title);
    out.push_str("</title></head><body><h1>");
    escape(&mut out, title);
    out.push_str("</h1><p>");
    escape(&mut out, text);
    out.push_str("</p></body></html>");
    out
}

/// A reply with an envelope: chunked, with sizes of four upper-case digits. `next_chunk` says how long the next chunk
/// is to be, of so many bytes that are left; its borders fall anywhere, within tags and characters too.
pub(super) fn reply(
    status: u16,
    unix: u64,
    version: &str,
    close: bool,
    body: &[u8],
    mut next_chunk: impl FnMut(usize) -> usize,
) -> Vec<u8> {
    let reason = if status == 200 { "OK" } else { "Bad Request" };
    let connection = if close { "Connection: close\r\n" } else { "" };
    let mut out = format!(
        "HTTP/1.1 {status} {reason}\r\nDate: {}\r\n{}X-Frame-Options: DENY\r\n\
         Content-Type: application/soap+xml; charset=UTF-8\r\n{connection}Transfer-Encoding: chunked\r\n\r\n",
        date(unix),
        server_field(version)
    )
    .into_bytes();
    let mut rest = body;
    while !rest.is_empty() {
        let size = next_chunk(rest.len()).clamp(1, rest.len().min(0xffff));
        let (chunk, after) = rest.split_at(size);
        out.extend_from_slice(format!("{size:04X}\r\n").as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        rest = after;
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// A date as HTTP writes it (RFC 9110 section 5.6.7).
pub(super) fn date(unix: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let leap = |year: u64| {
        (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
    };
    // Later years do not fit the format; a clock set to one of them stays at its end.
    let unix = unix.min(253_402_300_799);
    let days = unix / 86_400;
    let weekday = usize::try_from(days % 7)
        .ok()
        .and_then(|day| DAYS.get(day))
        .unwrap_or(&"Thu");
    let (mut year, mut day) = (1970, days);
    while day >= if leap(year) { 366 } else { 365 } {
        day -= if leap(year) { 366 } else { 365 };
        year += 1;
    }
    let lengths = [
        31,
        if leap(year) { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = "Dec";
    for (name, length) in MONTHS.iter().zip(lengths) {
        month = name;
        if day < length {
            break;
        }
        day -= length;
    }
    let second = unix % 86_400;
    format!(
        "{weekday}, {:02} {month} {year} {:02}:{:02}:{:02} GMT",
        day + 1,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(text: &str) -> Head {
        head(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn a_request_with_nothing_but_the_needed_fields_is_enough() {
        let text = "POST /wsman HTTP/1.1\r\nHost: pc:16992\r\nContent-Length: 614\r\n\r\n";
        let expected = Head {
            method: "POST".into(),
            path: "/wsman".into(),
            authorization: None,
            length: 614,
            keep_alive: true,
        };
        assert_eq!(head(text.as_bytes()), Ok(Some((expected, text.len()))));
    }

    #[test]
    fn every_cut_head_waits_for_more() {
        let text = b"POST /wsman HTTP/1.1\r\nHost: pc\r\nContent-Length: 4\r\n\r\n";
        for length in 0..text.len() {
            assert_eq!(head(&text[..length]), Ok(None), "{length}");
        }
    }

    #[test]
    fn persistence_follows_version_and_connection_field() {
        assert!(!complete("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(complete("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
        assert!(!complete("GET / HTTP/1.1\r\nconnection: close\r\n\r\n").keep_alive);
    }

    #[test]
    fn what_the_firmware_is_not_known_to_answer_ends_the_connection() {
        let cases = [
            (
                "POST /wsman HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                HeadError::Chunked,
            ),
            (
                "POST /wsman HTTP/1.1\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n",
                HeadError::Expect,
            ),
            (
                "POST /wsman HTTP/1.1\r\nContent-Length: 65537\r\n\r\n",
                HeadError::BodyTooLong,
            ),
            (
                "POST /wsman HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
                HeadError::BodyTooLong,
            ),
            (
                "POST /wsman HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                HeadError::Malformed,
            ),
            (
                "POST /wsman HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
                HeadError::Malformed,
            ),
            (
                "POST /wsman HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                HeadError::Malformed,
            ),
            ("\u{1}\u{3}nonsense\r\n\r\n", HeadError::Malformed),
        ];
        for (text, error) in cases {
            assert_eq!(head(text.as_bytes()), Err(error), "{text}");
        }
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(MAX_HEAD));
        assert_eq!(head(long.as_bytes()), Err(HeadError::TooLong));
        assert_eq!(head(&long.as_bytes()[..MAX_HEAD]), Err(HeadError::TooLong));
        let many = format!(
            "GET / HTTP/1.1\r\n{}\r\n",
            "X: y\r\n".repeat(MAX_FIELDS + 1)
        );
        assert_eq!(head(many.as_bytes()), Err(HeadError::Malformed));
    }

    #[test]
    fn chunk_sizes_are_four_upper_case_digits_and_the_end_is_a_bare_zero() {
        let bytes = reply(
            200,
            1_643_623_200,
            "15.0.23.1706",
            false,
            &[b'x'; 0x20a],
            |_| 0x200,
        );
        let text = String::from_utf8(bytes).unwrap();
        let expected = format!(
            "HTTP/1.1 200 OK\r\n\
             Date: Mon, 31 Jan 2022 10:00:00 GMT\r\n\
             Server: Intel(R) Active Management Technology 15.0.23.1706\r\n\
             X-Frame-Options: DENY\r\n\
             Content-Type: application/soap+xml; charset=UTF-8\r\n\
             Transfer-Encoding: chunked\r\n\
             \r\n\
             0200\r\n{}\r\n000A\r\n{}\r\n0\r\n\r\n",
            "x".repeat(0x200),
            "x".repeat(10)
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn chunk_sizes_stay_within_their_digits_whatever_is_asked() {
        for asked in [0, 1, usize::MAX] {
            let body = vec![b'x'; 100_000];
            let bytes = reply(200, 0, "", false, &body, |_| {
                if asked == 1 { 0xffff } else { asked.max(500) }
            });
            assert!(bytes.len() > body.len());
        }
        let bytes = reply(200, 0, "", false, b"ab", |_| 0);
        assert!(
            String::from_utf8(bytes)
                .unwrap()
                .ends_with("\r\n\r\n0001\r\na\r\n0001\r\nb\r\n0\r\n\r\n")
        );
    }

    #[test]
    fn dates_are_right_around_leap_days_and_ends() {
        let cases = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_704_067_199, "Sun, 31 Dec 2023 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ];
        for (unix, text) in cases {
            assert_eq!(date(unix), text);
        }
    }

    #[test]
    fn a_challenge_closes_the_connection_and_names_the_version() {
        let text = String::from_utf8(unauthorized("Digest x", "15.0.23.1706")).unwrap();
        let (head, page) = text.split_once("\r\n\r\n").unwrap();
        let lines: Vec<_> = head.split("\r\n").collect();
        let length = format!("Content-Length: {}", page.len());
        assert_eq!(
            lines,
            [
                "HTTP/1.1 401 Unauthorized",
                "WWW-Authenticate: Digest x",
                "Content-Type: text/html",
                "Server: Intel(R) Active Management Technology 15.0.23.1706",
                length.as_str(),
                "Connection: close",
            ]
        );
    }
}
