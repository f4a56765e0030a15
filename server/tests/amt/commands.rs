//! The commands as their users run them: what they print, what they exit with, and what a PC is left with.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::device::{Act, Amt, Seen, fault, ok, unauthorized};
use crate::program::{code, err, folder, json_lines, out, program};

fn pc(dir: &Path, amt: &Amt, arguments: &[&str]) -> Output {
    program(dir)
        .arg("pc")
        .args(arguments)
        .args(["127.0.0.1", "--port", &amt.address.port().to_string()])
        .env("SPARETIRE_AMT_PASSWORD", "P@ssw0rd")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// As [`pc`], with words after the host.
fn pc_with(dir: &Path, amt: &Amt, command: &str, after: &[&str]) -> Output {
    program(dir)
        .args(["pc", command, "127.0.0.1"])
        .args(after)
        .args(["--port", &amt.address.port().to_string()])
        .env("SPARETIRE_AMT_PASSWORD", "P@ssw0rd")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The last words of a request's action and class, such as `GetAMT_GeneralSettings` or `CIM_BootService/SetBootConfigRole`.
fn label(seen: &Seen) -> String {
    let between = |from: &str, to: &str| {
        let (_, rest) = seen.body.split_once(from).unwrap();
        rest.split_once(to).unwrap().0.to_owned()
    };
    let action = between("<a:Action>", "</a:Action>");
    let class = between("<w:ResourceURI>", "</w:ResourceURI>");
    let class = class.rsplit('/').next().unwrap();
    let last = action.rsplit('/').next().unwrap();
    if action.contains(class) {
        format!("{class}.{last}")
    } else {
        format!("{last} {class}")
    }
}

/// A device behind digest authentication.
fn behind_password(mut answer: impl FnMut(&str) -> Act + Send + 'static) -> Amt {
    Amt::start(move |number, seen| {
        if seen.is_authorized() {
            answer(&label(seen))
        } else {
            unauthorized(&format!("n{number}"), false)
        }
    })
}

fn element(class: &str, properties: &str) -> Act {
    let class = amt_wsman::names::Class::new(Box::leak(class.to_owned().into_boxed_str()));
    let (name, uri) = (class.name(), class.uri());
    ok(&format!(
        "<g:{name} xmlns:g=\"{uri}\">{properties}</g:{name}>"
    ))
}

fn returned(value: u32) -> Act {
    ok(&format!(
        "<g:X_OUTPUT xmlns:g=\"x\"><g:ReturnValue>{value}</g:ReturnValue></g:X_OUTPUT>"
    ))
}

fn powered(state: u32) -> Act {
    element(
        "CIM_AssociatedPowerManagementService",
        &format!("<g:PowerState>{state}</g:PowerState>"),
    )
}

#[test]
fn power_state_is_one_word() {
    let amt = behind_password(|label| match label {
        "Get CIM_AssociatedPowerManagementService" => powered(8),
        _ => fault("DestinationUnreachable"),
    });
    let dir = folder();
    let output = pc(dir.path(), &amt, &["power"]);
    assert_eq!(
        (code(&output), out(&output)),
        (0, "off\n"),
        "{}",
        err(&output)
    );
    let output = pc(dir.path(), &amt, &["power", "--json"]);
    assert_eq!(json_lines(&output)[0]["power"], "off");
}

#[test]
fn a_reset_of_a_pc_that_is_off_says_that_it_is_switched_on() {
    let amt = behind_password(|label| match label {
        "Get CIM_AssociatedPowerManagementService" => powered(8),
        "CIM_PowerManagementService.RequestPowerStateChange" => returned(0),
        _ => fault("DestinationUnreachable"),
    });
    let dir = folder();
    let output = pc_with(dir.path(), &amt, "power", &["reset"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(out(&output), "127.0.0.1 was off; power on is under way\n");
    assert!(err(&output).contains("the PC is off, so it is switched on"));
}

#[test]
fn info_prints_what_is_known_and_takes_terminal_controls_out() {
    let device = || {
        behind_password(|label| match label {
            "Get CIM_AssociatedPowerManagementService" => powered(2),
            "Get AMT_GeneralSettings" => element(
                "AMT_GeneralSettings",
                "<g:HostName>pc7&#x9b;2J</g:HostName><g:DomainName>example.org</g:DomainName>",
            ),
            "Get AMT_RedirectionService" => element(
                "AMT_RedirectionService",
                "<g:EnabledState>32769</g:EnabledState><g:ListenerEnabled>true</g:ListenerEnabled>",
            ),
            "Get AMT_SetupAndConfigurationService" => fault("AccessDenied"),
            _ => fault("DestinationUnreachable"),
        })
    };
    let dir = folder();
    let output = pc(dir.path(), &device(), &["info"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(
        out(&output),
        "name          pc7\u{fffd}2J.example.org\n\
         AMT           15.0.23.1706\n\
         power         on\n\
         redirection   storage on, serial off, port open, KVM not there\n\
         not allowed   reading AMT_SetupAndConfigurationService\n"
    );
    let output = pc(dir.path(), &device(), &["info", "--json"]);
    let info: Value = json_lines(&output).pop().unwrap();
    assert_eq!(info["version"], "15.0.23.1706");
    assert_eq!(info["redirection"]["storage"], true);
    assert_eq!(info["consent"], Value::Null);
}

#[test]
fn every_failure_has_its_own_words_cure_and_exit_code() {
    let dir = folder();
    let denied = behind_password(|_| fault("AccessDenied"));
    let wrong = Amt::start(|number, _| unauthorized(&format!("n{number}"), false));
    let other = Amt::start(|_, _| Act::Last("SSH-2.0-OpenSSH_9.2\r\n".into()));
    let garbage = behind_password(|_| {
        Act::Send(crate::device::chunked(
            "200 OK",
            "<?xml version=\"1.0\"?><a",
            9,
        ))
    });
    let vanishing = Amt::start(|_, _| Act::Close);
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    for (port, exit, words, cure) in [
        (denied.address.port(), 3, "access denied", "realms"),
        (
            wrong.address.port(),
            3,
            "does not accept user name and password",
            "wait some minutes",
        ),
        (other.address.port(), 1, "not as Intel AMT does", "16992"),
        (
            garbage.address.port(),
            1,
            "the answer is malformed",
            "firmware is faulty",
        ),
        (
            vanishing.address.port(),
            5,
            "broke before an answer came",
            "pc info",
        ),
        (closed, 5, "refuses connections", "not be provisioned"),
    ] {
        let output = program(dir.path())
            .args(["pc", "power", "127.0.0.1", "--port", &port.to_string()])
            .env("SPARETIRE_AMT_PASSWORD", "P@ssw0rd")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = err(&output);
        assert_eq!(code(&output), exit, "{text}");
        assert!(text.contains(words), "{words:?} in {text}");
        let advice = text
            .lines()
            .find(|line| line.trim_start().starts_with("advice: "));
        assert!(
            advice.is_some_and(|advice| advice.contains(cure)),
            "{cure:?} in {text}"
        );
        assert!(!text.contains("P@ssw0rd"));
    }
}

#[test]
fn without_a_password_and_without_a_terminal_it_says_where_to_put_one() {
    let dir = folder();
    let output = program(dir.path())
        .args(["pc", "power", "pc7.invalid"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(code(&output), 2);
    assert!(
        err(&output).contains("$SPARETIRE_AMT_PASSWORD"),
        "{}",
        err(&output)
    );
}

fn settings(options: &str) -> Act {
    element(
        "AMT_BootSettingData",
        &format!(
            "{options}<g:InstanceID>Intel(r) AMT:BootSettingData 0</g:InstanceID><g:OptionsCleared>false</g:OptionsCleared>"
        ),
    )
}

/// A PC that can be sent into its BIOS, whose power request ends as the test says.
fn bios_pc(power: impl Fn() -> Act + Send + 'static) -> Amt {
    let mut armed = false;
    Amt::start(move |number, seen| {
        if !seen.is_authorized() {
            return unauthorized(&format!("n{number}"), false);
        }
        let told = |armed| settings(&format!("<g:BIOSSetup>{armed}</g:BIOSSetup>"));
        match label(seen).as_str() {
            "Get AMT_SetupAndConfigurationService" => element(
                "AMT_SetupAndConfigurationService",
                "<g:ProvisioningMode>1</g:ProvisioningMode><g:ProvisioningState>2</g:ProvisioningState>",
            ),
            "Get AMT_BootCapabilities" => {
                element("AMT_BootCapabilities", "<g:BIOSSetup>true</g:BIOSSetup>")
            }
            "Get AMT_BootSettingData" => told(armed),
            "Put AMT_BootSettingData" => {
                armed = seen.body.contains("<h:BIOSSetup>true</h:BIOSSetup>");
                told(armed)
            }
            "CIM_BootConfigSetting.ChangeBootOrder" | "CIM_BootService.SetBootConfigRole" => {
                returned(0)
            }
            "Get CIM_AssociatedPowerManagementService" => powered(2),
            "CIM_PowerManagementService.RequestPowerStateChange" => power(),
            _ => fault("DestinationUnreachable"),
        }
    })
}

#[test]
fn bios_set_up_is_armed_before_the_restart() {
    let amt = bios_pc(|| returned(0));
    let dir = folder();
    let output = pc(dir.path(), &amt, &["bios"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(
        out(&output).ends_with("127.0.0.1 starts into BIOS set-up\n"),
        "{}",
        out(&output)
    );
    let seen = amt.seen();
    let labels: Vec<_> = seen
        .iter()
        .filter(|seen| seen.is_authorized())
        .map(label)
        .collect();
    let at = |wanted: &str| labels.iter().rposition(|label| label == wanted).unwrap();
    assert!(
        at("Put AMT_BootSettingData") < at("CIM_PowerManagementService.RequestPowerStateChange")
    );
}

#[test]
fn a_restart_that_fails_leaves_a_plain_boot_behind() {
    let amt = bios_pc(|| returned(4097));
    let dir = folder();
    let output = pc(dir.path(), &amt, &["bios"]);
    assert_eq!(code(&output), 1, "{}", err(&output));
    let seen = amt.seen();
    let last_put = seen
        .iter()
        .rfind(|seen| seen.body.contains("transfer/Put"))
        .unwrap();
    assert!(last_put.body.contains("<h:BIOSSetup>false</h:BIOSSetup>"));
}

#[test]
fn bios_set_up_without_the_consent_it_needs_is_refused_before_anything_is_changed() {
    let amt = behind_password(|label| match label {
        "Get AMT_SetupAndConfigurationService" => element(
            "AMT_SetupAndConfigurationService",
            "<g:ProvisioningMode>4</g:ProvisioningMode><g:ProvisioningState>2</g:ProvisioningState>",
        ),
        "Get IPS_OptInService" => element(
            "IPS_OptInService",
            "<g:OptInRequired>0</g:OptInRequired><g:OptInState>0</g:OptInState>",
        ),
        _ => panic!("{label}"),
    });
    let dir = folder();
    let output = pc(dir.path(), &amt, &["bios"]);
    assert_eq!(code(&output), 3, "{}", err(&output));
    assert!(
        err(&output).contains("sparetire pc consent 127.0.0.1 start"),
        "{}",
        err(&output)
    );
}

#[test]
fn a_consent_code_comes_from_standard_input() {
    use std::io::Write;
    let mut state = 2;
    let amt = Amt::start(move |number, seen| {
        if !seen.is_authorized() {
            return unauthorized(&format!("n{number}"), false);
        }
        match label(seen).as_str() {
            "IPS_OptInService.SendOptInCode"
                if seen.body.contains("<h:OptInCode>12345</h:OptInCode>") =>
            {
                state = 3;
                returned(0)
            }
            "IPS_OptInService.SendOptInCode" => returned(2),
            _ => element(
                "IPS_OptInService",
                &format!(
                    "<g:OptInRequired>4294967295</g:OptInRequired><g:OptInState>{state}</g:OptInState>"
                ),
            ),
        }
    });
    let dir = folder();
    for (code_typed, exit, words) in [
        ("999999\n", 3, "not the code on the PC's screen"),
        ("12\n", 2, "six digits"),
        ("", 2, "ended before a code came"),
        ("012 345\n", 0, "consent is given"),
    ] {
        let mut child = program(dir.path())
            .args(["pc", "consent", "127.0.0.1", "code", "--port"])
            .arg(amt.address.port().to_string())
            .env("SPARETIRE_AMT_PASSWORD", "P@ssw0rd")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(code_typed.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let text = format!("{}{}", out(&output), err(&output));
        assert_eq!(code(&output), exit, "{text}");
        assert!(text.contains(words), "{text}");
    }
}
