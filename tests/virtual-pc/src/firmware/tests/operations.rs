//! Any order of operations: no panic, and nothing forced after a boot that used, or an end that cleared, the settings.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Operation {
    Pass(u64),
    Power(u32),
    Host(PowerState),
    GuestReset,
    Button,
    Put(Vec<BootFlag>, bool),
    Order(Option<BootSource>),
    Role(u32),
    StartConsent,
    SendCode { right: bool },
    CancelConsent,
    Policy(ConsentPolicy),
    Open(SessionKind),
    Close(usize),
    Terminate(SessionKind),
    Switch(u8),
    LogIn { right: bool },
}

fn operation() -> impl Strategy<Value = Operation> {
    let flag = proptest::sample::select(BOOT_FLAGS.iter().map(|row| row.flag).collect::<Vec<_>>());
    let kind = proptest::sample::select(SessionKind::ALL.to_vec());
    let state = proptest::sample::select(vec![
        PowerState::On,
        PowerState::Off,
        PowerState::Sleep,
        PowerState::Hibernate,
    ]);
    let policy = proptest::sample::select(vec![
        ConsentPolicy::None,
        ConsentPolicy::Kvm,
        ConsentPolicy::All,
    ]);
    let source = proptest::option::of(proptest::sample::select(BootSource::ALL.to_vec()));
    prop_oneof![
        (0u64..400).prop_map(Operation::Pass),
        (0u32..18).prop_map(Operation::Power),
        state.prop_map(Operation::Host),
        Just(Operation::GuestReset),
        Just(Operation::Button),
        (proptest::collection::vec(flag, 0..4), any::<bool>())
            .prop_map(|(flags, whole)| Operation::Put(flags, whole)),
        source.prop_map(Operation::Order),
        proptest::sample::select(vec![0, ROLE_NEXT_SINGLE_USE, ROLE_NOT_NEXT])
            .prop_map(Operation::Role),
        Just(Operation::StartConsent),
        any::<bool>().prop_map(|right| Operation::SendCode { right }),
        Just(Operation::CancelConsent),
        policy.prop_map(Operation::Policy),
        kind.clone().prop_map(Operation::Open),
        (0usize..4).prop_map(Operation::Close),
        kind.prop_map(Operation::Terminate),
        any::<u8>().prop_map(Operation::Switch),
        any::<bool>().prop_map(|right| Operation::LogIn { right }),
    ]
}

fn apply(bench: &mut Bench, tickets: &mut Vec<SessionTicket>, operation: Operation) {
    let now = bench.now;
    let firmware = &mut bench.firmware;
    match operation {
        Operation::Pass(seconds) => bench.pass(seconds),
        Operation::Power(code) => drop(firmware.request_power_state(now, code)),
        Operation::Host(state) => firmware.host_changed(state),
        Operation::GuestReset => drop(firmware.host_reset(now)),
        Operation::Button => firmware.press_power_button(now),
        Operation::Put(flags, whole) => {
            let mut put = put(&flags);
            if !whole {
                put.flags.pop();
            }
            let _ = firmware.put_boot_settings(now, &put);
        }
        Operation::Order(source) => drop(firmware.change_boot_order(now, source)),
        Operation::Role(role) => drop(firmware.set_boot_config_role(now, role)),
        Operation::StartConsent => drop(firmware.start_consent(now)),
        Operation::SendCode { right } => {
            let code = firmware.displayed_consent_code().unwrap_or(0);
            firmware.send_consent_code(now, if right { code } else { code + 1 });
        }
        Operation::CancelConsent => drop(firmware.cancel_consent()),
        Operation::Policy(policy) => drop(firmware.set_consent_policy(policy)),
        Operation::Open(kind) => tickets.extend(firmware.begin_session(now, kind, "peer")),
        Operation::Close(index) => {
            if index < tickets.len() {
                firmware.end_session(now, tickets.remove(index));
            }
        }
        Operation::Terminate(kind) => drop(firmware.terminate_session(kind)),
        Operation::Switch(bits) => {
            let bit = |index: u8| bits >> index & 1 == 1;
            firmware.set_switches(Switches {
                ider: bit(0),
                sol: bit(1),
                kvm: bit(2),
                listener: bit(3),
            });
        }
        Operation::LogIn { right } => {
            let password = if right { "P@ssw0rd" } else { "wrong" };
            let _ = firmware.check_password(now, "admin", password);
        }
    }
}

proptest! {
    #[test]
    fn no_order_of_operations_panics_or_leaves_a_forced_boot_behind(
        client in any::<bool>(),
        operations in proptest::collection::vec(operation(), 0..60),
    ) {
        let mut bench = Bench::new(|config| {
            config.agent = true;
            config.control_mode = if client { ControlMode::Client } else { ControlMode::Admin };
        });
        let mut tickets = Vec::new();
        for operation in operations {
            let boots = bench.firmware.counters().boots;
            let role = bench.firmware.boot_settings().role;
            let lacked = bench.firmware.lacks_consent(ConsentUse::Boot);
            let by_policy = matches!(operation, Operation::Policy(_));
            apply(&mut bench, &mut tickets, operation);
            let settings = bench.firmware.boot_settings();
            if bench.firmware.counters().boots > boots && role == ROLE_NEXT_SINGLE_USE {
                prop_assert!(!settings.forced(), "after a boot: {settings:?}");
                prop_assert!(settings.options_cleared);
            }
            if !lacked && !by_policy && bench.firmware.lacks_consent(ConsentUse::Boot) {
                prop_assert!(!settings.forced(), "after consent ended: {settings:?}");
            }
            prop_assert!(bench.firmware.actions.len() <= MAX_ACTIONS);
            for kind in SessionKind::ALL {
                let open = bench.firmware.snapshot().sessions.iter().filter(|(open, _)| *open == kind).count();
                prop_assert!(open <= 1);
            }
        }
    }
}
