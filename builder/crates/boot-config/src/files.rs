//! What is a tree of files to the parsers?
//!
//! A few reads and listings on a path from the root, whatever is behind them: an ISO image, a
//! test's list. Paths come out of boot configurations, so this module also turns what such a file
//! says into a path that stays inside the tree.

/// A read-only tree of files. Names are compared without regard to case: ISO 9660 names have
/// none, and boot configurations are written in either.
pub trait Files {
    /// The content of a file of at most `cap` bytes. `path` starts with a slash.
    fn read(&self, path: &str, cap: usize) -> Result<Vec<u8>, FileError>;

    /// The names in a directory, in any order. `directory` starts with a slash.
    fn list(&self, directory: &str) -> Result<Vec<Listed>, FileError>;

    /// Whether `path` is a file.
    fn is_file(&self, path: &str) -> bool;

    /// Whether `path` is a directory.
    fn is_directory(&self, path: &str) -> bool;
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The name alone, without its directory.
    pub name: String,
    /// Whether it is a directory itself.
    pub is_directory: bool,
}

/// Why a file could not be read or a directory not be listed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// No such file or directory.
    #[error("not found")]
    NotFound,
    /// Larger than the reader wants to hold.
    #[error("{size} bytes, at most {cap} are read")]
    TooLarge {
        /// Size of the file.
        size: u64,
        /// What the reader allowed.
        cap: u64,
    },
    /// The tree itself is damaged or its device failed.
    #[error("{0}")]
    Unreadable(String),
}

/// Resolves `path`, as a configuration in `directory` wrote it, to an absolute path.
///
/// Backslashes count as slashes (BLS entries of EFI systems), a GRUB device in front is removed,
/// `..` never leaves the root.
pub(crate) fn resolve(directory: &str, path: &str) -> String {
    let path = without_device(path).replace('\\', "/");
    let from = if path.starts_with('/') { "" } else { directory };
    let mut parts: Vec<&str> = Vec::new();
    for part in from.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The directory part of an absolute path.
pub(crate) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

/// `(loop)/casper/vmlinuz` and `($root)/casper/vmlinuz` are `/casper/vmlinuz`: there is one tree.
fn without_device(path: &str) -> &str {
    match path.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((_, rest)) => rest,
        None => path,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A tree held in memory.
    #[derive(Default)]
    pub(crate) struct Tree(BTreeMap<String, Vec<u8>>);

    impl Tree {
        pub(crate) fn new(files: &[(&str, &str)]) -> Self {
            Self(
                files
                    .iter()
                    .map(|(path, text)| (path.to_lowercase(), text.as_bytes().to_vec()))
                    .collect(),
            )
        }

        /// Adds one file.
        pub(crate) fn and(mut self, path: &str, text: &str) -> Self {
            self.0.insert(path.to_lowercase(), text.as_bytes().to_vec());
            self
        }

        /// Adds empty files, for kernels and the like.
        pub(crate) fn with(mut self, paths: &[&str]) -> Self {
            self.0
                .extend(paths.iter().map(|path| (path.to_lowercase(), Vec::new())));
            self
        }
    }

    impl Files for Tree {
        fn read(&self, path: &str, cap: usize) -> Result<Vec<u8>, FileError> {
            let bytes = self
                .0
                .get(&path.to_lowercase())
                .ok_or(FileError::NotFound)?;
            if bytes.len() > cap {
                return Err(FileError::TooLarge {
                    size: bytes.len() as u64,
                    cap: cap as u64,
                });
            }
            Ok(bytes.clone())
        }

        fn list(&self, directory: &str) -> Result<Vec<Listed>, FileError> {
            let prefix = match directory {
                "/" => "/".to_owned(),
                directory => format!("{}/", directory.to_lowercase()),
            };
            let mut found: Vec<Listed> = self
                .0
                .keys()
                .filter_map(|path| path.strip_prefix(&prefix))
                .map(|rest| match rest.split_once('/') {
                    Some((name, _)) => (name, true),
                    None => (rest, false),
                })
                .map(|(name, is_directory)| Listed {
                    name: name.into(),
                    is_directory,
                })
                .collect();
            found.dedup();
            if found.is_empty() {
                return Err(FileError::NotFound);
            }
            Ok(found)
        }

        fn is_file(&self, path: &str) -> bool {
            self.0.contains_key(&path.to_lowercase())
        }

        fn is_directory(&self, path: &str) -> bool {
            self.list(path).is_ok()
        }
    }

    #[test]
    fn paths_resolve_against_the_configuration_and_stay_inside_the_tree() {
        for (directory, path, expected) in [
            ("/isolinux", "vmlinuz", "/isolinux/vmlinuz"),
            ("/isolinux", "../live/./vmlinuz", "/live/vmlinuz"),
            ("/", "../../etc/passwd", "/etc/passwd"),
            ("/x", "/live//vmlinuz", "/live/vmlinuz"),
            ("/x", "(cd0,msdos1)/live/vmlinuz", "/live/vmlinuz"),
            ("/x", "\\EFI\\arch\\vmlinuz", "/EFI/arch/vmlinuz"),
            ("/x", "()", "/x"),
            ("/x", "(open/vmlinuz", "/x/(open/vmlinuz"),
        ] {
            assert_eq!(resolve(directory, path), expected, "{path} in {directory}");
        }
    }

    #[test]
    fn parents_end_at_the_root() {
        assert_eq!(parent("/a/b"), "/a");
        assert_eq!(parent("/a"), "/");
        assert_eq!(parent("/"), "/");
    }
}
