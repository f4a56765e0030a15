//! Request envelopes: the XML of each operation (DSP0226 1.0.0; WS-Transfer and WS-Enumeration of September 2004).
//!
//! AMT is particular about few things here, but what is written is what known consoles write: no whitespace between
//! elements, prefixes `a` and `w`, method parameters under prefix `h`.

use crate::escape::push_escaped;
use crate::names::{ADDRESSING, Class, ENUMERATION, IDENTITY, SOAP, TRANSFER, WSMAN};

/// One message to send, and whether it may be sent again when its answer is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The envelope, UTF-8 XML. The byte length is the request's `Content-Length`.
    pub body: String,
    /// What a lost answer means.
    pub repeat: Repeat,
}

/// Whether sending a request twice does the same as sending it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Reading, or setting a thing to a value: a lost answer is asked for again.
    Safe,
    /// Resetting a PC, or taking the next page: after a lost answer the state is unknown and has to be looked at.
    Never,
}

/// A key of an instance: name and value.
pub type Selector<'a> = (&'a str, &'a str);

/// An endpoint reference: names one instance in a parameter of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'a> {
    /// The class of the instance.
    pub class: Class,
    /// Its keys.
    pub selectors: &'a [Selector<'a>],
}

/// A value of a method's parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Text as it is to arrive; escaping is done here.
    Text(&'a str),
    /// A number.
    Number(u64),
    /// An instance.
    Reference(Reference<'a>),
}

/// Addresses an instance: selectors may be left out where a class has a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The class.
    pub class: Class,
    /// The keys; none, or all of them.
    pub selectors: &'a [Selector<'a>],
}

impl From<Class> for Target<'_> {
    fn from(class: Class) -> Self {
        Self {
            class,
            selectors: &[],
        }
    }
}

/// Reads an instance.
#[must_use]
pub fn get(id: u64, target: Target<'_>) -> Request {
    let action = format!("{TRANSFER}/Get");
    safe(envelope(id, &action, target, None))
}

/// Replaces an instance. `properties` are written in their order; AMT gives them out alphabetically.
#[must_use]
pub fn put<'a>(
    id: u64,
    target: Target<'_>,
    properties: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Request {
    let mut body = String::new();
    let name = target.class.name();
    body.push_str(&format!("<h:{name} xmlns:h=\"{}\">", target.class.uri()));
    for (name, value) in properties {
        push_parameter(&mut body, name, Value::Text(value));
    }
    body.push_str(&format!("</h:{name}>"));
    safe(envelope(
        id,
        &format!("{TRANSFER}/Put"),
        target,
        Some(&body),
    ))
}

/// Removes an instance.
#[must_use]
pub fn delete(id: u64, target: Target<'_>) -> Request {
    never(envelope(id, &format!("{TRANSFER}/Delete"), target, None))
}

/// Begins a listing of the instances of a class and of its subclasses.
#[must_use]
pub fn enumerate(id: u64, class: Class) -> Request {
    let body = format!("<n:Enumerate xmlns:n=\"{ENUMERATION}\"/>");
    let action = format!("{ENUMERATION}/Enumerate");
    safe(envelope(id, &action, class.into(), Some(&body)))
}

/// Takes the next page of a listing.
#[must_use]
pub fn pull(id: u64, class: Class, context: &str) -> Request {
    let mut body = format!("<n:Pull xmlns:n=\"{ENUMERATION}\"><n:EnumerationContext>");
    push_escaped(&mut body, context);
    body.push_str(
        "</n:EnumerationContext><n:MaxElements>999</n:MaxElements>\
         <n:MaxCharacters>99999</n:MaxCharacters></n:Pull>",
    );
    let action = format!("{ENUMERATION}/Pull");
    never(envelope(id, &action, class.into(), Some(&body)))
}

/// Calls a method.
#[must_use]
pub fn invoke(
    id: u64,
    target: Target<'_>,
    method: &str,
    parameters: &[(&str, Value<'_>)],
    repeat: Repeat,
) -> Request {
    let uri = target.class.uri();
    let mut body = format!("<h:{method}_INPUT xmlns:h=\"{uri}\"");
    if parameters.is_empty() {
        body.push_str("/>");
    } else {
        body.push('>');
        for &(name, value) in parameters {
            push_parameter(&mut body, name, value);
        }
        body.push_str(&format!("</h:{method}_INPUT>"));
    }
    Request {
        body: envelope(id, &format!("{uri}/{method}"), target, Some(&body)),
        repeat,
    }
}

/// Asks what speaks WS-Management here (DSP0226, 11). Its header is empty.
#[must_use]
pub fn identify() -> Request {
    safe(format!(
        "{PROLOGUE}<Header/><Body><wsmid:Identify xmlns:wsmid=\"{IDENTITY}\"/></Body></Envelope>"
    ))
}

const PROLOGUE: &str = concat!(
    r#"<?xml version="1.0" encoding="utf-8"?>"#,
    r#"<Envelope xmlns="http://www.w3.org/2003/05/soap-envelope""#,
    r#" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing""#,
    r#" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd">"#,
);

fn safe(body: String) -> Request {
    Request {
        body,
        repeat: Repeat::Safe,
    }
}

fn never(body: String) -> Request {
    Request {
        body,
        repeat: Repeat::Never,
    }
}

fn envelope(id: u64, action: &str, target: Target<'_>, body: Option<&str>) -> String {
    debug_assert!(PROLOGUE.contains(SOAP) && PROLOGUE.contains(WSMAN));
    let mut out = String::from(PROLOGUE);
    out.push_str("<Header><a:Action>");
    out.push_str(action);
    out.push_str("</a:Action><a:To>/wsman</a:To><w:ResourceURI>");
    out.push_str(&target.class.uri());
    out.push_str(&format!(
        "</w:ResourceURI><a:MessageID>{id}</a:MessageID><a:ReplyTo><a:Address>{ADDRESSING}/role/anonymous\
         </a:Address></a:ReplyTo><w:OperationTimeout>PT60S</w:OperationTimeout>"
    ));
    if !target.selectors.is_empty() {
        push_selectors(&mut out, target.selectors, "");
    }
    out.push_str("</Header>");
    match body {
        Some(body) => {
            out.push_str("<Body>");
            out.push_str(body);
            out.push_str("</Body>");
        }
        None => out.push_str("<Body />"),
    }
    out.push_str("</Envelope>");
    out
}

fn push_selectors(out: &mut String, selectors: &[Selector<'_>], declaration: &str) {
    out.push_str(&format!("<w:SelectorSet{declaration}>"));
    for (name, value) in selectors {
        out.push_str("<w:Selector Name=\"");
        push_escaped(out, name);
        out.push_str("\">");
        push_escaped(out, value);
        out.push_str("</w:Selector>");
    }
    out.push_str("</w:SelectorSet>");
}

fn push_parameter(out: &mut String, name: &str, value: Value<'_>) {
    out.push_str(&format!("<h:{name}>"));
    match value {
        Value::Text(text) => push_escaped(out, text),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::Reference(reference) => push_reference(out, reference),
    }
    out.push_str(&format!("</h:{name}>"));
}

/// The namespaces are declared again where they are used: this is the form that has been seen to work.
fn push_reference(out: &mut String, reference: Reference<'_>) {
    let declaration = format!(" xmlns:w=\"{WSMAN}\"");
    out.push_str(&format!(
        "<a:Address xmlns:a=\"{ADDRESSING}\">{ADDRESSING}</a:Address>\
         <a:ReferenceParameters xmlns:a=\"{ADDRESSING}\"><w:ResourceURI{declaration}>{}</w:ResourceURI>",
        reference.class.uri()
    ));
    push_selectors(out, reference.selectors, &declaration);
    out.push_str("</a:ReferenceParameters>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class;

    /// The reference request whose MD5 the digest tests use as well.
    pub(crate) const GET_GENERAL_SETTINGS: &str =
        include_str!("../testdata/get-general-settings.xml");

    #[test]
    fn get_is_the_reference_request_byte_for_byte() {
        let request = get(1, class::GENERAL_SETTINGS.into());
        assert_eq!(request.body, GET_GENERAL_SETTINGS);
        assert_eq!(request.body.len(), 614);
        assert_eq!(request.repeat, Repeat::Safe);
    }

    #[test]
    fn an_empty_boot_order_has_no_parameters() {
        let request = invoke(
            2,
            class::BOOT_CONFIG_SETTING.into(),
            "ChangeBootOrder",
            &[],
            Repeat::Safe,
        );
        assert!(request.body.contains(
            "<a:Action>http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_BootConfigSetting/ChangeBootOrder</a:Action>"
        ));
        assert!(request.body.ends_with(
            "<Body><h:ChangeBootOrder_INPUT xmlns:h=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/\
             CIM_BootConfigSetting\"/></Body></Envelope>"
        ));
    }

    #[test]
    fn methods_name_instances_by_endpoint_reference() {
        let role = invoke(
            3,
            class::BOOT_SERVICE.into(),
            "SetBootConfigRole",
            &[
                (
                    "BootConfigSetting",
                    Value::Reference(class::BOOT_CONFIGURATION),
                ),
                ("Role", Value::Number(1)),
            ],
            Repeat::Safe,
        );
        assert!(
            role.body
                .contains(include_str!("../testdata/set-boot-config-role.xml").trim_end())
        );
        let reset = invoke(
            4,
            class::POWER_MANAGEMENT_SERVICE.into(),
            "RequestPowerStateChange",
            &[
                ("PowerState", Value::Number(10)),
                ("ManagedElement", Value::Reference(class::MANAGED_SYSTEM)),
            ],
            Repeat::Never,
        );
        assert!(
            reset
                .body
                .contains(include_str!("../testdata/request-power-state-change.xml").trim_end())
        );
        assert_eq!(reset.repeat, Repeat::Never);
    }

    #[test]
    fn selectors_go_into_the_header() {
        let target = Target {
            class: class::BOOT_SETTING_DATA,
            selectors: &[("InstanceID", "Intel(r) AMT:BootSettingData 0")],
        };
        let body = put(5, target, [("BIOSPause", "false"), ("ElementName", "a<b")]).body;
        assert!(body.contains(
            "</w:OperationTimeout><w:SelectorSet><w:Selector Name=\"InstanceID\">Intel(r) AMT:BootSettingData 0\
             </w:Selector></w:SelectorSet></Header><Body><h:AMT_BootSettingData "
        ));
        assert!(body.contains(
            "<h:BIOSPause>false</h:BIOSPause><h:ElementName>a&lt;b</h:ElementName></h:AMT_BootSettingData>"
        ));
    }

    #[test]
    fn pull_carries_the_context_it_was_given() {
        let body = pull(
            6,
            class::SOFTWARE_IDENTITY,
            "14000000-0000-0000-0000-000000000000",
        )
        .body;
        assert!(body.contains(
            "<n:Pull xmlns:n=\"http://schemas.xmlsoap.org/ws/2004/09/enumeration\"><n:EnumerationContext>\
             14000000-0000-0000-0000-000000000000</n:EnumerationContext><n:MaxElements>999</n:MaxElements>\
             <n:MaxCharacters>99999</n:MaxCharacters></n:Pull>"
        ));
    }

    #[test]
    fn every_request_is_well_formed() {
        let hostile = [("Name\"<", "<&'\">")];
        let target = Target {
            class: class::BOOT_SOURCE_SETTING,
            selectors: &hostile,
        };
        let reference = Value::Reference(Reference {
            class: class::BOOT_SOURCE_SETTING,
            selectors: &hostile,
        });
        for request in [
            get(u64::MAX, target),
            put(1, target, [("A", "<&\"'>\u{0}")]),
            delete(1, target),
            enumerate(1, class::SOFTWARE_IDENTITY),
            pull(1, class::SOFTWARE_IDENTITY, "</n:Pull>"),
            invoke(1, target, "Method", &[("Source", reference)], Repeat::Never),
            identify(),
        ] {
            roxmltree::Document::parse(&request.body).unwrap();
        }
    }
}
