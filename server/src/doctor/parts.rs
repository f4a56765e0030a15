//! Are the pieces of stage one there, and the ones that were packaged?

use std::fs;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use sparetire_builder::stage1::parts::{Choice, KernelChoice, Located, Parts, locate};

use super::Findings;

/// Beside installed parts: what each is, as the package was made.
const LIST: &str = "parts.json";
/// The list has a few lines for each of a handful of parts.
const MAX_LIST: u64 = 64 << 10;

/// One entry of the list.
#[derive(Debug, Deserialize)]
struct Listed {
    name: String,
    sha256: String,
    license: String,
    source: String,
}

pub(super) fn check(findings: &mut Findings) {
    let mut missing = false;
    for Located { name, what, path } in locate() {
        let check = format!("{what} ({name})");
        match path {
            Ok(path) => one(&check, name, &path, findings),
            Err(error) => {
                missing = true;
                findings.fail(check, error.to_string(), MISSING);
            }
        }
    }
    if missing {
        return;
    }
    // Reads all of them and looks at their headers, as `stage1 build` would.
    let choice = Choice {
        kernel: KernelChoice::Tiny,
        loader: None,
    };
    match Parts::gather(&choice) {
        Ok(_) => findings.ok("stage one", "its parts fit together"),
        Err(error) => findings.fail(
            "stage one",
            format!("{:#}", anyhow::Error::new(error)),
            "reinstall the package, or run `cargo xtask setup --fresh` in the source",
        ),
    }
}

const MISSING: &str = "install the package sparetire; in its source, `cargo xtask setup` builds kernel and loader and \
    installs the rest; SPARETIRE_PARTS names another folder";

fn one(check: &str, name: &str, path: &Path, findings: &mut Findings) {
    let digest = match fs::read(path) {
        Ok(bytes) => hex(&Sha256::digest(&bytes)),
        Err(error) => {
            findings.fail(
                check,
                format!("reading {}: {error}", path.display()),
                "make it readable for this user",
            );
            return;
        }
    };
    let place = format!("{}, sha256 {}", path.display(), &digest[..16]);
    let listed = match list_beside(path) {
        Ok(listed) => listed,
        Err(why) => {
            findings.warn(
                check,
                format!("{place}; {why}"),
                "reinstall the package sparetire",
            );
            return;
        }
    };
    let Some(listed) = listed.into_iter().flatten().find(|part| part.name == name) else {
        // Built here, or from a package of its own: nothing to compare with.
        findings.ok(check, place);
        return;
    };
    if listed.sha256 == digest {
        findings.ok(
            check,
            format!("{place}, {} ({})", listed.source, listed.license),
        );
    } else {
        findings.warn(
            check,
            format!(
                "{place}; the package has one with sha256 {:.16}",
                listed.sha256
            ),
            "reinstall the package, unless the part was changed on purpose",
        );
    }
}

/// The list in the same folder, if there is one.
fn list_beside(path: &Path) -> Result<Option<Vec<Listed>>, String> {
    let list = path.with_file_name(LIST);
    match fs::metadata(&list) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", list.display())),
        Ok(meta) if meta.len() > MAX_LIST => return Err(format!("{} is too long", list.display())),
        Ok(_) => {}
    }
    let text = fs::read(&list).map_err(|error| format!("{}: {error}", list.display()))?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| format!("{}: {error}", list.display()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::doctor::State;

    fn examine(list: Option<&str>, part: &[u8]) -> (State, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bzImage");
        fs::write(&path, part).unwrap();
        if let Some(list) = list {
            fs::write(dir.path().join(LIST), list).unwrap();
        }
        let mut findings = Findings::default();
        one("kernel", "bzImage", &path, &mut findings);
        let [finding] = findings.0.as_slice() else {
            panic!("{findings:?}");
        };
        (finding.state, finding.found.clone())
    }

    #[test]
    fn a_part_is_compared_with_the_packages_list() {
        let digest = hex(&Sha256::digest(b"kernel"));
        let list = format!(
            r#"[{{"name": "bzImage", "sha256": "{digest}", "size": 6, "license": "GPL-2.0-only", "source": "linux 6"}}]"#
        );
        let (state, found) = examine(Some(&list), b"kernel");
        assert_eq!(state, State::Ok);
        assert!(
            found.contains("GPL-2.0-only") && found.contains("linux 6"),
            "{found}"
        );
        let (state, found) = examine(Some(&list), b"kernes");
        assert_eq!(state, State::Warn);
        assert!(found.contains(&digest[..16]), "{found}");
    }

    #[test]
    fn a_part_without_a_list_is_fine_and_a_broken_list_is_named() {
        assert_eq!(examine(None, b"kernel").0, State::Ok);
        assert_eq!(examine(Some("[]"), b"kernel").0, State::Ok);
        let (state, found) = examine(Some("{"), b"kernel");
        assert!(state == State::Warn && found.contains(LIST), "{found}");
        let (state, found) = examine(Some(&" ".repeat(MAX_LIST as usize + 1)), b"kernel");
        assert!(
            state == State::Warn && found.contains("too long"),
            "{found}"
        );
    }
}
