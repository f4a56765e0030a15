//! KVM: eight bytes each way, then everything is passed on between the console and the PC's screen (reference,
//! section 7.1).

use std::io;
use std::path::Path;

use amt_redirection::kvm::{ENTER, ENTERED};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::UnixStream;

use super::link::Link;
use crate::firmware::{SessionEvent, SessionTicket, Shared};

/// Runs the session to its end; says why it ended.
pub(super) async fn run<S>(
    mut link: Link<S>,
    mut rest: Vec<u8>,
    firmware: &Shared,
    ticket: SessionTicket,
    socket: Option<&Path>,
) -> io::Result<&'static str>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while rest.len() < ENTER.len() {
        let missing = ENTER.len() - rest.len();
        if link.read(&mut rest, missing).await? == 0 {
            return Ok("the console left");
        }
    }
    if rest.first() != ENTER.first() {
        return Ok("the console did not enter KVM");
    }
    let Some(socket) = socket else {
        return Ok("this PC has no screen");
    };
    let mut screen = UnixStream::connect(socket).await?;
    link.write(&ENTERED).await?;
    screen
        .write_all(rest.get(ENTER.len()..).unwrap_or_default())
        .await?;
    let mut console = link.into_stream();
    tokio::select! {
        copied = copy_bidirectional(&mut console, &mut screen) => {
            copied?;
            Ok("one side closed")
        }
        () = terminated(firmware, ticket) => Ok("terminated by the firmware"),
    }
}

/// Returns when the firmware wants the session to end.
pub(super) async fn terminated(firmware: &Shared, ticket: SessionTicket) {
    let mut changes = firmware.changes();
    loop {
        changes.mark_unchanged();
        while let Some(event) = firmware.quietly(|firmware| firmware.session_event(ticket)) {
            if event == SessionEvent::Terminate {
                return;
            }
        }
        // The sender lives in `firmware`.
        let _ = changes.changed().await;
    }
}
