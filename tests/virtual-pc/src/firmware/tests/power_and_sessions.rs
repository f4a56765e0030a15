//! Power transitions and the book-keeping of redirection sessions (reference sections 2.1 and 2.5).

use super::*;

#[test]
fn transitions_are_those_of_the_table() {
    use PowerReturn::{Completed, InvalidParameter, InvalidStateTransition as Never, NotSupported};
    use PowerState::{Hibernate, Off, On, Sleep};
    let cases = [
        (On, 2, Never),
        (On, 10, Completed),
        (On, 5, Completed),
        (On, 8, Completed),
        (On, 11, Completed),
        (Off, 2, Completed),
        (Off, 10, Never),
        (Off, 5, Never),
        (Off, 8, Never),
        (Off, 11, Never),
        (Off, 12, Never),
        (Sleep, 2, Completed),
        (Sleep, 10, Completed),
        (Sleep, 8, Completed),
        (Sleep, 4, Never),
        (Hibernate, 2, Completed),
        (Hibernate, 10, Never),
        (On, 3, NotSupported),
        (On, 6, NotSupported),
        (On, 9, NotSupported),
        (On, 16, NotSupported),
        (On, 0, InvalidParameter),
        (On, 1, InvalidParameter),
        (On, 17, InvalidParameter),
        (On, u32::MAX, InvalidParameter),
    ];
    for (state, code, expected) in cases {
        let mut bench = Bench::new(|config| config.power = state);
        assert_eq!(
            bench.firmware.request_power_state(bench.now, code),
            expected,
            "{state:?} {code}"
        );
    }
}

#[test]
fn graceful_requests_need_the_agent() {
    for (agent, expected) in [
        (false, PowerReturn::InvalidStateTransition),
        (true, PowerReturn::Completed),
    ] {
        for code in [4, 7, 12, 14] {
            let mut bench = Bench::new(|config| config.agent = agent);
            assert_eq!(
                bench.firmware.request_power_state(bench.now, code),
                expected,
                "{code}"
            );
        }
    }
    let mut bench = Bench::new(|config| config.agent = true);
    bench.firmware.request_power_state(bench.now, 12);
    assert_eq!(bench.actions(), [Action::Ask(GuestRequest::Shutdown)]);
    assert_eq!(
        bench.firmware.power(),
        PowerState::On,
        "it is off only when it is off"
    );
    bench.firmware.host_changed(PowerState::Off);
    assert_eq!(bench.firmware.power(), PowerState::Off);
}

#[test]
fn available_states_are_listed_as_on_a_real_machine() {
    let bench = Bench::new(|config| config.agent = true);
    assert_eq!(
        bench.firmware.available_power_states(),
        [10, 8, 5, 11, 4, 7, 14, 12]
    );
    let bench = Bench::new(|config| config.power = PowerState::Off);
    assert_eq!(bench.firmware.available_power_states(), [2]);
}

#[test]
fn power_off_and_cycle_wait_for_redirection_to_end_but_reset_does_not() {
    let mut bench = Bench::new(|_| {});
    let session = bench.open(SessionKind::Sol).unwrap();
    assert_eq!(
        bench.firmware.request_power_state(bench.now, 5),
        PowerReturn::UnknownError
    );
    assert_eq!(
        bench.firmware.request_power_state(bench.now, 8),
        PowerReturn::UnknownError
    );
    assert_eq!(
        bench.firmware.request_power_state(bench.now, 10),
        PowerReturn::Completed
    );
    bench.firmware.end_session(bench.now, session);
    assert_eq!(
        bench.firmware.request_power_state(bench.now, 8),
        PowerReturn::Completed
    );
}

#[test]
fn the_button_on_the_case_does_what_it_does() {
    let mut bench = Bench::new(|config| config.power = PowerState::Off);
    bench.firmware.press_power_button(bench.now);
    assert_eq!(bench.actions(), [Action::PowerOn(Boot::NORMAL)]);
    bench.firmware.press_power_button(bench.now);
    assert_eq!(bench.actions(), [Action::Ask(GuestRequest::Shutdown)]);
}

#[test]
fn there_is_one_session_of_each_kind() {
    let mut bench = Bench::new(|_| {});
    let first = bench.open(SessionKind::Ider).unwrap();
    bench.open(SessionKind::Sol).unwrap();
    bench.open(SessionKind::Kvm).unwrap();
    assert_eq!(bench.open(SessionKind::Ider), Err(StartStatus::Busy));
    bench.firmware.end_session(bench.now, first);
    let second = bench.open(SessionKind::Ider).unwrap();
    bench.firmware.end_session(bench.now, first);
    assert_eq!(
        bench.open(SessionKind::Ider),
        Err(StartStatus::Busy),
        "the old ticket must not end the new session"
    );
    bench.firmware.end_session(bench.now, second);
}

#[test]
fn a_session_needs_its_switch_and_the_listener() {
    for (kind, off) in [
        (
            SessionKind::Ider,
            Switches {
                ider: false,
                sol: true,
                kvm: true,
                listener: true,
            },
        ),
        (
            SessionKind::Sol,
            Switches {
                ider: true,
                sol: false,
                kvm: true,
                listener: true,
            },
        ),
        (
            SessionKind::Kvm,
            Switches {
                ider: true,
                sol: true,
                kvm: false,
                listener: true,
            },
        ),
        (
            SessionKind::Ider,
            Switches {
                ider: true,
                sol: true,
                kvm: true,
                listener: false,
            },
        ),
    ] {
        let mut bench = Bench::new(|config| config.switches = off);
        assert_eq!(bench.open(kind), Err(StartStatus::Unsupported));
    }
}

#[test]
fn switching_off_ends_the_session() {
    let mut bench = Bench::new(|_| {});
    let session = bench.open(SessionKind::Ider).unwrap();
    let switches = Switches {
        ider: false,
        ..*bench.firmware.switches()
    };
    bench.firmware.set_switches(switches);
    assert_eq!(
        bench.firmware.session_event(session),
        Some(SessionEvent::Terminate)
    );
}

#[test]
fn the_bios_veto_makes_switches_not_stick() {
    let mut bench = Bench::new(|config| {
        config.veto = BiosVeto {
            redirection: true,
            kvm: false,
        }
    });
    bench.firmware.set_switches(Switches {
        ider: true,
        sol: true,
        kvm: true,
        listener: true,
    });
    assert_eq!(bench.firmware.switches().enabled_state(), 32768);
    assert!(bench.firmware.switches().kvm);
}

#[test]
fn enabled_states_are_the_four_of_the_specification() {
    let state = |ider, sol| {
        Switches {
            ider,
            sol,
            kvm: false,
            listener: true,
        }
        .enabled_state()
    };
    assert_eq!(
        [
            state(false, false),
            state(true, false),
            state(false, true),
            state(true, true)
        ],
        [32768, 32769, 32770, 32771]
    );
}

#[test]
fn sessions_hear_of_resets_and_of_termination() {
    let mut bench = Bench::new(|_| {});
    let session = bench.open(SessionKind::Ider).unwrap();
    bench.reset();
    assert_eq!(
        bench.firmware.session_event(session),
        Some(SessionEvent::HostReset)
    );
    assert!(bench.firmware.terminate_session(SessionKind::Ider));
    assert!(!bench.firmware.terminate_session(SessionKind::Sol));
    assert_eq!(
        bench.firmware.session_event(session),
        Some(SessionEvent::Terminate)
    );
    assert_eq!(bench.firmware.session_event(session), None);
}

#[test]
fn attached_drives_go_with_their_session() {
    let mut bench = Bench::new(|_| {});
    bench.firmware.ider_attached(true);
    assert!(
        !bench.firmware.snapshot().ider_attached,
        "nothing to attach without a session"
    );
    let session = bench.open(SessionKind::Ider).unwrap();
    bench.firmware.ider_attached(true);
    assert!(bench.firmware.snapshot().ider_attached);
    bench.firmware.end_session(bench.now, session);
    assert!(!bench.firmware.snapshot().ider_attached);
}
