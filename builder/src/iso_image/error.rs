//! Why an ISO image, or something in it, could not be read.

use std::io;
use std::path::{Path, PathBuf};

use boot_config::FileError;
use hadris_fs::ErrorKind;

use super::device;

/// Why an image, or something in it, could not be read.
#[derive(Debug, thiserror::Error)]
pub enum IsoImageError {
    /// The file itself.
    #[error("opening {}", path.display())]
    Open {
        /// The image.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Reading the file failed.
    #[error("reading {}", path.display())]
    Read {
        /// The image.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No ISO 9660 volume descriptor at sector 16.
    #[error("{} is not an ISO 9660 image", path.display())]
    NotIso {
        /// The image.
        path: PathBuf,
    },
    /// A structure of the image contradicts itself or points outside.
    #[error("{what} is damaged: {how}")]
    Damaged {
        /// The structure: a path in the image, the volume descriptors, the boot catalog.
        what: String,
        /// What does not hold.
        how: String,
    },
    /// A form of ISO 9660 that is not supported.
    #[error("{what}: {how}")]
    Unsupported {
        /// A path in the image.
        what: String,
        /// What is not supported.
        how: String,
    },
    /// No such file or directory.
    #[error("{path} is not on the image")]
    NotFound {
        /// The path asked for.
        path: String,
    },
    /// A directory where a file was wanted, or the reverse, or neither.
    #[error("{path} is not a {wanted}")]
    WrongKind {
        /// The path asked for.
        path: String,
        /// "file" or "directory".
        wanted: &'static str,
    },
    /// A file larger than the caller wants to hold.
    #[error("{path} has {size} bytes, at most {cap} are read")]
    TooLarge {
        /// The path asked for.
        path: String,
        /// Its size.
        size: u64,
        /// What was allowed.
        cap: u64,
    },
    /// A file reaches beyond the end of the image: the image is cut short, or lies.
    #[error("{path} ends at byte {end}, the image at {size}")]
    CutShort {
        /// The path asked for.
        path: String,
        /// Where the file's last piece would end.
        end: u64,
        /// Size of the image.
        size: u64,
    },
    /// More of something than any honest image has.
    #[error("more than {most} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        most: usize,
    },
}

/// What hadris says about `what` on `image`.
pub(super) fn damaged(
    image: &Path,
    what: &str,
    error: hadris_fs::Error<io::Error>,
) -> IsoImageError {
    match error.kind() {
        ErrorKind::Unsupported => IsoImageError::Unsupported {
            what: what.to_owned(),
            how: error.message().to_owned(),
        },
        ErrorKind::Io => match error.into_device_error() {
            Some(source) if !device::is_exhausted(&source) => IsoImageError::Read {
                path: image.to_owned(),
                source,
            },
            _ => IsoImageError::Damaged {
                what: what.to_owned(),
                how: device::EXHAUSTED.to_owned(),
            },
        },
        _ => IsoImageError::Damaged {
            what: what.to_owned(),
            how: error.to_string(),
        },
    }
}

impl From<IsoImageError> for FileError {
    fn from(error: IsoImageError) -> Self {
        match error {
            IsoImageError::NotFound { .. } | IsoImageError::WrongKind { .. } => Self::NotFound,
            IsoImageError::TooLarge { size, cap, .. } => Self::TooLarge { size, cap },
            error => Self::Unreadable(error.to_string()),
        }
    }
}
