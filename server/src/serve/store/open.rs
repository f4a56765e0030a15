//! Opens a file below a folder so that no symbolic link on the way leads elsewhere.
//!
//! Each part of the path is opened relative to the one before it with `O_NOFOLLOW`; only the
//! root itself may be, or lie behind, a link. Who can put a link into the store can read what the
//! server can read, and a bind mount serves as well, so there is no switch for it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

/// A regular file, open for reading.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: File,
    /// Bytes it had when it was opened.
    pub(crate) length: u64,
    /// Differs between any two states of the file that a careful writer can leave behind: who
    /// replaces it makes a new inode, who changes it in place moves its time.
    pub(crate) state: String,
}

/// Why a file could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("no such file")]
    NotFound,
    #[error("a symbolic link is in the way")]
    SymbolicLink,
    #[error("not a regular file")]
    NotRegular,
    #[error("opening file")]
    Io(#[source] io::Error),
}

/// Opens `path`, relative and free of `.` and `..`, below `root`.
pub(crate) fn open_beneath(root: &Path, path: &str) -> Result<OpenFile, OpenError> {
    // O_PATH is enough to walk through a folder, and needs no permission to list it.
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut place = openat(CWD, root, folder, Mode::empty())?;
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    for part in folders.split('/').filter(|part| !part.is_empty()) {
        if matches!(part, "." | "..") {
            return Err(OpenError::NotFound);
        }
        place = openat(&place, part, folder | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|errno| because(errno, || is_link(&place, part)))?;
    }
    // O_NONBLOCK: opening a FIFO that somebody put there must not wait for its writer.
    let file = openat(
        &place,
        name,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| because(errno, || is_link(&place, name)))?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(OpenError::Io)?;
    if !metadata.is_file() {
        return Err(OpenError::NotRegular);
    }
    Ok(OpenFile {
        length: metadata.len(),
        state: format!(
            "{:x}-{:x}-{:x}-{:x}",
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec()
        ),
        file,
    })
}

/// `O_NOFOLLOW` on a link says ELOOP, together with `O_DIRECTORY` ENOTDIR.
fn because(errno: Errno, is_link: impl Fn() -> bool) -> OpenError {
    match errno {
        Errno::LOOP => OpenError::SymbolicLink,
        Errno::NOTDIR if is_link() => OpenError::SymbolicLink,
        errno => errno.into(),
    }
}

fn is_link(place: &impl std::os::fd::AsFd, name: &str) -> bool {
    rustix::fs::readlinkat(place, name, Vec::new()).is_ok()
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => Self::NotFound,
            // Opening a socket.
            Errno::NXIO => Self::NotRegular,
            errno => Self::Io(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("store/a/b")).unwrap();
        std::fs::write(dir.path().join("store/a/b/file"), b"inside").unwrap();
        std::fs::write(dir.path().join("secret"), b"outside").unwrap();
        dir
    }

    fn open(dir: &tempfile::TempDir, path: &str) -> Result<OpenFile, OpenError> {
        open_beneath(&dir.path().join("store"), path)
    }

    #[test]
    fn opens_a_file_three_folders_down() {
        let dir = folder();
        assert_eq!(open(&dir, "a/b/file").unwrap().length, 6);
    }

    #[test]
    fn follows_no_link_at_the_end_or_on_the_way() {
        let dir = folder();
        let store = dir.path().join("store");
        symlink("../secret", store.join("file")).unwrap();
        symlink("..", store.join("up")).unwrap();
        symlink("b", store.join("a/inside")).unwrap();
        for path in ["file", "up/secret", "a/inside/file"] {
            assert!(
                matches!(open(&dir, path), Err(OpenError::SymbolicLink)),
                "{path}"
            );
        }
    }

    #[test]
    fn the_root_itself_may_be_a_link() {
        let dir = folder();
        symlink("store", dir.path().join("link")).unwrap();
        assert!(open_beneath(&dir.path().join("link"), "a/b/file").is_ok());
    }

    #[test]
    fn refuses_dots_folders_and_special_files() {
        let dir = folder();
        for path in [
            "../secret",
            "a/../../secret",
            "a/./b/file",
            "none",
            "a/b/file/x",
        ] {
            assert!(
                matches!(open(&dir, path), Err(OpenError::NotFound)),
                "{path}"
            );
        }
        assert!(matches!(open(&dir, "a/b"), Err(OpenError::NotRegular)));
        let fifo = dir.path().join("store/fifo");
        rustix::fs::mknodat(
            CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(matches!(open(&dir, "fifo"), Err(OpenError::NotRegular)));
    }

    #[test]
    fn a_replaced_file_has_another_state() {
        let dir = folder();
        let before = open(&dir, "a/b/file").unwrap();
        let fresh = dir.path().join("store/a/b/new");
        std::fs::write(&fresh, b"inside").unwrap();
        std::fs::rename(&fresh, dir.path().join("store/a/b/file")).unwrap();
        assert_ne!(open(&dir, "a/b/file").unwrap().state, before.state);
    }
}
