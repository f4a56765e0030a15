//! Which systems does an ISO offer to boot?
//!
//! Looks at the places where ISOs keep their boot configurations, reads all that are there and
//! lists the Linux entries in one order: syslinux and BLS first, because they are declarative,
//! then GRUB's scripts, then `loopback.cfg`, which describes booting the same ISO from a file.
//! Everything in the files is hostile: sizes, counts and nesting are bounded, a damaged file is a
//! [`Problem`] beside what the others say.

use std::collections::BTreeSet;

use crate::files::{FileError, Files};
use crate::{bls, grub, syslinux};

/// Longest configuration file that is read.
pub const MAX_CONFIG: usize = 256 * 1024;
/// Files read for one ISO, includes and repeated reads counted.
pub const MAX_READS: usize = 128;
/// Entries kept.
pub const MAX_ENTRIES: usize = 256;
/// Problems kept.
const MAX_PROBLEMS: usize = 64;
/// How deep files may include one another, and menus lie in menus.
pub(crate) const MAX_DEPTH: usize = 8;
/// Longest command line kept; the kernel takes about half.
pub(crate) const MAX_TEXT: usize = 4096;

/// One Linux system that the ISO offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the menu shows; of a submenu, `menu > entry`.
    pub title: String,
    /// Absolute path of the kernel. It need not exist.
    pub kernel: String,
    /// Absolute paths of the initramfs archives, in order. They need not exist.
    pub initrd: Vec<String>,
    /// The kernel command line, without `initrd=`.
    pub cmdline: String,
    /// The configuration file that has the entry.
    pub source: String,
    /// Whether that file starts it when nobody chooses.
    pub default: bool,
}

/// Something in a configuration that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The configuration file.
    pub source: String,
    /// Line, from 1, where one can be named.
    pub line: Option<usize>,
    /// What it is, as a fragment.
    pub what: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.source, self.what),
            None => write!(f, "{}: {}", self.source, self.what),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// Entries in the order described above, duplicates removed.
    pub entries: Vec<Entry>,
    /// What was passed over.
    pub problems: Vec<Problem>,
}

/// Why nothing can be said about an ISO.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoverError {
    /// None of the known places has a configuration.
    #[error("no boot configuration of isolinux, GRUB or systemd-boot found")]
    NoConfiguration,
    /// There are configurations, and no Linux entry in them.
    #[error("no Linux entry in {}", sources.join(", "))]
    NoEntries {
        /// The files looked at.
        sources: Vec<String>,
        /// What was passed over in them.
        problems: Vec<Problem>,
    },
}

/// Lists the Linux entries of every boot configuration in `files`.
pub fn discover(files: &dyn Files) -> Result<Discovered, DiscoverError> {
    let mut reader = Reader::new(files);
    let mut sources = Vec::new();
    let mut entries = Vec::new();
    for directory in SYSLINUX_DIRECTORIES {
        for name in ["isolinux.cfg", "syslinux.cfg", "extlinux.conf"] {
            let path = crate::files::resolve(directory, name);
            if files.is_file(&path) {
                entries.extend(syslinux::read(&mut reader, &path));
                sources.push(path);
            }
        }
    }
    for root in ["/", "/boot"] {
        let (found, paths) = bls::read(&mut reader, root);
        entries.extend(found);
        sources.extend(paths);
    }
    for path in GRUB_FILES {
        if files.is_file(path) {
            entries.extend(grub::read(&mut reader, path));
            sources.push((*path).to_owned());
        }
    }
    if sources.is_empty() {
        return Err(DiscoverError::NoConfiguration);
    }
    let mut seen = BTreeSet::new();
    entries.retain(|entry| {
        seen.insert((
            entry.kernel.to_lowercase(),
            entry.initrd.clone(),
            entry.cmdline.clone(),
            entry.title.clone(),
        ))
    });
    entries.truncate(MAX_ENTRIES);
    if entries.is_empty() {
        return Err(DiscoverError::NoEntries {
            sources,
            problems: reader.problems,
        });
    }
    Ok(Discovered {
        entries,
        problems: reader.problems,
    })
}

/// ISOLINUX's own search order, then where distributions put what it includes.
const SYSLINUX_DIRECTORIES: [&str; 8] = [
    "/boot/isolinux",
    "/isolinux",
    "/boot/syslinux",
    "/syslinux",
    "/",
    "/boot",
    "/boot/x86_64/loader",
    "/EFI/BOOT",
];

const GRUB_FILES: [&str; 10] = [
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/EFI/BOOT/grub.cfg",
    "/EFI/debian/grub.cfg",
    "/EFI/fedora/grub.cfg",
    "/grub/grub.cfg",
    "/boot/grub/x86_64-efi/grub.cfg",
    "/boot/grub/i386-pc/grub.cfg",
    "/boot/grub/loopback.cfg",
    "/boot/grub2/loopback.cfg",
];

/// Reads configuration files within a budget and collects what was passed over.
pub(crate) struct Reader<'a> {
    pub(crate) files: &'a dyn Files,
    reads: usize,
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(files: &'a dyn Files) -> Self {
        Self {
            files,
            reads: 0,
            problems: Vec::new(),
        }
    }

    /// The text of a configuration file; `None`, with a problem noted, if it cannot be read.
    pub(crate) fn text(&mut self, path: &str) -> Option<String> {
        if self.reads >= MAX_READS {
            self.problem(path, None, format!("not read: {MAX_READS} files were read"));
            return None;
        }
        self.reads += 1;
        match self.files.read(path, MAX_CONFIG) {
            // Titles may be in any encoding; everything that matters is ASCII.
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => {
                self.problem(path, None, error.to_string());
                None
            }
        }
    }

    pub(crate) fn problem(&mut self, source: &str, line: Option<usize>, what: impl Into<String>) {
        let problem = Problem {
            source: source.to_owned(),
            line,
            what: what.into(),
        };
        if self.problems.len() < MAX_PROBLEMS && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Names in `directory` that end in `suffix`, sorted; nothing if there is no such directory.
    pub(crate) fn names(&mut self, directory: &str, suffix: &str) -> Vec<String> {
        match self.files.list(directory) {
            Ok(mut listed) => {
                listed.sort();
                listed
                    .into_iter()
                    .filter(|one| !one.is_directory)
                    .map(|one| one.name)
                    .filter(|name| name.to_lowercase().ends_with(suffix))
                    .collect()
            }
            Err(FileError::NotFound) => Vec::new(),
            Err(error) => {
                self.problem(directory, None, error.to_string());
                Vec::new()
            }
        }
    }
}

/// Cuts `text` to at most `MAX_TEXT` bytes, at a character.
pub(crate) fn capped(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let mut end = MAX_TEXT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests;
