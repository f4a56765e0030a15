//! IDE-R from the firmware's side: moves the bytes of an [`initiator::Initiator`], lets the host's commands through
//! one at a time, and brings about the mishaps that the knobs ask for.

mod counters;
mod host_models;
mod initiator;
mod media;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use counters::{IderCounters, Violation};
pub use host_models::HostModel;
pub use media::{Capacity, DriveError, IderMedia, MediaState};

use super::knobs::{Fault, FaultKind, Knobs};
use super::link::Link;
use super::opening;
use crate::firmware::{self, SessionEvent, SessionTicket};
use initiator::{Answer, Event, Initiator, Settings};
use media::{Aborted, Job};

/// What a session works with.
pub(super) struct Shared<'a> {
    pub(super) firmware: &'a firmware::Shared,
    pub(super) ticket: SessionTicket,
    pub(super) knobs: &'a Knobs,
    pub(super) media: &'a IderMedia,
    pub(super) fault: &'a Mutex<Option<Fault>>,
}

/// A command that is with the console.
type Reply = oneshot::Sender<Result<Answer, Aborted>>;

struct Session<'a> {
    shared: Shared<'a>,
    initiator: Initiator,
    job_sender: mpsc::Sender<Job>,
    jobs: mpsc::Receiver<Job>,
    /// The command that waits for its round trip, and until when.
    delayed: Option<(Job, tokio::time::Instant)>,
    reply: Option<Reply>,
    /// The host thinks until then.
    next_command: tokio::time::Instant,
    hosts: Option<JoinHandle<()>>,
    over: Option<&'static str>,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.detach();
        self.shared.media.count(|counters| {
            counters.add(self.initiator.take_counters());
        });
    }
}

/// Runs the session to its end; says why it ended.
pub(super) async fn run<S>(
    mut link: Link<S>,
    rest: Vec<u8>,
    shared: Shared<'_>,
) -> io::Result<&'static str>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (job_sender, jobs) = mpsc::channel(1);
    let mut session = Session {
        initiator: Initiator::new(settings(&shared), Instant::now()),
        shared,
        job_sender,
        jobs,
        delayed: None,
        reply: None,
        next_command: tokio::time::Instant::now(),
        hosts: None,
        over: None,
    };
    let mut changes = session.shared.firmware.changes();
    let mut received = rest.len() as u64;
    let mut buffer = Vec::new();
    session.initiator.handle_input(Instant::now(), &rest);
    loop {
        changes.mark_unchanged();
        session.firmware_events();
        session.events();
        while let Some(bytes) = session.initiator.poll_transmit() {
            link.write(&bytes).await?;
        }
        if let Some(reason) = session.over {
            link.shut_down().await;
            return Ok(reason);
        }
        let mut most = usize::MAX;
        if let Some(left) = session.shared.fault_in(received) {
            // So that it happens at this very byte.
            most = left;
            if left == 0 {
                match session.shared.take_fault() {
                    Some(FaultKind::Drop) => return Ok("cut, as configured"),
                    Some(FaultKind::Reset) => session.initiator.reset(),
                    Some(FaultKind::Stall { ms }) => {
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                    }
                    None => {}
                }
                continue;
            }
        }
        let timer = until(session.initiator.poll_timeout().map(Into::into));
        let round_trip = until(session.delayed.as_ref().map(|(_, at)| *at));
        let (free, think) = (session.takes_a_command(), session.next_command);
        let jobs = &mut session.jobs;
        let job = async {
            if !free {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep_until(think).await;
            jobs.recv().await
        };
        buffer.clear();
        tokio::select! {
            count = link.read(&mut buffer, most) => {
                let count = count?;
                if count == 0 {
                    return Ok("the console left");
                }
                received += count as u64;
                session.initiator.handle_input(Instant::now(), &buffer);
            }
            () = timer => session.initiator.handle_timeout(Instant::now()),
            () = round_trip => session.send_delayed(),
            Some(job) = job => {
                let delay = Duration::from_millis(session.shared.knobs.round_trip_ms);
                session.delayed = Some((job, tokio::time::Instant::now() + delay));
            }
            _ = changes.changed() => {}
        }
    }
}

impl Shared<'_> {
    /// Bytes until the mishap.
    fn fault_in(&self, received: u64) -> Option<usize> {
        let fault = *self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.map(|fault| usize::try_from(fault.at.saturating_sub(received)).unwrap_or(usize::MAX))
    }

    fn take_fault(&self) -> Option<FaultKind> {
        let fault = self
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        fault.map(|fault| fault.kind)
    }
}

fn settings(shared: &Shared<'_>) -> Settings {
    let knobs = shared.knobs;
    let or_profile = |knob: u16, profile: u16| if knob == 0 { profile } else { knob };
    shared.firmware.quietly(|firmware| Settings {
        firmware: opening::version(firmware),
        read_buffer: or_profile(knobs.read_buffer, firmware.profile().read_buffer),
        write_buffer: or_profile(knobs.write_buffer, firmware.profile().write_buffer),
        silence: knobs.silence,
        strict_sequence: knobs.strict_sequence,
        attach: knobs.attach,
        command_timeout: knobs.command_timeout(),
    })
}

impl Session<'_> {
    fn takes_a_command(&self) -> bool {
        self.initiator.is_free() && self.delayed.is_none() && self.reply.is_none()
    }

    fn send_delayed(&mut self) {
        if let Some((job, _)) = self.delayed.take() {
            self.reply = Some(job.reply);
            self.initiator.issue(Instant::now(), job.command);
        }
    }

    fn firmware_events(&mut self) {
        let Shared {
            firmware, ticket, ..
        } = self.shared;
        while let Some(event) = firmware.quietly(|firmware| firmware.session_event(ticket)) {
            match event {
                SessionEvent::Terminate => self.initiator.terminate("terminated by the firmware"),
                SessionEvent::HostReset => self.initiator.reset(),
            }
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.initiator.poll_event() {
            match event {
                Event::Attached(true) => self.attach(),
                Event::Attached(false) => self.detach(),
                Event::Answered(answer) => {
                    let think = Duration::from_millis(self.shared.knobs.think_time_ms);
                    self.next_command = tokio::time::Instant::now() + think;
                    self.answer(Ok(answer));
                }
                Event::Aborted { unanswered } => self.answer(Err(Aborted { unanswered })),
                Event::Over(reason) => {
                    self.detach();
                    self.over = Some(reason);
                }
            }
        }
        let counted = self.initiator.take_counters();
        self.shared.media.count(|counters| counters.add(counted));
    }

    fn answer(&mut self, answer: Result<Answer, Aborted>) {
        if let Some(reply) = self.reply.take() {
            // Whoever asked may have gone.
            let _ = reply.send(answer);
        }
    }

    fn attach(&mut self) {
        self.shared
            .firmware
            .with(|firmware| firmware.ider_attached(true));
        let hosts = host_models::Hosts::new(
            self.shared.knobs,
            self.shared.media.clone(),
            self.job_sender.clone(),
        );
        self.hosts = Some(tokio::spawn(hosts.run()));
    }

    fn detach(&mut self) {
        if let Some(hosts) = self.hosts.take() {
            hosts.abort();
            self.shared.media.unplug();
            self.shared
                .firmware
                .with(|firmware| firmware.ider_attached(false));
        }
        // Dropping the reply tells that the session is lost.
        self.reply = None;
        self.delayed = None;
    }
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
