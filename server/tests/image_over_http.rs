//! A whole image through a web server and back: imported by `sparetire image import`, served by
//! `sparetire serve` (plain and HTTPS) and by Debian's nginx with the configuration that
//! docs/server.md shows, fetched by `sparetire image fetch`, compared byte for byte.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::program::{Serving, code, err, folder, json_lines, program};

/// A key, and a signed image of 20 MB in the store; the image's bytes.
fn import(dir: &Path) -> Vec<u8> {
    let run = |arguments: &[&str]| {
        let output = program(dir).args(arguments).output().unwrap();
        assert_eq!(code(&output), 0, "{arguments:?}: {}", err(&output));
    };
    run(&["key", "generate", "--no-password"]);
    // Linux x86 boot protocol: "HdrS" at 0x202, version 2.12 at 0x206, 64-bit flag at 0x236.
    let mut kernel = vec![0; 8192];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel[0x206..0x208].copy_from_slice(&0x020c_u16.to_le_bytes());
    kernel[0x236] = 1;
    let initrd = noise(20_000_000);
    let files = (dir.join("kernel"), dir.join("initrd"));
    std::fs::write(&files.0, &kernel).unwrap();
    std::fs::write(&files.1, &initrd).unwrap();
    run(&[
        "image",
        "import",
        "--name",
        "noise",
        "--kind",
        "linux-netboot",
        "--kernel",
        files.0.to_str().unwrap(),
        "--initrd",
        files.1.to_str().unwrap(),
        "--cmdline",
        "quiet",
    ]);
    [kernel, initrd].concat()
}

/// Bytes that no codec makes smaller, the same in each run (xorshift64).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn fetch(dir: &Path, store: &str, more: &[&str]) -> Output {
    program(dir)
        .args([
            "image", "fetch", "noise", "--json", "--force", "--from", store,
        ])
        .arg("--output")
        .arg(dir.join("fetched"))
        .args(more)
        .output()
        .unwrap()
}

fn assert_fetched(dir: &Path, output: &Output, image: &[u8]) {
    assert_eq!(code(output), 0, "{}", err(output));
    assert!(
        std::fs::read(dir.join("fetched")).unwrap() == image,
        "the fetched image differs"
    );
    let result = json_lines(output).pop().unwrap();
    assert_eq!(result["faults"], 0, "{result}");
}

#[test]
fn an_image_comes_whole_through_our_own_server() {
    let dir = folder();
    let image = import(dir.path());
    let server = Serving::start(dir.path(), "127.0.0.1:0");
    let output = fetch(dir.path(), &format!("{}/store", server.url), &[]);
    assert_fetched(dir.path(), &output, &image);
    let log = server.stop();
    let ranges = log.lines().filter(|line| line.contains("\"status\":206"));
    assert!(ranges.count() >= 2, "the image was not fetched in ranges");
}

#[test]
fn an_image_and_sessions_come_over_https() {
    let Some(openssl) = tool("openssl") else {
        return;
    };
    let dir = folder();
    let image = import(dir.path());
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let made = Command::new(openssl)
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args([
            "-subj",
            "/CN=test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        // Else rustls takes it for an authority's own certificate and not for a server's.
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", err(&made));
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let tls = ["--tls-cert", cert, "--tls-key", key];
    let server = Serving::start_with(dir.path(), "127.0.0.1:0", &tls);
    assert!(server.url.starts_with("https://"));
    let store = format!("{}/store", server.url);
    let output = fetch(dir.path(), &store, &["--ca", cert]);
    assert_fetched(dir.path(), &output, &image);
    // Not vouched for by anyone.
    let output = fetch(dir.path(), &store, &[]);
    assert_ne!(code(&output), 0);

    let list = |more: &[&str]| {
        let mut command = program(dir.path());
        command.args(["session", "list", "--server", &server.url]);
        command.args(more).output().unwrap()
    };
    let output = list(&["--ca", cert]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(code(&list(&[])), 5);
    // Who speaks plain HTTP, or nothing, to a TLS port disturbs nobody.
    let plain = server.url.replace("https", "http");
    let output = fetch(dir.path(), &format!("{plain}/store"), &[]);
    assert_ne!(code(&output), 0);
    assert_eq!(code(&list(&["--ca", cert])), 0);
    server.stop();
}

#[test]
fn an_image_comes_whole_through_nginx_as_documented() {
    let Some(program) = tool("nginx") else {
        return;
    };
    let dir = folder();
    let image = import(dir.path());
    let nginx = Nginx::start(&program, dir.path());
    let output = fetch(dir.path(), &format!("{}/store", nginx.url), &[]);
    assert_fetched(dir.path(), &output, &image);
    if let Some(curl) = tool("curl") {
        for (path, policy) in [
            ("latest.json", "no-cache"),
            ("latest.json.minisig", "no-cache"),
        ] {
            let url = format!("{}/store/images/noise/{path}", nginx.url);
            let head = Command::new(&curl)
                .args(["--silent", "--noproxy", "*", "--head", &url])
                .output()
                .unwrap();
            let head = String::from_utf8(head.stdout).unwrap();
            let values: Vec<&str> = head
                .lines()
                .filter_map(|line| line.strip_prefix("Cache-Control: "))
                .map(str::trim)
                .collect();
            assert_eq!(values, [policy], "{head}");
        }
    }
}

/// nginx on a free port of loopback, with the example of docs/server.md.
struct Nginx {
    child: Child,
    url: String,
}

impl Nginx {
    fn start(program: &Path, dir: &Path) -> Self {
        // A port that was free a moment ago may be taken now: then another one.
        for _ in 0..5 {
            let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = probe.local_addr().unwrap();
            drop(probe);
            let config = dir.join("nginx.conf");
            std::fs::write(&config, configuration(dir, &address.to_string())).unwrap();
            let mut child = Command::new(program)
                .arg("-c")
                .arg(&config)
                .arg("-e")
                .arg(dir.join("nginx.log"))
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
                if TcpStream::connect(address).is_ok() {
                    return Self {
                        child,
                        url: format!("http://{address}"),
                    };
                }
                // nginx has no way to say that it is ready; asked again until it is.
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = std::fs::read_to_string(dir.join("nginx.log"));
        panic!("nginx did not start: {}", log.unwrap_or_default());
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The documented `server` block, inside what Debian's nginx.conf has around it; one process
/// that stays in the foreground and writes below `dir` only.
fn configuration(dir: &Path, listen: &str) -> String {
    let page = include_str!("../../docs/server.md");
    let block = page.split("```nginx\n").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    let server = block
        .replace("listen 80;", &format!("listen {listen};"))
        .replace("root /srv/sparetire;", &format!("root {};", dir.display()));
    assert!(server.contains(listen) && server.contains(dir.to_str().unwrap()));
    let dir = dir.display();
    let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("    {what}_temp_path {dir}/nginx-{what};\n"))
        .collect();
    format!(
        "daemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nevents {{}}\nhttp {{\n\
         access_log off;\n{folders}{server}}}\n"
    )
}

/// Where a program is; says so when it is nowhere.
fn tool(name: &str) -> Option<std::path::PathBuf> {
    let found = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists());
    if found.is_none() {
        eprintln!("SKIPPED: {name} is not installed");
    }
    found
}
