//! Boot settings: conflict rules and single use (reference sections 2.3 and 2.4).

use super::*;

fn armed(set: &[BootFlag]) -> Bench {
    let mut bench = Bench::new(|_| {});
    bench
        .firmware
        .put_boot_settings(bench.now, &put(set))
        .unwrap();
    assert_eq!(
        bench
            .firmware
            .set_boot_config_role(bench.now, ROLE_NEXT_SINGLE_USE),
        Ok(BootReturn::Completed)
    );
    bench
}

fn assert_nothing_forced(bench: &Bench) {
    let settings = bench.firmware.boot_settings();
    assert!(!settings.forced(), "{settings:?}");
    assert_eq!(settings.role, ROLE_NOT_NEXT);
    assert!(settings.options_cleared);
}

#[test]
fn ider_boot_happens_once_and_only_once() {
    let mut bench = armed(&[BootFlag::UseIder]);
    bench.open(SessionKind::Ider).unwrap();
    assert_eq!(bench.reset().plan, BootPlan::UseIder(IderDevice::Cd));
    assert_nothing_forced(&bench);
    assert_eq!(bench.reset().plan, BootPlan::Default);
}

#[test]
fn ider_boot_without_a_session_falls_through_to_the_disk_and_is_forgotten() {
    let mut bench = armed(&[BootFlag::UseIder]);
    assert_eq!(bench.reset().plan, BootPlan::HardDisk);
    assert_nothing_forced(&bench);
}

#[test]
fn without_the_role_the_next_boot_is_normal_and_the_settings_wait() {
    let mut bench = Bench::new(|_| {});
    bench
        .firmware
        .put_boot_settings(bench.now, &put(&[BootFlag::BiosSetup]))
        .unwrap();
    assert_eq!(bench.reset().plan, BootPlan::Default);
    bench
        .firmware
        .set_boot_config_role(bench.now, ROLE_NEXT_SINGLE_USE)
        .unwrap();
    assert_eq!(bench.reset().plan, BootPlan::BiosSetup);
}

#[test]
fn power_on_cycle_and_guest_reset_consume_as_well() {
    for code in [2, 5] {
        let mut bench = armed(&[BootFlag::BiosSetup]);
        if code == 2 {
            bench.firmware.host_changed(PowerState::Off);
        }
        assert_eq!(
            bench.firmware.request_power_state(bench.now, code),
            PowerReturn::Completed
        );
        let plans: Vec<_> = bench
            .actions()
            .into_iter()
            .map(|action| match action {
                Action::PowerOn(boot) | Action::Reset { boot, .. } => boot.plan,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(plans, [BootPlan::BiosSetup]);
        assert_nothing_forced(&bench);
    }
    let mut bench = armed(&[BootFlag::BiosSetup]);
    assert_eq!(
        bench.firmware.host_reset(bench.now).plan,
        BootPlan::BiosSetup
    );
    assert_nothing_forced(&bench);
}

#[test]
fn each_source_boots_its_device() {
    let cases = [
        (BootSource::HardDrive, BootPlan::HardDisk),
        (BootSource::Pxe, BootPlan::Pxe),
        (BootSource::Cd, BootPlan::Cd),
    ];
    for (source, plan) in cases {
        let mut bench = armed(&[]);
        assert_eq!(
            bench.firmware.change_boot_order(bench.now, Some(source)),
            Ok(BootReturn::Completed)
        );
        assert_eq!(bench.reset().plan, plan);
        assert_nothing_forced(&bench);
    }
}

#[test]
fn ider_set_up_pause_and_sol_clash_with_a_chosen_source() {
    for flag in [
        BootFlag::UseIder,
        BootFlag::UseSol,
        BootFlag::BiosSetup,
        BootFlag::ReflashBios,
    ] {
        let mut bench = Bench::new(|_| {});
        bench
            .firmware
            .change_boot_order(bench.now, Some(BootSource::Pxe))
            .unwrap();
        let refused = bench.firmware.put_boot_settings(bench.now, &put(&[flag]));
        assert!(
            matches!(refused, Err(BootRefusal::Invalid(_))),
            "{flag:?}: {refused:?}"
        );
        // An empty ChangeBootOrder clears the source, and then it goes.
        bench.firmware.change_boot_order(bench.now, None).unwrap();
        assert_eq!(
            bench.firmware.put_boot_settings(bench.now, &put(&[flag])),
            Ok(())
        );
    }
}

#[test]
fn a_source_chosen_afterwards_wins_over_ider() {
    let mut bench = armed(&[BootFlag::UseIder]);
    bench.open(SessionKind::Ider).unwrap();
    assert_eq!(
        bench
            .firmware
            .change_boot_order(bench.now, Some(BootSource::Pxe)),
        Ok(BootReturn::Completed)
    );
    assert_eq!(bench.reset().plan, BootPlan::Pxe);
}

#[test]
fn amt_6_reports_the_clash_when_the_role_is_set() {
    let mut bench = Bench::new(|config| config.profile = Profile::named("amt6").unwrap());
    bench
        .firmware
        .change_boot_order(bench.now, Some(BootSource::Pxe))
        .unwrap();
    assert_eq!(
        bench
            .firmware
            .put_boot_settings(bench.now, &put(&[BootFlag::UseIder])),
        Ok(())
    );
    assert_eq!(
        bench
            .firmware
            .set_boot_config_role(bench.now, ROLE_NEXT_SINGLE_USE),
        Ok(BootReturn::InvalidParameter)
    );
}

#[test]
fn every_required_element_is_missed_by_name_and_nothing_changes() {
    for row in BOOT_FLAGS.iter().filter(|row| row.required) {
        let mut bench = Bench::new(|_| {});
        let mut short = put(&[BootFlag::UseIder]);
        short.flags.retain(|(flag, _)| *flag != row.flag);
        assert_eq!(
            bench.firmware.put_boot_settings(bench.now, &short),
            Err(BootRefusal::Missing(row.name))
        );
        assert!(!bench.firmware.boot_settings().forced());
    }
    let mut bench = Bench::new(|_| {});
    let short = BootPut {
        ider_boot_device: None,
        ..put(&[])
    };
    assert_eq!(
        bench.firmware.put_boot_settings(bench.now, &short),
        Err(BootRefusal::Missing("IDERBootDevice"))
    );
}

#[test]
fn numbers_out_of_range_are_refused() {
    let cases = [
        (
            BootPut {
                ider_boot_device: Some(2),
                ..put(&[])
            },
            "IDERBootDevice",
        ),
        (
            BootPut {
                firmware_verbosity: Some(4),
                ..put(&[])
            },
            "FirmwareVerbosity",
        ),
        (
            BootPut {
                boot_media_index: Some(256),
                ..put(&[])
            },
            "BootMediaIndex",
        ),
        (
            BootPut {
                boot_media_index: Some(1),
                ..put(&[BootFlag::UseIder])
            },
            "BootMediaIndex",
        ),
    ];
    for (wrong, name) in cases {
        let mut bench = Bench::new(|_| {});
        assert_eq!(
            bench.firmware.put_boot_settings(bench.now, &wrong),
            Err(BootRefusal::Invalid(name))
        );
    }
}

#[test]
fn what_the_machine_cannot_do_is_refused() {
    let mut bench = Bench::new(|config| {
        config.capabilities = BootCapabilities::nuc9()
            .without("IDER")
            .without("ForcePXEBoot");
    });
    assert_eq!(
        bench
            .firmware
            .put_boot_settings(bench.now, &put(&[BootFlag::UseIder])),
        Err(BootRefusal::Invalid("UseIDER"))
    );
    assert_eq!(
        bench
            .firmware
            .change_boot_order(bench.now, Some(BootSource::Pxe)),
        Ok(BootReturn::NotSupported)
    );
}

#[test]
fn secure_boot_can_be_waived_by_an_administrator_only() {
    let mut waive = put(&[]);
    waive.flags.push((BootFlag::EnforceSecureBoot, false));
    let mut bench = Bench::new(|_| {});
    assert_eq!(bench.firmware.put_boot_settings(bench.now, &waive), Ok(()));
    let mut bench = Bench::new(|config| config.control_mode = ControlMode::Client);
    bench.consent();
    assert_eq!(
        bench.firmware.put_boot_settings(bench.now, &waive),
        Err(BootRefusal::Invalid("EnforceSecureBoot"))
    );
}

#[test]
fn a_console_that_gives_up_can_clear_everything() {
    let mut bench = armed(&[BootFlag::UseIder]);
    bench.firmware.change_boot_order(bench.now, None).unwrap();
    bench
        .firmware
        .put_boot_settings(bench.now, &put(&[]))
        .unwrap();
    bench
        .firmware
        .set_boot_config_role(bench.now, ROLE_NOT_NEXT)
        .unwrap();
    assert!(!bench.firmware.boot_settings().forced());
    assert_eq!(bench.reset(), Boot::NORMAL);
}

#[test]
fn progress_is_logged_when_it_was_asked_for() {
    let mut bench = armed(&[BootFlag::ForcedProgressEvents]);
    bench.reset();
    let codes: Vec<u8> = bench
        .firmware
        .log_records()
        .map(|record| record[14])
        .collect();
    assert_eq!(codes, [0x13, 0x09, 0x08, 0x07, 0x02, 0x01], "newest first");
    bench.reset();
    assert_eq!(
        bench.firmware.log_records().len(),
        6,
        "the second boot was not asked to report"
    );
}
