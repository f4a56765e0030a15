//! How much memory is in use, and how much was at most?

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::machine::{MachineError, error, text};

/// Size and use of RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemInfo {
    /// Bytes that the kernel manages (`MemTotal`).
    pub total: u64,
    /// Bytes that can be had without swapping (`MemAvailable`).
    pub available: u64,
}

impl MemInfo {
    /// Reads `/proc/meminfo` below `root`.
    pub fn read(root: &Path) -> Result<MemInfo, MachineError> {
        const PATH: &str = "proc/meminfo";
        let text = text(root, PATH)?;
        let field = |name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            number
                .and_then(|number| number.checked_mul(1024))
                .ok_or_else(|| error(root, PATH, name))
        };
        Ok(MemInfo {
            total: field("MemTotal")?,
            available: field("MemAvailable")?,
        })
    }
}

/// How far available memory has sunk since the start.
#[derive(Debug)]
pub struct MemoryWatch {
    root: PathBuf,
    start: u64,
    least: u64,
}

impl MemoryWatch {
    /// Starts from what is available now.
    pub fn start(root: &Path) -> Result<MemoryWatch, MachineError> {
        let start = MemInfo::read(root)?.available;
        Ok(MemoryWatch {
            root: root.to_owned(),
            start,
            least: start,
        })
    }

    /// Looks once.
    pub fn sample(&mut self) {
        if let Ok(now) = MemInfo::read(&self.root) {
            self.least = self.least.min(now.available);
        }
    }

    /// Bytes in use at most, beyond what was in use at the start.
    pub fn peak_used(&self) -> u64 {
        self.start - self.least
    }

    /// Looks every few milliseconds while `work` runs: a system call frees its copies before it
    /// returns.
    pub(super) fn during<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (stop, stopped) = mpsc::channel::<()>();
        let result = thread::scope(|scope| {
            let watch = &mut *self;
            // Without a thread the moments before and after must do.
            let _ = thread::Builder::new().spawn_scoped(scope, move || {
                while stopped.recv_timeout(Duration::from_millis(2))
                    == Err(RecvTimeoutError::Timeout)
                {
                    watch.sample();
                }
            });
            let result = work();
            drop(stop);
            result
        });
        self.sample();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watch_keeps_the_lowest_point() {
        let root = tempfile::tempdir().unwrap();
        let say = |available: u64| {
            std::fs::create_dir_all(root.path().join("proc")).unwrap();
            let text = format!("MemTotal: 1000 kB\nMemAvailable:   {available} kB\n");
            std::fs::write(root.path().join("proc/meminfo"), text).unwrap();
        };
        say(900);
        let mut watch = MemoryWatch::start(root.path()).unwrap();
        assert_eq!(watch.peak_used(), 0);
        say(300);
        watch.sample();
        say(700);
        assert_eq!(watch.during(|| 5), 5);
        assert_eq!(watch.peak_used(), 600 * 1024);
        say(200);
        watch.during(|| ());
        assert_eq!(watch.peak_used(), 700 * 1024);
    }

    #[test]
    fn meminfo_that_lacks_a_line_names_it() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc")).unwrap();
        std::fs::write(
            root.path().join("proc/meminfo"),
            "MemTotal: 1000 kB\nMemFree: 5 kB\n",
        )
        .unwrap();
        let error = MemInfo::read(root.path()).unwrap_err();
        assert!(
            error.to_string().ends_with("proc/meminfo: MemAvailable"),
            "{error}"
        );
    }
}
