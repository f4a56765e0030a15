//! The program as its users run it: one process serves, others make, follow and end sessions.
//! Asserts on what scripts may rely on: exit codes, standard output, `--json`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use support::program::{Serving, code, err, folder, json_lines, out, program};

fn session(dir: &Path, url: &str, arguments: &[&str]) -> Output {
    program(dir)
        .arg("session")
        .args(arguments)
        .args(["--server", url])
        .output()
        .unwrap()
}

fn create(dir: &Path, url: &str) -> (String, String) {
    let output = session(dir, url, &["create", "--image", "diagnostic", "--json"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let made = &json_lines(&output)[0];
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    (text("id"), text("token"))
}

/// Reports as the loader does.
fn report(url: &str, id: &str, token: &str, reports: Value) {
    let body = json!({ "events": reports }).to_string();
    let address = url.strip_prefix("http://").unwrap().parse().unwrap();
    let request = format!(
        "POST /api/v1/sessions/{id}/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         authorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answer = runtime.block_on(support::raw(address, request));
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn boot() -> Value {
    json!([
        { "at_ms": 100, "kind": "step-started", "step": "network" },
        { "at_ms": 900, "kind": "address", "interface": "eth0", "address": "192.0.2.7/24", "source": "dhcp" },
        { "at_ms": 1000, "kind": "step-done", "step": "network", "detail": "eth0 192.0.2.7" },
        { "at_ms": 1000, "kind": "step-started", "step": "fetch" },
        { "at_ms": 2000, "kind": "progress", "phase": "fetch", "done": 1048576, "total": 4194304, "rate": 1048576 },
        { "at_ms": 3000, "kind": "fault", "source": "http://mirror\u{1b}[2J/", "what": "connection reset" },
        { "at_ms": 5000, "kind": "progress", "phase": "fetch", "done": 4194304, "total": 4194304, "rate": 1048576 },
        { "at_ms": 5000, "kind": "step-done", "step": "fetch", "detail": "4 MiB" },
        { "at_ms": 5100, "kind": "hand-off", "method": "kexec-file-load" },
    ])
}

#[test]
fn a_boot_is_followed_to_its_hand_off() {
    let dir = folder();
    let server = Serving::start(dir.path(), "127.0.0.1:0");
    let (id, token) = create(dir.path(), &server.url);
    let following = program(dir.path())
        .args(["session", "follow", &id, "--server", &server.url, "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    report(&server.url, &id, &token, boot());
    let output = following.wait_with_output().unwrap();
    assert_eq!(code(&output), 0);
    let lines = json_lines(&output);
    let seqs: Vec<u64> = lines
        .iter()
        .filter(|line| line["event"] == "report")
        .map(|line| line["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let outcome = lines.last().unwrap();
    assert_eq!(outcome["event"], "outcome");
    assert_eq!(outcome["state"], "handed-off");
    assert_eq!(outcome["hand_off"], "kexec-file-load");
    assert_eq!(outcome["bytes"], 4_194_304);
    assert_eq!(outcome["faults"], 1);
    assert_eq!(outcome["steps"][1]["step"], "fetch");
    assert_eq!(outcome["steps"][1]["took_ms"], 4000);

    // The same afterwards, for people.
    let output = session(dir.path(), &server.url, &["follow", &id]);
    assert_eq!(code(&output), 0);
    let text = out(&output);
    for expected in [
        "0.9 s  address 192.0.2.7/24 on eth0 (dhcp)",
        "network: eth0 192.0.2.7",
        "connection reset",
        "handed off by kexec-file-load",
        "handed-off",
        "faults overcome: 1",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    }
    assert!(
        !text.contains('\u{1b}'),
        "a PC drives the terminal: {text:?}"
    );
    let log = server.stop();
    assert!(log.contains("/api/v1/sessions"), "{log}");
    assert!(!log.contains(&token), "the log holds the loader's token");
}

#[test]
fn following_survives_a_restart_of_the_server() {
    let dir = folder();
    let server = Serving::start(dir.path(), "127.0.0.1:0");
    let url = server.url.clone();
    let listen = url.strip_prefix("http://").unwrap().to_owned();
    let (id, token) = create(dir.path(), &url);
    let reports = boot();
    let reports = reports.as_array().unwrap();
    report(&url, &id, &token, json!(reports[..4]));
    let mut following = program(dir.path())
        .args(["session", "follow", &id, "--server", &url, "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(following.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"seq\":4") {
        line.clear();
        assert_ne!(stdout.read_line(&mut line).unwrap(), 0);
    }
    server.stop();
    let server = Serving::start(dir.path(), &listen);
    report(&url, &id, &token, json!(reports[4..]));
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert!(following.wait().unwrap().success());
    let seqs: Vec<u64> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|line| line["seq"].as_u64())
        .collect();
    assert_eq!(seqs, [5, 6, 7, 8, 9]);
    server.stop();
}

#[test]
fn outcomes_have_their_exit_codes() {
    let dir = folder();
    let server = Serving::start(dir.path(), "127.0.0.1:0");
    let url = server.url.clone();

    let (id, token) = create(dir.path(), &url);
    let failure = json!([{
        "at_ms": 4000, "kind": "step-failed", "step": "manifest", "input": "images/diagnostic",
        "cause": "signature does not match", "advice": "sign it again",
    }]);
    report(&url, &id, &token, failure);
    let output = session(dir.path(), &url, &["follow", &id, "--stop-on-failure"]);
    assert_eq!(code(&output), 1);
    assert!(
        err(&output).contains("signature does not match"),
        "{}",
        err(&output)
    );

    let output = session(dir.path(), &url, &["cancel", &id]);
    assert_eq!(code(&output), 0);
    let output = session(dir.path(), &url, &["follow", &id]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("cancelled"));

    let output = session(dir.path(), &url, &["show", "nosuch"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).starts_with("error: "), "{}", err(&output));
    let output = session(dir.path(), &url, &["show", "../../healthz"]);
    assert_eq!(code(&output), 2);

    let output = program(dir.path())
        .args(["session", "list", "--server", &url])
        .env(
            "SPARETIRE_OPERATOR_TOKEN",
            "0123456789abcdef0123456789abcdef",
        )
        .output()
        .unwrap();
    assert_eq!(code(&output), 3);
    assert!(err(&output).contains("advice: "), "{}", err(&output));

    server.stop();
    let output = session(dir.path(), &url, &["list", "--json"]);
    assert_eq!(code(&output), 5);
    assert_eq!(json_lines(&output)[0]["code"], 5);
    let output = session(dir.path(), &url, &["follow", &id, "--patience", "0"]);
    assert_eq!(code(&output), 5);
    let output = session(dir.path(), "ftp://x", &["list"]);
    assert_eq!(code(&output), 2);
}

#[test]
fn a_session_for_stage_one_is_written_to_a_private_file() {
    let dir = folder();
    let server = Serving::start(dir.path(), "127.0.0.1:0");
    let path = dir.path().join("session.toml");
    let output = session(
        dir.path(),
        &server.url,
        &[
            "create",
            "--image",
            "diagnostic",
            "--config-out",
            path.to_str().unwrap(),
            "--loader-server",
            "http://10.0.2.2:8080",
        ],
    );
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    let config = stage1_config::Config::parse(&text).unwrap();
    assert_eq!(config.store_urls(), ["http://10.0.2.2:8080/store"]);
    let session = config.session.clone().unwrap();
    assert!(out(&output).contains(&session.id));
    assert!(!out(&output).contains(session.token.reveal()));
    report(&server.url, &session.id, session.token.reveal(), boot());
    server.stop();
}

#[test]
fn sessions_are_listed_and_shown() {
    let dir = folder();
    let server = Serving::start(dir.path(), "127.0.0.1:0");
    let (id, token) = create(dir.path(), &server.url);
    report(&server.url, &id, &token, json!([boot()[0]]));
    let output = session(dir.path(), &server.url, &["list"]);
    assert!(
        out(&output)
            .lines()
            .any(|line| line.starts_with(&id) && line.contains("booting"))
    );
    let output = session(dir.path(), &server.url, &["list", "--json"]);
    assert_eq!(json_lines(&output)[0]["id"], id.as_str());
    let output = session(dir.path(), &server.url, &["show", &id]);
    assert!(
        out(&output).contains("network: started"),
        "{}",
        out(&output)
    );
    server.stop();
}

#[test]
fn first_start_makes_a_private_operators_token() {
    let dir = folder();
    let server = Serving::start(dir.path(), "127.0.0.1:0");
    let token = dir.path().join("state/operator-token");
    assert_eq!(std::fs::metadata(&token).unwrap().mode() & 0o777, 0o600);
    assert_eq!(
        std::fs::metadata(dir.path().join("state")).unwrap().mode() & 0o777,
        0o700
    );
    let log = server.stop();
    assert!(log.contains("operator-token"), "{log}");
    let secret = std::fs::read_to_string(token).unwrap();
    assert!(!log.contains(secret.trim()));
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let dir = folder();
    let server = Serving::start(dir.path(), "127.0.0.1:0");
    let taken = server.url.strip_prefix("http://").unwrap();
    let serve = |arguments: &[&str]| {
        program(dir.path())
            .arg("serve")
            .args(arguments)
            .output()
            .unwrap()
    };
    let output = serve(&["--listen", "127.0.0.1:0"]);
    assert_eq!(code(&output), 3, "{}", err(&output));
    let other = dir.path().join("other");
    let output = serve(&["--state", other.to_str().unwrap(), "--listen", taken]);
    assert_eq!(code(&output), 1);
    assert!(
        err(&output).contains("error: listening on 127.0.0.1:"),
        "{}",
        err(&output)
    );
    let output = serve(&["--config", "/nonexistent/server.toml"]);
    assert_eq!(code(&output), 2);
    let config = dir.path().join("server.toml");
    std::fs::write(&config, "lisen = []").unwrap();
    let output = serve(&["--config", config.to_str().unwrap()]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("lisen"), "{}", err(&output));
    server.stop();
}

#[test]
fn completions_come_for_each_shell() {
    let dir = folder();
    for shell in ["bash", "zsh", "fish"] {
        let output = program(dir.path())
            .args(["completions", shell])
            .output()
            .unwrap();
        assert_eq!(code(&output), 0);
        assert!(out(&output).contains("operator-token-file"), "{shell}");
    }
}

#[test]
fn resetting_stage_one_and_setting_something_at_once_is_a_mistake() {
    let dir = folder();
    for arguments in [&["--reset", "--dns", "192.0.2.1"][..], &[]] {
        let output = program(dir.path())
            .args(["stage1", "customize", "no-such.iso"])
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(code(&output), 2, "{}", err(&output));
    }
}
