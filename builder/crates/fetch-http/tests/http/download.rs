//! Whole images over real connections, with one fault at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use fetch_http::{
    ConnectionFailure, DownloadError, FetchError, FetchEvent, FetchSummary, HttpClient,
    HttpOptions, Settings, What, fetch_image,
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
    let (outcome, image, events) =
        fetch(&store, std::slice::from_ref(&server.url), settings()).await;
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
    let cases: [(Answer, Expected); 15] = [
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
    ];
    let store = Store::new(40);
    let honest = Server::honest(&store.files).await;
    for (answer, expected) in cases {
        let liar = Server::start(&store.files, first(answer.clone())).await;
        let (outcome, image, events) =
            fetch(&store, &[liar.url.clone(), honest.url.clone()], settings()).await;
        outcome.unwrap();
        assert!(image == store.image, "{answer:?}");
        let Some(FetchEvent::Fault(fault)) = events.first() else {
            panic!("{answer:?} went unnoticed: {events:?}")
        };
        assert_eq!(fault.source_index, 0, "{answer:?}");
        assert!(expected(&fault.what), "{answer:?}: {:?}", fault.what);
    }
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
