//! Which Debian archive to install from: the one this machine itself uses.
//!
//! Reads apt's sources in both spellings, sources.list(5): one-line entries and deb822 stanzas.
//! Only addresses are taken from there; which suites and components to use is the recipe's matter.

use std::collections::BTreeSet;
use std::path::Path;

/// Used where the machine's sources name no Debian archive.
const DEFAULT_ARCHIVE: &str = "http://deb.debian.org/debian";
/// The archive of security fixes, likewise.
const DEFAULT_SECURITY: &str = "http://deb.debian.org/debian-security";

/// Suites that have neither updates nor a security suite beside them.
const ROLLING: [&str; 4] = ["sid", "unstable", "testing", "experimental"];

/// One-line entries of sources.list for a suite: the archive, its updates, its security fixes.
///
/// `archive` replaces what would be found in the machine's own sources below `etc_apt`.
#[must_use]
pub fn sources(
    etc_apt: &Path,
    archive: Option<&str>,
    suite: &str,
    components: &[String],
) -> Vec<String> {
    let found = addresses(etc_apt);
    let ending = |end: &str| {
        found
            .iter()
            .find(|address| address.trim_end_matches('/').ends_with(end))
            .cloned()
    };
    let archive = archive
        .map(str::to_owned)
        .or_else(|| ending("/debian"))
        .unwrap_or_else(|| DEFAULT_ARCHIVE.to_owned());
    let security = ending("/debian-security").unwrap_or_else(|| DEFAULT_SECURITY.to_owned());
    let components = components.join(" ");
    let mut lines = vec![format!("deb {archive} {suite} {components}")];
    if !ROLLING.contains(&suite) {
        lines.push(format!("deb {archive} {suite}-updates {components}"));
        lines.push(format!("deb {security} {suite}-security {components}"));
    }
    lines
}

/// Every address in the sources, sorted so that the same machine gives the same answer.
fn addresses(etc_apt: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut files = vec![etc_apt.join("sources.list")];
    if let Ok(entries) = std::fs::read_dir(etc_apt.join("sources.list.d")) {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    for file in files {
        // What cannot be read names no archive; the default serves.
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => found.extend(one_line_addresses(&text)),
            Some("sources") => found.extend(stanza_addresses(&text)),
            _ => {}
        }
    }
    found.retain(|address| address.starts_with("http://") || address.starts_with("https://"));
    found
}

/// `deb [option=value ...] address suite component...`
fn one_line_addresses(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("deb "))
        .filter_map(|rest| {
            let rest = rest.trim_start();
            let rest = match rest.strip_prefix('[') {
                Some(options) => options.split_once(']')?.1,
                None => rest,
            };
            rest.split_whitespace().next().map(str::to_owned)
        })
        .collect()
}

/// Stanzas of `Field: value`, separated by empty lines. `URIs` may name several.
fn stanza_addresses(text: &str) -> Vec<String> {
    let mut addresses = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            stanza.lines().find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then_some(value)
            })
        };
        let off = field("Enabled").is_some_and(|value| value.trim().eq_ignore_ascii_case("no"));
        if !off && let Some(value) = field("URIs") {
            addresses.extend(value.split_whitespace().map(str::to_owned));
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn main_only() -> Vec<String> {
        vec!["main".to_owned()]
    }

    #[test]
    fn stanzas_of_debian_12_name_the_mirror() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sources.list.d")).unwrap();
        std::fs::write(
            dir.path().join("sources.list.d/debian.sources"),
            "Types: deb\n# a remark\nURIs: http://mirror.example/debian/\nSuites: bookworm bookworm-updates\n\
             Components: main\n\nTypes: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\n",
        )
        .unwrap();
        assert_eq!(
            sources(dir.path(), None, "bookworm", &main_only()),
            [
                "deb http://mirror.example/debian/ bookworm main",
                "deb http://mirror.example/debian/ bookworm-updates main",
                "deb http://mirror.example/debian-security bookworm-security main",
            ]
        );
    }

    #[test]
    fn one_line_entries_are_read_with_options() {
        let text = "# deb http://no.example/debian x main\n\
                    deb [arch=amd64 signed-by=/k.gpg] https://a.example/debian bookworm main\n\
                    deb-src http://src.example/debian bookworm main\n\
                    deb http://b.example/debian bookworm main";
        assert_eq!(
            one_line_addresses(text),
            ["https://a.example/debian", "http://b.example/debian"]
        );
    }

    #[test]
    fn other_distributions_and_missing_sources_get_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let default = "deb http://deb.debian.org/debian bookworm main";
        assert_eq!(
            sources(dir.path(), None, "bookworm", &main_only())[0],
            default
        );
        std::fs::write(
            dir.path().join("sources.list"),
            "deb http://archive.ubuntu.com/ubuntu noble main\ndeb cdrom:[Debian 12]/debian x main\n",
        )
        .unwrap();
        assert_eq!(
            sources(dir.path(), None, "bookworm", &main_only())[0],
            default
        );
    }

    #[test]
    fn a_disabled_stanza_does_not_count() {
        let text = "Enabled: no\nURIs: http://old.example/debian\n\nURIs: http://a.example/debian http://b.example/debian\n";
        assert_eq!(
            stanza_addresses(text),
            ["http://a.example/debian", "http://b.example/debian"]
        );
    }

    #[test]
    fn rolling_suites_stand_alone() {
        let dir = tempfile::tempdir().unwrap();
        let lines = sources(dir.path(), Some("http://m/debian"), "sid", &main_only());
        assert_eq!(lines, ["deb http://m/debian sid main"]);
    }
}
