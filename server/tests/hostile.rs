//! Peers that send too much, too slowly, or nonsense. Each is got rid of within a stated time,
//! and others do not notice.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use sparetire_server::serve::Limits;
use support::{OPERATOR, Place, get, parse, raw, raw_bytes};

fn impatient() -> Limits {
    Limits {
        head: Duration::from_secs(1),
        stall: Duration::from_secs(1),
        ..Limits::default()
    }
}

/// Reads until the server closes; how long that took.
async fn until_closed(mut stream: TcpStream) -> (Duration, Vec<u8>) {
    tokio::task::spawn_blocking(move || {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let started = Instant::now();
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the server did not close: {error}"),
        }
        (started.elapsed(), bytes)
    })
    .await
    .unwrap()
}

fn connect(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_finish_a_head_is_closed_in_time() {
    let place = Place::new();
    let mut settings = place.settings();
    settings.limits = impatient();
    let server = place.start_with(settings).await;
    let address = server.addresses()[0];
    for start in ["", "GET", "GET / HTTP/1.1\r\nhost: x\r\nx: "] {
        let (took, _) = until_closed(connect(address, start.as_bytes())).await;
        assert!(took < Duration::from_secs(10), "{start:?} took {took:?}");
    }
    // Kept alive after an answer, then idle.
    let idle = connect(address, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
    let (took, bytes) = until_closed(idle).await;
    assert!(took < Duration::from_secs(10));
    assert_eq!(parse(&bytes).unwrap().status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_finish_a_body_is_answered_in_time() {
    let place = Place::new();
    let mut settings = place.settings();
    settings.limits = impatient();
    let server = place.start_with(settings).await;
    let request = format!(
        "POST /api/v1/sessions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {OPERATOR}\r\n\
         content-length: 100\r\n\r\n{{"
    );
    let stream = connect(server.addresses()[0], request.as_bytes());
    let (took, bytes) = until_closed(stream).await;
    assert!(took < Duration::from_secs(10));
    assert_eq!(parse(&bytes).unwrap().status, 408);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_closed_in_time() {
    let place = Place::new();
    let path = place.put_pack(&vec![7; 64 * 1024 * 1024]);
    let mut settings = place.settings();
    settings.limits = Limits {
        connections: 1,
        ..impatient()
    };
    let server = place.start_with(settings).await;
    let address = server.addresses()[0];
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    // Holds the only place, and never reads.
    let stalled = connect(address, request.as_bytes());
    // Gets its turn only when the first is thrown out.
    let answer = get(address, "/healthz", &[]).await;
    assert_eq!(answer.status, 200);
    let (_, bytes) = until_closed(stalled).await;
    assert!(bytes.len() < 64 * 1024 * 1024);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_their_cap_are_refused() {
    let place = Place::new();
    let server = place.start().await;
    let address = server.addresses()[0];
    let auth = format!("authorization: Bearer {OPERATOR}");
    let big = "x".repeat(1024 * 1024);
    for path in ["/api/v1/sessions", "/api/v1/sessions/abc/events"] {
        let plain = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{auth}\r\ncontent-length: {}\r\n\r\n{big}",
            big.len()
        );
        let chunked = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{auth}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{big}\r\n0\r\n\r\n",
            big.len()
        );
        // Announced only: the answer must not wait for bytes that nobody will read.
        let announced = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{auth}\r\ncontent-length: 99999999999999\r\n\r\n"
        );
        for request in [plain, chunked, announced] {
            assert_eq!(raw(address, request).await.status, 413, "{path}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_and_the_server_lives_on() {
    let place = Place::new();
    let server = place.start().await;
    let address = server.addresses()[0];
    let mut requests: Vec<Vec<u8>> = [
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "GET /heal\u{0}thz HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost x\r\n\r\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    requests.push(vec![0xff; 100_000]);
    requests.push(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)).into_bytes());
    requests.push(format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(100_000)).into_bytes());
    requests.push(format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5_000)).into_bytes());
    for request in requests {
        let shown = String::from_utf8_lossy(&request[..request.len().min(40)]).into_owned();
        let bytes = raw_bytes_half_closed(address, request).await;
        // Refused with words or by closing; never with success.
        if let Some(answer) = parse(&bytes) {
            assert!(
                (400..600).contains(&answer.status),
                "{shown:?}: {}",
                answer.status
            );
        }
        assert_eq!(
            get(address, "/healthz", &[]).await.status,
            200,
            "after {shown:?}"
        );
    }
    server.stop().await;
}

/// Closes its own direction after sending, so that the server need not wait for more.
async fn raw_bytes_half_closed(address: SocketAddr, request: Vec<u8>) -> Vec<u8> {
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let _ = stream.write_all(&request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        bytes
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_take_all_places() {
    let place = Place::new();
    let mut settings = place.settings();
    settings.limits.connections_per_peer = 3;
    let server = place.start_with(settings).await;
    let address = server.addresses()[0];
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut held: Vec<TcpStream> = (0..3).map(|_| connect(address, request)).collect();
    for stream in &mut held {
        // Its answer shows that it has its place.
        stream.read_exact(&mut [0; 12]).unwrap();
    }
    let (_, bytes) = until_closed(TcpStream::connect(address).unwrap()).await;
    assert!(bytes.is_empty());
    // Another address of the loopback network is another peer.
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = other.connect(address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut other, request)
        .await
        .unwrap();
    let mut start = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut other, &mut start)
        .await
        .unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    // A place given back can be taken again.
    drop(held);
    let answered = async {
        loop {
            let bytes = raw_bytes(
                address,
                "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            )
            .await;
            if parse(&bytes).is_some() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), answered)
        .await
        .unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_a_running_download_end() {
    let place = Place::new();
    let length = 64 * 1024 * 1024;
    let path = place.put_pack(&vec![7; length]);
    let server = place.start().await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut download = connect(server.addresses()[0], request.as_bytes());
    download.read_exact(&mut [0; 12]).unwrap();
    let address = server.addresses()[0];
    let stopping = tokio::spawn(server.stop());
    let (_, bytes) = until_closed(download).await;
    assert!(bytes.len() >= length, "only {} bytes came", bytes.len());
    stopping.await.unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_does_not_wait_for_ever_for_who_does_not_read() {
    let place = Place::new();
    let path = place.put_pack(&vec![7; 64 * 1024 * 1024]);
    let mut settings = place.settings();
    settings.limits.drain = Duration::from_millis(300);
    let server = place.start_with(settings).await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut stalled = connect(server.addresses()[0], request.as_bytes());
    stalled.read_exact(&mut [0; 12]).unwrap();
    tokio::time::timeout(Duration::from_secs(20), server.stop())
        .await
        .unwrap();
}
