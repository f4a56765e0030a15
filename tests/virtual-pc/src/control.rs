//! The control socket: JSON lines over a Unix socket, one answer for each command.
//!
//! `{"command": "screen"}` is answered with `{"ok": ...}` or `{"error": "..."}`. Whoever may open
//! the socket may do all of it; the socket is made for its owner only.

mod command;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

pub use command::{Command, Kind, Mishap, Switch};

use crate::pc::Controls;

/// Longest command line in bytes.
const LINE_LIMIT: u64 = 64 << 10;
/// Longest answer that a client takes: serial text and screens stay below.
const ANSWER_LIMIT: u64 = 16 << 20;

/// Makes the socket; one left behind by a process that is gone is replaced.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another virtual PC listens there",
        ));
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if std::os::unix::fs::FileTypeExt::is_socket(&there.file_type()) => {
            std::fs::remove_file(path)?
        }
        // Binding fails on it, which says what is wrong.
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Answers for ever.
pub(crate) async fn serve(listener: UnixListener, controls: Controls) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, controls.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the control socket");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: UnixStream, controls: Controls) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let read = (&mut reader)
            .take(LINE_LIMIT)
            .read_until(b'\n', &mut line)
            .await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        let whole = line.last() == Some(&b'\n');
        let answer = if whole {
            answer(&line, &controls).await
        } else {
            json!({ "error": "the command has no end of line, or is too long" })
        };
        let sent = writer.write_all(format!("{answer}\n").as_bytes()).await;
        if sent.is_err() || !whole {
            return;
        }
    }
}

async fn answer(line: &[u8], controls: &Controls) -> Value {
    let command = match serde_json::from_slice::<Command>(line) {
        Ok(command) => command,
        Err(error) => return json!({ "error": format!("not a command: {error}") }),
    };
    match command.run(controls).await {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "error": format!("{error:#}") }),
    }
}

/// Sends one command to the virtual PC whose control socket is `path`.
pub async fn send(path: &Path, command: &Command) -> Result<Value> {
    let stream = UnixStream::connect(path)
        .await
        .with_context(|| format!("connecting to the control socket {}", path.display()))?;
    let (reader, mut writer) = stream.into_split();
    let line = serde_json::to_string(command).context("writing the command")?;
    writer
        .write_all(format!("{line}\n").as_bytes())
        .await
        .context("sending the command")?;
    let mut answer = String::new();
    BufReader::new(reader.take(ANSWER_LIMIT))
        .read_line(&mut answer)
        .await
        .context("waiting for the answer")?;
    let mut answer: Value = serde_json::from_str(&answer).context("understanding the answer")?;
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => bail!("the virtual PC refused: {error}"),
        None => Ok(answer.get_mut("ok").map(Value::take).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        drop(listen(&path).unwrap());
        let again = listen(&path).unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(again);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        listen(&path).unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn only_the_owner_may_use_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let _listener = listen(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
