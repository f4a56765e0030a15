//! A file without an index: every lie about lengths is found out, the bytes are for the caller to judge as a whole.

use std::time::Duration;

use fetch::{FetchError, FetchEvent, Fetcher, PLAIN_PIECE, PlanError, Settings, What};
use proptest::prelude::*;

use crate::property::trouble;
use crate::sim::{Misdeed, Outcome, Server, Sim};
use crate::store::Store;

fn fetch(store: &Store, servers: Vec<Server>, connections: usize, seed: u64) -> Outcome {
    let settings = Settings {
        connections,
        deadline: Some(Duration::from_secs(100_000)),
        ..Settings::default()
    };
    let size = store.image.len() as u64;
    let fetcher = Fetcher::plain(size, servers.len(), settings, seed).unwrap();
    let mut sim = Sim::new(store, servers);
    sim.seed = seed;
    sim.sink.judges = false;
    sim.run(fetcher)
}

#[test]
fn a_file_without_an_index_arrives_in_parallel_ranges() {
    let store = Store::plain(100, 100_001);
    let outcome = fetch(&store, vec![Server::honest()], 4, 1);
    outcome.result.as_ref().unwrap();
    assert!(outcome.image == store.image);
    assert!(outcome.most_active == 4 && outcome.requests.len() > 4);
    let size = store.image.len() as u64;
    assert_eq!(outcome.progress.network_bytes, size);
    assert!(outcome.requests.iter().all(|(_, request)| {
        request.path.is_empty() && request.range.start.is_multiple_of(PLAIN_PIECE)
    }));
}

#[test]
fn lies_about_lengths_are_found_out_without_an_index() {
    let store = Store::plain(60, 100_000);
    for misdeed in [
        Misdeed::OtherTotal,
        Misdeed::Shifted,
        Misdeed::NoRange,
        Misdeed::ShorterLength,
        Misdeed::LongBody,
        Misdeed::Endless,
        Misdeed::Whole,
        Misdeed::Encoded,
        Misdeed::Status(404),
    ] {
        let servers = vec![Server::always(misdeed.clone()), Server::honest()];
        let outcome = fetch(&store, servers, 4, 1);
        outcome.result.as_ref().unwrap();
        assert!(outcome.image == store.image, "{misdeed:?}");
        let dropped = FetchEvent::SourceDropped { source: 0 };
        assert!(outcome.events.contains(&dropped), "{misdeed:?}");
    }
}

#[test]
fn wrong_bytes_are_for_the_caller_to_find() {
    let store = Store::plain(60, 100_000);
    let outcome = fetch(&store, vec![Server::always(Misdeed::WrongBit(5))], 2, 1);
    outcome.result.as_ref().unwrap();
    assert!(outcome.image != store.image);
    assert!(outcome.events.is_empty(), "{:?}", outcome.events);
}

#[test]
fn a_file_that_changes_while_it_is_fetched_is_told() {
    let store = Store::plain(60, 100_000);
    let server = Server::scripted([Misdeed::None, Misdeed::NewEtag]);
    let outcome = fetch(&store, vec![server], 1, 1);
    outcome.result.as_ref().unwrap();
    let changed = |event: &FetchEvent| matches!(event, FetchEvent::Fault(fault) if matches!(fault.what, What::Changed { .. }));
    assert!(outcome.events.iter().any(changed), "{:?}", outcome.events);
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    for size in [0, u64::MAX] {
        let error = Fetcher::plain(size, 1, Settings::default(), 0).map(drop);
        assert_eq!(error.unwrap_err(), PlanError::Size { size });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_file_without_an_index_arrives_through_any_trouble(
        pieces in 1..24usize,
        length in 1..300_000usize,
        scripts in prop::collection::vec(prop::collection::vec(trouble(), 0..12), 1..4),
        without_etags: bool,
        connections in 1..9usize,
        seed: u64,
    ) {
        let store = Store::plain(pieces, length);
        let servers = scripts
            .into_iter()
            .map(|script| Server { without_etags, ..Server::scripted(script) })
            .collect();
        let outcome = fetch(&store, servers, connections, seed);
        // Sources that kept saying nothing useful may all be given up only by a lie, and none of these is one.
        let gave_up = matches!(outcome.result, Err(FetchError::NoSourceLeft { .. }));
        prop_assert!(!gave_up);
        prop_assert!(outcome.result.is_ok(), "{:?}", outcome.result);
        prop_assert!(outcome.image == store.image);
        let allowed = outcome.cut * PLAIN_PIECE + outcome.progress.stored_total / 100;
        prop_assert!(outcome.repeated <= allowed, "{} again", outcome.repeated);
    }
}
