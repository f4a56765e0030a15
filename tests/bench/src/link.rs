//! A link with delay and loss: two TUN devices with a queue between them for each direction.
//!
//! The model: packets are sent one after the other at the link's rate, Ethernet's framing
//! counted; those for which the queue has no room are dropped at its tail, and of the others
//! each is lost with the same probability, after it took its time on the link; the rest
//! arrives half a round trip later, in order. Real TCP runs over it, so that windows, losses
//! and retransmissions are the kernel's own.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::data::Random;
use crate::network::FRAMING;

/// Largest packet a TUN device hands over here, with room to spare.
const PACKET: usize = 2048;

/// How a link treats packets on their way to the client.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    /// Bits per second, framing counted.
    pub(crate) rate: u64,
    /// Round trip without queues.
    pub(crate) round_trip: Duration,
    /// Share of packets lost, from 0 to 1.
    pub(crate) loss: f64,
    /// Bytes that may wait.
    pub(crate) queue: u64,
}

impl Shape {
    /// Whether the kernel's token bucket alone is not enough.
    pub(crate) fn needs_tunnel(&self) -> bool {
        self.loss > 0.0 || !self.round_trip.is_zero()
    }
}

/// A TUN device, and its end in this process.
#[derive(Debug)]
pub(crate) struct Tunnel {
    file: File,
}

impl Tunnel {
    /// Makes the device `name` in this process's network namespace; it goes with the process.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .context("opening /dev/net/tun (kernel: TUN)")?;
        // struct ifreq: 16 bytes of name, then a union that starts with 16 bits of flags.
        let mut request = [0_u8; 40];
        if name.len() > 15 {
            bail!("{name} is too long for a network device");
        }
        request[..name.len()].copy_from_slice(name.as_bytes());
        let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as u16;
        request[16..18].copy_from_slice(&flags.to_ne_bytes());
        #[expect(
            unsafe_code,
            reason = "no library binds this call without a runtime of its own"
        )]
        // SAFETY: the descriptor is open, and the request is as long as struct ifreq (40 bytes
        // on 64-bit Linux), which the kernel reads and writes during the call only.
        let result =
            unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) };
        if result != 0 {
            return Err(std::io::Error::last_os_error())
                .with_context(|| format!("making the device {name} (TUNSETIFF)"));
        }
        Ok(Self { file })
    }
}

/// Carries packets between the devices until they are gone.
///
/// # Errors
///
/// When a descriptor cannot be duplicated.
pub(crate) fn join(server: Tunnel, client: Tunnel, shape: &Shape) -> Result<()> {
    let back = Shape {
        rate: 1_000_000_000,
        loss: 0.0,
        ..*shape
    };
    let duplicate = |tunnel: &Tunnel| tunnel.file.try_clone().context("sharing a device");
    carry(duplicate(&server)?, duplicate(&client)?, *shape);
    carry(client.file, server.file, back);
    Ok(())
}

/// Starts the two threads of one direction. They end when the device is gone, at the latest
/// with the process.
fn carry(mut from: File, mut to: File, shape: Shape) {
    let queue = Arc::new(Queue::default());
    let filled = Arc::clone(&queue);
    thread::spawn(move || {
        let mut line = Line::new(shape);
        let mut packet = [0; PACKET];
        while let Ok(length @ 1..) = from.read(&mut packet) {
            if let Some(due) = line.send(Instant::now(), length as u64) {
                filled.push(due, packet.get(..length).unwrap_or_default().to_vec());
            }
        }
        filled.close();
    });
    thread::spawn(move || {
        while let Some(packet) = queue.pop() {
            // A device that is down refuses packets, and the next may find it up.
            let _ = to.write(&packet);
        }
    });
}

/// When a packet arrives, if it does.
#[derive(Debug)]
struct Line {
    shape: Shape,
    /// When the last packet has been sent.
    free: Option<Instant>,
    random: Random,
}

impl Line {
    fn new(shape: Shape) -> Self {
        Self {
            shape,
            free: None,
            random: Random(0x11_4e),
        }
    }

    fn send(&mut self, now: Instant, length: u64) -> Option<Instant> {
        let takes =
            |bytes: u64| Duration::from_secs_f64(bytes as f64 * 8.0 / self.shape.rate as f64);
        let start = self.free.map_or(now, |free| free.max(now));
        if start - now > takes(self.shape.queue) {
            return None;
        }
        let sent = start + takes(length + FRAMING);
        self.free = Some(sent);
        let draw = (self.random.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (draw >= self.shape.loss).then(|| sent + self.shape.round_trip / 2)
    }
}

/// Packets on their way, with the time when they arrive; those times never decrease.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    packets: VecDeque<(Instant, Vec<u8>)>,
    closed: bool,
}

impl Queue {
    fn push(&self, due: Instant, packet: Vec<u8>) {
        let mut state = self.state.lock().unwrap_or_else(|dead| dead.into_inner());
        state.packets.push_back((due, packet));
        // Only an empty queue is waited for; otherwise the other thread sleeps until a time.
        if state.packets.len() == 1 {
            self.changed.notify_one();
        }
    }

    fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(|dead| dead.into_inner());
        state.closed = true;
        self.changed.notify_one();
    }

    /// The next packet, when its time has come; `None` after the last.
    fn pop(&self) -> Option<Vec<u8>> {
        let mut state = self.state.lock().unwrap_or_else(|dead| dead.into_inner());
        loop {
            let now = Instant::now();
            match state.packets.front() {
                Some((due, _)) if *due <= now => {
                    return state.packets.pop_front().map(|(_, packet)| packet);
                }
                Some((due, _)) => {
                    let wait = *due - now;
                    // Later packets are due later, so nothing has to wake this one.
                    drop(state);
                    thread::sleep(wait);
                    state = self.state.lock().unwrap_or_else(|dead| dead.into_inner());
                }
                None if state.closed => return None,
                None => {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(|dead| dead.into_inner());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        rate: 8_000_000,
        round_trip: Duration::from_millis(50),
        loss: 0.0,
        queue: 10_000,
    };

    #[test]
    fn packets_leave_at_the_rate_and_arrive_half_a_round_trip_later() {
        let mut line = Line::new(SHAPE);
        let now = Instant::now();
        // 1,000 bytes on the line take a millisecond.
        let first = line.send(now, 1000 - FRAMING).unwrap();
        let second = line.send(now, 1000 - FRAMING).unwrap();
        assert_eq!(first - now, Duration::from_millis(26));
        assert_eq!(second - now, Duration::from_millis(27));
        let later = now + Duration::from_secs(1);
        let third = line.send(later, 1000 - FRAMING).unwrap();
        assert_eq!(third - later, Duration::from_millis(26));
    }

    #[test]
    fn a_full_queue_drops_at_its_tail() {
        let mut line = Line::new(SHAPE);
        let now = Instant::now();
        let sent = (0..100).filter(|_| line.send(now, 1000 - FRAMING).is_some());
        assert_eq!(sent.count(), 11);
        assert!(line.send(now + Duration::from_millis(5), 100).is_some());
    }

    #[test]
    fn losses_come_as_often_as_the_shape_says() {
        let mut line = Line::new(Shape {
            loss: 0.01,
            ..SHAPE
        });
        let mut now = Instant::now();
        let mut lost = 0;
        for _ in 0..100_000 {
            now += Duration::from_millis(1);
            lost += u32::from(line.send(now, 500).is_none());
        }
        assert!((900..1100).contains(&lost), "{lost}");
    }

    #[test]
    fn packets_wait_for_their_time_and_keep_their_order() {
        let queue = Queue::default();
        let due = Instant::now() + Duration::from_millis(20);
        queue.push(due, vec![1]);
        queue.push(due, vec![2]);
        queue.close();
        assert_eq!(queue.pop(), Some(vec![1]));
        assert!(Instant::now() >= due);
        assert_eq!(queue.pop(), Some(vec![2]));
        assert_eq!(queue.pop(), None);
    }
}
