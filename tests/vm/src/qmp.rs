//! QEMU's machine protocol (docs/interop/qmp-spec): one command at a time, events ignored.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// A connection that has negotiated its capabilities.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    /// Takes the greeting and answers it.
    pub fn new(stream: UnixStream) -> Result<Self> {
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .context("setting a time-out on QMP")?;
        let writer = stream.try_clone().context("duplicating a socket")?;
        let mut qmp = Qmp {
            reader: BufReader::new(stream),
            writer,
        };
        if qmp.message()?.get("QMP").is_none() {
            bail!("QEMU did not greet as QMP does");
        }
        qmp.execute("qmp_capabilities", Value::Null)?;
        Ok(qmp)
    }

    /// Runs a command and returns its result.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let mut request = json!({ "execute": command });
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        writeln!(self.writer, "{request}").with_context(|| format!("sending {command} to QEMU"))?;
        loop {
            let mut message = self.message()?;
            if let Some(error) = message.get("error") {
                bail!("QEMU refused {command}: {error}");
            }
            if let Some(result) = message.get_mut("return") {
                return Ok(result.take());
            }
        }
    }

    fn message(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self
            .reader
            .read_line(&mut line)
            .context("reading from QEMU")?
            == 0
        {
            bail!("QEMU closed its control connection");
        }
        serde_json::from_str(&line)
            .with_context(|| format!("understanding QEMU's message {line:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A QEMU that says the given lines whatever it is asked.
    fn faux(lines: &str) -> UnixStream {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(lines.as_bytes()).unwrap();
        // Kept open: its answers are already under way.
        std::mem::forget(theirs);
        ours
    }

    #[test]
    fn events_between_command_and_answer_are_skipped() {
        let mut qmp = Qmp::new(faux(
            "{\"QMP\": {}}\n{\"return\": {}}\n{\"event\": \"RESUME\"}\n{\"return\": {\"running\": true}}\n",
        ))
        .unwrap();
        assert_eq!(
            qmp.execute("query-status", Value::Null).unwrap(),
            json!({"running": true})
        );
    }

    #[test]
    fn a_refused_command_is_an_error_with_qemus_words() {
        let mut qmp = Qmp::new(faux(
            "{\"QMP\": {}}\n{\"return\": {}}\n{\"error\": {\"desc\": \"no such thing\"}}\n",
        ))
        .unwrap();
        let error = qmp
            .execute("nonsense", Value::Null)
            .unwrap_err()
            .to_string();
        assert!(error.contains("no such thing"), "{error}");
    }

    #[test]
    fn another_greeting_is_refused() {
        Qmp::new(faux("{\"hello\": 1}\n")).unwrap_err();
    }
}
