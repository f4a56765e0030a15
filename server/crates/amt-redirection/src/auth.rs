//! Data of the authentication messages 0x13 and 0x14 (reference, sections 2.3 and 2.4).
//!
//! All fields are length-prefixed byte strings. Lengths are never assumed: consoles differ in how long their
//! nonce is and in the nonce count they send, and firmware in its realm.

use crate::session::AuthMethod;
use crate::wire::{DecodeError, Field, Fields, put_prefixed};

/// The address that all consoles hash and send.
pub const URI: &[u8] = b"/RedirectionService";

/// A console's digest message, both forms: the first request has only user and address, the response all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestRequest<'a> {
    /// User name.
    pub user: Field<'a>,
    /// From the challenge.
    pub realm: Field<'a>,
    /// From the challenge.
    pub nonce: Field<'a>,
    /// [`URI`].
    pub uri: Field<'a>,
    /// The console's nonce.
    pub cnonce: Field<'a>,
    /// Nonce count, eight hexadecimal digits. A constant in every console.
    pub nonce_count: Field<'a>,
    /// 32 hexadecimal digits; empty in the first request.
    pub response: Field<'a>,
    /// Quality of protection. Not sent with [`AuthMethod::DIGEST_LEGACY`], where it reads as empty.
    pub qop: Field<'a>,
}

impl<'a> DigestRequest<'a> {
    /// Reads the data of a 0x13 with a digest method.
    pub fn decode(method: AuthMethod, data: &'a [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(data);
        let request = Self {
            user: fields.prefixed("user name")?,
            realm: fields.prefixed("realm")?,
            nonce: fields.prefixed("nonce")?,
            uri: fields.prefixed("address")?,
            cnonce: fields.prefixed("console nonce")?,
            nonce_count: fields.prefixed("nonce count")?,
            response: fields.prefixed("response")?,
            qop: match method {
                AuthMethod::DIGEST => fields.prefixed("quality of protection")?,
                _ => Field::EMPTY,
            },
        };
        fields.end()?;
        Ok(request)
    }

    /// Appends the data of a 0x13 with a digest method.
    pub fn encode(&self, method: AuthMethod, out: &mut Vec<u8>) {
        for field in [
            self.user,
            self.realm,
            self.nonce,
            self.uri,
            self.cnonce,
            self.nonce_count,
            self.response,
        ] {
            put_prefixed(out, field);
        }
        if method == AuthMethod::DIGEST {
            put_prefixed(out, self.qop);
        }
    }
}

/// Firmware's challenge: the data of a 0x14 with status 1 and a digest method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestChallenge<'a> {
    /// `Digest:` and 32 hexadecimal digits.
    pub realm: Field<'a>,
    /// 32 characters.
    pub nonce: Field<'a>,
    /// A list with `auth` in it. Not sent with [`AuthMethod::DIGEST_LEGACY`], where it reads as empty.
    pub qop: Field<'a>,
}

impl<'a> DigestChallenge<'a> {
    /// Reads the data of a challenge.
    pub fn decode(method: AuthMethod, data: &'a [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(data);
        let challenge = Self {
            realm: fields.prefixed("realm")?,
            nonce: fields.prefixed("nonce")?,
            qop: match method {
                AuthMethod::DIGEST => fields.prefixed("quality of protection")?,
                _ => Field::EMPTY,
            },
        };
        fields.end()?;
        Ok(challenge)
    }

    /// Appends the data of a challenge.
    pub fn encode(&self, method: AuthMethod, out: &mut Vec<u8>) {
        put_prefixed(out, self.realm);
        put_prefixed(out, self.nonce);
        if method == AuthMethod::DIGEST {
            put_prefixed(out, self.qop);
        }
    }

    /// Whether the challenge allows qop "auth". It may be one of several in a list.
    pub fn allows_auth(&self) -> bool {
        self.qop
            .bytes()
            .split(|&byte| byte == b',')
            .any(|item| item.trim_ascii() == b"auth")
    }
}

/// User name and password in clear: the data of a 0x13 with [`AuthMethod::PASSWORD`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PasswordRequest<'a> {
    /// User name.
    pub user: Field<'a>,
    /// Password.
    pub password: Field<'a>,
}

impl<'a> PasswordRequest<'a> {
    /// Reads the data of a 0x13 with [`AuthMethod::PASSWORD`].
    pub fn decode(data: &'a [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(data);
        let request = Self {
            user: fields.prefixed("user name")?,
            password: fields.prefixed("password")?,
        };
        fields.end()?;
        Ok(request)
    }

    /// Appends the data of a 0x13 with [`AuthMethod::PASSWORD`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_prefixed(out, self.user);
        put_prefixed(out, self.password);
    }
}
