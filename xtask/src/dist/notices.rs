//! The notice that names every crate linked into the programs, with version, licence and licence text.
//!
//! Made from `cargo metadata` and the crates' own files, so it needs no tool that a fresh machine would have to build
//! first. A crate under a licence that is not on the list below stops the packaging: whether it may be shipped is a
//! question for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use spdx::{Expression, Licensee, ParseMode};

use crate::loader;
use crate::metadata::{Metadata, Package};

/// Programs in the packages: the one users run, and stage one's loader.
const PROGRAMS: &[&str] = &["sparetire", "stage1-loader"];
/// Licences under which code may be linked into them: permissive, and none that asks for sources.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
/// Beginnings of the names of files that hold licences.
const FILES: &[&str] = &[
    "license",
    "licence",
    "copying",
    "copyright",
    "notice",
    "unlicense",
];
/// A licence file larger than this is something else.
const LARGEST: u64 = 256 << 10;
/// How deep in a crate they are looked for: sources of others, as zstd's, lie a folder below.
const DEPTH: usize = 1;

/// The whole notice, in Markdown.
pub(super) fn third_party() -> Result<String> {
    let metadata = Metadata::read(loader::GLIBC).context("listing the crates of the programs")?;
    let mut crates: BTreeMap<(&str, &str), (&Package, BTreeSet<&str>)> = BTreeMap::new();
    for program in PROGRAMS {
        for package in metadata.linked(program)? {
            if package.source.is_some() {
                crates
                    .entry((&package.name, &package.version))
                    .or_insert_with(|| (package, BTreeSet::new()))
                    .1
                    .insert(program);
            }
        }
    }
    let allowed = allowed()?;
    let mut refused = Vec::new();
    let mut list = String::new();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ((name, version), (package, programs)) in &crates {
        let license = package.license.as_deref().unwrap_or_default();
        let expression = match Expression::parse_mode(license, ParseMode::LAX) {
            Ok(expression) => expression,
            Err(_) => {
                refused.push(format!(
                    "{name} {version}: {license:?} is no licence expression"
                ));
                continue;
            }
        };
        if !expression.evaluate(|wanted| allowed.iter().any(|have| have.satisfies(wanted))) {
            refused.push(format!("{name} {version}: {license}"));
            continue;
        }
        let programs: Vec<&str> = programs.iter().copied().collect();
        list.push_str(&format!(
            "| {name} | {version} | {license} | {} |\n",
            programs.join(", ")
        ));
        for text in texts_of(package, &expression)? {
            texts
                .entry(text)
                .or_default()
                .push(format!("{name} {version}"));
        }
    }
    if !refused.is_empty() {
        bail!(
            "crates whose licence is not on the list of allowed ones (xtask/src/dist/notices.rs):\n  {}",
            refused.join("\n  ")
        );
    }
    let mut notice = format!(
        "# Third-party code\n\n\
        Rust crates linked into `sparetire` and into stage one's loader, from https://crates.io/crates/NAME/VERSION. \
        The texts of their licences follow. Stage one's other parts are described in REBUILD.md.\n\n\
        | crate | version | licence | in |\n|---|---|---|---|\n{list}"
    );
    // Crates of one family carry the same file; it is printed once. By first user, so that the order is stable.
    let mut texts: Vec<(String, Vec<String>)> = texts.into_iter().collect();
    texts.sort_by(|one, other| one.1.cmp(&other.1).then_with(|| one.0.cmp(&other.0)));
    for (text, users) in texts {
        notice.push_str(&format!(
            "\n## {}\n\n```text\n{text}\n```\n",
            users.join(", ")
        ));
    }
    Ok(notice)
}

fn allowed() -> Result<Vec<Licensee>> {
    ALLOWED
        .iter()
        .map(|name| {
            Licensee::parse(name).map_err(|error| anyhow::anyhow!("{name} is no licence: {error}"))
        })
        .collect()
}

/// The licence texts of a crate: its own files, else the standard text of what its manifest names.
fn texts_of(package: &Package, expression: &Expression) -> Result<Vec<String>> {
    let dir = package
        .manifest_path
        .parent()
        .context("a manifest has no directory")?;
    let mut files = Vec::new();
    license_files(dir, DEPTH, &mut files)?;
    files.sort();
    let mut texts = Vec::new();
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let text = String::from_utf8_lossy(&bytes)
            .replace("\r\n", "\n")
            .replace("```", "'''");
        let text = text.trim_matches('\n').trim_end();
        if !text.is_empty() {
            texts.push(text.to_owned());
        }
    }
    if texts.is_empty() {
        let authors = match package.authors.as_slice() {
            [] => format!("the authors of {}", package.name),
            authors => authors.join(", "),
        };
        let names: BTreeSet<_> = expression
            .requirements()
            .filter_map(|wanted| wanted.req.license.id())
            .collect();
        for id in names {
            texts.push(format!("Copyright: {authors}\n\n{}", id.text().trim()));
        }
    }
    if texts.is_empty() {
        bail!(
            "no licence text is known for {} {}",
            package.name,
            package.version
        );
    }
    Ok(texts)
}

fn license_files(dir: &Path, deeper: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let entry = entry.with_context(|| format!("listing {}", dir.display()))?;
        let path = entry.path();
        let meta =
            fs::symlink_metadata(&path).with_context(|| format!("reading {}", path.display()))?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        let is_source = [".rs", ".c", ".h"].iter().any(|end| name.ends_with(end));
        if meta.is_dir() && deeper > 0 {
            license_files(&path, deeper - 1, files)?;
        } else if meta.is_file()
            && meta.len() <= LARGEST
            && !is_source
            && FILES.iter().any(|begin| name.starts_with(begin))
        {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_ship(license: &str) -> bool {
        let allowed = allowed().unwrap();
        Expression::parse_mode(license, ParseMode::LAX).is_ok_and(|expression| {
            expression.evaluate(|wanted| allowed.iter().any(|have| have.satisfies(wanted)))
        })
    }

    #[test]
    fn one_allowed_licence_of_a_choice_is_enough_and_each_of_a_sum_is_needed() {
        for license in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
        ] {
            assert!(may_ship(license), "{license}");
        }
        for license in [
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "LGPL-2.1-or-later",
            "AGPL-3.0",
            "",
            "Custom",
        ] {
            assert!(!may_ship(license), "{license}");
        }
    }

    #[test]
    fn the_notice_has_each_crate_with_its_text() {
        let notice = third_party().unwrap();
        for name in ["clap", "rustls", "ring", "libsqlite3-sys", "zstd-sys"] {
            assert!(
                notice.contains(&format!("\n| {name} | ")),
                "{name} is not listed"
            );
        }
        // Only builds, or only tests, use these.
        for name in ["cc", "proptest", "serde_derive", "libfuzzer-sys"] {
            assert!(
                !notice.contains(&format!("\n| {name} | ")),
                "{name} is listed"
            );
        }
        assert!(
            notice.contains("Meta Platforms") || notice.contains("Facebook"),
            "zstd's own licence"
        );
    }
}
