//! The control socket of a whole virtual PC, and the program around it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;
use virtual_pc::VirtualPc;
use virtual_pc::config::{Config, Pc};

use crate::qemu_missing;

const PATIENCE: Duration = Duration::from_secs(60);

async fn start() -> VirtualPc {
    let pc = Pc {
        memory_mib: 64,
        ..Pc::default()
    };
    VirtualPc::start(Config {
        pc,
        ..Config::on_free_ports()
    })
    .await
    .unwrap()
}

/// A client that knows only what the README says.
struct Client(BufReader<UnixStream>);

impl Client {
    async fn connect(path: &Path) -> Self {
        Client(BufReader::new(UnixStream::connect(path).await.unwrap()))
    }

    async fn ask(&mut self, command: Value) -> Value {
        self.0
            .write_all(format!("{command}\n").as_bytes())
            .await
            .unwrap();
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, self.0.read_line(&mut line))
            .await
            .unwrap()
            .unwrap();
        serde_json::from_str(&line).unwrap()
    }

    async fn ok(&mut self, command: Value) -> Value {
        let mut answer = self.ask(command).await;
        assert!(answer.get("ok").is_some(), "{answer}");
        answer["ok"].take()
    }
}

#[tokio::test]
async fn a_pc_is_switched_on_watched_and_unplugged() {
    if qemu_missing() {
        return;
    }
    let pc = start().await;
    let mut client = Client::connect(&pc.addresses().control).await;
    assert_eq!(client.ok(json!({"command": "screen"})).await["mode"], "off");
    client.ok(json!({"command": "power-button"})).await;
    let found = client
        .ok(json!({"command": "wait-serial", "text": "No bootable device"}))
        .await;
    assert!(found["position"].as_u64().unwrap() > 0);
    let screen = client.ok(json!({"command": "screen"})).await;
    assert!(
        screen["lines"].to_string().contains("No bootable device"),
        "{screen}"
    );
    let state = client.ok(json!({"command": "state"})).await;
    assert_eq!(state["powered"], true);
    assert_eq!(state["firmware"]["power"], "on");
    client
        .ok(json!({"command": "keys", "keys": ["f2", "ctrl-alt-delete"]}))
        .await;
    client.ok(json!({"command": "type", "text": "dir"})).await;
    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("screen.png");
    client
        .ok(json!({"command": "screenshot", "path": picture}))
        .await;
    assert!(std::fs::read(picture).unwrap().starts_with(b"\x89PNG"));
    client.ok(json!({"command": "pull-plug"})).await;
    assert_eq!(
        client.ok(json!({"command": "state"})).await["firmware"]["power"],
        "off"
    );
    pc.shutdown().await;
}

#[tokio::test]
async fn mistakes_are_answered_and_the_connection_goes_on() {
    let pc = start().await;
    let mut client = Client::connect(&pc.addresses().control).await;
    for (command, word) in [
        (json!({"command": "explode"}), "explode"),
        (json!(7), "not a command"),
        (json!({"command": "keys", "keys": ["hyper"]}), "hyper"),
        (json!({"command": "keys", "keys": ["f2"]}), "off"),
        (
            json!({"command": "wait-serial", "text": "x", "seconds": 0}),
            "did not print",
        ),
        (
            json!({"command": "wsman-knobs", "change": {"delay": 1}}),
            "delay",
        ),
    ] {
        let answer = client.ask(command).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.contains(word), "{answer}");
    }
    let knobs = client
        .ok(json!({"command": "wsman-knobs", "change": {"delay_ms": 1}}))
        .await;
    assert_eq!(knobs["delay_ms"], 1);
    let change = json!({"command": "redirection-knobs", "change": {"bandwidth": 600_000}});
    assert_eq!(client.ok(change).await["bandwidth"], 600_000);
    let now = client.ok(json!({"command": "redirection-knobs"})).await;
    assert_eq!(
        (&now["bandwidth"], &now["poll_ms"]),
        (&json!(600_000), &json!(2000))
    );
    client
        .ok(json!({"command": "fault", "at": 100_000, "kind": "drop"}))
        .await;
    client.ok(json!({"command": "state"})).await;
    pc.shutdown().await;
}

#[tokio::test]
async fn a_cut_network_is_silent_until_it_is_mended() {
    let pc = start().await;
    let mut stream = TcpStream::connect(pc.addresses().redirection)
        .await
        .unwrap();
    let mut client = Client::connect(&pc.addresses().control).await;
    client
        .ok(json!({"command": "network", "state": "off"}))
        .await;
    stream.write_all(b"\x10\0\0\0SOL ").await.unwrap();
    let mut reply = [0; 13];
    let silence =
        tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut reply)).await;
    assert!(silence.is_err());
    client
        .ok(json!({"command": "network", "state": "on"}))
        .await;
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut reply))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(reply[..2], [0x11, 0]);
    client.ok(json!({"command": "drop-redirection"})).await;
    let end = tokio::time::timeout(PATIENCE, stream.read(&mut reply))
        .await
        .unwrap();
    assert!(matches!(end, Ok(0) | Err(_)));
    pc.shutdown().await;
}

#[tokio::test]
async fn the_program_prints_its_addresses_and_ends_when_told() {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_virtual-pc"));
    let mut child = Command::new(&program)
        .args(["run", "--any-port"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    tokio::time::timeout(PATIENCE, output.read_line(&mut line))
        .await
        .unwrap()
        .unwrap();
    let addresses: Value = serde_json::from_str(&line).unwrap();
    let socket = addresses["control"].as_str().unwrap();
    let control = |command: &'static str| {
        Command::new(&program)
            .args(["control", socket, command, "--json"])
            .output()
    };
    let state = control("state").await.unwrap();
    let state: Value = serde_json::from_slice(&state.stdout).unwrap();
    assert_eq!(state["addresses"], addresses);
    assert!(control("quit").await.unwrap().status.success());
    let status = tokio::time::timeout(PATIENCE, child.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(status.success());
    assert!(!Path::new(socket).exists());
    assert!(!control("state").await.unwrap().status.success());
}

#[tokio::test]
async fn a_configuration_with_a_mistake_is_named_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pc.toml");
    std::fs::write(&file, "[pc]\nmemory = 5\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_virtual-pc"))
        .arg("run")
        .arg(&file)
        .output()
        .await
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("pc.toml") && error.contains("memory"),
        "{error}"
    );
}
