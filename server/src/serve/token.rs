//! Bearer tokens (RFC 6750): 256 random bits, written in hex, kept only as SHA-256 and compared
//! in constant time.
//!
//! A plain hash is enough: there is nothing to guess in 256 random bits, so there is nothing
//! that a slow password hash would slow down.

use std::fmt;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use sparetire_manifest::Digest;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret that opens something. Its `Debug` shows nothing, and it is wiped when dropped.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// A new token from the system's generator.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice())?;
        // A digest's text form is 32 bytes in hex.
        Ok(Self::new(Digest::from_bytes(*bytes).to_string()))
    }

    /// A token from its text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, to be sent to whom it is for.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What may be stored of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Digest::of(self.0.as_bytes()))
    }

    /// The token of an `Authorization: Bearer` header, if there is exactly one such header.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (scheme, token) = values.next()?.to_str().ok()?.split_once(' ')?;
        if values.next().is_some() || !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return None;
        }
        Some(Self::new(token.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// SHA-256 of a token.
#[derive(Debug, Clone, Copy)]
pub struct TokenHash(Digest);

impl TokenHash {
    /// Whether both are of the same token, in a time that does not depend on the answer.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }

    /// The stored form.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.to_string()
    }

    /// Reads the stored form back.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        hex.parse().ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn token(values: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        Token::from_headers(&headers).map(|token| token.reveal().to_owned())
    }

    #[test]
    fn only_a_single_bearer_header_carries_a_token() {
        assert_eq!(token(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(token(&["bearer abc"]).as_deref(), Some("abc"));
        for values in [
            &[][..],
            &["Bearer"],
            &["Bearer "],
            &["abc"],
            &["Basic abc"],
            &["Bearer abc", "Bearer abc"],
        ] {
            assert_eq!(token(values), None, "{values:?}");
        }
    }

    #[test]
    fn tokens_are_64_hex_digits_and_never_the_same() {
        let (one, two) = (Token::random().unwrap(), Token::random().unwrap());
        assert_eq!(one.reveal().len(), 64);
        assert!(one.reveal().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(one.reveal(), two.reveal());
        assert!(one.hash().matches(&one.hash()));
        assert!(!one.hash().matches(&two.hash()));
    }

    #[test]
    fn stored_form_is_the_sha_256_of_the_text() {
        // printf abc | sha256sum
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hash = Token::new("abc".into()).hash();
        assert_eq!(hash.to_hex(), hex);
        assert!(TokenHash::from_hex(hex).unwrap().matches(&hash));
    }

    #[test]
    fn debug_output_shows_no_token() {
        assert_eq!(format!("{:?}", Token::new("abc".into())), "Token(..)");
    }
}
