//! One line of QMP, each way.

use serde_json::{Value, json};

/// Something that happened in the machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// QEMU's name, such as `SHUTDOWN`.
    pub name: String,
    /// Its details; null when there are none.
    pub data: Value,
}

/// Why a line is no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// No JSON.
    #[error("a line is no JSON")]
    Json(#[from] serde_json::Error),
    /// JSON, but none of greeting, answer, event.
    #[error("a message is of no known kind")]
    Unknown,
}

/// What QEMU says.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// First line of a connection.
    Greeting,
    /// A command succeeded.
    Return {
        /// Of the command.
        id: u64,
        /// Its result.
        value: Value,
    },
    /// A command failed.
    Error {
        /// Of the command.
        id: u64,
        /// QEMU's words.
        description: String,
    },
    /// Something happened.
    Event(Event),
}

/// Understands a line. Every command is sent with a numeric id, so an answer without one is
/// not an answer to us.
pub(super) fn parse(line: &[u8]) -> Result<Message, MessageError> {
    let mut value: Value = serde_json::from_slice(line)?;
    let id = value.get("id").and_then(Value::as_u64);
    if let Some(name) = value.get("event").and_then(Value::as_str) {
        return Ok(Message::Event(Event {
            name: name.to_owned(),
            data: value.get("data").cloned().unwrap_or_default(),
        }));
    }
    if value.get("QMP").is_some() {
        return Ok(Message::Greeting);
    }
    let id = id.ok_or(MessageError::Unknown)?;
    if let Some(error) = value.get("error") {
        let description = error.get("desc").and_then(Value::as_str);
        return Ok(Message::Error {
            id,
            description: description.unwrap_or("no reason given").to_owned(),
        });
    }
    match value.get_mut("return") {
        Some(result) => Ok(Message::Return {
            id,
            value: result.take(),
        }),
        None => Err(MessageError::Unknown),
    }
}

/// A command as a line.
pub(super) fn request(id: u64, command: &str, arguments: Value) -> String {
    let mut value = json!({ "execute": command, "id": id });
    if !arguments.is_null() {
        value["arguments"] = arguments;
    }
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_kind_of_line_is_told_apart() {
        assert_eq!(
            parse(br#"{"QMP": {"version": {}}}"#).unwrap(),
            Message::Greeting
        );
        assert_eq!(
            parse(br#"{"return": {"running": true}, "id": 7}"#).unwrap(),
            Message::Return {
                id: 7,
                value: json!({"running": true})
            }
        );
        assert_eq!(
            parse(br#"{"id": 7, "error": {"class": "GenericError", "desc": "no"}}"#).unwrap(),
            Message::Error {
                id: 7,
                description: "no".into()
            }
        );
        let event = br#"{"timestamp": {"seconds": 1}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#;
        let Message::Event(event) = parse(event).unwrap() else {
            panic!("not an event");
        };
        assert_eq!(event.name, "SHUTDOWN");
        assert_eq!(event.data["reason"], "guest-reset");
    }

    #[test]
    fn other_json_is_refused() {
        for line in [
            "{}",
            "[]",
            "1",
            r#"{"return": {}}"#,
            r#"{"id": 3}"#,
            r#"{"event": 1}"#,
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn a_command_is_one_line() {
        assert_eq!(
            request(3, "stop", Value::Null),
            "{\"execute\":\"stop\",\"id\":3}\n"
        );
        let line = request(3, "x", json!({"text": "a\nb"}));
        assert_eq!(line.matches('\n').count(), 1);
    }

    proptest! {
        #[test]
        fn random_lines_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
