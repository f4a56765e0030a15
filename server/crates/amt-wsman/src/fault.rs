//! SOAP faults: how a device refuses a request as a whole (SOAP 1.2, 5.4; DSP0226, 14.6).

use crate::reply::Element;

/// Why a request was refused, from the fault's subcode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultCode {
    /// The firmware has no such class, or the selectors match nothing.
    DestinationUnreachable,
    /// The object of a Put or Create is wrong or incomplete.
    InvalidRepresentation,
    /// A right is missing, or the user's consent.
    AccessDenied,
    /// Too much at a time; later it works.
    QuotaLimit,
    /// The class has no such method.
    ActionNotSupported,
    /// Selectors that the class does not have.
    InvalidSelectors,
    /// The message does not follow the schema.
    SchemaValidationError,
    /// Too long, or in another character set.
    EncodingLimit,
    /// The device took too long itself.
    TimedOut,
    /// The device failed.
    InternalError,
    /// A feature of the standard that the device lacks.
    UnsupportedFeature,
    /// A listing that the device no longer remembers.
    InvalidEnumerationContext,
    /// Any other.
    Unknown(String),
}

impl FaultCode {
    /// By the local name of the subcode.
    #[must_use]
    pub fn of(name: &str) -> Self {
        match name {
            "DestinationUnreachable" => Self::DestinationUnreachable,
            "InvalidRepresentation" => Self::InvalidRepresentation,
            "AccessDenied" => Self::AccessDenied,
            "QuotaLimit" => Self::QuotaLimit,
            "ActionNotSupported" => Self::ActionNotSupported,
            "InvalidSelectors" => Self::InvalidSelectors,
            "SchemaValidationError" => Self::SchemaValidationError,
            "EncodingLimit" => Self::EncodingLimit,
            "TimedOut" => Self::TimedOut,
            "InternalError" => Self::InternalError,
            "UnsupportedFeature" => Self::UnsupportedFeature,
            "InvalidEnumerationContext" => Self::InvalidEnumerationContext,
            other => Self::Unknown(other.chars().take(64).collect()),
        }
    }

    /// What it means, in plain words.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::DestinationUnreachable => "this firmware does not have what was asked for",
            Self::InvalidRepresentation => "the settings contradict each other or are incomplete",
            Self::AccessDenied => "access denied",
            Self::QuotaLimit => "the device is busy with other requests",
            Self::ActionNotSupported => "this firmware does not know the action",
            Self::InvalidSelectors => "the device does not know the object that was named",
            Self::SchemaValidationError => "the device found the message malformed",
            Self::EncodingLimit => "the device found the message too long",
            Self::TimedOut => "the device took too long",
            Self::InternalError => "the device reports an internal error",
            Self::UnsupportedFeature => "this firmware lacks the feature",
            Self::InvalidEnumerationContext => "the device forgot the listing that was under way",
            Self::Unknown(name) => name,
        }
    }
}

impl std::fmt::Display for FaultCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Why.
    pub code: FaultCode,
    /// The device's own words; empty without any. May hold anything: not for a terminal as it is.
    pub reason: String,
    /// The last part of the detail URI, such as `InvalidValues`; empty without one.
    pub detail: String,
}

impl Fault {
    /// Reads a `Fault` element; what is missing stays empty.
    pub(crate) fn of(element: &Element) -> Self {
        let code = element.child("Code");
        let subcode = code
            .and_then(|code| code.child("Subcode"))
            .and_then(|subcode| subcode.text("Value"));
        let value = subcode.or_else(|| code.and_then(|code| code.text("Value")));
        let reason = element
            .child("Reason")
            .and_then(|reason| reason.text("Text"));
        let detail = element
            .child("Detail")
            .and_then(|detail| detail.text("FaultDetail"));
        Self {
            // A QName in text: its prefix says nothing that the name does not.
            code: FaultCode::of(last_part(value.unwrap_or_default(), ':')),
            reason: cut(reason.unwrap_or_default()),
            detail: cut(last_part(detail.unwrap_or_default(), '/')),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.detail.is_empty() {
            write!(f, " ({})", printable(&self.detail))?;
        }
        if !self.reason.is_empty() {
            write!(f, "; it says: {}", printable(&self.reason))?;
        }
        Ok(())
    }
}

fn last_part(text: &str, separator: char) -> &str {
    text.rsplit(separator).next().unwrap_or_default()
}

fn cut(text: &str) -> String {
    text.chars().take(512).collect()
}

/// What a terminal may be shown of a text that came over the network.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::{Message, parse};

    fn fault(code: &str, reason: &str, detail: &str) -> Fault {
        let text = format!(
            "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"><s:Body><s:Fault>{code}\
             <s:Reason><s:Text xml:lang=\"en\">{reason}</s:Text></s:Reason><s:Detail>{detail}</s:Detail>\
             </s:Fault></s:Body></s:Envelope>"
        );
        match parse(&text) {
            Ok(Message::Fault(fault)) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn subcode_reason_and_detail_are_read() {
        let refused = fault(
            "<s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>w:InvalidRepresentation</s:Value></s:Subcode></s:Code>",
            "The object is wrong.",
            "<w:FaultDetail xmlns:w=\"w\">http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/InvalidValues</w:FaultDetail>",
        );
        assert_eq!(refused.code, FaultCode::InvalidRepresentation);
        assert_eq!(refused.detail, "InvalidValues");
        assert_eq!(
            refused.to_string(),
            "the settings contradict each other or are incomplete (InvalidValues); it says: The object is wrong."
        );
    }

    #[test]
    fn a_fault_without_subcode_is_still_told() {
        let bare = fault("<s:Code><s:Value>s:Receiver</s:Value></s:Code>", "", "");
        assert_eq!(bare.code, FaultCode::Unknown("Receiver".into()));
        assert_eq!(bare.to_string(), "Receiver");
        assert_eq!(fault("", "", "").code, FaultCode::Unknown(String::new()));
    }
}
