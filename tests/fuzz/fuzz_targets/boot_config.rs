//! Boot configurations of an ISO, up to the hand-off. The input is a tree of text files: a line `=== /path` starts a file.
#![no_main]

use std::collections::BTreeMap;

use boot_config::{FileError, Files, Listed, PmemRange, discover, hand_off, medium_of};
use libfuzzer_sys::fuzz_target;
use sparetire_manifest::{MAX_CMDLINE, Placement};

struct Tree(BTreeMap<String, String>);

impl Tree {
    fn of(text: &str) -> Self {
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        let mut path = "/isolinux/isolinux.cfg".to_owned();
        for line in text.lines() {
            match line.strip_prefix("=== ") {
                Some(next) => path = next.to_lowercase(),
                None => {
                    let file = files.entry(path.clone()).or_default();
                    file.push_str(line);
                    file.push('\n');
                }
            }
        }
        Self(files)
    }

    fn below<'a>(&'a self, directory: &str) -> impl Iterator<Item = &'a str> {
        let prefix = format!("{}/", directory.trim_end_matches('/')).to_lowercase();
        self.0
            .keys()
            .filter_map(move |path| path.strip_prefix(&prefix).filter(|rest| !rest.is_empty()))
    }
}

impl Files for Tree {
    fn read(&self, path: &str, cap: usize) -> Result<Vec<u8>, FileError> {
        let text = self
            .0
            .get(&path.to_lowercase())
            .ok_or(FileError::NotFound)?;
        if text.len() > cap {
            return Err(FileError::TooLarge {
                size: text.len() as u64,
                cap: cap as u64,
            });
        }
        Ok(text.clone().into_bytes())
    }

    fn list(&self, directory: &str) -> Result<Vec<Listed>, FileError> {
        let mut names: BTreeMap<String, bool> = BTreeMap::new();
        for rest in self.below(directory) {
            let (name, deeper) = rest
                .split_once('/')
                .map_or((rest, false), |(name, _)| (name, true));
            *names.entry(name.to_owned()).or_default() |= deeper;
        }
        if names.is_empty() {
            return Err(FileError::NotFound);
        }
        Ok(names
            .into_iter()
            .map(|(name, is_directory)| Listed { name, is_directory })
            .collect())
    }

    fn is_file(&self, path: &str) -> bool {
        self.0.contains_key(&path.to_lowercase())
    }

    fn is_directory(&self, path: &str) -> bool {
        self.below(path).next().is_some()
    }
}

fuzz_target!(|text: &str| {
    let tree = Tree::of(text);
    let Ok(found) = discover(&tree) else { return };
    assert!(found.entries.len() <= boot_config::MAX_ENTRIES);
    for entry in &found.entries {
        for path in entry.initrd.iter().chain([&entry.kernel]) {
            assert!(
                path.starts_with('/') && !path.split('/').any(|part| part == ".."),
                "{path}"
            );
        }
        let medium = medium_of(entry, &tree);
        let pmem = Some(PmemRange {
            address: 1 << 32,
            size: 1 << 30,
        });
        for placement in [Placement::Initramfs, Placement::Pmem] {
            let Ok(plan) = hand_off(medium, placement, &entry.cmdline, Some("quiet"), pmem) else {
                continue;
            };
            assert!(plan.cmdline.len() <= MAX_CMDLINE);
            assert!(
                plan.cmdline
                    .bytes()
                    .all(|byte| (b' '..=b'~').contains(&byte))
            );
            assert!(
                plan.members
                    .iter()
                    .all(|member| !member.path.starts_with('/') && !member.path.contains(".."))
            );
        }
    }
});
