//! The digest of redirection sessions: RFC 2617 with qop "auth" (type 4) and RFC 2069 (type 3), over MD5.
//!
//! ```text
//! HA1 = MD5(user ":" realm ":" password)     HA2 = MD5("POST:" address)
//! type 4: MD5(HA1 ":" nonce ":" nonce count ":" console nonce ":" qop ":" HA2)
//! type 3: MD5(HA1 ":" nonce ":" HA2)
//! ```
//! All in lower-case hexadecimal. MD5 is what the protocol uses; its weakness is why passwords are long and
//! why TLS is preferred where the firmware has it.

use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::auth::DigestRequest;
use crate::session::AuthMethod;

/// A digest as 32 lower-case hexadecimal digits.
pub type Hex = [u8; 32];

/// HA1: what firmware stores for a user of a realm. As good as the password.
pub fn ha1(user: &[u8], realm: &[u8], password: &[u8]) -> Zeroizing<Hex> {
    Zeroizing::new(md5_of(&[user, b":", realm, b":", password]))
}

/// The response to a challenge. `request.response` is not looked at.
///
/// Anything but [`AuthMethod::DIGEST`] is computed as [`AuthMethod::DIGEST_LEGACY`].
pub fn response(method: AuthMethod, ha1: &Hex, request: &DigestRequest<'_>) -> Hex {
    let ha2 = md5_of(&[b"POST:", request.uri.bytes()]);
    let nonce = request.nonce.bytes();
    if method != AuthMethod::DIGEST {
        return md5_of(&[ha1, b":", nonce, b":", &ha2]);
    }
    md5_of(&[
        ha1,
        b":",
        nonce,
        b":",
        request.nonce_count.bytes(),
        b":",
        request.cnonce.bytes(),
        b":",
        request.qop.bytes(),
        b":",
        &ha2,
    ])
}

/// Whether a received response is the expected one: all 32 digits, in a time that does not tell where they
/// differ.
pub fn matches(expected: &Hex, received: &[u8]) -> bool {
    expected.as_slice().ct_eq(received).into()
}

fn md5_of(parts: &[&[u8]]) -> Hex {
    let mut hasher = Md5::new();
    for part in parts {
        hasher.update(part);
    }
    hex(&hasher.finalize().into())
}

/// Lower-case hexadecimal digits of 16 bytes.
pub fn hex(bytes: &[u8; 16]) -> Hex {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or(b'0');
    let mut out = [0; 32];
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0x0f)]);
    }
    out
}

#[cfg(test)]
mod tests;
