//! One connection with attached drives, from OpenSession to its end: bytes, timers, jobs, until something ends it.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use amt_redirection::console::ider::{Console, Error, Event as ConsoleEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::service::Service;
use super::{Event, Limits, Loss};
use crate::redirection::connect::Channel;

/// What firmware sends at once at most in practice; more comes in several reads.
const INPUT: usize = 8192;
/// How long the last bytes and the end of the connection may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Threads that one session may leave waiting for an image.
const MOST_STUCK: usize = 4;

/// How a connection ended.
pub(super) enum End {
    /// As we were asked to.
    Asked,
    /// No medium was touched for as long as the policy allows.
    Idle,
    /// Otherwise.
    Lost(Loss),
}

pub(super) struct Session<'a> {
    pub(super) service: &'a mut Service,
    pub(super) limits: &'a Limits,
    pub(super) events: &'a broadcast::Sender<Event>,
    /// True, or gone, when the session is to end.
    pub(super) stop: &'a mut watch::Receiver<bool>,
    /// Reads that former commands waited for in vain, and that nobody can cancel.
    pub(super) stuck: &'a mut Vec<Reading>,
}

/// A read on another thread.
pub(super) type Reading = JoinHandle<io::Result<Vec<u8>>>;

struct Running {
    handle: Reading,
    deadline: Instant,
}

struct Output {
    bytes: Vec<u8>,
    sent: usize,
    /// When the peer last took anything.
    progress: Instant,
}

impl Session<'_> {
    pub(super) async fn run(
        mut self,
        stream: Box<dyn Channel>,
        mut console: Console,
        rest: &[u8],
    ) -> End {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let end = match console.handle_input(Instant::now().into_std(), rest) {
            Ok(()) => self.serve(&mut reader, &mut writer, &mut console).await,
            Err(error) => End::Lost(Loss::Protocol(error)),
        };
        farewell(&mut writer, &mut console).await;
        end
    }

    async fn serve(
        &mut self,
        reader: &mut ReadHalf<Box<dyn Channel>>,
        writer: &mut WriteHalf<Box<dyn Channel>>,
        console: &mut Console,
    ) -> End {
        let mut input = vec![0; INPUT];
        let mut job: Option<Running> = None;
        let mut asked: Option<End> = None;
        let mut now = Instant::now();
        let mut output = Output {
            bytes: Vec::new(),
            sent: 0,
            progress: now,
        };
        // Set to the first thing that is due; what moves to later is noticed when it fires.
        let timer = sleep_until(now);
        tokio::pin!(timer);
        loop {
            if asked.is_none() && *self.stop.borrow() {
                console.close(now.into_std());
                asked = Some(End::Asked);
            }
            while let Some(event) = console.poll_event() {
                if let Some(loss) = self.event(console, event, now, &mut job) {
                    return asked.unwrap_or(End::Lost(loss));
                }
            }
            if console.is_over() {
                if output.sent < output.bytes.len() {
                    // The peer takes no more; the end of the session cannot be said in the middle of a message.
                    while console.poll_transmit().is_some() {}
                }
                return asked.unwrap_or(End::Lost(Loss::Closed));
            }
            if output.bytes.len() == output.sent {
                console.recycle(std::mem::take(&mut output.bytes));
                output.sent = 0;
                output.progress = now;
                match console.poll_transmit() {
                    Some(bytes) => output.bytes = bytes,
                    None => {
                        if let Some(next) = self.service.advance(console) {
                            job = self.start(console, next);
                            continue;
                        }
                        match console.poll_transmit() {
                            Some(bytes) => output.bytes = bytes,
                            None => self.service.sent(now),
                        }
                    }
                }
            }
            let due = self.due(console, job.as_ref(), &output, asked.is_some());
            if due < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(due);
            }
            let result = tokio::select! {
                length = reader.read(&mut input) => {
                    now = Instant::now();
                    match length {
                        Ok(0) => return asked.unwrap_or(End::Lost(Loss::HungUp)),
                        Ok(length) => console.handle_input(now.into_std(), &input[..length]),
                        Err(error) => return asked.unwrap_or(End::Lost(Loss::io(error))),
                    }
                }
                length = writer.write(&output.bytes[output.sent..]), if output.sent < output.bytes.len() => {
                    now = Instant::now();
                    match length {
                        Ok(0) => return asked.unwrap_or(End::Lost(Loss::HungUp)),
                        Ok(length) => {
                            output.sent += length;
                            output.progress = now;
                            Ok(())
                        }
                        Err(error) => return asked.unwrap_or(End::Lost(Loss::io(error))),
                    }
                }
                outcome = finished(&mut job) => {
                    now = Instant::now();
                    job = None;
                    self.service.job_done(console, outcome);
                    Ok(())
                }
                changed = self.stop.changed(), if asked.is_none() => {
                    now = Instant::now();
                    // Whoever could have asked is gone: that asks as well.
                    if changed.is_err() {
                        console.close(now.into_std());
                        asked = Some(End::Asked);
                    }
                    Ok(())
                }
                () = &mut timer => {
                    now = Instant::now();
                    if output.sent < output.bytes.len() && now >= output.progress + self.limits.stall {
                        return asked.unwrap_or(End::Lost(Loss::Stalled(self.limits.stall)));
                    }
                    if job.as_ref().is_some_and(|job| now >= job.deadline) {
                        self.stuck.extend(job.take().map(|job| job.handle));
                        let late = io::Error::from(io::ErrorKind::TimedOut);
                        self.service.job_done(console, Err(late));
                    }
                    if asked.is_none() && self.idle_since(now) {
                        console.close(now.into_std());
                        asked = Some(End::Idle);
                    }
                    console.handle_timeout(now.into_std())
                }
            };
            if let Err(error) = result {
                return asked.unwrap_or(End::Lost(Loss::Protocol(error)));
            }
        }
    }

    /// Acts on what the state machine says; a loss ends the session.
    fn event(
        &mut self,
        console: &mut Console,
        event: ConsoleEvent,
        now: Instant,
        job: &mut Option<Running>,
    ) -> Option<Loss> {
        match event {
            ConsoleEvent::Opened {
                firmware_version,
                read_buffer,
                write_buffer,
                ..
            } => {
                self.service.opened(read_buffer);
                self.tell(Event::Opened {
                    firmware_version,
                    read_buffer,
                    write_buffer,
                });
            }
            ConsoleEvent::Attached => {
                self.service.statistics().attachments += 1;
                self.tell(Event::Attached);
            }
            ConsoleEvent::AttachRefused(value) => return Some(Loss::AttachRefused(value)),
            ConsoleEvent::Command(command) => self.service.command(console, &command, now),
            ConsoleEvent::Written { id, data } => self.service.written(console, id, &data),
            ConsoleEvent::Reset { mask } => {
                self.stuck.extend(job.take().map(|job| job.handle));
                self.service.reset();
                self.tell(Event::Reset { mask });
            }
            ConsoleEvent::FirmwareError(code) => {
                self.tell(Event::FirmwareError(code));
            }
            // Seen by the caller once the last bytes are out.
            ConsoleEvent::Closed => {}
        }
        None
    }

    /// Starts a job, unless those that never came back say that the image is out of reach.
    fn start(&mut self, console: &mut Console, job: super::service::Job) -> Option<Running> {
        self.stuck.retain(|reading| !reading.is_finished());
        if self.stuck.len() >= MOST_STUCK {
            let stuck = io::Error::from(io::ErrorKind::TimedOut);
            self.service.job_done(console, Err(stuck));
            return None;
        }
        Some(Running {
            handle: tokio::task::spawn_blocking(move || job.run()),
            deadline: Instant::now() + self.limits.read_patience,
        })
    }

    fn due(
        &self,
        console: &Console,
        job: Option<&Running>,
        output: &Output,
        ending: bool,
    ) -> Instant {
        let stalled =
            (output.sent < output.bytes.len()).then(|| output.progress + self.limits.stall);
        let idle = self.limits.idle.filter(|_| !ending);
        let idle = idle.map(|idle| self.service.busy + idle);
        let job = job.map(|job| job.deadline);
        let console = console.poll_timeout().map(Instant::from_std);
        let due = [stalled, idle, job, console].into_iter().flatten().min();
        due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }

    fn idle_since(&self, now: Instant) -> bool {
        let idle = self.limits.idle;
        idle.is_some_and(|idle| now >= self.service.busy + idle)
    }

    fn tell(&self, event: Event) {
        // That nobody listens is no failure.
        let _ = self.events.send(event);
    }
}

async fn finished(job: &mut Option<Running>) -> io::Result<Vec<u8>> {
    match job {
        Some(job) => match (&mut job.handle).await {
            Ok(outcome) => outcome,
            // The source panicked, or the program ends.
            Err(error) => Err(io::Error::other(error)),
        },
        None => pending().await,
    }
}

/// What is left to say after an orderly end, then FIN. After any other end there is nothing left.
async fn farewell(writer: &mut WriteHalf<Box<dyn Channel>>, console: &mut Console) {
    let last = async {
        while let Some(bytes) = console.poll_transmit() {
            writer.write_all(&bytes).await?;
        }
        writer.shutdown().await
    };
    // The session is over either way.
    let _ = timeout(FAREWELL, last).await;
}

impl Loss {
    fn io(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }

    /// Ends that no other connection can cure.
    pub(super) fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Protocol(Error::OpenRefused(_) | Error::Protocol(_))
        )
    }
}
