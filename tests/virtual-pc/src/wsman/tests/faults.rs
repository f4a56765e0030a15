//! Faults: which, and with what detail (reference section 1.7).

use super::*;

#[test]
fn an_unknown_class_is_the_captured_fault_letter_for_letter() {
    let mut bench = Bench::new(|_| {});
    let answer = bench.get("CIM_Invented");
    let (_, body) = answer.envelope.split_once("</b:MessageID>").unwrap();
    let expected = [
        "</a:Header><a:Body><a:Fault><a:Code><a:Value>a:Sender</a:Value>",
        "<a:Subcode><a:Value>b:DestinationUnreachable</a:Value></a:Subcode></a:Code>",
        "<a:Reason><a:Text xml:lang=\"en-US\">No route can be determined to reach the destination role defined by the WSAddressing To.</a:Text></a:Reason>",
        "<a:Detail></a:Detail></a:Fault></a:Body></a:Envelope>",
    ];
    assert_eq!(body, expected.concat());
    assert_eq!(
        values(&answer, "Action"),
        ["http://schemas.xmlsoap.org/ws/2004/08/addressing/fault"]
    );
    assert_eq!(answer.status, 400);
}

#[test]
fn each_wrong_request_has_its_own_fault() {
    let chassis = uri("CIM_Chassis");
    let selector = |name: &str, value: &str| {
        format!("<w:SelectorSet><w:Selector Name=\"{name}\">{value}</w:Selector></w:SelectorSet>")
    };
    let eventing = "http://schemas.xmlsoap.org/ws/2004/08/eventing/Subscribe";
    let create = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Create";
    let delete = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Delete";
    let options = "<w:OptionSet xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" s:mustUnderstand=\"true\"/>";
    let cases = [
        (
            "schema of another maker",
            GET,
            "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/AMT_GeneralSettings",
            String::new(),
            "",
            "DestinationUnreachable",
        ),
        (
            "no URI at all",
            GET,
            "nonsense",
            String::new(),
            "",
            "DestinationUnreachable",
        ),
        (
            "selectors match nothing",
            GET,
            &chassis,
            selector("Tag", "other"),
            "",
            "DestinationUnreachable",
        ),
        (
            "no such key",
            GET,
            &chassis,
            selector("Model", "NUC9V7QNX"),
            "",
            "InvalidSelectors",
        ),
        (
            "several instances",
            GET,
            &uri("AMT_EthernetPortSettings"),
            String::new(),
            "",
            "InvalidSelectors",
        ),
        (
            "base class",
            GET,
            &uri("CIM_PhysicalPackage"),
            String::new(),
            "",
            "DestinationUnreachable",
        ),
        (
            "unknown verb",
            "http://schemas.xmlsoap.org/ws/2004/09/transfer/Borrow",
            &chassis,
            String::new(),
            "",
            "ActionNotSupported",
        ),
        (
            "unknown method",
            &format!("{chassis}/Explode"),
            &chassis,
            String::new(),
            "",
            "ActionNotSupported",
        ),
        (
            "method of another class",
            &format!("{}/Get", uri("CIM_Card")),
            &chassis,
            String::new(),
            "",
            "ActionNotSupported",
        ),
        (
            "read-only class",
            PUT,
            &chassis,
            String::new(),
            "<p:CIM_Chassis xmlns:p=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_Chassis\"/>",
            "ActionNotSupported",
        ),
        (
            "wrong object",
            PUT,
            &uri("AMT_GeneralSettings"),
            String::new(),
            "<p:CIM_Chassis xmlns:p=\"x:y\"/>",
            "InvalidRepresentation",
        ),
        (
            "no object",
            PUT,
            &uri("AMT_GeneralSettings"),
            String::new(),
            "",
            "InvalidRepresentation",
        ),
        (
            "create",
            create,
            &chassis,
            String::new(),
            "",
            "UnsupportedFeature",
        ),
        (
            "delete",
            delete,
            &chassis,
            String::new(),
            "",
            "UnsupportedFeature",
        ),
        (
            "subscribe",
            eventing,
            &chassis,
            String::new(),
            "",
            "UnsupportedFeature",
        ),
        (
            "options",
            GET,
            &chassis,
            options.into(),
            "",
            "MustUnderstand",
        ),
        (
            "small envelopes",
            GET,
            &chassis,
            "<w:MaxEnvelopeSize>49999</w:MaxEnvelopeSize>".into(),
            "",
            "EncodingLimit",
        ),
    ];
    for (what, action, resource, headers, body, expected) in cases {
        let mut bench = Bench::new(|_| {});
        assert_eq!(
            subcode(&bench.send(action, resource, &headers, body)),
            expected,
            "{what}"
        );
    }
}

#[test]
fn parameters_that_are_missing_or_malformed_are_faults_with_details() {
    let mut bench = Bench::new(|_| {});
    let cases = [
        (
            "AMT_RedirectionService",
            "RequestStateChange",
            "",
            "MissingValues",
        ),
        (
            "AMT_RedirectionService",
            "RequestStateChange",
            "<RequestedState>on</RequestedState>",
            "InvalidValues",
        ),
        (
            "CIM_PowerManagementService",
            "RequestPowerStateChange",
            "<PowerState>2</PowerState>",
            "MissingValues",
        ),
        (
            "CIM_PowerManagementService",
            "RequestPowerStateChange",
            "<PowerState>2</PowerState><ManagedElement/>",
            "InvalidValues",
        ),
        (
            "AMT_MessageLog",
            "GetRecords",
            "<IterationIdentifier>1</IterationIdentifier>",
            "MissingValues",
        ),
    ];
    for (class, method, parameters, detail) in cases {
        let answer = bench.invoke(class, method, parameters);
        assert_eq!(
            subcode(&answer),
            "InvalidRepresentation",
            "{method} {parameters}"
        );
        assert_eq!(
            value(&answer, "FaultDetail"),
            format!("http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/{detail}")
        );
    }
}

#[test]
fn the_smallest_envelope_limit_of_the_standard_is_accepted() {
    let mut bench = Bench::new(|_| {});
    let limit = "<w:MaxEnvelopeSize>50000</w:MaxEnvelopeSize>";
    let answer = bench.send(GET, &uri("CIM_Chassis"), limit, "");
    assert_eq!(answer.status, 200, "{}", answer.envelope);
}

#[test]
fn an_empty_source_is_rejected() {
    let mut bench = Bench::new(|_| {});
    let answer = bench.invoke("CIM_BootConfigSetting", "ChangeBootOrder", "<Source/>");
    assert_eq!(subcode(&answer), "InvalidRepresentation");
}

#[test]
fn parameters_in_another_namespace_are_not_parameters() {
    let mut bench = Bench::new(|_| {});
    let answer = bench.invoke(
        "AMT_RedirectionService",
        "RequestStateChange",
        "<RequestedState xmlns=\"x:y\">32768</RequestedState>",
    );
    assert_eq!(subcode(&answer), "InvalidRepresentation");
    let uri = uri("AMT_RedirectionService");
    let answer = bench.send(
        &format!("{uri}/RequestStateChange"),
        &uri,
        "",
        "<RequestStateChange_INPUT xmlns=\"x:y\"/>",
    );
    assert_eq!(subcode(&answer), "SchemaValidationError");
}

#[test]
fn a_missing_realm_denies_access_and_changes_nothing() {
    let mut bench = Bench::new(|_| {});
    bench.account = Account {
        user: "helpdesk".into(),
        realms: Realms::from_numbers([4, 13]).unwrap(),
    };
    assert_eq!(bench.get("CIM_Chassis").status, 200);
    let state = "<RequestedState>32768</RequestedState>";
    assert_eq!(
        subcode(&bench.invoke("AMT_RedirectionService", "RequestStateChange", state)),
        "AccessDenied"
    );
    assert_eq!(
        subcode(&bench.get("AMT_AuthorizationService")),
        "AccessDenied"
    );
    assert_eq!(
        subcode(&bench.send(
            ENUMERATE,
            &uri("AMT_MessageLog"),
            "",
            super::paging::ENUMERATE_BODY
        )),
        "AccessDenied"
    );
    assert!(bench.firmware.quietly(|firmware| firmware.switches().ider));
}

#[test]
fn boot_settings_without_consent_are_denied() {
    let mut bench = Bench::new(|config| config.consent = ConsentPolicy::All);
    let role = super::sequences::ROLE_PARAMETERS;
    for _ in 0..2 {
        assert_eq!(
            subcode(&bench.invoke("CIM_BootConfigSetting", "ChangeBootOrder", "")),
            "AccessDenied"
        );
        assert_eq!(
            subcode(&bench.invoke("CIM_BootService", "SetBootConfigRole", role)),
            "AccessDenied"
        );
        assert_eq!(
            subcode(&super::sequences::put_boot_settings(&mut bench, &[])),
            "AccessDenied"
        );
        bench.consent();
        assert_eq!(
            bench.returns("CIM_BootConfigSetting", "ChangeBootOrder", ""),
            "0"
        );
        // It ends by itself, without anybody running timers.
        bench.now += Duration::from_secs(121);
    }
}
