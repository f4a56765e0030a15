//! Challenges, read leniently: what real servers write in `WWW-Authenticate` (RFC 2617, 3.2.1).

/// A challenge may be this long, in bytes; AMT's are below 200.
const MAX_CHALLENGE: usize = 4096;

/// How much the answer covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qop {
    /// RFC 2069: neither counter nor client nonce.
    Absent,
    /// Method and path.
    Auth,
    /// Method, path and body.
    AuthInt,
}

/// What a server asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Name of the protected space; a part of what is hashed.
    pub realm: String,
    /// The server's nonce.
    pub nonce: String,
    /// To be sent back as it is.
    pub opaque: Option<String>,
    /// The last answer was right but for its nonce.
    pub stale: bool,
    /// The strongest of what is offered.
    pub qop: Qop,
}

/// Why a challenge cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// No `WWW-Authenticate` at all.
    #[error("it asks for credentials without saying how")]
    Absent,
    /// Other schemes only.
    #[error("it offers {0:?}, not Digest")]
    NoDigest(String),
    /// Too long to be read.
    #[error("its challenge has {0} bytes")]
    TooLong(usize),
    /// A parameter that has to be there is not, or holds characters that it must not.
    #[error("its challenge has no usable {0}")]
    Parameter(&'static str),
    /// A hash that is not known here.
    #[error("it wants the hash {0:?}")]
    Algorithm(String),
    /// A quality of protection that is not known here.
    #[error("it wants the protection {0:?}")]
    Protection(String),
}

impl Challenge {
    /// Finds the digest challenge in the values of all `WWW-Authenticate` headers.
    ///
    /// # Errors
    ///
    /// When there is none, or none that can be answered.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self, ChallengeError> {
        let mut other = None;
        for value in values {
            if value.len() > MAX_CHALLENGE {
                return Err(ChallengeError::TooLong(value.len()));
            }
            match digest_part(value) {
                Some(parameters) => return Self::parse(parameters),
                None => {
                    let scheme = value.split_whitespace().next().unwrap_or_default();
                    other.get_or_insert(scheme.chars().take(32).collect());
                }
            }
        }
        Err(other.map_or(ChallengeError::Absent, ChallengeError::NoDigest))
    }

    fn parse(text: &str) -> Result<Self, ChallengeError> {
        let mut challenge = Parameters::default();
        let mut rest = text;
        while let Some((name, value, after)) = parameter(rest) {
            rest = after;
            let slot = match name.to_ascii_lowercase().as_str() {
                "realm" => &mut challenge.realm,
                "nonce" => &mut challenge.nonce,
                "opaque" => &mut challenge.opaque,
                "stale" => &mut challenge.stale,
                "qop" => &mut challenge.qop,
                "algorithm" => &mut challenge.algorithm,
                _ => continue,
            };
            slot.get_or_insert(value);
        }
        let algorithm = challenge.algorithm.unwrap_or_default();
        if !algorithm.is_empty() && !algorithm.eq_ignore_ascii_case("MD5") {
            return Err(ChallengeError::Algorithm(algorithm));
        }
        let opaque = challenge.opaque.filter(|opaque| is_sendable(opaque));
        Ok(Self {
            realm: sendable(challenge.realm, "realm")?,
            nonce: sendable(challenge.nonce, "nonce")?,
            opaque,
            stale: challenge
                .stale
                .is_some_and(|stale| stale.trim().eq_ignore_ascii_case("true")),
            qop: qop(challenge.qop.as_deref())?,
        })
    }
}

#[derive(Default)]
struct Parameters {
    realm: Option<String>,
    nonce: Option<String>,
    opaque: Option<String>,
    stale: Option<String>,
    qop: Option<String>,
    algorithm: Option<String>,
}

fn sendable(value: Option<String>, name: &'static str) -> Result<String, ChallengeError> {
    value
        .filter(|value| !value.is_empty() && is_sendable(value))
        .ok_or(ChallengeError::Parameter(name))
}

/// It goes back in a header.
fn is_sendable(value: &str) -> bool {
    !value.chars().any(char::is_control)
}

/// Empty entries and spaces happen; an empty list is no list.
fn qop(list: Option<&str>) -> Result<Qop, ChallengeError> {
    let list = list.unwrap_or_default();
    let has = |name: &str| {
        list.split([',', ' ', '\t'])
            .any(|entry| entry.eq_ignore_ascii_case(name))
    };
    if has("auth-int") {
        Ok(Qop::AuthInt)
    } else if has("auth") {
        Ok(Qop::Auth)
    } else if list.split([',', ' ', '\t']).all(str::is_empty) {
        Ok(Qop::Absent)
    } else {
        Err(ChallengeError::Protection(list.chars().take(32).collect()))
    }
}

/// What follows the word `Digest` where it stands as a scheme: at the start, or after a comma.
fn digest_part(value: &str) -> Option<&str> {
    const SCHEME: &str = "digest";
    let mut start = true;
    let mut quoted = false;
    for (index, c) in value.char_indices() {
        if start && !quoted {
            let rest = value.get(index..)?;
            let word = rest.get(..SCHEME.len());
            let after = rest.get(SCHEME.len()..).unwrap_or_default();
            if word.is_some_and(|word| word.eq_ignore_ascii_case(SCHEME))
                && after.starts_with([' ', '\t'])
            {
                return Some(after);
            }
        }
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => start = true,
            ' ' | '\t' => {}
            _ => start = false,
        }
    }
    None
}

/// The next `name=value` or `name="value"`, and what follows it. What is neither is skipped.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    loop {
        let end = rest.find(['=', ','])?;
        let (name, after) = rest.split_at_checked(end)?;
        if let Some(after) = after.strip_prefix('=') {
            let after = after.trim_start();
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => unquote(quoted),
                None => {
                    let end = after.find(',').unwrap_or(after.len());
                    let (value, after) = after.split_at_checked(end)?;
                    (value.trim().to_owned(), after)
                }
            };
            return Some((name.trim(), value, after));
        }
        rest = after.trim_start_matches([' ', '\t', ',']);
    }
}

/// Takes a quoted string whose first quote is gone. A missing last quote is forgiven.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return (value, text.get(index + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OTHER_REALM: &str = "Digest:34BF4B5A0561F95248F58509A406E046";
    const NONCE: &str = "bQali2IAAAAAAAAAn0xaWCOcxNsRcEHX";

    fn quoted(text: &str) -> String {
        text.replace('\\', "\\\\").replace('"', "\\\"")
    }

    #[test]
    fn challenges_are_read_as_amt_and_others_write_them() {
        let amt = "Digest realm=\"Digest:34BF4B5A0561F95248F58509A406E046\", \
                   nonce=\"bQali2IAAAAAAAAAn0xaWCOcxNsRcEHX\",stale=\"false\",qop=\"auth\"";
        let expected = Challenge {
            realm: OTHER_REALM.into(),
            nonce: NONCE.into(),
            opaque: None,
            stale: false,
            qop: Qop::Auth,
        };
        assert_eq!(Challenge::of([amt]), Ok(expected.clone()));
        // A Kerberos device offers both, in one header or in two.
        assert_eq!(Challenge::of(["Negotiate", amt]), Ok(expected.clone()));
        let both = format!("Negotiate, {amt}");
        assert_eq!(Challenge::of([both.as_str()]), Ok(expected));

        for (list, qop) in [
            ("qop=\"auth-int, auth\"", Qop::AuthInt),
            ("qop=\"auth,auth-int,\"", Qop::AuthInt),
            ("qop=\" , auth ,\"", Qop::Auth),
            ("qop=auth", Qop::Auth),
            ("qop=\"\"", Qop::Absent),
            ("algorithm=MD5", Qop::Absent),
        ] {
            let header = format!("digest nonce=n , REALM = \"r\" ,{list}, opaque=\"o\\\"p\"");
            let read = Challenge::of([header.as_str()]).unwrap();
            assert_eq!((read.qop, read.realm.as_str()), (qop, "r"), "{list}");
            assert_eq!(read.opaque.as_deref(), Some("o\"p"));
        }
        for stale in ["stale=true", "stale=\"TRUE\"", "Stale=\"true\""] {
            let header = format!("Digest realm=\"r\",nonce=\"n\",{stale}");
            assert!(Challenge::of([header.as_str()]).unwrap().stale, "{stale}");
        }
    }

    #[test]
    fn challenges_that_cannot_be_answered_say_why() {
        let long = format!("Digest realm=\"{}\"", "r".repeat(MAX_CHALLENGE));
        for (header, expected) in [
            (
                "Basic realm=\"x\"",
                ChallengeError::NoDigest("Basic".into()),
            ),
            // The word in another scheme's value is no scheme.
            (
                "Basic realm=\"x, Digest y\"",
                ChallengeError::NoDigest("Basic".into()),
            ),
            ("Digest nonce=\"n\"", ChallengeError::Parameter("realm")),
            ("Digest realm=\"r\"", ChallengeError::Parameter("nonce")),
            (
                "Digest realm=\"r\",nonce=\"\"",
                ChallengeError::Parameter("nonce"),
            ),
            (
                "Digest realm=\"r\",nonce=\"a\u{7}\"",
                ChallengeError::Parameter("nonce"),
            ),
            (
                "Digest realm=\"r\",nonce=\"n\",algorithm=SHA-256",
                ChallengeError::Algorithm("SHA-256".into()),
            ),
            (
                "Digest realm=\"r\",nonce=\"n\",qop=\"auth-conf\"",
                ChallengeError::Protection("auth-conf".into()),
            ),
            (long.as_str(), ChallengeError::TooLong(long.len())),
        ] {
            assert_eq!(Challenge::of([header]), Err(expected), "{header:.60}");
        }
        assert_eq!(Challenge::of([]), Err(ChallengeError::Absent));
    }

    proptest! {
        #[test]
        fn random_challenges_never_panic(header in any::<String>()) {
            let _ = Challenge::of([header.as_str()]);
            let _ = Challenge::of([format!("Digest {header}").as_str()]);
        }

        #[test]
        fn a_challenge_is_read_as_it_was_written(realm in "[ -~]{1,40}", nonce in "[ -~]{1,40}") {
            let header = format!(
                "Digest realm=\"{}\", nonce=\"{}\"",
                quoted(&realm),
                quoted(&nonce)
            );
            let read = Challenge::of([header.as_str()]).unwrap();
            prop_assert_eq!((read.realm, read.nonce), (realm, nonce));
        }
    }
}
