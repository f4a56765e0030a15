//! HTTP digest authentication, client side (RFC 2617, MD5): challenges read, answers computed, and when to stop trying.
//!
//! AMT's ways: `stale` is quoted, commas have no space after them, `qop` may list `auth-int, auth` with spaces and empty
//! entries, a nonce is forgotten at any time and is good on a new connection otherwise. Wrong credentials are counted and
//! end in a lock-out, hence a refusal is never answered twice with the same guess.
//!
//! Who controls the bytes: the challenge is the device's. Randomness (the client's nonce) comes from the caller.

mod challenge;

use std::fmt::Write as _;

use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

pub use challenge::{Challenge, ChallengeError, Qop};

/// Answers of one request that may be refused.
const MAX_REFUSALS: u32 = 3;

/// User name and password.
#[derive(Clone)]
pub struct Credentials {
    user: String,
    password: Zeroizing<String>,
}

/// A user name or password that cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredentials {
    /// The user name is empty.
    #[error("the user name is empty")]
    NoUser,
    /// A colon would shift what is hashed; the others cannot stand in a header.
    #[error(
        "the user name has a character that cannot be sent (no colons, quotes, control characters, only ASCII)"
    )]
    User,
    /// The password is empty; AMT has no such accounts.
    #[error("the password is empty")]
    NoPassword,
}

impl Credentials {
    /// Credentials that can be sent.
    ///
    /// # Errors
    ///
    /// When they cannot.
    pub fn new(
        user: impl Into<String>,
        password: Zeroizing<String>,
    ) -> Result<Self, InvalidCredentials> {
        let user = user.into();
        if user.is_empty() {
            return Err(InvalidCredentials::NoUser);
        }
        let sendable = |byte: u8| matches!(byte, b' '..=b'~') && !b":\"\\".contains(&byte);
        if !user.bytes().all(sendable) {
            return Err(InvalidCredentials::User);
        }
        if password.is_empty() {
            return Err(InvalidCredentials::NoPassword);
        }
        Ok(Self { user, password })
    }

    /// The user name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password, for the protocols that have their own digest.
    #[must_use]
    pub fn password(&self) -> &Zeroizing<String> {
        &self.password
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// What to do about a 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send the same request again, with a new answer.
    TryAgain,
    /// The credentials are not accepted. Trying more often locks the account.
    Denied,
    /// The server forgets each challenge before its answer arrives. Says nothing about the credentials.
    Forgotten,
}

/// The client's side over many requests and connections.
#[derive(Debug)]
pub struct Client {
    credentials: Credentials,
    challenge: Option<Challenge>,
    /// How often the nonce was used.
    count: u32,
    /// An answer went out since the last challenge.
    answered: bool,
    /// How many answers of this request were refused.
    refusals: u32,
    /// The nonce was given in reply to this very request.
    is_fresh: bool,
}

impl Client {
    /// A client that knows no challenge yet, so that its first request goes out bare.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            challenge: None,
            count: 0,
            answered: false,
            refusals: 0,
            is_fresh: false,
        }
    }

    /// Whose credentials these are.
    #[must_use]
    pub fn user(&self) -> &str {
        self.credentials.user()
    }

    /// Says that the next answer is for another request.
    pub fn begin_request(&mut self) {
        self.answered = false;
        self.refusals = 0;
        self.is_fresh = false;
    }

    /// The value of the `Authorization` header, or nothing before the first challenge. `client_nonce` has to be random.
    pub fn authorize(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
        client_nonce: [u8; 8],
    ) -> Option<String> {
        let challenge = self.challenge.as_ref()?;
        // A nonce is used up long before; starting over at 1 would be taken for a replay.
        self.count = self.count.checked_add(1)?;
        self.answered = true;
        let count = format!("{:08x}", self.count);
        let client_nonce = hex(&client_nonce);
        let response = response(
            &self.credentials,
            challenge,
            method,
            path,
            body,
            &count,
            &client_nonce,
        );
        let mut header = format!(
            "Digest username=\"{}\",realm=\"{}\",nonce=\"{}\",uri=\"{path}\",response=\"{response}\"",
            quoted(&self.credentials.user),
            quoted(&challenge.realm),
            quoted(&challenge.nonce),
        );
        let qop = match challenge.qop {
            Qop::Absent => None,
            Qop::Auth => Some("auth"),
            Qop::AuthInt => Some("auth-int"),
        };
        if let Some(qop) = qop {
            header.push_str(&format!(",qop={qop},nc={count},cnonce=\"{client_nonce}\""));
        }
        if let Some(opaque) = &challenge.opaque {
            header.push_str(&format!(",opaque=\"{}\"", quoted(opaque)));
        }
        Some(header)
    }

    /// Takes a 401's challenge and says whether another try makes sense.
    ///
    /// It does when none was made yet, when the server calls the nonce stale, and when the nonce was from an earlier
    /// request, which the server may have forgotten without saying so. An answer to a challenge just given that is
    /// refused means wrong credentials.
    pub fn challenged(&mut self, challenge: Challenge) -> Verdict {
        let refused = std::mem::take(&mut self.answered);
        if refused {
            self.refusals += 1;
        }
        let again = !refused || challenge.stale || !self.is_fresh;
        let is_new = self
            .challenge
            .as_ref()
            .is_none_or(|old| old.nonce != challenge.nonce);
        if is_new || self.count == u32::MAX {
            self.count = 0;
        }
        self.challenge = Some(challenge);
        self.is_fresh = true;
        match (again, self.refusals < MAX_REFUSALS) {
            (false, _) => Verdict::Denied,
            (true, true) => Verdict::TryAgain,
            (true, false) => Verdict::Forgotten,
        }
    }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn response(
    credentials: &Credentials,
    challenge: &Challenge,
    method: &str,
    path: &str,
    body: &[u8],
    count: &str,
    client_nonce: &str,
) -> String {
    let ha1 = hashed(&[
        credentials.user.as_bytes(),
        challenge.realm.as_bytes(),
        credentials.password.as_bytes(),
    ]);
    let ha1 = Zeroizing::new(ha1);
    let nonce = challenge.nonce.as_bytes();
    let (method, path) = (method.as_bytes(), path.as_bytes());
    let (qop, ha2) = match challenge.qop {
        Qop::Absent => {
            return hashed(&[ha1.as_bytes(), nonce, hashed(&[method, path]).as_bytes()]);
        }
        Qop::Auth => ("auth", hashed(&[method, path])),
        Qop::AuthInt => {
            let body = hashed(&[body]);
            ("auth-int", hashed(&[method, path, body.as_bytes()]))
        }
    };
    hashed(&[
        ha1.as_bytes(),
        nonce,
        count.as_bytes(),
        client_nonce.as_bytes(),
        qop.as_bytes(),
        ha2.as_bytes(),
    ])
}

/// MD5 of the parts with colons between them, in hex.
fn hashed(parts: &[&[u8]]) -> String {
    let mut md5 = Md5::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            md5.update(b":");
        }
        md5.update(part);
    }
    hex(&md5.finalize())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const REALM: &str = "Digest:F3EB554784E729164447A89F60B641C5";
    const OTHER_REALM: &str = "Digest:34BF4B5A0561F95248F58509A406E046";
    const NONCE: &str = "bQali2IAAAAAAAAAn0xaWCOcxNsRcEHX";
    const CLIENT_NONCE: [u8; 8] = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];

    fn admin() -> Credentials {
        Credentials::new("admin", Zeroizing::new("P@ssw0rd".into())).unwrap()
    }

    fn challenge(realm: &str, nonce: &str, stale: bool, qop: &str) -> Challenge {
        let header =
            format!("Digest realm=\"{realm}\", nonce=\"{nonce}\",stale=\"{stale}\",qop=\"{qop}\"");
        Challenge::of([header.as_str()]).unwrap()
    }

    #[test]
    fn responses_match_the_reference_vectors() {
        let get = include_bytes!("../testdata/get-general-settings.xml");
        for (realm, qop, count, body, expected) in [
            (
                REALM,
                "auth",
                1,
                &get[..],
                "fca6c06f30fbbbdadade242fcf2f63c0",
            ),
            (
                REALM,
                "auth",
                2,
                &get[..],
                "25565652b7cec08415d2c29288cc390f",
            ),
            (
                REALM,
                "auth-int",
                1,
                &get[..],
                "4974f44b8d6118ba3b84439bb327ab04",
            ),
            (
                OTHER_REALM,
                "auth",
                1,
                b"<x/>",
                "0ddb5eb19150e0e8c22850268f84bfc1",
            ),
            (
                OTHER_REALM,
                "auth-int",
                1,
                b"<x/>",
                "a1ffd09e9106c04586e1ce874a0b1da7",
            ),
        ] {
            let mut client = Client::new(admin());
            assert_eq!(
                client.challenged(challenge(realm, NONCE, false, qop)),
                Verdict::TryAgain
            );
            let mut header = String::new();
            for _ in 0..count {
                header = client
                    .authorize("POST", "/wsman", body, CLIENT_NONCE)
                    .unwrap();
            }
            assert!(
                header.contains(&format!("response=\"{expected}\"")),
                "{realm} {qop} {count}: {header}"
            );
        }
        let secret = hashed(&[b"admin", REALM.as_bytes(), b"P@ssw0rd"]);
        assert_eq!(secret, "0ae083011bae3d84fc486ce4ab44ae1d");
        assert_eq!(hashed(&[get]), "162c4d1aee0e53bc90368edf49e9eae7");
    }

    #[test]
    fn an_answer_has_every_parameter_once() {
        let mut client = Client::new(admin());
        assert_eq!(client.authorize("POST", "/wsman", b"", CLIENT_NONCE), None);
        client.challenged(challenge(REALM, NONCE, false, "auth"));
        assert_eq!(
            client
                .authorize("POST", "/wsman", b"", CLIENT_NONCE)
                .unwrap(),
            "Digest username=\"admin\",\
             realm=\"Digest:F3EB554784E729164447A89F60B641C5\",\
             nonce=\"bQali2IAAAAAAAAAn0xaWCOcxNsRcEHX\",\
             uri=\"/wsman\",\
             response=\"fca6c06f30fbbbdadade242fcf2f63c0\",\
             qop=auth,nc=00000001,cnonce=\"0123456789abcdef\""
        );
    }

    #[test]
    fn wrong_credentials_are_tried_once() {
        let mut client = Client::new(admin());
        client.begin_request();
        assert!(
            client
                .authorize("POST", "/wsman", b"", CLIENT_NONCE)
                .is_none()
        );
        let first = challenge(REALM, "one", false, "auth");
        assert_eq!(client.challenged(first), Verdict::TryAgain);
        assert!(
            client
                .authorize("POST", "/wsman", b"", CLIENT_NONCE)
                .is_some()
        );
        let second = challenge(REALM, "two", false, "auth");
        assert_eq!(client.challenged(second), Verdict::Denied);
    }

    #[test]
    fn a_forgotten_nonce_is_replaced_and_counted_anew() {
        let mut client = Client::new(admin());
        client.begin_request();
        client.challenged(challenge(REALM, "one", false, "auth"));
        for count in 1..=3 {
            client.begin_request();
            let header = client
                .authorize("POST", "/wsman", b"", CLIENT_NONCE)
                .unwrap();
            assert!(header.contains(&format!("nc={count:08x}")), "{header}");
        }
        // Refused without "stale": it was from an earlier request, so once more.
        let verdict = client.challenged(challenge(REALM, "two", false, "auth"));
        assert_eq!(verdict, Verdict::TryAgain);
        let header = client
            .authorize("POST", "/wsman", b"", CLIENT_NONCE)
            .unwrap();
        assert!(header.contains("nonce=\"two\"") && header.contains("nc=00000001"));
        let verdict = client.challenged(challenge(REALM, "three", false, "auth"));
        assert_eq!(verdict, Verdict::Denied);
    }

    #[test]
    fn a_server_that_calls_every_nonce_stale_does_not_keep_the_client_busy() {
        let mut client = Client::new(admin());
        client.begin_request();
        let mut sent = 0;
        for number in 0.. {
            let nonce = format!("n{number}");
            match client.challenged(challenge(REALM, &nonce, true, "auth")) {
                Verdict::TryAgain => {}
                verdict => {
                    assert_eq!(verdict, Verdict::Forgotten);
                    break;
                }
            }
            client
                .authorize("POST", "/wsman", b"", CLIENT_NONCE)
                .unwrap();
            sent += 1;
        }
        assert_eq!(sent, MAX_REFUSALS);
    }

    #[test]
    fn answers_that_were_never_received_do_not_count_as_refused() {
        let mut client = Client::new(admin());
        client.begin_request();
        client.challenged(challenge(REALM, "one", false, "auth"));
        for _ in 0..5 {
            // The connection dropped each time.
            client
                .authorize("POST", "/wsman", b"", CLIENT_NONCE)
                .unwrap();
        }
        let stale = challenge(REALM, "two", true, "auth");
        assert_eq!(client.challenged(stale), Verdict::TryAgain);
    }

    #[test]
    fn credentials_that_would_break_the_header_are_refused() {
        let make = |user: &str, password: &str| {
            Credentials::new(user, Zeroizing::new(password.to_owned())).err()
        };
        assert_eq!(make("", "x"), Some(InvalidCredentials::NoUser));
        assert_eq!(make("admin", ""), Some(InvalidCredentials::NoPassword));
        for user in ["a:b", "a\"b", "a\r\nX: y", "ä", "a\\b"] {
            assert_eq!(make(user, "x"), Some(InvalidCredentials::User), "{user}");
        }
        assert!(!format!("{:?}", admin()).contains("P@ss"));
    }
}
