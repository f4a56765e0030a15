//! Namespaces, classes and actions: every URI that goes into or comes out of a message.
//!
//! WS-Management is DSP0226 1.0.0; the class families are Intel's (`AMT_`, `IPS_`) and the DMTF's (`CIM_`).

/// SOAP 1.2 envelope.
pub const SOAP: &str = "http://www.w3.org/2003/05/soap-envelope";
/// WS-Addressing, the version of August 2004.
pub const ADDRESSING: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing";
/// WS-Management (DSP0226).
pub const WSMAN: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd";
/// WS-Enumeration.
pub const ENUMERATION: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";
/// WS-Transfer.
pub const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";
/// Identify (DSP0226, 11).
pub const IDENTITY: &str = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd";
/// Common CIM types, such as `Datetime`.
pub const CIM_COMMON: &str = "http://schemas.dmtf.org/wbem/wscim/1/common";

const AMT: &str = "http://intel.com/wbem/wscim/1/amt-schema/1/";
const IPS: &str = "http://intel.com/wbem/wscim/1/ips-schema/1/";
const CIM: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/";

/// A management class, such as `AMT_GeneralSettings`.
///
/// Its URI is at once the resource that a request addresses and the namespace of the class's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Class(&'static str);

impl Class {
    /// The class of this name; the part before `_` says which family it is of.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The name, such as `AMT_GeneralSettings`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// The whole URI.
    #[must_use]
    pub fn uri(self) -> String {
        let family = match self.0.split_once('_') {
            Some(("AMT", _)) => AMT,
            Some(("IPS", _)) => IPS,
            _ => CIM,
        };
        format!("{family}{}", self.0)
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_lives_in_the_namespace_of_its_family() {
        for (name, uri) in [
            (
                "AMT_BootSettingData",
                "http://intel.com/wbem/wscim/1/amt-schema/1/AMT_BootSettingData",
            ),
            (
                "IPS_OptInService",
                "http://intel.com/wbem/wscim/1/ips-schema/1/IPS_OptInService",
            ),
            (
                "CIM_BootService",
                "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_BootService",
            ),
        ] {
            assert_eq!(Class::new(name).uri(), uri);
        }
    }
}
