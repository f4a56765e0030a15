//! Terminal output as plain text: without what moves the cursor (ECMA-48 control sequences,
//! carriage returns, other control characters). Screens run together that way, which is fine
//! for looking for words.

/// Where the stream stands.
#[derive(Debug, Default)]
pub(super) struct Plain {
    state: State,
    /// Bytes of a character that is not complete yet: at most 3.
    partial: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC [: until a byte from 0x40 to 0x7e.
    ControlSequence,
    /// After ESC and an intermediate byte: until a byte from 0x30.
    Intermediate,
    /// After ESC ]: until BEL or the next ESC.
    OperatingSystemCommand,
}

impl Plain {
    /// Appends the text in `bytes` to `text`.
    pub(super) fn push(&mut self, bytes: &[u8], text: &mut String) {
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (_, 0x1b) => State::Escape,
                (State::Text, b'\n' | b'\t' | 0x20..=0x7e | 0x80..) => {
                    self.partial.push(byte);
                    self.flush(text);
                    State::Text
                }
                (State::Escape, b'[') => State::ControlSequence,
                (State::Escape, b']') => State::OperatingSystemCommand,
                (State::Escape, 0x20..=0x2f) => State::Intermediate,
                (State::Escape, _) | (State::ControlSequence, 0x40..=0x7e) => State::Text,
                (State::Intermediate, 0x30..) | (State::OperatingSystemCommand, 0x07) => {
                    State::Text
                }
                (state, _) => state,
            };
        }
    }

    /// Moves a complete character over; what can never become one is replaced.
    fn flush(&mut self, text: &mut String) {
        while !self.partial.is_empty() {
            match std::str::from_utf8(&self.partial) {
                Ok(complete) => {
                    text.push_str(complete);
                    self.partial.clear();
                }
                Err(error) => match error.error_len() {
                    None => return,
                    Some(length) => {
                        text.push(char::REPLACEMENT_CHARACTER);
                        self.partial.drain(..length.min(self.partial.len()));
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(pieces: &[&[u8]]) -> String {
        let mut filter = Plain::default();
        let mut text = String::new();
        for piece in pieces {
            filter.push(piece, &mut text);
        }
        text
    }

    #[test]
    fn what_moves_the_cursor_is_removed() {
        let text = plain(&[
            b"\x1b[2J\x1b[01;01Ha\x1b",
            b"[0;37mb\x1b(Bc\x1b]0;title\x07d\r\ne\x1b7f",
        ]);
        assert_eq!(text, "abcd\nef");
    }

    #[test]
    fn split_characters_survive_and_broken_ones_are_replaced() {
        assert_eq!(
            plain(&[&[0xc3], &[0xa9, 0xff, b'x', 0xe2, b'y']]),
            "é\u{fffd}x\u{fffd}y"
        );
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..200) {
            let (first, second) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(plain(&[first, second]), plain(&[&bytes]));
        }
    }
}
