//! The consent dialogue and what depends on it (reference section 2.2).

use super::*;

fn all() -> Bench {
    Bench::new(|config| config.consent = ConsentPolicy::All)
}

#[test]
fn states_follow_the_dialogue() {
    let mut bench = all();
    assert_eq!(bench.firmware.consent_state(), ConsentState::NotStarted);
    assert_eq!(
        bench.firmware.start_consent(bench.now),
        ConsentReturn::Success
    );
    assert_eq!(bench.firmware.consent_state(), ConsentState::Requested);
    bench.pass(1);
    assert_eq!(bench.firmware.consent_state(), ConsentState::Displayed);
    let code = bench.firmware.displayed_consent_code().unwrap();
    assert_eq!(bench.actions(), [Action::ShowConsentCode(code)]);
    assert_eq!(
        bench.firmware.send_consent_code(bench.now, code),
        ConsentReturn::Success
    );
    assert_eq!(bench.firmware.consent_state(), ConsentState::Received);
    assert_eq!(bench.actions(), [Action::HideConsentCode]);
    let session = bench.open(SessionKind::Ider).unwrap();
    assert_eq!(bench.firmware.consent_state(), ConsentState::InSession);
    bench.firmware.end_session(bench.now, session);
    assert_eq!(bench.firmware.consent_state(), ConsentState::Received);
}

#[test]
fn methods_out_of_turn_are_invalid() {
    let mut bench = all();
    assert_eq!(
        bench.firmware.send_consent_code(bench.now, 1),
        ConsentReturn::InvalidState
    );
    assert_eq!(bench.firmware.cancel_consent(), ConsentReturn::InvalidState);
    bench.firmware.start_consent(bench.now);
    assert_eq!(
        bench.firmware.start_consent(bench.now),
        ConsentReturn::InvalidState
    );
    assert_eq!(bench.firmware.cancel_consent(), ConsentReturn::Success);
    assert_eq!(bench.firmware.consent_state(), ConsentState::NotStarted);
}

#[test]
fn nothing_can_be_shown_while_the_pc_is_off() {
    let mut bench = all();
    bench.firmware.host_changed(PowerState::Off);
    assert_eq!(
        bench.firmware.start_consent(bench.now),
        ConsentReturn::InternalError
    );
    bench.firmware.host_changed(PowerState::On);
    bench.firmware.start_consent(bench.now);
    bench.pass(2);
    bench.firmware.host_changed(PowerState::Off);
    assert_eq!(bench.firmware.consent_state(), ConsentState::NotStarted);
}

#[test]
fn wrong_codes_drop_the_request_and_repeated_drops_block_for_a_while() {
    let mut bench = all();
    for _ in 0..2 {
        assert_eq!(
            bench.firmware.start_consent(bench.now),
            ConsentReturn::Success
        );
        bench.pass(2);
        let code = bench.firmware.displayed_consent_code().unwrap();
        let wrong = (code + 1) % 1_000_000;
        for _ in 0..2 {
            assert_eq!(
                bench.firmware.send_consent_code(bench.now, wrong),
                ConsentReturn::InvalidState
            );
            assert_eq!(bench.firmware.consent_state(), ConsentState::Displayed);
        }
        bench.firmware.send_consent_code(bench.now, wrong);
        assert_eq!(bench.firmware.consent_state(), ConsentState::NotStarted);
    }
    assert_eq!(
        bench.firmware.start_consent(bench.now),
        ConsentReturn::Blocked
    );
    bench.pass(61);
    assert_eq!(
        bench.firmware.start_consent(bench.now),
        ConsentReturn::Success
    );
}

#[test]
fn an_unanswered_code_leaves_the_screen_without_a_state_of_its_own() {
    let mut bench = all();
    bench.firmware.start_consent(bench.now);
    bench.pass(302);
    assert_eq!(bench.firmware.consent_state(), ConsentState::NotStarted);
    assert_eq!(bench.actions().last(), Some(&Action::HideConsentCode));
}

#[test]
fn consent_ends_two_minutes_after_the_last_session_and_takes_the_boot_options_along() {
    let mut bench = all();
    bench.consent();
    let session = bench.open(SessionKind::Ider).unwrap();
    bench
        .firmware
        .put_boot_settings(bench.now, &put(&[BootFlag::UseIder]))
        .unwrap();
    bench
        .firmware
        .set_boot_config_role(bench.now, ROLE_NEXT_SINGLE_USE)
        .unwrap();
    bench.pass(3600);
    assert!(
        bench.firmware.boot_settings().forced(),
        "an open session keeps consent alive"
    );
    bench.firmware.end_session(bench.now, session);
    bench.pass(119);
    assert!(bench.firmware.boot_settings().forced());
    bench.pass(1);
    assert_eq!(bench.firmware.consent_state(), ConsentState::NotStarted);
    assert!(!bench.firmware.boot_settings().forced());
    assert!(bench.firmware.boot_settings().options_cleared);
}

#[test]
fn late_timers_do_not_extend_consent() {
    let mut bench = all();
    bench.consent();
    bench.now += Duration::from_secs(121);
    assert_eq!(
        bench.firmware.put_boot_settings(bench.now, &put(&[])),
        Err(BootRefusal::ConsentRequired)
    );
    assert_eq!(
        bench.open(SessionKind::Ider),
        Err(StartStatus::ConsentRequired)
    );
}

#[test]
fn cancelling_ends_the_sessions_that_need_consent() {
    let mut bench = all();
    bench.consent();
    let ider = bench.open(SessionKind::Ider).unwrap();
    let sol = bench.open(SessionKind::Sol).unwrap();
    bench.firmware.cancel_consent();
    assert_eq!(
        bench.firmware.session_event(ider),
        Some(SessionEvent::Terminate)
    );
    assert_eq!(bench.firmware.session_event(sol), None);
}

#[test]
fn what_needs_consent_depends_on_mode_and_policy() {
    use ConsentPolicy::{All, Kvm, None};
    use ControlMode::{Admin, Client};
    // IDE-R, SOL, KVM, boot options
    let cases = [
        (Admin, None, [false, false, false, false]),
        (Admin, Kvm, [false, false, true, false]),
        (Admin, All, [true, false, true, true]),
        (Client, None, [true, true, true, true]),
        (Client, Kvm, [true, true, true, true]),
    ];
    for (mode, policy, [ider, sol, kvm, boot]) in cases {
        let mut bench = Bench::new(|config| {
            config.control_mode = mode;
            config.consent = policy;
        });
        for (kind, needed) in [
            (SessionKind::Ider, ider),
            (SessionKind::Sol, sol),
            (SessionKind::Kvm, kvm),
        ] {
            let refused = bench.open(kind) == Err(StartStatus::ConsentRequired);
            assert_eq!(refused, needed, "{mode:?} {policy:?} {kind:?}");
        }
        let refused = bench.firmware.change_boot_order(bench.now, Option::None)
            == Err(BootRefusal::ConsentRequired);
        assert_eq!(refused, boot, "{mode:?} {policy:?}");
    }
}

#[test]
fn plain_power_actions_need_no_consent() {
    let mut bench = Bench::new(|config| config.control_mode = ControlMode::Client);
    assert_eq!(
        bench.firmware.request_power_state(bench.now, 10),
        PowerReturn::Completed
    );
}

#[test]
fn firmware_time_can_run_faster() {
    let mut bench = Bench::new(|config| {
        config.consent = ConsentPolicy::All;
        config.speed = 60;
    });
    bench.consent();
    bench.pass(1);
    assert!(!bench.firmware.lacks_consent(ConsentUse::Boot));
    bench.pass(1);
    assert!(bench.firmware.lacks_consent(ConsentUse::Boot));
}

#[test]
fn the_policy_changes_only_where_the_owner_allows_it() {
    let mut bench = Bench::new(|config| config.consent_can_change = false);
    assert!(!bench.firmware.set_consent_policy(ConsentPolicy::All));
    assert!(
        bench.firmware.set_consent_policy(ConsentPolicy::None),
        "no change is no change"
    );
    let mut bench = Bench::new(|_| {});
    assert!(bench.firmware.set_consent_policy(ConsentPolicy::All));
    assert!(bench.firmware.lacks_consent(ConsentUse::Boot));
}
