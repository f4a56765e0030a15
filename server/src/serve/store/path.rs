//! Which file of a store a request path names.
//!
//! The store's layout is a closed list, so a path is parsed into one of its members and the path
//! on disk is written anew from that: no byte of the request reaches the file system. Whatever
//! else lies in the folder (temporary files, locks, a key left there by mistake) has no name
//! here, and neither has `..`, an encoded slash or a second spelling of the same file.

use sparetire_manifest::{Digest, ImageName, layout};

/// A file that a store may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreFile {
    /// Where it lies, relative to the store.
    pub(crate) path: String,
    /// What it is.
    pub(crate) kind: FileKind,
}

/// What kind of file: says how it is sent and for how long it may be cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// `latest.json` or its signature: the one pair of files that changes.
    Latest {
        /// Whether it is the signature.
        signature: bool,
    },
    /// `manifest.json` or its signature: written once per version.
    Manifest {
        /// Whether it is the signature.
        signature: bool,
    },
    /// The chunk index of one version.
    Index,
    /// A pack, named by its digest.
    Pack(Digest),
}

impl FileKind {
    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Self::Latest { signature: false } | Self::Manifest { signature: false } => {
                "application/json"
            }
            Self::Latest { signature: true } | Self::Manifest { signature: true } => {
                "text/plain; charset=utf-8"
            }
            Self::Index | Self::Pack(_) => "application/octet-stream",
        }
    }

    /// RFC 9111 section 5.2.2 and RFC 8246: what never changes need never be asked for again;
    /// the pointer to the newest version is to be asked for every time.
    pub(crate) fn cache_control(&self) -> &'static str {
        match self {
            // A manifest gets further signatures while keys change.
            Self::Latest { .. } | Self::Manifest { signature: true } => "no-cache",
            Self::Manifest { signature: false } | Self::Index | Self::Pack(_) => {
                "public, max-age=31536000, immutable"
            }
        }
    }
}

/// Parses what follows `/store/` in the request target, percent-encoding untouched: no name in a
/// store needs any.
pub(crate) fn parse(path: &str) -> Option<StoreFile> {
    let file = named(path)?;
    // One spelling per file: leading zeros, capitals in a digest or the wrong folder of a pack
    // would otherwise be further names for the same bytes.
    (file.path == path).then_some(file)
}

fn named(path: &str) -> Option<StoreFile> {
    let mut parts = path.split('/');
    let file = match (parts.next()?, parts.next()?, parts.next()?, parts.next()) {
        ("images", name, file, None) => {
            let name = image_name(name)?;
            let (file, signature) = split_signature(file);
            (file == "latest.json").then(|| StoreFile {
                path: signed(layout::latest_path(&name), signature),
                kind: FileKind::Latest { signature },
            })?
        }
        ("images", name, version, Some(file)) => {
            let (name, version) = (image_name(name)?, version.parse::<u64>().ok()?);
            let (plain, signature) = split_signature(file);
            if plain == "manifest.json" {
                StoreFile {
                    path: signed(layout::manifest_path(&name, version), signature),
                    kind: FileKind::Manifest { signature },
                }
            } else {
                (file == "index").then(|| StoreFile {
                    path: layout::index_path(&name, version),
                    kind: FileKind::Index,
                })?
            }
        }
        ("packs", _, file, None) => {
            let digest: Digest = file.strip_suffix(".pack")?.parse().ok()?;
            StoreFile {
                path: layout::pack_path(&digest),
                kind: FileKind::Pack(digest),
            }
        }
        _ => return None,
    };
    parts.next().is_none().then_some(file)
}

fn image_name(text: &str) -> Option<ImageName> {
    ImageName::try_from(text.to_owned()).ok()
}

fn split_signature(file: &str) -> (&str, bool) {
    match file.strip_suffix(".minisig") {
        Some(plain) => (plain, true),
        None => (file, false),
    }
}

fn signed(path: String, signature: bool) -> String {
    if signature {
        layout::signature_path(&path)
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACK: &str =
        "packs/ab/ab00000000000000000000000000000000000000000000000000000000000001.pack";

    #[test]
    fn every_file_of_a_store_has_a_name() {
        let cases = [
            (
                "images/debian-12/latest.json",
                FileKind::Latest { signature: false },
            ),
            (
                "images/debian-12/latest.json.minisig",
                FileKind::Latest { signature: true },
            ),
            (
                "images/debian-12/20261121235400/manifest.json",
                FileKind::Manifest { signature: false },
            ),
            (
                "images/d/1/manifest.json.minisig",
                FileKind::Manifest { signature: true },
            ),
            ("images/d/18446744073709551615/index", FileKind::Index),
        ];
        for (path, kind) in cases {
            let file = parse(path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(file.path, path);
            assert_eq!(file.kind, kind);
        }
        assert!(matches!(parse(PACK).unwrap().kind, FileKind::Pack(_)));
    }

    #[test]
    fn nothing_else_has_a_name() {
        let upper = PACK.replace("ab", "AB");
        let misplaced = PACK.replacen("ab", "ac", 1);
        let cases = [
            "",
            "/",
            "images",
            "images/",
            "images/debian-12",
            "images/debian-12/",
            "images/debian-12/1",
            "images/debian-12/1/",
            "images/debian-12/1/index/",
            "images/debian-12/1/index.minisig",
            "images/debian-12/1/index/x",
            "images//latest.json",
            "images/./latest.json",
            "images/../latest.json",
            "images/../../etc/passwd",
            "../images/d/latest.json",
            "/images/d/latest.json",
            "//images/d/latest.json",
            "./images/d/latest.json",
            "images/d/../d/latest.json",
            "images/d/..%2fd/latest.json",
            "images/d%2flatest.json",
            "images/%64/latest.json",
            "images/d\\latest.json",
            "images/d/latest.json\0",
            "images/d/latest.json%00",
            "images/d/latest.json.minisig.minisig",
            "images/D/latest.json",
            "images/a..b/latest.json",
            "images/d/01/index",
            "images/d/+1/index",
            "images/d/-1/index",
            "images/d/18446744073709551616/index",
            "images/d/1/manifest.json.tmp",
            "images/d/.latest.json.tmp",
            "packs/ab/ab.pack",
            "packs/ab",
            "packs/",
            "store.lock",
            "keys/default.key",
            upper.as_str(),
            misplaced.as_str(),
            &format!("{PACK}.minisig"),
            &format!("{PACK}/"),
        ];
        for path in cases {
            assert_eq!(parse(path), None, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_named_stays_inside_the_store(
            path in "(images|packs|\\.\\.|[a-z.%/]{0,6})(/(\\.\\.|[a-z0-9.%]{0,20})){0,4}(/(index|latest.json|manifest.json))?"
        ) {
            if let Some(file) = parse(&path) {
                assert!(!file.path.starts_with('/'));
                assert!(file.path.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
            }
        }
    }
}
