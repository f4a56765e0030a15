//! The config slot. As its CRCs would stop nearly every input, the text of base and overlay is fuzzed apart from the frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stage1_config::{Config, SLOT_LEN, Slot, find};

fuzz_target!(|bytes: &[u8]| {
    let mut frame = bytes.to_vec();
    frame.resize(SLOT_LEN, 0);
    find(&frame);
    if let Ok(slot) = Slot::parse(&frame) {
        assert_eq!(
            slot.emit(),
            frame,
            "a slot that is read can be given back bit for bit"
        );
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    // A line "%%" parts base and overlay.
    let (base, overlay) = text.split_once("\n%%\n").unwrap_or((text, ""));
    let Ok(slot) = Slot::new(base).and_then(|slot| slot.with_overlay(overlay)) else {
        return;
    };
    assert_eq!(
        Slot::parse(&slot.emit()).expect("what we write, we read"),
        slot
    );
    if let Ok(config) = slot.config() {
        config.check().expect("readers check");
        assert_eq!(
            Config::parse(&config.to_toml()).expect("what we write, we read"),
            config
        );
    }
});
