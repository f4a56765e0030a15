//! The network step: every wired interface up, links awaited by netlink news, addresses by
//! DHCP on all of them at once (or from the configuration, or from router advertisements), the
//! first one that has an address wins.
//!
//! The decisions are pure (`dhcp`, [`race`]); this file is the loop around them: sockets, news,
//! time-outs, and one poll for all. While an image is fetched, [`watch`] tells when this has to be done again. Not done: DHCPv6,
//! 802.1X, Wi-Fi.

pub mod interfaces;
pub mod kernel;
pub mod names;
pub mod netlink;
pub mod race;
mod runner;
mod settings;
pub mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use stage1_config::{Cidr, Network as NetworkConfig};

use crate::console::Console;
use crate::dhcp::Client;
use crate::failure::Failure;
use crate::sequence::Step;
use crate::sys::{self, SysError, Waiting};
use interfaces::Interface;
use kernel::Kernel;
use netlink::{Change, Notice};
use race::{Candidate, Course, Hopeless, Origin, Rules};
use runner::Runner;
use settings::Settings;

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// More adapters than this are not raced; a PC has one to four.
const MAX_INTERFACES: usize = 16;

/// The network, up.
#[derive(Debug, Clone)]
pub struct Up {
    /// Name of the interface that carries the address; of the VLAN, if there is one.
    pub interface: String,
    /// Addresses given to it, and its index: what a retry takes away again.
    addresses: Vec<(u32, IpAddr, u8)>,
    /// After this time the lease needs asking for again.
    pub holds_until: Option<Duration>,
    /// At this time it has to be, whatever is under way.
    pub renew_at: Option<Duration>,
    /// Interface, address, gateway, DNS servers and where they came from, on one line.
    pub summary: String,
}

/// What the step tells the server, once it can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A link came or went.
    Link {
        /// The interface.
        interface: Interface,
    },
    /// An address was set.
    Address {
        /// Name of the interface.
        interface: String,
        /// Address with prefix length.
        address: String,
        /// Where it came from.
        source: &'static str,
    },
}

/// What the step needs to know.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// Root of /sys, /proc and /etc.
    pub root: &'a Path,
    /// The configuration's `network`.
    pub config: &'a NetworkConfig,
    /// Base URLs of the server and stores.
    pub urls: &'a [String],
    /// The interface through which nothing could be reached last time.
    pub avoid: Option<String>,
}

impl Plan<'_> {
    fn rules(&self) -> Rules {
        let hosts = self.urls.iter().filter_map(|url| names::host_of(url));
        let literals: Vec<bool> = hosts.map(|host| host.parse::<Ipv6Addr>().is_ok()).collect();
        Rules {
            needs_ipv6: !literals.is_empty() && literals.iter().all(|literal| *literal),
            avoid: self.avoid.clone(),
            alternatives: false,
        }
    }

    fn input(&self) -> String {
        let which = self.config.interface.as_deref().unwrap_or("all wired");
        let how = if self.config.address.is_empty() {
            "DHCP".to_owned()
        } else {
            let list: Vec<String> = self.config.address.iter().map(Cidr::to_string).collect();
            list.join(", ")
        };
        match self.config.vlan {
            Some(vlan) => format!("interface {which}, VLAN {vlan}, address by {how}"),
            None => format!("interface {which}, address by {how}"),
        }
    }
}

/// Brings the network up. Takes as long as it needs, at most some 90 seconds.
pub fn bring_up(
    plan: &Plan<'_>,
    console: &Console,
    tell: &mut dyn FnMut(News),
) -> Result<Up, Failure> {
    let failed = |error: &SysError| {
        Failure::new(
            Step::Network,
            plan.input(),
            error,
            "The kernel refused a network setting. Look at the kernel's messages (dmesg) and restart the PC.",
        )
    };
    let mut race = Race {
        plan,
        console,
        tell,
        rules: plan.rules(),
        kernel: Kernel::open().map_err(|error| failed(&error))?,
        course: Course {
            started: sys::uptime(),
            ..Course::default()
        },
        runners: BTreeMap::new(),
    };
    race.loopback().map_err(|error| failed(&error))?;
    loop {
        let now = sys::uptime();
        race.look(now).map_err(|error| failed(&error))?;
        race.transmit(now);
        let candidates: Vec<Candidate> = race.candidates();
        race.rules.alternatives = race.links() > 1;
        if let Some(winner) = race.rules.winner(now, &candidates) {
            let winner = winner.clone();
            return race.finish(&winner).map_err(|error| failed(&error));
        }
        let (deadline, hopeless) = race.course.deadline();
        if now >= deadline {
            return Err(race.give_up(hopeless));
        }
        race.show(now);
        race.wait(now, deadline, &candidates)
            .map_err(|error| failed(&error))?;
    }
}

/// Whether the interface in use still has its link and its lease.
pub fn holds(root: &Path, up: &Up) -> bool {
    let link = interfaces::by_name(root, &up.interface).is_some_and(|i| i.carrier);
    link && up.holds_until.is_none_or(|until| sys::uptime() < until)
}

/// Takes the addresses of an earlier attempt away, so that they do not compete with new ones.
pub fn take_down(up: &Up) {
    let Ok(mut kernel) = Kernel::open() else {
        return;
    };
    for &(index, address, prefix) in &up.addresses {
        // Gone already, as after a pulled USB adapter, is as good.
        let _ = kernel.change(&Change::RemoveAddress {
            index,
            address,
            prefix,
        });
    }
}

struct Race<'a> {
    plan: &'a Plan<'a>,
    console: &'a Console,
    tell: &'a mut dyn FnMut(News),
    rules: Rules,
    kernel: Kernel,
    course: Course,
    runners: BTreeMap<u32, Runner>,
}

impl Race<'_> {
    fn loopback(&mut self) -> Result<(), SysError> {
        let index = fs::read_to_string(self.plan.root.join("sys/class/net/lo/ifindex"));
        match index.ok().and_then(|text| text.trim().parse().ok()) {
            Some(index) => self.kernel.change(&Change::Up { index }),
            None => Ok(()),
        }
    }

    fn status(&self, text: &str) {
        self.console.status(Step::Network, text);
    }

    /// Compares what is with what was: new interfaces, links, IPv6 addresses, DNS by IPv6.
    fn look(&mut self, now: Duration) -> Result<(), SysError> {
        for notice in self.kernel.news()? {
            if let Notice::DnsServers { index, servers } = notice {
                let runner = self
                    .runners
                    .values_mut()
                    .find(|runner| runner.asks_index == index);
                if let Some(runner) = runner {
                    runner.dns6 = servers;
                }
            }
        }
        let wanted = self.plan.config.interface.as_deref();
        let mut found = interfaces::find(self.plan.root, wanted);
        found.truncate(MAX_INTERFACES);
        self.runners
            .retain(|index, _| found.iter().any(|interface| interface.index == *index));
        for interface in found {
            self.look_at(now, interface)?;
        }
        self.look_for_ipv6(now);
        Ok(())
    }

    fn look_at(&mut self, now: Duration, interface: Interface) -> Result<(), SysError> {
        self.course.adapter = true;
        let index = interface.index;
        let had_link = match self.runners.get_mut(&index) {
            Some(runner) => {
                let had = runner.interface.carrier;
                runner.interface = interface.clone();
                had
            }
            None => {
                self.kernel.change(&Change::Up { index })?;
                self.runners.insert(
                    index,
                    Runner {
                        asks_on: interface.name.clone(),
                        asks_index: index,
                        interface: interface.clone(),
                        client: None,
                        lease: None,
                        dns6: Vec::new(),
                        candidates: Vec::new(),
                        last_heard: None,
                    },
                );
                false
            }
        };
        if interface.carrier == had_link {
            return Ok(());
        }
        self.status(&format!(
            "{} {}",
            interface.describe(),
            interface.describe_link()
        ));
        (self.tell)(News::Link {
            interface: interface.clone(),
        });
        if interface.carrier {
            self.course.first_link.get_or_insert(now);
            self.start(now, &interface)
        } else {
            if let Some(runner) = self.runners.get_mut(&index) {
                runner.client = None;
                runner.lease = None;
                runner.candidates.clear();
            }
            Ok(())
        }
    }

    /// A link came up: VLAN on top if wanted, then a static candidate or a DHCP client.
    fn start(&mut self, now: Duration, interface: &Interface) -> Result<(), SysError> {
        let (mut name, mut index) = (interface.name.clone(), interface.index);
        if let Some(id) = self.plan.config.vlan {
            name = vlan_name(&interface.name, id);
            self.kernel.change(&Change::AddVlan {
                parent: interface.index,
                id,
                name: name.clone(),
            })?;
            index = interfaces::by_name(self.plan.root, &name)
                .map(|vlan| vlan.index)
                .ok_or(SysError {
                    call: format!("open(\"/sys/class/net/{name}/ifindex\")"),
                    errno: libc::ENOENT,
                })?;
            self.kernel.change(&Change::Up { index })?;
        }
        let client = if self.plan.config.address.is_empty() {
            let socket = sys::udp_socket_on(&name, CLIENT_PORT)?;
            let client = Client::new(interface.mac, sys::random_u32(), now);
            Some((client, socket))
        } else {
            None
        };
        let Some(runner) = self.runners.get_mut(&interface.index) else {
            return Ok(());
        };
        runner.asks_on.clone_from(&name);
        runner.asks_index = index;
        if client.is_none() {
            runner.candidates.push(Candidate {
                interface: name,
                origin: Origin::Static,
                since: now,
            });
        }
        runner.client = client;
        Ok(())
    }

    fn look_for_ipv6(&mut self, now: Duration) {
        if !self.plan.config.address.is_empty() {
            return;
        }
        let table = fs::read_to_string(self.plan.root.join("proc/net/if_inet6"));
        for (name, _) in interfaces::global_ipv6(&table.unwrap_or_default()) {
            let runner = self
                .runners
                .values_mut()
                .find(|runner| runner.interface.carrier && runner.asks_on == name);
            if let Some(runner) = runner {
                let origin = Origin::RouterAdvertisement;
                if !runner.candidates.iter().any(|c| c.origin == origin) {
                    runner.candidates.push(Candidate {
                        interface: name,
                        origin,
                        since: now,
                    });
                }
            }
        }
    }

    fn links(&self) -> usize {
        let with_link = |runner: &&Runner| runner.interface.carrier;
        self.runners.values().filter(with_link).count()
    }

    fn candidates(&self) -> Vec<Candidate> {
        self.runners
            .values()
            .flat_map(|runner| runner.candidates.iter().cloned())
            .collect()
    }

    fn transmit(&mut self, now: Duration) {
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
        for runner in self.runners.values_mut() {
            let Some((client, socket)) = &mut runner.client else {
                continue;
            };
            while let Some(message) = client.poll_transmit(now) {
                // A full queue or a link that has just gone: the client repeats itself anyway.
                if let Err(error) = socket.send_to(&message, to) {
                    runner.last_heard = Some(format!("sending failed: {error}"));
                }
            }
        }
    }

    /// One line at the bottom while nothing happens.
    fn show(&self, now: Duration) {
        let seconds = now.saturating_sub(self.course.started).as_secs();
        let names = |with_link: bool| {
            let names: Vec<&str> = self
                .runners
                .values()
                .filter(|runner| runner.interface.carrier == with_link)
                .map(|runner| runner.interface.name.as_str())
                .collect();
            names.join(" ")
        };
        let text = match (self.course.adapter, self.course.first_link) {
            (false, _) => "waiting for a network adapter".to_owned(),
            (true, None) => format!("waiting for a link on {}", names(false)),
            (true, Some(_)) => format!("waiting for an address on {}", names(true)),
        };
        if seconds > 0 {
            self.console.bottom(&format!("{text}, {seconds} s"));
        }
    }

    /// Sleeps until something arrives or is due, and takes in what arrived.
    fn wait(
        &mut self,
        now: Duration,
        deadline: Duration,
        candidates: &[Candidate],
    ) -> Result<(), SysError> {
        let clients = self
            .runners
            .values()
            .filter_map(|runner| runner.client.as_ref()?.0.poll_timeout());
        if self.kernel.has_news() {
            return Ok(());
        }
        let wake = clients
            .chain(self.rules.next_change(candidates).filter(|at| *at > now))
            .chain([deadline, now + Duration::from_secs(1)])
            .min()
            .unwrap_or(deadline);
        let mut waiting = vec![Waiting::read(self.kernel.as_fd())];
        waiting.extend(
            self.runners
                .values()
                .filter_map(|runner| Some(Waiting::read(runner.client.as_ref()?.1.as_fd()))),
        );
        sys::poll(&mut waiting, wake.saturating_sub(now))?;
        let now = sys::uptime();
        for runner in self.runners.values_mut() {
            if let Some(line) = runner.receive(now) {
                self.console.status(Step::Network, &line);
            }
        }
        Ok(())
    }

    /// Sets addresses, routes and names of the winner.
    fn finish(mut self, winner: &Candidate) -> Result<Up, SysError> {
        let Some(runner) = self
            .runners
            .values()
            .find(|runner| runner.candidates.contains(winner))
        else {
            return Err(SysError {
                call: format!("find({})", winner.interface),
                errno: libc::ENODEV,
            });
        };
        let index = runner.asks_index;
        let lease = runner
            .lease
            .clone()
            .filter(|_| winner.origin == Origin::Dhcp);
        let dns6: Vec<IpAddr> = runner.dns6.iter().copied().map(IpAddr::V6).collect();
        let config = self.plan.config;
        let settings = match (&lease, winner.origin) {
            (Some(lease), _) => Settings::of_lease(index, lease),
            (None, Origin::Static) => Settings::of_config(index, config),
            (None, _) => Settings::default(),
        };
        for change in &settings.changes {
            self.kernel.change(change)?;
        }
        let mut dns = config.dns.clone();
        if dns.is_empty() {
            dns.extend(
                lease
                    .iter()
                    .flat_map(|l| l.dns.iter().copied().map(IpAddr::V4)),
            );
            dns.extend(dns6);
        }
        let domain = lease.as_ref().and_then(|lease| lease.domain.as_deref());
        let etc = self.plan.root.join("etc");
        let write = |name: &str, text: &str| {
            fs::create_dir_all(&etc)
                .and_then(|()| fs::write(etc.join(name), text))
                .map_err(|error| SysError::from_io(format!("write(\"/etc/{name}\")"), &error))
        };
        write("resolv.conf", &names::resolv_conf(&dns, domain))?;
        write("hosts", names::HOSTS)?;
        let addresses: Vec<(u32, IpAddr, u8)> = settings.addresses().collect();
        let mut shown: Vec<String> = addresses
            .iter()
            .map(|(_, address, prefix)| format!("{address}/{prefix}"))
            .collect();
        if shown.is_empty() {
            let table = fs::read_to_string(self.plan.root.join("proc/net/if_inet6"));
            shown.extend(
                interfaces::global_ipv6(&table.unwrap_or_default())
                    .iter()
                    .filter(|(name, _)| *name == winner.interface)
                    .map(|(_, address)| address.to_string()),
            );
        }
        let source = match winner.origin {
            Origin::Dhcp => "dhcp",
            Origin::Static => "config",
            Origin::RouterAdvertisement => "router advertisement",
        };
        for address in &shown {
            (self.tell)(News::Address {
                interface: winner.interface.clone(),
                address: address.clone(),
                source,
            });
        }
        let list = |items: &[IpAddr]| {
            let items: Vec<String> = items.iter().map(IpAddr::to_string).collect();
            if items.is_empty() {
                "none".to_owned()
            } else {
                items.join(" ")
            }
        };
        let by = match &lease {
            Some(lease) => format!("DHCP server {}", lease.server),
            None => source.to_owned(),
        };
        let summary = format!(
            "{} {} gateway {} DNS {} by {by}",
            winner.interface,
            shown.join(" "),
            list(&settings.gateways()),
            list(&dns),
        );
        let now = sys::uptime();
        let duration = lease.and_then(|lease| lease.duration);
        Ok(Up {
            interface: winner.interface.clone(),
            addresses,
            summary,
            // RFC 2131 section 4.4.5: ask again at half time.
            holds_until: duration.map(|duration| now + duration / 2),
            renew_at: duration.map(|duration| watch::renew_at(now, duration)),
        })
    }

    fn give_up(&self, hopeless: Hopeless) -> Failure {
        let list: Vec<String> = self.runners.values().map(Runner::describe).collect();
        let list = list.join("; ");
        let (cause, advice) = match hopeless {
            Hopeless::NoAdapter => {
                let unknown = interfaces::without_driver(self.plan.root);
                let cause = match (&self.plan.config.interface, unknown.as_slice()) {
                    (Some(name), _) => format!("there is no interface {name}"),
                    (None, []) => "this PC shows no wired network adapter".to_owned(),
                    (None, ids) => format!("no driver for PCI {}", ids.join(", ")),
                };
                (
                    cause,
                    "Enable the network adapter in the firmware setup, or plug in a USB adapter \
                     that this stage one has a driver for.",
                )
            }
            Hopeless::NoLink => (
                format!("no link: {list}"),
                "Check the cable and the switch port.",
            ),
            Hopeless::NoAddress => (
                format!("no address: {list}"),
                "Check that a DHCP server answers on this network (VLAN, relay, port security), \
                 or give a static address in the configuration.",
            ),
        };
        Failure::plain(Step::Network, self.plan.input(), cause, advice)
    }
}

/// `eth0.5`, with the interface's name cut so that the whole fits the kernel's 15 characters.
fn vlan_name(parent: &str, id: u16) -> String {
    let suffix = format!(".{id}");
    let room = 15usize.saturating_sub(suffix.len());
    let parent: String = parent.chars().take(room).collect();
    parent + &suffix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlan_names_fit_the_kernel() {
        assert_eq!(vlan_name("eth0", 5), "eth0.5");
        assert_eq!(vlan_name("enp0s31f6abcdef", 4094), "enp0s31f6a.4094");
    }

    #[test]
    fn ipv6_is_needed_only_when_every_url_names_an_ipv6_address() {
        let config = NetworkConfig::default();
        let rules = |urls: &[&str]| {
            let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
            let plan = Plan {
                root: Path::new("/"),
                config: &config,
                urls: &urls,
                avoid: None,
            };
            plan.rules().needs_ipv6
        };
        assert!(rules(&["http://[2001:db8::1]:8080"]));
        assert!(!rules(&["http://[2001:db8::1]:8080", "http://192.0.2.1"]));
        assert!(!rules(&["http://server"]));
        assert!(!rules(&[]));
    }
}
