//! What can be wrong with a store, or stop a change to it.

use std::io;
use std::path::{Path, PathBuf};

use sparetire_manifest::{Digest, ImageName, IndexError, ParseError};

/// What went wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder is missing, or has no `images` and `packs` in it.
    #[error("{} is no image store", path.display())]
    NoStore {
        /// The folder.
        path: PathBuf,
    },
    /// A new store would be mixed with other files.
    #[error("{} is neither an image store nor empty", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// Another process writes to the store.
    #[error("another process is writing to {}; without --no-wait this one waits for it", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// No such image, or no such version of it.
    #[error("no image {name}{}", version.map(|v| format!(" in version {v}")).unwrap_or_default())]
    NoImage {
        /// Which image.
        name: ImageName,
        /// Which version, if one was asked for.
        version: Option<u64>,
    },
    /// Versions are never replaced.
    #[error("image {name} has a version {version} already")]
    VersionExists {
        /// Which image.
        name: ImageName,
        /// Which version.
        version: u64,
    },
    /// The version that the signed pointer names is to go while others stay.
    #[error(
        "version {version} is the newest of {name}, and PCs refuse to go back; put another one first \
         (`image republish {name} --version OLDER`), or remove the whole image (--all)"
    )]
    Newest {
        /// Which image.
        name: ImageName,
        /// Which version.
        version: u64,
    },
    /// The same version is something else here and there.
    #[error(
        "version {version} of {name} is another one there than here; one of the two has to be removed"
    )]
    OtherVersion {
        /// Which image.
        name: ImageName,
        /// Which version.
        version: u64,
    },
    /// Following another store would mean going back.
    #[error(
        "the newest version of {name} is {here} already, and {there} there; PCs refuse to go back"
    )]
    Older {
        /// Which image.
        name: ImageName,
        /// Newest version at the destination.
        here: u64,
        /// Newest version at the source.
        there: u64,
    },
    /// A pack that came is not the one its name says.
    #[error("pack {wanted} is damaged: {length} bytes with digest {found}")]
    OtherPack {
        /// Its name.
        wanted: Digest,
        /// Digest of what came.
        found: Digest,
        /// Bytes that came.
        length: u64,
    },
    /// A version needs a pack that did not come.
    #[error("version {version} of {name} needs pack {pack}, which is missing")]
    NoPack {
        /// Which image.
        name: ImageName,
        /// Which version.
        version: u64,
        /// Name of the pack.
        pack: Digest,
    },
    /// A file is longer than any of its kind may be.
    #[error("{path} is longer than {most} bytes")]
    TooLong {
        /// Path inside the store.
        path: String,
        /// The limit.
        most: u64,
    },
    /// A signature file is not UTF-8.
    #[error("{path} is no text")]
    NoText {
        /// Path inside the store.
        path: String,
    },
    /// A manifest or pointer makes no sense.
    #[error("{path} makes no sense")]
    Parse {
        /// Path inside the store.
        path: String,
        /// Why.
        source: ParseError,
    },
    /// An index makes no sense, or is not the one its manifest names.
    #[error("{path} is not the index its manifest names")]
    Index {
        /// Path inside the store.
        path: String,
        /// Why.
        source: IndexError,
    },
    /// The file system refused.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl StoreError {
    pub(crate) fn at(path: &Path, doing: &'static str, source: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}
