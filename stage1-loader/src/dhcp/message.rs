//! DHCPv4 messages as a client reads and writes them: RFC 2131 section 2 (layout) and RFC 2132
//! (options), RFC 3396 (an option split over several), RFC 3442 (classless static routes).
//! Whoever sits on the cable controls the bytes that are parsed here.
//!
//! Not read: the `sname` and `file` fields and options overloaded into them (option 52); they
//! serve BOOTP-style network boot, which the loader does not do.

use std::net::Ipv4Addr;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Transaction number, echoed by servers.
    pub xid: u32,
    /// Whole seconds since the client started asking.
    pub secs: u16,
    /// Hardware address.
    pub mac: [u8; 6],
    /// Discover, request or decline.
    pub kind: RequestKind,
}

/// The kinds of messages that a client sends before it has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// DHCPDISCOVER.
    Discover,
    /// DHCPREQUEST that takes up a server's offer.
    Select {
        /// The offered address.
        address: Ipv4Addr,
        /// Server identifier from the offer.
        server: Ipv4Addr,
    },
}

/// A server's answer, as far as the loader uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Transaction number.
    pub xid: u32,
    /// Hardware address it is meant for.
    pub mac: [u8; 6],
    /// Offer, acknowledgement or refusal.
    pub kind: ReplyKind,
    /// Address for the client (`yiaddr`).
    pub address: Ipv4Addr,
    /// Option 54; none when the server left it out.
    pub server: Option<Ipv4Addr>,
    /// The remaining options.
    pub options: ReplyOptions,
}

/// What a server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    /// DHCPOFFER.
    Offer,
    /// DHCPACK.
    Acknowledge,
    /// DHCPNAK.
    Refuse,
}

/// Options the loader asks for. Wrong ones count as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplyOptions {
    /// Option 1, as prefix length.
    pub prefix: Option<u8>,
    /// Option 3.
    pub routers: Vec<Ipv4Addr>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 15, only if it is a plain domain name.
    pub domain: Option<String>,
    /// Option 26, bytes.
    pub mtu: Option<u16>,
    /// Option 51, seconds.
    pub lease_seconds: Option<u32>,
    /// Option 56: why a server refuses. Control characters are dropped.
    pub message: Option<String>,
    /// Option 121: destination, prefix length, gateway.
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
}

/// Why bytes are not a reply to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Ended inside a field.
    #[error("cut short in {0}")]
    CutShort(&'static str),
    /// Not BOOTREPLY.
    #[error("operation {0} is not a reply")]
    NotAReply(u8),
    /// Hardware type or address length is not Ethernet's.
    #[error("hardware type {0} with {1} address bytes is not Ethernet")]
    NotEthernet(u8, u8),
    /// The four bytes before the options.
    #[error("magic cookie {0:08x} is not DHCP's")]
    Magic(u32),
    /// Option 53 missing or not an offer, acknowledgement or refusal.
    #[error("message type {0:?} is not a server's")]
    Type(Option<u8>),
}

const MAGIC: u32 = 0x6382_5363;
const OPTIONS_AT: usize = 240;
const BOOT_REQUEST: u8 = 1;
const BOOT_REPLY: u8 = 2;
const ETHERNET: u8 = 1;
/// RFC 1542 section 2.1: relays may drop anything shorter.
const MIN_LENGTH: usize = 300;
/// Caps of lists that end in kernel tables and /etc/resolv.conf.
const MAX_ADDRESSES: usize = 8;
const MAX_ROUTES: usize = 32;

mod code {
    pub(super) const PAD: u8 = 0;
    pub(super) const SUBNET_MASK: u8 = 1;
    pub(super) const ROUTER: u8 = 3;
    pub(super) const DNS: u8 = 6;
    pub(super) const DOMAIN: u8 = 15;
    pub(super) const MTU: u8 = 26;
    pub(super) const REQUESTED_ADDRESS: u8 = 50;
    pub(super) const LEASE_TIME: u8 = 51;
    pub(super) const MESSAGE_TYPE: u8 = 53;
    pub(super) const SERVER: u8 = 54;
    pub(super) const PARAMETERS: u8 = 55;
    pub(super) const MESSAGE: u8 = 56;
    pub(super) const MAX_SIZE: u8 = 57;
    pub(super) const CLIENT: u8 = 61;
    pub(super) const ROUTES: u8 = 121;
    pub(super) const END: u8 = 255;
}

impl Request {
    /// The message as bytes, padded to what every relay forwards.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MIN_LENGTH);
        out.extend([BOOT_REQUEST, ETHERNET, 6, 0]); // op, htype, hlen, hops
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        // BROADCAST: we cannot receive unicast before the address is set (section 4.1).
        out.extend(0x8000u16.to_be_bytes());
        out.extend([0; 16]); // ciaddr, yiaddr, siaddr, giaddr
        out.extend(self.mac);
        out.extend([0; 10]); // chaddr is 16 bytes long
        out.extend([0; 64 + 128]); // sname, file
        out.extend(MAGIC.to_be_bytes());
        let kind = match self.kind {
            RequestKind::Discover => 1,
            RequestKind::Select { .. } => 3,
        };
        out.extend([code::MESSAGE_TYPE, 1, kind]);
        out.extend([code::CLIENT, 7, ETHERNET]);
        out.extend(self.mac);
        if let RequestKind::Select { address, server } = self.kind {
            out.extend([code::REQUESTED_ADDRESS, 4]);
            out.extend(address.octets());
            out.extend([code::SERVER, 4]);
            out.extend(server.octets());
        }
        out.extend([code::MAX_SIZE, 2]);
        out.extend(1472u16.to_be_bytes());
        // RFC 3442: option 121 before option 3.
        let wanted = [
            code::SUBNET_MASK,
            code::ROUTES,
            code::ROUTER,
            code::DNS,
            code::DOMAIN,
            code::MTU,
            code::LEASE_TIME,
        ];
        out.extend([code::PARAMETERS, wanted.len() as u8]);
        out.extend(wanted);
        out.push(code::END);
        if out.len() < MIN_LENGTH {
            out.resize(MIN_LENGTH, 0);
        }
        out
    }
}

impl Reply {
    /// Reads a server's message. Unknown options are skipped; known ones that make no sense
    /// count as absent, so that one bad option does not cost the lease.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let field = |at: usize, what| take(bytes, at).ok_or(MessageError::CutShort(what));
        let [op, hardware, hardware_length, _hops] = field(0, "op")?;
        if op != BOOT_REPLY {
            return Err(MessageError::NotAReply(op));
        }
        if (hardware, hardware_length) != (ETHERNET, 6) {
            return Err(MessageError::NotEthernet(hardware, hardware_length));
        }
        let xid = u32::from_be_bytes(field(4, "xid")?);
        let address = Ipv4Addr::from(field(16, "yiaddr")?);
        let mac: [u8; 6] = take(bytes, 28).ok_or(MessageError::CutShort("chaddr"))?;
        let magic = u32::from_be_bytes(field(OPTIONS_AT - 4, "magic")?);
        if magic != MAGIC {
            return Err(MessageError::Magic(magic));
        }
        let options = Options(bytes.get(OPTIONS_AT..).unwrap_or_default());
        let kind = options.first_byte(code::MESSAGE_TYPE);
        let kind = match kind {
            Some(2) => ReplyKind::Offer,
            Some(5) => ReplyKind::Acknowledge,
            Some(6) => ReplyKind::Refuse,
            other => return Err(MessageError::Type(other)),
        };
        Ok(Self {
            xid,
            mac,
            kind,
            address,
            server: options.addresses(code::SERVER).first().copied(),
            options: ReplyOptions {
                prefix: options.number(code::SUBNET_MASK).and_then(prefix_of),
                routers: options.addresses(code::ROUTER),
                dns: options.addresses(code::DNS),
                domain: domain(&options.joined(code::DOMAIN)),
                mtu: take(&options.joined(code::MTU), 0)
                    .map(u16::from_be_bytes)
                    .filter(|&mtu| mtu >= 576),
                lease_seconds: options.number(code::LEASE_TIME),
                message: text(&options.joined(code::MESSAGE)),
                routes: routes(&options.joined(code::ROUTES)),
            },
        })
    }
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The options area. A length that points past the end ends the list, as other clients do.
struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            loop {
                let (&code, after) = rest.split_first()?;
                match code {
                    code::PAD => rest = after,
                    code::END => return None,
                    _ => {
                        let (&length, after) = after.split_first()?;
                        let value = after.get(..usize::from(length))?;
                        rest = after.get(usize::from(length)..)?;
                        return Some((code, value));
                    }
                }
            }
        })
    }

    /// RFC 3396: options of the same code are one option, in order.
    fn joined(&self, wanted: u8) -> Vec<u8> {
        self.iter()
            .filter(|(code, _)| *code == wanted)
            .flat_map(|(_, value)| value)
            .copied()
            .collect()
    }

    fn first_byte(&self, wanted: u8) -> Option<u8> {
        self.joined(wanted).first().copied()
    }

    fn number(&self, wanted: u8) -> Option<u32> {
        take(&self.joined(wanted), 0).map(u32::from_be_bytes)
    }

    fn addresses(&self, wanted: u8) -> Vec<Ipv4Addr> {
        self.joined(wanted)
            .chunks_exact(4)
            .filter_map(|bytes| take(bytes, 0).map(Ipv4Addr::from))
            .filter(|address: &Ipv4Addr| !address.is_unspecified() && !address.is_broadcast())
            .take(MAX_ADDRESSES)
            .collect()
    }
}

/// None for a mask with holes.
fn prefix_of(mask: u32) -> Option<u8> {
    let prefix = mask.leading_ones();
    (mask.count_ones() == prefix && prefix > 0).then_some(prefix as u8)
}

/// A domain goes into /etc/resolv.conf, where a line break would be a directive of the server's.
fn domain(bytes: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    (!name.is_empty() && name.len() <= 253 && name.chars().all(plain)).then(|| name.to_owned())
}

fn text(bytes: &[u8]) -> Option<String> {
    let text: String = String::from_utf8_lossy(bytes)
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    (!text.is_empty()).then_some(text)
}

/// RFC 3442: prefix length, then only the significant bytes of the destination, then the gateway.
fn routes(mut bytes: &[u8]) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
    let mut routes = Vec::new();
    while let Some((&prefix, rest)) = bytes.split_first() {
        let significant = usize::from(prefix).div_ceil(8);
        let (Some(head), Some(gateway)) = (rest.get(..significant), take(rest, significant)) else {
            return Vec::new();
        };
        if prefix > 32 || routes.len() == MAX_ROUTES {
            return Vec::new();
        }
        let mut destination = [0u8; 4];
        destination[..significant].copy_from_slice(head);
        routes.push((Ipv4Addr::from(destination), prefix, Ipv4Addr::from(gateway)));
        bytes = rest.get(significant + 4..).unwrap_or_default();
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhcproto::{Decodable, Encodable, v4};
    use proptest::prelude::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

    /// A DHCPACK written by hand, one field per line.
    fn golden_ack() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend([2, 1, 6, 0]); // op, htype, hlen, hops
        bytes.extend([0xde, 0xad, 0xbe, 0xef]); // xid
        bytes.extend([0, 0, 0x80, 0]); // secs, flags
        bytes.extend([0, 0, 0, 0]); // ciaddr
        bytes.extend([10, 0, 2, 15]); // yiaddr
        bytes.extend([10, 0, 2, 2]); // siaddr
        bytes.extend([0, 0, 0, 0]); // giaddr
        bytes.extend(MAC);
        bytes.extend([0; 10]);
        bytes.extend([0; 192]); // sname, file
        bytes.extend([0x63, 0x82, 0x53, 0x63]); // magic cookie
        bytes.extend([53, 1, 5]); // DHCPACK
        bytes.extend([54, 4, 10, 0, 2, 2]); // server identifier
        bytes.extend([51, 4, 0, 1, 0x51, 0x80]); // 86,400 s
        bytes.extend([1, 4, 255, 255, 255, 0]); // subnet mask
        bytes.extend([3, 4, 10, 0, 2, 2]); // router
        bytes.extend([6, 4, 10, 0, 2, 3]); // DNS, first half
        bytes.extend([6, 4, 10, 0, 2, 4]); // DNS, second half (RFC 3396)
        bytes.extend([15, 7]); // domain
        bytes.extend(b"example");
        bytes.extend([26, 2, 0x05, 0xdc]); // MTU 1500
        bytes.extend([121, 8, 24, 192, 168, 7, 10, 0, 2, 9]); // 192.168.7.0/24 by 10.0.2.9
        bytes.push(255);
        bytes
    }

    #[test]
    fn reads_every_field_of_an_acknowledgement() {
        let reply = Reply::parse(&golden_ack()).unwrap();
        assert_eq!(reply.xid, 0xdead_beef);
        assert_eq!(reply.mac, MAC);
        assert_eq!(reply.kind, ReplyKind::Acknowledge);
        assert_eq!(reply.address, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!(reply.server, Some(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(
            reply.options,
            ReplyOptions {
                prefix: Some(24),
                routers: vec![Ipv4Addr::new(10, 0, 2, 2)],
                dns: vec![Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(10, 0, 2, 4)],
                domain: Some("example".into()),
                mtu: Some(1500),
                lease_seconds: Some(86_400),
                message: None,
                routes: vec![(
                    Ipv4Addr::new(192, 168, 7, 0),
                    24,
                    Ipv4Addr::new(10, 0, 2, 9)
                )],
            }
        );
    }

    #[test]
    fn a_message_cut_before_its_type_is_an_error_and_later_cuts_only_lose_options() {
        let golden = golden_ack();
        let type_ends = OPTIONS_AT + 3;
        for length in 0..golden.len() {
            assert_eq!(
                Reply::parse(&golden[..length]).is_ok(),
                length >= type_ends,
                "cut at {length}"
            );
        }
    }

    #[test]
    fn options_that_make_no_sense_count_as_absent() {
        let with = |options: &[u8]| {
            let mut bytes = golden_ack()[..OPTIONS_AT].to_vec();
            bytes.extend([53, 1, 5]);
            bytes.extend(options);
            Reply::parse(&bytes).unwrap().options
        };
        let none = ReplyOptions::default();
        let cases: &[(&str, &[u8])] = &[
            ("mask with a hole", &[1, 4, 255, 0, 255, 0]),
            ("mask of three bytes", &[1, 3, 255, 255, 255]),
            ("router of three bytes", &[3, 3, 10, 0, 2]),
            ("router 0.0.0.0", &[3, 4, 0, 0, 0, 0]),
            (
                "domain with a line break",
                &[15, 5, b'a', b'\n', b'n', b's', b' '],
            ),
            ("MTU below 576", &[26, 2, 0, 68]),
            (
                "route with prefix 33",
                &[121, 9, 33, 1, 2, 3, 4, 5, 6, 7, 8],
            ),
            ("route cut short", &[121, 4, 24, 192, 168, 7]),
            ("length past the end", &[3, 200, 10, 0, 2, 2]),
        ];
        for (name, options) in cases {
            assert_eq!(with(options), none, "{name}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_reply_for_ethernet() {
        let change = |at: usize, value: u8| {
            let mut bytes = golden_ack();
            bytes[at] = value;
            Reply::parse(&bytes)
        };
        assert_eq!(change(0, 1), Err(MessageError::NotAReply(1)));
        assert_eq!(change(1, 6), Err(MessageError::NotEthernet(6, 6)));
        assert_eq!(change(2, 255), Err(MessageError::NotEthernet(1, 255)));
        assert_eq!(change(236, 0), Err(MessageError::Magic(0x0082_5363)));
        assert_eq!(change(OPTIONS_AT + 2, 1), Err(MessageError::Type(Some(1))));
    }

    #[test]
    fn another_implementation_reads_our_requests() {
        let request = Request {
            xid: 0x1234_5678,
            secs: 7,
            mac: MAC,
            kind: RequestKind::Select {
                address: Ipv4Addr::new(10, 0, 2, 15),
                server: Ipv4Addr::new(10, 0, 2, 2),
            },
        };
        let bytes = request.emit();
        assert_eq!(bytes.len(), 300);
        let message = v4::Message::decode(&mut v4::Decoder::new(&bytes)).unwrap();
        assert_eq!(message.opcode(), v4::Opcode::BootRequest);
        assert_eq!(message.xid(), 0x1234_5678);
        assert_eq!(message.secs(), 7);
        assert!(message.flags().broadcast());
        assert_eq!(message.chaddr(), &MAC);
        let option = |code| message.opts().get(code).unwrap().clone();
        assert_eq!(
            option(v4::OptionCode::MessageType),
            v4::DhcpOption::MessageType(v4::MessageType::Request)
        );
        assert_eq!(
            option(v4::OptionCode::RequestedIpAddress),
            v4::DhcpOption::RequestedIpAddress(Ipv4Addr::new(10, 0, 2, 15))
        );
        assert_eq!(
            option(v4::OptionCode::ServerIdentifier),
            v4::DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 2, 2))
        );
        let mut client = vec![1];
        client.extend(MAC);
        assert_eq!(
            option(v4::OptionCode::ClientIdentifier),
            v4::DhcpOption::ClientIdentifier(client)
        );
    }

    #[test]
    fn we_read_the_replies_of_another_implementation() {
        let mut message = v4::Message::default();
        message
            .set_opcode(v4::Opcode::BootReply)
            .set_xid(99)
            .set_yiaddr([192, 0, 2, 7])
            .set_chaddr(&MAC);
        let options = message.opts_mut();
        options.insert(v4::DhcpOption::MessageType(v4::MessageType::Offer));
        options.insert(v4::DhcpOption::ServerIdentifier([192, 0, 2, 1].into()));
        options.insert(v4::DhcpOption::SubnetMask([255, 255, 255, 192].into()));
        options.insert(v4::DhcpOption::Router(vec![[192, 0, 2, 1].into()]));
        options.insert(v4::DhcpOption::AddressLeaseTime(600));
        let mut bytes = Vec::new();
        message.encode(&mut v4::Encoder::new(&mut bytes)).unwrap();
        let reply = Reply::parse(&bytes).unwrap();
        assert_eq!(reply.kind, ReplyKind::Offer);
        assert_eq!(reply.address, Ipv4Addr::new(192, 0, 2, 7));
        assert_eq!(reply.options.prefix, Some(26));
        assert_eq!(reply.options.routers, [Ipv4Addr::new(192, 0, 2, 1)]);
        assert_eq!(reply.options.lease_seconds, Some(600));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Reply::parse(&bytes);
        }

        #[test]
        fn random_options_never_panic(options in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = golden_ack()[..OPTIONS_AT].to_vec();
            bytes.extend([53, 1, 2]);
            bytes.extend(options);
            if let Ok(reply) = Reply::parse(&bytes) {
                prop_assert!(reply.options.dns.len() <= MAX_ADDRESSES);
                prop_assert!(reply.options.routes.len() <= MAX_ROUTES);
            }
        }
    }
}
