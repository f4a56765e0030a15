//! Get, Put, Invoke, Identify: replies as real firmware words them (reference sections 1.5 and 1.6).

use super::*;

#[test]
fn a_reply_is_letter_for_letter_what_amt_would_send() {
    let mut bench = Bench::new(|_| {});
    let answer = bench.get("IPS_OptInService");
    let expected = [
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
        "<a:Envelope xmlns:a=\"http://www.w3.org/2003/05/soap-envelope\"",
        " xmlns:b=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\"",
        " xmlns:c=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\"",
        " xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/02/trust\"",
        " xmlns:e=\"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd\"",
        " xmlns:f=\"http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd\"",
        " xmlns:g=\"http://intel.com/wbem/wscim/1/ips-schema/1/IPS_OptInService\"",
        " xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">",
        "<a:Header>",
        "<b:To>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</b:To>",
        "<b:RelatesTo>1</b:RelatesTo>",
        "<b:Action a:mustUnderstand=\"true\">http://schemas.xmlsoap.org/ws/2004/09/transfer/GetResponse</b:Action>",
        "<b:MessageID>uuid:00000000-8086-8086-8086-000000000001</b:MessageID>",
        "<c:ResourceURI>http://intel.com/wbem/wscim/1/ips-schema/1/IPS_OptInService</c:ResourceURI>",
        "</a:Header>",
        "<a:Body>",
        "<g:IPS_OptInService>",
        "<g:CanModifyOptInPolicy>1</g:CanModifyOptInPolicy>",
        "<g:CreationClassName>IPS_OptInService</g:CreationClassName>",
        "<g:ElementName>Intel(r) AMT OptIn Service</g:ElementName>",
        "<g:Name>Intel(r) AMT OptIn Service</g:Name>",
        "<g:OptInCodeTimeout>120</g:OptInCodeTimeout>",
        "<g:OptInDisplayTimeout>300</g:OptInDisplayTimeout>",
        "<g:OptInRequired>0</g:OptInRequired>",
        "<g:OptInState>0</g:OptInState>",
        "<g:SystemCreationClassName>CIM_ComputerSystem</g:SystemCreationClassName>",
        "<g:SystemName>Intel(r) AMT</g:SystemName>",
        "</g:IPS_OptInService>",
        "</a:Body>",
        "</a:Envelope>",
    ];
    assert_eq!(answer.envelope, expected.concat());
    assert_eq!(answer.status, 200);
}

#[test]
fn all_classes_that_are_known_to_answer_get_without_selectors_do() {
    let names = [
        "CIM_ComputerSystemPackage",
        "CIM_Chassis",
        "CIM_Card",
        "CIM_BIOSElement",
        "CIM_Processor",
        "CIM_Chip",
        "CIM_AssociatedPowerManagementService",
        "AMT_GeneralSettings",
        "AMT_SetupAndConfigurationService",
        "AMT_RedirectionService",
        "AMT_BootSettingData",
        "AMT_BootCapabilities",
        "IPS_OptInService",
        "CIM_BootService",
        "AMT_AuthorizationService",
        "AMT_MessageLog",
        "CIM_BootConfigSetting",
        "CIM_KVMRedirectionSAP",
        "IPS_KVMRedirectionSettingData",
        "IPS_HostBasedSetupService",
    ];
    let mut bench = Bench::new(|_| {});
    for name in names {
        let answer = bench.get(name);
        assert_eq!(answer.status, 200, "{name}: {}", answer.envelope);
        let document = roxmltree::Document::parse(&answer.envelope).unwrap();
        let object = document
            .descendants()
            .find(|node| node.has_tag_name((uri(name).as_str(), name)))
            .unwrap();
        let properties: Vec<_> = object
            .children()
            .map(|child| child.tag_name().name())
            .collect();
        assert!(properties.is_sorted(), "{name}: {properties:?}");
        let loose = document
            .descendants()
            .any(|node| node.is_text() && node.text().unwrap().trim().is_empty());
        assert!(!loose, "{name}: whitespace between elements");
    }
}

#[test]
fn message_ids_count_and_relates_to_is_verbatim() {
    let mut bench = Bench::new(|_| {});
    bench.get("CIM_Chassis");
    let odd = envelope(0, GET, &uri("CIM_Chassis"), "", "").replace(">0<", ">uuid:A-b &amp; c<");
    let answer = bench
        .service
        .answer(bench.now, &bench.account, odd.as_bytes());
    assert_eq!(value(&answer, "RelatesTo"), "uuid:A-b & c");
    assert_eq!(
        value(&answer, "MessageID"),
        "uuid:00000000-8086-8086-8086-000000000002"
    );
}

#[test]
fn other_prefixes_and_whitespace_mean_the_same() {
    let bench = Bench::new(|_| {});
    let text = "<?xml version=\"1.0\"?>\n<q:Envelope xmlns:q=\"http://www.w3.org/2003/05/soap-envelope\">\n <q:Header>\n  \
         <Action xmlns=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\">\n   http://schemas.xmlsoap.org/ws/2004/09/transfer/Get\n  </Action>\n  \
         <z:ResourceURI xmlns:z=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\"> http://intel.com/wbem/wscim/1/amt-schema/1/AMT_GeneralSettings </z:ResourceURI>\n \
         </q:Header>\n <q:Body/>\n</q:Envelope>\n";
    let answer = bench
        .service
        .answer(bench.now, &bench.account, text.as_bytes());
    assert_eq!(
        value(&answer, "DigestRealm"),
        "Digest:F3EB554784E729164447A89F60B641C5"
    );
    assert_eq!(value(&answer, "RelatesTo"), "0", "no MessageID was sent");
}

#[test]
fn selectors_choose_an_instance_in_both_attribute_forms() {
    let mut bench = Bench::new(|_| {});
    let resource = uri("AMT_EthernetPortSettings");
    for attribute in ["Name", "w:Name"] {
        for (number, kind) in [("0", "0"), ("1", "3")] {
            let selectors = format!(
                "<w:SelectorSet><w:Selector {attribute}=\"InstanceID\">Intel(r) AMT Ethernet Port Settings {number}</w:Selector></w:SelectorSet>"
            );
            let answer = bench.send(GET, &resource, &selectors, "");
            assert_eq!(value(&answer, "PhysicalConnectionType"), kind);
        }
    }
}

#[test]
fn inventory_has_the_recorded_values() {
    let mut bench = Bench::new(|_| {});
    let cases = [
        ("CIM_Chassis", "Model", "NUC9V7QNX"),
        ("CIM_Card", "SerialNumber", "KNQN0221020W"),
        (
            "CIM_ComputerSystemPackage",
            "PlatformGUID",
            "13AEE355D2BFBB6117A088AEDD7037EA",
        ),
        ("CIM_BIOSElement", "Datetime", "2020-08-10T00:00:00Z"),
        (
            "CIM_Chip",
            "Version",
            "Intel(R) Core(TM) i7-9850H CPU @ 2.60GHz",
        ),
        ("CIM_AssociatedPowerManagementService", "PowerState", "2"),
        ("AMT_SetupAndConfigurationService", "ProvisioningMode", "1"),
    ];
    for (class, property, expected) in cases {
        assert_eq!(
            value(&bench.get(class), property),
            expected,
            "{class}.{property}"
        );
    }
    let answer = bench.invoke("AMT_SetupAndConfigurationService", "GetUuid", "");
    assert_eq!(value(&answer, "UUID"), "E67jVdK/u2EXoIiu3XA36g==");
}

#[test]
fn a_date_is_an_element_of_its_own_namespace_inside_its_property() {
    let mut bench = Bench::new(|_| {});
    let answer = bench.get("CIM_BIOSElement");
    let date = "<g:ReleaseDate><h:Datetime>2020-08-10T00:00:00Z</h:Datetime></g:ReleaseDate>";
    assert!(answer.envelope.contains(date), "{}", answer.envelope);
    assert!(
        answer
            .envelope
            .contains("xmlns:h=\"http://schemas.dmtf.org/wbem/wscim/1/common\"")
    );
}

#[test]
fn references_in_replies_are_whole() {
    let mut bench = Bench::new(|_| {});
    let answer = bench.get("CIM_AssociatedPowerManagementService");
    let expected = [
        "<g:UserOfService>",
        "<b:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</b:Address>",
        "<b:ReferenceParameters>",
        "<c:ResourceURI>http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ComputerSystem</c:ResourceURI>",
        "<c:SelectorSet>",
        "<c:Selector Name=\"CreationClassName\">CIM_ComputerSystem</c:Selector>",
        "<c:Selector Name=\"Name\">ManagedSystem</c:Selector>",
        "</c:SelectorSet>",
        "</b:ReferenceParameters>",
        "</g:UserOfService>",
    ];
    assert!(
        answer.envelope.contains(&expected.concat()),
        "{}",
        answer.envelope
    );
}

#[test]
fn put_keeps_what_may_change_and_answers_with_the_result() {
    let mut bench = Bench::new(|_| {});
    let object = "<p:InstanceID>Intel(r) AMT: General Settings</p:InstanceID><p:HostName>a&lt;b&amp;c</p:HostName><p:PingResponseEnabled>0</p:PingResponseEnabled>";
    let answer = bench.put("AMT_GeneralSettings", object);
    assert_eq!(value(&answer, "HostName"), "a<b&c");
    assert_eq!(
        value(&bench.get("AMT_GeneralSettings"), "PingResponseEnabled"),
        "false"
    );
    let refused = [
        "<p:InstanceID>Intel(r) AMT: General Settings</p:InstanceID><p:DigestRealm>x</p:DigestRealm>",
        "<p:InstanceID>Intel(r) AMT: General Settings</p:InstanceID><p:Nothing>x</p:Nothing>",
        "<p:InstanceID>Intel(r) AMT: General Settings</p:InstanceID><p:PingResponseEnabled>maybe</p:PingResponseEnabled>",
        "<p:HostName>without its key</p:HostName>",
    ];
    for object in refused {
        assert_eq!(
            subcode(&bench.put("AMT_GeneralSettings", object)),
            "InvalidRepresentation",
            "{object}"
        );
    }
    assert_eq!(
        value(&bench.get("AMT_GeneralSettings"), "HostName"),
        "a<b&c"
    );
}

#[test]
fn redirection_switches_by_method_and_by_put() {
    let mut bench = Bench::new(|config| config.switches.listener = false);
    let state = |state: u32| format!("<RequestedState>{state}</RequestedState>");
    assert_eq!(
        bench.returns(
            "AMT_RedirectionService",
            "RequestStateChange",
            &state(32770)
        ),
        "0"
    );
    assert_eq!(
        value(&bench.get("AMT_RedirectionService"), "EnabledState"),
        "32770"
    );
    assert_eq!(
        bench.returns("AMT_RedirectionService", "RequestStateChange", &state(1)),
        "5"
    );
    let answer = bench.put(
        "AMT_RedirectionService",
        "<p:EnabledState>32771</p:EnabledState><p:ListenerEnabled>true</p:ListenerEnabled>",
    );
    assert_eq!(value(&answer, "ListenerEnabled"), "true");
    assert!(
        bench
            .firmware
            .quietly(|firmware| firmware.redirection_listening())
    );
    assert_eq!(
        bench.returns("CIM_KVMRedirectionSAP", "RequestStateChange", &state(3)),
        "0"
    );
    assert_eq!(
        value(&bench.get("CIM_KVMRedirectionSAP"), "EnabledState"),
        "3"
    );
}

#[test]
fn identify_names_the_firmware() {
    let bench = Bench::new(|_| {});
    let text = "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:i=\"http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd\"><s:Header/><s:Body><i:Identify/></s:Body></s:Envelope>";
    let answer = bench
        .service
        .answer(bench.now, &bench.account, text.as_bytes());
    assert_eq!(value(&answer, "ProductVendor"), "Intel(r)");
    assert_eq!(value(&answer, "ProductVersion"), "AMT 12.0");
    assert_eq!(
        value(&answer, "ProtocolVersion"),
        "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
    );
}

#[test]
fn accounts_are_added_listed_changed_and_removed() {
    let mut bench = Bench::new(|_| {});
    let class = "AMT_AuthorizationService";
    // helpdesk, realm F3EB..., Hd!12345
    let entry = "<DigestUsername>helpdesk</DigestUsername><DigestPassword>ZSBDNJNi91mx6QqF9yMaZA==</DigestPassword>\
         <AccessPermission>2</AccessPermission><Realms>2</Realms><Realms>5</Realms>";
    let added = bench.invoke(class, "AddUserAclEntryEx", entry);
    assert_eq!(value(&added, "ReturnValue"), "0");
    let handle = value(&added, "Handle");
    assert_eq!(bench.returns(class, "AddUserAclEntryEx", entry), "2058");
    let account = bench
        .firmware
        .quietly(|firmware| firmware.check_password(bench.now, "helpdesk", "Hd!12345"));
    assert!(account.is_ok(), "the stored hash is the published one");
    let listed = bench.invoke(
        class,
        "EnumerateUserAclEntries",
        "<StartIndex>1</StartIndex>",
    );
    assert_eq!(values(&listed, "Handles"), [handle.as_str()]);
    assert_eq!(value(&listed, "TotalCount"), "1");
    let named = bench.invoke(
        class,
        "GetUserAclEntryEx",
        &format!("<Handle>{handle}</Handle>"),
    );
    assert_eq!(value(&named, "DigestUsername"), "helpdesk");
    assert_eq!(values(&named, "Realms"), ["2", "5"]);
    assert!(
        !named.envelope.contains("ZSBDNJ"),
        "hashes do not come back"
    );
    assert_eq!(
        bench.returns(
            class,
            "RemoveUserAclEntry",
            &format!("<Handle>{handle}</Handle>")
        ),
        "0"
    );
    assert_eq!(
        bench.returns(
            class,
            "RemoveUserAclEntry",
            &format!("<Handle>{handle}</Handle>")
        ),
        "2053"
    );
    let listed = bench.invoke(
        class,
        "EnumerateUserAclEntries",
        "<StartIndex>1</StartIndex>",
    );
    assert!(values(&listed, "Handles").is_empty());
}

#[test]
fn calls_are_counted_by_class_and_method() {
    let mut bench = Bench::new(|_| {});
    bench.get("CIM_Chassis");
    bench.get("CIM_Chassis");
    bench.returns("CIM_BootConfigSetting", "ChangeBootOrder", "");
    bench.get("CIM_Invented");
    bench.invoke("CIM_Chassis", "Explode", "");
    let counters = bench
        .firmware
        .quietly(|firmware| firmware.counters().clone());
    let calls: Vec<_> = counters
        .calls
        .iter()
        .map(|(call, count)| (call.as_str(), *count))
        .collect();
    assert_eq!(
        calls,
        [
            ("?", 2),
            ("CIM_BootConfigSetting.ChangeBootOrder", 1),
            ("CIM_Chassis.Get", 2)
        ]
    );
    assert_eq!(counters.faults, 2);
}
