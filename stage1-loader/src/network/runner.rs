//! One interface in the race for an address: its DHCP client, what it heard, what it got.

use std::io;
use std::net::{Ipv6Addr, UdpSocket};
use std::time::Duration;

use super::interfaces::Interface;
use super::race::{Candidate, Origin};
use crate::dhcp::{Client, Event, Lease};
use crate::text;

/// One interface in the race.
pub(super) struct Runner {
    pub(super) interface: Interface,
    pub(super) client: Option<(Client, UdpSocket)>,
    pub(super) lease: Option<Lease>,
    pub(super) dns6: Vec<Ipv6Addr>,
    pub(super) candidates: Vec<Candidate>,
    /// The interface that asks: the VLAN on top, or the interface itself.
    pub(super) asks_on: String,
    pub(super) asks_index: u32,
    pub(super) last_heard: Option<String>,
}

impl Runner {
    /// Takes in what the socket has; gives a line worth showing.
    pub(super) fn receive(&mut self, now: Duration) -> Option<String> {
        let (client, socket) = self.client.as_mut()?;
        let mut bytes = [0u8; 2048];
        let mut line = None;
        // A flood must not keep the loop from its other work.
        for _ in 0..64 {
            let (length, from) = match socket.recv_from(&mut bytes) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return line,
            };
            match client.receive(now, bytes.get(..length).unwrap_or_default()) {
                Ok(Event::Offered { address, server }) => {
                    self.last_heard = Some(format!("offer of {address} by {server}"));
                }
                Ok(Event::Refused { server, message }) => {
                    let server = server.map_or_else(|| from.ip().to_string(), |s| s.to_string());
                    let text = format!(
                        "{} refused by DHCP server {server}: {}",
                        self.asks_on,
                        message.as_deref().unwrap_or("no reason given")
                    );
                    self.last_heard = Some(text::printable(&text));
                    line = Some(text);
                }
                Ok(Event::Bound(lease)) => {
                    self.candidates.push(Candidate {
                        interface: self.asks_on.clone(),
                        origin: Origin::Dhcp,
                        since: now,
                    });
                    self.lease = Some(lease);
                }
                Err(ignored) => {
                    self.last_heard
                        .get_or_insert_with(|| format!("answer by {}: {ignored}", from.ip()));
                }
            }
        }
        line
    }

    /// The interface with its link and what its DHCP client has seen.
    pub(super) fn describe(&self) -> String {
        let heard = self.last_heard.as_deref().unwrap_or("nothing heard");
        let client = match &self.client {
            Some((client, _)) => format!(", {} DHCP messages sent, {heard}", client.sent()),
            None => String::new(),
        };
        let (what, link) = (self.interface.describe(), self.interface.describe_link());
        format!("{what} ({link}{client})")
    }
}
