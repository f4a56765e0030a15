//! Replies of a device, separated by lines `===`: read alone, then fed to the flows, which must end and write nothing but
//! well-formed messages, whatever they were told.
#![no_main]

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use amt_wsman::flow::boot::{BootOptions, BootTarget, arm_boot};
use amt_wsman::flow::consent;
use amt_wsman::flow::info::info;
use amt_wsman::flow::power::{PowerAction, power};
use amt_wsman::flow::redirection::{Wanted, enable_redirection};
use amt_wsman::reply::{Message, parse};
use amt_wsman::{Device, Request, Transport, TransportError};
use libfuzzer_sys::fuzz_target;

struct Replies(VecDeque<String>);

impl Transport for Replies {
    async fn post(&mut self, request: &Request) -> Result<String, TransportError> {
        // Requests are SOAP as well.
        assert!(
            matches!(parse(&request.body), Ok(Message::Body(_))),
            "{}",
            request.body
        );
        self.0.pop_front().ok_or_else(|| TransportError::Lost {
            peer: String::new(),
            why: String::new(),
        })
    }

    async fn pause(&mut self, _: Duration) {}

    fn server(&self) -> Option<&str> {
        None
    }
}

fn run<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("the transport does not wait"),
    }
}

fuzz_target!(|text: &str| {
    let replies: VecDeque<String> = text.split("\n===\n").map(str::to_owned).collect();
    for reply in &replies {
        let _ = parse(reply);
    }
    let device = || Device::new(Replies(replies.clone()));
    let mut silent = |_| {};
    if let Ok(info) = run(info(&mut device(), &mut silent)) {
        assert!(info.uuid.is_none_or(|uuid| uuid.len() == 36));
    }
    let options = BootOptions::default();
    if let Ok(armed) = run(arm_boot(
        &mut device(),
        BootTarget::IderCd,
        &options,
        &mut silent,
    )) {
        assert_eq!(
            armed
                .settings
                .option("UseIDER")
                .map(|value| value == "true" || value == "1"),
            Some(true)
        );
    }
    let wanted = Wanted {
        storage: true,
        serial: true,
    };
    if let Ok(service) = run(enable_redirection(&mut device(), wanted, &mut silent)) {
        assert!(service.storage && service.serial && service.listener);
    }
    let _ = run(consent::start(&mut device(), &mut silent));
    let _ = run(power(&mut device(), PowerAction::Restart, &mut silent));
});
