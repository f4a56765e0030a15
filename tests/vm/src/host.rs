//! Programs on the host: running them, starting them so that they die with us, and
//! reading what they print with a deadline.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs to the end and returns standard output; standard error is in the error.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A program in the background; killed when dropped, and by the kernel when this process
/// dies in a way that drops nothing.
#[derive(Debug)]
pub struct Background {
    child: Child,
    name: String,
}

impl Background {
    /// Starts `command` below `setpriv`, which arranges for the kernel's kill. It is tied
    /// to the calling thread, so only threads that outlive the program may call this.
    pub fn start(command: &Command) -> Result<Self> {
        Self::start_with(command, Stdio::null(), Stdio::piped)
    }

    /// The same, printing to our own terminal.
    pub fn start_shown(command: &Command) -> Result<Self> {
        Self::start_with(command, Stdio::null(), Stdio::inherit)
    }

    /// The same, printing to nowhere.
    pub fn start_quiet(command: &Command) -> Result<Self> {
        Self::start_with(command, Stdio::null(), Stdio::null)
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The same as [`Background::start`], with a standard input to write to.
    pub fn start_to_type_at(command: &Command) -> Result<(Self, ChildStdin)> {
        let mut this = Self::start_with(command, Stdio::piped(), Stdio::piped)?;
        let input = this.child.stdin.take().context("there is no input")?;
        Ok((this, input))
    }

    fn start_with(command: &Command, input: Stdio, output: impl Fn() -> Stdio) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut wrapped = Command::new("setpriv");
        wrapped
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        wrapped.stdin(input).stdout(output()).stderr(output());
        let child = wrapped
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Background { child, name })
    }

    /// The lines of standard output. Once only.
    pub fn stdout(&mut self) -> Result<Lines> {
        let stream = self
            .child
            .stdout
            .take()
            .context("standard output was taken before")?;
        Ok(Lines::new(&self.name, stream))
    }

    /// Calls `then` when it has ended (closed its standard output). Instead of
    /// [`Background::stdout`].
    pub fn at_end(&mut self, then: impl FnOnce() + Send + 'static) -> Result<()> {
        let mut stream = self
            .child
            .stdout
            .take()
            .context("standard output was taken before")?;
        thread::spawn(move || {
            // What it prints there is of no interest, and so is how reading ends.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
            then();
        });
        Ok(())
    }

    /// The lines of standard error. Once only.
    pub fn stderr(&mut self) -> Result<Lines> {
        let stream = self
            .child
            .stderr
            .take()
            .context("standard error was taken before")?;
        Ok(Lines::new(&self.name, stream))
    }

    /// Waits until it ends by itself; whether it ended well.
    pub fn wait(&mut self) -> Result<bool> {
        Ok(self.code()? == Some(0))
    }

    /// Waits until it ends by itself; its exit code, if no signal ended it.
    pub fn code(&mut self) -> Result<Option<i32>> {
        let status = self.child.wait();
        Ok(status
            .with_context(|| format!("waiting for {}", self.name))?
            .code())
    }

    /// Interrupts it, as Ctrl-C does.
    pub fn interrupt(&self) -> Result<()> {
        let id = self.child.id().to_string();
        capture(Command::new("kill").args(["-INT", &id])).map(drop)
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
        // Fails only when it ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A stream of lines that can be waited for.
#[derive(Debug)]
pub struct Lines {
    name: String,
    receiver: Receiver<String>,
}

impl Lines {
    fn new(name: &str, stream: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    break;
                }
            }
        });
        Lines {
            name: name.to_owned(),
            receiver,
        }
    }

    /// The next line; `None` at the end of the stream.
    pub fn next_within(&self, limit: Duration) -> Result<Option<String>> {
        match self.receiver.recv_timeout(limit) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} printed nothing for {} s", self.name, limit.as_secs())
            }
        }
    }

    /// Lines that have arrived and were not taken yet.
    pub fn ready(&self) -> impl Iterator<Item = String> + '_ {
        self.receiver.try_iter()
    }

    /// Everything until the stream ends or the limit is reached, for error messages.
    pub fn rest_within(&self, limit: Duration) -> String {
        let end = Instant::now() + limit;
        let mut text = String::new();
        while let Ok(line) = self
            .receiver
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

/// A random text that no earlier run can have printed.
pub fn random_marker() -> Result<String> {
    let mut bytes = [0; 12];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("reading /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The first of `paths` that exists.
pub fn first_existing(what: &str, paths: &[&str]) -> Result<PathBuf> {
    match paths.iter().map(PathBuf::from).find(|path| path.exists()) {
        Some(path) => Ok(path),
        None => bail!(
            "{what} is not installed: none of {} exists; run `cargo xtask setup`",
            paths.join(", ")
        ),
    }
}

/// Deadlines are for a machine with two free CPUs; `SPARETIRE_VM_PATIENCE=3` triples them.
pub fn patient(limit: Duration) -> Duration {
    let factor = std::env::var("SPARETIRE_VM_PATIENCE")
        .ok()
        .and_then(|text| text.parse::<u32>().ok());
    limit * factor.unwrap_or(1).clamp(1, 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_arrive_and_the_end_is_seen() {
        let mut program =
            Background::start(Command::new("sh").args(["-c", "echo one; echo two"])).unwrap();
        let lines = program.stdout().unwrap();
        let limit = Duration::from_secs(20);
        assert_eq!(lines.next_within(limit).unwrap().as_deref(), Some("one"));
        assert_eq!(lines.next_within(limit).unwrap().as_deref(), Some("two"));
        assert_eq!(lines.next_within(limit).unwrap(), None);
    }

    #[test]
    fn a_silent_program_is_named() {
        let mut program = Background::start(Command::new("sleep").arg("60")).unwrap();
        let lines = program.stdout().unwrap();
        let error = lines
            .next_within(Duration::from_millis(10))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("sleep"), "{error}");
    }

    #[test]
    fn a_dropped_program_is_gone() {
        let program = Background::start(Command::new("sleep").arg("60")).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", program.child.id()));
        assert!(proc.exists());
        drop(program);
        assert!(!proc.exists());
    }

    #[test]
    fn markers_differ() {
        assert_ne!(random_marker().unwrap(), random_marker().unwrap());
    }
}
