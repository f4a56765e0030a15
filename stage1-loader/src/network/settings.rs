//! Which addresses and routes make an interface usable: from a lease or from the configuration to
//! changes of the kernel's tables. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use stage1_config::Network as NetworkConfig;

use super::netlink::Change;
use crate::dhcp::Lease;

/// The changes that make an interface usable, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) changes: Vec<Change>,
}

impl Settings {
    pub(super) fn of_lease(index: u32, lease: &Lease) -> Self {
        let mut changes = Vec::new();
        if let Some(mtu) = lease.mtu {
            changes.push(Change::Mtu {
                index,
                mtu: mtu.into(),
            });
        }
        let own = (IpAddr::V4(lease.address), lease.prefix);
        changes.push(Change::AddAddress {
            index,
            address: own.0,
            prefix: own.1,
        });
        for &(destination, prefix, gateway) in &lease.routes {
            // RFC 3442: gateway 0.0.0.0 means that the destination is on the cable itself.
            let gateway = (!gateway.is_unspecified()).then_some(IpAddr::V4(gateway));
            changes.extend(route(index, own, IpAddr::V4(destination), prefix, gateway));
        }
        Self { changes }
    }

    pub(super) fn of_config(index: u32, config: &NetworkConfig) -> Self {
        let mut changes = Vec::new();
        for cidr in &config.address {
            changes.push(Change::AddAddress {
                index,
                address: cidr.address,
                prefix: cidr.prefix,
            });
        }
        for &gateway in &config.gateway {
            let own = config
                .address
                .iter()
                .find(|cidr| cidr.address.is_ipv4() == gateway.is_ipv4());
            let everything = match gateway {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            if let Some(own) = own {
                let own = (own.address, own.prefix);
                changes.extend(route(index, own, everything, 0, Some(gateway)));
            }
        }
        Self { changes }
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = (u32, IpAddr, u8)> + '_ {
        self.changes.iter().filter_map(|change| match change {
            Change::AddAddress {
                index,
                address,
                prefix,
            } => Some((*index, *address, *prefix)),
            _ => None,
        })
    }

    pub(super) fn gateways(&self) -> Vec<IpAddr> {
        self.changes
            .iter()
            .filter_map(|change| match change {
                Change::AddRoute {
                    prefix: 0, gateway, ..
                } => *gateway,
                _ => None,
            })
            .collect()
    }
}

/// A route, after one to its gateway where that lies outside our own prefix (as some providers
/// and /32 leases have it).
fn route(
    index: u32,
    own: (IpAddr, u8),
    destination: IpAddr,
    prefix: u8,
    gateway: Option<IpAddr>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    if let Some(gateway) = gateway
        && !same_prefix(own.0, gateway, own.1)
    {
        changes.push(Change::AddRoute {
            index,
            destination: gateway,
            prefix: if gateway.is_ipv4() { 32 } else { 128 },
            gateway: None,
        });
    }
    changes.push(Change::AddRoute {
        index,
        destination,
        prefix,
        gateway,
    });
    changes
}

fn same_prefix(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    let bits = |address: IpAddr| match address {
        // A link-local router is always on the cable.
        IpAddr::V6(v6) if v6.is_unicast_link_local() => None,
        IpAddr::V6(v6) => Some(v6.to_bits()),
        IpAddr::V4(v4) => Some(u128::from(v4.to_bits()) << 96),
    };
    let (Some(a), Some(b)) = (bits(a), bits(b)) else {
        return true;
    };
    prefix == 0 || (a ^ b).checked_shr(128 - u32::from(prefix)).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        Lease {
            address: Ipv4Addr::new(192, 0, 2, 77),
            prefix: 24,
            server: Ipv4Addr::new(192, 0, 2, 1),
            duration: None,
            routes: vec![(Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(192, 0, 2, 254))],
            dns: Vec::new(),
            domain: None,
            mtu: None,
        }
    }

    fn described(settings: &Settings) -> Vec<String> {
        settings.changes.iter().map(Change::describe).collect()
    }

    #[test]
    fn a_lease_sets_mtu_then_address_then_routes() {
        let mut lease = lease();
        lease.mtu = Some(1400);
        lease
            .routes
            .push((Ipv4Addr::new(10, 0, 0, 0), 8, Ipv4Addr::UNSPECIFIED));
        let settings = Settings::of_lease(2, &lease);
        assert_eq!(
            described(&settings),
            [
                "link set 2 mtu 1400",
                "addr add 192.0.2.77/24 dev 2",
                "route add 0.0.0.0/0 via 192.0.2.254 dev 2",
                "route add 10.0.0.0/8 dev 2",
            ]
        );
        assert_eq!(settings.gateways(), [IpAddr::from([192, 0, 2, 254])]);
    }

    #[test]
    fn a_gateway_outside_the_own_prefix_gets_a_route_of_its_own_first() {
        let mut lease = lease();
        lease.prefix = 32;
        assert_eq!(
            described(&Settings::of_lease(2, &lease))[1..],
            [
                "route add 192.0.2.254/32 dev 2",
                "route add 0.0.0.0/0 via 192.0.2.254 dev 2"
            ]
        );
    }

    #[test]
    fn static_addresses_of_both_families_get_their_gateways() {
        let config = NetworkConfig {
            address: vec![
                "192.0.2.5/24".parse().unwrap(),
                "2001:db8::5/64".parse().unwrap(),
            ],
            gateway: vec!["fe80::1".parse().unwrap(), "192.0.2.1".parse().unwrap()],
            ..NetworkConfig::default()
        };
        assert_eq!(
            described(&Settings::of_config(3, &config)),
            [
                "addr add 192.0.2.5/24 dev 3",
                "addr add 2001:db8::5/64 dev 3",
                "route add ::/0 via fe80::1 dev 3",
                "route add 0.0.0.0/0 via 192.0.2.1 dev 3",
            ]
        );
    }

    #[test]
    fn a_gateway_without_an_address_of_its_family_is_left_out() {
        let config = NetworkConfig {
            address: vec!["192.0.2.5/24".parse().unwrap()],
            gateway: vec!["2001:db8::1".parse().unwrap()],
            ..NetworkConfig::default()
        };
        assert_eq!(
            described(&Settings::of_config(3, &config)),
            ["addr add 192.0.2.5/24 dev 3"]
        );
    }
}
