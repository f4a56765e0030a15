use amt_redirection::console::{AuthPolicy, OpenError, Step};
use amt_redirection::session::SessionKind;
use tokio::io::{AsyncWriteExt, duplex};

use super::firmware::{Firmware, credentials};
use crate::redirection::connect::{ConnectError, open};

/// Opens an IDE-R session to firmware that does as `script` says.
async fn opened<F, T>(script: F) -> Result<amt_redirection::console::Opened, ConnectError>
where
    F: FnOnce(Firmware<tokio::io::DuplexStream>) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let (mut near, far) = duplex(4096);
    let firmware = tokio::spawn(script(Firmware::new(far)));
    let result = open(
        &mut near,
        SessionKind::Ider,
        &credentials(),
        AuthPolicy::default(),
    )
    .await;
    drop(near);
    firmware.await.unwrap();
    result
}

#[tokio::test]
async fn an_open_session_knows_the_firmware_and_keeps_what_came_too_early() {
    let opened = opened(|mut firmware| async move {
        firmware.challenge(b"IDER").await;
        firmware
            .send(&[0x14, 0, 0, 0, 0x04, 0, 0, 0, 0, 0x41, 0x00])
            .await;
    })
    .await
    .unwrap();
    assert_eq!(opened.firmware_version, (12, 0));
    assert_eq!(opened.oem, 343);
    assert_eq!(opened.rest, [0x41, 0x00]);
}

#[tokio::test]
async fn a_wrong_password_is_told_apart_and_final() {
    let error = opened(|mut firmware| async move {
        firmware.challenge(b"IDER").await;
        firmware.send(&[0x14, 0x01, 0, 0, 0x04, 0, 0, 0, 0]).await;
    })
    .await
    .unwrap_err();
    assert!(matches!(
        error,
        ConnectError::Open(OpenError::BadCredentials)
    ));
    assert!(error.is_final());
}

#[tokio::test]
async fn refusals_of_the_start_have_their_own_errors() {
    for (status, expected, last) in [
        (1, OpenError::UnknownType, true),
        (2, OpenError::Busy, false),
        (3, OpenError::Unsupported, true),
        (5, OpenError::UserConsentRequired, true),
        (0xff, OpenError::Internal, false),
    ] {
        let error = opened(move |mut firmware| async move {
            firmware.receive(8).await;
            firmware.send(&[0x11, status, 0, 0]).await;
        })
        .await
        .unwrap_err();
        assert_eq!(error.is_final(), last);
        match error {
            ConnectError::Open(found) => assert_eq!(found, expected),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_connection_closed_in_between_is_an_error() {
    let error = opened(|mut firmware| async move {
        firmware.receive(8).await;
        firmware.send(&[0x11]).await;
        firmware.stream.shutdown().await.unwrap();
    })
    .await
    .unwrap_err();
    assert!(matches!(error, ConnectError::Closed));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_in_a_timeout() {
    let (mut near, _far) = duplex(4096);
    let (user, policy) = (credentials(), AuthPolicy::default());
    let result = open(&mut near, SessionKind::Ider, &user, policy);
    let error = result.await.unwrap_err();
    let expected = OpenError::Timeout(Step::Start);
    assert!(matches!(error, ConnectError::Open(found) if found == expected));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_ends_in_a_timeout() {
    let (mut near, _far) = duplex(4);
    let (user, policy) = (credentials(), AuthPolicy::default());
    let result = open(&mut near, SessionKind::Ider, &user, policy);
    let error = result.await.unwrap_err();
    assert!(matches!(
        error,
        ConnectError::Open(OpenError::Timeout(Step::Start))
    ));
}

#[test]
fn debug_output_has_no_password() {
    assert!(!format!("{:?}", credentials()).contains("P@ss"));
}
