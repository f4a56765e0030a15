//! A device: typed calls over a transport, one at a time.
//!
//! AMT serves few connections and wants one request at a time (more are answered with a `QuotaLimit` fault), hence
//! `&mut self` everywhere. Listings are followed to their end however they are paged.

use std::time::Duration;

use crate::class::Instance;
use crate::explain::{Blame, Explain};
use crate::fault::{Fault, FaultCode};
use crate::firmware::Version;
use crate::names::{Class, ENUMERATION, IDENTITY};
use crate::reply::{Element, Message, ReplyError, parse};
use crate::request::{self, Repeat, Request, Target, Value};
use crate::status::{AmtStatus, BootStatus, PowerStatus};
use crate::transport::{Transport, TransportError};

/// Pages of one listing; real ones have at most a few dozen.
const MAX_PAGES: usize = 512;
/// Instances of one listing.
const MAX_INSTANCES: usize = 4096;
/// How often a busy device is asked again, and how far apart.
const BUSY_RETRIES: usize = 3;
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// What was asked of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Reading an instance.
    Get(Class),
    /// Writing an instance.
    Put(Class),
    /// Removing an instance.
    Delete(Class),
    /// Listing instances.
    Enumerate(Class),
    /// Calling a method.
    Invoke(Class, &'static str),
    /// Asking what it is.
    Identify,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Get(class) => write!(f, "reading {class}"),
            Self::Put(class) => write!(f, "writing {class}"),
            Self::Delete(class) => write!(f, "removing an instance of {class}"),
            Self::Enumerate(class) => write!(f, "listing {class}"),
            Self::Invoke(class, method) => write!(f, "calling {class}.{method}"),
            Self::Identify => write!(f, "asking the device what it is"),
        }
    }
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}")]
pub struct Error {
    /// The call.
    pub call: Call,
    /// Why it failed.
    #[source]
    pub cause: Cause,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// No answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The device refused the request.
    #[error("{0}")]
    Fault(Fault),
    /// The answer makes no sense.
    #[error("the answer is malformed: {0}")]
    Reply(#[from] ReplyError),
    /// A method of an `AMT_` or `IPS_` class returned a failure.
    #[error("{0}")]
    Amt(AmtStatus),
    /// A method that chooses a boot source returned a failure.
    #[error("{0}")]
    Boot(BootStatus),
    /// A power request returned a failure.
    #[error("{0}")]
    Power(PowerStatus),
    /// A listing does not end.
    #[error("the listing does not end")]
    Endless,
}

impl Error {
    /// The fault's code, when the device refused.
    #[must_use]
    pub fn fault(&self) -> Option<&FaultCode> {
        match &self.cause {
            Cause::Fault(fault) => Some(&fault.code),
            _ => None,
        }
    }

    /// Whether the firmware simply does not have it.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(
            self.fault(),
            Some(FaultCode::DestinationUnreachable | FaultCode::ActionNotSupported)
        )
    }

    /// Whether a right or the user's consent is missing.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        match &self.cause {
            Cause::Fault(fault) => fault.code == FaultCode::AccessDenied,
            Cause::Amt(status) => matches!(
                status,
                AmtStatus::NotPermitted | AmtStatus::UserConsentRequired
            ),
            Cause::Boot(status) => *status == BootStatus::AccessDenied,
            _ => false,
        }
    }

    /// Whether the device itself could not be asked, so that further questions are in vain.
    #[must_use]
    pub fn is_transport(&self) -> bool {
        matches!(self.cause, Cause::Transport(_))
    }
}

impl Explain for Error {
    fn blame(&self) -> Blame {
        match &self.cause {
            Cause::Transport(error) => error.blame(),
            _ if self.is_denied() => Blame::Refused,
            Cause::Amt(AmtStatus::DisabledByPolicy) => Blame::Refused,
            _ => Blame::Failed,
        }
    }

    fn cure(&self) -> Option<&'static str> {
        match &self.cause {
            Cause::Transport(error) => error.cure(),
            _ if self.is_denied() => Some(
                "give the AMT user the realms Redirection, Remote Control, Hardware Asset, Event Manager and General Info, \
                 or use the admin user",
            ),
            Cause::Fault(fault) => match fault.code {
                FaultCode::DestinationUnreachable
                | FaultCode::ActionNotSupported
                | FaultCode::UnsupportedFeature => Some("this PC's AMT firmware is too old for it"),
                FaultCode::QuotaLimit | FaultCode::TimedOut => Some(
                    "another console may be talking to this PC; close it, or try again in a minute",
                ),
                FaultCode::InternalError => {
                    Some("try again; if it stays, the PC may need its mains pulled for a minute")
                }
                _ => None,
            },
            Cause::Amt(AmtStatus::DisabledByPolicy) => {
                Some("the PC's AMT policy has to be changed where it was provisioned")
            }
            Cause::Amt(AmtStatus::NotReady)
            | Cause::Boot(BootStatus::Busy)
            | Cause::Power(PowerStatus::Busy) => Some("try again in a minute"),
            Cause::Power(PowerStatus::InvalidTransition) => {
                Some("look at the PC's power state and choose an action that fits it")
            }
            Cause::Reply(_) | Cause::Endless => {
                Some("check that address and port are AMT's; if they are, its firmware is faulty")
            }
            _ => None,
        }
    }
}

/// What a method returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its out parameters.
    pub element: Element,
    /// Its return value; 0 is success.
    pub return_value: u32,
}

/// One device and the way to it.
#[derive(Debug)]
pub struct Device<T> {
    transport: T,
    next_id: u64,
}

impl<T: Transport> Device<T> {
    /// The device at the other end of a transport. Nothing is sent yet.
    pub fn new(transport: T) -> Self {
        Self {
            transport,
            next_id: 1,
        }
    }

    /// The transport.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// The firmware's version as its HTTP answers tell it; `None` before the first answer or when it does not tell.
    pub fn version(&self) -> Option<Version> {
        Version::of_server(self.transport.server()?)
    }

    /// Waits, for flows that poll.
    pub async fn pause(&mut self, how_long: Duration) {
        self.transport.pause(how_long).await;
    }

    /// Reads an instance.
    ///
    /// # Errors
    ///
    /// When there is no answer, a fault, or something else than an instance.
    pub async fn get(&mut self, target: Target<'_>) -> Result<Element, Error> {
        let request = request::get(self.id(), target);
        let call = Call::Get(target.class);
        self.one(call, &request).await
    }

    /// Reads the single instance of a class as its type.
    ///
    /// # Errors
    ///
    /// As [`Device::get`], and when a property that matters cannot be understood.
    pub async fn read<I: Instance>(&mut self) -> Result<I, Error> {
        let element = self.get(I::CLASS.into()).await?;
        I::of(&element).map_err(|error| Error {
            call: Call::Get(I::CLASS),
            cause: error.into(),
        })
    }

    /// Reads the single instance of a class; `None` when the firmware does not have it.
    ///
    /// # Errors
    ///
    /// As [`Device::read`], but for absence.
    pub async fn read_if_present<I: Instance>(&mut self) -> Result<Option<I>, Error> {
        match self.read().await {
            Ok(instance) => Ok(Some(instance)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces an instance; returns the resulting one as the device tells it, or nothing if it does not.
    ///
    /// # Errors
    ///
    /// When there is no answer, or a fault.
    pub async fn put<'a>(
        &mut self,
        target: Target<'_>,
        properties: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Option<Element>, Error> {
        let request = request::put(self.id(), target, properties);
        let elements = self.send(Call::Put(target.class), &request).await?;
        Ok(elements.into_iter().next())
    }

    /// Removes an instance.
    ///
    /// # Errors
    ///
    /// When there is no answer, or a fault.
    pub async fn delete(&mut self, target: Target<'_>) -> Result<(), Error> {
        let request = request::delete(self.id(), target);
        self.send(Call::Delete(target.class), &request)
            .await
            .map(drop)
    }

    /// Calls a method. Failures that the method itself returns are left to the caller: see [`Output::return_value`].
    ///
    /// # Errors
    ///
    /// When there is no answer, a fault, or an answer without return value.
    pub async fn invoke(
        &mut self,
        target: Target<'_>,
        method: &'static str,
        parameters: &[(&str, Value<'_>)],
        repeat: Repeat,
    ) -> Result<Output, Error> {
        let request = request::invoke(self.id(), target, method, parameters, repeat);
        let call = Call::Invoke(target.class, method);
        let element = self.one(call, &request).await?;
        let return_value = element
            .required_number(target.class.name(), "ReturnValue")
            .map_err(|error| Error {
                call,
                cause: error.into(),
            })?;
        Ok(Output {
            element,
            return_value,
        })
    }

    /// Asks what this is: `ProductVendor` and `ProductVersion` among its properties.
    ///
    /// # Errors
    ///
    /// When there is no answer, or it is of another kind.
    pub async fn identify(&mut self) -> Result<Element, Error> {
        let element = self.one(Call::Identify, &request::identify()).await?;
        if element.is(IDENTITY, "IdentifyResponse") {
            return Ok(element);
        }
        Err(missing(Call::Identify, "IdentifyResponse"))
    }

    /// Lists the instances of a class and of its subclasses: look at each element's name.
    ///
    /// # Errors
    ///
    /// When there is no answer, a fault, or the listing does not end.
    pub async fn enumerate(&mut self, class: Class) -> Result<Vec<Element>, Error> {
        // The context is lost with the connection, so a listing is begun again as a whole.
        match self.list(class).await {
            Err(Error {
                cause: Cause::Transport(TransportError::Lost { .. }),
                ..
            }) => self.list(class).await,
            Err(error) if error.fault() == Some(&FaultCode::InvalidEnumerationContext) => {
                self.list(class).await
            }
            other => other,
        }
    }

    async fn list(&mut self, class: Class) -> Result<Vec<Element>, Error> {
        let call = Call::Enumerate(class);
        let begin = request::enumerate(self.id(), class);
        let begun = self.one(call, &begin).await?;
        let mut context = context_of(&begun)
            .ok_or_else(|| missing(call, "EnumerationContext"))?
            .to_owned();
        let mut instances = Vec::new();
        for _ in 0..MAX_PAGES {
            let pull = request::pull(self.id(), class, &context);
            let page = self.one(call, &pull).await?;
            if !page.is(ENUMERATION, "PullResponse") {
                return Err(missing(call, "PullResponse"));
            }
            for child in &page.children {
                if child.is(ENUMERATION, "Items") {
                    instances.extend(child.children.iter().cloned());
                }
            }
            if instances.len() > MAX_INSTANCES {
                break;
            }
            // A page may bring a new context, or none, or the end together with either.
            let ended = page
                .children
                .iter()
                .any(|child| child.is(ENUMERATION, "EndOfSequence"));
            if ended {
                return Ok(instances);
            }
            if let Some(newer) = context_of(&page) {
                context = newer.to_owned();
            }
        }
        Err(Error {
            call,
            cause: Cause::Endless,
        })
    }

    async fn one(&mut self, call: Call, request: &Request) -> Result<Element, Error> {
        let elements = self.send(call, request).await?;
        elements
            .into_iter()
            .next()
            .ok_or_else(|| missing(call, "the body's element"))
    }

    async fn send(&mut self, call: Call, request: &Request) -> Result<Vec<Element>, Error> {
        let mut busy = 0;
        loop {
            let fail = |cause| Error { call, cause };
            let text = self
                .transport
                .post(request)
                .await
                .map_err(|error| fail(error.into()))?;
            match parse(&text).map_err(|error| fail(error.into()))? {
                Message::Body(elements) => return Ok(elements),
                // Refused before it was looked at, so it may be sent again whatever it is.
                Message::Fault(fault)
                    if fault.code == FaultCode::QuotaLimit && busy < BUSY_RETRIES =>
                {
                    busy += 1;
                    self.transport.pause(BUSY_PAUSE).await;
                }
                Message::Fault(fault) => return Err(fail(Cause::Fault(fault))),
            }
        }
    }

    fn id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        id
    }
}

fn context_of(element: &Element) -> Option<&str> {
    element.text("EnumerationContext")
}

fn missing(call: Call, what: &str) -> Error {
    Error {
        call,
        cause: Cause::Reply(ReplyError::Missing {
            missing: what.to_owned(),
        }),
    }
}
