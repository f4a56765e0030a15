//! The kernel file systems PID 1 needs, as a table.

use std::fs;
use std::io;
use std::path::Path;

use crate::sys::{self, SysError};

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount {
    /// Type, and source name in /proc/mounts.
    pub file_system: &'static str,
    /// Mount point under the root, without a leading slash.
    pub target: &'static str,
    /// MS_* flags.
    pub flags: libc::c_ulong,
    /// Options of the file system.
    pub data: &'static str,
}

const QUIET: libc::c_ulong = libc::MS_NOSUID | libc::MS_NOEXEC;

/// What is mounted, in order.
pub const TABLE: [Mount; 4] = [
    Mount {
        file_system: "proc",
        target: "proc",
        flags: QUIET | libc::MS_NODEV,
        data: "",
    },
    Mount {
        file_system: "sysfs",
        target: "sys",
        flags: QUIET | libc::MS_NODEV,
        data: "",
    },
    Mount {
        file_system: "devtmpfs",
        target: "dev",
        flags: QUIET,
        data: "mode=0755",
    },
    Mount {
        file_system: "tmpfs",
        target: "run",
        flags: QUIET | libc::MS_NODEV,
        data: "mode=0755,size=16m",
    },
];

/// Why a mount is missing.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount point could not be made.
    #[error("making the mount point {target}")]
    MountPoint {
        /// Which one.
        target: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error("mounting {file_system}")]
    Refused {
        /// Which file system.
        file_system: &'static str,
        /// The call.
        #[source]
        source: SysError,
    },
}

impl Mount {
    /// Mounts it below `root`. Mounted already, as after a retry, is fine.
    pub fn mount(&self, root: &Path) -> Result<(), MountError> {
        let target = root.join(self.target);
        fs::create_dir_all(&target).map_err(|source| MountError::MountPoint {
            target: target.display().to_string(),
            source,
        })?;
        let result = sys::mount(
            self.file_system,
            &target.to_string_lossy(),
            self.file_system,
            self.flags,
            self.data,
        );
        match result {
            Err(error) if error.errno == libc::EBUSY => Ok(()),
            other => other.map_err(|source| MountError::Refused {
                file_system: self.file_system,
                source,
            }),
        }
    }
}

/// Mounts the whole table and names what was mounted.
pub fn mount_all(root: &Path) -> Result<String, MountError> {
    for mount in &TABLE {
        mount.mount(root)?;
    }
    Ok(TABLE.map(|mount| format!("/{}", mount.target)).join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_is_a_file_names_the_mount_point() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = mount_all(file.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("making the mount point {}/proc", file.path().display())
        );
    }

    #[test]
    fn nothing_mounted_may_run_programs_and_only_dev_has_devices() {
        for mount in TABLE {
            assert_ne!(mount.flags & libc::MS_NOEXEC, 0, "{}", mount.target);
            let devices = mount.flags & libc::MS_NODEV == 0;
            assert_eq!(devices, mount.target == "dev", "{}", mount.target);
        }
    }
}
