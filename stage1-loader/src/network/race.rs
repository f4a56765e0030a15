//! Several interfaces ask for addresses at once: which one wins, and when is it hopeless? Pure.

use std::time::Duration;

/// No interface at all after this: the kernel has had time to find USB adapters.
pub const NO_ADAPTER: Duration = Duration::from_secs(15);
/// No link on any interface after this. Auto-negotiation takes 2 to 4 seconds.
pub const NO_LINK: Duration = Duration::from_secs(30);
/// No address after this, counted from the first link. Spanning tree keeps a port shut for 30 s.
pub const NO_ADDRESS: Duration = Duration::from_secs(60);
/// How long an IPv6 address waits for a DHCP lease, which brings DNS and IPv4 with it.
const IPV6_PATIENCE: Duration = Duration::from_secs(6);
/// How long the interface that led nowhere last time waits for another one.
const AVOID_PATIENCE: Duration = Duration::from_secs(10);

/// How an interface got an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A lease.
    Dhcp,
    /// The configuration says so; needs only a link.
    Static,
    /// A router advertised a prefix.
    RouterAdvertisement,
}

/// An interface with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub interface: String,
    /// How it got the address.
    pub origin: Origin,
    /// When.
    pub since: Duration,
}

/// What the race is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The server is an IPv6 address: IPv4 alone leads nowhere.
    pub needs_ipv6: bool,
    /// The interface through which nothing could be reached last time.
    pub avoid: Option<String>,
    /// More than one interface has a link, so waiting for another one makes sense.
    pub alternatives: bool,
}

impl Rules {
    /// When a candidate may win; none for never.
    pub fn ready_at(&self, candidate: &Candidate) -> Option<Duration> {
        let patience = match candidate.origin {
            Origin::Static => Duration::ZERO,
            Origin::Dhcp if self.needs_ipv6 => return None,
            Origin::RouterAdvertisement if !self.needs_ipv6 => IPV6_PATIENCE,
            Origin::Dhcp | Origin::RouterAdvertisement => Duration::ZERO,
        };
        let avoided =
            self.alternatives && self.avoid.as_deref() == Some(candidate.interface.as_str());
        let patience = if avoided {
            patience.max(AVOID_PATIENCE)
        } else {
            patience
        };
        Some(candidate.since + patience)
    }

    /// The winner, if there is one by now: the one that could have won first.
    pub fn winner<'a>(&self, now: Duration, candidates: &'a [Candidate]) -> Option<&'a Candidate> {
        candidates
            .iter()
            .filter_map(|candidate| Some((self.ready_at(candidate)?, candidate)))
            .filter(|(ready, _)| *ready <= now)
            .min_by_key(|(ready, _)| *ready)
            .map(|(_, candidate)| candidate)
    }

    /// When [`Rules::winner`] may change its mind without anything new.
    pub fn next_change(&self, candidates: &[Candidate]) -> Option<Duration> {
        candidates
            .iter()
            .filter_map(|candidate| self.ready_at(candidate))
            .min()
    }
}

/// Why the network step gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hopeless {
    /// No adapter.
    NoAdapter,
    /// No cable.
    NoLink,
    /// No address.
    NoAddress,
}

/// How far the race has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Course {
    /// When it started.
    pub started: Duration,
    /// There is an interface.
    pub adapter: bool,
    /// When the first link came up.
    pub first_link: Option<Duration>,
}

impl Course {
    /// When it becomes hopeless, and why.
    pub fn deadline(&self) -> (Duration, Hopeless) {
        match (self.adapter, self.first_link) {
            (false, _) => (self.started + NO_ADAPTER, Hopeless::NoAdapter),
            (true, None) => (self.started + NO_LINK, Hopeless::NoLink),
            (true, Some(first)) => (first + NO_ADDRESS, Hopeless::NoAddress),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn candidate(interface: &str, origin: Origin, since: u64) -> Candidate {
        Candidate {
            interface: interface.into(),
            origin,
            since: at(since),
        }
    }

    fn winner<'a>(rules: &Rules, now: u64, candidates: &'a [Candidate]) -> Option<&'a str> {
        rules
            .winner(at(now), candidates)
            .map(|winner| winner.interface.as_str())
    }

    #[test]
    fn the_first_lease_wins_at_once() {
        let rules = Rules::default();
        let candidates = [
            candidate("eth1", Origin::Dhcp, 5),
            candidate("eth0", Origin::Dhcp, 4),
        ];
        assert_eq!(winner(&rules, 5, &candidates), Some("eth0"));
        assert_eq!(winner(&rules, 3, &candidates), None);
    }

    #[test]
    fn ipv6_alone_waits_for_a_lease_first() {
        let rules = Rules::default();
        let mut candidates = vec![candidate("eth0", Origin::RouterAdvertisement, 2)];
        assert_eq!(winner(&rules, 7, &candidates), None);
        assert_eq!(rules.next_change(&candidates), Some(at(8)));
        assert_eq!(winner(&rules, 8, &candidates), Some("eth0"));
        candidates.push(candidate("eth1", Origin::Dhcp, 7));
        assert_eq!(winner(&rules, 7, &candidates), Some("eth1"));
    }

    #[test]
    fn a_server_with_an_ipv6_address_needs_ipv6() {
        let rules = Rules {
            needs_ipv6: true,
            ..Rules::default()
        };
        let candidates = [
            candidate("eth0", Origin::Dhcp, 1),
            candidate("eth1", Origin::RouterAdvertisement, 3),
        ];
        assert_eq!(winner(&rules, 2, &candidates), None);
        assert_eq!(winner(&rules, 3, &candidates), Some("eth1"));
    }

    #[test]
    fn the_interface_that_led_nowhere_lets_others_go_first_but_not_for_ever() {
        let mut rules = Rules {
            avoid: Some("eth0".into()),
            ..Rules::default()
        };
        let mut candidates = vec![candidate("eth0", Origin::Dhcp, 1)];
        assert_eq!(
            winner(&rules, 1, &candidates),
            Some("eth0"),
            "the only link"
        );
        rules.alternatives = true;
        assert_eq!(winner(&rules, 10, &candidates), None);
        assert_eq!(winner(&rules, 11, &candidates), Some("eth0"));
        candidates.push(candidate("eth1", Origin::Dhcp, 9));
        assert_eq!(winner(&rules, 10, &candidates), Some("eth1"));
    }

    #[test]
    fn each_stage_has_its_own_patience() {
        let mut course = Course {
            started: at(2),
            ..Course::default()
        };
        assert_eq!(course.deadline(), (at(17), Hopeless::NoAdapter));
        course.adapter = true;
        assert_eq!(course.deadline(), (at(32), Hopeless::NoLink));
        course.first_link = Some(at(6));
        assert_eq!(course.deadline(), (at(66), Hopeless::NoAddress));
    }
}
