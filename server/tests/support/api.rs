//! The boot-session API as a client calls it, byte by byte.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Answer, OPERATOR, raw};

/// Calls the API with a token and perhaps a JSON body.
pub(crate) async fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<Value>,
) -> Answer {
    let mut text = format!("{method} /api/v1{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    if let Some(token) = token {
        text.push_str(&format!("authorization: Bearer {token}\r\n"));
    }
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    if !body.is_empty() {
        text.push_str("content-type: application/json\r\n");
    }
    text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    raw(address, text).await
}

pub(crate) fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body)
        .unwrap_or_else(|_| panic!("{} {}", answer.status, answer.text()))
}

pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) token: String,
}

pub(crate) async fn create(address: SocketAddr, body: Value) -> Made {
    let answer = call(address, "POST", "/sessions", Some(OPERATOR), Some(body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let body = json_of(&answer);
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    let location = format!("/api/v1/sessions/{}", text("id"));
    assert_eq!(answer.header("location"), Some(location.as_str()));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    Made {
        id: text("id"),
        token: text("token"),
    }
}

pub(crate) fn diagnostic() -> Value {
    json!({ "image": "diagnostic", "target": "ram" })
}

pub(crate) fn step(kind: &str, step: &str) -> Value {
    json!({ "at_ms": 1200, "kind": kind, "step": step, "detail": "" })
}

pub(crate) async fn report(address: SocketAddr, id: &str, token: &str, reports: Value) -> Answer {
    let path = format!("/sessions/{id}/events");
    let body = json!({ "events": reports });
    call(address, "POST", &path, Some(token), Some(body)).await
}

pub(crate) async fn session(address: SocketAddr, id: &str) -> Value {
    let answer = call(
        address,
        "GET",
        &format!("/sessions/{id}"),
        Some(OPERATOR),
        None,
    )
    .await;
    assert_eq!(answer.status, 200);
    json_of(&answer)
}
