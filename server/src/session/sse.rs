//! Reads server-sent events (WHATWG HTML, section 9.2.6 "Interpreting an event stream") from
//! bytes that arrive in pieces of any size.
//!
//! Not supported: `retry:`, since a follower has its own back-off. The bytes come from whatever
//! answers under the server's URL.

/// One message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// The type; `message` when the stream named none.
    pub(super) event: String,
    /// The last id seen up to this message.
    pub(super) id: Option<String>,
    pub(super) data: String,
}

/// The stream sent a line or message longer than [`MAX_MESSAGE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message of more than {MAX_MESSAGE} bytes")]
pub(super) struct TooLong;

/// Far above an event's own limit of a batch of 64 KiB.
pub(super) const MAX_MESSAGE: usize = 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
    started: bool,
    event: String,
    id: Option<String>,
    data: String,
}

impl Parser {
    /// Takes some bytes, returns the messages that they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>, TooLong> {
        let mut messages = Vec::new();
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => messages.extend(self.end_of_line()),
                byte => {
                    if self.line.len() + self.data.len() >= MAX_MESSAGE {
                        return Err(TooLong);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(messages)
    }

    fn end_of_line(&mut self) -> Option<Message> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = match std::mem::replace(&mut self.started, true) {
            true => &*line,
            false => line.strip_prefix('\u{feff}').unwrap_or(&line),
        };
        if line.is_empty() {
            return self.end_of_message();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // Comments (an empty field name) and fields that nobody knows.
            _ => {}
        }
        None
    }

    fn end_of_message(&mut self) -> Option<Message> {
        let event = std::mem::take(&mut self.event);
        let mut data = std::mem::take(&mut self.data);
        // Without data there is no message; an id alone has been noted.
        data.pop()?;
        Some(Message {
            event: if event.is_empty() {
                "message".to_owned()
            } else {
                event
            },
            id: self.id.clone(),
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"\xef\xbb\xbf: comment\n\
        event: state\n\
        data: {\"state\":\"created\"}\n\
        \n\
        id: 7\r\n\
        data: one\r\n\
        data:two\r\n\
        nonsense: x\r\n\
        \r\n\
        id: 8\n\
        \n\
        data\n\
        \n\
        data: unfinished";

    fn expected() -> Vec<Message> {
        let message = |event: &str, id: Option<&str>, data: &str| Message {
            event: event.to_owned(),
            id: id.map(str::to_owned),
            data: data.to_owned(),
        };
        vec![
            message("state", None, "{\"state\":\"created\"}"),
            message("message", Some("7"), "one\ntwo"),
            message("message", Some("8"), ""),
        ]
    }

    #[test]
    fn reads_comments_types_ids_and_joined_lines() {
        assert_eq!(Parser::default().push(STREAM).unwrap(), expected());
    }

    #[test]
    fn pieces_of_any_size_give_the_same_messages() {
        for size in 1..STREAM.len() {
            let mut parser = Parser::default();
            let messages: Vec<Message> = STREAM
                .chunks(size)
                .flat_map(|piece| parser.push(piece).unwrap())
                .collect();
            assert_eq!(messages, expected(), "pieces of {size}");
        }
    }

    #[test]
    fn a_line_that_never_ends_is_refused() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'x'; MAX_MESSAGE]), Ok(Vec::new()));
        assert_eq!(parser.push(b"x"), Err(TooLong));
    }

    #[test]
    fn data_without_end_is_refused_however_short_its_lines() {
        let mut parser = Parser::default();
        let lines = b"data: 0123456789\n".repeat(MAX_MESSAGE / 10);
        assert_eq!(parser.push(&lines), Err(TooLong));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..500)) {
            let _ = Parser::default().push(&bytes);
        }
    }
}
