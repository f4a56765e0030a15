//! SOAP faults that the firmware sends (DSP0226 section 14.6; reference section 1.7).

use super::reply::{ADDRESSING, ENUMERATION, SOAP, WSMAN};

/// Why a request was not done. The text is the reason that the reply carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error(
        "No route can be determined to reach the destination role defined by the WSAddressing To."
    )]
    DestinationUnreachable,
    #[error("The action is not supported by the service.")]
    ActionNotSupported,
    #[error("The sender was not authorized to access the resource.")]
    AccessDenied,
    #[error("The XML content was not valid: element {0} is missing.")]
    MissingValue(&'static str),
    #[error("The XML content was not valid: element {0} has a value that is not possible.")]
    InvalidValue(&'static str),
    #[error("The XML content was not valid.")]
    InvalidRepresentation,
    #[error("The Selectors for the resource were not valid.")]
    InvalidSelectors,
    #[error("The supplied SOAP violates the corresponding XML Schema definition.")]
    SchemaValidation,
    #[error("The service is busy servicing other requests.")]
    QuotaLimit,
    #[error(
        "An internal encoding limit was exceeded in a request or would be violated if the message were processed."
    )]
    EncodingLimit,
    #[error("The specified feature is not supported.")]
    UnsupportedFeature,
    #[error("The supplied enumeration context is invalid.")]
    InvalidEnumerationContext,
    #[error("A header that has to be understood was not.")]
    MustUnderstand,
}

impl Fault {
    /// Namespace and local name of the subcode.
    pub(super) fn subcode(self) -> (&'static str, &'static str) {
        match self {
            Self::DestinationUnreachable => (ADDRESSING, "DestinationUnreachable"),
            Self::ActionNotSupported => (ADDRESSING, "ActionNotSupported"),
            Self::AccessDenied => (WSMAN, "AccessDenied"),
            Self::MissingValue(_) | Self::InvalidValue(_) | Self::InvalidRepresentation => (
                "http://schemas.xmlsoap.org/ws/2004/09/transfer",
                "InvalidRepresentation",
            ),
            Self::InvalidSelectors => (WSMAN, "InvalidSelectors"),
            Self::SchemaValidation => (WSMAN, "SchemaValidationError"),
            Self::QuotaLimit => (WSMAN, "QuotaLimit"),
            Self::EncodingLimit => (WSMAN, "EncodingLimit"),
            Self::UnsupportedFeature => (WSMAN, "UnsupportedFeature"),
            Self::InvalidEnumerationContext => (ENUMERATION, "InvalidEnumerationContext"),
            Self::MustUnderstand => (SOAP, "MustUnderstand"),
        }
    }

    /// Whether it is the service's fault and not the sender's.
    pub(super) fn ours(self) -> bool {
        self == Self::QuotaLimit
    }

    pub(super) fn action(self) -> &'static str {
        match self.subcode().0 {
            ADDRESSING => "http://schemas.xmlsoap.org/ws/2004/08/addressing/fault",
            _ => "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault",
        }
    }

    pub(super) fn detail(self) -> Option<&'static str> {
        match self {
            Self::MissingValue(_) => {
                Some("http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/MissingValues")
            }
            Self::InvalidValue(_) => {
                Some("http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/InvalidValues")
            }
            _ => None,
        }
    }
}
