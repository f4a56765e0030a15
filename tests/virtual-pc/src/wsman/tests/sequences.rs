//! The sequences that consoles go through: consent, IDE-R boot, power (reference sections 2.2 to 2.6).

use super::*;
use crate::firmware::{BootPlan, IderDevice, SessionKind};

pub(super) const ROLE_PARAMETERS: &str = "<BootConfigSetting>\
     <a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing</a:Address>\
     <a:ReferenceParameters><w:ResourceURI>http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_BootConfigSetting</w:ResourceURI>\
     <w:SelectorSet><w:Selector Name=\"InstanceID\">Intel(r) AMT: Boot Configuration 0</w:Selector></w:SelectorSet>\
     </a:ReferenceParameters></BootConfigSetting><Role>1</Role>";

fn source(id: &str) -> String {
    format!(
        "<Source><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address>\
         <a:ReferenceParameters><w:ResourceURI>http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_BootSourceSetting</w:ResourceURI>\
         <w:SelectorSet><w:Selector w:Name=\"InstanceID\">{id}</w:Selector></w:SelectorSet></a:ReferenceParameters></Source>"
    )
}

fn power(code: u32) -> String {
    format!(
        "<PowerState>{code}</PowerState><ManagedElement><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing</a:Address>\
         <a:ReferenceParameters><w:ResourceURI>http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ComputerSystem</w:ResourceURI>\
         <w:SelectorSet><w:Selector Name=\"CreationClassName\">CIM_ComputerSystem</w:Selector><w:Selector Name=\"Name\">ManagedSystem</w:Selector>\
         </w:SelectorSet></a:ReferenceParameters></ManagedElement>"
    )
}

/// Gets the settings, changes some, and puts everything back, read-only elements included, as some consoles do.
pub(super) fn put_boot_settings(bench: &mut Bench, changes: &[(&str, &str)]) -> Answer {
    let got = bench.get("AMT_BootSettingData");
    let document = roxmltree::Document::parse(&got.envelope).unwrap();
    let object = document
        .descendants()
        .find(|node| node.tag_name().name() == "AMT_BootSettingData")
        .unwrap();
    let mut elements = String::new();
    for property in object.children() {
        let name = property.tag_name().name();
        let changed = changes
            .iter()
            .find(|(changed, _)| *changed == name)
            .map(|(_, value)| *value);
        let value = changed.unwrap_or(property.text().unwrap_or_default());
        elements.push_str(&format!("<p:{name}>{value}</p:{name}>"));
    }
    bench.put("AMT_BootSettingData", &elements)
}

fn plan(bench: &Bench) -> Option<BootPlan> {
    match bench.actions().last() {
        Some(Action::Reset { boot, .. } | Action::PowerOn(boot)) => Some(boot.plan),
        _ => None,
    }
}

#[test]
fn ider_boot_in_the_order_that_works() {
    let mut bench = Bench::new(|_| {});
    assert_eq!(value(&bench.get("AMT_BootCapabilities"), "IDER"), "true");
    bench
        .firmware
        .with(|firmware| firmware.begin_session(bench.now, SessionKind::Ider, "peer"))
        .unwrap();
    assert_eq!(
        bench.returns("CIM_BootConfigSetting", "ChangeBootOrder", ""),
        "0"
    );
    let answer = put_boot_settings(&mut bench, &[("UseIDER", "true"), ("IDERBootDevice", "1")]);
    assert_eq!(value(&answer, "UseIDER"), "true");
    assert_eq!(
        bench.returns("CIM_BootService", "SetBootConfigRole", ROLE_PARAMETERS),
        "0"
    );
    assert_eq!(
        bench.returns("CIM_BootConfigSetting", "ChangeBootOrder", ""),
        "0"
    );
    let answer = bench.invoke(
        "CIM_PowerManagementService",
        "RequestPowerStateChange",
        &power(10),
    );
    assert_eq!(value(&answer, "ReturnValue"), "0");
    assert!(answer.power_changed);
    assert_eq!(plan(&bench), Some(BootPlan::UseIder(IderDevice::Cd)));
    let after = bench.get("AMT_BootSettingData");
    assert_eq!(value(&after, "OptionsCleared"), "true");
    assert_eq!(value(&after, "UseIDER"), "false");
}

#[test]
fn pxe_once_as_old_clients_do_it() {
    let mut bench = Bench::new(|_| {});
    assert_eq!(
        bench.returns(
            "CIM_BootConfigSetting",
            "ChangeBootOrder",
            &source("Intel(r) AMT: Force PXE Boot")
        ),
        "0"
    );
    assert_eq!(
        bench.returns("CIM_BootService", "SetBootConfigRole", ROLE_PARAMETERS),
        "0"
    );
    assert_eq!(
        bench.returns(
            "CIM_PowerManagementService",
            "RequestPowerStateChange",
            &power(10)
        ),
        "0"
    );
    assert_eq!(plan(&bench), Some(BootPlan::Pxe));
}

#[test]
fn a_forced_source_makes_put_of_ider_an_invalid_representation() {
    let mut bench = Bench::new(|_| {});
    bench.returns(
        "CIM_BootConfigSetting",
        "ChangeBootOrder",
        &source("Intel(r) AMT: Force CD/DVD Boot"),
    );
    let answer = put_boot_settings(&mut bench, &[("UseIDER", "true")]);
    assert_eq!(subcode(&answer), "InvalidRepresentation");
    assert!(value(&answer, "FaultDetail").ends_with("/InvalidValues"));
    assert_eq!(value(&bench.get("AMT_BootSettingData"), "UseIDER"), "false");
}

#[test]
fn put_without_a_required_element_names_missing_values() {
    let mut bench = Bench::new(|_| {});
    let answer = bench.put("AMT_BootSettingData", "<p:UseIDER>true</p:UseIDER>");
    assert_eq!(subcode(&answer), "InvalidRepresentation");
    assert!(value(&answer, "FaultDetail").ends_with("/MissingValues"));
}

#[test]
fn unknown_sources_and_configurations_are_return_values() {
    let mut bench = Bench::new(|_| {});
    assert_eq!(
        bench.returns(
            "CIM_BootConfigSetting",
            "ChangeBootOrder",
            &source("Intel(r) AMT: Force Toast")
        ),
        "4"
    );
    let other = ROLE_PARAMETERS.replace("Configuration 0", "Configuration 1");
    assert_eq!(
        bench.returns("CIM_BootService", "SetBootConfigRole", &other),
        "5"
    );
    let other = power(10).replace("ManagedSystem", "Intel(r) AMT");
    assert_eq!(
        bench.returns(
            "CIM_PowerManagementService",
            "RequestPowerStateChange",
            &other
        ),
        "5"
    );
}

#[test]
fn consent_codes_are_asked_for_and_checked() {
    let mut bench = Bench::new(|config| config.control_mode = ControlMode::Client);
    assert_eq!(
        bench.returns(
            "IPS_OptInService",
            "SendOptInCode",
            "<OptInCode>1</OptInCode>"
        ),
        "2"
    );
    bench.consent();
    assert_eq!(value(&bench.get("IPS_OptInService"), "OptInState"), "3");
    assert!(matches!(
        bench.actions().as_slice(),
        [Action::ShowConsentCode(_), Action::HideConsentCode]
    ));
    assert_eq!(bench.returns("IPS_OptInService", "CancelOptIn", ""), "0");
    assert_eq!(value(&bench.get("IPS_OptInService"), "OptInState"), "0");
}

#[test]
fn the_consent_policy_is_changed_by_put() {
    let mut bench = Bench::new(|_| {});
    let answer = bench.put(
        "IPS_OptInService",
        "<p:OptInRequired>4294967295</p:OptInRequired>",
    );
    assert_eq!(value(&answer, "OptInRequired"), "4294967295");
    assert_eq!(
        subcode(&bench.put("IPS_OptInService", "<p:OptInRequired>2</p:OptInRequired>")),
        "InvalidRepresentation"
    );
    assert_eq!(
        subcode(&bench.invoke("CIM_BootConfigSetting", "ChangeBootOrder", "")),
        "AccessDenied"
    );
}

#[test]
fn power_refusals_are_return_values() {
    let mut bench = Bench::new(|_| {});
    let request = |bench: &mut Bench, code| {
        bench.returns(
            "CIM_PowerManagementService",
            "RequestPowerStateChange",
            &power(code),
        )
    };
    assert_eq!(request(&mut bench, 2), "4097");
    bench
        .firmware
        .with(|firmware| firmware.begin_session(bench.now, SessionKind::Sol, "peer"))
        .unwrap();
    assert_eq!(request(&mut bench, 8), "2");
    assert_eq!(request(&mut bench, 10), "0");
    let state = bench.get("CIM_AssociatedPowerManagementService");
    assert_eq!(
        values(&state, "AvailableRequestedPowerStates"),
        ["10", "8", "5", "11"]
    );
}
