//! The static store over the wire, against RFC 9110 and against people who want more than the
//! store. When one of these fails, the server is wrong: clients join ranges by these rules.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::process::Command;

use sparetire_manifest::Digest;
use support::{Place, get, request};

fn pack() -> Vec<u8> {
    (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_is_sent_whole_with_its_digest_as_validator() {
    let place = Place::new();
    let path = place.put_pack(&pack());
    let server = place.start().await;
    let answer = get(server.addresses()[0], &path, &[]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, pack());
    let etag = format!("\"{}\"", Digest::of(&pack()));
    assert_eq!(answer.header("etag"), Some(etag.as_str()));
    assert_eq!(answer.header("content-length"), Some("4000000"));
    assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    assert_eq!(
        answer.header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(
        answer.header("cache-control"),
        Some("public, max-age=31536000, immutable")
    );
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_answered_with_exactly_those_bytes() {
    let place = Place::new();
    let content = pack();
    let path = place.put_pack(&content);
    let server = place.start().await;
    let address = server.addresses()[0];
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=1-1048576", 1, 1_048_576),
        ("bytes=3999999-", 3_999_999, 3_999_999),
        ("bytes=-17", 3_999_983, 3_999_999),
        ("bytes=3000000-99999999", 3_000_000, 3_999_999),
    ] {
        let answer = get(address, &path, &[&format!("range: {range}")]).await;
        assert_eq!(answer.status, 206, "{range}");
        let content_range = format!("bytes {first}-{last}/4000000");
        assert_eq!(answer.header("content-range"), Some(content_range.as_str()));
        let length = (last - first + 1).to_string();
        assert_eq!(answer.header("content-length"), Some(length.as_str()));
        assert_eq!(answer.body, content[first..=last], "{range}");
    }
    let answer = get(address, &path, &["range: bytes=4000000-"]).await;
    assert_eq!(answer.status, 416);
    assert_eq!(answer.header("content-range"), Some("bytes */4000000"));
    assert!(answer.body.is_empty());
    for ignored in [
        "range: bytes=0-1,5-6",
        "range: lines=1-2",
        "range: bytes=9-1",
    ] {
        let answer = get(address, &path, &[ignored]).await;
        assert_eq!((answer.status, answer.body.len()), (200, 4_000_000));
        assert_eq!(answer.header("content-range"), None);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_follow_the_table() {
    let place = Place::new();
    let path = place.put_latest(b"{\"version\": 1}\n");
    let server = place.start().await;
    let address = server.addresses()[0];
    let first = get(address, &path, &[]).await;
    assert_eq!(first.header("cache-control"), Some("no-cache"));
    assert_eq!(first.header("content-type"), Some("application/json"));
    let etag = first.header("etag").unwrap().to_owned();
    let weak = format!("W/{etag}");
    let if_range = |value: &str| format!("if-range: {value}");
    let none_match = |value: &str| format!("if-none-match: {value}");
    let range = "range: bytes=0-3".to_owned();
    let cases = [
        (vec![none_match(&etag)], 304, 0),
        (vec![none_match(&weak)], 304, 0),
        (vec![none_match("*")], 304, 0),
        (vec![none_match("\"x\"")], 200, 15),
        (vec![none_match(&etag), range.clone()], 304, 0),
        (vec![range.clone(), if_range(&etag)], 206, 4),
        (vec![range.clone(), if_range(&weak)], 200, 15),
        (vec![range.clone(), if_range("\"old\"")], 200, 15),
        (
            vec![range.clone(), if_range("Sun, 22 Nov 2026 00:00:00 GMT")],
            200,
            15,
        ),
        (vec![if_range("\"old\"")], 200, 15),
        (vec!["if-match: \"old\"".to_owned()], 412, 0),
        (vec![format!("if-match: {etag}")], 200, 15),
        (
            vec!["if-modified-since: Sun, 22 Nov 2099 00:00:00 GMT".to_owned()],
            200,
            15,
        ),
    ];
    for (headers, status, length) in cases {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let answer = get(address, &path, &headers).await;
        assert_eq!(
            (answer.status, answer.body.len()),
            (status, length),
            "{headers:?}"
        );
        assert_eq!(answer.header("etag"), Some(etag.as_str()), "{headers:?}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_says_what_get_would_and_sends_nothing() {
    let place = Place::new();
    let path = place.put_pack(&pack());
    let server = place.start().await;
    let address = server.addresses()[0];
    let answer = request(address, "HEAD", &path, &["range: bytes=0-1"]).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(answer.header("content-length"), Some("4000000"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_has_another_validator() {
    let place = Place::new();
    let latest = place.put_latest(b"{\"version\": 1}\n");
    let index = place.put_index(b"first");
    let server = place.start().await;
    let address = server.addresses()[0];
    for (path, again) in [
        (&latest, b"{\"version\": 2}\n".as_slice()),
        (&index, b"other".as_slice()),
    ] {
        let before = get(address, path, &[]).await;
        let file = path.strip_prefix("/store/").unwrap();
        let fresh = place.dir.path().join("fresh");
        std::fs::write(&fresh, again).unwrap();
        std::fs::rename(&fresh, place.dir.path().join("store").join(file)).unwrap();
        let if_range = format!("if-range: {}", before.header("etag").unwrap());
        let after = get(address, path, &["range: bytes=0-1", &if_range]).await;
        assert_eq!(
            after.status, 200,
            "{path}: halves of two files would be joined"
        );
        assert_eq!(after.body, again);
        assert_ne!(after.header("etag"), before.header("etag"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_is_sent_and_has_no_ranges() {
    let place = Place::new();
    let path = place.put_index(b"");
    let server = place.start().await;
    let address = server.addresses()[0];
    assert_eq!(get(address, &path, &[]).await.status, 200);
    let answer = get(address, &path, &["range: bytes=0-"]).await;
    assert_eq!(answer.status, 416);
    assert_eq!(answer.header("content-range"), Some("bytes */0"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_the_closed_list_is_served() {
    let place = Place::new();
    place.put_latest(b"{}");
    place.put("secret.key", b"SECRET");
    place.put("images/debian/.latest.json.tmp", b"SECRET");
    std::fs::write(place.dir.path().join("outside"), b"SECRET").unwrap();
    let store = place.dir.path().join("store");
    symlink("/etc", store.join("etc")).unwrap();
    std::fs::create_dir_all(store.join("images/linked")).unwrap();
    symlink("../../../outside", store.join("images/linked/latest.json")).unwrap();
    symlink("debian", store.join("images/alias")).unwrap();
    std::fs::create_dir_all(store.join("images/folder/latest.json")).unwrap();
    let server = place.start().await;
    let address = server.addresses()[0];
    for path in [
        "/store",
        "/store/",
        "/store/images/",
        "/store/images/debian/",
        "/store/secret.key",
        "/store/images/debian/.latest.json.tmp",
        "/store/../outside",
        "/store/images/../../outside",
        "/store/images/debian/../../../outside",
        "/store/%2e%2e/outside",
        "/store/..%2foutside",
        "/store/images/debian/..%2f..%2f..%2foutside",
        "/store/images/debian/%2e%2e/%2e%2e/%2e%2e/outside",
        "/store/images/debian/latest.json%00",
        "/store/images/debian\\latest.json",
        "/store//etc/passwd",
        "/store/etc/passwd",
        "/store/images/linked/latest.json",
        "/store/images/alias/latest.json",
        "/store/images/folder/latest.json",
        "/store/images/debian/latest.json/",
        "/storeimages/debian/latest.json",
        "//store/images/debian/latest.json",
        "/images/debian/latest.json",
        "/api/v1/../../store/images/debian/latest.json",
    ] {
        let answer = get(address, path, &[]).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.text().contains("SECRET"), "{path}");
        assert!(!answer.text().contains("root:"), "{path}");
    }
    let found = get(
        address,
        "/store/images/debian/latest.json?query=ignored",
        &[],
    )
    .await;
    assert_eq!(found.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_is_not_remembered_as_missing() {
    let place = Place::new();
    let server = place.start().await;
    let address = server.addresses()[0];
    let answer = get(address, "/store/images/debian/latest.json", &[]).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    // It appears while the server runs.
    place.put_latest(b"{}");
    let answer = get(address, "/store/images/debian/latest.json", &[]).await;
    assert_eq!(answer.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_cannot_be_written() {
    let place = Place::new();
    let path = place.put_latest(b"{}");
    let server = place.start().await;
    let address = server.addresses()[0];
    for method in ["PUT", "POST", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        let answer = request(address, method, &path, &["content-length: 0"]).await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_becomes_shorter_breaks_the_connection_instead_of_lying() {
    let place = Place::new();
    let path = place.put_pack(&vec![7; 64 * 1024 * 1024]);
    let server = place.start().await;
    let address = server.addresses()[0];
    let file = place
        .dir
        .path()
        .join("store")
        .join(path.strip_prefix("/store/").unwrap());
    let read = tokio::task::spawn_blocking(move || {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut start = [0; 4096];
        stream.read_exact(&mut start).unwrap();
        // The answer has begun, and no socket buffer holds 64 MiB.
        std::fs::File::options()
            .write(true)
            .open(file)
            .unwrap()
            .set_len(1024)
            .unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        rest.len()
    });
    assert!(read.await.unwrap() < 64 * 1024 * 1024);
    // The server lives on.
    assert_eq!(get(address, "/healthz", &[]).await.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_read_different_parts_at_once() {
    let place = Place::new();
    let content = pack();
    let path = place.put_pack(&content);
    let server = place.start().await;
    let address = server.addresses()[0];
    let clients: Vec<_> = (0..40_usize)
        .map(|n| {
            let (path, start) = (path.clone(), n * 100_000);
            tokio::spawn(async move {
                let range = format!("range: bytes={start}-{}", start + 99_999);
                (start, get(address, &path, &[&range]).await)
            })
        })
        .collect();
    for client in clients {
        let (start, answer) = client.await.unwrap();
        assert_eq!(answer.status, 206);
        assert_eq!(answer.body, content[start..start + 100_000]);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absolute_and_strange_request_targets_are_answered() {
    let place = Place::new();
    place.put_latest(b"{}");
    let server = place.start().await;
    let address = server.addresses()[0];
    // RFC 9112 section 3.2.2: a server must accept the absolute form.
    let target = "http://test/store/images/debian/latest.json";
    assert_eq!(get(address, target, &[]).await.status, 200);
    assert_eq!(request(address, "OPTIONS", "*", &[]).await.status, 404);
    // An authority without a path (RFC 9112 section 3.2.3) is for CONNECT.
    assert_eq!(get(address, "nonsense", &[]).await.status, 404);
    assert_eq!(get(address, "a b", &[]).await.status, 400);
    server.stop().await;
}

/// An outside witness: curl joins a download that broke off, by its own reading of the RFC.
#[tokio::test(flavor = "multi_thread")]
async fn curl_resumes_a_download_and_revalidates_it() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("SKIPPED: curl is not installed");
        return;
    }
    let place = Place::new();
    let content = pack();
    let path = place.put_pack(&content);
    let server = place.start().await;
    let url = url(server.addresses()[0], &path);
    let target = place.dir.path().join("download");
    let etag = place.dir.path().join("etag");
    std::fs::write(&target, &content[..1_234_567]).unwrap();

    let resumed = curl(&["-C", "-", "-o", target.to_str().unwrap(), &url]).await;
    assert_eq!(resumed, "206");
    assert_eq!(std::fs::read(&target).unwrap(), content);

    let etag = etag.to_str().unwrap();
    let first = curl(&["--etag-save", etag, "-o", "/dev/null", &url]).await;
    assert_eq!(first, "200");
    let again = curl(&["--etag-compare", etag, "-o", "/dev/null", &url]).await;
    assert_eq!(again, "304");

    let missing = curl(&["-o", "/dev/null", "--path-as-is", &format!("{url}/../x")]).await;
    assert_eq!(missing, "404");
    server.stop().await;
}

fn url(address: SocketAddr, path: &str) -> String {
    format!("http://{address}{path}")
}

async fn curl(arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    command
        .args([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--max-time",
            "60",
        ])
        .args(["-w", "%{http_code}"])
        .args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
