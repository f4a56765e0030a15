//! docs/faults.md promises a test for each fault: the tests it names must exist.
#![expect(clippy::expect_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The cells of each row of the page's tables.
fn rows(page: &str) -> Vec<Vec<&str>> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'))
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|cells| cells.get(1) != Some(&"fault"))
        .collect()
}

/// `FILE: TEST` of each test in a cell; a dash stands for none.
fn tests(cell: &str) -> impl Iterator<Item = (&str, &str)> {
    cell.split("<br>").filter(|test| *test != "—").map(|test| {
        test.trim_matches('`')
            .split_once(": ")
            .expect("a cell of `FILE: TEST` items")
    })
}

#[test]
fn every_host_test_of_the_fault_table_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/faults.md")).expect("the page");
    let rows = rows(&page);
    assert!(rows.len() >= 40, "{} rows", rows.len());
    let mut faults = BTreeSet::new();
    let mut missing = Vec::new();
    for row in rows {
        let [star, fault, end, host, vm] = row[..] else {
            panic!("not five cells: {row:?}")
        };
        assert!(star.is_empty() || star == "*", "{row:?}");
        assert!(!fault.is_empty() && !end.is_empty(), "{row:?}");
        assert!(faults.insert(fault), "twice: {fault}");
        assert_eq!(star == "*", !vm.is_empty(), "{fault}");
        assert!(host != "—" || !vm.is_empty(), "no test: {fault}");
        for (file, test) in tests(host) {
            let source = fs::read_to_string(root.join(file)).unwrap_or_default();
            // The attribute, perhaps others, and the function: a helper of that name is no test. Tests inside
            // `proptest!` look the same.
            let function = format!("fn {test}(");
            let found = source
                .split("#[test]")
                .chain(source.split("#[tokio::test]"));
            let is_test = found
                .skip(1)
                .any(|after| after.lines().take(6).any(|line| line.contains(&function)));
            if !is_test {
                missing.push(format!("{file}: {test}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}
