//! The vector of section 2.4 of the reference, which four programs agree on. When this fails, the code is wrong.

use super::*;
use crate::auth::URI;
use crate::wire::Field;

fn vector() -> DigestRequest<'static> {
    let field = |bytes| Field::new(bytes).unwrap();
    DigestRequest {
        user: field(b"admin"),
        realm: field(b"Digest:A1B2C3D4E5F60718293A4B5C6D7E8F90"),
        nonce: field(b"0123456789abcdef0123456789abcdef"),
        uri: field(URI),
        cnonce: field(b"d4bfc9b9a2482edaa0f2113f9b752514"),
        nonce_count: field(b"00000002"),
        response: Field::EMPTY,
        qop: field(b"auth"),
    }
}

#[test]
fn gives_the_published_responses() {
    let request = vector();
    let ha1 = ha1(b"admin", request.realm.bytes(), b"P@ssw0rd");
    assert_eq!(&*ha1, b"2dd27e52dab78fa3732f7accb948813e");
    assert_eq!(
        response(AuthMethod::DIGEST, &ha1, &request),
        *b"5ddde26e7417ac105c91044df0c1a172"
    );
    assert_eq!(
        response(AuthMethod::DIGEST_LEGACY, &ha1, &request),
        *b"2dd506906c78405d83cd3142cec8da83"
    );
}

#[test]
fn every_digit_of_a_response_counts() {
    let expected = *b"5ddde26e7417ac105c91044df0c1a172";
    assert!(matches(&expected, &expected));
    for position in 0..32 {
        let mut wrong = expected;
        wrong[position] ^= 1;
        assert!(!matches(&expected, &wrong), "digit {position}");
        assert!(
            !matches(&expected, &expected[..position]),
            "{position} digits"
        );
    }
    assert!(!matches(&expected, &[&expected[..], b"0"].concat()));
}

#[test]
fn writes_lower_case_hexadecimal() {
    let bytes = [
        0x00, 0x0f, 0xf0, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xa, 0xb, 0xcd,
    ];
    assert_eq!(&hex(&bytes), b"000ff0ff0102030405060708090a0bcd");
}
