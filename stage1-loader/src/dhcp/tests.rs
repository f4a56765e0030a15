//! The client against answers that come late, twice, never, wrong or from someone else, at
//! explicit times.

use super::*;
use proptest::prelude::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn client() -> Client {
    Client::new(MAC, 0x1000, at(0))
}

/// DHCP message type and transaction number of something the client sent.
fn kind_and_xid(message: &[u8]) -> (u8, u32) {
    let xid = u32::from_be_bytes(message[4..8].try_into().unwrap());
    assert_eq!(&message[240..242], [53, 1]);
    (message[242], xid)
}

fn reply(kind: u8, xid: u32, address: Ipv4Addr, server: Option<Ipv4Addr>) -> Vec<u8> {
    let mut bytes = vec![2, 1, 6, 0];
    bytes.extend(xid.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend(address.octets());
    bytes.extend([0; 8]);
    bytes.extend(MAC);
    bytes.extend([0; 202]);
    bytes.extend([0x63, 0x82, 0x53, 0x63, 53, 1, kind]);
    if let Some(server) = server {
        bytes.extend([54, 4]);
        bytes.extend(server.octets());
    }
    bytes.extend([1, 4, 255, 255, 255, 0, 3, 4, 192, 0, 2, 254, 255]);
    bytes
}

const OFFER: u8 = 2;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// Brings a client to the point where its first REQUEST was sent at 100 ms.
fn requesting() -> (Client, u32) {
    let mut client = client();
    let (_, xid) = kind_and_xid(&client.poll_transmit(at(0)).unwrap());
    client
        .receive(at(100), &reply(OFFER, xid, ADDRESS, Some(SERVER)))
        .unwrap();
    let (kind, _) = kind_and_xid(&client.poll_transmit(at(100)).unwrap());
    assert_eq!(kind, 3);
    (client, xid)
}

#[test]
fn four_messages_make_a_lease() {
    let (mut client, xid) = requesting();
    let event = client.receive(at(150), &reply(ACK, xid, ADDRESS, Some(SERVER)));
    let Ok(Event::Bound(lease)) = event else {
        panic!("{event:?}");
    };
    assert_eq!(lease.address, ADDRESS);
    assert_eq!(lease.prefix, 24);
    assert_eq!(lease.gateway(), Some(Ipv4Addr::new(192, 0, 2, 254)));
    assert_eq!(lease.duration, None);
    assert_eq!(client.poll_timeout(), None);
    assert_eq!(client.poll_transmit(at(60_000)), None);
    assert_eq!(client.sent(), 2);
}

#[test]
fn lost_discovers_are_repeated_with_growing_pauses_and_the_same_transaction() {
    let mut client = client();
    let mut times = Vec::new();
    let mut now = at(0);
    for _ in 0..6 {
        now = client.poll_timeout().unwrap().max(now);
        let message = client.poll_transmit(now).unwrap();
        assert_eq!(kind_and_xid(&message), (1, 0x1000));
        assert_eq!(client.poll_transmit(now), None, "one message per time-out");
        times.push(now);
    }
    for (pair, floor) in times.windows(2).zip([1, 2, 4, 8, 8]) {
        let pause = pair[1] - pair[0];
        let floor = Duration::from_secs(floor);
        assert!(pause >= floor && pause <= floor * 5 / 4, "{pause:?}");
    }
}

#[test]
fn nothing_is_sent_before_its_time() {
    let mut client = client();
    assert!(client.poll_transmit(at(0)).is_some());
    assert_eq!(client.poll_transmit(at(999)), None);
}

#[test]
fn a_lost_acknowledgement_repeats_the_request() {
    let (mut client, xid) = requesting();
    let next = client.poll_timeout().unwrap();
    assert_eq!(kind_and_xid(&client.poll_transmit(next).unwrap()), (3, xid));
    let event = client.receive(next, &reply(ACK, xid, ADDRESS, Some(SERVER)));
    assert!(matches!(event, Ok(Event::Bound(_))));
}

#[test]
fn a_server_that_never_acknowledges_is_given_up_and_its_late_answer_ignored() {
    let (mut client, old_xid) = requesting();
    let mut now = at(100);
    let mut kinds = Vec::new();
    for _ in 0..4 {
        now = client.poll_timeout().unwrap();
        kinds.push(kind_and_xid(&client.poll_transmit(now).unwrap()));
    }
    assert_eq!(kinds[..3], [(3, old_xid); 3]);
    let (kind, new_xid) = kinds[3];
    assert_eq!(kind, 1, "back to discovery");
    assert_ne!(new_xid, old_xid);
    let late = client.receive(now, &reply(ACK, old_xid, ADDRESS, Some(SERVER)));
    assert_eq!(
        late,
        Err(Ignored::OtherTransaction {
            found: old_xid,
            expected: new_xid
        })
    );
}

#[test]
fn repeated_and_second_offers_change_nothing() {
    let (mut client, xid) = requesting();
    for server in [SERVER, OTHER_SERVER] {
        let again = client.receive(at(120), &reply(OFFER, xid, ADDRESS, Some(server)));
        assert_eq!(again, Err(Ignored::Unexpected));
    }
    let event = client.receive(at(150), &reply(ACK, xid, ADDRESS, Some(SERVER)));
    assert!(matches!(event, Ok(Event::Bound(lease)) if lease.server == SERVER));
}

#[test]
fn an_acknowledgement_repeated_after_the_lease_changes_nothing() {
    let (mut client, xid) = requesting();
    let ack = reply(ACK, xid, ADDRESS, Some(SERVER));
    client.receive(at(150), &ack).unwrap();
    assert_eq!(client.receive(at(160), &ack), Err(Ignored::Unexpected));
}

#[test]
fn a_refusal_starts_again_after_a_pause_with_a_new_transaction() {
    let (mut client, xid) = requesting();
    let event = client.receive(
        at(150),
        &reply(NAK, xid, Ipv4Addr::UNSPECIFIED, Some(SERVER)),
    );
    assert_eq!(
        event,
        Ok(Event::Refused {
            server: Some(SERVER),
            message: None
        })
    );
    assert_eq!(client.poll_transmit(at(1149)), None);
    let (kind, new_xid) = kind_and_xid(&client.poll_transmit(at(1150)).unwrap());
    assert_eq!(kind, 1);
    assert_ne!(new_xid, xid);
}

#[test]
fn answers_of_a_server_we_did_not_choose_are_ignored() {
    for kind in [ACK, NAK] {
        let (mut client, xid) = requesting();
        let event = client.receive(at(150), &reply(kind, xid, ADDRESS, Some(OTHER_SERVER)));
        assert_eq!(event, Err(Ignored::Unexpected), "message type {kind}");
    }
}

#[test]
fn messages_for_others_and_garbage_are_ignored() {
    let mut client = client();
    client.poll_transmit(at(0)).unwrap();
    let other_xid = reply(OFFER, 0x2000, ADDRESS, Some(SERVER));
    assert!(matches!(
        client.receive(at(10), &other_xid),
        Err(Ignored::OtherTransaction { .. })
    ));
    let mut other_mac = reply(OFFER, 0x1000, ADDRESS, Some(SERVER));
    other_mac[33] ^= 1;
    assert_eq!(
        client.receive(at(10), &other_mac),
        Err(Ignored::OtherClient)
    );
    assert!(matches!(
        client.receive(at(10), b"garbage"),
        Err(Ignored::Malformed(_))
    ));
    assert_eq!(
        client.receive(at(10), &reply(ACK, 0x1000, ADDRESS, Some(SERVER))),
        Err(Ignored::Unexpected),
        "an acknowledgement before any request"
    );
}

#[test]
fn offers_without_an_address_or_a_server_are_ignored() {
    let mut client = client();
    client.poll_transmit(at(0)).unwrap();
    let unusable = [
        reply(OFFER, 0x1000, Ipv4Addr::UNSPECIFIED, Some(SERVER)), // ProxyDHCP
        reply(OFFER, 0x1000, Ipv4Addr::LOCALHOST, Some(SERVER)),
        reply(OFFER, 0x1000, Ipv4Addr::BROADCAST, Some(SERVER)),
        reply(OFFER, 0x1000, ADDRESS, None),
    ];
    for message in unusable {
        assert_eq!(client.receive(at(10), &message), Err(Ignored::Unusable));
    }
}

#[test]
fn classless_routes_replace_the_router_option() {
    let (mut client, xid) = requesting();
    let mut ack = reply(ACK, xid, ADDRESS, Some(SERVER));
    ack.pop();
    ack.extend([121, 5, 0, 192, 0, 2, 9, 255]); // default by 192.0.2.9
    let Ok(Event::Bound(lease)) = client.receive(at(150), &ack) else {
        panic!("no lease");
    };
    assert_eq!(lease.gateway(), Some(Ipv4Addr::new(192, 0, 2, 9)));
    assert_eq!(lease.routes.len(), 1);
}

proptest! {
    /// Whatever arrives whenever: no panic, time moves on, and only an acknowledgement binds.
    #[test]
    fn any_conversation_keeps_a_next_time_or_a_lease(
        steps in proptest::collection::vec((0u64..3000, 0u8..8, any::<bool>()), 1..60)
    ) {
        let mut client = client();
        let mut now = at(0);
        let mut xid = 0x1000;
        let mut bound = false;
        for (pause, kind, right_server) in steps {
            now += Duration::from_millis(pause);
            if let Some(message) = client.poll_transmit(now) {
                prop_assert!(!bound);
                xid = kind_and_xid(&message).1;
            }
            let server = if right_server { SERVER } else { OTHER_SERVER };
            if let Ok(Event::Bound(_)) = client.receive(now, &reply(kind, xid, ADDRESS, Some(server))) {
                prop_assert_eq!(kind, ACK);
                bound = true;
            }
            prop_assert_eq!(client.poll_timeout().is_none(), bound);
        }
    }
}
