//! The CD drive: nbdkit serves an ISO image at a given speed and logs each request.
//!
//! QEMU reaches it over a Unix socket; behind a USB CD drive one guest command stays one
//! request, which an IDE drive in QEMU does not keep.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::host::Background;
use crate::read_log::ReadLog;

/// How slow the drive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Speed {
    /// Bytes per second.
    pub rate: Option<u64>,
    /// Before each answer.
    pub delay: Option<Duration>,
}

/// A drive with its medium. Ends when dropped.
#[derive(Debug)]
pub struct CdDrive {
    _nbdkit: Background,
    dir: TempDir,
}

impl CdDrive {
    /// Inserts `image`; returns once the drive answers.
    pub fn insert(image: &Path, speed: Speed) -> Result<Self> {
        // Socket paths must be short, so not below the target directory.
        let dir = tempfile::Builder::new()
            .prefix("sparetire-cd")
            .tempdir()
            .context("creating a temporary directory")?;
        let mut command = Command::new("nbdkit");
        // nbdkit writes its process id once it listens. Of its streams only standard error
        // stays open: a first line that is a number means ready, any other is a complaint.
        command.args([
            "--foreground",
            "--readonly",
            "--pidfile",
            "/dev/stderr",
            "--unix",
        ]);
        command.arg(dir.path().join("socket")).arg("--filter=log");
        let mut settings = Vec::new();
        if let Some(rate) = speed.rate {
            command.arg("--filter=rate");
            settings.push(format!("rate={}", rate * 8));
            // By default two seconds' worth come at full speed first, a third of stage one.
            settings.push("burstiness=0.1".to_owned());
        }
        if let Some(delay) = speed.delay {
            command.arg("--filter=delay");
            settings.push(format!("delay-read={}ms", delay.as_millis()));
        }
        command
            .arg("file")
            .arg(image)
            .arg(format!("logfile={}", dir.path().join("log").display()))
            .args(settings);
        let mut nbdkit = Background::start(&command)?;
        let said = nbdkit.stderr()?;
        let first = said
            .next_within(Duration::from_secs(30))?
            .unwrap_or_default();
        if first.trim().parse::<u32>().is_err() {
            bail!(
                "nbdkit did not start: {first}\n{}",
                said.rest_within(Duration::from_secs(5))
            );
        }
        Ok(CdDrive {
            _nbdkit: nbdkit,
            dir,
        })
    }

    /// Where QEMU finds it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// What has been read so far.
    pub fn log(&self) -> Result<ReadLog> {
        let path = self.dir.path().join("log");
        ReadLog::parse(&fs::read_to_string(&path).context("reading nbdkit's log")?)
            .context("reading nbdkit's log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_medium_is_reported_in_nbdkits_words() {
        let error = CdDrive::insert(Path::new("/nonexistent.iso"), Speed::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("nonexistent.iso"), "{error}");
    }

    #[test]
    fn an_unread_drive_has_an_empty_log() {
        let medium = tempfile::NamedTempFile::new().unwrap();
        let drive = CdDrive::insert(
            medium.path(),
            Speed {
                rate: Some(600_000),
                delay: None,
            },
        )
        .unwrap();
        assert_eq!(drive.log().unwrap().requests(), 0);
    }
}
