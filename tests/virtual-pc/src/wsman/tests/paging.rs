//! Enumerate and Pull: pages, contexts, subclasses (reference section 1.6).

use super::*;

pub(super) const ENUMERATE_BODY: &str =
    "<n:Enumerate xmlns:n=\"http://schemas.xmlsoap.org/ws/2004/09/enumeration\"/>";

fn pull_body(context: &str, most: &str) -> String {
    format!(
        "<n:Pull xmlns:n=\"http://schemas.xmlsoap.org/ws/2004/09/enumeration\"><n:EnumerationContext>{context}</n:EnumerationContext>{most}</n:Pull>"
    )
}

const MANY: &str = "<n:MaxElements>999</n:MaxElements><n:MaxCharacters>99999</n:MaxCharacters>";

/// Enumerates to the end as a console does: always with the latest context. Returns the pages' item names.
fn pages(bench: &mut Bench, class: &str, most: &str, mode: &str) -> Vec<Vec<String>> {
    let body = ENUMERATE_BODY.replace("/>", &format!(">{mode}</n:Enumerate>"));
    let mut answer = bench.send(ENUMERATE, &uri(class), "", &body);
    let mut pages = Vec::new();
    loop {
        let context = value(&answer, "EnumerationContext");
        answer = bench.send(PULL, &uri(class), "", &pull_body(&context, most));
        assert_eq!(answer.status, 200, "{}", answer.envelope);
        let document = roxmltree::Document::parse(&answer.envelope).unwrap();
        let items = document
            .descendants()
            .find(|node| node.tag_name().name() == "Items")
            .unwrap();
        pages.push(
            items
                .children()
                .map(|item| item.tag_name().name().to_owned())
                .collect(),
        );
        let ended = !values(&answer, "EndOfSequence").is_empty();
        assert_eq!(
            ended,
            values(&answer, "EnumerationContext").is_empty(),
            "more to come, or the end"
        );
        if ended {
            return pages;
        }
        assert!(pages.len() < 50, "no end");
    }
}

#[test]
fn one_class_comes_in_one_page() {
    let mut bench = Bench::new(|_| {});
    assert_eq!(
        pages(&mut bench, "CIM_BootSourceSetting", MANY, ""),
        [vec!["CIM_BootSourceSetting"; 3]]
    );
}

#[test]
fn subclasses_come_in_pages_of_their_own_however_many_were_asked_for() {
    let mut bench = Bench::new(|_| {});
    let expected: [Vec<&str>; 2] = [vec!["CIM_Chip"], vec!["CIM_PhysicalMemory"; 2]];
    assert_eq!(pages(&mut bench, "CIM_Chip", MANY, ""), expected);
    let expected: [Vec<&str>; 2] = [vec!["CIM_Chassis"], vec!["CIM_Card"]];
    assert_eq!(pages(&mut bench, "CIM_PhysicalPackage", MANY, ""), expected);
}

#[test]
fn the_power_association_is_found_through_its_base() {
    let mut bench = Bench::new(|_| {});
    let expected = [vec!["CIM_AssociatedPowerManagementService"]];
    assert_eq!(
        pages(&mut bench, "CIM_ServiceAvailableToElement", MANY, ""),
        expected
    );
}

#[test]
fn small_pages_when_the_console_asks_and_when_the_firmware_insists() {
    let mut bench = Bench::new(|_| {});
    let two = "<n:MaxElements>2</n:MaxElements>";
    let sizes = |pages: Vec<Vec<String>>| pages.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(
        sizes(pages(&mut bench, "CIM_BootSourceSetting", two, "")),
        [2, 1]
    );
    assert_eq!(
        sizes(pages(&mut bench, "CIM_BootSourceSetting", "", "")),
        [1, 1, 1],
        "one, when nothing is said"
    );
    bench.knobs(|knobs| knobs.one_item_pages = true);
    assert_eq!(
        sizes(pages(&mut bench, "CIM_SoftwareIdentity", MANY, "")),
        [1; 11]
    );
    bench.knobs(|knobs| knobs.late_end = true);
    assert_eq!(
        sizes(pages(&mut bench, "CIM_BootSourceSetting", MANY, "")),
        [1, 1, 1, 0]
    );
}

#[test]
fn an_empty_enumeration_is_one_empty_page() {
    let mut bench =
        Bench::new(|config| config.capabilities = crate::firmware::BootCapabilities::of([]));
    assert_eq!(
        pages(&mut bench, "CIM_BootSourceSetting", MANY, ""),
        [Vec::<String>::new()]
    );
}

#[test]
fn references_come_instead_of_objects_or_with_them() {
    let mut bench = Bench::new(|_| {});
    let mode = |mode: &str| format!("<w:EnumerationMode>{mode}</w:EnumerationMode>");
    let expected = [vec!["EndpointReference"; 3]];
    assert_eq!(
        pages(
            &mut bench,
            "CIM_BootSourceSetting",
            MANY,
            &mode("EnumerateEPR")
        ),
        expected
    );
    let expected = [vec!["Item"; 3]];
    assert_eq!(
        pages(
            &mut bench,
            "CIM_BootSourceSetting",
            MANY,
            &mode("EnumerateObjectAndEPR")
        ),
        expected
    );
}

#[test]
fn contexts_end_with_use_and_unknown_ones_are_refused() {
    let mut bench = Bench::new(|_| {});
    let class = uri("CIM_BootSourceSetting");
    let answer = bench.send(ENUMERATE, &class, "", ENUMERATE_BODY);
    let context = value(&answer, "EnumerationContext");
    assert_eq!(context, "14000000-0000-0000-0000-000000000000");
    assert_eq!(
        bench
            .send(PULL, &class, "", &pull_body(&context, ""))
            .status,
        200
    );
    let again = bench.send(PULL, &class, "", &pull_body(&context, ""));
    assert_eq!(
        subcode(&again),
        "InvalidEnumerationContext",
        "only the latest context counts"
    );
    let contexts: Vec<_> = (0..6)
        .map(|_| {
            value(
                &bench.send(ENUMERATE, &class, "", ENUMERATE_BODY),
                "EnumerationContext",
            )
        })
        .collect();
    let oldest = bench.send(PULL, &class, "", &pull_body(&contexts[0], ""));
    assert_eq!(
        subcode(&oldest),
        "InvalidEnumerationContext",
        "contexts are few"
    );
    let release = format!(
        "<n:Release xmlns:n=\"http://schemas.xmlsoap.org/ws/2004/09/enumeration\"><n:EnumerationContext>{}</n:EnumerationContext></n:Release>",
        contexts[5]
    );
    let action = "http://schemas.xmlsoap.org/ws/2004/09/enumeration/Release";
    assert_eq!(bench.send(action, &class, "", &release).status, 200);
    assert_eq!(
        subcode(&bench.send(action, &class, "", &release)),
        "InvalidEnumerationContext"
    );
}

#[test]
fn of_a_base_class_one_sees_what_one_may() {
    let mut bench = Bench::new(|_| {});
    bench.account.realms = Realms::from_numbers([7]).unwrap();
    assert_eq!(
        pages(&mut bench, "CIM_Service", MANY, ""),
        [Vec::<String>::new()]
    );
    assert_eq!(
        pages(&mut bench, "CIM_MessageLog", MANY, ""),
        [vec!["AMT_MessageLog"]]
    );
}

#[test]
fn the_event_log_is_read_in_pages_until_it_says_there_is_no_more() {
    let mut bench = Bench::new(|_| {});
    bench.firmware.with(|firmware| {
        for code in 0..25 {
            firmware.record(bench.now, crate::firmware::Event::progress(code));
        }
    });
    let first = bench.invoke("AMT_MessageLog", "PositionToFirstRecord", "");
    let mut identifier = value(&first, "IterationIdentifier");
    assert_eq!(identifier, "1");
    let mut records = Vec::new();
    let mut sizes = Vec::new();
    loop {
        let parameters = format!(
            "<IterationIdentifier>{identifier}</IterationIdentifier><MaxReadRecords>10</MaxReadRecords>"
        );
        let page = bench.invoke("AMT_MessageLog", "GetRecords", &parameters);
        let part = values(&page, "RecordArray");
        sizes.push(part.len());
        records.extend(part);
        identifier = value(&page, "IterationIdentifier");
        if value(&page, "NoMoreRecords") == "true" {
            break;
        }
    }
    assert_eq!(sizes, [10, 10, 5]);
    records.dedup();
    assert_eq!(records.len(), 25);
    assert_eq!(bench.returns("AMT_MessageLog", "ClearLog", ""), "0");
    let empty = bench.invoke("AMT_MessageLog", "PositionToFirstRecord", "");
    assert_eq!(value(&empty, "IterationIdentifier"), "0");
    let parameters =
        "<IterationIdentifier>0</IterationIdentifier><MaxReadRecords>390</MaxReadRecords>";
    let page = bench.invoke("AMT_MessageLog", "GetRecords", parameters);
    assert_eq!(value(&page, "NoMoreRecords"), "true");
}
