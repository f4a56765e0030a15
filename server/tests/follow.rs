//! Following a session: the event stream over the wire, and `sparetire session follow` on top of
//! it, across everything that may break in between.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use support::{OPERATOR, Place};

struct Operator {
    http: reqwest::Client,
    base: String,
}

impl Operator {
    fn new(address: SocketAddr) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            http,
            base: format!("http://{address}/api/v1/sessions"),
        }
    }

    async fn create(&self, ttl_seconds: u64) -> (String, String) {
        let body = json!({ "image": "d", "target": "ram", "ttl_seconds": ttl_seconds });
        let request = self.http.post(&self.base).bearer_auth(OPERATOR).json(&body);
        let made: Value = request.send().await.unwrap().json().await.unwrap();
        let text = |key: &str| made[key].as_str().unwrap().to_owned();
        (text("id"), text("token"))
    }

    async fn log(&self, id: &str, token: &str, lines: &[&str]) {
        let reports: Vec<Value> = lines
            .iter()
            .map(|line| json!({ "at_ms": 1, "kind": "log", "lines": [line] }))
            .collect();
        self.post(id, token, json!(reports)).await;
    }

    async fn post(&self, id: &str, token: &str, reports: Value) {
        let request = self
            .http
            .post(format!("{}/{id}/events", self.base))
            .bearer_auth(token)
            .json(&json!({ "events": reports }));
        assert_eq!(request.send().await.unwrap().status(), 204);
    }

    async fn cancel(&self, id: &str) {
        let request = self.http.delete(format!("{}/{id}", self.base));
        let answer = request.bearer_auth(OPERATOR).send().await.unwrap();
        assert_eq!(answer.status(), 204);
    }

    async fn stream(&self, id: &str, last_event_id: Option<&str>) -> reqwest::Response {
        let mut request = self
            .http
            .get(format!("{}/{id}/stream", self.base))
            .bearer_auth(OPERATOR);
        if let Some(last) = last_event_id {
            request = request.header("last-event-id", last);
        }
        request.send().await.unwrap()
    }
}

/// Reads lines of a stream until `wanted` of them start with `prefix`.
async fn lines(response: &mut reqwest::Response, text: &mut String, prefix: &str, wanted: usize) {
    let read = async {
        while text.lines().filter(|line| line.starts_with(prefix)).count() < wanted
            || !text.ends_with('\n')
        {
            let bytes = response.chunk().await.unwrap().expect("stream ended early");
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(30), read)
        .await
        .unwrap_or_else(|_| panic!("{wanted} of {prefix:?} did not come: {text}"));
}

/// Reads a stream to its end.
async fn rest(mut response: reqwest::Response) -> String {
    let read = async {
        let mut text = String::new();
        while let Some(bytes) = response.chunk().await.unwrap() {
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        text
    };
    tokio::time::timeout(Duration::from_secs(30), read)
        .await
        .unwrap()
}

fn ids(text: &str) -> Vec<u64> {
    text.lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .map(|id| id.parse().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_the_past_then_the_present_then_ends() {
    let place = Place::new();
    let server = place.start().await;
    let operator = Operator::new(server.addresses()[0]);
    let (id, token) = operator.create(600).await;
    operator.log(&id, &token, &["one", "two"]).await;
    let mut stream = operator.stream(&id, None).await;
    assert_eq!(stream.status(), 200);
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    lines(&mut stream, &mut text, "id: ", 2).await;
    operator.log(&id, &token, &["three"]).await;
    lines(&mut stream, &mut text, "id: ", 3).await;
    let end = json!([{ "at_ms": 9, "kind": "hand-off", "method": "kexec_load" }]);
    operator.post(&id, &token, end).await;
    text.push_str(&rest(stream).await);
    assert_eq!(ids(&text), [1, 2, 3, 4]);
    assert!(
        text.starts_with("event: state\ndata: {\"state\":\"booting\"}\n\n"),
        "{text}"
    );
    assert!(
        text.ends_with("event: state\ndata: {\"state\":\"handed-off\"}\n\n"),
        "{text}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_after_the_last_event_id() {
    let place = Place::new();
    let server = place.start().await;
    let operator = Operator::new(server.addresses()[0]);
    let (id, token) = operator.create(600).await;
    operator.log(&id, &token, &["one", "two", "three"]).await;
    let mut stream = operator.stream(&id, Some("2")).await;
    let mut text = String::new();
    lines(&mut stream, &mut text, "data: ", 2).await;
    assert_eq!(ids(&text), [3]);
    drop(stream);

    operator.cancel(&id).await;
    // What is left is still told, with the end.
    let text = rest(operator.stream(&id, Some("2")).await).await;
    assert_eq!(ids(&text), [3]);
    assert!(
        text.ends_with("event: state\ndata: {\"state\":\"cancelled\"}\n\n"),
        "{text}"
    );
    // Nothing left: an EventSource is told to stop asking.
    assert_eq!(operator.stream(&id, Some("3")).await.status(), 204);
    for nonsense in ["x", "-1", "99999999999999999999"] {
        assert_eq!(operator.stream(&id, Some(nonsense)).await.status(), 400);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_events_come_in_order_without_a_gap() {
    let place = Place::new();
    let server = place.start().await;
    let operator = Operator::new(server.addresses()[0]);
    let (id, token) = operator.create(600).await;
    let stream = operator.stream(&id, None).await;
    for _ in 0..10 {
        operator.log(&id, &token, &["x"; 200]).await;
    }
    let end = json!([{ "at_ms": 9, "kind": "hand-off", "method": "kexec_load" }]);
    operator.post(&id, &token, end).await;
    let expected: Vec<u64> = (1..=2001).collect();
    assert_eq!(ids(&rest(stream).await), expected);
    assert_eq!(ids(&rest(operator.stream(&id, None).await).await), expected);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_reaches_who_follows() {
    let place = Place::new();
    let server = place.start().await;
    let operator = Operator::new(server.addresses()[0]);
    let (id, _) = operator.create(60).await;
    let mut stream = operator.stream(&id, None).await;
    let mut text = String::new();
    lines(&mut stream, &mut text, "data: ", 1).await;
    place.advance(Duration::from_secs(60));
    assert_eq!(
        rest(stream).await.trim(),
        "event: state\ndata: {\"state\":\"expired\"}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_the_server_ends_streams_at_once() {
    let place = Place::new();
    let server = place.start().await;
    let operator = Operator::new(server.addresses()[0]);
    let (id, _) = operator.create(600).await;
    let stream = operator.stream(&id, None).await;
    let stopped = tokio::time::timeout(Duration::from_secs(5), server.stop()).await;
    assert!(stopped.is_ok(), "the stream held the server up");
    rest(stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_leave_room_for_loaders() {
    let place = Place::new();
    let mut settings = place.settings();
    settings.limits.connections = 8;
    let server = place.start_with(settings).await;
    let operator = Operator::new(server.addresses()[0]);
    let (id, token) = operator.create(600).await;
    let _one = operator.stream(&id, None).await;
    let two = operator.stream(&id, None).await;
    assert_eq!(two.status(), 200);
    assert_eq!(operator.stream(&id, None).await.status(), 503);
    operator.log(&id, &token, &["still heard"]).await;
    // A follower that leaves makes room for another.
    drop(two);
    let room = async { while operator.stream(&id, None).await.status() != 200 {} };
    tokio::time::timeout(Duration::from_secs(20), room)
        .await
        .unwrap();
    server.stop().await;
}
