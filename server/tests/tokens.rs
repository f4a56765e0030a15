//! Who may do what over the wire: the operator's token, and the life and death of a session's.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use std::time::Duration;

use serde_json::json;
use support::api::{call, create, diagnostic, report, session, step};
use support::{OPERATOR, Place};

#[tokio::test(flavor = "multi_thread")]
async fn every_operator_call_needs_the_operators_token() {
    let place = Place::new();
    let server = place.start().await;
    let address = server.addresses()[0];
    let made = create(address, diagnostic()).await;
    let one = format!("/sessions/{}", made.id);
    let calls = [
        ("POST", "/sessions".to_owned(), Some(diagnostic())),
        ("GET", "/sessions".to_owned(), None),
        ("GET", one.clone(), None),
        ("GET", format!("{one}/events"), None),
        ("GET", format!("{one}/stream"), None),
        ("GET", "/sessions/nosuch".to_owned(), None),
        ("DELETE", one, None),
    ];
    let short = &OPERATOR[..OPERATOR.len() - 1];
    let longer = format!("{OPERATOR}0");
    for token in [
        None,
        Some(""),
        Some(short),
        Some(&longer),
        Some(&made.token),
    ] {
        for (method, path, body) in &calls {
            let answer = call(address, method, path, token, body.clone()).await;
            assert_eq!(answer.status, 401, "{method} {path} {token:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    assert_eq!(session(address, &made.id).await["state"], "created");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_its_own_session_and_no_other() {
    let place = Place::new();
    let server = place.start().await;
    let address = server.addresses()[0];
    let one = create(address, diagnostic()).await;
    let two = create(address, diagnostic()).await;
    let reports = json!([step("step-started", "mount")]);
    for (id, token) in [
        (&one.id, two.token.as_str()),
        (&one.id, OPERATOR),
        (&one.id, &one.token[..63]),
        (&one.id, &one.token.to_uppercase()),
        (&one.id, "0"),
        (&"nosuch".to_owned(), &one.token),
        (&"' OR 1=1 --".replace(' ', "%20"), &one.token),
    ] {
        let answer = report(address, id, token, reports.clone()).await;
        assert_eq!(answer.status, 401, "{id}");
    }
    let path = format!("/sessions/{}/events", one.id);
    let body = json!({ "events": reports });
    let answer = call(address, "POST", &path, None, Some(body)).await;
    assert_eq!(answer.status, 401);
    assert_eq!(session(address, &one.id).await["events_count"], 0);
    assert_eq!(
        report(address, &one.id, &one.token, reports).await.status,
        204
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_dies_at_hand_off() {
    let place = Place::new();
    let server = place.start().await;
    let address = server.addresses()[0];
    let made = create(address, diagnostic()).await;
    let reports = json!([
        { "at_ms": 1, "kind": "hand-off", "method": "kexec_load" },
        step("step-started", "mount"),
    ]);
    assert_eq!(
        report(address, &made.id, &made.token, reports).await.status,
        204
    );
    // What a batch holds behind the hand-off is not part of this session any more.
    assert_eq!(session(address, &made.id).await["events_count"], 1);
    let late = json!([step("step-started", "mount")]);
    assert_eq!(
        report(address, &made.id, &made.token, late.clone())
            .await
            .status,
        410
    );
    // Only who has the token learns that.
    assert_eq!(report(address, &made.id, OPERATOR, late).await.status, 401);
    let path = format!("/sessions/{}", made.id);
    let answer = call(address, "DELETE", &path, Some(OPERATOR), None).await;
    assert_eq!(answer.status, 409);
    assert_eq!(session(address, &made.id).await["state"], "handed-off");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_dies_at_expiry_to_the_second() {
    let place = Place::new();
    let server = place.start().await;
    let address = server.addresses()[0];
    let made = create(
        address,
        json!({ "image": "d", "target": "ram", "ttl_seconds": 60 }),
    )
    .await;
    let reports = json!([step("step-started", "mount")]);
    place.advance(Duration::from_secs(59));
    assert_eq!(
        report(address, &made.id, &made.token, reports.clone())
            .await
            .status,
        204
    );
    place.advance(Duration::from_secs(1));
    assert_eq!(
        report(address, &made.id, &made.token, reports).await.status,
        410
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_dies_at_cancellation() {
    let place = Place::new();
    let server = place.start().await;
    let address = server.addresses()[0];
    let made = create(address, diagnostic()).await;
    let path = format!("/sessions/{}", made.id);
    for _ in 0..2 {
        let answer = call(address, "DELETE", &path, Some(OPERATOR), None).await;
        assert_eq!(answer.status, 204);
    }
    let reports = json!([step("step-started", "mount")]);
    assert_eq!(
        report(address, &made.id, &made.token, reports).await.status,
        410
    );
    assert_eq!(session(address, &made.id).await["state"], "cancelled");
    let answer = call(address, "DELETE", "/sessions/nosuch", Some(OPERATOR), None).await;
    assert_eq!(answer.status, 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_nowhere_in_the_state_folder() {
    let place = Place::new();
    let server = place.start().await;
    let made = create(server.addresses()[0], diagnostic()).await;
    server.stop().await;
    let state = place.dir.path().join("state");
    let mut files = 0;
    for entry in std::fs::read_dir(state).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let token = made.token.as_bytes();
        assert!(!bytes.windows(token.len()).any(|window| window == token));
        files += 1;
    }
    assert!(files >= 2);
}
