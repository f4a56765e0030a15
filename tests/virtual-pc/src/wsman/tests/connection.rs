//! Bytes on a connection: challenges, digest, keep-alive, limits, misbehaviour on request (reference sections 1.2, 1.3).
//!
//! The client here hashes for itself.

use md5::{Digest, Md5};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use super::*;

/// A client's end of a connection.
struct Client {
    stream: DuplexStream,
    server: JoinHandle<std::io::Result<()>>,
}

impl Client {
    fn connect(server: &Arc<Server>, tls: bool) -> Self {
        let (stream, other) = tokio::io::duplex(1 << 20);
        let server = server.clone();
        Self {
            stream,
            server: tokio::spawn(async move { server.connection(other, tls).await }),
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Everything until the server closes.
    async fn rest(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    /// One reply with chunked body, decoded; the connection stays open.
    async fn reply(&mut self) -> (String, String) {
        let head = self.until(b"\r\n\r\n").await;
        assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
        let mut body = Vec::new();
        loop {
            let size = self.until(b"\r\n").await;
            let size = size.trim_end();
            if size == "0" {
                assert_eq!(self.until(b"\r\n").await, "\r\n");
                return (head, String::from_utf8(body).unwrap());
            }
            assert!(
                size.len() == 4
                    && size
                        .bytes()
                        .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')),
                "{size:?}"
            );
            let mut chunk = vec![0; usize::from_str_radix(size, 16).unwrap() + 2];
            self.stream.read_exact(&mut chunk).await.unwrap();
            assert!(chunk.ends_with(b"\r\n"));
            body.extend_from_slice(&chunk[..chunk.len() - 2]);
        }
    }

    async fn until(&mut self, end: &[u8]) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end) {
            bytes.push(self.stream.read_u8().await.unwrap());
        }
        String::from_utf8(bytes).unwrap()
    }
}

fn md5(text: &str) -> String {
    hex(&Md5::digest(text.as_bytes()))
}

fn body() -> String {
    envelope(1, GET, &uri("AMT_GeneralSettings"), "", "")
}

fn request(authorization: Option<&str>, body: &str) -> Vec<u8> {
    let authorization = authorization
        .map(|value| format!("Authorization: {value}\r\n"))
        .unwrap_or_default();
    format!(
        "POST /wsman HTTP/1.1\r\nHost: pc:16992\r\n{authorization}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

const REALM: &str = "Digest:F3EB554784E729164447A89F60B641C5";

/// Credentials, as a console that parsed the challenge would send them.
#[derive(Clone)]
struct Credentials {
    password: &'static str,
    nonce: String,
    qop: &'static str,
    nc: String,
}

impl Credentials {
    fn response(&self, body: &str) -> String {
        let ha1 = md5(&format!("admin:{REALM}:{}", self.password));
        let ha2 = match self.qop {
            "auth-int" => md5(&format!("POST:/wsman:{}", md5(body))),
            _ => md5("POST:/wsman"),
        };
        md5(&format!(
            "{ha1}:{}:{}:0123456789abcdef:{}:{ha2}",
            self.nonce, self.nc, self.qop
        ))
    }

    fn header(&self, response: &str) -> String {
        let Self { nonce, qop, nc, .. } = self;
        format!(
            "Digest username=\"admin\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"/wsman\", qop={qop}, nc={nc}, \
             cnonce=\"0123456789abcdef\", response=\"{response}\""
        )
    }

    fn request(&self, body: &str) -> Vec<u8> {
        request(Some(&self.header(&self.response(body))), body)
    }

    fn count(mut self, nc: u32) -> Self {
        self.nc = format!("{nc:08x}");
        self
    }
}

/// A fresh nonce, from a connection of its own.
async fn challenged(server: &Arc<Server>) -> Credentials {
    let mut client = Client::connect(server, false);
    client.send(&request(None, &body())).await;
    let text = String::from_utf8(client.rest().await).unwrap();
    let nonce = text
        .split_once("nonce=\"")
        .unwrap()
        .1
        .split_once('"')
        .unwrap()
        .0
        .to_owned();
    Credentials {
        password: PASSWORD,
        nonce,
        qop: "auth",
        nc: "00000001".into(),
    }
}

async fn exchange(server: &Arc<Server>, bytes: &[u8]) -> String {
    let mut client = Client::connect(server, false);
    client.send(bytes).await;
    client.stream.shutdown().await.unwrap();
    String::from_utf8_lossy(&client.rest().await).into_owned()
}

fn refused(reply: &str) -> bool {
    reply.starts_with("HTTP/1.1 401 Unauthorized\r\n")
}

#[tokio::test]
async fn without_credentials_there_is_a_challenge_and_the_connection_closes() {
    let server = Bench::new(|_| {}).server();
    let mut client = Client::connect(&server, false);
    client.send(&request(None, &body())).await;
    let text = String::from_utf8(client.rest().await).unwrap();
    assert!(
        text.contains(&format!(
            "WWW-Authenticate: Digest realm=\"{REALM}\", nonce=\""
        )),
        "{text}"
    );
    assert!(
        text.contains("\",stale=\"false\",qop=\"auth\"\r\n"),
        "{text}"
    );
    assert!(text.contains("Log on failed."));
}

#[tokio::test]
async fn right_credentials_are_answered_and_the_connection_stays() {
    let server = Bench::new(|_| {}).server();
    let credentials = challenged(&server).await;
    let mut client = Client::connect(&server, false);
    for nc in 1..4 {
        client
            .send(&credentials.clone().count(nc).request(&body()))
            .await;
        let (head, envelope) = client.reply().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\nDate: "), "{head}");
        assert!(head.contains("\r\nServer: Intel(R) Active Management Technology 12.0.67.1579\r\nX-Frame-Options: DENY\r\n"), "{head}");
        assert!(envelope.contains("AMT_GeneralSettings"));
    }
    drop(client.stream);
    client.server.await.unwrap().unwrap();
}

#[tokio::test]
async fn byte_by_byte_and_two_at_once_are_read_alike() {
    let server = Bench::new(|_| {}).server();
    let credentials = challenged(&server).await;
    let mut client = Client::connect(&server, false);
    for byte in credentials.request(&body()) {
        client.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    client.reply().await;
    let both = [
        credentials.clone().count(2).request(&body()),
        credentials.count(3).request(&body()),
    ]
    .concat();
    client.send(&both).await;
    client.reply().await;
    client.reply().await;
}

#[tokio::test]
async fn a_request_cut_short_anywhere_gets_no_answer() {
    let server = Bench::new(|_| {}).server();
    let whole = request(None, "<x/>");
    for length in 0..whole.len() {
        assert_eq!(exchange(&server, &whole[..length]).await, "", "{length}");
    }
    assert!(refused(&exchange(&server, &whole).await));
}

#[tokio::test]
async fn shortened_and_altered_responses_are_refused() {
    let bench = Bench::new(|config| config.lockout.attempts = 0);
    let server = bench.server();
    let mut credentials = challenged(&server).await;
    for (count, length) in (1..).zip(0..32) {
        credentials = credentials.count(count);
        let response = credentials.response(&body());
        let header = credentials.header(&response[..length]);
        assert!(
            refused(&exchange(&server, &request(Some(&header), &body())).await),
            "{length} digits"
        );
    }
    credentials = credentials.count(100);
    let response = credentials.response(&body());
    let altered = format!(
        "{}{}",
        &response[..31],
        if response.ends_with('0') { '1' } else { '0' }
    );
    assert!(refused(
        &exchange(
            &server,
            &request(Some(&credentials.header(&altered)), &body())
        )
        .await
    ));
    credentials = credentials.count(101);
    let unquoted = credentials
        .header(&credentials.response(&body()))
        .replace('"', "");
    let reply = exchange(&server, &request(Some(&unquoted), &body())).await;
    assert!(reply.starts_with("HTTP/1.1 200 OK"), "{reply}");
}

#[tokio::test]
async fn a_count_that_was_used_is_refused_as_stale() {
    let server = Bench::new(|_| {}).server();
    let credentials = challenged(&server).await.count(5);
    let bytes = credentials.request(&body());
    assert!(
        exchange(&server, &bytes)
            .await
            .starts_with("HTTP/1.1 200 OK")
    );
    let replayed = exchange(&server, &bytes).await;
    assert!(
        refused(&replayed) && replayed.contains("stale=\"true\""),
        "{replayed}"
    );
    assert!(refused(
        &exchange(&server, &credentials.clone().count(4).request(&body())).await
    ));
    assert!(
        exchange(&server, &credentials.count(6).request(&body()))
            .await
            .starts_with("HTTP/1.1 200 OK")
    );
}

#[tokio::test]
async fn forgotten_and_expired_nonces_are_stale() {
    let bench = Bench::new(|_| {});
    let server = bench.server();
    for spoil in [
        |knobs: &mut Knobs| knobs.forget_nonce_percent = 100,
        |knobs: &mut Knobs| knobs.nonce_lifetime_ms = 0,
    ] {
        let credentials = challenged(&server).await;
        bench.knobs(spoil);
        let reply = exchange(&server, &credentials.request(&body())).await;
        assert!(
            refused(&reply) && reply.contains("stale=\"true\""),
            "{reply}"
        );
        bench.knobs(|knobs| *knobs = Knobs::default());
    }
    bench.knobs(|knobs| knobs.says_stale = false);
    let reply = exchange(
        &server,
        &challenged(&server).await.count(0).request(&body()),
    )
    .await;
    assert!(
        reply.contains("stale=\"false\""),
        "a machine that never says it"
    );
    let wrong = bench
        .firmware
        .quietly(|firmware| firmware.counters().wrong_credentials);
    assert_eq!(wrong, 0, "a stale nonce is nobody's wrong password");
}

#[tokio::test]
async fn wrong_passwords_lock_the_right_one_out() {
    let bench = Bench::new(|config| config.lockout.attempts = 3);
    let server = bench.server();
    let right = challenged(&server).await;
    for nc in 1..4 {
        let wrong = Credentials {
            password: "P@ssw0rb",
            ..right.clone().count(nc)
        };
        let reply = exchange(&server, &wrong.request(&body())).await;
        assert!(
            refused(&reply) && reply.contains("stale=\"false\""),
            "{reply}"
        );
    }
    let reply = exchange(&server, &right.count(4).request(&body())).await;
    assert!(
        refused(&reply) && reply.contains("account temporarily locked"),
        "{reply}"
    );
    assert_eq!(
        bench
            .firmware
            .quietly(|firmware| firmware.log_records().len()),
        1
    );
}

#[tokio::test]
async fn auth_int_protects_the_body() {
    let bench = Bench::new(|config| config.profile = Profile::named("amt16").unwrap());
    let server = bench.server();
    let mut credentials = Credentials {
        qop: "auth-int",
        ..challenged(&server).await
    };
    assert!(
        exchange(&server, &credentials.request(&body()))
            .await
            .starts_with("HTTP/1.1 200 OK")
    );
    credentials = credentials.count(2);
    let header = credentials.header(&credentials.response(&body()));
    assert!(refused(
        &exchange(
            &server,
            &request(Some(&header), &body().replace("PT60S", "PT61S"))
        )
        .await
    ));
    let plain = Credentials {
        qop: "auth",
        ..credentials.count(3)
    };
    assert!(
        exchange(&server, &plain.request(&body()))
            .await
            .starts_with("HTTP/1.1 200 OK"),
        "both are offered"
    );
}

#[tokio::test]
async fn a_quality_that_was_not_offered_is_refused() {
    let server = Bench::new(|_| {}).server();
    let credentials = Credentials {
        qop: "auth-int",
        ..challenged(&server).await
    };
    assert!(refused(
        &exchange(&server, &credentials.request(&body())).await
    ));
}

/// An account beside the administrator, with these realms.
fn helpdesk(realms: &[u32]) -> crate::firmware::AclEntry {
    crate::firmware::AclEntry {
        user: "helpdesk".into(),
        ha1: crate::firmware::Ha1::of("helpdesk", REALM, PASSWORD),
        realms: Realms::from_numbers(realms.iter().copied()).unwrap(),
        access: crate::firmware::AccessPermission::Both,
    }
}

#[tokio::test]
async fn over_tls_a_connection_is_remembered_until_the_account_changes() {
    type Change = fn(&mut Firmware, u32);
    let changes: [Change; 3] = [
        |firmware, handle| firmware.remove_acl_entry(handle).unwrap(),
        |firmware, handle| firmware.enable_acl_entry(handle, false).unwrap(),
        |firmware, handle| {
            let entry = helpdesk(&[13, 5]);
            firmware.update_acl_entry(handle, entry).unwrap();
        },
    ];
    for change in changes {
        let bench = Bench::new(|_| {});
        let handle = bench
            .firmware
            .with(|firmware| firmware.add_acl_entry(helpdesk(&[13])))
            .unwrap();
        let server = bench.server();
        let credentials = challenged(&server).await;
        let ha1 = md5(&format!("helpdesk:{REALM}:{PASSWORD}"));
        let ha2 = md5("POST:/wsman");
        let nonce = &credentials.nonce;
        let response = md5(&format!(
            "{ha1}:{nonce}:00000001:0123456789abcdef:auth:{ha2}"
        ));
        let header = credentials
            .header(&response)
            .replace("\"admin\"", "\"helpdesk\"");
        let mut client = Client::connect(&server, true);
        client.send(&request(Some(&header), &body())).await;
        client.reply().await;
        client.send(&request(None, &body())).await;
        client.reply().await;
        bench.firmware.with(|firmware| change(firmware, handle));
        client.send(&request(None, &body())).await;
        let reply = String::from_utf8(client.rest().await).unwrap();
        assert!(refused(&reply), "{reply}");
    }
}

#[tokio::test]
async fn credentials_for_another_page_are_refused() {
    let server = Bench::new(|_| {}).server();
    let credentials = challenged(&server).await;
    let ha1 = md5(&format!("admin:{REALM}:{PASSWORD}"));
    let ha2 = md5("POST:/other");
    let nonce = &credentials.nonce;
    let response = md5(&format!(
        "{ha1}:{nonce}:00000001:0123456789abcdef:auth:{ha2}"
    ));
    let header = credentials
        .header(&response)
        .replace("uri=\"/wsman\"", "uri=\"/other\"");
    let reply = exchange(&server, &request(Some(&header), &body())).await;
    assert!(refused(&reply), "{reply}");
}

#[tokio::test]
async fn in_clear_every_request_needs_credentials() {
    let server = Bench::new(|_| {}).server();
    let credentials = challenged(&server).await;
    let mut client = Client::connect(&server, false);
    client.send(&credentials.request(&body())).await;
    client.reply().await;
    client.send(&request(None, &body())).await;
    assert!(refused(&String::from_utf8(client.rest().await).unwrap()));
}

#[tokio::test]
async fn chunked_and_expecting_requests_are_met_by_closing() {
    let server = Bench::new(|_| {}).server();
    for field in [
        "Transfer-Encoding: chunked",
        "Expect: 100-continue",
        "Content-Length: 99999999",
    ] {
        let text = format!("POST /wsman HTTP/1.1\r\nHost: pc\r\n{field}\r\n\r\n");
        let mut client = Client::connect(&server, false);
        client.send(text.as_bytes()).await;
        assert!(client.rest().await.is_empty(), "{field}");
    }
}

#[tokio::test]
async fn other_paths_have_pages_or_not() {
    let server = Bench::new(|_| {}).server();
    for (path, status) in [
        ("/", "303 See Other"),
        ("/logon.htm", "200 OK"),
        ("/nothing", "404 Not Found"),
    ] {
        let reply = exchange(
            &server,
            format!("GET {path} HTTP/1.1\r\nHost: pc\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(
            reply.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{reply}"
        );
        assert!(
            reply.contains("Server: Intel(R) Active Management Technology 12.0.67.1579"),
            "{reply}"
        );
    }
}

#[tokio::test]
async fn replies_are_cut_where_and_as_often_as_told() {
    let bench = Bench::new(|_| {});
    let server = bench.server();
    let credentials = challenged(&server).await;
    bench.knobs(|knobs| {
        knobs.drop_reply_after = Some(300);
        knobs.drop_replies = Some(1);
    });
    let cut = exchange(&server, &credentials.request(&body())).await;
    assert_eq!(cut.len(), 300);
    let whole = exchange(&server, &credentials.count(2).request(&body())).await;
    assert!(whole.ends_with("0\r\n\r\n"));
}

#[tokio::test]
async fn a_power_change_may_take_the_answer_with_it_and_is_done_nevertheless() {
    let bench = Bench::new(|_| {});
    bench.knobs(|knobs| knobs.drop_after_power_change = true);
    let server = bench.server();
    let credentials = challenged(&server).await;
    let uri = uri("CIM_PowerManagementService");
    let parameters = format!(
        "<r:RequestPowerStateChange_INPUT xmlns:r=\"{uri}\"><r:PowerState>10</r:PowerState><r:ManagedElement><a:ReferenceParameters>\
         <w:ResourceURI>http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ComputerSystem</w:ResourceURI></a:ReferenceParameters>\
         </r:ManagedElement></r:RequestPowerStateChange_INPUT>"
    );
    let body = envelope(
        1,
        &format!("{uri}/RequestPowerStateChange"),
        &uri,
        "",
        &parameters,
    );
    assert_eq!(exchange(&server, &credentials.request(&body)).await, "");
    assert!(matches!(bench.actions().as_slice(), [Action::Reset { .. }]));
}

#[tokio::test]
async fn a_second_request_at_the_same_time_meets_a_quota_or_waits() {
    for refuse in [true, false] {
        let bench = Bench::new(|_| {});
        bench.knobs(|knobs| {
            knobs.delay_ms = 100;
            knobs.refuse_concurrent = refuse;
        });
        let server = bench.server();
        let credentials = challenged(&server).await;
        let mut first = Client::connect(&server, false);
        first.send(&credentials.request(&body())).await;
        while !server.is_busy() {
            tokio::task::yield_now().await;
        }
        let second = exchange(&server, &credentials.count(2).request(&body())).await;
        assert_eq!(second.contains("QuotaLimit"), refuse, "{second}");
        assert_eq!(second.starts_with("HTTP/1.1 400 Bad Request"), refuse);
        let (_, envelope) = first.reply().await;
        assert!(envelope.contains("GetResponse"));
    }
}

#[tokio::test]
async fn silent_and_slow_clients_are_let_go() {
    let bench = Bench::new(|_| {});
    bench.knobs(|knobs| {
        knobs.idle_timeout_ms = 30;
        knobs.transfer_timeout_ms = 30;
    });
    let server = bench.server();
    assert!(Client::connect(&server, false).rest().await.is_empty());
    let mut slow = Client::connect(&server, false);
    slow.send(b"POST /wsman HTTP/1.1\r\n").await;
    assert!(slow.rest().await.is_empty());
}

#[tokio::test]
async fn there_are_so_many_connections_and_no_more() {
    let bench = Bench::new(|_| {});
    bench.knobs(|knobs| knobs.max_connections = 1);
    let server = bench.server();
    let credentials = challenged(&server).await;
    let mut first = Client::connect(&server, false);
    first.send(&credentials.request(&body())).await;
    first.reply().await;
    assert!(Client::connect(&server, false).rest().await.is_empty());
    drop(first.stream);
    first.server.await.unwrap().unwrap();
    assert!(
        exchange(&server, &credentials.count(2).request(&body()))
            .await
            .starts_with("HTTP/1.1 200 OK")
    );
}

#[tokio::test]
async fn a_client_that_says_close_is_closed() {
    let server = Bench::new(|_| {}).server();
    let credentials = challenged(&server).await;
    let text = String::from_utf8(credentials.request(&body())).unwrap();
    let mut client = Client::connect(&server, false);
    client
        .send(
            text.replace("Host: pc", "Connection: close\r\nHost: pc")
                .as_bytes(),
        )
        .await;
    let reply = String::from_utf8(client.rest().await).unwrap();
    assert!(reply.contains("\r\nConnection: close\r\n") && reply.ends_with("0\r\n\r\n"));
}
