//! Programs that know nothing of this project talk to a virtual PC: curl for digest and WS-MAN,
//! Debian's amtterm for SOL; and the display's own banner for KVM. Skipped loudly where absent.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use virtual_pc::VirtualPc;
use virtual_pc::config::{Amt, Config, Pc};
use virtual_pc::firmware::PowerState;
use virtual_pc::host::BootFrom;

use crate::{missing, qemu_missing};

const PATIENCE: Duration = Duration::from_secs(60);

async fn start(profile: &str) -> VirtualPc {
    let free = Config::on_free_ports();
    let amt = Amt {
        profile: profile.into(),
        tls: true,
        ..free.amt.clone()
    };
    let pc = Pc {
        memory_mib: 64,
        ..Pc::default()
    };
    VirtualPc::start(Config { pc, amt, ..free }).await.unwrap()
}

/// One WS-MAN request by curl; the reply's body, or curl's complaint.
async fn curl(pc: &VirtualPc, password: &str, envelope: String) -> Result<String, String> {
    curl_at(
        &format!("http://{}/wsman", pc.addresses().wsman),
        password,
        envelope,
    )
    .await
}

async fn curl_at(url: &str, password: &str, envelope: String) -> Result<String, String> {
    let mut child = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "20",
            "--digest",
        ])
        .args(["--user", &format!("admin:{password}")])
        .args([
            "--header",
            "Content-Type: application/soap+xml;charset=UTF-8",
        ])
        .args(["--data-binary", "@-"])
        .args(["--insecure", url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(envelope.as_bytes())
        .await
        .unwrap();
    let output = child.wait_with_output().await.unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

/// DSP0226, as MeshCommander writes it; an own spelling, so that it does not depend on the
/// console's crate.
fn envelope(action: &str, resource: &str, selector: &str, body: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?>
<Envelope xmlns="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd">
<Header><a:Action>{action}</a:Action><a:To>/wsman</a:To><w:ResourceURI>{resource}</w:ResourceURI><a:MessageID>1</a:MessageID>
<a:ReplyTo><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>
<w:OperationTimeout>PT60S</w:OperationTimeout>{selector}</Header><Body>{body}</Body></Envelope>"#
    )
}

fn power(state: u32) -> String {
    let class = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_PowerManagementService";
    let body = format!(
        r#"<p:RequestPowerStateChange_INPUT xmlns:p="{class}"><p:PowerState>{state}</p:PowerState><p:ManagedElement>
<a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing</a:Address><a:ReferenceParameters>
<w:ResourceURI>http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ComputerSystem</w:ResourceURI>
<w:SelectorSet><w:Selector Name="CreationClassName">CIM_ComputerSystem</w:Selector><w:Selector Name="Name">ManagedSystem</w:Selector></w:SelectorSet>
</a:ReferenceParameters></p:ManagedElement></p:RequestPowerStateChange_INPUT>"#
    );
    envelope(
        &format!("{class}/RequestPowerStateChange"),
        class,
        "",
        &body,
    )
}

#[tokio::test]
async fn curl_switches_the_pc_on_and_off() {
    if qemu_missing() || missing("curl") {
        return;
    }
    let pc = start("amt12-nuc").await;
    let mut powered = pc.controls().host().powered();
    for (state, expected) in [(2, true), (8, false)] {
        let reply = curl(&pc, "P@ssw0rd", power(state)).await.unwrap();
        assert!(reply.contains("ReturnValue>0<"), "{reply}");
        let changed = powered.wait_for(|powered| *powered == expected);
        tokio::time::timeout(PATIENCE, changed)
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!(pc.controls().snapshot().power, PowerState::Off);
    pc.shutdown().await;
}

#[tokio::test]
async fn curl_with_a_wrong_password_is_turned_away() {
    if missing("curl") {
        return;
    }
    let pc = start("amt12-nuc").await;
    let error = curl(&pc, "wrong", power(2)).await.unwrap_err();
    assert!(error.contains("401"), "{error}");
    let counters = pc.controls().snapshot().counters;
    assert!(counters.wrong_credentials > 0, "{counters:?}");
    assert!(!*pc.controls().host().powered().borrow());
    pc.shutdown().await;
}

#[tokio::test]
async fn curl_speaks_tls_with_it() {
    if missing("curl") {
        return;
    }
    let pc = start("amt16").await;
    let tls = pc.addresses().tls.clone().unwrap();
    assert_eq!(tls.fingerprint.len(), 64);
    let class = "http://intel.com/wbem/wscim/1/amt-schema/1/AMT_GeneralSettings";
    let get = envelope(
        "http://schemas.xmlsoap.org/ws/2004/09/transfer/Get",
        class,
        "",
        "",
    );
    let reply = curl_at(&format!("https://{}/wsman", tls.wsman), "P@ssw0rd", get)
        .await
        .unwrap();
    assert!(reply.contains("HostName>virtual-pc<"), "{reply}");
    pc.shutdown().await;
}

#[tokio::test]
async fn amtterm_shows_the_boot_menu_and_chooses_from_it() {
    if qemu_missing() || missing("amtterm") {
        return;
    }
    // The last generation that takes what amtterm 1.4 sends: the password in clear.
    let pc = start("amt11").await;
    let address = pc.addresses().redirection;
    let mut child = Command::new("amtterm")
        .args([
            "-u",
            "admin",
            &address.ip().to_string(),
            &address.port().to_string(),
        ])
        .env("AMT_PASSWORD", "P@ssw0rd")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    let mut screen = child.stdout.take().unwrap();
    let mut changes = pc.controls().firmware().changes();
    let open = async {
        while pc.controls().snapshot().sessions.is_empty() {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, open).await.unwrap();
    pc.controls()
        .host()
        .power_on(BootFrom::Setup)
        .await
        .unwrap();
    let mut seen = String::new();
    read_until(&mut screen, &mut seen, "Select boot device").await;
    keyboard.write_all(b"1").await.unwrap();
    read_until(&mut screen, &mut seen, "Booting from").await;
    // Ctrl-] leaves.
    keyboard.write_all(b"\x1d").await.unwrap();
    let left = tokio::time::timeout(PATIENCE, child.wait()).await;
    left.unwrap().unwrap();
    let closed = async {
        while !pc.controls().snapshot().sessions.is_empty() {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    pc.shutdown().await;
}

async fn read_until(stream: &mut (impl AsyncReadExt + Unpin), seen: &mut String, text: &str) {
    let mut buffer = [0; 4096];
    let deadline = Instant::now() + PATIENCE;
    while !seen.contains(text) {
        let read = tokio::time::timeout_at(deadline.into(), stream.read(&mut buffer)).await;
        let length = read.unwrap_or(Ok(0)).unwrap();
        assert_ne!(length, 0, "{text:?} did not appear; so far: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
}

#[tokio::test]
async fn the_display_greets_through_a_kvm_session() {
    if qemu_missing() {
        return;
    }
    // Password authentication, which is short enough to write by hand (amt-redirection 2.4, 7.1).
    let pc = start("amt11").await;
    pc.controls()
        .host()
        .power_on(BootFrom::Usual)
        .await
        .unwrap();
    let mut stream = TcpStream::connect(pc.addresses().redirection)
        .await
        .unwrap();
    let exchange = async {
        let mut reply = [0; 13];
        stream.write_all(b"\x10\x01\0\0KVMR").await.unwrap();
        stream.read_exact(&mut reply).await.unwrap();
        assert_eq!(reply[..2], [0x11, 0]);
        stream
            .write_all(b"\x13\0\0\0\x01\x0f\0\0\0\x05admin\x08P@ssw0rd")
            .await
            .unwrap();
        let mut reply = [0; 9];
        stream.read_exact(&mut reply).await.unwrap();
        assert_eq!(reply, [0x14, 0, 0, 0, 1, 0, 0, 0, 0]);
        stream
            .write_all(&[0x40, 0, 0, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        let mut banner = [0; 8 + 12];
        stream.read_exact(&mut banner).await.unwrap();
        assert_eq!(banner[..8], [0x41, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&banner[8..], b"RFB 003.008\n");
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap();
    pc.shutdown().await;
}
