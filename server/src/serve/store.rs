//! Serves an image store under `/store/`: GET and HEAD with ranges, strong validators and caching
//! rules (RFC 9110, 9111), to anyone who can reach the server, for the images are signed.
//!
//! Why not tower-http's `ServeDir`: as of 0.7 it knows no `If-Range`, without which a client can
//! join two halves of different files, it follows symbolic links, and it serves whatever lies in
//! the folder. See `path` for the closed list of what is served here, `open` for the links,
//! `conditions` for the protocol.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Method, StatusCode, response};
use axum::response::{IntoResponse, Response};
use sparetire_manifest::Digest;
use tracing::warn;

use self::conditions::{Selection, select};
use self::file_body::{Blocks, FileBody};
use self::open::{OpenError, OpenFile, open_beneath};
use self::path::{FileKind, StoreFile};

mod conditions;
mod file_body;
mod open;
mod path;

/// The prefix of the request path that belongs to the store.
pub(crate) const PREFIX: &str = "/store/";

/// The folder that is served. It need not exist yet: it is looked at anew for each request.
#[derive(Debug, Clone)]
pub(crate) struct StoreRoot {
    path: Arc<PathBuf>,
    blocks: Blocks,
}

impl StoreRoot {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            path: Arc::new(root),
            blocks: Blocks::default(),
        }
    }
}

/// Answers any request below [`PREFIX`].
pub(crate) async fn serve_store(State(root): State<StoreRoot>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")]).into_response();
    }
    // The undecoded path: see `path::parse`.
    let Some(file) = parts.uri.path().strip_prefix(PREFIX).and_then(path::parse) else {
        return not_found();
    };
    let StoreRoot { path, blocks } = root;
    let load = tokio::task::spawn_blocking(move || load(&path, file));
    let content = match load.await {
        Ok(Ok(content)) => content,
        Ok(Err((path, error))) => return refuse(&path, &error),
        Err(error) => {
            warn!(%error, "reading store file");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    respond(&parts.method, &parts.headers, content, blocks)
}

/// A file's bytes, or where to get them, with what the answer says about them.
struct Content {
    kind: FileKind,
    length: u64,
    etag: String,
    source: Source,
}

enum Source {
    /// Small files, read whole: a digest is the best validator there is.
    Memory(Vec<u8>),
    File(std::fs::File),
}

/// Manifests and pointers are at most this long (sparetire_manifest::MAX_MANIFEST), signatures
/// far shorter.
const SMALL: u64 = 256 * 1024;

fn load(root: &std::path::Path, file: StoreFile) -> Result<Content, (String, OpenError)> {
    let StoreFile { path, kind } = file;
    let opened = open_beneath(root, &path).and_then(|opened| content(kind, opened));
    opened.map_err(|error| (path, error))
}

fn content(kind: FileKind, opened: OpenFile) -> Result<Content, OpenError> {
    use std::os::unix::fs::FileExt;

    let OpenFile {
        file,
        length,
        state,
    } = opened;
    let (etag, source) = match &kind {
        FileKind::Pack(digest) => (digest.to_string(), Source::File(file)),
        FileKind::Latest { .. } | FileKind::Manifest { .. } if length <= SMALL => {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
            file.read_exact_at(&mut bytes, 0).map_err(OpenError::Io)?;
            (Digest::of(&bytes).to_string(), Source::Memory(bytes))
        }
        _ => (state, Source::File(file)),
    };
    Ok(Content {
        kind,
        length,
        etag: format!("\"{etag}\""),
        source,
    })
}

fn respond(
    method: &Method,
    headers: &axum::http::HeaderMap,
    content: Content,
    blocks: Blocks,
) -> Response {
    let Content {
        kind,
        length,
        etag,
        source,
    } = content;
    let selection = select(method, headers, &etag, length);
    let mut answer = Response::builder()
        .header(ETAG, etag)
        .header(ACCEPT_RANGES, "bytes")
        .header(CACHE_CONTROL, kind.cache_control())
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff");
    let (status, start, end) = match selection {
        // 15.4.5: what a 200 would have said about caching, and no body.
        Selection::NotModified => return finish(answer.status(304), Body::empty()),
        Selection::PreconditionFailed => return finish(answer.status(412), Body::empty()),
        Selection::Unsatisfiable => {
            answer = answer
                .status(416)
                .header(CONTENT_RANGE, format!("bytes */{length}"))
                .header(CONTENT_LENGTH, 0);
            return finish(answer, Body::empty());
        }
        Selection::Whole => (200, 0, length),
        Selection::Part { first, last } => {
            answer = answer.header(CONTENT_RANGE, format!("bytes {first}-{last}/{length}"));
            (206, first, last.saturating_add(1))
        }
    };
    answer = answer
        .status(status)
        .header(CONTENT_TYPE, kind.content_type())
        .header(CONTENT_LENGTH, end.saturating_sub(start));
    let body = match source {
        _ if *method == Method::HEAD => Body::empty(),
        Source::Memory(bytes) => Body::from(cut(bytes, start, end)),
        Source::File(file) => Body::new(FileBody::new(file, start, end, blocks)),
    };
    finish(answer, body)
}

fn cut(mut bytes: Vec<u8>, start: u64, end: u64) -> Vec<u8> {
    bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    bytes.split_off(start.min(bytes.len()))
}

fn finish(answer: response::Builder, body: Body) -> Response {
    // Every header above is ASCII that we wrote.
    answer
        .body(body)
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// An image may appear a moment later: no cache shall remember that it was missing.
fn not_found() -> Response {
    let no_store = HeaderValue::from_static("no-store");
    (StatusCode::NOT_FOUND, [(CACHE_CONTROL, no_store)]).into_response()
}

fn refuse(path: &str, error: &OpenError) -> Response {
    match error {
        OpenError::NotFound => not_found(),
        OpenError::SymbolicLink | OpenError::NotRegular => {
            warn!(path, %error, "refusing store file");
            not_found()
        }
        OpenError::Io(cause) => {
            warn!(path, %cause, "opening store file");
            // Too many open files, a failing disk: another mirror may do better.
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}
