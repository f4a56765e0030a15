//! What a console sends on a redirection port: messages of all layers. What is read writes itself back.
#![no_main]

use amt_redirection::auth::{DigestRequest, PasswordRequest};
use amt_redirection::session::AuthMethod;
use amt_redirection::wire::Decoded;
use amt_redirection::{ider, session, sol};
use libfuzzer_sys::fuzz_target;

macro_rules! reads_and_writes {
    ($decode:expr, $bytes:expr) => {
        match $decode($bytes) {
            Ok(Decoded::Message { message, length }) => {
                assert!(length > 0 && length <= $bytes.len());
                let mut written = Vec::new();
                message.encode(&mut written);
                let Ok(Decoded::Message { message: again, .. }) = $decode(&written) else {
                    panic!("{message:?} does not read back");
                };
                assert_eq!(again, message);
                // No shorter beginning is a message of its own.
                assert!(matches!(
                    $decode(&$bytes[..length - 1]),
                    Ok(Decoded::NeedMore)
                ));
                length
            }
            Ok(Decoded::NeedMore) | Err(_) => 0,
        }
    };
}

fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    while !rest.is_empty() {
        let session = reads_and_writes!(session::ConsoleMessage::decode, rest);
        let ider = reads_and_writes!(ider::ConsoleMessage::decode, rest);
        let sol = reads_and_writes!(sol::ConsoleMessage::decode, rest);
        rest = &rest[session.max(ider).max(sol).max(1)..];
    }
    for method in [AuthMethod::DIGEST, AuthMethod::DIGEST_LEGACY] {
        if let Ok(request) = DigestRequest::decode(method, input) {
            let mut written = Vec::new();
            request.encode(method, &mut written);
            assert_eq!(written, input);
        }
    }
    if let Ok(request) = PasswordRequest::decode(input) {
        let mut written = Vec::new();
        request.encode(&mut written);
        assert_eq!(written, input);
    }
});
