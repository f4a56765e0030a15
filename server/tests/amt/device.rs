//! A web server that does with each request what a test says, down to the byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Number of its connection, from 0.
    pub(crate) connection: usize,
    /// Request line and headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (have, value) = line.split_once(':')?;
            have.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn is_authorized(&self) -> bool {
        self.header("authorization").is_some()
    }
}

/// What is done with a request.
pub(crate) enum Act {
    /// These bytes, and the connection stays.
    Send(String),
    /// These bytes in pieces of this many, and the connection stays.
    Trickle(String, usize),
    /// These bytes, and the connection ends.
    Last(String),
    /// The connection ends without a word.
    Close,
    /// Nothing, for as long as the client stays.
    Hold,
}

/// The device; its threads end with the test's process.
pub(crate) struct Amt {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Amt {
    /// Asks `act` about each request: its number from 0, and what it is.
    pub(crate) fn start(act: impl FnMut(usize, &Seen) -> Act + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let act = Arc::new(Mutex::new(act));
        let record = Arc::clone(&seen);
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (act, record) = (Arc::clone(&act), Arc::clone(&record));
                let stream = stream.unwrap();
                std::thread::spawn(move || {
                    // Ends when either side has had enough.
                    let _ = serve(connection, stream, &record, |number, seen| {
                        (act.lock().unwrap())(number, seen)
                    });
                });
            }
        });
        Self { address, seen }
    }

    /// What came so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(
    connection: usize,
    mut stream: TcpStream,
    record: &Mutex<Vec<Seen>>,
    mut act: impl FnMut(usize, &Seen) -> Act,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let mut seen = Seen {
            connection,
            head,
            body: String::new(),
        };
        let length = seen
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        seen.body = String::from_utf8(body).unwrap();
        let number = {
            let mut record = record.lock().unwrap();
            record.push(seen.clone());
            record.len() - 1
        };
        match act(number, &seen) {
            Act::Send(bytes) => stream.write_all(bytes.as_bytes())?,
            Act::Trickle(bytes, size) => {
                stream.set_nodelay(true)?;
                for piece in bytes.as_bytes().chunks(size) {
                    stream.write_all(piece)?;
                }
            }
            Act::Last(bytes) => {
                stream.write_all(bytes.as_bytes())?;
                return stream.shutdown(Shutdown::Both);
            }
            Act::Close => return stream.shutdown(Shutdown::Both),
            Act::Hold => {
                // Until the client goes.
                let _ = reader.read_to_end(&mut Vec::new());
                return Ok(());
            }
        }
    }
}

pub(crate) const REALM: &str = "Digest:34BF4B5A0561F95248F58509A406E046";

/// The 401 of an AMT 15, header for header; the connection is to be closed after it.
pub(crate) fn unauthorized(nonce: &str, stale: bool) -> Act {
    let page = "<html><head></head><body>Log on failed. Incorrect user name or password, or user account temporarily locked.</body></html>";
    Act::Last(format!(
        "HTTP/1.1 401 Unauthorized\r\n\
         WWW-Authenticate: Digest realm=\"{REALM}\", nonce=\"{nonce}\",stale=\"{stale}\",qop=\"auth-int, auth\"\r\n\
         Content-Type: text/html\r\n\
         Server: Intel(R) Active Management Technology 15.0.23.1706\r\n\
         Content-Length: {}\r\n\
         Connection: close\r\n\
         \r\n\
         {page}",
        page.len()
    ))
}

/// An answer in chunks of at most `size` bytes, each length as four upper-case hex digits, the last as a bare 0.
pub(crate) fn chunked(status: &str, body: &str, size: usize) -> String {
    let mut answer = format!(
        "HTTP/1.1 {status}\r\n\
         Date: Mon, 31 Jan 2022 10:00:00 GMT\r\n\
         Server: Intel(R) Active Management Technology 15.0.23.1706\r\n\
         X-Frame-Options: DENY\r\n\
         Content-Type: application/soap+xml; charset=UTF-8\r\n\
         Transfer-Encoding: chunked\r\n\
         \r\n"
    );
    let mut rest = body;
    while !rest.is_empty() {
        let mut at = size.min(rest.len());
        // The test's strings are text; borders inside characters come from [`Act::Trickle`].
        while !rest.is_char_boundary(at) {
            at += 1;
        }
        let (chunk, after) = rest.split_at(at);
        answer.push_str(&format!("{:04X}\r\n{chunk}\r\n", chunk.len()));
        rest = after;
    }
    answer.push_str("0\r\n\r\n");
    answer
}

/// A SOAP message in AMT's form.
pub(crate) fn envelope(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><a:Envelope xmlns:a=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:b=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\"><a:Header><b:RelatesTo>1</b:RelatesTo></a:Header>\
         <a:Body>{body}</a:Body></a:Envelope>"
    )
}

pub(crate) fn ok(body: &str) -> Act {
    Act::Send(chunked("200 OK", &envelope(body), 0x220))
}

pub(crate) fn fault(code: &str) -> Act {
    let body = format!(
        "<a:Fault><a:Code><a:Value>a:Sender</a:Value><a:Subcode><a:Value>b:{code}</a:Value></a:Subcode></a:Code>\
         <a:Reason><a:Text xml:lang=\"en-US\">No.</a:Text></a:Reason><a:Detail></a:Detail></a:Fault>"
    );
    Act::Send(chunked("400 Bad Request", &envelope(&body), 0x100))
}
