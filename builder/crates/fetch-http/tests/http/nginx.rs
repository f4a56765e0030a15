//! A store needs no server of ours: Debian's nginx does.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fetch_http::{FetchEvent, HttpClient, HttpOptions, Settings, What, fetch_image, open_image};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::store::{NOW, Ram, Store};

const PROGRAM: &str = "/usr/sbin/nginx";

/// A private instance, which ends with this value.
struct Nginx {
    process: Child,
    address: SocketAddr,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Nginx {
    /// Serves `root`, keeping everything of its own in `scratch`.
    async fn start(root: &Path, scratch: &Path) -> Self {
        // nginx cannot say which port it got, so it is told one that was free a moment ago.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let scratch_text = scratch.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {scratch_text}/{kind};\n"))
            .concat();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {scratch_text}/pid;\nerror_log {scratch_text}/error.log;\n\
             events {{}}\nhttp {{\naccess_log {scratch_text}/access.log;\n{temporary}\
             server {{ listen {address}; root {}; }}\n}}\n",
            root.display()
        );
        let config_path = scratch.join("nginx.conf");
        std::fs::write(&config_path, config).unwrap();
        let process = Command::new(PROGRAM)
            .arg("-p")
            .arg(scratch)
            .arg("-c")
            .arg(&config_path)
            .arg("-e")
            .arg(scratch.join("start.log"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut nginx = Self { process, address };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).await.is_err() {
            let log = || std::fs::read_to_string(scratch.join("error.log")).unwrap_or_default();
            assert!(
                nginx.process.try_wait().unwrap().is_none(),
                "nginx ended: {}",
                log()
            );
            assert!(
                Instant::now() < deadline,
                "nginx does not listen: {}",
                log()
            );
            sleep(Duration::from_millis(5)).await;
        }
        nginx
    }
}

#[tokio::test]
async fn nginx_serves_a_store() {
    if !Path::new(PROGRAM).exists() {
        eprintln!(
            "SKIPPED nginx_serves_a_store: {PROGRAM} is not installed (Debian package nginx-light)"
        );
        return;
    }
    let store = Store::new(400);
    let root = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    store.write_to(&root.path().join("store"));
    let nginx = Nginx::start(root.path(), scratch.path()).await;
    let good = format!("http://{}/store", nginx.address);

    let client = HttpClient::new(&HttpOptions::default()).unwrap();
    let opened = open_image(
        &client,
        std::slice::from_ref(&good),
        &store.keys,
        &store.name,
        None,
        None,
        NOW,
    )
    .await
    .unwrap();
    assert_eq!(*opened.manifest, store.manifest);

    // The first source has nothing: its 404 ends it, and the rest comes from the other one.
    let sources = [format!("http://{}/nothing", nginx.address), good];
    let mut ram = Ram::for_image(&store);
    let mut events = Vec::new();
    let summary = fetch_image(
        &client,
        &sources,
        &opened.index,
        Settings::default(),
        &mut ram,
        |_, event| {
            events.extend(event.cloned());
        },
    )
    .await
    .unwrap();
    assert!(ram.0 == store.image);
    assert!(events.contains(&FetchEvent::SourceDropped { source: 0 }));
    for event in &events {
        let FetchEvent::Fault(fault) = event else {
            continue;
        };
        assert_eq!((fault.source_index, &fault.what), (0, &What::Status(404)));
    }
    assert_eq!(
        summary.progress.network_bytes,
        summary.progress.stored_total
    );
    // nginx has strong ETags, and honours them in If-Range: every answer was a partial one.
    let log = std::fs::read_to_string(scratch.path().join("access.log")).unwrap();
    let packs: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("GET /store/packs/"))
        .collect();
    assert!(
        packs.len() > 4 && packs.iter().all(|line| line.contains("\" 206 ")),
        "{log}"
    );
}
