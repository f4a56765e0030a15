//! Netlink datagrams. The kernel sends them, but what routers advertise passes through.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stage1_loader::network::netlink::parse;

fuzz_target!(|bytes: &[u8]| {
    assert!(parse(bytes).len() <= bytes.len() / 16 + 1);
});
