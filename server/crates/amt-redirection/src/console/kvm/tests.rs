//! Entry to KVM, with the bytes that real firmware was seen to send.

use super::*;

const BANNER: &[u8] = b"RFB 004.000\n";

#[test]
fn takes_off_eight_bytes_and_passes_on_the_banner_that_came_along() {
    let now = Instant::now();
    let mut entry = Entry::new(now);
    assert_eq!(entry.poll_transmit().unwrap(), [0x40, 0, 0, 0, 0, 0, 0, 0]);
    entry.handle_input(now, &[&[0x41, 0, 0, 0, 0, 0, 0, 0][..], BANNER].concat());
    assert_eq!(entry.outcome(), Some(Ok(BANNER.to_vec())));
    assert_eq!(entry.poll_timeout(), None);
}

#[test]
fn one_byte_at_a_time_will_do() {
    let now = Instant::now();
    let mut entry = Entry::new(now);
    for byte in [0x41, 0, 0, 0, 0, 0, 0] {
        entry.handle_input(now, &[byte]);
        assert_eq!(entry.outcome(), None);
    }
    entry.handle_input(now, &[0]);
    assert_eq!(entry.outcome(), Some(Ok(Vec::new())));
}

#[test]
fn a_lost_answer_times_out() {
    let now = Instant::now();
    let mut entry = Entry::new(now);
    let due = entry.poll_timeout().unwrap();
    entry.handle_timeout(due - Duration::from_millis(1));
    assert_eq!(entry.outcome(), None);
    entry.handle_timeout(due);
    assert_eq!(entry.outcome(), Some(Err(EntryError::Timeout)));
}

#[test]
fn another_answer_is_an_error() {
    let now = Instant::now();
    let mut entry = Entry::new(now);
    entry.handle_input(now, BANNER);
    let error = EntryError::Unexpected {
        position: 0,
        found: b'R',
    };
    assert_eq!(entry.outcome(), Some(Err(error)));
}
