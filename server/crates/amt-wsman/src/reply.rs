//! Reply envelopes: from XML to elements or a fault (SOAP 1.2; DSP0226 1.0.0).
//!
//! The bytes are the device's, or of whatever answered in its place: size, number of nodes and depth are bounded, a
//! document type declaration is refused. Elements are told apart by namespace, never by prefix: AMT hands out prefixes
//! anew for each document. Not looked at: `RelatesTo` (HTTP pairs answer and question; faults carry a 0 there) and the
//! action (real firmware leaves off the `Response` at times).

use roxmltree::{Document, Node, ParsingOptions};

use crate::fault::Fault;
use crate::names::SOAP;

/// A reply longer than this is refused, in bytes. Pages of an enumeration are asked for with at most 99,999 characters.
pub const MAX_REPLY: usize = 2 * 1024 * 1024;

const MAX_NODES: u32 = 50_000;
const MAX_DEPTH: usize = 24;

/// Why a reply cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Longer than [`MAX_REPLY`].
    #[error("{length} bytes are more than the {MAX_REPLY} that an answer may have")]
    TooLong {
        /// Length, in bytes.
        length: usize,
    },
    /// Not well-formed, or with a document type declaration.
    #[error("not the XML that was expected: {0}")]
    Xml(String),
    /// Elements are nested too deeply.
    #[error("elements are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// Well-formed, but no SOAP 1.2 message.
    #[error("the outermost element is {found:?}, not a SOAP 1.2 envelope")]
    NotSoap {
        /// Name of the outermost element.
        found: String,
    },
    /// An element that has to be there is not.
    #[error("{missing} is missing")]
    Missing {
        /// The element.
        missing: String,
    },
    /// A property that has to be understood is not of its type.
    #[error("{class}.{property} is {value:?}, which is not {expected}")]
    Property {
        /// The class.
        class: &'static str,
        /// The property.
        property: String,
        /// Its text, cut off when long.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// One element of a reply's body, with everything below it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// Namespace URI; empty without one.
    pub namespace: String,
    /// Local name.
    pub name: String,
    /// Text directly in it, without white space around it.
    pub text: String,
    /// Elements in it, in order.
    pub children: Vec<Element>,
}

impl Element {
    /// Whether it is the element `name` of `namespace`.
    #[must_use]
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.name == name && self.namespace == namespace
    }

    /// The first child of that local name, whatever its namespace.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of that local name: how arrays are written.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of a property; `None` when it is missing or empty.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.child(name)
            .map(|child| child.text.as_str())
            .filter(|text| !text.is_empty())
    }

    /// A property as a number; `None` when it is missing or no number.
    #[must_use]
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    /// A property as truth value; `None` when it is missing or something else.
    #[must_use]
    pub fn boolean(&self, name: &str) -> Option<bool> {
        boolean(self.text(name)?)
    }

    /// A number that the caller cannot do without.
    ///
    /// # Errors
    ///
    /// When it is missing or no number.
    pub fn required_number<T: std::str::FromStr>(
        &self,
        class: &'static str,
        name: &str,
    ) -> Result<T, ReplyError> {
        let text = self.required(class, name)?;
        text.parse()
            .map_err(|_| bad_property(class, name, text, "a number in range"))
    }

    /// A truth value that the caller cannot do without.
    ///
    /// # Errors
    ///
    /// When it is missing or neither true nor false.
    pub fn required_boolean(&self, class: &'static str, name: &str) -> Result<bool, ReplyError> {
        let text = self.required(class, name)?;
        boolean(text).ok_or_else(|| bad_property(class, name, text, "true or false"))
    }

    fn required(&self, class: &'static str, name: &str) -> Result<&str, ReplyError> {
        self.text(name).ok_or_else(|| ReplyError::Missing {
            missing: format!("{class}.{name}"),
        })
    }
}

/// xs:boolean has two spellings of each.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn bad_property(
    class: &'static str,
    property: &str,
    value: &str,
    expected: &'static str,
) -> ReplyError {
    ReplyError::Property {
        class,
        property: property.to_owned(),
        value: value.chars().take(64).collect(),
        expected,
    }
}

/// What a reply says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The elements of its body.
    Body(Vec<Element>),
    /// The request was refused.
    Fault(Fault),
}

/// Reads a reply.
///
/// # Errors
///
/// When it is not a SOAP 1.2 message within the bounds.
pub fn parse(text: &str) -> Result<Message, ReplyError> {
    if text.len() > MAX_REPLY {
        return Err(ReplyError::TooLong { length: text.len() });
    }
    // Recorded answers exist that start with a byte order mark or an empty line.
    let text = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: MAX_NODES,
        entity_resolver: None,
    };
    let document = Document::parse_with_options(text, options)
        .map_err(|error| ReplyError::Xml(error.to_string()))?;
    let root = document.root_element();
    if !is_soap(root, "Envelope") {
        return Err(ReplyError::NotSoap {
            found: root.tag_name().name().chars().take(64).collect(),
        });
    }
    let body = root
        .children()
        .find(|node| is_soap(*node, "Body"))
        .ok_or_else(|| ReplyError::Missing {
            missing: "the SOAP body".into(),
        })?;
    if let Some(fault) = body.children().find(|node| is_soap(*node, "Fault")) {
        return Ok(Message::Fault(Fault::of(&element(fault, 0)?)));
    }
    let elements = body
        .children()
        .filter(Node::is_element)
        .map(|node| element(node, 0));
    Ok(Message::Body(elements.collect::<Result<_, _>>()?))
}

fn is_soap(node: Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().name() == name && node.tag_name().namespace() == Some(SOAP)
}

fn element(node: Node<'_, '_>, depth: usize) -> Result<Element, ReplyError> {
    if depth >= MAX_DEPTH {
        return Err(ReplyError::TooDeep);
    }
    let mut text = String::new();
    let mut children = Vec::new();
    for child in node.children() {
        if child.is_element() {
            children.push(element(child, depth + 1)?);
        } else if child.is_text() {
            text.push_str(child.text().unwrap_or_default());
        }
    }
    Ok(Element {
        namespace: node.tag_name().namespace().unwrap_or_default().to_owned(),
        name: node.tag_name().name().to_owned(),
        text: text.trim().to_owned(),
        children,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fault::FaultCode;

    const USER_INITIATED: &str = include_str!("../testdata/reply-get.xml");

    fn body(text: &str) -> Vec<Element> {
        match parse(text) {
            Ok(Message::Body(elements)) => elements,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_in_amts_own_form_is_read_by_namespace() {
        let elements = body(USER_INITIATED);
        let [service] = elements.as_slice() else {
            panic!("{elements:?}")
        };
        assert!(service.is(
            "http://intel.com/wbem/wscim/1/amt-schema/1/AMT_UserInitiatedConnectionService",
            "AMT_UserInitiatedConnectionService"
        ));
        assert_eq!(service.number::<u32>("EnabledState"), Some(32771));
        assert_eq!(service.text("SystemName"), Some("Intel(r) AMT"));
        assert_eq!(service.children.len(), 6);
    }

    #[test]
    fn other_prefixes_white_space_and_a_byte_order_mark_change_nothing() {
        let other = USER_INITIATED
            .replace("a:", "soap:")
            .replace("xmlns:a=", "xmlns:soap=")
            .replace("g:", "q:")
            .replace("xmlns:g=", "xmlns:q=")
            .replace("><", ">\n  <");
        assert_eq!(body(&format!("\u{feff}\n{other}")), body(USER_INITIATED));
    }

    #[test]
    fn the_same_names_in_another_namespace_are_no_soap() {
        let other = USER_INITIATED.replace(SOAP, "http://schemas.xmlsoap.org/soap/envelope/");
        assert_eq!(
            parse(&other),
            Err(ReplyError::NotSoap {
                found: "Envelope".into()
            })
        );
        assert!(matches!(
            parse("<html><body>Log on failed.</body></html>"),
            Err(ReplyError::NotSoap { .. })
        ));
    }

    #[test]
    fn every_cut_of_a_reply_is_an_error() {
        let text = USER_INITIATED.trim_end();
        for end in 0..text.len() {
            if let Some(part) = text.get(..end) {
                assert!(parse(part).is_err(), "{end}");
            }
        }
    }

    #[test]
    fn bounds_hold_against_long_deep_wide_and_self_expanding_documents() {
        let long = "x".repeat(MAX_REPLY + 1);
        assert_eq!(
            parse(&long),
            Err(ReplyError::TooLong { length: long.len() })
        );

        let nest = |depth: usize| {
            format!(
                "<s:Envelope xmlns:s=\"{SOAP}\"><s:Body>{}{}</s:Body></s:Envelope>",
                "<x>".repeat(depth),
                "</x>".repeat(depth)
            )
        };
        assert!(parse(&nest(MAX_DEPTH)).is_ok());
        assert_eq!(parse(&nest(MAX_DEPTH + 1)), Err(ReplyError::TooDeep));
        assert!(parse(&nest(40_000)).is_err());

        let wide = format!(
            "<s:Envelope xmlns:s=\"{SOAP}\"><s:Body>{}</s:Body></s:Envelope>",
            "<x/>".repeat(60_000)
        );
        assert!(matches!(parse(&wide), Err(ReplyError::Xml(_))));

        let entities = format!(
            "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><s:Envelope xmlns:s=\"{SOAP}\">\
             <s:Body><x>&b;</x></s:Body></s:Envelope>"
        );
        assert!(matches!(parse(&entities), Err(ReplyError::Xml(_))));
    }

    #[test]
    fn a_captured_fault_is_a_fault_whatever_prefix_its_subcode_has() {
        let text = include_str!("../testdata/reply-fault.xml");
        for text in [text.to_owned(), text.replace("b:Dest", "wsa:Dest")] {
            let Ok(Message::Fault(fault)) = parse(&text) else {
                panic!("{text}")
            };
            assert_eq!(fault.code, FaultCode::DestinationUnreachable);
            assert!(fault.reason.starts_with("No route can be determined"));
        }
    }

    #[test]
    fn properties_of_the_wrong_type_are_named() {
        let element = Element {
            name: "X".into(),
            children: vec![Element {
                name: "A".into(),
                text: "4294967296".into(),
                ..Element::default()
            }],
            ..Element::default()
        };
        assert_eq!(element.number::<u32>("A"), None);
        assert_eq!(
            element
                .required_number::<u32>("X", "A")
                .unwrap_err()
                .to_string(),
            "X.A is \"4294967296\", which is not a number in range"
        );
        assert_eq!(
            element.required_boolean("X", "B").unwrap_err().to_string(),
            "X.B is missing"
        );
    }

    proptest! {
        #[test]
        fn random_text_never_panics(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn a_changed_reply_never_panics(at in 0..2000usize, with in any::<char>()) {
            let mut text: Vec<char> = USER_INITIATED.chars().collect();
            let at = at % text.len();
            text[at] = with;
            let _ = parse(&text.into_iter().collect::<String>());
        }
    }
}
