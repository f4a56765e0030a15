//! Digest authentication, server side: challenges, nonces, and what a client's header says (RFC 2617 section 3).
//!
//! Whether the response is right is the firmware's to say, since it has the accounts. Nonces are good on any
//! connection, with a count that grows; the firmware may forget them at any time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::firmware::Qop;

/// Most nonces that are remembered; the oldest go first.
const MAX_NONCES: usize = 64;

/// Most parameters in an Authorization header.
const MAX_PARAMETERS: usize = 32;

#[derive(Debug)]
struct Nonce {
    text: String,
    issued: Instant,
    /// The highest count seen.
    count: u32,
}

/// The nonces that are good at present.
#[derive(Debug, Default)]
pub(super) struct Nonces(VecDeque<Nonce>);

impl Nonces {
    pub(super) fn issue(&mut self, now: Instant, text: String) {
        if self.0.len() == MAX_NONCES {
            self.0.pop_front();
        }
        self.0.push_back(Nonce {
            text,
            issued: now,
            count: 0,
        });
    }

    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }

    /// Takes a count; `false` for a nonce that is not ours, too old, or was used with this count or a higher one.
    pub(super) fn use_once(
        &mut self,
        now: Instant,
        text: &str,
        count: u32,
        lifetime: Duration,
    ) -> bool {
        self.0
            .retain(|nonce| now.saturating_duration_since(nonce.issued) < lifetime);
        let Some(nonce) = self.0.iter_mut().find(|nonce| nonce.text == text) else {
            return false;
        };
        let fresh = count > nonce.count;
        if fresh {
            nonce.count = count;
        }
        fresh
    }
}

/// The value of `WWW-Authenticate`, spaced as real firmware spaces it.
pub(super) fn challenge(realm: &str, nonce: &str, stale: bool, offered: &[Qop]) -> String {
    let qop: Vec<_> = offered.iter().map(|qop| qop.as_str()).collect();
    format!(
        "Digest realm=\"{realm}\", nonce=\"{nonce}\",stale=\"{stale}\",qop=\"{}\"",
        qop.join(", ")
    )
}

/// An `Authorization` header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Authorization {
    pub(super) user: String,
    pub(super) realm: String,
    pub(super) nonce: String,
    pub(super) uri: String,
    pub(super) qop: String,
    pub(super) nc: String,
    pub(super) cnonce: String,
    pub(super) response: String,
    pub(super) algorithm: Option<String>,
}

impl Authorization {
    /// Reads the header; values may be quoted or not. `None` when it is not digest or not well-formed.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, mut rest) = header.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let mut this = Self::default();
        for _ in 0..MAX_PARAMETERS {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return Some(this);
            }
            let (name, value) = rest.split_once('=')?;
            let value = value.trim_start();
            let (value, after) = if let Some(quoted) = value.strip_prefix('"') {
                unquote(quoted)?
            } else {
                token(value)
            };
            rest = after;
            let field = match name.trim().to_ascii_lowercase().as_str() {
                "username" => &mut this.user,
                "realm" => &mut this.realm,
                "nonce" => &mut this.nonce,
                "uri" => &mut this.uri,
                "qop" => &mut this.qop,
                "nc" => &mut this.nc,
                "cnonce" => &mut this.cnonce,
                "response" => &mut this.response,
                "algorithm" => this.algorithm.insert(String::new()),
                _ => continue,
            };
            *field = value;
        }
        None
    }

    /// The count as a number: eight hexadecimal digits.
    pub(super) fn count(&self) -> Option<u32> {
        let digits = self.nc.len() == 8 && self.nc.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits {
            u32::from_str_radix(&self.nc, 16).ok()
        } else {
            None
        }
    }

    /// Which of the qualities offered the client chose.
    pub(super) fn chosen(&self, offered: &[Qop]) -> Option<Qop> {
        offered.iter().copied().find(|qop| qop.as_str() == self.qop)
    }

    /// Whether the client hashes as we do.
    pub(super) fn uses_md5(&self) -> bool {
        self.algorithm
            .as_deref()
            .is_none_or(|name| name.eq_ignore_ascii_case("md5"))
    }
}

/// Text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// Text up to a comma, and what follows.
fn token(text: &str) -> (String, &str) {
    let (value, rest) = text.split_once(',').unwrap_or((text, ""));
    (value.trim_end().to_owned(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_spaced_like_a_real_one() {
        let header = challenge(
            "Digest:34BF4B5A0561F95248F58509A406E046",
            "bQali2IAAAAAAAAAn0xaWCOcxNsRcEHX",
            false,
            &[Qop::Auth],
        );
        assert_eq!(
            header,
            "Digest realm=\"Digest:34BF4B5A0561F95248F58509A406E046\", \
             nonce=\"bQali2IAAAAAAAAAn0xaWCOcxNsRcEHX\",stale=\"false\",qop=\"auth\""
        );
        assert!(
            challenge("r", "n", true, &[Qop::AuthInt, Qop::Auth])
                .ends_with("stale=\"true\",qop=\"auth-int, auth\"")
        );
    }

    #[test]
    fn quoted_and_unquoted_parameters_read_the_same() {
        let quoted = r#"Digest username="admin", realm="r", nonce="n", uri="/wsman", qop="auth", nc="00000001", cnonce="c", response="abc""#;
        let unquoted = r#"digest  username=admin,realm=r ,nonce=n,uri=/wsman,qop=auth,nc=00000001,cnonce=c,response=abc,"#;
        let both = [quoted, unquoted].map(|header| Authorization::parse(header).unwrap());
        assert_eq!(both[0], both[1]);
        assert_eq!(both[0].count(), Some(1));
        assert_eq!(both[0].chosen(&[Qop::Auth]), Some(Qop::Auth));
        assert_eq!(both[0].chosen(&[Qop::AuthInt]), None);
    }

    #[test]
    fn quoted_text_may_hold_commas_equals_and_escapes() {
        let parsed =
            Authorization::parse(r#"Digest username="a,b=\"c\\", unknown="x, y", response=1"#)
                .unwrap();
        assert_eq!(parsed.user, r#"a,b="c\"#);
        assert_eq!(parsed.response, "1");
    }

    #[test]
    fn what_is_not_digest_is_nothing() {
        for header in [
            "",
            "Digest",
            "Basic YTpi",
            r#"Digest username="a"#,
            "Digest nonsense",
            r#"Digest a="\"#,
        ] {
            assert_eq!(Authorization::parse(header), None, "{header}");
        }
        let endless = format!("Digest {}", "a=b,".repeat(MAX_PARAMETERS + 1));
        assert_eq!(Authorization::parse(&endless), None);
    }

    #[test]
    fn counts_are_eight_hexadecimal_digits() {
        let count = |nc: &str| {
            Authorization {
                nc: nc.into(),
                ..Authorization::default()
            }
            .count()
        };
        assert_eq!(count("0000000a"), Some(10));
        assert_eq!(count("FFFFFFFF"), Some(u32::MAX));
        for nc in ["", "1", "000000001", "+0000001", "0000000g", "0000000é"] {
            assert_eq!(count(nc), None, "{nc}");
        }
    }

    #[test]
    fn a_nonce_counts_upwards_expires_and_can_be_forgotten() {
        let lifetime = Duration::from_secs(10);
        let start = Instant::now();
        let mut nonces = Nonces::default();
        nonces.issue(start, "n".into());
        assert!(!nonces.use_once(start, "other", 1, lifetime));
        assert!(!nonces.use_once(start, "n", 0, lifetime));
        assert!(nonces.use_once(start, "n", 1, lifetime));
        assert!(!nonces.use_once(start, "n", 1, lifetime), "replayed");
        assert!(
            nonces.use_once(start, "n", 7, lifetime),
            "gaps are no replay"
        );
        assert!(!nonces.use_once(start, "n", 3, lifetime));
        assert!(
            !nonces.use_once(start + lifetime, "n", 8, lifetime),
            "expired"
        );
        nonces.issue(start, "m".into());
        nonces.forget_all();
        assert!(!nonces.use_once(start, "m", 1, lifetime));
    }

    #[test]
    fn the_oldest_nonces_go_first() {
        let now = Instant::now();
        let mut nonces = Nonces::default();
        for number in 0..=MAX_NONCES {
            nonces.issue(now, number.to_string());
        }
        assert!(!nonces.use_once(now, "0", 1, Duration::MAX));
        assert!(nonces.use_once(now, "1", 1, Duration::MAX));
    }
}
