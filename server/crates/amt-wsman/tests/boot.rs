//! Arming and disarming the next boot: which calls, in which order, with which values, and what is left after a failure.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use amt_wsman::device::Cause;
use amt_wsman::fault::FaultCode;
use amt_wsman::flow::boot::{BootError, BootOptions, BootTarget, arm_boot, disarm};
use amt_wsman::status::BootStatus;
use amt_wsman::{Blame, Explain, Step, TransportError};
use support::{device, device_of, fault, instance, lost, returned, run, silent};

const CAPABILITIES: &str = "AMT_BootCapabilities";
const SETTINGS: &str = "AMT_BootSettingData";

type Answer = Result<String, TransportError>;

fn capable() -> Answer {
    instance(
        CAPABILITIES,
        &[
            ("BIOSSetup", "true"),
            ("ForceCDorDVDBoot", "true"),
            ("ForcePXEBoot", "true"),
            ("ForcedProgressEvents", "true"),
            ("IDER", "true"),
            ("SOL", "true"),
        ],
    )
}

/// The options that a test looks at, as `Get` gives them.
fn settings(changed: &[(&str, &str)]) -> Answer {
    let mut properties = [
        ("BIOSLastStatus", "0"),
        ("BIOSLastStatus", "0"),
        ("BIOSPause", "false"),
        ("BIOSSetup", "false"),
        ("BootMediaIndex", "0"),
        ("BootguardStatus", "127"),
        ("ConfigurationDataReset", "false"),
        ("ElementName", "Intel(r) AMT Boot Configuration Settings"),
        ("EnforceSecureBoot", "true"),
        ("FirmwareVerbosity", "0"),
        ("ForcedProgressEvents", "false"),
        ("IDERBootDevice", "0"),
        ("InstanceID", "Intel(r) AMT:BootSettingData 0"),
        ("LockKeyboard", "false"),
        ("OptionsCleared", "true"),
        ("OwningEntity", "Intel(r) AMT"),
        ("ReflashBIOS", "false"),
        ("UseIDER", "false"),
        ("UseSOL", "false"),
        ("UseSafeMode", "false"),
        ("UserPasswordBypass", "false"),
    ];
    for (name, value) in changed {
        for property in &mut properties {
            if property.0 == *name {
                property.1 = value;
            }
        }
    }
    instance(SETTINGS, &properties)
}

const ON_CD: &[(&str, &str)] = &[
    ("UseIDER", "true"),
    ("IDERBootDevice", "1"),
    ("ForcedProgressEvents", "true"),
];

#[test]
fn redirected_cd_is_armed_in_the_order_that_works() {
    let mut device = device([
        ("Get AMT_BootCapabilities", capable()),
        ("CIM_BootConfigSetting.ChangeBootOrder", returned(0)),
        // A choice left by another console goes away with this one.
        (
            "Get AMT_BootSettingData",
            settings(&[("BIOSSetup", "true"), ("LockKeyboard", "true")]),
        ),
        ("Put AMT_BootSettingData", settings(ON_CD)),
        ("CIM_BootService.SetBootConfigRole", returned(0)),
        ("CIM_BootConfigSetting.ChangeBootOrder", returned(0)),
        ("Get AMT_BootSettingData", settings(ON_CD)),
    ]);
    let mut steps = Vec::new();
    let armed = run(arm_boot(
        &mut device,
        BootTarget::IderCd,
        &BootOptions::default(),
        &mut |step| steps.push(step),
    ))
    .unwrap();
    assert!(armed.progress_events);
    assert_eq!(armed.settings.option("UseIDER"), Some("true"));
    assert_eq!(
        steps,
        [
            Step::ReadCapabilities,
            Step::ClearBootSource,
            Step::ReadBootOptions,
            Step::WriteBootOptions,
            Step::SelectBootConfiguration,
            Step::ChooseBootSource,
            Step::CheckBootOptions,
        ]
    );
    let sent = &device.transport().sent;
    assert!(sent[1].contains("ChangeBootOrder_INPUT") && !sent[1].contains("Source"));
    let put = &sent[3];
    for present in [
        "<h:BIOSPause>false</h:BIOSPause><h:BIOSSetup>false</h:BIOSSetup><h:BootMediaIndex>0</h:BootMediaIndex>",
        "<h:EnforceSecureBoot>true</h:EnforceSecureBoot>",
        "<h:ForcedProgressEvents>true</h:ForcedProgressEvents><h:IDERBootDevice>1</h:IDERBootDevice>",
        "<h:InstanceID>Intel(r) AMT:BootSettingData 0</h:InstanceID><h:LockKeyboard>false</h:LockKeyboard>",
        "<h:UseIDER>true</h:UseIDER><h:UseSOL>false</h:UseSOL>",
    ] {
        assert!(put.contains(present), "{present} in {put}");
    }
    for absent in [
        "BIOSLastStatus",
        "OptionsCleared",
        "BootguardStatus",
        "PlatformErase",
        "SecureErase",
    ] {
        assert!(!put.contains(absent), "{absent} in {put}");
    }
    assert!(sent[4].contains("<h:Role>1</h:Role>"));
    assert!(sent[5].contains("ChangeBootOrder_INPUT") && !sent[5].contains("Source"));
    device.transport().is_over();
}

#[test]
fn other_targets_differ_in_options_and_source() {
    for (target, options, source) in [
        (
            BootTarget::IderFloppy,
            [("UseIDER", "true"), ("IDERBootDevice", "0")],
            None,
        ),
        (
            BootTarget::BiosSetup,
            [("BIOSSetup", "true"), ("UseIDER", "false")],
            None,
        ),
        (
            BootTarget::Pxe,
            [("UseIDER", "false"), ("BIOSSetup", "false")],
            Some("<w:Selector Name=\"InstanceID\">Intel(r) AMT: Force PXE Boot</w:Selector>"),
        ),
        (
            BootTarget::Cd,
            [("UseIDER", "false"), ("BIOSSetup", "false")],
            Some("<w:Selector Name=\"InstanceID\">Intel(r) AMT: Force CD/DVD Boot</w:Selector>"),
        ),
    ] {
        let after = [
            &options[..],
            &[("UseSOL", "true"), ("ForcedProgressEvents", "true")],
        ]
        .concat();
        let mut device = device([
            ("Get AMT_BootCapabilities", capable()),
            ("CIM_BootConfigSetting.ChangeBootOrder", returned(0)),
            ("Get AMT_BootSettingData", settings(&[])),
            ("Put AMT_BootSettingData", settings(&after)),
            ("CIM_BootService.SetBootConfigRole", returned(0)),
            ("CIM_BootConfigSetting.ChangeBootOrder", returned(0)),
            ("Get AMT_BootSettingData", settings(&after)),
        ]);
        let wishes = BootOptions {
            serial: true,
            secure_boot: None,
        };
        run(arm_boot(&mut device, target, &wishes, &mut silent())).unwrap();
        let sent = &device.transport().sent;
        for (name, value) in after {
            assert!(
                sent[3].contains(&format!("<h:{name}>{value}</h:{name}>")),
                "{target}: {name}"
            );
        }
        assert_eq!(source.is_some(), sent[5].contains("Source"), "{target}");
        assert!(sent[5].contains(source.unwrap_or_default()), "{target}");
    }
}

#[test]
fn a_pc_that_cannot_is_left_alone() {
    let mut device = device([(
        "Get AMT_BootCapabilities",
        instance(CAPABILITIES, &[("IDER", "false"), ("SOL", "true")]),
    )]);
    let options = BootOptions::default();
    let error = run(arm_boot(
        &mut device,
        BootTarget::IderCd,
        &options,
        &mut silent(),
    ))
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "this PC cannot be made to boot from redirected CD (IDER is not among its capabilities)"
    );
    assert!(error.cure().is_some());
    device.transport().is_over();
}

#[test]
fn denied_for_want_of_consent_says_so_and_leaves_nothing_behind() {
    let mut device = device([
        ("Get AMT_BootCapabilities", capable()),
        (
            "CIM_BootConfigSetting.ChangeBootOrder",
            fault("AccessDenied"),
        ),
        // Setting back is denied as well, which is fine as long as nothing is set.
        (
            "CIM_BootConfigSetting.ChangeBootOrder",
            fault("AccessDenied"),
        ),
        ("Get AMT_BootSettingData", settings(&[])),
        ("Put AMT_BootSettingData", fault("AccessDenied")),
        ("CIM_BootService.SetBootConfigRole", fault("AccessDenied")),
        ("Get AMT_BootSettingData", settings(&[])),
        (
            "Get IPS_OptInService",
            instance(
                "IPS_OptInService",
                &[("OptInRequired", "4294967295"), ("OptInState", "0")],
            ),
        ),
        (
            "Get AMT_SetupAndConfigurationService",
            instance(
                "AMT_SetupAndConfigurationService",
                &[("ProvisioningMode", "1")],
            ),
        ),
    ]);
    let options = BootOptions::default();
    let error = run(arm_boot(
        &mut device,
        BootTarget::IderCd,
        &options,
        &mut silent(),
    ))
    .unwrap_err();
    assert_eq!(error, BootError::ConsentNeeded);
    assert_eq!(error.blame(), Blame::Refused);
    device.transport().is_over();
}

#[test]
fn denied_for_want_of_a_right_stays_what_it_is() {
    let mut device = device([
        ("Get AMT_BootCapabilities", capable()),
        ("CIM_BootConfigSetting.ChangeBootOrder", returned(6)),
        ("CIM_BootConfigSetting.ChangeBootOrder", returned(6)),
        ("Get AMT_BootSettingData", settings(&[])),
        ("Put AMT_BootSettingData", settings(&[])),
        ("CIM_BootService.SetBootConfigRole", returned(0)),
        ("Get AMT_BootSettingData", settings(&[])),
        ("Get IPS_OptInService", fault("DestinationUnreachable")),
        (
            "Get AMT_SetupAndConfigurationService",
            fault("AccessDenied"),
        ),
    ]);
    let options = BootOptions::default();
    let error = run(arm_boot(
        &mut device,
        BootTarget::Pxe,
        &options,
        &mut silent(),
    ))
    .unwrap_err();
    let BootError::Device(denied) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(denied.cause, Cause::Boot(BootStatus::AccessDenied));
    assert!(error.cure().unwrap().contains("realms"));
}

#[test]
fn an_option_that_does_not_stay_is_named_and_everything_set_back() {
    let mut device = device([
        ("Get AMT_BootCapabilities", capable()),
        ("CIM_BootConfigSetting.ChangeBootOrder", returned(0)),
        ("Get AMT_BootSettingData", settings(&[])),
        ("Put AMT_BootSettingData", settings(ON_CD)),
        ("CIM_BootService.SetBootConfigRole", returned(0)),
        ("CIM_BootConfigSetting.ChangeBootOrder", returned(0)),
        (
            "Get AMT_BootSettingData",
            settings(&[("ForcedProgressEvents", "true"), ("IDERBootDevice", "1")]),
        ),
        ("CIM_BootConfigSetting.ChangeBootOrder", returned(0)),
        (
            "Get AMT_BootSettingData",
            settings(&[("ForcedProgressEvents", "true"), ("IDERBootDevice", "1")]),
        ),
        ("Put AMT_BootSettingData", settings(&[])),
        ("CIM_BootService.SetBootConfigRole", returned(0)),
    ]);
    let options = BootOptions::default();
    let error = run(arm_boot(
        &mut device,
        BootTarget::IderCd,
        &options,
        &mut silent(),
    ))
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "boot option UseIDER was set to \"true\", but reads \"false\""
    );
    device.transport().is_over();
}

#[test]
fn a_device_that_vanishes_half_way_is_told_as_armed_perhaps() {
    let mut device = device([
        ("Get AMT_BootCapabilities", capable()),
        ("CIM_BootConfigSetting.ChangeBootOrder", returned(0)),
        ("Get AMT_BootSettingData", settings(&[])),
        ("Put AMT_BootSettingData", settings(ON_CD)),
        ("CIM_BootService.SetBootConfigRole", lost()),
        ("CIM_BootConfigSetting.ChangeBootOrder", lost()),
    ]);
    let options = BootOptions::default();
    let error = run(arm_boot(
        &mut device,
        BootTarget::IderCd,
        &options,
        &mut silent(),
    ))
    .unwrap_err();
    assert!(matches!(error, BootError::LeftBehind { .. }), "{error:?}");
    assert_eq!(error.blame(), Blame::Unreachable);
    assert!(error.cure().unwrap().contains("pc bios HOST --clear"));
    device.transport().is_over();
}

#[test]
fn disarming_clears_source_options_and_role() {
    let mut device = device([
        ("CIM_BootConfigSetting.ChangeBootOrder", returned(0)),
        ("Get AMT_BootSettingData", settings(ON_CD)),
        ("Put AMT_BootSettingData", settings(&[])),
        ("CIM_BootService.SetBootConfigRole", returned(0)),
    ]);
    run(disarm(&mut device, &mut silent())).unwrap();
    let sent = &device.transport().sent;
    assert!(sent[2].contains("<h:UseIDER>false</h:UseIDER>"));
    assert!(sent[2].contains("<h:ForcedProgressEvents>false</h:ForcedProgressEvents>"));
    assert!(sent[3].contains("<h:Role>32768</h:Role>"));
}

#[test]
fn disarming_fails_only_when_something_is_left() {
    let refused = |after: &[(&str, &str)]| {
        let mut device = device([
            ("CIM_BootConfigSetting.ChangeBootOrder", returned(0)),
            ("Get AMT_BootSettingData", settings(after)),
            ("Put AMT_BootSettingData", fault("AccessDenied")),
            ("CIM_BootService.SetBootConfigRole", returned(2)),
            ("Get AMT_BootSettingData", settings(after)),
        ]);
        let result = run(disarm(&mut device, &mut silent()));
        device.transport().is_over();
        result
    };
    assert_eq!(refused(&[]), Ok(()));
    let error = refused(ON_CD).unwrap_err();
    assert_eq!(error.fault(), Some(&FaultCode::AccessDenied));
    assert_eq!(error.to_string(), "writing AMT_BootSettingData");
}

#[test]
fn firmware_before_amt_7_is_not_asked_for_a_role_it_does_not_know() {
    let mut device = device_of(
        "Intel(R) Active Management Technology 6.2.61.3535",
        [
            ("CIM_BootConfigSetting.ChangeBootOrder", returned(0)),
            ("Get AMT_BootSettingData", settings(&[])),
            ("Put AMT_BootSettingData", settings(&[])),
        ],
    );
    run(disarm(&mut device, &mut silent())).unwrap();
    device.transport().is_over();
}
