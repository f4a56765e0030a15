//! The WS-MAN port from outside: envelopes in and out, bytes in and out, and curl.

mod connection;
mod curl;
mod faults;
mod operations;
mod paging;
mod robustness;
mod sequences;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::service::Answer;
use super::{Knobs, Server, Service};
use crate::firmware::{
    Account, Action, Config, ConsentPolicy, ControlMode, DEFAULT_PROFILE, Epoch, Firmware,
    PowerState, Profile, Realms, Shared, hex,
};

const PASSWORD: &str = "P@ssw0rd";

/// A service, and an account that calls it.
struct Bench {
    service: Arc<Service>,
    firmware: Shared,
    account: Account,
    now: Instant,
    /// Number of the next request.
    message: u32,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(Profile::named(DEFAULT_PROFILE).unwrap(), PASSWORD);
        config.power = PowerState::On;
        change(&mut config);
        let now = Instant::now();
        let firmware = Shared::new(Firmware::new(
            config,
            7,
            Epoch {
                instant: now,
                unix: 1_643_623_200,
            },
        ));
        let service =
            Service::new(firmware.clone(), &toml::Table::new(), Knobs::default()).unwrap();
        let account = Account {
            user: "admin".into(),
            realms: Realms::ADMINISTRATOR,
        };
        Self {
            service: Arc::new(service),
            firmware,
            account,
            now,
            message: 1,
        }
    }

    fn knobs(&self, change: impl FnOnce(&mut Knobs)) {
        self.service.change_knobs(change);
    }

    fn server(&self) -> Arc<Server> {
        Arc::new(Server::new(self.service.clone()))
    }

    /// A request with this action's end, resource, selector set and body.
    fn send(&mut self, action: &str, resource: &str, selectors: &str, body: &str) -> Answer {
        let text = envelope(self.message, action, resource, selectors, body);
        self.message += 1;
        self.service
            .answer(self.now, &self.account, text.as_bytes())
    }

    fn get(&mut self, class: &str) -> Answer {
        self.send(GET, &uri(class), "", "")
    }

    fn put(&mut self, class: &str, object: &str) -> Answer {
        let body = format!("<p:{class} xmlns:p=\"{}\">{object}</p:{class}>", uri(class));
        self.send(PUT, &uri(class), "", &body)
    }

    fn invoke(&mut self, class: &str, method: &str, parameters: &str) -> Answer {
        let uri = uri(class);
        let body = format!("<{method}_INPUT xmlns=\"{uri}\">{parameters}</{method}_INPUT>");
        self.send(&format!("{uri}/{method}"), &uri, "", &body)
    }

    /// Invokes, and takes the return value out.
    fn returns(&mut self, class: &str, method: &str, parameters: &str) -> String {
        let answer = self.invoke(class, method, parameters);
        assert_eq!(answer.status, 200, "{}", answer.envelope);
        value(&answer, "ReturnValue")
    }

    /// Consent by the whole dialogue.
    fn consent(&mut self) {
        assert_eq!(self.returns("IPS_OptInService", "StartOptIn", ""), "0");
        self.now += Duration::from_secs(2);
        self.firmware
            .with(|firmware| firmware.handle_timeout(self.now));
        let code = self
            .firmware
            .quietly(|firmware| firmware.displayed_consent_code())
            .unwrap();
        let code = format!("<OptInCode>{code}</OptInCode>");
        assert_eq!(
            self.returns("IPS_OptInService", "SendOptInCode", &code),
            "0"
        );
    }

    fn actions(&self) -> Vec<Action> {
        self.firmware
            .quietly(|firmware| std::iter::from_fn(|| firmware.poll_action()).collect())
    }
}

const GET: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Get";
const PUT: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Put";
const ENUMERATE: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration/Enumerate";
const PULL: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration/Pull";

/// Written out, so that the table's own spelling is checked.
fn uri(class: &str) -> String {
    let schema = match class.get(..4) {
        Some("AMT_") => "http://intel.com/wbem/wscim/1/amt-schema/1/",
        Some("IPS_") => "http://intel.com/wbem/wscim/1/ips-schema/1/",
        _ => "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/",
    };
    format!("{schema}{class}")
}

/// A request as consoles write it.
fn envelope(message: u32, action: &str, resource: &str, selectors: &str, body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <Envelope xmlns=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\">\
         <Header><a:Action>{action}</a:Action><a:To>/wsman</a:To><w:ResourceURI>{resource}</w:ResourceURI>\
         <a:MessageID>{message}</a:MessageID>\
         <a:ReplyTo><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>\
         <w:OperationTimeout>PT60S</w:OperationTimeout>{selectors}</Header><Body>{body}</Body></Envelope>"
    )
}

/// The texts of all elements with that local name.
fn values(answer: &Answer, name: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(&answer.envelope).expect("replies are well-formed");
    let named = document
        .descendants()
        .filter(|node| node.is_element() && node.tag_name().name() == name);
    named
        .map(|node| node.text().unwrap_or_default().to_owned())
        .collect()
}

/// The text of the one element with that local name.
fn value(answer: &Answer, name: &str) -> String {
    match values(answer, name).as_slice() {
        [one] => one.clone(),
        other => panic!("one {name} expected, not {other:?}: {}", answer.envelope),
    }
}

/// The local name of a fault's subcode.
fn subcode(answer: &Answer) -> String {
    assert_eq!(answer.status, 400, "{}", answer.envelope);
    let codes = values(answer, "Value");
    let (_, name) = codes.last().unwrap().split_once(':').unwrap();
    name.to_owned()
}
