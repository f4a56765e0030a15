//! The machine itself: its clock, its disks, the programs that recipes need.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use indicatif::HumanBytes;
use sparetire_builder::stage1::cli::RELEASE_DATE;
use sparetire_manifest::Timestamp;

use super::Findings;

/// Below this a small image does not fit any more.
const LITTLE: u64 = 2 << 30;
/// Below this not even a session's database is safe.
const NOTHING: u64 = 64 << 20;
/// Programs that `image build` starts, and the Debian packages that have them.
const PROGRAMS: &[(&str, &str)] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("mksquashfs", "squashfs-tools"),
    ("grub-mkimage", "grub-common"),
];

/// Signatures, expiry dates and certificates are judged by this machine's clock.
pub(super) fn clock(now: Timestamp, findings: &mut Findings) {
    let release = Timestamp::from_unix(u64::try_from(RELEASE_DATE).unwrap_or(0));
    if now < release {
        findings.fail(
            "clock",
            format!("{now}, before this program was released ({release})"),
            "set the clock, for example with timedatectl; images it signs now would count as old",
        );
    } else {
        findings.ok("clock", now.to_string());
    }
}

pub(super) fn programs(findings: &mut Findings) {
    let path = env::var_os("PATH").unwrap_or_default();
    for (program, package) in PROGRAMS {
        let found = env::split_paths(&path)
            .map(|dir| dir.join(program))
            .find(|file| {
                file.metadata()
                    .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
            });
        let check = format!("program {program}");
        match found {
            Some(file) => findings.ok(check, file.display().to_string()),
            None => findings.warn(
                check,
                "is not installed; `image build` needs it, nothing else does",
                format!("apt install {package}"),
            ),
        }
    }
}

/// Free space where `path` is or will be.
pub(super) fn disk(check: &str, path: &Path, findings: &mut Findings) {
    let Some(existing) = path.ancestors().find(|path| path.exists()) else {
        findings.fail(
            check,
            format!("{} leads nowhere", path.display()),
            "name an absolute path",
        );
        return;
    };
    let free = match rustix::fs::statvfs(existing) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(error) => {
            findings.warn(
                check,
                format!(
                    "asking for the free space of {}: {error}",
                    existing.display()
                ),
                "look with df",
            );
            return;
        }
    };
    let found = format!("{} free at {}", HumanBytes(free), existing.display());
    const CURE: &str = "make room, or name a folder on another disk";
    if free < NOTHING {
        findings.fail(check, found, CURE);
    } else if free < LITTLE {
        findings.warn(check, found, CURE);
    } else {
        findings.ok(check, found);
    }
}
