//! Can the server listen where its configuration says, are its secrets private, and does a named server answer?

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use reqwest::Url;

use super::Findings;
use crate::serve::{Settings, operator};

/// A server on the local network answers much sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// The server that `sparetire serve` would start here.
pub(super) fn configuration(settings: &Settings, findings: &mut Findings) {
    for address in &settings.listen {
        port(*address, settings.tls.is_some(), findings);
    }
    let token = settings
        .operator_token_file
        .clone()
        .unwrap_or_else(|| operator::default_file(&settings.state));
    const TOKEN: &str = "operator's token";
    match fs::metadata(&token) {
        Err(error) if error.kind() == ErrorKind::NotFound => findings.ok(
            TOKEN,
            format!(
                "{} will be made by the first start of the server",
                token.display()
            ),
        ),
        // Another user's server keeps it from us, as it should.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            findings.ok(TOKEN, format!("{} is closed to this user", token.display()))
        }
        Err(error) => findings.fail(
            TOKEN,
            format!("{}: {error}", token.display()),
            "make the folder usable for the server's user",
        ),
        Ok(meta) if meta.mode() & 0o007 != 0 => findings.fail(
            TOKEN,
            format!(
                "{} is open to every user of this machine (mode {:04o})",
                token.display(),
                meta.mode() & 0o7777
            ),
            format!("remove {}; the server makes a new one", token.display()),
        ),
        Ok(meta) => findings.ok(
            TOKEN,
            format!("{}, mode {:04o}", token.display(), meta.mode() & 0o7777),
        ),
    }
    for file in settings.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]) {
        let check = "HTTPS";
        match fs::File::open(file) {
            Ok(_) => findings.ok(check, format!("{} can be read", file.display())),
            Err(error) => findings.fail(
                check,
                format!("{}: {error}", file.display()),
                "correct the path, or make the file readable for the server's user",
            ),
        }
    }
}

/// Whether the address is there and its port free, or taken by a server of ours.
fn port(address: SocketAddr, is_tls: bool, findings: &mut Findings) {
    let check = format!("port {address}");
    let error = match TcpListener::bind(address) {
        Ok(_) => return findings.ok(check, "is free"),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::AddrInUse => {
            let scheme = if is_tls { "https" } else { "http" };
            let answer = Url::parse(&format!("{scheme}://{address}"))
                .map_err(anyhow::Error::from)
                .and_then(|url| health(&url, true));
            match answer {
                Ok(()) => findings.ok(check, "a sparetire server answers there"),
                Err(error) => findings.warn(
                    check,
                    format!("is taken, and not by a server that feels well ({error:#})"),
                    "ss -ltnp shows whose it is; choose another with listen in server.toml",
                ),
            }
        }
        ErrorKind::AddrNotAvailable => findings.fail(
            check,
            "this machine has no such address",
            "correct listen in server.toml; 0.0.0.0 stands for all addresses",
        ),
        ErrorKind::PermissionDenied => findings.warn(
            check,
            "only root, or a service that may, takes ports below 1024",
            "choose a higher port, or see the remark in sparetire.service",
        ),
        _ => findings.fail(
            check,
            error.to_string(),
            "choose another with listen in server.toml",
        ),
    }
}

/// A server somewhere, as clients would use it.
pub(super) fn reach(server: &Url, findings: &mut Findings) {
    let check = format!("server {server}");
    match health(server, false) {
        Ok(()) => findings.ok(check, "answers"),
        Err(error) => findings.fail(
            check,
            format!("{error:#}"),
            "start it, correct the URL, or open the way to its port",
        ),
    }
}

/// Asks a server how it feels. Our own certificate need not name the address we ask.
fn health(server: &Url, any_certificate: bool) -> anyhow::Result<()> {
    // Installed once per process; a second time is no harm.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = server.join("/healthz")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_danger_accept_invalid_certs(any_certificate)
            .build()?;
        let answer = client.get(url).send().await?;
        anyhow::ensure!(
            answer.status().is_success(),
            "it answers with {}",
            answer.status()
        );
        Ok(())
    })
}
