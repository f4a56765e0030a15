//! Sessions over the wire: their states, their limits, what survives a restart.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::api::{call, create, diagnostic, json_of, report, session, step};
use support::{OPERATOR, Place};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_from_creation_to_hand_off() {
    let place = Place::new();
    let server = place.start().await;
    let address = server.addresses()[0];
    let body = json!({
        "image": "diagnostic", "target": "ram", "version": 18446744073709551615_u64,
        "ttl_seconds": 600, "note": "desk 7",
    });
    let made = create(address, body).await;
    let fresh = session(address, &made.id).await;
    assert_eq!(fresh["state"], "created");
    assert_eq!(fresh["image"], "diagnostic");
    assert_eq!(fresh["version"], 18446744073709551615_u64);
    assert_eq!(fresh["note"], "desk 7");
    assert_eq!(fresh["created"], "2026-11-22T00:00:00Z");
    assert_eq!(fresh["expires"], "2026-11-22T00:10:00Z");
    assert_eq!(fresh["events_count"], 0);
    for (reports, state) in [
        (json!([step("step-started", "mount")]), "booting"),
        (
            json!([step("step-done", "mount"), step("step-started", "network")]),
            "booting",
        ),
        (json!([step("step-started", "fetch")]), "downloading"),
        (
            json!([{
                "at_ms": 2000, "kind": "step-failed", "step": "fetch",
                "input": "pack", "cause": "no route", "advice": "plug it in",
            }]),
            "failed",
        ),
        // The loader tries again.
        (json!([step("step-started", "fetch")]), "downloading"),
        (
            json!([{ "at_ms": 2500, "kind": "progress", "phase": "fetch", "done": 1, "total": 2, "rate": 3 }]),
            "downloading",
        ),
        (json!([step("step-started", "hand-off")]), "booting"),
        (
            json!([{ "at_ms": 9000, "kind": "hand-off", "method": "kexec_file_load" }]),
            "handed-off",
        ),
    ] {
        let answer = report(address, &made.id, &made.token, reports.clone()).await;
        assert_eq!(answer.status, 204, "{reports}: {}", answer.text());
        assert_eq!(
            session(address, &made.id).await["state"],
            state,
            "{reports}"
        );
    }
    let done = session(address, &made.id).await;
    assert_eq!(done["events_count"], 9);
    assert_eq!(done["last_event"]["seq"], 9);
    let path = format!("/sessions/{}/events?after=7", made.id);
    let events = json_of(&call(address, "GET", &path, Some(OPERATOR), None).await);
    let seqs: Vec<u64> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, [8, 9]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn senseless_bodies_are_refused_with_a_reason() {
    let place = Place::new();
    let server = place.start().await;
    let address = server.addresses()[0];
    for body in [
        json!({}),
        json!({ "image": "../etc", "target": "ram" }),
        json!({ "image": "d", "target": "moon" }),
        json!({ "image": "d", "target": "ram", "ttl_seconds": -1 }),
        json!({ "image": "d", "target": "ram", "ttl_seconds": 0 }),
        json!({ "image": "d", "target": "ram", "note": "x".repeat(5000) }),
        json!("text"),
    ] {
        let answer = call(
            address,
            "POST",
            "/sessions",
            Some(OPERATOR),
            Some(body.clone()),
        )
        .await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(!json_of(&answer)["message"].as_str().unwrap().is_empty());
    }
    let made = create(address, diagnostic()).await;
    for reports in [
        json!({}),
        json!([{ "at_ms": 1 }]),
        json!([{ "at_ms": -1, "kind": "log", "lines": [] }]),
        json!([{ "at_ms": 1, "kind": "log", "lines": ["x".repeat(5000)] }]),
        json!([{ "at_ms": 1, "kind": "step-started", "step": 7 }]),
    ] {
        let answer = report(address, &made.id, &made.token, reports.clone()).await;
        assert_eq!(answer.status, 400, "{reports}");
    }
    assert_eq!(session(address, &made.id).await["events_count"], 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_kinds_that_this_server_does_not_know_are_kept() {
    let place = Place::new();
    let server = place.start().await;
    let address = server.addresses()[0];
    let made = create(address, diagnostic()).await;
    let new = json!([{ "at_ms": 5, "kind": "temperature", "celsius": 41 }]);
    assert_eq!(
        report(address, &made.id, &made.token, new).await.status,
        204
    );
    let last = &session(address, &made.id).await["last_event"]["report"];
    assert_eq!(last["kind"], "temperature");
    assert_eq!(last["celsius"], 41);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_a_limit_of_events_and_can_still_be_handed_off() {
    let place = Place::new();
    let mut settings = place.settings();
    settings.sessions.events = 10;
    let server = place.start_with(settings).await;
    let address = server.addresses()[0];
    let made = create(address, diagnostic()).await;
    let line = json!({ "at_ms": 1, "kind": "log", "lines": ["x"] });
    let lines = |count: usize| Value::from(vec![line.clone(); count]);
    assert_eq!(
        report(address, &made.id, &made.token, lines(9))
            .await
            .status,
        204
    );
    // All of a batch or nothing.
    assert_eq!(
        report(address, &made.id, &made.token, lines(2))
            .await
            .status,
        429
    );
    assert_eq!(session(address, &made.id).await["events_count"], 9);
    assert_eq!(
        report(address, &made.id, &made.token, lines(1))
            .await
            .status,
        204
    );
    assert_eq!(
        report(address, &made.id, &made.token, lines(1))
            .await
            .status,
        429
    );
    let end = json!([line, { "at_ms": 2, "kind": "hand-off", "method": "kexec_load" }]);
    assert_eq!(
        report(address, &made.id, &made.token, end).await.status,
        204
    );
    let done = session(address, &made.id).await;
    assert_eq!(
        (&done["state"], &done["events_count"]),
        (&json!("handed-off"), &json!(11))
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_a_sessions_events_are_limited_too() {
    let place = Place::new();
    let mut settings = place.settings();
    settings.sessions.event_bytes = 10_000;
    let server = place.start_with(settings).await;
    let address = server.addresses()[0];
    let made = create(address, diagnostic()).await;
    let lines = json!([{ "at_ms": 1, "kind": "log", "lines": vec!["x".repeat(4000); 3] }]);
    assert_eq!(
        report(address, &made.id, &made.token, lines.clone())
            .await
            .status,
        204
    );
    assert_eq!(
        report(address, &made.id, &made.token, lines).await.status,
        429
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_live_sessions_is_limited() {
    let place = Place::new();
    let mut settings = place.settings();
    settings.sessions.live = 2;
    let server = place.start_with(settings).await;
    let address = server.addresses()[0];
    let one = create(address, diagnostic()).await;
    create(address, diagnostic()).await;
    let answer = call(
        address,
        "POST",
        "/sessions",
        Some(OPERATOR),
        Some(diagnostic()),
    )
    .await;
    assert_eq!(answer.status, 503);
    call(
        address,
        "DELETE",
        &format!("/sessions/{}", one.id),
        Some(OPERATOR),
        None,
    )
    .await;
    create(address, diagnostic()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_newest_first() {
    let place = Place::new();
    let server = place.start().await;
    let address = server.addresses()[0];
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(create(address, diagnostic()).await.id);
        place.advance(Duration::from_secs(1));
    }
    let answer = call(address, "GET", "/sessions?limit=2", Some(OPERATOR), None).await;
    let listed: Vec<String> = json_of(&answer)
        .as_array()
        .unwrap()
        .iter()
        .map(|session| session["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, [ids[2].clone(), ids[1].clone()]);
    for query in ["?limit=-1", "?limit=x", "?limit=99999999999"] {
        let path = format!("/sessions{query}");
        assert_eq!(
            call(address, "GET", &path, Some(OPERATOR), None)
                .await
                .status,
            400
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_over_a_restart() {
    let place = Place::new();
    let server = place.start().await;
    let address = server.addresses()[0];
    let made = create(address, diagnostic()).await;
    let reports = json!([step("step-started", "mount"), step("step-done", "mount")]);
    assert_eq!(
        report(address, &made.id, &made.token, reports).await.status,
        204
    );
    let before = session(address, &made.id).await;
    server.stop().await;

    let server = place.start().await;
    let address = server.addresses()[0];
    assert_eq!(session(address, &made.id).await, before);
    // The loader goes on reporting as if nothing had happened.
    let reports = json!([step("step-started", "network")]);
    assert_eq!(
        report(address, &made.id, &made.token, reports).await.status,
        204
    );
    assert_eq!(session(address, &made.id).await["events_count"], 3);

    // A crash leaves no time to close anything.
    drop(server);
    let server = place.start().await;
    let address = server.addresses()[0];
    assert_eq!(session(address, &made.id).await["events_count"], 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_do_not_share_a_state_folder() {
    let place = Place::new();
    let server = place.start().await;
    let error = sparetire_server::serve::Server::start(
        place.settings(),
        sparetire_server::serve::Clock::system(),
    )
    .await
    .unwrap_err();
    assert!(error.to_string().contains("another server"), "{error}");
    assert_eq!(
        sparetire_builder::exit::exit_code_of(&error),
        sparetire_builder::exit::ExitCode::Refused
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_sessions_are_forgotten_after_their_time() {
    let place = Place::new();
    let mut settings = place.settings();
    settings.sessions.keep = Duration::from_secs(3600);
    let server = place.start_with(settings.clone()).await;
    let address = server.addresses()[0];
    let ended = create(address, diagnostic()).await;
    let live = create(
        address,
        json!({ "image": "d", "target": "ram", "ttl_seconds": 86400 }),
    )
    .await;
    call(
        address,
        "DELETE",
        &format!("/sessions/{}", ended.id),
        Some(OPERATOR),
        None,
    )
    .await;
    place.advance(Duration::from_secs(3601));
    let path = format!("/sessions/{}", ended.id);
    let gone = async {
        while call(address, "GET", &path, Some(OPERATOR), None)
            .await
            .status
            != 404
        {}
    };
    tokio::time::timeout(Duration::from_secs(20), gone)
        .await
        .unwrap();
    assert_eq!(session(address, &live.id).await["state"], "created");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_loaders_report_at_once_and_nothing_mixes() {
    let place = Place::new();
    let server = place.start().await;
    let address = server.addresses()[0];
    let loaders: Vec<_> = (0..20)
        .map(|n| {
            tokio::spawn(async move {
                let made = create(address, diagnostic()).await;
                for turn in 0..5 {
                    let lines =
                        json!([{ "at_ms": turn, "kind": "log", "lines": [format!("{n}")] }]);
                    let answer = report(address, &made.id, &made.token, lines).await;
                    assert_eq!(answer.status, 204, "{}", answer.text());
                }
                (n, made.id)
            })
        })
        .collect();
    for loader in loaders {
        let (n, id) = loader.await.unwrap();
        let path = format!("/sessions/{id}/events");
        let events = json_of(&call(address, "GET", &path, Some(OPERATOR), None).await);
        let events = events.as_array().unwrap();
        assert_eq!(events.len(), 5);
        for (turn, event) in events.iter().enumerate() {
            assert_eq!(event["seq"], turn + 1);
            assert_eq!(event["report"]["at_ms"], turn);
            assert_eq!(event["report"]["lines"][0], n.to_string());
        }
    }
    server.stop().await;
}
