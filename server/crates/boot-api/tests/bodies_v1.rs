//! Bodies of the boot-session API, version 1: JSON against values, caps, unknown kinds.
//!
//! The JSON is written by hand from `docs/formats/boot-session-api.md`. When a test here fails, the code is wrong.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use boot_api::{
    BatchError, CreateSession, Event, EventBatch, Inventory, MAX_BATCH, MAX_LINES, MAX_REPORTS,
    MAX_TEXT, Report, ReportKind, RequestError, Secret, Session, SessionCreated, State, Target,
    Timestamp, clip, step,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn report(at_ms: u64, kind: ReportKind) -> Report {
    Report { at_ms, kind }
}

/// Every kind, as JSON and as value.
fn kinds() -> Vec<(Value, ReportKind)> {
    let text = String::from;
    vec![
        (
            json!({"kind": "step-started", "step": "mount"}),
            ReportKind::StepStarted {
                step: text("mount"),
            },
        ),
        (
            json!({"kind": "step-done", "step": "network", "detail": "eno1 up"}),
            ReportKind::StepDone {
                step: text("network"),
                detail: text("eno1 up"),
            },
        ),
        (
            json!({"kind": "step-failed", "step": "fetch", "input": "u", "cause": "c", "advice": "a"}),
            ReportKind::StepFailed {
                step: text("fetch"),
                input: text("u"),
                cause: text("c"),
                advice: text("a"),
            },
        ),
        (
            json!({"kind": "progress", "phase": "fetch", "done": 1, "total": u64::MAX, "rate": 3}),
            ReportKind::Progress {
                phase: text("fetch"),
                done: 1,
                total: u64::MAX,
                rate: 3,
            },
        ),
        (
            json!({"kind": "link", "interface": "eno1", "driver": "e1000e", "mac": "00:11:22:33:44:55", "state": "up"}),
            ReportKind::Link {
                interface: text("eno1"),
                driver: Some(text("e1000e")),
                mac: text("00:11:22:33:44:55"),
                state: text("up"),
            },
        ),
        (
            json!({"kind": "address", "interface": "eno1", "address": "10.0.2.15/24", "source": "dhcp"}),
            ReportKind::Address {
                interface: text("eno1"),
                address: text("10.0.2.15/24"),
                source: text("dhcp"),
            },
        ),
        (
            json!({"kind": "fault", "source": "http://m", "what": "reset"}),
            ReportKind::Fault {
                source: text("http://m"),
                what: text("reset"),
            },
        ),
        (
            json!({"kind": "memory", "total": 4, "available": 3, "peak_used": 2}),
            ReportKind::Memory {
                total: 4,
                available: 3,
                peak_used: 2,
            },
        ),
        (
            json!({"kind": "inventory", "vendor": "QEMU", "firmware": "uefi"}),
            ReportKind::Inventory(Inventory {
                vendor: Some(text("QEMU")),
                firmware: Some(text("uefi")),
                ..Inventory::default()
            }),
        ),
        (
            json!({"kind": "log", "lines": ["a", "b"]}),
            ReportKind::Log {
                lines: vec![text("a"), text("b")],
            },
        ),
        (
            json!({"kind": "hand-off", "method": "kexec-load"}),
            ReportKind::HandOff {
                method: text("kexec-load"),
            },
        ),
    ]
}

fn parse(events: Value) -> Result<EventBatch, BatchError> {
    EventBatch::parse(&serde_json::to_vec(&json!({ "events": events })).unwrap())
}

#[test]
fn every_kind_reads_and_writes_as_documented() {
    for (mut json, kind) in kinds() {
        assert_eq!(json["kind"], kind.name());
        json["at_ms"] = json!(1500);
        let batch = parse(json!([json])).unwrap();
        assert_eq!(batch.events, [report(1500, kind)]);
        let written: Value = serde_json::from_slice(&batch.to_json().unwrap()).unwrap();
        assert_eq!(written, json!({"events": [json]}));
    }
}

#[test]
fn optional_fields_may_be_missing() {
    let batch = parse(json!([
        {"at_ms": 0, "kind": "step-done", "step": "mount"},
        {"at_ms": 1, "kind": "step-failed", "step": "mount", "cause": "c"},
        {"at_ms": 2, "kind": "progress", "phase": "fetch", "done": 0, "total": 0},
        {"at_ms": 3, "kind": "memory", "total": 1, "available": 1},
        {"at_ms": 4, "kind": "inventory"},
    ]));
    assert_eq!(batch.unwrap().events.len(), 5);
}

#[test]
fn unknown_kinds_survive_with_their_fields() {
    let json = json!({"at_ms": 7, "kind": "firmware-log", "lines": ["x"], "nested": {"deep": [1, null, -2.5]}});
    let batch = parse(json!([json])).unwrap();
    match &batch.events[0].kind {
        ReportKind::Other { kind, fields } => {
            assert_eq!(kind, "firmware-log");
            assert_eq!(fields.keys().collect::<Vec<_>>(), ["lines", "nested"]);
        }
        other => panic!("{other:?}"),
    }
    let written: Value = serde_json::from_slice(&batch.to_json().unwrap()).unwrap();
    assert_eq!(written, json!({"events": [json]}));
}

#[test]
fn a_known_kind_with_wrong_fields_is_refused() {
    for json in [
        json!({"at_ms": 0, "kind": "step-started"}),
        json!({"at_ms": 0, "kind": "progress", "phase": "fetch", "done": -1, "total": 1}),
        json!({"at_ms": 0, "kind": "log", "lines": "one"}),
        json!({"at_ms": 0, "kind": "hand-off", "method": null}),
    ] {
        assert!(
            matches!(parse(json!([json])), Err(BatchError::Report(_))),
            "{json}"
        );
    }
    for json in [
        json!({"kind": "log", "lines": []}),
        json!({"at_ms": 0}),
        json!({"at_ms": 0, "kind": 7}),
        json!([]),
    ] {
        assert!(
            matches!(parse(json!([json])), Err(BatchError::Json(_))),
            "{json}"
        );
    }
}

#[test]
fn caps_hold_at_the_border() {
    let started = json!({"at_ms": 0, "kind": "step-started", "step": "mount"});
    assert!(parse(json!(vec![started.clone(); MAX_REPORTS])).is_ok());
    assert!(matches!(
        parse(json!(vec![started; MAX_REPORTS + 1])),
        Err(BatchError::TooManyReports { found }) if found == MAX_REPORTS + 1
    ));
    let log = |lines: usize| json!([{"at_ms": 0, "kind": "log", "lines": vec!["x"; lines]}]);
    assert!(parse(log(MAX_LINES)).is_ok());
    assert!(matches!(
        parse(log(MAX_LINES + 1)),
        Err(BatchError::TooManyLines { .. })
    ));
    let text = |kind: &str, length: usize| json!([{"at_ms": 0, "kind": kind, "step": "x".repeat(length), "a": [{"b": "x".repeat(length)}]}]);
    for kind in ["step-started", "of-the-future"] {
        assert!(parse(text(kind, MAX_TEXT)).is_ok());
        assert!(
            matches!(
                parse(text(kind, MAX_TEXT + 1)),
                Err(BatchError::TextTooLong { .. })
            ),
            "{kind}"
        );
    }
    let spaces = |length: usize| [br#"{"events":[]}"#.to_vec(), vec![b' '; length]].concat();
    assert!(EventBatch::parse(&spaces(MAX_BATCH - 13)).is_ok());
    assert!(matches!(
        EventBatch::parse(&spaces(MAX_BATCH - 12)),
        Err(BatchError::TooLarge { .. })
    ));
}

#[test]
fn deep_nesting_is_refused() {
    let body = format!(
        r#"{{"events":[{{"at_ms":0,"kind":"x","a":{}{}}}]}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    assert!(matches!(
        EventBatch::parse(body.as_bytes()),
        Err(BatchError::Json(_))
    ));
}

#[test]
fn nothing_that_drives_a_terminal_gets_through() {
    let evil = "a\u{1b}[2Jb\r\nc\u{9b}d\u{202e}e\tf";
    let clean = "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}d\u{fffd}e f";
    assert_eq!(clip(evil), clean);
    let batch = parse(json!([
        {"at_ms": 0, "kind": "log", "lines": [evil]},
        {"at_ms": 0, "kind": evil, "deep": {"er": [evil]}},
    ]))
    .unwrap();
    assert_eq!(
        batch.events[0].kind,
        ReportKind::Log {
            lines: vec![clean.into()]
        }
    );
    match &batch.events[1].kind {
        ReportKind::Other { kind, fields } => assert_eq!(
            (kind.as_str(), &fields["deep"]["er"][0]),
            (clean, &json!(clean))
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn field_names_cannot_drive_a_terminal_either() {
    // Found by fuzzing: JSON escapes neither DEL nor the C1 controls.
    for name in [
        "\u{7f}",
        "\u{9b}2J",
        "\u{1b}[2J",
        "\u{202e}",
        &"x".repeat(65),
    ] {
        for fields in [json!({ name: 1 }), json!({"a": [{ name: 1 }]})] {
            let mut report = json!({"at_ms": 0, "kind": "of-the-future"});
            report
                .as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            assert!(
                matches!(parse(json!([report])), Err(BatchError::FieldName)),
                "{name:?}"
            );
        }
    }
}

#[test]
fn clipped_texts_always_fit() {
    for text in [
        "x".repeat(MAX_TEXT + 5),
        "é".repeat(MAX_TEXT),
        "\u{1b}".repeat(MAX_TEXT),
    ] {
        let clipped = clip(&text);
        assert!(clipped.len() <= MAX_TEXT && clipped.len() > MAX_TEXT - 3);
    }
}

#[test]
fn events_and_sessions_have_the_documented_form() {
    let event = Event {
        seq: 3,
        received: Timestamp::from_unix(1_795_305_240),
        report: report(
            1500,
            ReportKind::StepStarted {
                step: step::FETCH.into(),
            },
        ),
    };
    let session = Session {
        id: "s1".into(),
        image: "debian".parse().unwrap(),
        version: None,
        target: Target::Ram,
        state: State::Downloading,
        created: Timestamp::from_unix(1_795_305_240),
        expires: Timestamp::from_unix(1_795_305_300),
        note: Some("PC 7".into()),
        last_event: Some(event),
        events_count: 3,
    };
    let json = json!({
        "id": "s1",
        "image": "debian",
        "target": "ram",
        "state": "downloading",
        "created": "2026-11-21T23:54:00Z",
        "expires": "2026-11-21T23:55:00Z",
        "note": "PC 7",
        "last_event": {
            "seq": 3,
            "received": "2026-11-21T23:54:00Z",
            "report": {"at_ms": 1500, "kind": "step-started", "step": "fetch"}
        },
        "events_count": 3
    });
    assert_eq!(serde_json::to_value(&session).unwrap(), json);
    assert_eq!(serde_json::from_value::<Session>(json).unwrap(), session);

    let created = SessionCreated {
        id: "s1".into(),
        token: Secret::new("t".into()),
        expires: Timestamp::from_unix(0),
    };
    let json = json!({"id": "s1", "token": "t", "expires": "1970-01-01T00:00:00Z"});
    assert_eq!(serde_json::to_value(&created).unwrap(), json);
    assert!(!format!("{created:?}").contains("\"t\""));
}

#[test]
fn a_request_needs_an_image_only() {
    let request: CreateSession = serde_json::from_value(json!({"image": "debian"})).unwrap();
    assert_eq!(
        (request.target, request.version, request.ttl_seconds),
        (Target::Ram, None, None)
    );
    request.check().unwrap();
    for (ttl, refused) in [(0, true), (1, false), (86_400, false), (86_401, true)] {
        let request = CreateSession {
            ttl_seconds: Some(ttl),
            ..request.clone()
        };
        assert_eq!(request.check().is_err(), refused, "{ttl}");
    }
    for note in ["x".repeat(257), "a\u{1b}".into()] {
        assert_eq!(
            CreateSession {
                note: Some(note),
                ..request.clone()
            }
            .check(),
            Err(RequestError::Note)
        );
    }
    for json in [
        json!({}),
        json!({"image": "../x"}),
        json!({"image": "a", "ttl": 1}),
        json!({"image": "a", "target": "moon"}),
    ] {
        assert!(
            serde_json::from_value::<CreateSession>(json.clone()).is_err(),
            "{json}"
        );
    }
}

#[test]
fn reports_move_a_session_along() {
    let started = |step: &str| ReportKind::StepStarted { step: step.into() };
    let failed = ReportKind::StepFailed {
        step: step::FETCH.into(),
        input: String::new(),
        cause: "c".into(),
        advice: String::new(),
    };
    let log = ReportKind::Log { lines: Vec::new() };
    let done = ReportKind::HandOff {
        method: "kexec-load".into(),
    };
    let path = [
        (log.clone(), State::Booting),
        (started(step::NETWORK), State::Booting),
        (started(step::FETCH), State::Downloading),
        (log.clone(), State::Downloading),
        (failed, State::Failed),
        (log, State::Failed),
        (started(step::NETWORK), State::Booting),
        (started(step::FETCH), State::Downloading),
        (started(step::HAND_OFF), State::Booting),
        (done.clone(), State::HandedOff),
        (started(step::NETWORK), State::HandedOff),
    ];
    let mut state = State::Created;
    for (report, wanted) in path {
        state = state.after(&report);
        assert_eq!(state, wanted);
    }
    for last in [State::HandedOff, State::Expired, State::Cancelled] {
        assert!(last.is_final());
        assert_eq!(last.after(&done), last);
    }
}

#[test]
fn states_have_one_spelling() {
    for state in [
        "created",
        "booting",
        "downloading",
        "handed-off",
        "failed",
        "expired",
        "cancelled",
    ] {
        let value: State = state.parse().unwrap();
        assert_eq!(serde_json::to_value(value).unwrap(), json!(state));
        assert_eq!(value.to_string(), state);
    }
    assert!("done".parse::<State>().is_err());
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = EventBatch::parse(&bytes);
    }

    #[test]
    fn every_cut_of_a_batch_is_an_error(length in any::<prop::sample::Index>()) {
        let events: Vec<Value> = kinds().into_iter().map(|(mut json, _)| { json["at_ms"] = json!(1); json }).collect();
        let body = serde_json::to_vec(&json!({ "events": events })).unwrap();
        prop_assert!(EventBatch::parse(&body).is_ok());
        prop_assert!(EventBatch::parse(&body[..length.index(body.len())]).is_err());
    }

    #[test]
    fn what_was_parsed_once_passes_again(text in "(?s).{0,300}", kind in "[a-z]{1,8}") {
        let batch = parse(json!([{"at_ms": 0, "kind": kind, "text": text}]));
        if let Ok(batch) = batch {
            let again = EventBatch::parse(&batch.to_json().unwrap()).unwrap();
            prop_assert_eq!(again, batch);
        }
    }
}
