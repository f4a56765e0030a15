//! Whatever servers do, the image arrives as long as one honest one comes round in the end, and nothing that is
//! not the image ever reaches the sink (which [`WatchfulSink`](crate::sim::WatchfulSink) checks on each chunk).

use std::time::Duration;

use fetch::{ConnectionFailure, FetchError, Settings};
use proptest::prelude::*;

use crate::sim::{Misdeed, Outcome, Server, Sim};
use crate::store::{Part, Store, noise, text};

const LONGEST: usize = 30_000;
/// Import makes no chunk longer than this (`MOST` in builder/src/import/chunks.rs).
const LONGEST_IMPORTED: u64 = 256 << 10;

/// What an honest server may suffer.
pub(crate) fn trouble() -> impl Strategy<Value = Misdeed> {
    prop_oneof![
        Just(Misdeed::None),
        (0..2_000_000usize).prop_map(Misdeed::Cut),
        (0..2_000_000usize).prop_map(Misdeed::Stall),
        Just(Misdeed::Silence),
        Just(Misdeed::Trickle),
        Just(Misdeed::ShortBody),
        Just(Misdeed::NewEtag),
        Just(Misdeed::NoEtag),
        prop_oneof![Just(408), Just(429), 500..600u16].prop_map(Misdeed::Status),
        prop_oneof![
            Just(ConnectionFailure::Dns),
            Just(ConnectionFailure::Refused),
            Just(ConnectionFailure::Unreachable),
            Just(ConnectionFailure::TimedOut),
            Just(ConnectionFailure::Lost),
        ]
        .prop_map(Misdeed::Fail),
    ]
}

/// What a server may do that is broken or hostile.
fn mischief() -> impl Strategy<Value = Misdeed> {
    prop_oneof![
        trouble(),
        (0..2_000_000usize).prop_map(Misdeed::WrongBit),
        Just(Misdeed::Whole),
        Just(Misdeed::Shifted),
        Just(Misdeed::OtherTotal),
        Just(Misdeed::NoRange),
        Just(Misdeed::ShorterLength),
        Just(Misdeed::LongBody),
        Just(Misdeed::Endless),
        Just(Misdeed::Encoded),
        Just(Misdeed::BodyFirst),
        (300..500u16).prop_map(Misdeed::Status),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        2 => (1..LONGEST as u32).prop_map(Part::Hole),
        8 => (any::<u64>(), 1..LONGEST).prop_map(|(seed, length)| Part::Stored(noise(seed, length))),
        8 => (any::<u64>(), 500..LONGEST).prop_map(|(seed, length)| Part::Zstd(text(seed, length))),
        1 => (0..40_000usize).prop_map(Part::Foreign),
        1 => Just(Part::NewPack),
    ]
}

prop_compose! {
    fn store()(parts in prop::collection::vec(part(), 1..60), repeats in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) -> Store {
        let mut parts = parts;
        // At least one chunk, for the others to repeat.
        parts.push(Part::Stored(noise(7, 100)));
        let chunks = parts.iter().filter(|part| !matches!(part, Part::Foreign(_) | Part::NewPack)).count();
        parts.extend(repeats.iter().map(|repeat| Part::Repeat(repeat.index(chunks))));
        Store::new(&parts)
    }
}

fn run(store: &Store, servers: Vec<Server>, connections: usize, part: usize, seed: u64) -> Outcome {
    let mut sim = Sim::new(store, servers);
    sim.part = part;
    sim.seed = seed;
    sim.fetch(Settings {
        connections,
        deadline: Some(Duration::from_secs(100_000)),
        ..Settings::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_image_arrives_if_one_honest_source_remains(
        store in store(),
        honest in prop::collection::vec(trouble(), 0..12),
        others in prop::collection::vec((prop::collection::vec(mischief(), 0..8), prop::option::of(mischief())), 0..4),
        place in any::<prop::sample::Index>(),
        without_etags: bool,
        connections in 1..7usize,
        part in 1..30_000usize,
        seed: u64,
    ) {
        let mut servers: Vec<Server> = others
            .into_iter()
            .map(|(script, habit)| Server { habit, ..Server::scripted(script) })
            .collect();
        let honest = Server { without_etags, ..Server::scripted(honest) };
        servers.insert(place.index(servers.len() + 1), honest);

        let outcome = run(&store, servers, connections, part.max(200), seed);
        prop_assert!(outcome.result.is_ok(), "{:?} {:?}", outcome.result, outcome.events);
        prop_assert!(outcome.image == store.image);
        prop_assert_eq!(outcome.progress.done, store.image.len() as u64);
        prop_assert_eq!(outcome.progress.stored_done, outcome.progress.stored_total);

        // Memory: one stored chunk for each connection, one decoded chunk for all.
        prop_assert!(outcome.most_held <= (connections + 1) * LONGEST.max(1 << 17), "{}", outcome.most_held);
        prop_assert!(outcome.repeated <= outcome.cut * LONGEST as u64, "{:?}", outcome.progress);
    }

    /// The bound on repetition, with chunks as import makes them: 256 KiB for each drop, and 1 %.
    ///
    /// A drop is one connection that ended before its answer did, whoever ended it and why: an outage that cuts four
    /// connections is four drops, and so is a liar that is dropped while it answers four requests. Counted is every
    /// byte of a pack that came a second time.
    #[test]
    fn what_is_downloaded_again_is_bounded(
        lengths in prop::collection::vec(16 << 10..=LONGEST_IMPORTED as usize, 8..40),
        honest in prop::collection::vec(trouble(), 0..20),
        liars in prop::collection::vec((prop::collection::vec(mischief(), 0..8), prop::option::of(mischief())), 0..3),
        without_etags: bool,
        connections in 1..17usize,
        part in 200..30_000usize,
        seed: u64,
    ) {
        let parts: Vec<Part> = lengths
            .iter()
            .enumerate()
            .map(|(number, length)| Part::Stored(noise(number as u64, *length)))
            .collect();
        let store = Store::new(&parts);
        let mut servers: Vec<Server> = liars
            .into_iter()
            .map(|(script, habit)| Server { habit, ..Server::scripted(script) })
            .collect();
        servers.push(Server { without_etags, ..Server::scripted(honest) });

        let outcome = run(&store, servers, connections, part, seed);
        prop_assert!(outcome.result.is_ok(), "{:?} {:?}", outcome.result, outcome.events);
        prop_assert!(outcome.image == store.image);
        let allowed = outcome.cut * LONGEST_IMPORTED + outcome.progress.stored_total / 100;
        prop_assert!(outcome.repeated <= allowed, "{} bytes again, {} allowed: {:?}", outcome.repeated, allowed, outcome.events);
    }

    #[test]
    fn nothing_but_the_image_is_seen_when_all_sources_are_hostile(
        store in store(),
        servers in prop::collection::vec((prop::collection::vec(mischief(), 0..8), mischief()), 1..4),
        connections in 1..7usize,
        seed: u64,
    ) {
        let servers = servers
            .into_iter()
            .map(|(script, habit)| Server { habit: Some(habit), ..Server::scripted(script) })
            .collect();
        let mut sim = Sim::new(&store, servers);
        sim.seed = seed;
        let outcome = sim.fetch(Settings { connections, deadline: Some(Duration::from_secs(3600)), ..Settings::default() });
        match outcome.result {
            Ok(()) => prop_assert!(outcome.image == store.image),
            Err(FetchError::NoSourceLeft { faults }) => prop_assert!(!faults.is_empty()),
            Err(FetchError::Deadline { missing, .. } | FetchError::NoProgress { missing, .. }) => prop_assert!(missing > 0),
            Err(FetchError::Sink { .. }) => prop_assert!(false, "the sink never fails"),
        }
    }
}
