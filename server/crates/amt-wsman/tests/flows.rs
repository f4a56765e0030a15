//! Listings, redirection, consent, power and inventory against scripted devices.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use amt_wsman::class::consent::ConsentState;
use amt_wsman::class::power::{PowerChange, PowerState};
use amt_wsman::class::{PHYSICAL_MEMORY, SOFTWARE_IDENTITY};
use amt_wsman::device::Cause;
use amt_wsman::flow::consent::{self, ConsentError};
use amt_wsman::flow::info::info;
use amt_wsman::flow::power::{PowerAction, PowerAnswer, PowerError, power};
use amt_wsman::flow::provisioning::{ProvisioningError, require_provisioned};
use amt_wsman::flow::redirection::{
    RedirectionError, SessionType, Wanted, enable_redirection, terminate_session,
};
use amt_wsman::{Blame, Explain, TransportError};
use support::{answer, begun, device, element, fault, instance, lost, page, returned, run, silent};

type Answer = Result<String, TransportError>;

#[test]
fn listings_follow_the_latest_context_to_their_end() {
    let item = |name: &str| element("CIM_SoftwareIdentity", &[("InstanceID", name)]);
    let mut device = device([
        ("Enumerate CIM_SoftwareIdentity", begun("1")),
        (
            "Pull CIM_SoftwareIdentity",
            page(&(item("AMT") + &item("Sku")), Some("2"), false),
        ),
        // Without a context the last one goes on; without items as well.
        ("Pull CIM_SoftwareIdentity", page("", None, false)),
        (
            "Pull CIM_SoftwareIdentity",
            page(&item("Flash"), Some("3"), true),
        ),
    ]);
    let found = run(device.enumerate(SOFTWARE_IDENTITY)).unwrap();
    let names: Vec<_> = found
        .iter()
        .map(|item| item.text("InstanceID").unwrap())
        .collect();
    assert_eq!(names, ["AMT", "Sku", "Flash"]);
    let sent = &device.transport().sent;
    for (request, context) in [(1, "1"), (2, "2"), (3, "2")] {
        assert!(sent[request].contains(&format!(
            "<n:EnumerationContext>{context}</n:EnumerationContext>"
        )));
    }
    device.transport().is_over();
}

#[test]
fn a_listing_that_never_ends_is_given_up() {
    struct Endless;
    impl amt_wsman::Transport for Endless {
        async fn post(&mut self, request: &amt_wsman::Request) -> Answer {
            if request.body.contains("/Enumerate<") {
                begun("1")
            } else {
                page("", Some("1"), false)
            }
        }
        async fn pause(&mut self, _: Duration) {}
        fn server(&self) -> Option<&str> {
            None
        }
    }
    let mut device = amt_wsman::Device::new(Endless);
    let error = run(device.enumerate(SOFTWARE_IDENTITY)).unwrap_err();
    assert_eq!(error.cause, Cause::Endless);
}

#[test]
fn a_listing_cut_in_the_middle_starts_again_once() {
    let item = element("CIM_PhysicalMemory", &[("BankLabel", "BANK 0")]);
    let mut device = device([
        ("Enumerate CIM_PhysicalMemory", begun("1")),
        ("Pull CIM_PhysicalMemory", page(&item, None, false)),
        ("Pull CIM_PhysicalMemory", lost()),
        ("Enumerate CIM_PhysicalMemory", begun("7")),
        ("Pull CIM_PhysicalMemory", page(&item, None, true)),
    ]);
    assert_eq!(run(device.enumerate(PHYSICAL_MEMORY)).unwrap().len(), 1);
    device.transport().is_over();
}

#[test]
fn a_busy_device_is_asked_again_but_not_for_ever() {
    let busy = || fault("QuotaLimit");
    let general = "Get AMT_GeneralSettings";
    let mut device = device([
        (general, busy()),
        (
            general,
            instance("AMT_GeneralSettings", &[("HostName", "pc7")]),
        ),
        (general, busy()),
        (general, busy()),
        (general, busy()),
        (general, busy()),
    ]);
    let target = amt_wsman::class::GENERAL_SETTINGS.into();
    assert_eq!(
        run(device.get(target)).unwrap().text("HostName"),
        Some("pc7")
    );
    let error = run(device.get(target)).unwrap_err();
    assert_eq!(
        error.cause.to_string(),
        "the device is busy with other requests; it says: No."
    );
    assert_eq!(device.transport().pauses, [Duration::from_secs(1); 4]);
    device.transport().is_over();
}

fn redirection(state: &str, listener: &str) -> Answer {
    instance(
        "AMT_RedirectionService",
        &[
            ("AccessLog", "11/22/2026, 04:12:00, 10.0.0.1:1234"),
            ("AccessLog", "11/22/2026, 04:13:00, 10.0.0.1:1235"),
            ("CreationClassName", "AMT_RedirectionService"),
            ("ElementName", "Intel(r) AMT Redirection Service"),
            ("EnabledState", state),
            ("ListenerEnabled", listener),
            ("Name", "Intel(r) AMT Redirection Service"),
            ("SystemCreationClassName", "CIM_ComputerSystem"),
            ("SystemName", "Intel(r) AMT"),
        ],
    )
}

const STORAGE: Wanted = Wanted {
    storage: true,
    serial: false,
};

#[test]
fn redirection_that_is_on_is_left_alone() {
    let mut device = device([("Get AMT_RedirectionService", redirection("32771", "true"))]);
    run(enable_redirection(&mut device, STORAGE, &mut silent())).unwrap();
    device.transport().is_over();
}

#[test]
fn switching_on_keeps_what_others_switched_on_and_opens_the_port() {
    let mut device = device([
        ("Get AMT_RedirectionService", redirection("32770", "false")),
        ("AMT_RedirectionService.RequestStateChange", returned(0)),
        ("Put AMT_RedirectionService", redirection("32771", "true")),
        ("Get AMT_RedirectionService", redirection("32771", "true")),
    ]);
    let service = run(enable_redirection(&mut device, STORAGE, &mut silent())).unwrap();
    assert!(service.storage && service.serial && service.listener);
    let sent = &device.transport().sent;
    assert!(sent[1].contains("<h:RequestedState>32771</h:RequestedState>"));
    assert!(sent[2].contains(
        "<h:CreationClassName>AMT_RedirectionService</h:CreationClassName>\
         <h:ElementName>Intel(r) AMT Redirection Service</h:ElementName><h:EnabledState>32771</h:EnabledState>\
         <h:ListenerEnabled>true</h:ListenerEnabled>"
    ));
    assert!(!sent[2].contains("AccessLog"));
}

#[test]
fn redirection_forbidden_by_the_bios_is_told_as_such() {
    let mut device = device([
        ("Get AMT_RedirectionService", redirection("32768", "true")),
        ("AMT_RedirectionService.RequestStateChange", returned(0)),
        ("Get AMT_RedirectionService", redirection("32768", "true")),
    ]);
    let error = run(enable_redirection(&mut device, STORAGE, &mut silent())).unwrap_err();
    assert_eq!(
        error,
        RedirectionError::DoesNotStay {
            what: "storage redirection"
        }
    );
    assert!(error.cure().unwrap().contains("BIOS"));
}

#[test]
fn a_stuck_session_can_be_ended() {
    let method = "AMT_RedirectionService.TerminateSession";
    let mut device = device([(method, returned(0)), (method, returned(16))]);
    run(terminate_session(
        &mut device,
        SessionType::Serial,
        &mut silent(),
    ))
    .unwrap();
    assert!(device.transport().sent[0].contains("<h:SessionType>1</h:SessionType>"));
    let error = run(terminate_session(
        &mut device,
        SessionType::Storage,
        &mut silent(),
    ))
    .unwrap_err();
    assert_eq!(error.blame(), Blame::Refused);
}

fn opt_in(state: &str) -> Answer {
    instance(
        "IPS_OptInService",
        &[("OptInRequired", "4294967295"), ("OptInState", state)],
    )
}

#[test]
fn consent_is_asked_for_once() {
    let mut device = device([
        ("Get IPS_OptInService", opt_in("0")),
        ("IPS_OptInService.StartOptIn", returned(0)),
        ("Get IPS_OptInService", opt_in("2")),
        // Asked again, the code on the screen stays the one.
        ("Get IPS_OptInService", opt_in("2")),
    ]);
    for _ in 0..2 {
        let state = run(consent::start(&mut device, &mut silent())).unwrap();
        assert_eq!(state, ConsentState::Displayed);
    }
    device.transport().is_over();
}

#[test]
fn failures_to_ask_are_told_apart() {
    let start = |value, states: [&'static str; 2]| {
        let mut device = device([
            ("Get IPS_OptInService", opt_in(states[0])),
            ("IPS_OptInService.StartOptIn", returned(value)),
            ("Get IPS_OptInService", opt_in(states[1])),
        ]);
        run(consent::start(&mut device, &mut silent()))
    };
    assert_eq!(start(3, ["0", "0"]), Err(ConsentError::Blocked));
    assert_eq!(start(1, ["0", "0"]), Err(ConsentError::Failed { value: 1 }));
    assert_eq!(start(2, ["0", "1"]), Ok(ConsentState::Requested));
    assert_eq!(
        start(2, ["0", "0"]),
        Err(ConsentError::NotNow {
            state: ConsentState::NotStarted
        })
    );
    let mut old = device([("Get IPS_OptInService", fault("DestinationUnreachable"))]);
    assert_eq!(
        run(consent::start(&mut old, &mut silent())),
        Err(ConsentError::Absent)
    );
}

#[test]
fn wrong_expired_and_blocked_codes_are_told_apart() {
    let send = |value, after: &'static str| {
        let mut device = device([
            ("IPS_OptInService.SendOptInCode", returned(value)),
            ("Get IPS_OptInService", opt_in(after)),
        ]);
        let code = "012345".parse().unwrap();
        let result = run(consent::send_code(&mut device, code, &mut silent()));
        assert!(device.transport().sent[0].contains("<h:OptInCode>12345</h:OptInCode>"));
        result
    };
    assert_eq!(send(0, "3"), Ok(ConsentState::Received));
    assert_eq!(send(2, "2"), Err(ConsentError::WrongCode));
    assert_eq!(send(1, "2"), Err(ConsentError::WrongCode));
    assert_eq!(send(2, "0"), Err(ConsentError::Ended));
    assert_eq!(send(3, "0"), Err(ConsentError::Blocked));
    for error in [
        ConsentError::WrongCode,
        ConsentError::Ended,
        ConsentError::Blocked,
    ] {
        assert_eq!(error.blame(), Blame::Refused);
        assert!(error.cure().is_some());
    }
}

#[test]
fn cancelling_nothing_is_nothing() {
    let mut device = device([
        ("Get IPS_OptInService", opt_in("0")),
        ("Get IPS_OptInService", opt_in("4")),
        ("IPS_OptInService.CancelOptIn", returned(0)),
        ("Get IPS_OptInService", opt_in("0")),
    ]);
    run(consent::cancel(&mut device, &mut silent())).unwrap();
    run(consent::cancel(&mut device, &mut silent())).unwrap();
    device.transport().is_over();
}

fn state(state: &str) -> Answer {
    let states = ["10", "8", "5"].map(|state| ("AvailableRequestedPowerStates", state));
    let properties = [&states[..], &[("PowerState", state)]].concat();
    instance("CIM_AssociatedPowerManagementService", &properties)
}

const READ: &str = "Get CIM_AssociatedPowerManagementService";
const CHANGE: &str = "CIM_PowerManagementService.RequestPowerStateChange";
const STANDBY: &str = "Get IPS_PowerManagementService";

#[test]
fn a_pc_that_is_on_is_reset_and_one_that_is_off_switched_on() {
    let mut on = device([
        (READ, state("2")),
        (STANDBY, fault("DestinationUnreachable")),
        (CHANGE, returned(0)),
    ]);
    let outcome = run(power(&mut on, PowerAction::Restart, &mut silent())).unwrap();
    assert_eq!(outcome.answer, PowerAnswer::Accepted);
    assert!(on.transport().sent[2].contains("<h:PowerState>10</h:PowerState>"));

    let mut off = device([(READ, state("8")), (CHANGE, returned(4096))]);
    let outcome = run(power(&mut off, PowerAction::Restart, &mut silent())).unwrap();
    assert_eq!(outcome.plan.change, Some(PowerChange::On));
    assert_eq!(outcome.before, PowerState::Off);
    off.transport().is_over();
}

#[test]
fn a_lost_answer_to_a_power_request_is_looked_into_not_repeated() {
    let mut device = device([
        (READ, state("2")),
        (STANDBY, fault("DestinationUnreachable")),
        (CHANGE, lost()),
        (READ, lost()),
        (READ, state("2")),
    ]);
    let outcome = run(power(&mut device, PowerAction::Restart, &mut silent())).unwrap();
    assert_eq!(
        outcome.answer,
        PowerAnswer::Lost {
            state: Some(PowerState::On)
        }
    );
    assert_eq!(device.transport().pauses, [Duration::from_secs(10); 2]);
    device.transport().is_over();
}

#[test]
fn a_refused_connection_at_a_power_request_is_an_error() {
    let refused = TransportError::Refused {
        peer: "pc:16992".into(),
    };
    let mut device = device([(READ, state("8")), (CHANGE, Err(refused.clone()))]);
    let error = run(power(&mut device, PowerAction::On, &mut silent())).unwrap_err();
    let PowerError::Device(error) = error else {
        panic!("{error:?}")
    };
    assert_eq!(error.cause, Cause::Transport(refused));
    assert_eq!(error.blame(), Blame::Unreachable);
}

#[test]
fn a_pc_in_modern_standby_is_woken_before_its_reset() {
    let mut device = device([
        (READ, state("2")),
        (
            STANDBY,
            instance("IPS_PowerManagementService", &[("OSPowerSavingState", "3")]),
        ),
        (
            "IPS_PowerManagementService.RequestOSPowerSavingStateChange",
            returned(0),
        ),
        (CHANGE, returned(0)),
    ]);
    run(power(&mut device, PowerAction::Restart, &mut silent())).unwrap();
    assert!(device.transport().sent[2].contains("<h:OSPowerSavingState>2</h:OSPowerSavingState>"));
    device.transport().is_over();
}

#[test]
fn a_refused_power_change_says_why() {
    let mut device = device([(READ, state("8")), (CHANGE, returned(4097))]);
    let error = run(power(&mut device, PowerAction::On, &mut silent())).unwrap_err();
    let PowerError::Device(error) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        error.cause.to_string(),
        "not possible from the state the PC is in"
    );
    assert_eq!(
        error.to_string(),
        "calling CIM_PowerManagementService.RequestPowerStateChange"
    );
}

#[test]
fn a_pc_that_is_not_provisioned_is_told_as_such() {
    let class = "AMT_SetupAndConfigurationService";
    let get = "Get AMT_SetupAndConfigurationService";
    let with = |state| {
        let properties = [("ProvisioningMode", "1"), ("ProvisioningState", state)];
        let mut device = device([(get, instance(class, &properties))]);
        run(require_provisioned(&mut device))
    };
    assert_eq!(with("2"), Ok(()));
    assert_eq!(with("0"), Err(ProvisioningError::NotProvisioned));
    assert_eq!(with("1"), Err(ProvisioningError::NotProvisioned));
    let mut guest = device([(get, fault("AccessDenied"))]);
    assert_eq!(run(require_provisioned(&mut guest)), Ok(()));
}

#[test]
fn inventory_takes_what_there_is() {
    let absent = || fault("DestinationUnreachable");
    let chip = element(
        "CIM_Chip",
        &[
            ("Tag", "CPU 0"),
            ("Version", "Intel(R) Core(TM) i7-9850H CPU @ 2.60GHz"),
        ],
    );
    let memory = element(
        "CIM_PhysicalMemory",
        &[
            ("BankLabel", "BANK 0"),
            ("Capacity", "17179869184"),
            ("MemoryType", "26"),
        ],
    );
    let bios = "<g:CIM_BIOSElement xmlns:g=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_BIOSElement\" \
                xmlns:h=\"http://schemas.dmtf.org/wbem/wscim/1/common\"><g:Manufacturer>Intel Corp.</g:Manufacturer>\
                <g:ReleaseDate><h:Datetime>2020-08-10T00:00:00Z</h:Datetime></g:ReleaseDate>\
                <g:Version>QNCFLX70.0054.2020.0810.2227</g:Version></g:CIM_BIOSElement>";
    let mut device = device([
        (READ, state("2")),
        (
            "Get AMT_SetupAndConfigurationService",
            fault("AccessDenied"),
        ),
        ("Get IPS_OptInService", absent()),
        (
            "Get AMT_SetupAndConfigurationService",
            fault("AccessDenied"),
        ),
        ("Get AMT_RedirectionService", redirection("32769", "true")),
        ("Get CIM_KVMRedirectionSAP", absent()),
        (
            "Get AMT_BootCapabilities",
            instance(
                "AMT_BootCapabilities",
                &[("IDER", "true"), ("SOL", "false")],
            ),
        ),
        (
            "Get AMT_GeneralSettings",
            instance(
                "AMT_GeneralSettings",
                &[("HostName", "pc7"), ("DomainName", "")],
            ),
        ),
        (
            "Get CIM_Chassis",
            instance(
                "CIM_Chassis",
                &[("Model", "NUC9V7QNX"), ("SerialNumber", "JRQN0243007J")],
            ),
        ),
        ("Get CIM_Card", absent()),
        ("Get CIM_BIOSElement", answer(bios)),
        (
            "Get CIM_ComputerSystemPackage",
            instance(
                "CIM_ComputerSystemPackage",
                &[("PlatformGUID", "13AEE355D2BFBB6117A088AEDD7037EA")],
            ),
        ),
        ("Enumerate CIM_Processor", begun("1")),
        (
            "Pull CIM_Processor",
            page(
                &element(
                    "CIM_Processor",
                    &[("DeviceID", "CPU 0"), ("CurrentClockSpeed", "2400")],
                ),
                None,
                true,
            ),
        ),
        ("Enumerate CIM_Chip", begun("2")),
        // Memory modules are chips too, and come on a page of their own.
        ("Pull CIM_Chip", page(&chip, Some("3"), false)),
        ("Pull CIM_Chip", page(&memory, None, true)),
        ("Enumerate CIM_PhysicalMemory", begun("4")),
        ("Pull CIM_PhysicalMemory", page(&memory, None, true)),
        ("Enumerate CIM_MediaAccessDevice", begun("5")),
        (
            "Pull CIM_MediaAccessDevice",
            page(
                &element(
                    "CIM_MediaAccessDevice",
                    &[("DeviceID", "MEDIA DEV 0"), ("MaxMediaSize", "960197124")],
                ),
                None,
                true,
            ),
        ),
        ("Enumerate AMT_EthernetPortSettings", begun("6")),
        (
            "Pull AMT_EthernetPortSettings",
            page(
                &element(
                    "AMT_EthernetPortSettings",
                    &[
                        ("InstanceID", "Intel(r) AMT Ethernet Port Settings 0"),
                        ("LinkIsUp", "true"),
                        ("MACAddress", "00-be-43-d8-22-a4"),
                    ],
                ),
                None,
                true,
            ),
        ),
        ("Enumerate CIM_SoftwareIdentity", absent()),
    ]);
    let info = run(info(&mut device, &mut silent())).unwrap();
    device.transport().is_over();
    assert_eq!(info.version.unwrap().to_string(), "12.0.67.1579");
    assert_eq!(info.power, Some(PowerState::On));
    assert_eq!(info.control_mode, None);
    assert_eq!(info.denied, ["reading AMT_SetupAndConfigurationService"]);
    assert_eq!(info.boot_capabilities.unwrap(), ["IDER"]);
    assert_eq!(info.uuid.unwrap(), "55e3ae13-bfd2-61bb-17a0-88aedd7037ea");
    assert_eq!(info.names.unwrap().domain_name, None);
    let hardware = info.hardware;
    assert_eq!(hardware.board, None);
    assert_eq!(
        hardware.bios.unwrap().release_date.unwrap(),
        "2020-08-10T00:00:00Z"
    );
    let [processor] = hardware.processors.as_slice() else {
        panic!("{:?}", hardware.processors)
    };
    assert_eq!(
        processor.name.as_deref(),
        Some("Intel(R) Core(TM) i7-9850H CPU @ 2.60GHz")
    );
    assert_eq!(hardware.memory[0].kind, Some("DDR4"));
    assert_eq!(hardware.disks[0].bytes, Some(960_197_124_000));
    assert_eq!(info.network[0].wireless, Some(false));
}

#[test]
fn inventory_of_a_device_that_vanishes_is_an_error() {
    let mut device = device([
        (READ, state("2")),
        ("Get AMT_SetupAndConfigurationService", lost()),
    ]);
    let error = run(info(&mut device, &mut silent())).unwrap_err();
    assert_eq!(error.blame(), Blame::Unreachable);
}
