//! Whole images over real connections, with one fault at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use fetch_http::{
    ConnectionFailure, DownloadError, FetchError, FetchEvent, FetchSummary, HttpClient,
    HttpOptions, Settings, SourceState, What, fetch_image,
};
use tokio::net::TcpListener;

use crate::server::{Answer, Asked, Server};
use crate::store::{Ram, Store};

fn client() -> HttpClient {
    HttpClient::new(&HttpOptions::default()).unwrap()
}

fn settings() -> Settings {
    Settings {
        stall: Duration::from_millis(500),
        back_off: Duration::from_millis(20),
        deadline: Some(Duration::from_secs(60)),
        ..Settings::default()
    }
}

async fn fetch(
    store: &Store,
    sources: &[String],
    settings: Settings,
) -> (
    Result<FetchSummary, DownloadError>,
    Vec<u8>,
    Vec<FetchEvent>,
) {
    let mut ram = Ram::for_image(store);
    let mut events = Vec::new();
    let outcome = fetch_image(
        &client(),
        sources,
        &store.index,
        settings,
        &mut ram,
        |_, event| {
            events.extend(event.cloned());
        },
    )
    .await;
    (outcome, ram.0, events)
}

/// Only requests for packs; the first of them misbehaves.
fn first(answer: Answer) -> impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static {
    move |_, number| {
        if number == 0 {
            answer.clone()
        } else {
            Answer::Serve
        }
    }
}

#[tokio::test]
async fn an_image_arrives_over_a_few_connections_that_are_kept() {
    let store = Store::new(400);
    let server = Server::honest(&store.files).await;
    let four = Settings {
        connections: 4,
        ..settings()
    };
    let (outcome, image, events) = fetch(&store, std::slice::from_ref(&server.url), four).await;
    let summary = outcome.unwrap();
    assert!(image == store.image);
    assert_eq!(events, []);
    assert_eq!(summary.progress.done, store.image.len() as u64);
    let asked = server.asked();
    let connections: BTreeSet<usize> = asked.iter().map(|asked| asked.connection).collect();
    assert!(asked.len() > 4, "{} requests", asked.len());
    assert_eq!(
        connections.len(),
        4,
        "connections for {} requests",
        asked.len()
    );
    assert!(asked.iter().all(|asked| asked.header("range").is_some()));
}

#[tokio::test]
async fn a_cut_connection_continues_at_the_very_byte() {
    let store = Store::new(40);
    let server = Server::start(&store.files, first(Answer::Cut(300_001))).await;
    let one = Settings {
        connections: 1,
        ..settings()
    };
    let (outcome, image, events) = fetch(&store, std::slice::from_ref(&server.url), one).await;
    let summary = outcome.unwrap();
    assert!(image == store.image);
    assert!(
        matches!(&events[..], [FetchEvent::Fault(fault)] if fault.what == What::Connection(ConnectionFailure::Lost)),
        "{events:?}"
    );
    let asked = server.asked();
    assert!(
        asked[1]
            .header("range")
            .unwrap()
            .starts_with("bytes=300001-"),
        "{:?}",
        asked[1]
    );
    assert_eq!(asked[1].header("if-range"), Some("\"one\""));
    assert_eq!(
        summary.progress.network_bytes,
        summary.progress.stored_total
    );
}

#[tokio::test]
async fn every_lie_is_found_out_and_the_image_comes_from_elsewhere() {
    type Expected = fn(&What) -> bool;
    let cases: [(Answer, Expected); 17] = [
        (Answer::Status(404), |what| *what == What::Status(404)),
        (Answer::Status(500), |what| *what == What::Status(500)),
        (Answer::Whole, |what| *what == What::RangeIgnored),
        (
            Answer::With("Content-Range", "bytes 1-2/3".into()),
            |what| matches!(what, What::WrongRange { .. }),
        ),
        (Answer::With("Content-Range", String::new()), |what| {
            matches!(what, What::WrongRange { .. })
        }),
        (Answer::With("Content-Length", "12".into()), |what| {
            matches!(what, What::WrongLength { found: 12, .. })
        }),
        (Answer::With("Content-Encoding", "gzip".into()), |what| {
            *what == What::Encoded("gzip".into())
        }),
        (Answer::Chunked(-1), |what| {
            matches!(what, What::ShortBody { .. })
        }),
        (Answer::Chunked(5000), |what| {
            matches!(what, What::LongBody { .. })
        }),
        (Answer::WrongBit(100_000), |what| {
            matches!(what, What::Corrupt { .. } | What::Undecodable)
        }),
        (Answer::Cut(0), |what| {
            *what == What::Connection(ConnectionFailure::Lost)
        }),
        (Answer::Stall(70_000), |what| {
            matches!(what, What::Stalled { .. })
        }),
        (Answer::Silence, |what| matches!(what, What::Stalled { .. })),
        (Answer::Redirect("https://127.0.0.1:1/".into()), |what| {
            *what == What::Connection(ConnectionFailure::Redirect)
        }),
        (Answer::Raw(b"220 mail ESMTP\r\n".to_vec()), |what| {
            *what == What::Connection(ConnectionFailure::NotHttp)
        }),
        // A head that never ends: cut by the watch where it is slow, by its size where it is fast.
        (Answer::EndlessHead(50), |what| {
            matches!(what, What::Stalled { .. })
        }),
        (Answer::EndlessHead(0), |what| {
            matches!(what, What::Stalled { .. } | What::Connection(_))
        }),
    ];
    let store = Store::new(40);
    let honest = Server::honest(&store.files).await;
    for (answer, expected) in cases {
        let liar = Server::start(&store.files, first(answer.clone())).await;
        let (outcome, image, events) =
            fetch(&store, &[liar.url.clone(), honest.url.clone()], settings()).await;
        outcome.unwrap();
        assert!(image == store.image, "{answer:?}");
        let fault = events.iter().find_map(|event| match event {
            FetchEvent::Fault(fault) => Some(fault),
            _ => None,
        });
        let Some(fault) = fault else {
            // The honest store may have been faster than the watch.
            let overtaken = |event| matches!(event, &FetchEvent::Overtaken { source: 0, .. });
            assert!(
                events.iter().any(overtaken),
                "{answer:?} went unnoticed: {events:?}"
            );
            continue;
        };
        assert_eq!(fault.source_index, 0, "{answer:?}");
        assert!(expected(&fault.what), "{answer:?}: {:?}", fault.what);
    }
}

#[tokio::test]
async fn an_endless_body_is_left_at_its_first_byte_too_many() {
    let store = Store::new(200);
    let liar = Server::start(&store.files, |_, _| Answer::EndlessBody).await;
    let honest = Server::honest(&store.files).await;
    // One after the other, so that there is more to fetch when the first answer goes on.
    let one = Settings {
        connections: 1,
        ..settings()
    };
    let sources = [liar.url.clone(), honest.url.clone()];
    let (outcome, image, events) = fetch(&store, &sources, one).await;
    let progress = outcome.unwrap().progress;
    assert!(image == store.image);
    let Some(FetchEvent::Fault(fault)) = events.first() else {
        panic!("{events:?}")
    };
    assert!(matches!(fault.what, What::LongBody { .. }), "{fault:?}");
    assert!(events.contains(&FetchEvent::SourceDropped { source: 0 }));
    // What it sent too much was hardly read.
    assert!(progress.network_bytes < progress.stored_total + (512 << 10));
}

#[tokio::test]
async fn carries_on_when_the_server_comes_up_late() {
    let store = Store::new(40);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut server = None;
    let mut refused = 0;
    let mut ram = Ram::for_image(&store);
    let source = [format!("http://{address}/")];
    let outcome = fetch_image(
        &client(),
        &source,
        &store.index,
        settings(),
        &mut ram,
        |_, event| {
            let Some(FetchEvent::Fault(fault)) = event else {
                return;
            };
            assert_eq!(fault.what, What::Connection(ConnectionFailure::Refused));
            refused += 1;
            // The third failure brings it up.
            if refused == 3 {
                let listener = std::net::TcpListener::bind(address).unwrap();
                listener.set_nonblocking(true).unwrap();
                let listener = TcpListener::from_std(listener).unwrap();
                server = Some(Server::listen(
                    listener,
                    &store.files,
                    |_, _| Answer::Serve,
                    None,
                ));
            }
        },
    )
    .await;
    outcome.unwrap();
    assert!(ram.0 == store.image);
    assert!(refused >= 3);
}

#[tokio::test]
async fn a_connection_cut_at_some_byte_of_every_range_costs_nothing_twice() {
    let store = Store::new(300);
    // Two of three answers break off, each at another place.
    let server = Server::start(&store.files, |_, number| {
        let place = number.wrapping_mul(0x9e37_79b9) % 1_000_003;
        if number % 3 == 2 {
            Answer::Serve
        } else {
            Answer::Cut(place)
        }
    })
    .await;
    let (outcome, image, events) =
        fetch(&store, std::slice::from_ref(&server.url), settings()).await;
    let progress = outcome.unwrap().progress;
    assert!(image == store.image);
    assert!(progress.faults >= 6, "{} faults", progress.faults);
    // The server has a strong ETag, so each connection continues at the byte where it was cut; what the last ones took
    // over from each other is allowed 256 KiB each.
    let again = progress.network_bytes - progress.stored_total;
    let taken = events
        .iter()
        .filter(|event| matches!(event, FetchEvent::Overtaken { .. }));
    assert!(
        again <= taken.count() as u64 * (256 << 10),
        "{again} bytes again"
    );
}

#[tokio::test]
async fn carries_on_when_the_server_is_killed_and_started_again() {
    let store = Store::new(200);
    let slow = |_: &Asked, number: usize| {
        if number < 4 {
            Answer::Stall(100_000)
        } else {
            Answer::Serve
        }
    };
    let first_life = Server::start(&store.files, slow).await;
    let address = first_life.address;
    let source = [first_life.url.clone()];
    let mut first_life = Some(first_life);
    let mut second_life = None;
    let mut ram = Ram::for_image(&store);
    let patient = Settings {
        stall: Duration::from_secs(30),
        ..settings()
    };
    let outcome = fetch_image(
        &client(),
        &source,
        &store.index,
        patient,
        &mut ram,
        |progress, event| {
            // Killed in the middle of its first answers.
            if progress.network_bytes >= 100_000 {
                first_life = None;
            }
            let Some(FetchEvent::Fault(fault)) = event else {
                return;
            };
            // Until someone asks and nobody is there.
            let is_gone = fault.what == What::Connection(ConnectionFailure::Refused);
            if is_gone && second_life.is_none() {
                let listener = std::net::TcpListener::bind(address).unwrap();
                listener.set_nonblocking(true).unwrap();
                let listener = TcpListener::from_std(listener).unwrap();
                let serve = |_: &Asked, _: usize| Answer::Serve;
                second_life = Some(Server::listen(listener, &store.files, serve, None));
            }
        },
    )
    .await;
    let progress = outcome.unwrap().progress;
    assert!(ram.0 == store.image);
    assert!(first_life.is_none() && second_life.is_some());
    // The new process has the same files with the same ETags.
    assert!(
        progress.network_bytes <= progress.stored_total + progress.faults * (256 << 10),
        "{progress:?}"
    );
}

#[tokio::test]
async fn a_wrong_byte_on_one_of_two_mirrors_costs_that_mirror_its_place() {
    let store = Store::new(120);
    let wrong = Server::start(&store.files, |_, _| Answer::WrongBit(300_000)).await;
    let right = Server::honest(&store.files).await;
    let sources = [wrong.url.clone(), right.url.clone()];
    let (outcome, image, events) = fetch(&store, &sources, settings()).await;
    let progress = outcome.unwrap().progress;
    assert!(image == store.image);
    let dropped: Vec<_> = events
        .iter()
        .filter(|event| matches!(event, FetchEvent::SourceDropped { .. }))
        .collect();
    assert_eq!(dropped, [&FetchEvent::SourceDropped { source: 0 }]);
    assert_eq!(progress.sources[0].state, SourceState::Dropped);
    assert_eq!(
        (progress.sources[1].faults, progress.sources[1].score),
        (0, 100)
    );
    // Four requests at most were under way at the liar.
    let again = progress.network_bytes - progress.stored_total;
    assert!(again <= 4 * (256 << 10), "{again} bytes again");
}

#[tokio::test]
async fn a_wrong_byte_on_all_mirrors_ends_with_each_of_them_named() {
    let store = Store::new(60);
    let wrong = |_: &Asked, _: usize| Answer::WrongBit(70_000);
    let one = Server::start(&store.files, wrong).await;
    let other = Server::start(&store.files, wrong).await;
    let sources = [one.url.clone(), other.url.clone()];
    let (outcome, image, _) = fetch(&store, &sources, settings()).await;
    let error = outcome.unwrap_err();
    let DownloadError::Fetch {
        error: FetchError::NoSourceLeft { .. },
        faults,
    } = &error
    else {
        panic!("{error:?}")
    };
    for (fault, url) in faults.iter().zip(&sources) {
        assert_eq!(&fault.source, &format!("{url}/"));
        assert!(matches!(
            fault.fault.what,
            What::Corrupt { .. } | What::Undecodable
        ));
    }
    assert_eq!(faults.len(), 2);
    // Only zeros and bytes of the image are there.
    let foreign = image.iter().zip(&store.image);
    assert_eq!(
        foreign
            .filter(|(is, should)| is != should && **is != 0)
            .count(),
        0
    );
}

#[tokio::test]
async fn survives_a_storm_of_500() {
    let store = Store::new(60);
    let server = Server::start(&store.files, |_, number| match number {
        0..6 => Answer::Status(500),
        6..9 => Answer::Status(503),
        9 => Answer::Cut(50_000),
        10..12 => Answer::Status(502),
        _ => Answer::Serve,
    })
    .await;
    let (outcome, image, events) =
        fetch(&store, std::slice::from_ref(&server.url), settings()).await;
    let progress = outcome.unwrap().progress;
    assert!(image == store.image);
    assert!(progress.faults >= 8, "{events:?}");
    let rests = |event: &&FetchEvent| matches!(event, FetchEvent::SourceRests { .. });
    assert!(events.iter().filter(rests).count() >= 2, "{events:?}");
}

#[tokio::test]
async fn redirect_loops_and_names_that_lead_nowhere_do_not_stop_the_honest_store() {
    let store = Store::new(40);
    let circle = Server::start(&store.files, |asked, _| {
        Answer::Redirect(asked.target.clone())
    })
    .await;
    // Another web server at the address that a wrong DNS answer gave.
    let elsewhere = Server::honest(&crate::store::Files::new()).await;
    let honest = Server::honest(&store.files).await;
    let sources = [
        circle.url.clone(),
        // RFC 6761, 6.4: no such name can exist.
        "http://store.invalid/".to_owned(),
        elsewhere.url.clone(),
        honest.url.clone(),
    ];
    let (outcome, image, events) = fetch(&store, &sources, settings()).await;
    outcome.unwrap();
    assert!(image == store.image);
    for event in &events {
        let FetchEvent::Fault(fault) = event else {
            continue;
        };
        let expected = match fault.source_index {
            0 => fault.what == What::Connection(ConnectionFailure::Redirect),
            // A resolver that does not answer takes its time.
            1 => matches!(
                fault.what,
                What::Connection(ConnectionFailure::Dns) | What::Stalled { .. }
            ),
            2 => fault.what == What::Status(404),
            _ => false,
        };
        assert!(expected, "{fault:?}");
    }
    assert!(events.contains(&FetchEvent::SourceDropped { source: 0 }));
}

#[tokio::test]
async fn patience_ends_a_download_that_nothing_comes_to() {
    let store = Store::new(40);
    let server = Server::start(&store.files, |_, number| {
        if number == 0 {
            Answer::Stall(200_000)
        } else {
            Answer::Silence
        }
    })
    .await;
    let impatient = Settings {
        patience: Some(Duration::from_millis(1500)),
        ..settings()
    };
    let (outcome, ..) = fetch(&store, std::slice::from_ref(&server.url), impatient).await;
    let error = outcome.unwrap_err();
    let DownloadError::Fetch {
        error: FetchError::NoProgress { missing, .. },
        faults,
    } = &error
    else {
        panic!("{error:?}")
    };
    assert!(*missing > 0);
    assert!(matches!(faults[0].fault.what, What::Stalled { .. }));
}

#[tokio::test]
async fn names_the_bad_stores_without_their_passwords() {
    let store = Store::new(10);
    let missing = Server::start(&store.files, |_, _| Answer::Status(404)).await;
    let wrong = Server::start(&store.files, |_, _| Answer::WrongBit(70_000)).await;
    let sources = [
        format!("http://user:hidden@{}/a", missing.address),
        format!("http://{}", wrong.address),
    ];
    // The second store has its files at the root, so its own lie is found; the first one never has any.
    let (outcome, _, _) = fetch(&store, &sources, settings()).await;
    let error = outcome.unwrap_err();
    let DownloadError::Fetch {
        error: FetchError::NoSourceLeft { .. },
        faults,
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(faults.len(), 2);
    let said = format!("{error}");
    assert!(
        said.contains(&format!("http://{}/a/: chunk", missing.address)),
        "{said}"
    );
    assert!(
        said.contains("HTTP status 404") && said.contains("digest"),
        "{said}"
    );
    assert!(!said.contains("hidden"), "{said}");
}

#[tokio::test]
async fn ends_at_the_deadline() {
    let store = Store::new(10);
    let server = Server::start(&store.files, |_, _| Answer::Silence).await;
    let soon = Settings {
        deadline: Some(Duration::from_millis(300)),
        ..settings()
    };
    let (outcome, image, _) = fetch(&store, std::slice::from_ref(&server.url), soon).await;
    assert!(matches!(
        outcome,
        Err(DownloadError::Fetch {
            error: FetchError::Deadline { .. },
            ..
        })
    ));
    assert!(image.iter().all(|byte| *byte == 0));
}

#[tokio::test]
async fn refuses_stores_it_cannot_ask() {
    let store = Store::new(2);
    let (outcome, ..) = fetch(&store, &[], settings()).await;
    assert!(matches!(outcome, Err(DownloadError::NoSource)));
    let (outcome, ..) = fetch(&store, &["ftp://host/".into()], settings()).await;
    assert!(matches!(outcome, Err(DownloadError::Source(_))));
}
