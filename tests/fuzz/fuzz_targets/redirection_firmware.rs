//! What firmware sends to a console: messages of all layers, and the console's state machines. The first byte says in
//! which pieces the rest arrives; the pieces must make no difference.
#![no_main]

use std::time::Instant;

use amt_redirection::auth::DigestChallenge;
use amt_redirection::console::{
    AuthPolicy, Credentials, OpenError, Opened, Opening, ider, kvm, sol,
};
use amt_redirection::ider::CommandForm;
use amt_redirection::session::{AuthMethod, SessionKind};
use amt_redirection::wire::Decoded;
use amt_redirection::{ider as ider_wire, session, sol as sol_wire};
use libfuzzer_sys::fuzz_target;

macro_rules! reads {
    ($decode:expr, $bytes:expr) => {
        if let Ok(Decoded::Message { length, .. }) = $decode {
            assert!(length > 0 && length <= $bytes.len());
        }
    };
}

fn open(now: Instant, bytes: &[u8], step: usize) -> Option<Result<Opened, OpenError>> {
    let credentials = Credentials {
        user: "admin".to_owned(),
        password: "P@ssw0rd".to_owned().into(),
    };
    let policy = AuthPolicy {
        allow_legacy_digest: true,
        allow_clear_password: true,
    };
    let mut opening = Opening::new(SessionKind::Ider, credentials, policy, [1; 16], now);
    for part in bytes.chunks(step) {
        match opening.outcome() {
            Some(Ok(opened)) => return Some(Ok(opened)),
            Some(Err(error)) => return Some(Err(error)),
            None => opening.handle_input(now, part),
        }
        while opening.poll_transmit().is_some() {}
    }
    opening.outcome()
}

/// Everything but how bytes beyond the end are shared out.
fn told(outcome: &Option<Result<Opened, OpenError>>) -> Option<Result<(u8, u8), OpenError>> {
    outcome.as_ref().map(|outcome| {
        outcome
            .as_ref()
            .map(|opened| opened.firmware_version)
            .map_err(Clone::clone)
    })
}

fn ider_events(now: Instant, bytes: &[u8], step: usize) -> (Vec<ider::Event>, bool) {
    let mut console = ider::Console::new(ider::Options::default(), now);
    let mut events = Vec::new();
    for part in bytes.chunks(step) {
        let _ = console.handle_input(now, part);
        while console.poll_transmit().is_some() {}
        // Commands that a reset follows in the same piece are not seen at all.
        events.extend(
            std::iter::from_fn(|| console.poll_event())
                .filter(|event| !matches!(event, ider::Event::Command(_))),
        );
    }
    (events, console.is_over())
}

fn sol_events(now: Instant, bytes: &[u8], step: usize) -> (Vec<sol::Event>, bool) {
    let mut console = sol::Console::new(sol::Options::default(), now);
    let mut events = Vec::new();
    for part in bytes.chunks(step) {
        let _ = console.handle_input(now, part);
        while console.poll_transmit().is_some() {}
        events.extend(std::iter::from_fn(|| console.poll_event()));
    }
    (events, console.is_over())
}

fuzz_target!(|input: &[u8]| {
    let Some((&step, bytes)) = input.split_first() else {
        return;
    };
    // More would be a flood when it arrives at once and none when it does not.
    let bytes = &bytes[..bytes.len().min(1024)];
    let step = usize::from(step).max(1);
    let all = bytes.len().max(1);
    for at in 0..bytes.len() {
        let rest = &bytes[at..];
        reads!(session::FirmwareMessage::decode(rest), rest);
        reads!(
            ider_wire::FirmwareMessage::decode(rest, CommandForm::Twelve),
            rest
        );
        reads!(
            ider_wire::FirmwareMessage::decode(rest, CommandForm::Sixteen),
            rest
        );
        reads!(Ok::<_, ()>(ider_wire::command_form(rest, 1)), rest);
        reads!(sol_wire::FirmwareMessage::decode(rest), rest);
        let _ = DigestChallenge::decode(AuthMethod::DIGEST, rest);
    }
    let now = Instant::now();
    assert_eq!(told(&open(now, bytes, step)), told(&open(now, bytes, all)));
    assert_eq!(ider_events(now, bytes, step), ider_events(now, bytes, all));
    assert_eq!(sol_events(now, bytes, step), sol_events(now, bytes, all));
    let mut entry = kvm::Entry::new(now);
    for part in bytes.chunks(step) {
        entry.handle_input(now, part);
    }
});
