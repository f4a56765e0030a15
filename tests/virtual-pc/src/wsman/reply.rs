//! Writing envelopes the way the firmware does: prefixes `a`, `b`, ... declared on the envelope, no whitespace
//! between elements, its own message ids that count.

use super::fault::Fault;

pub(super) const SOAP: &str = "http://www.w3.org/2003/05/soap-envelope";
pub(super) const ADDRESSING: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing";
pub(super) const WSMAN: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd";
pub(super) const ENUMERATION: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";
pub(super) const IDENTITY: &str = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd";
pub(super) const COMMON: &str = "http://schemas.dmtf.org/wbem/wscim/1/common";
pub(super) const ANONYMOUS: &str =
    "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous";

/// Declared on every envelope in this order, as `a` to `f`, whether used or not.
const ALWAYS: [&str; 6] = [
    SOAP,
    ADDRESSING,
    WSMAN,
    "http://schemas.xmlsoap.org/ws/2005/02/trust",
    "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd",
    "http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd",
];

/// Prefixes of one envelope.
#[derive(Debug)]
pub(super) struct Names {
    uris: Vec<String>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            uris: ALWAYS.iter().map(|uri| (*uri).into()).collect(),
        }
    }

    /// The prefix of a namespace: `a` to `z`, then `n26` and so on.
    fn prefix(&mut self, uri: &str) -> String {
        let index = self
            .uris
            .iter()
            .position(|known| known == uri)
            .unwrap_or_else(|| {
                self.uris.push(uri.into());
                self.uris.len() - 1
            });
        prefix_of(index)
    }

    pub(super) fn open(&mut self, out: &mut String, uri: &str, name: &str) {
        self.open_with(out, uri, name, |_| {});
    }

    /// Opens an element with attributes that `attributes` writes.
    pub(super) fn open_with(
        &mut self,
        out: &mut String,
        uri: &str,
        name: &str,
        attributes: impl FnOnce(&mut String),
    ) {
        out.push('<');
        out.push_str(&self.prefix(uri));
        out.push(':');
        out.push_str(name);
        attributes(out);
        out.push('>');
    }

    pub(super) fn close(&mut self, out: &mut String, uri: &str, name: &str) {
        out.push_str("</");
        out.push_str(&self.prefix(uri));
        out.push(':');
        out.push_str(name);
        out.push('>');
    }

    /// An element with text only.
    pub(super) fn leaf(&mut self, out: &mut String, uri: &str, name: &str, text: &str) {
        self.open(out, uri, name);
        super::value::escape(out, text);
        self.close(out, uri, name);
    }
}

fn prefix_of(index: usize) -> String {
    u8::try_from(index)
        .ok()
        .filter(|index| *index < 26)
        .map_or_else(
            || format!("n{index}"),
            |index| char::from(b'a' + index).to_string(),
        )
}

/// What all replies have in their headers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Headers<'a> {
    pub(super) relates_to: &'a str,
    pub(super) action: &'a str,
    pub(super) resource: Option<&'a str>,
    /// Number of this reply.
    pub(super) number: u64,
}

/// A whole envelope around `body`, which was written with `names`.
pub(super) fn envelope(mut names: Names, headers: Headers<'_>, body: &str) -> String {
    let mut inside = String::new();
    names.open(&mut inside, SOAP, "Header");
    names.leaf(&mut inside, ADDRESSING, "To", ANONYMOUS);
    names.leaf(&mut inside, ADDRESSING, "RelatesTo", headers.relates_to);
    names.open_with(&mut inside, ADDRESSING, "Action", |out| {
        out.push_str(" a:mustUnderstand=\"true\"")
    });
    super::value::escape(&mut inside, headers.action);
    names.close(&mut inside, ADDRESSING, "Action");
    let id = format!(
        "uuid:00000000-8086-8086-8086-{:012X}",
        headers.number & 0xffff_ffff_ffff
    );
    names.leaf(&mut inside, ADDRESSING, "MessageID", &id);
    if let Some(resource) = headers.resource {
        names.leaf(&mut inside, WSMAN, "ResourceURI", resource);
    }
    names.close(&mut inside, SOAP, "Header");
    names.open(&mut inside, SOAP, "Body");
    inside.push_str(body);
    names.close(&mut inside, SOAP, "Body");

    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?><a:Envelope");
    for (index, uri) in names.uris.iter().enumerate() {
        out.push_str(" xmlns:");
        out.push_str(&prefix_of(index));
        out.push_str("=\"");
        super::value::escape(&mut out, uri);
        out.push('"');
    }
    out.push_str(" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">");
    out.push_str(&inside);
    out.push_str("</a:Envelope>");
    out
}

/// A whole envelope with a fault. Its subcode is a qualified name in text, so its prefix has to be declared.
pub(super) fn fault_envelope(relates_to: &str, number: u64, fault: &Fault) -> String {
    let mut names = Names::new();
    let mut body = String::new();
    let (namespace, subcode) = fault.subcode();
    let prefix = names.prefix(namespace);
    names.open(&mut body, SOAP, "Fault");
    names.open(&mut body, SOAP, "Code");
    names.leaf(
        &mut body,
        SOAP,
        "Value",
        if fault.ours() {
            "a:Receiver"
        } else {
            "a:Sender"
        },
    );
    names.open(&mut body, SOAP, "Subcode");
    names.leaf(&mut body, SOAP, "Value", &format!("{prefix}:{subcode}"));
    names.close(&mut body, SOAP, "Subcode");
    names.close(&mut body, SOAP, "Code");
    names.open(&mut body, SOAP, "Reason");
    names.open_with(&mut body, SOAP, "Text", |out| {
        out.push_str(" xml:lang=\"en-US\"")
    });
    super::value::escape(&mut body, &fault.to_string());
    names.close(&mut body, SOAP, "Text");
    names.close(&mut body, SOAP, "Reason");
    names.open(&mut body, SOAP, "Detail");
    if let Some(detail) = fault.detail() {
        names.leaf(&mut body, WSMAN, "FaultDetail", detail);
    }
    names.close(&mut body, SOAP, "Detail");
    names.close(&mut body, SOAP, "Fault");
    envelope(
        names,
        Headers {
            relates_to,
            action: fault.action(),
            resource: None,
            number,
        },
        &body,
    )
}
