//! curl as an outside witness: its digest and its HTTP against ours. Skipped, loudly, where curl is absent.

use std::net::SocketAddr;
use std::process::Stdio;

use tokio::net::TcpListener;
use tokio::process::Command;

use super::*;

/// Serves a bench on a port of its own.
async fn serve(bench: &Bench) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(bench.server().serve(listener));
    address
}

/// Whether curl is there; says so when not.
async fn curl_is_missing() -> bool {
    let missing = Command::new("curl")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .await
        .is_err();
    if missing {
        eprintln!(
            "SKIPPED: curl is not installed; nothing outside of this project has checked digest and WS-MAN"
        );
    }
    missing
}

/// Runs curl as a person would; standard output, which ends with the HTTP status.
async fn curl(address: SocketAddr, arguments: &[&str], body: &str) -> String {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--noproxy",
            "*",
            "--write-out",
            "\n%{http_code} %{num_connects}",
        ])
        .args([
            "-H",
            "Expect:",
            "-H",
            "Content-Type: application/soap+xml;charset=UTF-8",
            "--data-binary",
            body,
        ])
        .args(arguments)
        .arg(format!("http://{address}/wsman"))
        .output()
        .await
        .unwrap();
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

const ADMIN: &[&str] = &["--digest", "--anyauth", "--user", "admin:P@ssw0rd"];

#[tokio::test]
async fn curl_logs_in_and_reads_an_object() {
    if curl_is_missing().await {
        return;
    }
    let bench = Bench::new(|_| {});
    let address = serve(&bench).await;
    let output = curl(
        address,
        ADMIN,
        &envelope(1, GET, &uri("AMT_GeneralSettings"), "", ""),
    )
    .await;
    assert!(
        output.contains("<g:HostName>virtual-pc</g:HostName>"),
        "{output}"
    );
    assert!(output.contains("\n200 "), "{output}");
    let counters = bench
        .firmware
        .quietly(|firmware| firmware.counters().clone());
    assert_eq!(
        (counters.http_unauthorized, counters.wrong_credentials),
        (1, 0)
    );
}

#[tokio::test]
async fn curl_logs_in_with_auth_int_offered_first() {
    if curl_is_missing().await {
        return;
    }
    let bench = Bench::new(|config| config.profile = Profile::named("amt16").unwrap());
    let address = serve(&bench).await;
    let output = curl(
        address,
        ADMIN,
        &envelope(1, GET, &uri("CIM_Chassis"), "", ""),
    )
    .await;
    assert!(output.contains("NUC9V7QNX"), "{output}");
}

#[tokio::test]
async fn curl_repeats_with_the_new_nonce_when_ours_was_forgotten() {
    if curl_is_missing().await {
        return;
    }
    let bench = Bench::new(|_| {});
    bench.knobs(|knobs| knobs.forget_nonce_percent = 50);
    let address = serve(&bench).await;
    let mut good = 0;
    for _ in 0..10 {
        let output = curl(
            address,
            ADMIN,
            &envelope(1, GET, &uri("CIM_Chassis"), "", ""),
        )
        .await;
        good += u32::from(output.contains("NUC9V7QNX"));
    }
    assert!(
        good > 0,
        "curl takes one stale challenge or gives up; never all ten"
    );
    assert_eq!(
        bench
            .firmware
            .quietly(|firmware| firmware.counters().wrong_credentials),
        0
    );
}

#[tokio::test]
async fn curl_with_a_wrong_password_stays_outside() {
    if curl_is_missing().await {
        return;
    }
    let bench = Bench::new(|_| {});
    let address = serve(&bench).await;
    let wrong = ["--digest", "--user", "admin:wrong"];
    let output = curl(
        address,
        &wrong,
        &envelope(1, GET, &uri("CIM_Chassis"), "", ""),
    )
    .await;
    assert!(
        output.contains("Log on failed.") && output.contains("\n401 "),
        "{output}"
    );
    assert!(!output.contains("NUC9"));
}

#[tokio::test]
async fn curl_reads_a_fault_and_a_put() {
    if curl_is_missing().await {
        return;
    }
    let bench = Bench::new(|_| {});
    let address = serve(&bench).await;
    let output = curl(
        address,
        ADMIN,
        &envelope(1, GET, &uri("CIM_Invented"), "", ""),
    )
    .await;
    assert!(
        output.contains("b:DestinationUnreachable") && output.contains("\n400 "),
        "{output}"
    );
    let object = "<p:IPS_OptInService xmlns:p=\"http://intel.com/wbem/wscim/1/ips-schema/1/IPS_OptInService\"><p:OptInRequired>1</p:OptInRequired></p:IPS_OptInService>";
    let output = curl(
        address,
        ADMIN,
        &envelope(2, PUT, &uri("IPS_OptInService"), "", object),
    )
    .await;
    assert!(
        output.contains("<g:OptInRequired>1</g:OptInRequired>"),
        "{output}"
    );
}

#[tokio::test]
async fn curl_keeps_one_connection_for_several_requests() {
    if curl_is_missing().await {
        return;
    }
    let bench = Bench::new(|_| {});
    let address = serve(&bench).await;
    let url = format!("http://{address}/wsman");
    let body = envelope(1, GET, &uri("CIM_Chassis"), "", "");
    // The second transfer repeats URL and data on the same connection.
    let second = [
        url.as_str(),
        "--next",
        "--silent",
        "-H",
        "Expect:",
        "--digest",
        "--user",
        "admin:P@ssw0rd",
        "--data-binary",
        &body,
    ];
    let output = curl(address, &[ADMIN, &second].concat(), &body).await;
    assert_eq!(output.matches("NUC9V7QNX").count(), 2, "{output}");
    let connections = bench
        .firmware
        .quietly(|firmware| firmware.counters().http_connections);
    assert!(connections <= 3, "{connections} connections");
}
