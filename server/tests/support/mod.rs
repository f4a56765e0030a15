//! A server inside the test's process, on a free loopback port, with a clock that the test
//! sets; and a client of a few lines that sends exactly the bytes it is told to.

#![expect(dead_code, reason = "each test file uses its own part")]

pub(crate) mod api;
pub(crate) mod program;

use std::io::Read;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sparetire_manifest::{Digest, ImageName, Timestamp, layout};
use sparetire_server::serve::{Clock, Limits, Server, SessionLimits, Settings};

/// 2026-11-22T00:00:00Z.
pub(crate) const START: u64 = 1_795_305_600;
pub(crate) const OPERATOR: &str = "operator-0123456789abcdef0123456789abcdef";

/// Folders and clock of a server, which outlive its restarts.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    now: Arc<AtomicU64>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("store")).unwrap();
        let place = Self {
            dir,
            now: Arc::new(AtomicU64::new(START)),
        };
        let token = place.dir.path().join("token");
        std::fs::write(&token, format!("{OPERATOR}\n")).unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        place
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            store: self.dir.path().join("store"),
            state: self.dir.path().join("state"),
            operator_token_file: Some(self.dir.path().join("token")),
            tls: None,
            limits: Limits::default(),
            sessions: SessionLimits::default(),
        }
    }

    pub(crate) async fn start(&self) -> Server {
        self.start_with(self.settings()).await
    }

    pub(crate) async fn start_with(&self, settings: Settings) -> Server {
        let now = Arc::clone(&self.now);
        let clock = Clock::new(move || Timestamp::from_unix(now.load(Ordering::Relaxed)));
        Server::start(settings, clock).await.unwrap()
    }

    pub(crate) fn advance(&self, time: Duration) {
        self.now.fetch_add(time.as_secs(), Ordering::Relaxed);
    }

    /// Writes a file of the store and says its request path.
    pub(crate) fn put(&self, path: &str, bytes: &[u8]) -> String {
        let file: PathBuf = self.dir.path().join("store").join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
        format!("/store/{path}")
    }

    pub(crate) fn put_pack(&self, bytes: &[u8]) -> String {
        self.put(&layout::pack_path(&Digest::of(bytes)), bytes)
    }

    pub(crate) fn put_latest(&self, bytes: &[u8]) -> String {
        let name = ImageName::try_from("debian".to_owned()).unwrap();
        self.put(&layout::latest_path(&name), bytes)
    }

    pub(crate) fn put_index(&self, bytes: &[u8]) -> String {
        let name = ImageName::try_from("debian".to_owned()).unwrap();
        self.put(&layout::index_path(&name, 1), bytes)
    }
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} stands twice");
        value
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Sends one request as it stands and reads until the server closes.
pub(crate) async fn raw(address: SocketAddr, request: impl Into<Vec<u8>>) -> Answer {
    let bytes = raw_bytes(address, request).await;
    parse(&bytes).unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&bytes)))
}

pub(crate) async fn raw_bytes(address: SocketAddr, request: impl Into<Vec<u8>>) -> Vec<u8> {
    let request = request.into();
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        // The server may have answered and closed before it has read everything.
        let _ = stream.write_all(&request);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        bytes
    })
    .await
    .unwrap()
}

/// A request without a body, with further header lines.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
) -> Answer {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    raw(address, text).await
}

pub(crate) async fn get(address: SocketAddr, path: &str, headers: &[&str]) -> Answer {
    request(address, "GET", path, headers).await
}

pub(crate) fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = bytes[end + 4..].to_vec();
    Some(Answer {
        status,
        headers,
        body,
    })
}
