//! How work is shared: over connections, over fast and slow sources, and at the end when little is left.

use std::time::Duration;

use fetch::{FetchEvent, Settings, SourceState};

use crate::sim::{Misdeed, Outcome, Server, Sim};
use crate::store::Store;

/// A server that brings about this many bytes a second on each connection: parts have 8,000 bytes on average.
fn at_speed(bytes_per_second: u64) -> Server {
    Server {
        part_time: Some(Duration::from_micros(8_000 * 1_000_000 / bytes_per_second)),
        ..Server::honest()
    }
}

fn fetch(store: &Store, servers: Vec<Server>, settings: Settings) -> Outcome {
    let outcome = Sim::new(store, servers).fetch(settings);
    outcome.result.as_ref().unwrap();
    assert!(outcome.image == store.image);
    outcome
}

#[test]
fn connections_are_added_while_each_brings_its_share() {
    let store = Store::plain(480, 64 << 10);
    let outcome = fetch(&store, vec![at_speed(1_000_000)], Settings::default());
    assert!(outcome.most_active >= 16, "{}", outcome.most_active);
    // 30 MB over four connections of 1 MB/s would take 7.9 s.
    assert!(
        outcome.elapsed < Duration::from_secs(5),
        "{:?}",
        outcome.elapsed
    );
    let few = Settings {
        connections: 3,
        ..Settings::default()
    };
    let outcome = fetch(&store, vec![at_speed(1_000_000)], few);
    assert_eq!(outcome.most_active, 3);
}

#[test]
fn a_slow_mirror_does_not_hold_up_the_end() {
    let store = Store::plain(320, 64 << 10);
    let servers = vec![at_speed(20_000), at_speed(2_000_000)];
    let outcome = fetch(&store, servers, Settings::default());
    // 20 MB at four times 2 MB/s are 2.5 s; a megabyte from the slow one alone would take 50 s.
    assert!(
        outcome.elapsed < Duration::from_secs(8),
        "{:?}",
        outcome.elapsed
    );
    let taken: Vec<usize> = outcome
        .events
        .iter()
        .filter_map(|event| match event {
            FetchEvent::Overtaken { source, .. } => Some(*source),
            _ => None,
        })
        .collect();
    assert!(taken.contains(&0), "{:?}", outcome.events);
    // What was asked for twice is no more than the chunks that were under way at the slow one.
    assert!(
        outcome.repeated <= outcome.cut * (64 << 10),
        "{} bytes for {} requests",
        outcome.repeated,
        outcome.cut
    );
}

#[test]
fn the_faster_mirror_gets_more_work() {
    let store = Store::plain(640, 64 << 10);
    let servers = vec![at_speed(250_000), at_speed(2_000_000)];
    let outcome = fetch(&store, servers, Settings::default());
    let [slow, fast] = &outcome.progress.sources[..] else {
        panic!("{:?}", outcome.progress)
    };
    assert!(fast.received > 3 * slow.received, "{slow:?} {fast:?}");
    assert_eq!(
        (fast.state, fast.score, fast.faults),
        (SourceState::Good, 100, 0)
    );
}

#[test]
fn a_connection_that_hangs_at_the_end_is_overtaken_long_before_it_times_out() {
    let store = Store::plain(60, 100_000);
    for stuck in [Misdeed::Silence, Misdeed::Stall(30_000), Misdeed::Trickle] {
        // Every connection of the first four hangs at some time; the server is fine otherwise.
        let script = [Misdeed::None, Misdeed::None, stuck.clone()];
        let outcome = fetch(&store, vec![Server::scripted(script)], Settings::default());
        assert!(
            outcome.elapsed < Duration::from_secs(8),
            "{stuck:?}: {:?}",
            outcome.elapsed
        );
        let overtaken = FetchEvent::Overtaken { source: 0, by: 0 };
        assert!(outcome.events.contains(&overtaken), "{:?}", outcome.events);
    }
}

#[test]
fn a_server_that_allows_few_connections_is_not_taken_for_a_broken_one() {
    let store = Store::plain(320, 64 << 10);
    let server = Server {
        most: Some(3),
        ..at_speed(2_000_000)
    };
    let outcome = fetch(&store, vec![server], Settings::default());
    assert_eq!(outcome.repeated, 0);
    // One refusal, and perhaps one more when it is asked again after ten seconds.
    assert!(outcome.progress.faults <= 4, "{:?}", outcome.events);
    assert!(
        outcome.elapsed < Duration::from_secs(5),
        "{:?}",
        outcome.elapsed
    );
    let rests = |event: &FetchEvent| matches!(event, FetchEvent::SourceRests { .. });
    assert!(!outcome.events.iter().any(rests), "{:?}", outcome.events);
}

#[test]
fn health_names_the_source_that_fails() {
    let store = Store::plain(320, 64 << 10);
    let shaky = Server {
        script: [Misdeed::Status(500), Misdeed::Status(502)].into(),
        ..at_speed(2_000_000)
    };
    let liar = Server::always(Misdeed::Encoded);
    let servers = vec![at_speed(2_000_000), shaky, liar];
    let outcome = fetch(&store, servers, Settings::default());
    let [good, shaky, liar] = &outcome.progress.sources[..] else {
        panic!("{:?}", outcome.progress)
    };
    assert_eq!((good.score, good.faults), (100, 0));
    assert!(
        (20..100).contains(&shaky.score) && shaky.faults == 2,
        "{shaky:?}"
    );
    assert_eq!((liar.state, liar.score), (SourceState::Dropped, 0));
    assert!(good.received > 0 && shaky.received > 0);
    assert_eq!(liar.received, 0);
}
