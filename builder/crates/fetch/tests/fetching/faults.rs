//! One fault at a time: what it is called, what becomes of its source, and that the image arrives all the same.

use std::sync::LazyLock;
use std::time::Duration;

use fetch::{
    ConnectionFailure, FetchError, FetchEvent, Fetcher, Flow, Head, Settings, TlsFailure, What,
};
use sparetire_manifest::Digest;

use crate::sim::{Misdeed, Server, Sim, WatchfulSink};
use crate::store::{Part, Store, noise, text};

fn one_connection() -> Settings {
    Settings {
        connections: 1,
        ..Settings::default()
    }
}

/// The first fault of source 0, and whether it was dropped, when source 1 is honest.
fn first_fault(misdeed: Misdeed) -> (What, bool) {
    static STORE: LazyLock<Store> = LazyLock::new(|| Store::plain(120, 50_000));
    let store = &*STORE;
    let misbehaved = format!("{misdeed:?}");
    // The first answer is good, so that an ETag is known when the misdeed comes.
    let servers = vec![Server::scripted([Misdeed::None, misdeed]), Server::honest()];
    let outcome = Sim::new(store, servers).fetch(Settings {
        connections: 2,
        ..Settings::default()
    });
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.image, store.image, "{misbehaved}");
    let faults: Vec<_> = outcome
        .events
        .iter()
        .filter_map(|event| {
            if let FetchEvent::Fault(fault) = event {
                Some(fault.clone())
            } else {
                None
            }
        })
        .collect();
    let fault = faults
        .first()
        .unwrap_or_else(|| panic!("{misbehaved} went unnoticed"))
        .clone();
    assert_eq!(fault.source_index, 0, "{misbehaved}");
    assert_eq!(fault.image_offset, fault.chunk as u64 * 50_000);
    (
        fault.what,
        outcome
            .events
            .contains(&FetchEvent::SourceDropped { source: 0 }),
    )
}

#[test]
fn drops_a_source_that_lies_or_refuses() {
    assert_eq!(first_fault(Misdeed::Status(404)), (What::Status(404), true));
    assert_eq!(first_fault(Misdeed::Status(403)), (What::Status(403), true));
    assert_eq!(first_fault(Misdeed::Status(416)), (What::Status(416), true));
    assert_eq!(first_fault(Misdeed::Status(304)), (What::Status(304), true));
    assert_eq!(
        first_fault(Misdeed::Encoded),
        (What::Encoded("gzip".into()), true)
    );
    for misdeed in [Misdeed::Shifted, Misdeed::OtherTotal, Misdeed::NoRange] {
        let (what, dropped) = first_fault(misdeed.clone());
        assert!(
            dropped && matches!(what, What::WrongRange { .. }),
            "{misdeed:?}: {what:?}"
        );
    }
    let (what, dropped) = first_fault(Misdeed::ShorterLength);
    assert!(
        dropped && matches!(what, What::WrongLength { expected, found } if found + 1 == expected),
        "{what:?}"
    );
    for misdeed in [Misdeed::LongBody, Misdeed::Endless] {
        let (what, dropped) = first_fault(misdeed.clone());
        assert!(
            dropped && matches!(what, What::LongBody { .. }),
            "{misdeed:?}: {what:?}"
        );
    }
    let (what, dropped) = first_fault(Misdeed::WrongBit(123_456));
    assert!(dropped && matches!(what, What::Corrupt { .. }), "{what:?}");
    let wrong_ca = ConnectionFailure::Tls(TlsFailure::UnknownCa);
    assert_eq!(
        first_fault(Misdeed::Fail(wrong_ca)),
        (What::Connection(wrong_ca), true)
    );
    let redirect = ConnectionFailure::Redirect;
    assert_eq!(
        first_fault(Misdeed::Fail(redirect)),
        (What::Connection(redirect), true)
    );
}

#[test]
fn keeps_a_source_that_is_only_in_trouble() {
    for status in [408, 429, 500, 502, 503, 504] {
        assert_eq!(
            first_fault(Misdeed::Status(status)),
            (What::Status(status), false)
        );
    }
    for failure in [
        ConnectionFailure::Dns,
        ConnectionFailure::Refused,
        ConnectionFailure::Unreachable,
        ConnectionFailure::TimedOut,
        ConnectionFailure::Lost,
        ConnectionFailure::NotHttp,
        ConnectionFailure::Other,
    ] {
        assert_eq!(
            first_fault(Misdeed::Fail(failure)),
            (What::Connection(failure), false)
        );
    }
    assert_eq!(
        first_fault(Misdeed::Cut(120_000)),
        (What::Connection(ConnectionFailure::Lost), false)
    );
    assert_eq!(
        first_fault(Misdeed::BodyFirst),
        (What::Connection(ConnectionFailure::NotHttp), false)
    );
    let (what, dropped) = first_fault(Misdeed::ShortBody);
    assert!(
        !dropped && matches!(what, What::ShortBody { expected, found } if found + 1 == expected),
        "{what:?}"
    );
}

#[test]
fn a_connection_that_falls_silent_is_cut_and_its_source_asked_again() {
    let store = Store::plain(120, 50_000);
    let stalled = What::Stalled {
        after: Duration::from_secs(20),
    };
    for misdeed in [Misdeed::Silence, Misdeed::Stall(70_000), Misdeed::Trickle] {
        let servers = vec![Server::scripted([Misdeed::None, misdeed.clone()])];
        let outcome = Sim::new(&store, servers).fetch(one_connection());
        outcome.result.as_ref().unwrap();
        assert_eq!(outcome.image, store.image, "{misdeed:?}");
        let Some(FetchEvent::Fault(fault)) = outcome.events.first() else {
            panic!("{misdeed:?} went unnoticed")
        };
        assert_eq!(fault.what, stalled, "{misdeed:?}");
        assert!(
            !outcome
                .events
                .contains(&FetchEvent::SourceDropped { source: 0 })
        );
    }
}

#[test]
fn patience_ends_a_fetch_to_which_nothing_comes_any_more() {
    let store = Store::plain(100, 50_000);
    let gone = Server {
        habit: Some(Misdeed::Fail(ConnectionFailure::Unreachable)),
        ..Server::scripted([Misdeed::None, Misdeed::Cut(300_000)])
    };
    let outcome = Sim::new(&store, vec![gone]).fetch(Settings {
        patience: Some(Duration::from_secs(600)),
        ..one_connection()
    });
    let Err(FetchError::NoProgress {
        missing, faults, ..
    }) = &outcome.result
    else {
        panic!("{:?}", outcome.result)
    };
    assert!((1..5_000_000).contains(missing), "{missing}");
    assert_eq!(
        faults[0].what,
        What::Connection(ConnectionFailure::Unreachable)
    );
    let waited = outcome.elapsed.as_secs();
    assert!((600..602).contains(&waited), "{waited} s");
    assert_eq!(outcome.progress.quiet, Duration::from_secs(600));
}

#[test]
fn a_changed_etag_is_told_and_the_source_asked_again_without_it() {
    let store = Store::plain(100, 50_000);
    let servers = vec![Server::scripted([Misdeed::None, Misdeed::NewEtag])];
    let outcome = Sim::new(&store, servers).fetch(one_connection());
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.image, store.image);
    let FetchEvent::Fault(fault) = &outcome.events[0] else {
        panic!("{:?}", outcome.events)
    };
    assert_eq!(
        fault.what,
        What::Changed {
            before: "\"edition-0\"".into(),
            after: Some("\"edition-1\"".into())
        }
    );
    assert_eq!(outcome.events.len(), 1);
    let if_range: Vec<_> = outcome
        .requests
        .iter()
        .map(|(_, request)| request.if_range.as_deref())
        .collect();
    assert_eq!(if_range[..3], [None, Some("\"edition-0\""), None]);
}

#[test]
fn a_source_without_ranges_is_dropped() {
    let store = Store::plain(3, 1000);
    let outcome = Sim::new(&store, vec![Server::always(Misdeed::Whole)]).fetch(one_connection());
    let Err(FetchError::NoSourceLeft { faults }) = &outcome.result else {
        panic!("{:?}", outcome.result)
    };
    assert_eq!(faults[0].what, What::RangeIgnored);
    assert_eq!(outcome.progress.done, 0);
}

#[test]
fn a_damaged_frame_never_becomes_a_chunk() {
    let parts: Vec<Part> = (0..30)
        .map(|number| Part::Zstd(text(number, 60_000)))
        .collect();
    let store = Store::new(&parts);
    // Every bit of the first frame's first and last bytes, and some in between.
    for at in (0..100).chain([200, 300, 301]) {
        let outcome = Sim::new(
            &store,
            vec![Server::scripted([Misdeed::WrongBit(at)]), Server::honest()],
        )
        .fetch(one_connection());
        outcome.result.as_ref().unwrap();
        assert_eq!(outcome.image, store.image);
        // Bits of a frame that decoding ignores do no harm; all others cost the source its place.
        if let Some(FetchEvent::Fault(fault)) = outcome.events.first() {
            assert!(
                matches!(fault.what, What::Undecodable | What::Corrupt { .. }),
                "{:?}",
                fault.what
            );
            assert!(
                outcome
                    .events
                    .contains(&FetchEvent::SourceDropped { source: 0 })
            );
        }
    }
}

#[test]
fn names_every_source_when_none_is_left() {
    let store = Store::plain(10, 1000);
    let servers = vec![
        Server::always(Misdeed::Status(404)),
        Server::always(Misdeed::WrongBit(2500)),
        Server::always(Misdeed::Encoded),
    ];
    let outcome = Sim::new(&store, servers).fetch(Settings::default());
    let Err(FetchError::NoSourceLeft { faults }) = &outcome.result else {
        panic!("{:?}", outcome.result)
    };
    let sources: Vec<_> = faults.iter().map(|fault| fault.source_index).collect();
    assert_eq!(sources, [0, 1, 2]);
    assert_eq!(faults[0].what, What::Status(404));
    assert_eq!(faults[0].pack, Digest::of(&store.packs[0]));
    // The two chunks before the wrong bit were good, and count.
    assert_eq!((faults[1].chunk, faults[1].image_offset), (2, 2000));
    assert_eq!(outcome.progress.done, 2000);
}

#[test]
fn no_sources_at_all_is_a_failure_at_once() {
    let store = Store::plain(1, 10);
    let outcome = Sim::new(&store, Vec::new()).fetch(Settings::default());
    assert!(
        matches!(&outcome.result, Err(FetchError::NoSourceLeft { faults }) if faults.is_empty())
    );
}

#[test]
fn an_unreachable_server_is_asked_ever_more_rarely_until_the_deadline() {
    let store = Store::plain(10, 1000);
    let refused = Misdeed::Fail(ConnectionFailure::Refused);
    let settings = Settings {
        deadline: Some(Duration::from_secs(60)),
        ..Settings::default()
    };
    let outcome = Sim::new(&store, vec![Server::always(refused)]).fetch(settings);
    let Err(FetchError::Deadline {
        missing, faults, ..
    }) = outcome.result
    else {
        panic!("{:?}", outcome.result)
    };
    assert_eq!(missing, 10_000);
    assert_eq!(faults[0].what, What::Connection(ConnectionFailure::Refused));
    assert_eq!(outcome.elapsed, Duration::from_secs(60));
    assert!(
        (8..30).contains(&outcome.requests.len()),
        "{} requests",
        outcome.requests.len()
    );
}

#[test]
fn gives_a_source_up_after_so_many_failures_if_told_to() {
    let store = Store::plain(10, 1000);
    let servers = vec![Server::always(Misdeed::Status(503))];
    let outcome = Sim::new(&store, servers).fetch(Settings {
        give_up: Some(3),
        ..one_connection()
    });
    assert!(matches!(
        outcome.result,
        Err(FetchError::NoSourceLeft { .. })
    ));
    assert_eq!(outcome.requests.len(), 3);
}

#[test]
fn survives_an_outage_of_minutes() {
    let store = Store::plain(100, 50_000);
    let patient = Settings {
        patience: Some(Duration::from_secs(600)),
        ..Settings::default()
    };
    let outage = [Misdeed::None, Misdeed::Cut(300_000)]
        .into_iter()
        .chain(std::iter::repeat_n(
            Misdeed::Fail(ConnectionFailure::Unreachable),
            40,
        ));
    let outcome = Sim::new(&store, vec![Server::scripted(outage)]).fetch(patient);
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.image, store.image);
    assert!(
        outcome.elapsed > Duration::from_secs(120),
        "{:?}",
        outcome.elapsed
    );
}

#[test]
fn a_sink_that_fails_ends_the_fetch() {
    let store = Store::plain(10, 1000);
    let mut sim = Sim::new(&store, vec![Server::honest()]);
    sim.sink.full_at = Some(3000);
    let outcome = sim.fetch(one_connection());
    assert!(
        matches!(&outcome.result, Err(FetchError::Sink { offset: 3000, .. })),
        "{:?}",
        outcome.result
    );
    assert_eq!(outcome.progress.done, 3000);
}

#[test]
fn one_liar_does_not_take_the_others_work_with_it() {
    let store = Store::plain(60, 100_000);
    let servers = vec![Server::always(Misdeed::WrongBit(50_000)), Server::honest()];
    let outcome = Sim::new(&store, servers).fetch(Settings::default());
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.image, store.image);
    let dropped = outcome
        .events
        .iter()
        .filter(|event| matches!(event, FetchEvent::SourceDropped { .. }));
    assert_eq!(dropped.count(), 1);
}

#[test]
fn input_for_a_request_that_is_over_is_ignored() {
    let store = Store::plain(2, 1000);
    let mut sink = WatchfulSink::new(&store.image);
    let mut fetcher = Fetcher::new(&store.index, 1, one_connection(), 0).unwrap();
    let now = Duration::ZERO;
    let fetch::Action::Request(first) = fetcher.poll(now) else {
        panic!("no request")
    };
    fetcher.error(now, first.id, ConnectionFailure::Lost);
    let later = Duration::from_secs(1);
    let fetch::Action::Request(second) = fetcher.poll(later) else {
        panic!("no second request")
    };
    assert_ne!(first.id, second.id);
    assert_eq!(
        fetcher.response(
            later,
            first.id,
            &Head {
                status: 404,
                ..Head::default()
            }
        ),
        Flow::Stop
    );
    assert_eq!(
        fetcher.body(later, first.id, &[0; 5000], &mut sink),
        Flow::Stop
    );
    fetcher.end(later, first.id);
    fetcher.error(later, first.id, ConnectionFailure::Lost);
    assert_eq!(fetcher.progress(later).faults, 1);
    assert!(matches!(fetcher.poll(later), fetch::Action::Wait { .. }));
}

#[test]
fn nobody_collecting_events_costs_no_memory() {
    let store = Store::plain(1, 1000);
    let mut fetcher = Fetcher::new(&store.index, 1, one_connection(), 0).unwrap();
    let mut now = Duration::ZERO;
    let mut requests = 0;
    while requests < 1000 {
        match fetcher.poll(now) {
            fetch::Action::Request(request) => {
                requests += 1;
                fetcher.error(now, request.id, ConnectionFailure::Refused);
            }
            fetch::Action::Wait { until } => now = until,
            other => panic!("{other:?}"),
        }
    }
    let events = std::iter::from_fn(|| fetcher.poll_event()).count();
    assert!(events <= 256, "{events}");
    assert_eq!(fetcher.progress(now).faults, 1000);
}

#[test]
fn a_chunk_that_arrives_in_single_bytes_is_whole_all_the_same() {
    let store = Store::new(&[
        Part::Stored(noise(1, 700)),
        Part::Foreign(300),
        Part::Zstd(text(2, 5000)),
        Part::Hole(100),
        Part::Stored(noise(3, 1)),
    ]);
    let mut sim = Sim::new(&store, vec![Server::honest()]);
    sim.part = 1;
    let outcome = sim.fetch(one_connection());
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.image, store.image);
    assert_eq!(outcome.requests.len(), 1);
}
