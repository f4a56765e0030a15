//! The few rtnetlink messages that set an interface up: include/uapi/linux/{netlink,rtnetlink,
//! if_link,if_addr,if_vlan}.h of Linux 6.12. Pure: bytes out, bytes in; numbers are in the
//! machine's byte order, as the kernel wants them, except addresses.
//!
//! Read back are acknowledgements and, for IPv6 without DHCP, the DNS servers of router
//! advertisements (RFC 8106). Links and addresses are read from /sys and /proc instead.

use std::net::{IpAddr, Ipv6Addr};

/// Multicast groups to hear: links come and go, IPv6 addresses come and go, options of router
/// advertisements.
pub const GROUPS: u32 =
    (libc::RTMGRP_LINK | libc::RTMGRP_IPV6_IFADDR) as u32 | 1 << (libc::RTNLGRP_ND_USEROPT - 1);

const HEADER: usize = 16;
const REQUEST: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
const CREATE: u16 = libc::NLM_F_CREATE as u16;
const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;

// Attributes that are nested or not in libc for this target.
const IFLA_VLAN_ID: u16 = 1;
const ALIGN: usize = 4;

/// A change to the kernel's network tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets an interface up.
    Up {
        /// Interface index.
        index: u32,
    },
    /// Sets the MTU.
    Mtu {
        /// Interface index.
        index: u32,
        /// Bytes.
        mtu: u32,
    },
    /// Makes an 802.1Q interface on top of another.
    AddVlan {
        /// Index of the interface below.
        parent: u32,
        /// 1 to 4094.
        id: u16,
        /// Name of the new interface.
        name: String,
    },
    /// Gives an interface an address.
    AddAddress {
        /// Interface index.
        index: u32,
        /// The address.
        address: IpAddr,
        /// Prefix length.
        prefix: u8,
    },
    /// Takes an address away, and with the last one all routes.
    RemoveAddress {
        /// Interface index.
        index: u32,
        /// The address.
        address: IpAddr,
        /// Prefix length.
        prefix: u8,
    },
    /// Adds or replaces a route.
    AddRoute {
        /// Interface index.
        index: u32,
        /// Destination; its family is the route's.
        destination: IpAddr,
        /// Prefix length; 0 is the default route.
        prefix: u8,
        /// Next hop; none for a destination on the cable itself.
        gateway: Option<IpAddr>,
    },
}

impl Change {
    /// The request, asking for an acknowledgement.
    pub fn emit(&self, sequence: u32) -> Vec<u8> {
        match self {
            Change::Up { index } => {
                let up = libc::IFF_UP as u32;
                Message::new(libc::RTM_NEWLINK, 0, sequence, &link(*index, up, up)).done()
            }
            Change::Mtu { index, mtu } => {
                let mut message = Message::new(libc::RTM_NEWLINK, 0, sequence, &link(*index, 0, 0));
                message.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
                message.done()
            }
            Change::AddVlan { parent, id, name } => {
                let flags = CREATE | EXCLUSIVE;
                let mut message = Message::new(libc::RTM_NEWLINK, flags, sequence, &link(0, 0, 0));
                let mut name = name.clone().into_bytes();
                name.push(0);
                message.attribute(libc::IFLA_IFNAME, &name);
                message.attribute(libc::IFLA_LINK, &parent.to_ne_bytes());
                let data = attribute(IFLA_VLAN_ID, &id.to_ne_bytes());
                let mut info = attribute(libc::IFLA_INFO_KIND, b"vlan");
                info.extend(attribute(libc::IFLA_INFO_DATA, &data));
                message.attribute(libc::IFLA_LINKINFO, &info);
                message.done()
            }
            Change::AddAddress {
                index,
                address,
                prefix,
            } => self::address(
                libc::RTM_NEWADDR,
                CREATE | REPLACE,
                sequence,
                (*index, *address, *prefix),
            ),
            Change::RemoveAddress {
                index,
                address,
                prefix,
            } => self::address(libc::RTM_DELADDR, 0, sequence, (*index, *address, *prefix)),
            Change::AddRoute {
                index,
                destination,
                prefix,
                gateway,
            } => {
                let scope = match gateway {
                    Some(_) => libc::RT_SCOPE_UNIVERSE,
                    None => libc::RT_SCOPE_LINK,
                };
                let header = [
                    family(*destination),
                    *prefix,
                    0, // source prefix length
                    0, // type of service
                    libc::RT_TABLE_MAIN,
                    libc::RTPROT_STATIC,
                    scope,
                    libc::RTN_UNICAST,
                    0, // flags, four bytes
                    0,
                    0,
                    0,
                ];
                let flags = CREATE | REPLACE;
                let mut message = Message::new(libc::RTM_NEWROUTE, flags, sequence, &header);
                if *prefix > 0 {
                    message.attribute(libc::RTA_DST, &octets(*destination));
                }
                message.attribute(libc::RTA_OIF, &index.to_ne_bytes());
                if let Some(gateway) = gateway {
                    message.attribute(libc::RTA_GATEWAY, &octets(*gateway));
                }
                message.done()
            }
        }
    }

    /// The change in the words of ip(8), for errors.
    pub fn describe(&self) -> String {
        match self {
            Change::Up { index } => format!("link set {index} up"),
            Change::Mtu { index, mtu } => format!("link set {index} mtu {mtu}"),
            Change::AddVlan { parent, id, name } => {
                format!("link add {name} link {parent} type vlan id {id}")
            }
            Change::AddAddress {
                index,
                address,
                prefix,
            } => format!("addr add {address}/{prefix} dev {index}"),
            Change::RemoveAddress {
                index,
                address,
                prefix,
            } => format!("addr del {address}/{prefix} dev {index}"),
            Change::AddRoute {
                index,
                destination,
                prefix,
                gateway: Some(gateway),
            } => format!("route add {destination}/{prefix} via {gateway} dev {index}"),
            Change::AddRoute {
                index,
                destination,
                prefix,
                gateway: None,
            } => format!("route add {destination}/{prefix} dev {index}"),
        }
    }
}

/// What the kernel said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Answer to the request with this sequence number; 0 is success, else an errno.
    Acknowledged {
        /// Of the request.
        sequence: u32,
        /// Positive errno, or 0.
        errno: i32,
    },
    /// A router advertised DNS servers.
    DnsServers {
        /// Interface index.
        index: u32,
        /// Their addresses.
        servers: Vec<Ipv6Addr>,
    },
    /// Something changed that /sys and /proc know more about.
    Changed,
}

/// Messages in one received datagram, which only the kernel can have sent. What is malformed
/// ends the list.
pub fn parse(mut bytes: &[u8]) -> Vec<Notice> {
    let mut notices = Vec::new();
    while let (Some(length), Some(kind), Some(sequence)) =
        (u32_at(bytes, 0), u16_at(bytes, 4), u32_at(bytes, 8))
    {
        let Some(payload) = bytes.get(HEADER..length as usize) else {
            break;
        };
        notices.push(match i32::from(kind) {
            libc::NLMSG_ERROR => Notice::Acknowledged {
                sequence,
                errno: u32_at(payload, 0).map_or(libc::EIO, |n| (n as i32).wrapping_neg()),
            },
            _ if kind == libc::RTM_NEWNDUSEROPT => dns_servers(payload),
            _ => Notice::Changed,
        });
        bytes = bytes.get(aligned(length as usize)..).unwrap_or_default();
    }
    notices
}

/// `struct nduseroptmsg` and neighbour-discovery options (RFC 4861 section 4.6, RFC 8106
/// section 5.1).
fn dns_servers(payload: &[u8]) -> Notice {
    const RDNSS: u8 = 25;
    let (Some(options_length), Some(index)) = (u16_at(payload, 2), u32_at(payload, 4)) else {
        return Notice::Changed;
    };
    let end = 16 + usize::from(options_length);
    let mut options = payload.get(16..end.min(payload.len())).unwrap_or_default();
    let mut servers = Vec::new();
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        let Some(option) = options.get(..length).filter(|_| units > 0) else {
            break;
        };
        let lifetime = option.get(4..8).is_some_and(|bytes| bytes != [0; 4]);
        if kind == RDNSS && lifetime {
            let addresses = option.get(8..).unwrap_or_default();
            servers.extend(
                addresses
                    .chunks_exact(16)
                    .filter_map(|bytes| <[u8; 16]>::try_from(bytes).ok())
                    .map(Ipv6Addr::from)
                    .take(8),
            );
        }
        options = options.get(length..).unwrap_or_default();
    }
    if servers.is_empty() {
        return Notice::Changed;
    }
    Notice::DnsServers { index, servers }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(ALIGN)
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// `struct ifinfomsg`.
fn link(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut header = vec![0; 4]; // family, padding, device type
    header.extend(index.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    header.extend(change.to_ne_bytes());
    header
}

/// `struct ifaddrmsg` with its attributes.
fn address(
    kind: u16,
    flags: u16,
    sequence: u32,
    (index, address, prefix): (u32, IpAddr, u8),
) -> Vec<u8> {
    // Duplicate detection would hold a configured address back for a second.
    let no_detection = match address {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => libc::IFA_F_NODAD as u8,
    };
    let mut header = vec![
        family(address),
        prefix,
        no_detection,
        libc::RT_SCOPE_UNIVERSE,
    ];
    header.extend(index.to_ne_bytes());
    let mut message = Message::new(kind, flags, sequence, &header);
    message.attribute(libc::IFA_LOCAL, &octets(address));
    message.attribute(libc::IFA_ADDRESS, &octets(address));
    if let IpAddr::V4(v4) = address
        && prefix < 31
    {
        let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        let broadcast = u32::from(v4) | hosts;
        message.attribute(libc::IFA_BROADCAST, &broadcast.to_be_bytes());
    }
    message.done()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(aligned(length));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(aligned(length), 0);
    bytes
}

/// A request under construction.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, sequence: u32, header: &[u8]) -> Self {
        let mut bytes = vec![0; 4]; // length, filled in at the end
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((REQUEST | flags).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]); // sender: the kernel fills it in
        bytes.extend(header);
        Self(bytes)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.0.extend(attribute(kind, value));
    }

    fn done(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_route_as_ip_route_sends_it() {
        let change = Change::AddRoute {
            index: 2,
            destination: "0.0.0.0".parse().unwrap(),
            prefix: 0,
            gateway: Some("10.0.2.2".parse().unwrap()),
        };
        let golden = [
            44, 0, 0, 0, // length
            24, 0, // RTM_NEWROUTE
            0x05, 0x05, // REQUEST ACK, REPLACE CREATE
            7, 0, 0, 0, // sequence
            0, 0, 0, 0, // sender
            2, 0, 0, 0, // AF_INET, /0, no source prefix, no type of service
            254, 4, 0, 1, // main table, static, universe, unicast
            0, 0, 0, 0, // flags
            8, 0, 4, 0, 2, 0, 0, 0, // RTA_OIF 2
            8, 0, 5, 0, 10, 0, 2, 2, // RTA_GATEWAY 10.0.2.2
        ];
        assert_eq!(change.emit(7), golden);
        assert_eq!(change.describe(), "route add 0.0.0.0/0 via 10.0.2.2 dev 2");
    }

    #[test]
    fn a_vlan_interface_nests_its_number_three_deep() {
        let change = Change::AddVlan {
            parent: 3,
            id: 0x123,
            name: "eth0.291".into(),
        };
        let golden = [
            80, 0, 0, 0, // length
            16, 0, // RTM_NEWLINK
            0x05, 0x06, // REQUEST ACK, EXCL CREATE
            1, 0, 0, 0, // sequence
            0, 0, 0, 0, // sender
            0, 0, 0, 0, // family, device type
            0, 0, 0, 0, // index: the kernel chooses
            0, 0, 0, 0, // flags
            0, 0, 0, 0, // change
            13, 0, 3, 0, b'e', b't', b'h', b'0', b'.', b'2', b'9', b'1', 0, 0, 0,
            0, // IFLA_IFNAME
            8, 0, 5, 0, 3, 0, 0, 0, // IFLA_LINK 3
            24, 0, 18, 0, // IFLA_LINKINFO
            8, 0, 1, 0, b'v', b'l', b'a', b'n', // IFLA_INFO_KIND
            12, 0, 2, 0, // IFLA_INFO_DATA
            6, 0, 1, 0, 0x23, 0x01, 0, 0, // IFLA_VLAN_ID
        ];
        assert_eq!(change.emit(1), golden);
    }

    #[test]
    fn an_address_carries_its_broadcast_address() {
        let change = Change::AddAddress {
            index: 2,
            address: "192.0.2.77".parse().unwrap(),
            prefix: 26,
        };
        let bytes = change.emit(1);
        assert_eq!(
            &bytes[16..],
            [
                2, 26, 0, 0, 2, 0, 0, 0, // AF_INET, /26, no flags, universe, index
                8, 0, 2, 0, 192, 0, 2, 77, // IFA_LOCAL
                8, 0, 1, 0, 192, 0, 2, 77, // IFA_ADDRESS
                8, 0, 4, 0, 192, 0, 2, 127, // IFA_BROADCAST
            ]
        );
    }

    #[test]
    fn reads_acknowledgements_and_refusals() {
        let mut bytes = vec![
            36, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, // NLMSG_ERROR for sequence 9
            0, 0, 0, 0, // success
        ];
        bytes.resize(36, 0);
        bytes.extend([
            20, 0, 0, 0, 2, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, // for sequence 10
            0xef, 0xff, 0xff, 0xff, // -17
        ]);
        assert_eq!(
            parse(&bytes),
            [
                Notice::Acknowledged {
                    sequence: 9,
                    errno: 0
                },
                Notice::Acknowledged {
                    sequence: 10,
                    errno: libc::EEXIST
                }
            ]
        );
    }

    #[test]
    fn reads_dns_servers_of_a_router_advertisement() {
        let server: Ipv6Addr = "2001:db8::53".parse().unwrap();
        let mut bytes = vec![
            56, 0, 0, 0, 68, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // RTM_NEWNDUSEROPT
            10, 0, 24, 0, // AF_INET6, 24 bytes of options
            2, 0, 0, 0, // interface
            134, 0, 0, 0, 0, 0, 0, 0, // router advertisement
            25, 3, 0, 0, // RDNSS of 24 bytes
            0, 0, 0x0e, 0x10, // lifetime 3600 s
        ];
        bytes.extend(server.octets());
        assert_eq!(
            parse(&bytes),
            [Notice::DnsServers {
                index: 2,
                servers: vec![server]
            }]
        );
        bytes[36..40].fill(0); // lifetime 0: withdrawn
        assert_eq!(parse(&bytes), [Notice::Changed]);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn random_router_options_never_panic(
            options in proptest::collection::vec(any::<u8>(), 0..100)
        ) {
            let mut bytes = vec![0; 16];
            bytes[0] = 32 + options.len() as u8;
            bytes[4] = 68;
            bytes.extend([10, 0, options.len() as u8, 0, 2, 0, 0, 0, 134, 0, 0, 0, 0, 0, 0, 0]);
            bytes.extend(options);
            prop_assert_eq!(parse(&bytes).len(), 1);
        }
    }
}
