//! QEMU as a child that never outlives us: killed when dropped, and by the kernel when this
//! process dies in a way that drops nothing.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

/// Lines of complaints that are kept, and the length of one in bytes.
const COMPLAINTS: usize = 20;
const COMPLAINT_LENGTH: u64 = 1000;

/// The child.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    complaints: Arc<Mutex<VecDeque<String>>>,
}

impl Process {
    /// Starts `program` below `setpriv` (util-linux), which arranges for the kernel's kill. The
    /// kernel ties it to the calling thread, so only a thread of the runtime that will also end
    /// it may call this, not one of its blocking pool.
    pub(super) fn start(program: &Path, arguments: &[OsString]) -> io::Result<Self> {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A Ctrl-C on our terminal is ours to handle.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let complaints = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(collect(stderr, Arc::clone(&complaints)));
        }
        Ok(Process { child, complaints })
    }

    /// The process number while it runs.
    #[must_use]
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns when it has ended.
    pub(super) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => format!("QEMU ended ({status})"),
            Err(error) => format!("QEMU is lost ({error})"),
        }
    }

    /// Kills it and waits until it is gone.
    pub(super) async fn kill(&mut self) {
        // Fails only when it ended by itself.
        let _ = self.child.kill().await;
    }

    /// The last things it complained about.
    #[must_use]
    pub(super) fn complaints(&self) -> String {
        let lines = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("; ")
    }
}

async fn collect(stream: impl AsyncRead + Unpin, complaints: Arc<Mutex<VecDeque<String>>>) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut reader)
        .take(COMPLAINT_LENGTH)
        .read_until(b'\n', &mut line)
        .await
    {
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        line.clear();
        // Said at each start about the BIOS's serial console, which has no other name.
        if text.contains("fw_cfg item names should be prefixed") {
            continue;
        }
        tracing::debug!(text, "QEMU says");
        let mut lines = complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == COMPLAINTS {
            lines.pop_front();
        }
        lines.push_back(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn sleep() -> Process {
        Process::start(Path::new("sleep"), &["60".into()]).unwrap()
    }

    fn proc(process: &Process) -> PathBuf {
        PathBuf::from(format!("/proc/{}", process.id().unwrap()))
    }

    #[tokio::test]
    async fn a_killed_process_is_gone() {
        let mut process = sleep();
        let proc = proc(&process);
        assert!(proc.exists());
        process.kill().await;
        assert!(!proc.exists());
    }

    #[tokio::test]
    async fn its_last_words_are_kept() {
        let script = "echo cannot >&2; exit 3";
        let mut process = Process::start(Path::new("sh"), &["-c".into(), script.into()]).unwrap();
        assert!(process.ended().await.contains('3'));
        while process.complaints().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(process.complaints(), "cannot");
    }

    #[test]
    fn a_process_dies_with_the_thread_that_started_it() {
        let thread = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let process = runtime.block_on(async { sleep() });
            let proc = proc(&process);
            // Before that, `setpriv` is still at work.
            wait_until(|| {
                std::fs::read_to_string(proc.join("comm")).is_ok_and(|name| name.trim() == "sleep")
            });
            // Neither dropped nor killed: only the kernel can end it now.
            std::mem::forget(process);
            std::mem::forget(runtime);
            proc
        });
        let stat = thread.join().unwrap().join("stat");
        wait_until(|| match std::fs::read_to_string(&stat) {
            // Killed, and waiting for us to notice.
            Ok(text) => text.contains(") Z "),
            Err(_) => true,
        });
    }

    fn wait_until(condition: impl Fn() -> bool) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !condition() {
            assert!(std::time::Instant::now() < end, "it never happened");
            std::thread::yield_now();
        }
    }
}
