//! The loader's reports, as the server reads them: nothing that drives a terminal, the same after writing.
#![no_main]

use boot_api::{EventBatch, State};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(batch) = EventBatch::parse(bytes) else {
        return;
    };
    let mut state = State::Created;
    for report in &batch.events {
        let next = state.after(&report.kind);
        assert!(!state.is_final() || next == state);
        state = next;
    }
    // Whoever shows the JSON as it is shows no control character.
    let json = batch.to_json().expect("reports are JSON");
    let text = std::str::from_utf8(&json).expect("JSON is UTF-8");
    assert!(!text.chars().any(char::is_control));
    // Written out, the body may be longer than is read.
    if let Ok(again) = EventBatch::parse(&json) {
        assert_eq!(again, batch);
    }
});
