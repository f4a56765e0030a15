//! `WWW-Authenticate` headers, one a line: what is answered can stand in a header, and nobody is asked for ever.
#![no_main]

use amt_wsman::digest::{Challenge, ChallengeError, Client, Credentials, Verdict};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(challenge) = Challenge::of(text.split('\n')) else {
        return;
    };
    let credentials = Credentials::new("admin", "P@ssw0rd".to_owned().into()).expect("sendable");
    let mut client = Client::new(credentials);
    client.begin_request();
    assert!(client.authorize("POST", "/wsman", b"", [0; 8]).is_none());
    let mut tries = 0;
    while client.challenged(challenge.clone()) == Verdict::TryAgain {
        let header = client
            .authorize("POST", "/wsman", b"<x/>", [7; 8])
            .expect("there is a challenge");
        assert!(!header.chars().any(char::is_control), "{header:?}");
        // What was read is what is sent back.
        let mut echoed = header.replacen("Digest username=\"admin\",", "Digest ", 1);
        echoed.push_str(",qop=auth");
        match Challenge::of([echoed.as_str()]) {
            Ok(again) => assert_eq!(
                (&again.realm, &again.nonce),
                (&challenge.realm, &challenge.nonce)
            ),
            // Quotes take two characters each.
            Err(error) => assert!(matches!(error, ChallengeError::TooLong(_)), "{error}"),
        }
        tries += 1;
        assert!(tries <= 3);
    }
});
