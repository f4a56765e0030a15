//! Answers of DHCP servers: the codec alone, and a client that is told all of them one after another.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use stage1_loader::dhcp::Client;
use stage1_loader::dhcp::message::Reply;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

fuzz_target!(|messages: Vec<Vec<u8>>| {
    let mut client = Client::new(MAC, 7, Duration::ZERO);
    let mut now = Duration::ZERO;
    for mut message in messages {
        let _ = Reply::parse(&message);
        let Some(sent) = client.poll_transmit(now) else {
            now = client.poll_timeout().map_or(now, |due| due.max(now));
            continue;
        };
        // The transaction number would stop nearly every input: half of the answers carry the right one.
        if now.as_secs().is_multiple_of(2) && message.len() >= 34 {
            message[4..8].copy_from_slice(&sent[4..8]);
            message[28..34].copy_from_slice(&MAC);
        }
        now += Duration::from_millis(700);
        let _ = client.receive(now, &message);
        assert!(
            client
                .poll_timeout()
                .is_none_or(|due| due < now + Duration::from_secs(3600))
        );
    }
});
