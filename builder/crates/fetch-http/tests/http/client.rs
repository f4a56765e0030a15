//! Single requests: what each failure is called, and what is never said.

use std::time::Duration;

use fetch_http::{ConnectionFailure, HttpClient, HttpFailure, HttpOptions, TlsFailure};

use crate::server::{Answer, Server};
use crate::store::Files;

fn files() -> Files {
    let mut files = Files::new();
    files.insert("small".into(), b"hello"[..].into());
    files.insert("large".into(), vec![7; 100_000].into());
    files
}

fn client() -> HttpClient {
    let options = HttpOptions {
        timeout: Duration::from_millis(500),
        ..HttpOptions::default()
    };
    HttpClient::new(&options).unwrap()
}

/// How a request for `path` fails when it is answered like this.
async fn failure(path: &str, limit: usize, answer: Answer) -> HttpFailure {
    let server = Server::start(&files(), move |_, _| answer.clone()).await;
    client()
        .get_small(&format!("{}/{path}", server.url), limit)
        .await
        .unwrap_err()
        .what
}

#[tokio::test]
async fn brings_a_small_file_and_says_who_asks() {
    let server = Server::honest(&files()).await;
    let client = client();
    assert_eq!(
        client
            .get_small(&format!("{}/small", server.url), 5)
            .await
            .unwrap(),
        b"hello"
    );
    assert_eq!(
        client
            .get_small(&format!("{}/large", server.url), 100_000)
            .await
            .unwrap(),
        vec![7; 100_000]
    );
    let asked = server.asked();
    assert_eq!(
        asked[0].header("user-agent"),
        Some(concat!("sparetire/", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(asked[0].header("accept-encoding"), Some("identity"));
    // One connection for both.
    assert_eq!(asked[1].connection, 0);
}

#[tokio::test]
async fn refuses_what_is_too_large_before_reading_it() {
    let too_large = HttpFailure::TooLarge { limit: 4 };
    assert_eq!(failure("small", 4, Answer::Serve).await, too_large);
    // Without a Content-Length, as soon as it becomes too much.
    assert_eq!(failure("small", 4, Answer::Chunked(0)).await, too_large);
    let huge = b"HTTP/1.1 200 OK\r\nContent-Length: 4611686018427387904\r\n\r\n".to_vec();
    assert_eq!(failure("small", 4, Answer::Raw(huge)).await, too_large);
}

#[tokio::test]
async fn tells_failures_apart() {
    let lost = HttpFailure::Connection(ConnectionFailure::Lost);
    let not_http = HttpFailure::Connection(ConnectionFailure::NotHttp);
    let late = HttpFailure::Connection(ConnectionFailure::TimedOut);
    let redirect = HttpFailure::Connection(ConnectionFailure::Redirect);
    let raw = |text: &str| Answer::Raw(text.as_bytes().to_vec());
    let cases = [
        (Answer::Status(404), HttpFailure::Status(404)),
        (Answer::Status(503), HttpFailure::Status(503)),
        (Answer::Status(304), HttpFailure::Status(304)),
        (
            Answer::With("Content-Encoding", "gzip".into()),
            HttpFailure::Encoded,
        ),
        (Answer::Cut(3), lost.clone()),
        (raw(""), lost),
        (raw("SSH-2.0-OpenSSH_9.2\r\n"), not_http.clone()),
        (raw("HTTP/1.1 abc\r\n\r\n"), not_http),
        (Answer::Silence, late.clone()),
        (Answer::Stall(3), late),
        (Answer::Redirect("/small".into()), redirect.clone()),
        (
            Answer::Redirect("https://localhost/small".into()),
            redirect.clone(),
        ),
        // Not followed, so the redirect is the answer.
        (
            Answer::Redirect("file:///etc/passwd".into()),
            HttpFailure::Status(302),
        ),
    ];
    for (answer, expected) in cases {
        let found = failure("small", 100, answer.clone()).await;
        assert_eq!(found, expected, "{answer:?}");
    }
}

#[tokio::test]
async fn follows_a_few_redirects() {
    let script = |_: &crate::server::Asked, number: usize| {
        if number < 5 {
            Answer::Redirect(format!("/hop{number}/../small"))
        } else {
            Answer::Serve
        }
    };
    let server = Server::start(&files(), script).await;
    assert_eq!(
        client()
            .get_small(&format!("{}/start", server.url), 5)
            .await
            .unwrap(),
        b"hello"
    );
}

#[tokio::test]
async fn says_why_nobody_was_reached() {
    let connection = |error: fetch_http::HttpError| match error.what {
        HttpFailure::Connection(failure) => failure,
        other => panic!("{other:?}"),
    };
    // A port that was free a moment ago.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = client()
        .get_small(&format!("http://{address}/"), 1)
        .await
        .unwrap_err();
    assert_eq!(connection(error), ConnectionFailure::Refused);
    // RFC 6761, 6.4: no such name can exist. A resolver that does not even answer may take its time.
    let patient = HttpClient::new(&HttpOptions::default()).unwrap();
    let error = patient
        .get_small("http://store.invalid/", 1)
        .await
        .unwrap_err();
    assert!(error.what.is_unreachable());
    assert!(
        matches!(
            connection(error.clone()),
            ConnectionFailure::Dns | ConnectionFailure::TimedOut
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn https_needs_someone_to_trust() {
    let error = client()
        .get_small("https://127.0.0.1:1/", 1)
        .await
        .unwrap_err();
    assert_eq!(
        error.what,
        HttpFailure::Connection(ConnectionFailure::Tls(TlsFailure::NoTrust))
    );
    assert_eq!(
        format!("{}: {}", error, error.what),
        "https://127.0.0.1:1/: TLS: no CA and no pinned key configured"
    );
}

#[tokio::test]
async fn posts_json_with_a_token_that_nobody_gets_to_see() {
    let server = Server::start(&Files::new(), |_, number| {
        Answer::Raw(if number == 0 {
            b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()
        } else {
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec()
        })
    })
    .await;
    let url = format!("http://user:hidden@{}/api?hidden", server.address);
    let body = [("phase", "fetch")];
    assert_eq!(
        client()
            .post_json(&url, Some("s3cret"), &body)
            .await
            .unwrap(),
        b""
    );
    let asked = server.asked();
    assert_eq!(asked[0].method, "POST");
    assert_eq!(asked[0].header("content-type"), Some("application/json"));
    assert_eq!(asked[0].header("authorization"), Some("Bearer s3cret"));
    assert_eq!(asked[0].body, br#"[["phase","fetch"]]"#);

    let error = client()
        .post_json(&url, Some("s3cret"), &body)
        .await
        .unwrap_err();
    assert_eq!(error.what, HttpFailure::Status(403));
    let said = format!("{error} {error:?}");
    assert!(
        !said.contains("hidden") && !said.contains("s3cret"),
        "{said}"
    );

    let error = client()
        .post_json(&url, Some("line\nbreak"), &body)
        .await
        .unwrap_err();
    assert_eq!(error.what, HttpFailure::Token);
    assert!(!format!("{error:?}").contains("break"));
}

#[tokio::test]
async fn asks_through_a_proxy() {
    let proxy = Server::start(&Files::new(), |asked, _| match asked.method.as_str() {
        "CONNECT" => Answer::Status(403),
        _ => Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
    })
    .await;
    let trust = fetch_http::Trust::new(
        None,
        ["sha256/ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="],
    )
    .unwrap();
    let url = format!("http://someone:hidden@{}", proxy.address);
    let client = HttpClient::new(&HttpOptions {
        proxy: Some(url),
        trust,
        ..HttpOptions::default()
    })
    .unwrap();
    // The name is the proxy's to resolve.
    assert_eq!(
        client.get_small("http://store.invalid/x", 2).await.unwrap(),
        b"ok"
    );
    let asked = proxy.asked();
    assert_eq!(asked[0].target, "http://store.invalid/x");
    assert!(
        asked[0]
            .header("proxy-authorization")
            .is_some_and(|value| value.starts_with("Basic "))
    );

    let error = client
        .get_small("https://store.invalid/x", 2)
        .await
        .unwrap_err();
    assert_eq!(
        error.what,
        HttpFailure::Connection(ConnectionFailure::Proxy)
    );
}

#[test]
fn refuses_a_proxy_it_cannot_use() {
    for proxy in ["", "socks5://host", "https://host", "host:3128"] {
        let options = HttpOptions {
            proxy: Some(proxy.into()),
            ..HttpOptions::default()
        };
        assert_eq!(
            HttpClient::new(&options).unwrap_err(),
            HttpFailure::ProxyUrl,
            "{proxy}"
        );
    }
}
