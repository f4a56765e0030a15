//! An HTTP server that does as its script says: serve files well, or misbehave in a chosen way.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::store::Files;

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Which connection it came on, counted from 0.
    pub(crate) connection: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The range of a file of `length` bytes that was asked for.
    fn range(&self, length: usize) -> Option<Range<usize>> {
        let (first, last) = self
            .header("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        Some(first.parse().unwrap()..last.parse::<usize>().unwrap().min(length - 1) + 1)
    }
}

/// How to answer one request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Well.
    Serve,
    /// With these headers added to, or put in place of, the right ones.
    With(&'static str, String),
    /// Well, but the connection ends after this many bytes of the body.
    Cut(usize),
    /// Well, but nothing comes after this many bytes of the body.
    Stall(usize),
    /// Well, but with one bit of the body wrong.
    WrongBit(usize),
    /// The whole file, though a range was asked for.
    Whole,
    /// The right head, and a chunked body with this many bytes too few or too many.
    Chunked(isize),
    /// These bytes; then the connection ends.
    Raw(Vec<u8>),
    /// This status and no body.
    Status(u16),
    /// A redirect.
    Redirect(String),
    /// Nothing at all.
    Silence,
    /// A head that goes on and on, a header every so many milliseconds.
    EndlessHead(u64),
    /// The right head, and a body without end.
    EndlessBody,
}

type Script = Arc<dyn Fn(&Asked, usize) -> Answer + Send + Sync>;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// A server that answers all requests well.
    pub(crate) async fn honest(files: &Files) -> Self {
        Self::start(files, |_, _| Answer::Serve).await
    }

    /// `script` gets each request and its number, counted from 0.
    pub(crate) async fn start(
        files: &Files,
        script: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::listen(listener, files, script, None)
    }

    pub(crate) fn listen(
        listener: TcpListener,
        files: &Files,
        script: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let url = format!(
            "{}://{address}",
            if tls.is_some() { "https" } else { "http" }
        );
        let asked = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(accept(
            listener,
            files.clone(),
            Arc::new(script),
            Arc::clone(&asked),
            tls,
        ));
        Self {
            address,
            url,
            asked,
            task,
        }
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    files: Files,
    script: Script,
    asked: Arc<Mutex<Vec<Asked>>>,
    tls: Option<TlsAcceptor>,
) {
    let mut connections = tokio::task::JoinSet::new();
    for connection in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        let (files, script, asked, tls) = (
            files.clone(),
            Arc::clone(&script),
            Arc::clone(&asked),
            tls.clone(),
        );
        connections.spawn(async move {
            // A client that hangs up is no failure of the server.
            let _ = match tls {
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => converse(stream, connection, &files, &script, &asked).await,
                    Err(error) => Err(error),
                },
                None => converse::<TcpStream>(stream, connection, &files, &script, &asked).await,
            };
        });
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    connection: usize,
    files: &Files,
    script: &Script,
    asked: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    while let Some(request) = read_request(&mut stream, connection).await? {
        let number = {
            let mut asked = asked.lock().unwrap();
            asked.push(request.clone());
            asked.len() - 1
        };
        let answer = script(&request, number);
        if !respond(&mut stream, &request, files, answer).await? {
            break;
        }
    }
    stream.shutdown().await
}

async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    connection: usize,
) -> std::io::Result<Option<Asked>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return Ok(None),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap().split(' ').map(str::to_owned);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut asked = Asked {
        connection,
        method: words.next().unwrap(),
        target: words.next().unwrap(),
        headers,
        body: Vec::new(),
    };
    let length = asked
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    asked.body.resize(length, 0);
    stream.read_exact(&mut asked.body).await?;
    Ok(Some(asked))
}

/// Whether the connection can carry another request.
async fn respond(
    stream: &mut (impl AsyncWrite + Unpin),
    asked: &Asked,
    files: &Files,
    answer: Answer,
) -> std::io::Result<bool> {
    match &answer {
        Answer::Raw(bytes) => {
            stream.write_all(bytes).await?;
            return Ok(false);
        }
        Answer::Status(status) => {
            let head = format!("HTTP/1.1 {status} Because\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            return Ok(true);
        }
        Answer::Redirect(target) => {
            let head =
                format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            return Ok(true);
        }
        Answer::Silence => return std::future::pending().await,
        Answer::EndlessHead(pause) => {
            stream
                .write_all(b"HTTP/1.1 206 Partial Content\r\n")
                .await?;
            loop {
                stream.write_all(b"X-Filler: aaaaaaaaaaaaaaaa\r\n").await?;
                stream.flush().await?;
                tokio::time::sleep(std::time::Duration::from_millis(*pause)).await;
            }
        }
        _ => {}
    }

    let path = asked.target.trim_start_matches('/');
    let Some(file) = files.get(path) else {
        stream
            .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found")
            .await?;
        return Ok(true);
    };
    let etag = "\"one\"";
    let range = asked
        .range(file.len())
        .filter(|_| asked.header("if-range").is_none_or(|wanted| wanted == etag));
    let range = if matches!(answer, Answer::Whole) {
        None
    } else {
        range
    };
    let mut body = file[range.clone().unwrap_or(0..file.len())].to_vec();
    let mut headers = vec![("ETag", etag.to_owned())];
    let status = match range {
        Some(range) => {
            headers.push((
                "Content-Range",
                format!("bytes {}-{}/{}", range.start, range.end - 1, file.len()),
            ));
            "206 Partial Content"
        }
        None => "200 OK",
    };
    let chunked = matches!(answer, Answer::Chunked(_) | Answer::EndlessBody);
    if chunked {
        headers.push(("Transfer-Encoding", "chunked".to_owned()));
    } else {
        headers.push(("Content-Length", body.len().to_string()));
    }
    match &answer {
        Answer::With(name, value) => {
            headers.retain(|(known, _)| known != name);
            headers.push((name, value.clone()));
        }
        Answer::WrongBit(at) => body[*at] ^= 1,
        Answer::Chunked(more) => {
            let length = body.len().checked_add_signed(*more).unwrap();
            body.resize(length, 0xee);
        }
        _ => {}
    }
    let mut head = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    if chunked {
        for part in body.chunks(10_000) {
            stream
                .write_all(format!("{:x}\r\n", part.len()).as_bytes())
                .await?;
            stream.write_all(part).await?;
            stream.write_all(b"\r\n").await?;
        }
        if matches!(answer, Answer::EndlessBody) {
            loop {
                stream.write_all(b"4\r\nmore\r\n").await?;
            }
        }
        stream.write_all(b"0\r\n\r\n").await?;
        return Ok(true);
    }
    match answer {
        Answer::Cut(at) => {
            stream.write_all(&body[..at.min(body.len())]).await?;
            Ok(false)
        }
        Answer::Stall(at) => {
            stream.write_all(&body[..at]).await?;
            stream.flush().await?;
            std::future::pending().await
        }
        _ => {
            stream.write_all(&body).await?;
            stream.flush().await?;
            Ok(true)
        }
    }
}
