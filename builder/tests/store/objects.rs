//! Servers that take files: a plain one and one with S3's protocol, both a few lines, both able to fail.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sparetire_builder::exit::ExitCode;

use super::{Bench, files};

#[derive(Default)]
struct State {
    /// Path without the leading slash; folders end in `/`.
    files: BTreeMap<String, Vec<u8>>,
    /// Requests as they came: method and path.
    log: Vec<String>,
    /// PUT requests that get a 503, or whose connection is cut in the middle.
    refuse: u32,
    cut: u32,
    /// Whether folders have to exist before their files, as with WebDAV.
    wants_folders: bool,
    /// Whether requests have to be signed.
    signed: bool,
}

#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

impl Server {
    fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                // A client that goes away ends its connection, nothing else.
                std::thread::spawn(move || server.serve(stream).ok());
            }
        });
        url
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut from = BufReader::new(stream.try_clone()?);
        loop {
            let mut request = String::new();
            if from.read_line(&mut request)? == 0 {
                return Ok(());
            }
            let (mut length, mut authorized) = (0, false);
            loop {
                let mut header = String::new();
                from.read_line(&mut header)?;
                let header = header.trim().to_lowercase();
                if header.is_empty() {
                    break;
                }
                if let Some(value) = header.strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                }
                authorized |= header == "authorization: bearer sesame";
            }
            let mut words = request.split(' ');
            let (method, target) = (words.next().unwrap(), words.next().unwrap());
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let path = path.trim_start_matches('/');
            {
                let mut state = self.0.lock().unwrap();
                state.log.push(format!("{method} {path}"));
                if method == "PUT" && state.cut > 0 {
                    state.cut -= 1;
                    drop(state);
                    let mut half = vec![0; length / 2];
                    from.read_exact(&mut half)?;
                    return Ok(());
                }
            }
            let mut body = vec![0; length];
            from.read_exact(&mut body)?;
            let (status, answer) = self.answer(method, path, query, authorized, body);
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
                answer.len()
            )?;
            if method != "HEAD" {
                stream.write_all(&answer)?;
            }
        }
    }

    fn answer(
        &self,
        method: &str,
        path: &str,
        query: &str,
        authorized: bool,
        body: Vec<u8>,
    ) -> (&'static str, Vec<u8>) {
        let mut state = self.0.lock().unwrap();
        let is_allowed = if state.signed {
            // AWS Signature Version 4, query parameters.
            [
                "X-Amz-Algorithm=AWS4-HMAC-SHA256",
                "X-Amz-Credential=AKIDEXAMPLE%2F",
                "%2Feu-central-1%2Fs3%2Faws4_request",
                "X-Amz-Date=",
                "X-Amz-Expires=3600",
                "X-Amz-SignedHeaders=host",
                "X-Amz-Signature=",
            ]
            .iter()
            .all(|part| query.contains(part))
        } else {
            authorized
        };
        if !is_allowed {
            return ("403 Forbidden", b"who are you".to_vec());
        }
        let not_found = || ("404 Not Found", Vec::new());
        match method {
            "PUT" if state.refuse > 0 => {
                state.refuse -= 1;
                ("503 Slow Down", Vec::new())
            }
            "PUT" => {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                if state.wants_folders && !state.files.contains_key(&format!("{folder}/")) {
                    return ("409 Conflict", Vec::new());
                }
                state.files.insert(path.to_owned(), body);
                ("201 Created", Vec::new())
            }
            "MKCOL" => {
                state.files.insert(path.to_owned(), Vec::new());
                ("201 Created", Vec::new())
            }
            "DELETE" => {
                state.files.remove(path);
                ("204 No Content", Vec::new())
            }
            _ if query.contains("list-type=2") => ("200 OK", self.listing(&state, path, query)),
            _ => state
                .files
                .get(path)
                .map_or_else(not_found, |bytes| ("200 OK", bytes.clone())),
        }
    }

    /// Three names a page, so that paging is put to use.
    fn listing(&self, state: &State, bucket: &str, query: &str) -> Vec<u8> {
        let after = query
            .split('&')
            .find_map(|part| part.strip_prefix("continuation-token="))
            .unwrap_or("")
            .replace("%2F", "/");
        let bucket = format!("{}/", bucket.trim_end_matches('/'));
        let mut names = state
            .files
            .iter()
            .filter_map(|(path, bytes)| Some((path.strip_prefix(&bucket)?, bytes.len())))
            .filter(|(name, _)| *name > after.as_str());
        let mut xml = String::from(
            "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
        );
        let mut last = "";
        for (name, size) in names.by_ref().take(3) {
            last = name;
            xml += &format!("<Contents><Key>{name}</Key><Size>{size}</Size></Contents>");
        }
        let more = names.next().is_some();
        xml += &format!("<IsTruncated>{more}</IsTruncated>");
        if more {
            xml += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
        }
        (xml + "</ListBucketResult>").into_bytes()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What it has below a prefix.
    fn below(&self, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let files = state.files.iter().filter(|(path, _)| !path.ends_with('/'));
        files
            .filter_map(|(path, bytes)| {
                Some((path.strip_prefix(prefix)?.to_owned(), bytes.clone()))
            })
            .collect()
    }

    fn puts(&self) -> Vec<String> {
        let mut state = self.state();
        let log = std::mem::take(&mut state.log);
        log.into_iter()
            .filter_map(|line| Some(line.strip_prefix("PUT ")?.to_owned()))
            .collect()
    }
}

fn bench() -> Bench {
    let bench = Bench::new();
    bench.import("small", 1);
    bench.import("small", 2);
    bench.import("other", 5);
    fs::write(bench.path("token"), "SPARETIRE_SYNC_TOKEN=sesame\n").unwrap();
    fs::write(
        bench.path("aws"),
        "# for a test\nAWS_ACCESS_KEY_ID=AKIDEXAMPLE\nAWS_SECRET_ACCESS_KEY = secret\nAWS_REGION=eu-central-1\n",
    )
    .unwrap();
    bench
}

#[test]
fn a_plain_server_gets_packs_first_and_pointers_last() {
    let bench = bench();
    let server = Server::default();
    server.state().wants_folders = true;
    let url = server.start();
    let sync = format!("image sync {url}/mirror --store @store --credentials @token");
    bench.run(&format!("{sync} --dry-run"));
    assert!(server.puts().is_empty());
    bench.run(&sync);
    assert_eq!(server.below("mirror/"), files(&bench.path("store")));
    let puts = server.puts();
    let place = |part: &str| puts.iter().rposition(|path| path.contains(part)).unwrap();
    let small: Vec<usize> = [
        "small/2/index",
        "small/2/manifest.json",
        "small/latest.json",
    ]
    .iter()
    .map(|part| place(part))
    .collect();
    assert!(small.is_sorted(), "{puts:?}");
    let first_image = puts
        .iter()
        .position(|path| path.contains("images/"))
        .unwrap();
    assert!(puts[0].contains("packs/") && first_image > 0);

    bench.run(&sync);
    assert!(server.puts().is_empty(), "all of it was there");
    bench.run("image renew small --latest-days 800 --store @store --key @a.key");
    bench.run(&sync);
    assert_eq!(server.below("mirror/"), files(&bench.path("store")));
    // The signature that suits both pointers, the pointer, the signature.
    assert_eq!(server.puts().len(), 3);
    // Plain servers cannot say what they have.
    assert_eq!(bench.code(&format!("{sync} --delete")), ExitCode::Usage);
}

#[test]
fn a_server_that_stumbles_is_asked_again_and_one_that_refuses_is_not() {
    let bench = bench();
    let server = Server::default();
    server.state().refuse = 2;
    server.state().cut = 2;
    let url = server.start();
    bench.run(&format!(
        "image sync {url} --store @store --credentials @token"
    ));
    assert_eq!(server.below(""), files(&bench.path("store")));
    assert_eq!(
        bench.code(&format!("image sync {url} --store @store")),
        ExitCode::Refused,
        "without credentials"
    );
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert_eq!(
        bench.code(&format!("image sync http://{port}/ --store @store")),
        ExitCode::Unreachable
    );
    assert_eq!(
        bench.code("image sync http://user:secret@127.0.0.1/ --store @store"),
        ExitCode::Usage
    );
}

#[test]
fn a_damaged_pack_never_arrives() {
    let bench = Bench::new();
    bench.import("small", 1);
    fs::write(bench.path("token"), "SPARETIRE_SYNC_TOKEN=sesame\n").unwrap();
    let store = files(&bench.path("store"));
    let (pack, bytes) = store
        .iter()
        .find(|(path, _)| path.ends_with(".pack"))
        .unwrap();
    let mut bytes = bytes.clone();
    bytes[1000] ^= 1;
    fs::write(bench.path("store").join(pack), bytes).unwrap();
    let server = Server::default();
    let url = server.start();
    let sync = format!("image sync {url} --store @store --credentials @token");
    assert_eq!(bench.code(&sync), ExitCode::Verification);
    assert_eq!(server.below(""), BTreeMap::new());
}

#[test]
fn a_server_that_is_ahead_is_left_alone() {
    let bench = bench();
    let server = Server::default();
    let url = server.start();
    let sync = format!("image sync {url} --credentials @token --store");
    bench.run("image sync @copy --store @store");
    bench.run("image republish small --version 1 --new-version 9 --store @copy --key @a.key");
    bench.run(&format!("{sync} @copy"));
    let before = server.below("");
    assert_eq!(bench.code(&format!("{sync} @store")), ExitCode::Refused);
    assert_eq!(server.below(""), before);
}

#[test]
fn a_bucket_follows_the_store_and_keeps_packs_for_the_grace_period() {
    let bench = bench();
    let server = Server::default();
    server.state().signed = true;
    let url = server.start();
    let sync = format!(
        "image sync s3://bucket/some/prefix --endpoint {url} --credentials @aws --store @store"
    );
    bench.run(&sync);
    let prefix = "bucket/some/prefix/";
    assert_eq!(server.below(prefix), files(&bench.path("store")));
    bench.run("image remove small --version 1 --store @store");
    bench.run("image remove other --all --store @store");
    bench.run("image gc --grace 0 --store @store");
    bench.run(&format!("{sync} --delete --dry-run"));
    let images = |files: &BTreeMap<String, Vec<u8>>| {
        let names = files.keys().filter(|path| path.starts_with("images/"));
        names.cloned().collect::<Vec<_>>()
    };
    assert!(
        server
            .below(prefix)
            .contains_key("images/other/latest.json")
    );
    bench.run(&format!("{sync} --delete"));
    let there = server.below(prefix);
    assert_eq!(images(&there), images(&files(&bench.path("store"))));
    assert!(there.contains_key("packs/unreferenced.json"));
    assert!(
        there.len() > files(&bench.path("store")).len() + 1,
        "packs have to wait"
    );
    bench.run(&format!("{sync} --delete --grace 0"));
    assert_eq!(server.below(prefix), files(&bench.path("store")));
}

#[test]
fn s3_wants_credentials_and_a_bucket() {
    let bench = bench();
    assert_eq!(
        bench.code("image sync s3:///x --store @store"),
        ExitCode::Usage
    );
    fs::write(bench.path("empty"), "").unwrap();
    assert_eq!(
        bench.code("image sync s3://bucket --store @store --credentials @empty"),
        ExitCode::Usage
    );
}
