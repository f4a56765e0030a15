//! Answers of a web server, byte by byte, to a small request, to a report, and to the Range requests of a fetch.
//!
//! Real sockets on loopback: the HTTP library takes no other transport, and what is to be fuzzed begins in it. The
//! first byte says what is asked; the rest is what the server sends, cut at each `\n=====\n` into one answer for each
//! connection. After the last answer the server closes connections without a word.
#![no_main]

use std::cell::RefCell;
use std::time::Duration;

use fetch_http::{HttpClient, HttpFailure, HttpOptions, Settings, Sink, Trust, fetch_image};
use libfuzzer_sys::fuzz_target;
use sparetire_manifest::index::{Chunk, PackRef, Place};
use sparetire_manifest::{Digest, Index, IndexRef, Verified};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// What a small request takes at most.
const LIMIT: usize = 300;
const SEPARATOR: &[u8] = b"\n=====\n";

/// Bytes of the image. What is delivered has to be one of its chunks.
struct Checked(Vec<u8>);

impl Sink for Checked {
    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        let range = offset as usize..offset as usize + bytes.len();
        assert_eq!(&self.0[range], bytes, "wrong bytes at {offset}");
        Ok(())
    }
}

/// One pack of two stored chunks, `0` to `9` and `a` to `j`, so that a fuzzer can answer honestly now and then.
fn image() -> (Verified<Index>, Vec<u8>) {
    let bytes = b"0123456789abcdefghij".to_vec();
    let chunks = [0..10, 10..20]
        .map(|range: std::ops::Range<usize>| Chunk {
            digest: Digest::of(&bytes[range.clone()]),
            length: range.len() as u32,
            place: Place::Stored {
                pack: 0,
                offset: range.start as u64,
            },
        })
        .to_vec();
    let index = Index {
        image_size: bytes.len() as u64,
        packs: vec![PackRef {
            sha256: Digest::of(&bytes),
            length: bytes.len() as u64,
        }],
        chunks,
    };
    let emitted = index.emit();
    let reference = IndexRef {
        sha256: Digest::of(&emitted),
        size: emitted.len() as u64,
    };
    let index =
        Index::verify(&emitted, &reference, bytes.len() as u64).expect("our own index is sound");
    (index, bytes)
}

/// Takes one request's head and gives one answer. Whatever goes wrong is the client's to notice.
async fn answer(mut stream: TcpStream, answer: &[u8]) {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part).await {
            Ok(count) if count > 0 => head.extend_from_slice(&part[..count]),
            _ => return,
        }
    }
    let _ = stream.write_all(answer).await;
    let _ = stream.shutdown().await;
}

async fn serve(listener: &TcpListener, answers: &[u8]) {
    let mut rest = Some(answers);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        if let Some(now) = rest {
            let cut = now
                .windows(SEPARATOR.len())
                .position(|found| found == SEPARATOR);
            rest = cut.map(|at| &now[at + SEPARATOR.len()..]);
            answer(stream, &now[..cut.unwrap_or(now.len())]).await;
        }
    }
}

async fn ask(client: &HttpClient, url: &str, what: u8) {
    match what % 3 {
        0 => match client.get_small(&format!("{url}/latest.json"), LIMIT).await {
            Ok(bytes) => assert!(bytes.len() <= LIMIT),
            Err(error) => {
                assert!(!matches!(error.what, HttpFailure::TooLarge { limit } if limit != LIMIT));
                assert!(!error.to_string().is_empty());
            }
        },
        1 => {
            let _ = client.post_json(url, Some("0123456789"), &["report"]).await;
        }
        _ => {
            let (index, bytes) = image();
            let settings = Settings {
                connections: 1,
                // A failure that could pass is tried again at once, and a second time not at all.
                back_off: Duration::from_micros(1),
                back_off_max: Duration::from_micros(1),
                give_up: Some(2),
                deadline: Some(Duration::from_secs(5)),
                ..Settings::default()
            };
            let total = bytes.len() as u64;
            let mut sink = Checked(bytes);
            let sources = [url.to_owned()];
            let fetched = fetch_image(
                client,
                &sources,
                &index,
                settings,
                &mut sink,
                |progress, _| {
                    assert!(progress.done <= progress.total);
                },
            );
            match fetched.await {
                Ok(summary) => assert_eq!(summary.progress.done, total),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
}

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        Builder::new_current_thread().enable_all().build().expect("a runtime"),
    );
}

fuzz_target!(|input: &[u8]| {
    let [what, answers @ ..] = input else { return };
    RUNTIME.with_borrow_mut(|runtime| {
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0")
                .await
                .expect("a port on loopback");
            // The listener is the proxy for every host there is: a redirect leads nowhere else.
            let proxy = format!("http://{}", listener.local_addr().expect("its address"));
            // A client of its own: an earlier answer's connection must not carry this one's request.
            let client = HttpClient::new(&HttpOptions {
                trust: Trust::default(),
                proxy: Some(proxy),
                connect_timeout: Duration::from_secs(5),
                timeout: Duration::from_secs(5),
            })
            .expect("a client");
            tokio::select! {
                () = ask(&client, "http://store.invalid", *what) => {}
                () = serve(&listener, answers) => {}
            }
        });
    });
});
