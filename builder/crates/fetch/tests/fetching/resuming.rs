//! What is asked for: runs, the rest of a broken run, and what was not there before.

use std::time::Duration;

use fetch::{Fetcher, Settings};

use crate::sim::{Misdeed, Server, Sim};
use crate::store::{Part, Store, noise, text};

const MIB: usize = 1 << 20;

fn one_connection() -> Settings {
    Settings {
        connections: 1,
        ..Settings::default()
    }
}

fn ranges(outcome: &crate::sim::Outcome) -> Vec<std::ops::Range<u64>> {
    outcome
        .requests
        .iter()
        .map(|(_, request)| request.range.clone())
        .collect()
}

#[test]
fn neighbouring_chunks_come_in_runs_of_megabytes() {
    let store = Store::plain(256, 64 << 10);
    let outcome = Sim::new(&store, vec![Server::honest()]).fetch(Settings::default());
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.image, store.image);
    let ranges = ranges(&outcome);
    assert!(
        ranges
            .iter()
            .all(|range| (1 << 20..=8 << 20).contains(&(range.end - range.start))),
        "{ranges:?}"
    );
    // An eighth of what is left, for each of four connections twice.
    assert_eq!(ranges[0], 0..2 << 20);
    assert_eq!(outcome.progress.network_bytes, store.image.len() as u64);
    // They are also all in use at once.
    assert!(
        outcome.requests[..4]
            .iter()
            .all(|(at, _)| *at == Duration::ZERO)
    );
}

#[test]
fn a_cut_run_continues_at_the_very_byte_where_the_source_has_an_etag() {
    let store = Store::plain(10, 100_000);
    let outcome =
        Sim::new(&store, vec![Server::scripted([Misdeed::Cut(250_001)])]).fetch(one_connection());
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.image, store.image);
    assert_eq!(ranges(&outcome), [0..1_000_000, 250_001..1_000_000]);
    assert_eq!(
        outcome.requests[1].1.if_range.as_deref(),
        Some("\"edition-0\"")
    );
    assert_eq!(outcome.progress.network_bytes, 1_000_000);
    // Something had come, so nobody waits.
    assert!(
        outcome.requests[1].0 < Duration::from_millis(100),
        "{:?}",
        outcome.requests[1].0
    );
}

#[test]
fn a_cut_run_continues_at_the_chunk_without_an_etag() {
    let store = Store::plain(10, 100_000);
    let server = Server {
        without_etags: true,
        ..Server::scripted([Misdeed::Cut(250_001)])
    };
    let outcome = Sim::new(&store, vec![server]).fetch(one_connection());
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.image, store.image);
    assert_eq!(ranges(&outcome), [0..1_000_000, 200_000..1_000_000]);
}

#[test]
fn bytes_of_two_sources_are_never_joined() {
    let store = Store::plain(10, 100_000);
    // Source 0 breaks off so early that it has to rest.
    let servers = vec![Server::scripted([Misdeed::Cut(10_000)]), Server::honest()];
    let outcome = Sim::new(&store, servers).fetch(one_connection());
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.image, store.image);
    assert_eq!(outcome.requests[1].1.source, 1);
    assert_eq!(ranges(&outcome), [0..1_000_000, 0..1_000_000]);
}

#[test]
fn a_partial_chunk_whose_file_changed_is_thrown_away() {
    let store = Store::plain(10, 100_000);
    let server = Server::scripted([Misdeed::Cut(250_001), Misdeed::NewEtag]);
    let outcome = Sim::new(&store, vec![server]).fetch(one_connection());
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.image, store.image);
    assert_eq!(
        ranges(&outcome),
        [0..1_000_000, 250_001..1_000_000, 200_000..1_000_000]
    );
    assert_eq!(outcome.requests[2].1.if_range, None);
}

#[test]
fn holes_are_not_fetched_and_repetitions_only_once() {
    let store = Store::new(&[
        Part::Hole(300_000),
        Part::Stored(noise(1, 5000)),
        Part::Zstd(text(2, 70_000)),
        Part::Repeat(1),
        Part::Repeat(2),
        Part::Repeat(2),
        Part::Hole(1),
    ]);
    let sim = Sim::new(&store, vec![Server::honest()]);
    let fetcher = Fetcher::new(&store.index, 1, one_connection(), 0).unwrap();
    assert_eq!(
        fetcher.holes().collect::<Vec<_>>(),
        [(0, 300_000), (300_000 + 2 * 5000 + 3 * 70_000, 1)]
    );
    let outcome = sim.run(fetcher);
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.image, store.image);
    assert_eq!(
        ranges(&outcome).as_slice(),
        std::slice::from_ref(&(0..store.packs[0].len() as u64))
    );
    assert_eq!(outcome.progress.done, store.image.len() as u64);
}

#[test]
fn an_image_of_nothing_but_holes_needs_no_request() {
    let store = Store::new(&[Part::Hole(1 << 20), Part::Hole(5)]);
    let outcome = Sim::new(&store, vec![Server::honest()]).fetch(Settings::default());
    outcome.result.as_ref().unwrap();
    assert!(outcome.requests.is_empty());
    assert_eq!(outcome.progress.done, (1 << 20) + 5);
}

#[test]
fn what_is_there_already_is_left_out() {
    let store = Store::plain(10, 100_000);
    let mut fetcher = Fetcher::new(&store.index, 1, one_connection(), 0).unwrap();
    let have = |chunk: usize| chunk < 3 || chunk == 7;
    fetcher.resume(have).unwrap();
    assert_eq!(fetcher.progress(Duration::ZERO).done, 400_000);
    let outcome = Sim::new(&store, vec![Server::honest()]).run(fetcher);
    outcome.result.as_ref().unwrap();
    assert_eq!(ranges(&outcome), [300_000..700_000, 800_000..1_000_000]);
    assert_eq!(
        outcome.image[300_000..700_000],
        store.image[300_000..700_000]
    );
    assert_eq!(outcome.image[800_000..], store.image[800_000..]);
    // Nobody wrote what was there.
    assert_eq!(outcome.image[..300_000], vec![0; 300_000]);
    assert_eq!(outcome.progress.done, 1_000_000);
}

#[test]
fn small_gaps_are_read_over_and_large_ones_are_not() {
    let store = Store::new(&[
        Part::Stored(noise(1, 1000)),
        Part::Foreign(16 << 10),
        Part::Stored(noise(2, 1000)),
        Part::Foreign((16 << 10) + 1),
        Part::Stored(noise(3, 1000)),
        Part::NewPack,
        Part::Stored(noise(4, 1000)),
    ]);
    let outcome = Sim::new(&store, vec![Server::honest()]).fetch(one_connection());
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.image, store.image);
    let second = 2000 + (32 << 10) + 1;
    assert_eq!(
        ranges(&outcome),
        [0..2000 + (16 << 10), second..second + 1000, 0..1000]
    );
    assert_ne!(outcome.requests[0].1.path, outcome.requests[2].1.path);
}

#[test]
fn chunks_out_of_order_in_their_packs_are_still_read_forwards() {
    // As after a second import: an old pack and a new one take turns in the image.
    let old: Vec<Vec<u8>> = (0..20).map(|number| noise(number, 60_000)).collect();
    let mut parts: Vec<Part> = old.iter().cloned().map(Part::Stored).collect();
    parts.push(Part::NewPack);
    for number in 0..20 {
        parts.push(Part::Repeat(19 - number));
        parts.push(Part::Stored(noise(100 + number as u64, 60_000)));
    }
    let store = Store::new(&parts);
    let outcome = Sim::new(&store, vec![Server::honest()]).fetch(one_connection());
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.image, store.image);
    assert!(outcome.requests.len() <= 4, "{:?}", ranges(&outcome));
}

#[test]
fn mirrors_share_the_work() {
    let store = Store::plain(256, 64 << 10);
    let servers = vec![Server::honest(), Server::honest(), Server::honest()];
    let outcome = Sim::new(&store, servers).fetch(Settings {
        connections: 6,
        ..Settings::default()
    });
    outcome.result.as_ref().unwrap();
    for source in 0..3 {
        let share = outcome
            .requests
            .iter()
            .filter(|(_, request)| request.source == source)
            .count();
        assert!(
            share >= 2,
            "source {source} got {share} of {} requests",
            outcome.requests.len()
        );
    }
}

#[test]
fn the_longest_chunks_there_can_be_are_fetched() {
    let store = Store::new(&[
        Part::Stored(noise(1, MIB)),
        Part::Zstd(text(2, MIB)),
        Part::Stored(noise(3, MIB)),
    ]);
    let outcome =
        Sim::new(&store, vec![Server::scripted([Misdeed::Cut(MIB - 1)])]).fetch(one_connection());
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.image, store.image);
    assert!(outcome.most_held <= 2 * MIB, "{}", outcome.most_held);
}
