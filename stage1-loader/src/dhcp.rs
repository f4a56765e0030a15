//! A DHCPv4 client as a state machine (RFC 2131 section 4.4): no socket, no clock, no
//! randomness of its own. The shell sends what [`Client::poll_transmit`] gives, passes what
//! arrives to [`Client::receive`], and wakes it at [`Client::poll_timeout`].
//!
//! It stops at the lease. Not done: renewal (a boot is shorter than any sensible lease, and
//! [`Lease::duration`] lets the caller ask anew), DECLINE after an ARP probe, INIT-REBOOT, and
//! the random wait of 1 to 10 seconds before the first DISCOVER, which is half a boot.

pub mod message;

use std::net::Ipv4Addr;
use std::time::Duration;

use message::{MessageError, Reply, ReplyKind, Request, RequestKind};

/// Time between messages, by attempt; the last one repeats. Section 4.1 suggests to start at
/// 4 s; on a switch that has just brought the port up the first message is often lost, and
/// every PC boot loader asks sooner.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// Unanswered REQUESTs before the client forgets the offer and discovers anew.
const MAX_REQUESTS: u32 = 4;
/// Pause after a server refused (section 3.1, 5: the client must not loop quickly).
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// An address with all the server said about the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Our address.
    pub address: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
    /// Who gave it.
    pub server: Ipv4Addr,
    /// How long it holds; none means for ever.
    pub duration: Option<Duration>,
    /// Destination, prefix length, gateway. The default route has prefix 0.
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    /// DNS servers.
    pub dns: Vec<Ipv4Addr>,
    /// Search domain.
    pub domain: Option<String>,
    /// MTU in bytes.
    pub mtu: Option<u16>,
}

impl Lease {
    /// The gateway of the default route.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.routes
            .iter()
            .find(|(_, prefix, _)| *prefix == 0)
            .map(|(_, _, gateway)| *gateway)
    }
}

/// What a received message brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A server offers an address; a REQUEST is due now.
    Offered {
        /// The address.
        address: Ipv4Addr,
        /// The server.
        server: Ipv4Addr,
    },
    /// The lease is ours.
    Bound(Lease),
    /// The server took its offer back; the client starts again.
    Refused {
        /// The server.
        server: Option<Ipv4Addr>,
        /// Its words, if any.
        message: Option<String>,
    },
}

/// Why a received message changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// Not a DHCP reply.
    #[error("not a DHCP reply")]
    Malformed(#[source] MessageError),
    /// Another client's, or an answer to an earlier transaction.
    #[error("transaction {found:08x} instead of {expected:08x}")]
    OtherTransaction {
        /// Transaction number of the message.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// Same transaction number, other hardware address.
    #[error("meant for another hardware address")]
    OtherClient,
    /// An offer while another one is being taken up, an acknowledgement nobody asked for.
    #[error("not expected in this state")]
    Unexpected,
    /// No usable address or no server identifier.
    #[error("offers no usable address")]
    Unusable,
}

#[derive(Debug)]
enum State {
    Selecting,
    Requesting { address: Ipv4Addr, server: Ipv4Addr },
    Bound,
}

/// One interface's client.
#[derive(Debug)]
pub struct Client {
    mac: [u8; 6],
    xid: u32,
    jitter: u32,
    started: Duration,
    state: State,
    attempt: u32,
    next: Duration,
    sent: u32,
}

impl Client {
    /// A client that wants to send its first message at once. `seed` makes transaction numbers
    /// and jitter differ between clients.
    pub fn new(mac: [u8; 6], seed: u32, now: Duration) -> Self {
        Self {
            mac,
            xid: seed,
            jitter: seed | 1,
            started: now,
            state: State::Selecting,
            attempt: 0,
            next: now,
            sent: 0,
        }
    }

    /// The message that is due, if one is. Call until it gives none.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Vec<u8>> {
        if now < self.next {
            return None;
        }
        let kind = match self.state {
            State::Bound => return None,
            State::Requesting { .. } if self.attempt >= MAX_REQUESTS => {
                self.restart(now);
                RequestKind::Discover
            }
            State::Requesting { address, server } => RequestKind::Select { address, server },
            State::Selecting => RequestKind::Discover,
        };
        let pause = PAUSES[(self.attempt as usize).min(PAUSES.len() - 1)];
        self.attempt = self.attempt.saturating_add(1);
        self.sent = self.sent.saturating_add(1);
        self.next = now + pause + self.next_jitter(pause);
        let secs = now.saturating_sub(self.started).as_secs();
        let request = Request {
            xid: self.xid,
            secs: u16::try_from(secs).unwrap_or(u16::MAX),
            mac: self.mac,
            kind,
        };
        Some(request.emit())
    }

    /// When [`Client::poll_transmit`] has something next; none once bound.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.state {
            State::Bound => None,
            _ => Some(self.next),
        }
    }

    /// Messages sent so far.
    pub fn sent(&self) -> u32 {
        self.sent
    }

    /// Takes a received message in.
    pub fn receive(&mut self, now: Duration, bytes: &[u8]) -> Result<Event, Ignored> {
        let reply = Reply::parse(bytes).map_err(Ignored::Malformed)?;
        if reply.xid != self.xid {
            return Err(Ignored::OtherTransaction {
                found: reply.xid,
                expected: self.xid,
            });
        }
        if reply.mac != self.mac {
            return Err(Ignored::OtherClient);
        }
        match (&self.state, reply.kind) {
            (State::Selecting, ReplyKind::Offer) => self.take_offer(now, &reply),
            (State::Requesting { server, .. }, ReplyKind::Acknowledge) => {
                // A relay's or a second server's acknowledgement is not the one we asked for.
                if reply.server.is_some_and(|found| found != *server) {
                    return Err(Ignored::Unexpected);
                }
                let lease = lease(&reply, *server).ok_or(Ignored::Unusable)?;
                self.state = State::Bound;
                Ok(Event::Bound(lease))
            }
            (State::Requesting { server, .. }, ReplyKind::Refuse) => {
                if reply.server.is_some_and(|found| found != *server) {
                    return Err(Ignored::Unexpected);
                }
                self.restart(now);
                self.next = now + PAUSE_AFTER_REFUSAL;
                Ok(Event::Refused {
                    server: reply.server,
                    message: reply.options.message,
                })
            }
            _ => Err(Ignored::Unexpected),
        }
    }

    fn take_offer(&mut self, now: Duration, reply: &Reply) -> Result<Event, Ignored> {
        let server = reply.server.ok_or(Ignored::Unusable)?;
        if !usable(reply.address) {
            return Err(Ignored::Unusable);
        }
        let address = reply.address;
        self.state = State::Requesting { address, server };
        self.attempt = 0;
        self.next = now;
        Ok(Event::Offered { address, server })
    }

    /// Back to discovery with a new transaction, so that late answers to the old one are known.
    fn restart(&mut self, now: Duration) {
        self.state = State::Selecting;
        self.xid = self.xid.wrapping_add(0x9e37_79b9);
        self.attempt = 0;
        self.next = now;
    }

    /// Up to a quarter of the pause, so that a room full of PCs does not ask in step.
    fn next_jitter(&mut self, pause: Duration) -> Duration {
        // xorshift32: even spread is all that is needed.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 17;
        self.jitter ^= self.jitter << 5;
        pause.mul_f32((self.jitter >> 8) as f32 / (1u32 << 24) as f32 / 4.0)
    }
}

fn usable(address: Ipv4Addr) -> bool {
    !address.is_unspecified()
        && !address.is_broadcast()
        && !address.is_multicast()
        && !address.is_loopback()
}

fn lease(reply: &Reply, server: Ipv4Addr) -> Option<Lease> {
    if !usable(reply.address) {
        return None;
    }
    let options = &reply.options;
    // RFC 3442: with classless routes the router option must be ignored.
    let routes = if options.routes.is_empty() {
        options
            .routers
            .first()
            .map(|&router| (Ipv4Addr::UNSPECIFIED, 0, router))
            .into_iter()
            .collect()
    } else {
        options.routes.clone()
    };
    Some(Lease {
        address: reply.address,
        prefix: options.prefix.unwrap_or_else(|| class_of(reply.address)),
        server,
        // All ones means infinity (RFC 2131 section 3.3).
        duration: options
            .lease_seconds
            .filter(|&seconds| seconds != u32::MAX)
            .map(|seconds| Duration::from_secs(seconds.into())),
        routes,
        dns: options.dns.clone(),
        domain: options.domain.clone(),
        mtu: options.mtu,
    })
}

/// Prefix length by address class, for servers that send no mask.
fn class_of(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

#[cfg(test)]
mod tests;
