//! A file at a plain URL, from real servers: it is there when its SHA-256 is right, and the liars are named.

use std::time::Duration;

use fetch_http::{
    DownloadError, FetchError, FetchEvent, FetchSummary, HttpClient, HttpFailure, HttpOptions,
    PlainError, PlainFile, PlainSink, Settings, Sink, What, fetch_plain,
};
use sparetire_manifest::Digest;

use crate::server::{Answer, Server};
use crate::store::{Files, Store};

struct Memory(Vec<u8>);

impl Sink for Memory {
    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

impl PlainSink for Memory {
    fn digest(&mut self) -> std::io::Result<Digest> {
        Ok(Digest::of(&self.0))
    }

    fn discard(&mut self) -> std::io::Result<()> {
        self.0.fill(0);
        Ok(())
    }
}

/// An ISO, more or less: 6 MB, at `/images/live.iso`.
fn files() -> (Files, Vec<u8>) {
    let image = Store::new(90).image;
    let files = [("images/live.iso".to_owned(), image.clone().into())];
    (files.into(), image)
}

fn client() -> HttpClient {
    HttpClient::new(&HttpOptions::default()).unwrap()
}

async fn fetch(
    image: &[u8],
    servers: &[&Server],
) -> (Result<FetchSummary, PlainError>, Vec<u8>, Vec<FetchEvent>) {
    let file = PlainFile {
        urls: servers
            .iter()
            .map(|server| format!("{}/images/live.iso", server.url))
            .collect(),
        size: image.len() as u64,
        sha256: Digest::of(image),
    };
    let settings = Settings {
        back_off: Duration::from_millis(20),
        patience: Some(Duration::from_secs(20)),
        ..Settings::default()
    };
    let mut sink = Memory(vec![0; image.len()]);
    let mut events = Vec::new();
    let result = fetch_plain(&client(), &file, &settings, &mut sink, |_, event| {
        events.extend(event.cloned());
    })
    .await;
    (result, sink.0, events)
}

#[tokio::test]
async fn a_plain_file_comes_from_all_mirrors_at_once() {
    let (files, image) = files();
    let one = Server::honest(&files).await;
    let other = Server::honest(&files).await;
    let url = format!("{}/images/live.iso", one.url);
    let size = client().file_size(&url).await.unwrap();
    assert_eq!(size, image.len() as u64);
    let (result, came, events) = fetch(&image, &[&one, &other]).await;
    let summary = result.unwrap();
    assert!(came == image);
    assert_eq!(events, []);
    assert!(
        summary
            .progress
            .sources
            .iter()
            .all(|source| source.received > 0)
    );
    let asked = one.asked();
    assert!(asked.iter().all(|asked| asked.target == "/images/live.iso"));
}

#[tokio::test]
async fn a_mirror_with_another_file_is_found_out_and_named() {
    let (files, image) = files();
    let wrong = Server::start(&files, |_, _| Answer::WrongBit(0)).await;
    let right = Server::honest(&files).await;
    for servers in [[&wrong, &right], [&right, &wrong]] {
        let liar = servers.iter().position(|server| server.url == wrong.url);
        let (result, came, events) = fetch(&image, &servers).await;
        result.unwrap();
        assert!(came == image);
        // Asked first when each is asked alone, or not at all any more.
        if liar == Some(0) {
            let FetchEvent::Fault(fault) = &events[0] else {
                panic!("{events:?}")
            };
            assert_eq!(fault.source_index, 0);
            assert!(
                matches!(fault.what, What::Corrupt { expected, .. } if expected == Digest::of(&image))
            );
            assert_eq!(events[1], FetchEvent::SourceDropped { source: 0 });
        }
    }
}

#[tokio::test]
async fn a_plain_file_that_is_wrong_everywhere_ends_with_every_mirror_named() {
    let (files, image) = files();
    let one = Server::start(&files, |_, _| Answer::WrongBit(0)).await;
    let other = Server::start(&files, |_, _| Answer::WrongBit(9)).await;
    let (result, came, _) = fetch(&image, &[&one, &other]).await;
    let error = result.unwrap_err();
    let said = error.to_string();
    let PlainError::Mismatch { expected, liars } = error else {
        panic!("{error:?}")
    };
    assert_eq!((expected, liars.len()), (Digest::of(&image), 2));
    assert!(
        said.contains(&one.url) && said.contains(&other.url),
        "{said}"
    );
    // Nothing of it is left.
    assert!(came.iter().all(|byte| *byte == 0));
    let (result, ..) = fetch(&image, &[&one]).await;
    assert!(matches!(result, Err(PlainError::Mismatch { liars, .. }) if liars.len() == 1));
}

#[tokio::test]
async fn a_server_without_ranges_and_a_file_of_another_length_are_refused() {
    let (files, image) = files();
    let whole = Server::start(&files, |_, _| Answer::Whole).await;
    let url = format!("{}/images/live.iso", whole.url);
    let error = client().file_size(&url).await.unwrap_err();
    assert_eq!(error.what, HttpFailure::NoRanges);
    let honest = Server::honest(&files).await;
    for (server, length) in [(&whole, image.len()), (&honest, image.len() - 1)] {
        let (result, came, _) = fetch(&image[..length], &[server]).await;
        let Err(PlainError::Download(DownloadError::Fetch { error, .. })) = result else {
            panic!("{result:?}")
        };
        assert!(matches!(error, FetchError::NoSourceLeft { .. }));
        assert!(came.iter().all(|byte| *byte == 0));
    }
    let nothing = client().file_size(&format!("{}/none", honest.url)).await;
    assert_eq!(nothing.unwrap_err().what, HttpFailure::Status(404));
}

#[tokio::test]
async fn a_plain_file_survives_cuts_and_storms() {
    let (files, image) = files();
    let server = Server::start(&files, |_, number| match number % 4 {
        0 => Answer::Cut(number * 77_777 % 700_000),
        1 => Answer::Status(503),
        _ => Answer::Serve,
    })
    .await;
    let (result, came, _) = fetch(&image, &[&server]).await;
    let progress = result.unwrap().progress;
    assert!(came == image);
    assert!(progress.faults >= 2, "{progress:?}");
}
