//! Property values, and how they look in XML.

use std::collections::BTreeMap;

use super::reply::Names;

/// A property's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Bool(bool),
    Int(i64),
    /// A CIM date and time: an element of its own inside the property.
    DateTime(String),
    /// Points at an instance.
    Reference(Reference),
    /// Repeats the element.
    List(Vec<Value>),
}

/// An endpoint reference (DSP0226 section 5.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) class: String,
    pub(super) selectors: Vec<(String, String)>,
}

/// The properties of an instance. Replies list them alphabetically, as real firmware does: so does the map.
pub(super) type Properties = BTreeMap<String, Value>;

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl Value {
    /// As a selector compares it.
    pub(super) fn as_text(&self) -> String {
        match self {
            Self::Text(text) | Self::DateTime(text) => text.clone(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Reference(_) | Self::List(_) => String::new(),
        }
    }

    /// A value of the same kind from what a Put sent; `None` when it is none.
    pub(super) fn same_kind(&self, texts: &[&str]) -> Option<Self> {
        match (self, texts) {
            (Self::List(kinds), _) => {
                let kind = kinds.first().cloned().unwrap_or(Self::Text(String::new()));
                texts
                    .iter()
                    .map(|text| kind.same_kind(&[text]))
                    .collect::<Option<_>>()
                    .map(Self::List)
            }
            (Self::Text(_), [text]) => Some(Self::Text((*text).into())),
            (Self::Bool(_), [text]) => boolean(text).map(Self::Bool),
            (Self::Int(_), [text]) => text.parse().ok().map(Self::Int),
            (Self::DateTime(_), [text]) => Some(Self::DateTime((*text).into())),
            _ => None,
        }
    }

    pub(super) fn write(&self, names: &mut Names, out: &mut String, namespace: &str, name: &str) {
        if let Self::List(values) = self {
            for value in values {
                value.write(names, out, namespace, name);
            }
            return;
        }
        names.open(out, namespace, name);
        match self {
            Self::Text(text) => escape(out, text),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => out.push_str(&value.to_string()),
            Self::DateTime(text) => names.leaf(out, super::reply::COMMON, "Datetime", text),
            Self::Reference(reference) => reference.write(names, out),
            Self::List(_) => {}
        }
        names.close(out, namespace, name);
    }
}

impl Reference {
    /// The inside of an endpoint reference.
    pub(super) fn write(&self, names: &mut Names, out: &mut String) {
        use super::reply::{ADDRESSING, ANONYMOUS, WSMAN};
        names.leaf(out, ADDRESSING, "Address", ANONYMOUS);
        names.open(out, ADDRESSING, "ReferenceParameters");
        names.leaf(out, WSMAN, "ResourceURI", &super::classes::uri(&self.class));
        names.open(out, WSMAN, "SelectorSet");
        for (key, value) in &self.selectors {
            names.open_with(out, WSMAN, "Selector", |out| {
                out.push_str(" Name=\"");
                escape(out, key);
                out.push('"');
            });
            escape(out, value);
            names.close(out, WSMAN, "Selector");
        }
        names.close(out, WSMAN, "SelectorSet");
        names.close(out, ADDRESSING, "ReferenceParameters");
    }
}

/// An XML Schema boolean.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Text as it may stand between tags or in an attribute.
pub(super) fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 has no way to say these.
            '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
}
