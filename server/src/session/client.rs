//! Calls the boot-session API: one method per call, errors with their exit codes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use boot_api::{CreateSession, Problem, Session, SessionCreated};
use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use sparetire_builder::exit::{ExitCode, WithCode, coded};

use crate::failure::advise;
use crate::serve::operator::{self, TOKEN_VARIABLE};
use crate::serve::settings::default_state;
use crate::serve::token::Token;

/// Which server to talk to, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs {
    /// The server's URL
    #[arg(
        long,
        value_name = "URL",
        env = "SPARETIRE_SERVER",
        default_value = "http://127.0.0.1:8080"
    )]
    pub server: Url,
    /// File with the operator's token [default: operator-token in the server's default state folder]
    ///
    /// $SPARETIRE_OPERATOR_TOKEN, when set, is the token itself and wins over any file.
    #[arg(long, value_name = "FILE")]
    pub operator_token_file: Option<PathBuf>,
    /// Certificate (PEM) of an authority to trust besides the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// A connection to one server.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    server: Url,
    token: Token,
}

impl Client {
    pub(crate) fn new(args: &ServerArgs) -> anyhow::Result<Self> {
        let server = base(&args.server).code(ExitCode::Usage)?;
        // Installed once per process; a second time is no harm.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("sparetire/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            // The server is heard from every 15 seconds even when nothing happens.
            .read_timeout(Duration::from_secs(45))
            // A redirect could carry the token elsewhere; the API has none.
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &args.ca {
            let authorities = std::fs::read(path)
                .map_err(anyhow::Error::from)
                .and_then(|pem| Ok(reqwest::Certificate::from_pem_bundle(&pem)?))
                .with_context(|| format!("reading authority from {}", path.display()))
                .code(ExitCode::Usage)?;
            http = http.tls_certs_merge(authorities);
        }
        Ok(Self {
            http: http.build().context("preparing HTTP client")?,
            server,
            token: token(args)?,
        })
    }

    pub(crate) fn server(&self) -> &Url {
        &self.server
    }

    /// Whether the operator's token crosses a network in the clear.
    fn is_exposed(&self) -> bool {
        let loopback = match self.server.host_str() {
            Some("localhost") => true,
            Some(host) => host
                .trim_matches(['[', ']'])
                .parse()
                .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
            None => false,
        };
        self.server.scheme() == "http" && !loopback
    }

    /// A word of warning when the operator's token crosses a network in the clear.
    pub(crate) fn warning(&self) -> Option<String> {
        self.is_exposed().then(|| {
            format!(
                "warning: {} is not encrypted, so the operator's token can be read on the way",
                self.server
            )
        })
    }

    pub(crate) async fn create(&self, new: &CreateSession) -> anyhow::Result<SessionCreated> {
        let request = self
            .request(Method::POST, &boot_api::sessions_path())?
            .json(new);
        json(self.send(request).await?).await
    }

    pub(crate) async fn list(&self, limit: u32) -> anyhow::Result<Vec<Session>> {
        let path = format!("{}?limit={limit}", boot_api::sessions_path());
        let request = self.request(Method::GET, &path)?;
        json(self.send(request).await?).await
    }

    pub(crate) async fn show(&self, id: &str) -> anyhow::Result<Session> {
        json(
            self.send(self.request(Method::GET, &boot_api::session_path(checked(id)?))?)
                .await?,
        )
        .await
    }

    pub(crate) async fn cancel(&self, id: &str) -> anyhow::Result<()> {
        let request = self.request(Method::DELETE, &boot_api::session_path(checked(id)?))?;
        self.send(request).await.map(drop)
    }

    /// The event stream after sequence number `after`; `None` when the session has ended and
    /// nothing comes after that.
    pub(crate) async fn stream(&self, id: &str, after: u64) -> anyhow::Result<Option<Response>> {
        let mut request = self
            .request(Method::GET, &boot_api::stream_path(checked(id)?))?
            .header(ACCEPT, "text/event-stream");
        if after > 0 {
            request = request.header("last-event-id", after);
        }
        let response = self.send(request).await?;
        Ok((response.status() != StatusCode::NO_CONTENT).then_some(response))
    }

    fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        let url = self
            .server
            .join(path.trim_start_matches('/'))
            .with_context(|| format!("making a URL of {path:?}"))
            .code(ExitCode::Usage)?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", self.token.reveal()))
            .context("putting the operator's token into a header")?;
        bearer.set_sensitive(true);
        let request = self.http.request(method, url);
        Ok(request.header(reqwest::header::AUTHORIZATION, bearer))
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(|error| {
            let error =
                anyhow::Error::new(error.without_url()).context(format!("asking {}", self.server));
            coded(
                ExitCode::Unreachable,
                advise(
                    error,
                    "is `sparetire serve` running there, and is it the right --server?",
                ),
            )
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(response).await)
    }

    async fn refused(&self, response: Response) -> anyhow::Error {
        let status = response.status();
        let problem = capped(response, 16 * 1024).await.ok();
        let why = problem
            .and_then(|body| serde_json::from_slice::<Problem>(&body).ok())
            .map_or_else(
                || format!("{} answered {status}", self.server),
                |problem| printable(&problem.message),
            );
        let error = anyhow!(why);
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => coded(
                ExitCode::Refused,
                advise(
                    error,
                    format!(
                        "set ${TOKEN_VARIABLE} or name the server's token file with --operator-token-file"
                    ),
                ),
            ),
            StatusCode::CONFLICT => coded(ExitCode::Refused, error),
            StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::BAD_GATEWAY
            | StatusCode::GATEWAY_TIMEOUT => coded(ExitCode::Unreachable, error),
            _ => error,
        }
    }
}

/// The URL with a slash at its end, so that paths are joined below it.
fn base(url: &Url) -> anyhow::Result<Url> {
    let mut url = url.clone();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(anyhow!("{url} is no http:// or https:// URL"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(anyhow!("the server's URL must not carry credentials"));
    }
    url.set_query(None);
    url.set_fragment(None);
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

fn token(args: &ServerArgs) -> anyhow::Result<Token> {
    if let Some(token) = operator::from_environment().code(ExitCode::Usage)? {
        return Ok(token);
    }
    let path = match &args.operator_token_file {
        Some(path) => path.clone(),
        None => operator::default_file(&default_state().code(ExitCode::Usage)?),
    };
    operator::read(&path)
        .map_err(|error| {
            advise(
                error,
                format!("set ${TOKEN_VARIABLE} or name the server's token file with --operator-token-file"),
            )
        })
        .code(ExitCode::Usage)
}

/// An id is letters and digits; nothing else may shape the URL.
fn checked(id: &str) -> anyhow::Result<&str> {
    if id.is_empty() || id.len() > 64 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(anyhow!("{id:?} is no session id")).code(ExitCode::Usage);
    }
    Ok(id)
}

async fn json<T: DeserializeOwned>(response: Response) -> anyhow::Result<T> {
    let bytes = capped(response, MAX_ANSWER).await?;
    serde_json::from_slice(&bytes).context("understanding the server's answer")
}

async fn capped(mut response: Response, cap: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(piece) = response
        .chunk()
        .await
        .context("reading the server's answer")
        .code(ExitCode::Unreachable)?
    {
        if bytes.len() + piece.len() > cap {
            return Err(anyhow!("the server's answer is longer than {cap} bytes"));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// What a terminal may be shown of a text that came over the network.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// 1,000 sessions, each with a last event of up to a batch's size, are less.
const MAX_ANSWER: usize = 128 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_behind_a_path_keeps_its_path() {
        let url = |text: &str| base(&text.parse().unwrap()).map(|url| url.to_string());
        assert_eq!(url("http://host:1").unwrap(), "http://host:1/");
        assert_eq!(url("https://host/boot?x#y").unwrap(), "https://host/boot/");
        for text in ["ftp://host/", "http://user:pw@host/", "file:///etc/passwd"] {
            assert!(url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_letters_and_digits_become_part_of_a_url() {
        assert_eq!(checked("abc123").unwrap(), "abc123");
        for id in ["", "../x", "a/b", "a?b", "a%2fb", "ä"] {
            assert!(checked(id).is_err(), "{id}");
        }
    }

    #[test]
    fn terminal_control_characters_are_not_passed_on() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
