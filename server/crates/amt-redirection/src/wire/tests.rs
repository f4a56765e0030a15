//! The input buffer.

use super::*;

#[test]
fn an_inbox_gives_back_what_was_pushed_in_order() {
    let mut inbox = Inbox::default();
    inbox.push(b"abc");
    inbox.consume(2);
    assert_eq!(inbox.unread(), b"c");
    inbox.push(b"def");
    assert_eq!(inbox.unread(), b"cdef");
    inbox.consume(1);
    assert_eq!(inbox.into_unread(), b"def");
}

#[test]
fn consuming_more_than_there_is_leaves_nothing() {
    let mut inbox = Inbox::default();
    inbox.push(b"abc");
    inbox.consume(usize::MAX);
    assert_eq!(inbox.unread(), b"");
    inbox.push(b"d");
    assert_eq!(inbox.unread(), b"d");
}
