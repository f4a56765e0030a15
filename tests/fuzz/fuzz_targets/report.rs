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
    // JSON escapes what field names may still hold, so no control character is left in it.
    let json = batch.to_json().expect("reports are JSON");
    assert!(!json.iter().any(u8::is_ascii_control));
    // Numbers like 1e400 do not exist here, and escapes may make the body longer than is read.
    if let Ok(again) = EventBatch::parse(&json) {
        assert_eq!(again, batch);
    }
});
