//! From a request's envelope to the reply's: which operation, on which instance, by whom (DSP0226 sections 6 to 9).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::classes::{self, Class};
use super::enumeration::Enumerations;
use super::fault::Fault;
use super::knobs::Knobs;
use super::methods::{self, Call};
use super::reply::{self, ENUMERATION, Headers, IDENTITY, Names, WSMAN};
use super::repository::{DataError, Instance, Repository};
use super::request::{Elements, Request, document};
use super::value::Properties;
use crate::firmware::{Account, Firmware, Shared};

const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer/";
const EVENTING: &str = "http://schemas.xmlsoap.org/ws/2004/08/eventing/";

/// An answer to an authenticated request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// HTTP status.
    pub(super) status: u16,
    pub(super) envelope: String,
    /// RequestPowerStateChange has been done: the network may go away now.
    pub(super) power_changed: bool,
}

/// The WS-MAN service of one virtual PC, without its HTTP.
#[derive(Debug)]
pub struct Service {
    pub(super) firmware: Shared,
    knobs: Mutex<Knobs>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    repository: Repository,
    enumerations: Enumerations,
    next_message: u64,
}

/// A body with the prefixes that it uses.
pub(super) struct Body {
    pub(super) names: Names,
    pub(super) text: String,
}

impl Service {
    /// The service of `firmware`. `overrides`: for each class a table of properties, or an array of tables in the
    /// order of its instances.
    ///
    /// # Errors
    /// Overrides of classes that do not exist, or that are not properties.
    pub fn new(firmware: Shared, overrides: &toml::Table, knobs: Knobs) -> Result<Self, DataError> {
        let repository = Repository::new(overrides)?;
        let state = State {
            repository,
            enumerations: Enumerations::new(),
            next_message: 1,
        };
        Ok(Self {
            firmware,
            knobs: Mutex::new(knobs),
            state: Mutex::new(state),
        })
    }

    /// The knobs as they are.
    pub fn knobs(&self) -> Knobs {
        self.knobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Turns knobs; connections that are open notice.
    pub fn change_knobs(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut self.knobs.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Answers an envelope from `account`.
    pub(super) fn answer(&self, now: Instant, account: &Account, body: &[u8]) -> Answer {
        self.answer_with(body, |request, state| {
            self.operation(now, account, request, state)
        })
    }

    /// Answers any envelope with a fault.
    pub(super) fn refuse(&self, body: &[u8], fault: Fault) -> Answer {
        self.answer_with(body, |_, _| Err(fault))
    }

    fn answer_with(
        &self,
        body: &[u8],
        operation: impl FnOnce(&Request<'_, '_>, &mut State) -> Result<(Body, bool), Fault>,
    ) -> Answer {
        let mut state = self.state();
        let number = state.next_message;
        state.next_message = number.wrapping_add(1);
        let fault = |relates_to: &str, fault: Fault| {
            self.firmware
                .quietly(|firmware| firmware.counters_mut().faults += 1);
            Answer {
                status: 400,
                envelope: reply::fault_envelope(relates_to, number, &fault),
                power_changed: false,
            }
        };
        let Ok(text) = str::from_utf8(body) else {
            return fault("0", Fault::SchemaValidation);
        };
        let document = match document(text) {
            Ok(document) => document,
            Err(refused) => return fault("0", refused),
        };
        let request = match Request::of(&document) {
            Ok(request) => request,
            Err(refused) => return fault("0", refused),
        };
        match operation(&request, &mut state) {
            Err(refused) => fault(request.message_id, refused),
            Ok((body, power_changed)) => {
                let action = format!("{}Response", request.action.unwrap_or_default());
                let headers = Headers {
                    relates_to: request.message_id,
                    action: &action,
                    resource: request.resource.filter(|_| request.action.is_some()),
                    number,
                };
                Answer {
                    status: 200,
                    envelope: reply::envelope(body.names, headers, &body.text),
                    power_changed,
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn operation(
        &self,
        now: Instant,
        account: &Account,
        request: &Request<'_, '_>,
        state: &mut State,
    ) -> Result<(Body, bool), Fault> {
        if let Some(fault) = request.refused {
            return Err(fault);
        }
        if request
            .body
            .is_some_and(|body| body.has_tag_name((IDENTITY, "Identify")))
        {
            return Ok((self.identify(), false));
        }
        let action = request.action.ok_or(Fault::ActionNotSupported)?;
        let resource = request.resource.ok_or(Fault::DestinationUnreachable)?;
        let name = classes::name_in(resource).ok_or(Fault::DestinationUnreachable)?;
        let operation = Operation::of(action, resource).ok_or(Fault::ActionNotSupported);
        let class = classes::find(name);
        // Enumerations may name a base class that has no instances of its own.
        if class.is_none() && classes::kinds_of(name).is_empty() {
            self.firmware.quietly(|firmware| firmware.count_call(None));
            return Err(Fault::DestinationUnreachable);
        }
        let operation = operation?;
        self.firmware
            .quietly(|firmware| firmware.count_call(counted(class, operation)));
        let knobs = self.knobs();
        if self
            .firmware
            .quietly(|firmware| firmware.poll_timeout().is_some_and(|due| due <= now))
        {
            self.firmware.with(|firmware| firmware.handle_timeout(now));
        }
        let work = |firmware: &mut Firmware| match operation {
            Operation::Enumerate => state
                .enumerations
                .enumerate(&state.repository, firmware, account, request, name)
                .map(|body| (body, false)),
            Operation::Pull => state
                .enumerations
                .pull(request, &knobs)
                .map(|body| (body, false)),
            Operation::Release => state
                .enumerations
                .release(request)
                .map(|body| (body, false)),
            Operation::Unsupported => Err(Fault::UnsupportedFeature),
            Operation::Get | Operation::Put | Operation::Invoke(_) => {
                let class = class.ok_or(Fault::DestinationUnreachable)?;
                permitted(account, class)?;
                state.on_instance(firmware, now, class, operation, request)
            }
        };
        // Reading changes nothing that others wait for.
        match operation {
            Operation::Put | Operation::Invoke(_) => self.firmware.with(work),
            _ => self.firmware.quietly(work),
        }
    }

    fn identify(&self) -> Body {
        let [major, minor, ..] = self.firmware.quietly(|firmware| firmware.profile().version);
        let mut names = Names::new();
        let mut text = String::new();
        names.open(&mut text, IDENTITY, "IdentifyResponse");
        names.leaf(&mut text, IDENTITY, "ProtocolVersion", WSMAN);
        names.leaf(&mut text, IDENTITY, "ProductVendor", "Intel(r)");
        names.leaf(
            &mut text,
            IDENTITY,
            "ProductVersion",
            &format!("AMT {major}.{minor}"),
        );
        names.open(&mut text, IDENTITY, "SecurityProfiles");
        let profile = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/http/digest";
        names.leaf(&mut text, IDENTITY, "SecurityProfileName", profile);
        names.close(&mut text, IDENTITY, "SecurityProfiles");
        names.close(&mut text, IDENTITY, "IdentifyResponse");
        Body { names, text }
    }
}

/// What an action asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation<'a> {
    Get,
    Put,
    Enumerate,
    Pull,
    Release,
    /// Exists in the standard, not here.
    Unsupported,
    Invoke(&'a str),
}

impl<'a> Operation<'a> {
    fn of(action: &'a str, resource: &str) -> Option<Self> {
        if let Some(verb) = action.strip_prefix(TRANSFER) {
            return match verb {
                "Get" => Some(Self::Get),
                "Put" => Some(Self::Put),
                "Create" | "Delete" => Some(Self::Unsupported),
                _ => None,
            };
        }
        if let Some(verb) = action
            .strip_prefix(ENUMERATION)
            .and_then(|rest| rest.strip_prefix('/'))
        {
            return match verb {
                "Enumerate" => Some(Self::Enumerate),
                "Pull" => Some(Self::Pull),
                "Release" => Some(Self::Release),
                _ => None,
            };
        }
        if action.starts_with(EVENTING) {
            return Some(Self::Unsupported);
        }
        action
            .strip_prefix(resource)?
            .strip_prefix('/')
            .map(Self::Invoke)
    }
}

/// What the counters call it: names from the tables only.
fn counted(
    class: Option<&'static Class>,
    operation: Operation<'_>,
) -> Option<(&'static str, &'static str)> {
    let class = class?;
    let method = match operation {
        Operation::Get => "Get",
        Operation::Put => "Put",
        Operation::Enumerate => "Enumerate",
        Operation::Pull => "Pull",
        Operation::Release => "Release",
        Operation::Unsupported => return None,
        Operation::Invoke(method) => class.methods.iter().find(|known| **known == method)?,
    };
    Some((class.name, method))
}

pub(super) fn permitted(account: &Account, class: &Class) -> Result<(), Fault> {
    let any = class
        .realms
        .iter()
        .any(|realm| account.realms.permit(*realm));
    if any {
        Ok(())
    } else {
        Err(Fault::AccessDenied)
    }
}

impl State {
    /// Get, Put and methods: everything that has one instance.
    fn on_instance(
        &mut self,
        firmware: &mut Firmware,
        now: Instant,
        class: &'static Class,
        operation: Operation<'_>,
        request: &Request<'_, '_>,
    ) -> Result<(Body, bool), Fault> {
        if let Operation::Invoke(method) = operation
            && !class.methods.contains(&method)
        {
            return Err(Fault::ActionNotSupported);
        }
        let instance = self.select(firmware, class, &request.selectors)?;
        let uri = classes::uri(class.name);
        match operation {
            Operation::Invoke(method) => {
                let input = request.body.ok_or(Fault::SchemaValidation)?;
                if !input.has_tag_name((uri.as_str(), format!("{method}_INPUT").as_str())) {
                    return Err(Fault::SchemaValidation);
                }
                let call = Call {
                    instance: &instance,
                    method,
                    input: Elements::of(input, &uri),
                    now,
                };
                let output = methods::invoke(firmware, &mut self.repository, &call)?;
                Ok((
                    object(&uri, &format!("{method}_OUTPUT"), &output),
                    method == "RequestPowerStateChange",
                ))
            }
            Operation::Put => {
                let sent = request
                    .body
                    .filter(|body| body.has_tag_name((uri.as_str(), class.name)));
                let sent = Elements::of(sent.ok_or(Fault::InvalidRepresentation)?, &uri);
                super::put::put(firmware, &mut self.repository, now, &instance, sent)?;
                let instance = self.select(firmware, class, &request.selectors)?;
                Ok((object(&uri, class.name, &instance.properties), false))
            }
            _ => Ok((object(&uri, class.name, &instance.properties), false)),
        }
    }

    /// The one instance that the selectors mean; none are needed where there is one, or a first one.
    fn select(
        &self,
        firmware: &Firmware,
        class: &'static Class,
        selectors: &[(String, String)],
    ) -> Result<Instance, Fault> {
        if selectors
            .iter()
            .any(|(key, _)| !class.keys.contains(&key.as_str()))
        {
            return Err(Fault::InvalidSelectors);
        }
        let mut found = self.repository.instances(class, firmware);
        found.retain(|instance| instance.matches(selectors));
        if found.len() > 1 && !(class.first && selectors.is_empty()) {
            return Err(Fault::InvalidSelectors);
        }
        found
            .into_iter()
            .next()
            .ok_or(Fault::DestinationUnreachable)
    }
}

pub(super) fn write_object(
    names: &mut Names,
    out: &mut String,
    uri: &str,
    name: &str,
    properties: &Properties,
) {
    names.open(out, uri, name);
    for (property, value) in properties {
        value.write(names, out, uri, property);
    }
    names.close(out, uri, name);
}

fn object(uri: &str, name: &str, properties: &Properties) -> Body {
    let mut names = Names::new();
    let mut text = String::new();
    write_object(&mut names, &mut text, uri, name, properties);
    Body { names, text }
}
