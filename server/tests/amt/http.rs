//! The transport: authentication, connections kept and lost, and answers that are none.

use std::time::Duration;

use amt_wsman::digest::Credentials;
use amt_wsman::request::{Repeat, Request, get};
use amt_wsman::transport::WAITING;
use amt_wsman::{Transport, TransportError, class};
use sparetire_server::amt::dial::{Endpoint, Tcp};
use sparetire_server::amt::http::{HttpTransport, Timing};
use zeroize::Zeroizing;

use crate::device::{Act, Amt, chunked, envelope, fault, ok, unauthorized};

fn timing() -> Timing {
    Timing {
        connect: Duration::from_secs(10),
        answer: Duration::from_secs(20),
        retry_pause: Duration::from_millis(5),
        retries: 5,
        idle: Duration::from_secs(60),
    }
}

fn client(amt: &Amt, timing: Timing) -> HttpTransport<Tcp> {
    let mut endpoint = Endpoint::of("127.0.0.1");
    endpoint.port = amt.address.port();
    let password = Zeroizing::new("P@ssw0rd".to_owned());
    let credentials = Credentials::new("admin", password).unwrap();
    HttpTransport::new(Tcp::new(&endpoint, timing.connect), credentials, timing)
}

fn request(repeat: Repeat) -> Request {
    Request {
        repeat,
        ..get(1, class::GENERAL_SETTINGS.into())
    }
}

async fn post(client: &mut HttpTransport<Tcp>, repeat: Repeat) -> Result<String, TransportError> {
    client.post(&request(repeat)).await
}

#[tokio::test]
async fn a_challenge_is_answered_on_a_new_connection_which_then_stays() {
    let amt = Amt::start(|number, seen| match number {
        0 => unauthorized("one", false),
        _ => {
            assert!(seen.is_authorized());
            ok("<x/>")
        }
    });
    let mut client = client(&amt, timing());
    for _ in 0..3 {
        assert_eq!(
            post(&mut client, Repeat::Safe).await.unwrap(),
            envelope("<x/>")
        );
    }
    assert_eq!(
        client.server(),
        Some("Intel(R) Active Management Technology 15.0.23.1706")
    );
    let seen = amt.seen();
    let connections: Vec<_> = seen.iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1, 1, 1]);
    assert!(!seen[0].is_authorized());
    for (request, count) in [(1, "00000001"), (2, "00000002"), (3, "00000003")] {
        let header = seen[request].header("authorization").unwrap();
        assert!(
            header.contains(&format!(",qop=auth-int,nc={count},cnonce=\"")),
            "{header}"
        );
    }
}

#[tokio::test]
async fn a_request_has_the_headers_that_amt_needs_and_none_that_it_may_not_know() {
    let amt = Amt::start(|_, _| ok("<x/>"));
    let mut client = client(&amt, timing());
    post(&mut client, Repeat::Safe).await.unwrap();
    let seen = &amt.seen()[0];
    assert!(
        seen.head.starts_with("POST /wsman HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert_eq!(seen.header("host"), Some(amt.address.to_string().as_str()));
    assert_eq!(seen.header("content-length"), Some("614"));
    for absent in ["expect", "transfer-encoding", "accept-encoding"] {
        assert_eq!(seen.header(absent), None);
    }
    assert_eq!(seen.body, request(Repeat::Safe).body);
}

#[tokio::test]
async fn chunks_may_be_cut_anywhere() {
    let body = envelope("<g:X xmlns:g=\"x\"><g:Name>Büro-PC 7 &amp; Gerät</g:Name></g:X>");
    let sent = body.clone();
    let amt = Amt::start(move |number, _| match number {
        0 => Act::Trickle(chunked("200 OK", &sent, 1), 1),
        1 => Act::Trickle(chunked("200 OK", &sent, 7), 3),
        _ => Act::Send(chunked("200 OK", &sent, 0x2fa)),
    });
    let mut client = client(&amt, timing());
    for _ in 0..3 {
        assert_eq!(post(&mut client, Repeat::Safe).await.unwrap(), body);
    }
}

#[tokio::test]
async fn a_forgotten_nonce_costs_one_more_request() {
    let amt = Amt::start(|number, _| match number {
        0 => unauthorized("one", false),
        2 => unauthorized("two", false),
        4 => unauthorized("three", true),
        _ => ok("<x/>"),
    });
    let mut client = client(&amt, timing());
    for _ in 0..3 {
        post(&mut client, Repeat::Never).await.unwrap();
    }
    let seen = amt.seen();
    assert_eq!(seen.len(), 6);
    assert!(
        seen[3]
            .header("authorization")
            .unwrap()
            .contains("nonce=\"two\"")
    );
    assert!(
        seen[5]
            .header("authorization")
            .unwrap()
            .contains("nonce=\"three\"")
    );
}

#[tokio::test]
async fn wrong_credentials_are_tried_once_so_that_the_account_is_not_locked() {
    let amt = Amt::start(|number, _| unauthorized(&format!("n{number}"), false));
    let mut client = client(&amt, timing());
    let error = post(&mut client, Repeat::Safe).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} does not accept user name and password of \"admin\"",
            amt.address
        )
    );
    assert_eq!(amt.seen().len(), 2);
}

#[tokio::test]
async fn a_server_that_calls_every_nonce_stale_is_given_up() {
    let amt = Amt::start(|number, _| unauthorized(&format!("n{number}"), true));
    let mut client = client(&amt, timing());
    let error = post(&mut client, Repeat::Safe).await.unwrap_err();
    assert_eq!(
        error,
        TransportError::ForgetsChallenges {
            peer: amt.address.to_string()
        }
    );
    assert_eq!(amt.seen().len(), 4);
}

#[tokio::test]
async fn what_may_be_repeated_is_repeated_when_the_connection_drops() {
    let amt = Amt::start(|number, _| match number {
        0 => unauthorized("one", false),
        1 => Act::Close,
        // Cut in the middle of a chunk.
        2 => {
            let whole = chunked("200 OK", &envelope("<x/>"), 100);
            Act::Last(whole[..whole.len() - 20].to_owned())
        }
        _ => ok("<x/>"),
    });
    let mut client = client(&amt, timing());
    post(&mut client, Repeat::Safe).await.unwrap();
    assert_eq!(amt.seen().len(), 4);
}

#[tokio::test]
async fn a_device_that_keeps_dropping_is_given_up_after_five_more_tries() {
    let amt = Amt::start(|_, _| Act::Close);
    let mut client = client(&amt, timing());
    let error = post(&mut client, Repeat::Safe).await.unwrap_err();
    assert!(matches!(error, TransportError::Lost { .. }), "{error:?}");
    assert_eq!(amt.seen().len(), 6);
}

#[tokio::test]
async fn what_must_not_be_repeated_is_reported_as_lost() {
    let amt = Amt::start(|number, _| match number {
        // Nothing is done without credentials, so this one may be sent again.
        0 => Act::Close,
        1 => unauthorized("one", false),
        _ => Act::Close,
    });
    let mut client = client(&amt, timing());
    let error = post(&mut client, Repeat::Never).await.unwrap_err();
    assert!(error.may_have_worked(Repeat::Never), "{error:?}");
    assert_eq!(amt.seen().len(), 3);
}

#[tokio::test]
async fn a_device_that_says_nothing_is_not_waited_for_for_ever() {
    let amt = Amt::start(|_, _| Act::Hold);
    let short = Timing {
        answer: Duration::from_millis(100),
        ..timing()
    };
    let mut client = client(&amt, short);
    let error = post(&mut client, Repeat::Never).await.unwrap_err();
    assert_eq!(
        error,
        TransportError::TimedOut {
            peer: amt.address.to_string(),
            doing: WAITING,
            seconds: 0
        }
    );
    assert!(error.may_have_worked(Repeat::Never) && !error.may_have_worked(Repeat::Safe));
}

#[tokio::test]
async fn a_connection_that_was_idle_for_long_is_not_trusted() {
    let amt = Amt::start(|_, _| ok("<x/>"));
    let hasty = Timing {
        idle: Duration::ZERO,
        ..timing()
    };
    let mut client = client(&amt, hasty);
    post(&mut client, Repeat::Safe).await.unwrap();
    post(&mut client, Repeat::Never).await.unwrap();
    assert_eq!(amt.seen()[1].connection, 1);
}

#[tokio::test]
async fn an_abandoned_request_leaves_no_answer_for_the_next() {
    let amt = Amt::start(|number, _| match number {
        1 => Act::Hold,
        number => ok(&format!("<x{number}/>")),
    });
    let mut client = client(&amt, timing());
    post(&mut client, Repeat::Safe).await.unwrap();
    let given_up =
        tokio::time::timeout(Duration::from_millis(50), post(&mut client, Repeat::Safe)).await;
    assert!(given_up.is_err());
    let answer = post(&mut client, Repeat::Safe).await.unwrap();
    assert_eq!(answer, envelope("<x2/>"));
    assert_eq!(amt.seen()[2].connection, 1);
}

#[tokio::test]
async fn faults_are_answers_and_failures_are_not() {
    let amt = Amt::start(|number, _| match number {
        0 => fault("AccessDenied"),
        _ => Act::Send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".into()),
    });
    let mut client = client(&amt, timing());
    assert!(
        post(&mut client, Repeat::Safe)
            .await
            .unwrap()
            .contains("AccessDenied")
    );
    assert_eq!(
        post(&mut client, Repeat::Safe).await,
        Err(TransportError::Status {
            peer: amt.address.to_string(),
            status: 503
        })
    );
}

#[tokio::test]
async fn whatever_is_not_amt_is_told_as_such() {
    let http = |status: &str, headers: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
    };
    for (bytes, why) in [
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "no HTTP"),
        // A TLS alert, as a TLS server answers to plain text.
        ("\u{15}\u{3}\u{1}\0\u{2}\u{2}\u{46}".to_owned(), "no HTTP"),
        (
            http("200 OK", "Server: nginx\r\n", "<html>hello</html>"),
            "HTTP status 200, and no XML",
        ),
        (
            http("404 Not Found", "Server: nginx\r\n", "gone"),
            "HTTP status 404, and no XML",
        ),
        (
            http("401 No", "WWW-Authenticate: Basic realm=\"x\"\r\n", ""),
            "\"Basic\", not Digest",
        ),
        (http("401 No", "", ""), "without saying how"),
    ] {
        let sent = bytes.clone();
        let amt = Amt::start(move |_, _| Act::Last(sent.clone()));
        let mut client = client(&amt, timing());
        let error = post(&mut client, Repeat::Safe).await.unwrap_err();
        assert!(
            matches!(error, TransportError::NotAmt { .. }),
            "{bytes:?}: {error:?}"
        );
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_device_with_kerberos_alone_is_told_as_such() {
    let amt = Amt::start(|_, _| {
        Act::Last(
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\n\
             Server: Intel(R) Active Management Technology 9.5.0.1\r\nContent-Length: 0\r\n\r\n"
                .into(),
        )
    });
    let mut client = client(&amt, timing());
    let error = post(&mut client, Repeat::Safe).await.unwrap_err();
    assert!(
        matches!(error, TransportError::NoCommonAuthentication { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let amt = Amt::start(|_, _| {
        let body = format!("<?xml version=\"1.0\"?><x>{}</x>", "y".repeat(3 << 20));
        Act::Send(chunked("200 OK", &body, 0xffff))
    });
    let mut client = client(&amt, timing());
    let error = post(&mut client, Repeat::Safe).await.unwrap_err();
    assert!(matches!(error, TransportError::TooLong { .. }), "{error:?}");
}
