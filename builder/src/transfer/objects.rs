//! A server that takes files: plain HTTP PUT (WebDAV servers and their relatives), or S3's protocol.
//!
//! Requests are made and signed by `rusty-s3` and sent by `reqwest`. S3 requests are signed in the
//! URL, for an hour at most, so that a pack needs no second reading for its digest in a header.
//! What a server answered with a 5xx, or not at all, is tried again a few times; 4xx is final.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use reqwest::blocking::{Body, Client, RequestBuilder, Response};
use reqwest::{Method, StatusCode, Url};
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Bucket, S3Action, UrlStyle};
use sha2::{Digest as _, Sha256};
use sparetire_manifest::{Digest, PackRef};

use crate::exit::{ExitCode, WithCode, coded};

/// For how long a signed URL may be used: an upload of 256 MiB over a slow line takes a while.
const SIGNED_FOR: Duration = Duration::from_secs(3600);

/// Times that a request is made before it is given up.
const TRIES: u32 = 5;

/// Bytes of a pack that are read at a time.
const PIECE: u64 = 1 << 20;

/// Longest listing page: S3 sends at most 1,000 names of at most 1 KiB each.
const MAX_PAGE: u64 = 8 << 20;

/// Longest text of a refusal that is shown.
const MAX_REFUSAL: u64 = 300;

/// Where objects go, as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A folder of this machine.
    Folder(std::path::PathBuf),
    /// Below this URL, by PUT.
    Http(Url),
    /// Into this bucket, below this prefix (empty, or ending in `/`).
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix.
        prefix: String,
    },
}

impl Destination {
    /// `http://...` and `https://...`, `s3://BUCKET/PREFIX`, or else a path.
    ///
    /// # Errors
    ///
    /// When a URL makes no sense, or holds a password, which belongs elsewhere.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = prefix.trim_matches('/');
            if bucket.is_empty() {
                bail!("{text:?} names no bucket: s3://BUCKET/PREFIX is wanted");
            }
            return Ok(Self::S3 {
                bucket: bucket.to_owned(),
                prefix: if prefix.is_empty() {
                    String::new()
                } else {
                    format!("{prefix}/")
                },
            });
        }
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Ok(Self::Folder(text.into()));
        }
        let mut url = Url::parse(text).context("reading the destination's URL")?;
        if url.password().is_some() || !url.username().is_empty() {
            bail!(
                "a URL on the command line must not hold a password; use --credentials or the environment"
            );
        }
        if url.query().is_some() || url.fragment().is_some() {
            bail!("the destination's URL must end with a path");
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self::Http(url))
    }
}

/// Who we are, for the server.
#[derive(Clone, Default)]
pub struct Credentials {
    values: Vec<(String, String)>,
}

// Holds secrets.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// From a file of `NAME=VALUE` lines, and from the environment, which wins.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or a line is none.
    pub fn read(file: Option<&Path>) -> anyhow::Result<Self> {
        let mut values = Vec::new();
        if let Some(file) = file {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("reading credentials from {}", file.display()))?;
            for line in text.lines().map(str::trim) {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let (name, value) = line.split_once('=').ok_or_else(|| {
                    anyhow!("{} has a line that is not NAME=VALUE", file.display())
                })?;
                values.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        Ok(Self { values })
    }

    fn get(&self, name: &str) -> Option<String> {
        let from_file = || {
            let found = self.values.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone())
        };
        std::env::var(name)
            .ok()
            .or_else(from_file)
            .filter(|value| !value.is_empty())
    }
}

/// A server that takes files by name.
pub struct Objects {
    client: Client,
    kind: Kind,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects").finish_non_exhaustive()
    }
}

enum Kind {
    Http {
        base: Url,
        token: Option<String>,
        user: Option<(String, String)>,
    },
    S3 {
        bucket: Bucket,
        prefix: String,
        credentials: rusty_s3::Credentials,
    },
}

impl Objects {
    /// Prepares requests to `destination`; makes none yet.
    ///
    /// # Errors
    ///
    /// When something needed is missing from the credentials, or the settings make no sense.
    pub fn new(
        destination: &Destination,
        credentials: &Credentials,
        endpoint: Option<&str>,
        authority: Option<&Path>,
    ) -> anyhow::Result<Self> {
        // Installed once per process; a second time is no harm.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder()
            .user_agent(fetch_http::USER_AGENT)
            .connect_timeout(Duration::from_secs(10))
            // Of the whole request: an hour for 256 MiB is 70 KB/s.
            .timeout(SIGNED_FOR)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = authority {
            let authorities = std::fs::read(path)
                .map_err(anyhow::Error::from)
                .and_then(|pem| Ok(reqwest::Certificate::from_pem_bundle(&pem)?))
                .with_context(|| format!("reading authority from {}", path.display()))?;
            client = client.tls_certs_merge(authorities);
        }
        let kind = match destination {
            Destination::Folder(_) => bail!("a folder is no server"),
            Destination::Http(base) => Kind::Http {
                base: base.clone(),
                token: credentials.get("SPARETIRE_SYNC_TOKEN"),
                user: credentials.get("SPARETIRE_SYNC_USER").map(|user| {
                    let password = credentials.get("SPARETIRE_SYNC_PASSWORD");
                    (user, password.unwrap_or_default())
                }),
            },
            Destination::S3 { bucket, prefix } => s3(bucket, prefix, credentials, endpoint)?,
        };
        Ok(Self {
            client: client.build().context("preparing the HTTP client")?,
            kind,
        })
    }

    /// Whether the server can say what it has.
    #[must_use]
    pub fn can_list(&self) -> bool {
        matches!(self.kind, Kind::S3 { .. })
    }

    /// Length of a file, in bytes; nothing where there is none.
    pub(super) fn length(&self, path: &str) -> anyhow::Result<Option<u64>> {
        let answer = self.send(Method::HEAD, path, &mut || Ok(None))?;
        Ok(answer.and_then(|answer| {
            // Not `content_length()`: that is the body's, and HEAD has none.
            let length = answer.headers().get(reqwest::header::CONTENT_LENGTH)?;
            length.to_str().ok()?.parse().ok()
        }))
    }

    /// The bytes of a small file; nothing where there is none.
    pub(super) fn get(&self, path: &str, most: u64) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(answer) = self.send(Method::GET, path, &mut || Ok(None))? else {
            return Ok(None);
        };
        let bytes = read_capped(answer, most).with_context(|| format!("fetching {path}"))?;
        Ok(Some(bytes))
    }

    pub(super) fn put(&self, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
        self.put_body(path, &mut || Ok(Some(Body::from(bytes.to_vec()))))
    }

    /// Sends a pack. The last of its bytes goes only after all of them proved to be the pack.
    pub(super) fn put_pack(
        &self,
        path: &str,
        file: &Path,
        pack: &PackRef,
        progress: &crate::progress::Progress,
    ) -> anyhow::Result<()> {
        let before = progress.done();
        let mut body = || {
            // Tried again, it starts again.
            progress.set(before);
            let body = HeldBack::new(File::open(file)?, *pack)?;
            Ok(Some(Body::sized(body, pack.length)))
        };
        self.put_body(path, &mut body)?;
        progress.set(before.saturating_add(pack.length));
        Ok(())
    }

    fn put_body(
        &self,
        path: &str,
        body: &mut dyn FnMut() -> io::Result<Option<Body>>,
    ) -> anyhow::Result<()> {
        match self.send(Method::PUT, path, body)? {
            Some(_) => Ok(()),
            // WebDAV (RFC 4918, 9.7.1) says 409 where the folder is missing, other servers 404.
            None => {
                self.make_folders(path)?;
                let sent = self.send(Method::PUT, path, body)?;
                sent.map(drop)
                    .ok_or_else(|| anyhow!("the server has no place for {path}"))
            }
        }
    }

    fn make_folders(&self, path: &str) -> anyhow::Result<()> {
        let method = Method::from_bytes(b"MKCOL").context("naming a request")?;
        for (end, _) in path.match_indices('/') {
            let folder = path.get(..=end).unwrap_or_default();
            let request = self.request(&method, folder)?;
            // 405: it is there already. Whether all went well shows in the PUT that follows.
            let _ = request.send();
        }
        Ok(())
    }

    /// Removes a file, which need not be there.
    pub(super) fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(Method::DELETE, path, &mut || Ok(None)).map(drop)
    }

    /// Every file below the prefix, with its length.
    pub(super) fn list(&self) -> anyhow::Result<Vec<(String, u64)>> {
        let Kind::S3 {
            bucket,
            prefix,
            credentials,
        } = &self.kind
        else {
            bail!("plain HTTP servers cannot be asked what they have");
        };
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut action = bucket.list_objects_v2(Some(credentials));
            action.with_prefix(prefix.as_str());
            if let Some(token) = next.take() {
                action.with_continuation_token(token);
            }
            let url = action.sign(SIGNED_FOR);
            let request = || Ok(self.client.get(url.clone()));
            let answer = tried(&request)?.ok_or_else(|| anyhow!("there is no such bucket"))?;
            let page = read_capped(answer, MAX_PAGE).context("listing the bucket")?;
            let page = String::from_utf8(page).context("listing the bucket")?;
            let page = ListObjectsV2::parse_response(&page).context("reading the listing")?;
            for object in page.contents {
                if let Some(path) = object.key.strip_prefix(prefix.as_str()) {
                    found.push((path.to_owned(), object.size.unwrap_or_default()));
                }
            }
            match page.next_continuation_token {
                Some(token) => next = Some(token),
                None => return Ok(found),
            }
        }
    }

    fn request(&self, method: &Method, path: &str) -> anyhow::Result<RequestBuilder> {
        match &self.kind {
            Kind::Http { base, token, user } => {
                let url = base.join(path).context("naming a file on the server")?;
                let mut request = self.client.request(method.clone(), url);
                if let Some(token) = token {
                    request = request.bearer_auth(token);
                } else if let Some((user, password)) = user {
                    request = request.basic_auth(user, Some(password));
                }
                Ok(request)
            }
            Kind::S3 {
                bucket,
                prefix,
                credentials,
            } => {
                let key = format!("{prefix}{path}");
                let who = Some(credentials);
                let url = match method.as_str() {
                    "HEAD" => bucket.head_object(who, &key).sign(SIGNED_FOR),
                    "PUT" => bucket.put_object(who, &key).sign(SIGNED_FOR),
                    "DELETE" => bucket.delete_object(who, &key).sign(SIGNED_FOR),
                    _ => bucket.get_object(who, &key).sign(SIGNED_FOR),
                };
                Ok(self.client.request(method.clone(), url))
            }
        }
    }

    /// Nothing where the server has no such file, or no place for it.
    fn send(
        &self,
        method: Method,
        path: &str,
        body: &mut dyn FnMut() -> io::Result<Option<Body>>,
    ) -> anyhow::Result<Option<Response>> {
        let body = std::cell::RefCell::new(body);
        let request = || {
            let mut request = self.request(&method, path)?;
            if let Some(body) = (*body.borrow_mut())().context("opening the file to send")? {
                request = request.body(body);
            }
            Ok(request)
        };
        tried(&request).with_context(|| match method {
            Method::PUT => format!("sending {path}"),
            Method::DELETE => format!("removing {path}"),
            _ => format!("asking for {path}"),
        })
    }
}

fn s3(
    bucket: &str,
    prefix: &str,
    credentials: &Credentials,
    endpoint: Option<&str>,
) -> anyhow::Result<Kind> {
    let wanted = |name: &str| {
        credentials.get(name).ok_or_else(|| {
            coded(
                ExitCode::Usage,
                anyhow!("S3 needs {name}, from the environment or a --credentials file"),
            )
        })
    };
    let (key, secret) = (
        wanted("AWS_ACCESS_KEY_ID")?,
        wanted("AWS_SECRET_ACCESS_KEY")?,
    );
    let region = credentials
        .get("AWS_REGION")
        .or_else(|| credentials.get("AWS_DEFAULT_REGION"))
        .unwrap_or_else(|| "us-east-1".to_owned());
    let given = endpoint
        .map(str::to_owned)
        .or_else(|| credentials.get("AWS_ENDPOINT_URL_S3"))
        .or_else(|| credentials.get("AWS_ENDPOINT_URL"));
    // Servers other than Amazon's rarely have a host name per bucket.
    let style = match given {
        Some(_) => UrlStyle::Path,
        None => UrlStyle::VirtualHost,
    };
    let endpoint = given.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
    let endpoint = Url::parse(&endpoint)
        .context("reading the endpoint's URL")
        .code(ExitCode::Usage)?;
    let bucket = Bucket::new(endpoint, style, bucket.to_owned(), region)
        .context("naming the bucket")
        .code(ExitCode::Usage)?;
    Ok(Kind::S3 {
        bucket,
        prefix: prefix.to_owned(),
        credentials: match credentials.get("AWS_SESSION_TOKEN") {
            Some(token) => rusty_s3::Credentials::new_with_token(key, secret, token),
            None => rusty_s3::Credentials::new(key, secret),
        },
    })
}

/// Makes a request until it is answered with something final.
fn tried(request: &dyn Fn() -> anyhow::Result<RequestBuilder>) -> anyhow::Result<Option<Response>> {
    let mut pause = Duration::from_millis(250);
    for turn in 1.. {
        let failure = match request()?.send() {
            Ok(answer) => match answer.status() {
                status if status.is_success() => return Ok(Some(answer)),
                StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::GONE => return Ok(None),
                status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                    anyhow!("the server answered {status}")
                }
                status => return Err(refusal(status, answer)),
            },
            // The URL may carry a signature.
            Err(error) => {
                let error = error.without_url();
                let is_local = error.is_builder() || is_damage(&error);
                let error = anyhow::Error::new(error);
                if is_local {
                    return Err(error).code(ExitCode::Verification);
                }
                coded(ExitCode::Unreachable, error)
            }
        };
        if turn == TRIES {
            return Err(failure);
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
    Ok(None)
}

fn refusal(status: StatusCode, answer: Response) -> anyhow::Error {
    let mut text = Vec::new();
    let _ = answer.take(MAX_REFUSAL).read_to_end(&mut text);
    let text: String = String::from_utf8_lossy(&text)
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    let error = anyhow!("the server answered {status}: {text}");
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => coded(ExitCode::Refused, error),
        _ => error,
    }
}

fn read_capped(answer: Response, most: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    answer
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        bail!("the answer is longer than {most} bytes");
    }
    Ok(bytes)
}

/// What went wrong with our own file, inside the error of a request.
#[derive(Debug, thiserror::Error)]
#[error("pack {wanted} is damaged on this side; it was not sent")]
struct Damaged {
    wanted: Digest,
}

fn is_damage(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<Damaged>() {
            return true;
        }
        let inside = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        if inside.is_some_and(|inside| inside.is::<Damaged>()) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A pack whose last piece is given away only after all of it proved to be the pack.
struct HeldBack {
    file: File,
    wanted: PackRef,
    hash: Sha256,
    length: u64,
    /// What is being given away, and how much of it is gone.
    piece: Vec<u8>,
    taken: usize,
    /// What comes after it; nothing at the end.
    next: Vec<u8>,
}

impl HeldBack {
    fn new(file: File, wanted: PackRef) -> io::Result<Self> {
        let mut held = Self {
            file,
            wanted,
            hash: Sha256::new(),
            length: 0,
            piece: Vec::new(),
            taken: 0,
            next: Vec::new(),
        };
        held.advance()?;
        Ok(held)
    }

    fn advance(&mut self) -> io::Result<()> {
        self.taken = 0;
        self.piece = std::mem::take(&mut self.next);
        let file = &mut self.file;
        file.take(PIECE).read_to_end(&mut self.next)?;
        self.hash.update(&self.next);
        self.length += self.next.len() as u64;
        if !self.next.is_empty() {
            return Ok(());
        }
        let found = Digest::from_bytes(self.hash.clone().finalize().into());
        if found == self.wanted.sha256 && self.length == self.wanted.length {
            return Ok(());
        }
        Err(io::Error::other(Damaged {
            wanted: self.wanted.sha256,
        }))
    }
}

impl Read for HeldBack {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() {
            if self.next.is_empty() {
                return Ok(0);
            }
            self.advance()?;
        }
        let mut rest = self.piece.get(self.taken..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.taken += count;
        Ok(count)
    }
}
