//! A device that follows a script: each request has to be the next one expected, and gets the answer written beside it.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file uses a part of it"
)]

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use amt_wsman::{Device, Request, Step, Transport, TransportError};

pub(crate) struct Script {
    lines: VecDeque<(&'static str, Result<String, TransportError>)>,
    /// Bodies as they were sent.
    pub(crate) sent: Vec<String>,
    pub(crate) pauses: Vec<Duration>,
    server: Option<&'static str>,
}

/// A device that answers these requests, in this order.
pub(crate) fn device<const N: usize>(
    lines: [(&'static str, Result<String, TransportError>); N],
) -> Device<Script> {
    device_of("Intel(R) Active Management Technology 12.0.67.1579", lines)
}

pub(crate) fn device_of<const N: usize>(
    server: &'static str,
    lines: [(&'static str, Result<String, TransportError>); N],
) -> Device<Script> {
    Device::new(Script {
        lines: lines.into(),
        sent: Vec::new(),
        pauses: Vec::new(),
        server: Some(server),
    })
}

impl Script {
    /// Fails when the script has lines that nobody asked for.
    pub(crate) fn is_over(&self) {
        let left: Vec<_> = self.lines.iter().map(|(label, _)| *label).collect();
        assert!(left.is_empty(), "not asked for: {left:?}");
    }
}

impl Transport for Script {
    async fn post(&mut self, request: &Request) -> Result<String, TransportError> {
        let label = label(&request.body);
        self.sent.push(request.body.clone());
        let Some((expected, answer)) = self.lines.pop_front() else {
            panic!("{label:?} is after the end of the script")
        };
        assert_eq!(label, expected, "request {}", self.sent.len());
        answer
    }

    async fn pause(&mut self, how_long: Duration) {
        self.pauses.push(how_long);
    }

    fn server(&self) -> Option<&str> {
        self.server
    }
}

/// "Get AMT_X", "Put AMT_X", "Enumerate CIM_X", "Pull CIM_X", "CIM_X.Method".
fn label(body: &str) -> String {
    let document = roxmltree::Document::parse(body).unwrap();
    let text = |name: &str| {
        document
            .descendants()
            .find(|node| node.tag_name().name() == name)
            .and_then(|node| node.text())
            .unwrap_or_default()
            .to_owned()
    };
    let (action, resource) = (text("Action"), text("ResourceURI"));
    let last = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
    let class = last(&resource);
    if action.starts_with(&resource) && !resource.is_empty() {
        format!("{class}.{}", last(&action))
    } else {
        format!("{} {class}", last(&action))
    }
}

/// An answer in AMT's form: prefixes in its order, no white space.
pub(crate) fn answer(body: &str) -> Result<String, TransportError> {
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><a:Envelope xmlns:a=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:b=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:c=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\"><a:Header><b:RelatesTo>1</b:RelatesTo></a:Header>\
         <a:Body>{body}</a:Body></a:Envelope>"
    ))
}

pub(crate) fn element(class: &str, properties: &[(&str, &str)]) -> String {
    let uri = amt_wsman::names::Class::new(Box::leak(class.to_owned().into_boxed_str())).uri();
    let properties: String = properties
        .iter()
        .map(|(name, value)| format!("<g:{name}>{value}</g:{name}>"))
        .collect();
    format!("<g:{class} xmlns:g=\"{uri}\">{properties}</g:{class}>")
}

pub(crate) fn instance(class: &str, properties: &[(&str, &str)]) -> Result<String, TransportError> {
    answer(&element(class, properties))
}

/// What a method returned.
pub(crate) fn returned(value: u32) -> Result<String, TransportError> {
    answer(&format!(
        "<g:Any_OUTPUT xmlns:g=\"x\"><g:ReturnValue>{value}</g:ReturnValue></g:Any_OUTPUT>"
    ))
}

pub(crate) fn fault(code: &str) -> Result<String, TransportError> {
    answer(&format!(
        "<a:Fault><a:Code><a:Value>a:Sender</a:Value><a:Subcode><a:Value>b:{code}</a:Value></a:Subcode></a:Code>\
         <a:Reason><a:Text xml:lang=\"en-US\">No.</a:Text></a:Reason><a:Detail></a:Detail></a:Fault>"
    ))
}

pub(crate) fn lost() -> Result<String, TransportError> {
    Err(TransportError::Lost {
        peer: "pc:16992".into(),
        why: "reset".into(),
    })
}

/// A page of a listing.
pub(crate) fn page(
    items: &str,
    context: Option<&str>,
    end: bool,
) -> Result<String, TransportError> {
    let context = context.map_or_else(String::new, |context| {
        format!("<g:EnumerationContext>{context}</g:EnumerationContext>")
    });
    let end = if end {
        "<g:EndOfSequence></g:EndOfSequence>"
    } else {
        ""
    };
    answer(&format!(
        "<g:PullResponse xmlns:g=\"http://schemas.xmlsoap.org/ws/2004/09/enumeration\">{context}\
         <g:Items>{items}</g:Items>{end}</g:PullResponse>"
    ))
}

pub(crate) fn begun(context: &str) -> Result<String, TransportError> {
    answer(&format!(
        "<g:EnumerateResponse xmlns:g=\"http://schemas.xmlsoap.org/ws/2004/09/enumeration\">\
         <g:EnumerationContext>{context}</g:EnumerationContext></g:EnumerateResponse>"
    ))
}

/// Runs what never really waits.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the script does not wait"),
    }
}

/// Nobody watches.
pub(crate) fn silent() -> impl FnMut(Step) + Send {
    |_| {}
}
