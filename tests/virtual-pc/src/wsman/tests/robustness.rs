//! Hostile envelopes, heads and header fields: an answer that is well-formed or none, never a panic.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::{digest, http};
use super::*;

fn whole() -> String {
    let uri = uri("AMT_RedirectionService");
    let body = format!(
        "<RequestStateChange_INPUT xmlns=\"{uri}\"><RequestedState>32771</RequestedState></RequestStateChange_INPUT>"
    );
    envelope(1, &format!("{uri}/RequestStateChange"), &uri, "", &body)
}

/// One service for all: whatever came before must not matter.
static BENCH: LazyLock<Bench> = LazyLock::new(|| Bench::new(|_| {}));

fn answer(bytes: &[u8]) -> Answer {
    let bench = &*BENCH;
    let answer = bench.service.answer(bench.now, &bench.account, bytes);
    roxmltree::Document::parse(&answer.envelope).expect("well-formed");
    answer
}

#[test]
fn every_cut_of_a_request_is_a_fault() {
    let whole = whole();
    for length in 0..whole.len() {
        assert_eq!(answer(&whole.as_bytes()[..length]).status, 400, "{length}");
    }
    assert_eq!(answer(whole.as_bytes()).status, 200);
}

#[test]
fn what_is_no_envelope_is_a_fault() {
    let deep = "<a>".repeat(20_000);
    let wide = format!("<a>{}</a>", "<b/>".repeat(10_000));
    let bomb = "<!DOCTYPE a [<!ENTITY x \"xxxxxxxxxx\"><!ENTITY y \"&x;&x;&x;\">]><a>&y;</a>";
    for text in ["", " ", "<a/>", "{}", &deep, &wide, bomb] {
        assert_eq!(subcode(&answer(text.as_bytes())), "SchemaValidationError");
    }
    assert_eq!(
        subcode(&answer(b"\xff\xfe<\0a\0/\0>\0")),
        "SchemaValidationError"
    );
}

#[test]
fn control_characters_in_a_message_id_do_not_spoil_the_reply() {
    let text = whole().replace(">1<", ">a&#x9;b&#xD;c&lt;<");
    assert_eq!(answer(text.as_bytes()).status, 200);
}

proptest! {
    #[test]
    fn any_bytes_get_a_well_formed_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(answer(&bytes).status, 400);
    }

    #[test]
    fn any_change_to_a_request_gets_a_well_formed_answer(at in 0usize..900, new in proptest::collection::vec(any::<u8>(), 0..6)) {
        let mut bytes = whole().into_bytes();
        let at = at % bytes.len();
        let end = (at + new.len().max(1)).min(bytes.len());
        bytes.splice(at..end, new);
        answer(&bytes);
    }

    #[test]
    fn any_head_is_read_refused_or_waited_for(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Some((head, end))) = http::head(&bytes) {
            prop_assert!(end <= bytes.len() && head.length <= http::MAX_BODY);
        }
    }

    #[test]
    fn any_authorization_field_is_read_or_refused(text in "(Digest )?[ -~é]{0,120}") {
        if let Some(parsed) = digest::Authorization::parse(&text) {
            prop_assert!(parsed.user.len() <= text.len());
        }
    }

    #[test]
    fn whatever_the_chunks_the_body_comes_out_again(
        body in proptest::collection::vec(any::<u8>(), 0..2000),
        sizes in proptest::collection::vec(0usize..3000, 1..20),
    ) {
        let mut sizes = sizes.into_iter().cycle();
        let bytes = http::reply(200, 0, "1", false, &body, |_| sizes.next().unwrap());
        let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
        let mut rest = &bytes[head + 4..];
        let mut decoded = Vec::new();
        while !rest.starts_with(b"0\r\n") {
            let size = usize::from_str_radix(str::from_utf8(&rest[..4]).unwrap(), 16).unwrap();
            prop_assert_eq!(&rest[4..6], b"\r\n");
            decoded.extend_from_slice(&rest[6..6 + size]);
            prop_assert_eq!(&rest[6 + size..8 + size], b"\r\n");
            rest = &rest[8 + size..];
        }
        prop_assert_eq!(rest, b"0\r\n\r\n");
        prop_assert_eq!(decoded, body);
    }
}
