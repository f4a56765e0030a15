//! Serial over LAN from the firmware's side: the guest's serial port on one side, a console on the other
//! (reference, section 6).

mod line;
mod port;

use std::io;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::broadcast::error::RecvError;

pub use port::{GuestSerial, SolPort, serial_port};

use super::link::Link;
use crate::firmware::{PowerState, SessionEvent, SessionTicket, Shared};
use line::Line;

/// Runs the session to its end; says why it ended.
pub(super) async fn run<S>(
    mut link: Link<S>,
    rest: Vec<u8>,
    firmware: &Shared,
    ticket: SessionTicket,
    port: &SolPort,
) -> io::Result<&'static str>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let powered = || firmware.quietly(|firmware| firmware.power() == PowerState::On);
    let mut line = Line::new(powered(), Instant::now());
    line.handle_input(Instant::now(), &rest);
    let mut output = port.output();
    let mut changes = firmware.changes();
    let mut buffer = Vec::new();
    loop {
        changes.mark_unchanged();
        line.set_power(Instant::now(), powered());
        while let Some(event) = firmware.quietly(|firmware| firmware.session_event(ticket)) {
            if event == SessionEvent::Terminate {
                line.terminate();
            }
        }
        while let Some(keys) = line.poll_input() {
            if !port.type_in(keys, line.flush_patience()).await {
                line.flushed(Instant::now());
            }
        }
        while let Some(bytes) = line.poll_transmit() {
            link.write(&bytes).await?;
        }
        if let Some(reason) = line.over() {
            link.shut_down().await;
            return Ok(reason);
        }
        let due = line.poll_timeout();
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        buffer.clear();
        tokio::select! {
            count = link.read(&mut buffer, usize::MAX) => {
                if count? == 0 {
                    return Ok("the console left");
                }
                line.handle_input(Instant::now(), &buffer);
            }
            text = output.recv() => match text {
                Ok(text) => line.host_wrote(Instant::now(), &text),
                Err(RecvError::Lagged(_)) => line.overflowed(Instant::now()),
                Err(RecvError::Closed) => return Ok("the serial port is gone"),
            },
            () = timer => line.handle_timeout(Instant::now()),
            _ = changes.changed() => {}
        }
    }
}
