//! Which images fit into which machines, and what is said about those that do not.

use super::*;
use crate::handoff::buffer::tests::manifest;
use crate::handoff::machine::tests::write_machine;

const GIB: u64 = 1 << 30;

/// A machine with `total` bytes in one piece from 1 MiB on, of which `used` are in use.
fn machine(total: u64, used: u64) -> Machine {
    let root = tempfile::tempdir().unwrap();
    write_machine(root.path(), false);
    let mut machine = Machine::read(root.path()).unwrap();
    machine.memory = MemInfo {
        total,
        available: total - used,
    };
    machine.ram = RamMap::parse(&format!("100000-{:x} : System RAM\n", total + MIB - 1));
    machine
}

fn iso(size: u64, initrd: u64, medium: Medium) -> Manifest {
    let mut manifest = manifest(size, medium);
    let BootRecipe::Linux(boot) = &mut manifest.boot;
    boot.kernel.length = 8 * MIB;
    boot.initrd.truncate(1);
    boot.initrd[0].length = initrd;
    manifest
}

#[test]
fn a_small_image_is_loaded_from_files_first() {
    let plan = check_memory(
        &iso(20 * MIB, 2 * MIB, Medium::LiveBoot),
        &machine(2 * GIB, 0),
    )
    .unwrap();
    assert_eq!(plan.methods, [Method::KexecFileLoad, Method::KexecLoad]);
    // Image, initrd behind it, kernel file, both as read, segments.
    let segments = 20 + 1 + 2 + 80;
    assert_eq!(
        plan.needed,
        (20 + 1 + 2 + 8 + (8 + 20 + 1 + 2) + segments + 24) * MIB
    );
    assert_eq!((plan.placement, plan.pmem), (Placement::Initramfs, None));
}

#[test]
fn a_large_image_is_loaded_from_segments_first() {
    let plan = check_memory(
        &iso(800 * MIB, 40 * MIB, Medium::LiveBoot),
        &machine(4 * GIB, 0),
    )
    .unwrap();
    assert_eq!(plan.methods, [Method::KexecLoad, Method::KexecFileLoad]);
    let peak = plan.needed - FIRST_SYSTEM;
    assert!(peak <= 2 * 800 * MIB + ALLOWANCE, "{} MiB", peak / MIB);
}

#[test]
fn the_method_that_does_not_fit_is_not_tried() {
    let manifest = iso(800 * MIB, 40 * MIB, Medium::LiveBoot);
    let plan = check_memory(&manifest, &machine(4 * GIB, 2 * GIB)).unwrap();
    assert_eq!(plan.methods, [Method::KexecLoad]);
}

#[test]
fn says_which_limit_is_passed_with_numbers() {
    let refused =
        |manifest: &Manifest, machine: &Machine| check_memory(manifest, machine).unwrap_err();
    let live = iso(800 * MIB, 40 * MIB, Medium::LiveBoot);

    let error = refused(&live, &machine(GIB, 0));
    assert_eq!(error.limit, Limit::Kexec);
    assert_eq!(
        error.to_string(),
        "RAM that kexec can load into: 921 MiB needed, 512 MiB available, 1024 MiB of RAM in all"
    );

    let error = refused(&live, &machine(1850 * MIB, 0));
    assert_eq!(
        (error.limit, error.needed),
        (Limit::SecondSystem, (921 + 801 + 120 + 64) * MIB)
    );

    let error = refused(&live, &machine(2 * GIB, 400 * MIB));
    assert_eq!(error.limit, Limit::FirstSystem);
    assert_eq!(
        (error.needed, error.available),
        ((801 + 921 + 24) * MIB, 1648 * MIB)
    );

    let mut asking = live.clone();
    asking.min_ram = Some(4 * GIB);
    assert_eq!(
        refused(&asking, &machine(2 * GIB, 0)).limit,
        Limit::Manifest
    );
    // 4 GiB built in, 100 MiB of it the firmware's.
    assert!(check_memory(&asking, &machine(4 * GIB - 100 * MIB, 0)).is_ok());

    let mut split = machine(4 * GIB, 0);
    split.ram = RamMap::parse("100000-2fffffff : System RAM\n40000000-6fffffff : System RAM\n");
    let error = refused(&live, &split);
    assert_eq!(
        (error.limit, error.needed, error.available),
        (Limit::OnePiece, 841 * MIB, 768 * MIB)
    );
}

#[test]
fn a_root_in_tmpfs_holds_half_of_what_is_left() {
    let mut pair = iso(300 * MIB, 290 * MIB, Medium::None);
    let error = check_memory(&pair, &machine(1900 * MIB, 0)).unwrap_err();
    assert_eq!(error.limit, Limit::SecondRoot);
    assert_eq!(
        (error.needed, error.available),
        (871 * MIB, (1900 - 291) * MIB / 2)
    );
    let BootRecipe::Linux(boot) = &mut pair.boot;
    boot.cmdline = "quiet root=/dev/ram0 rw".into();
    assert!(check_memory(&pair, &machine(1900 * MIB, 0)).is_ok());
}

#[test]
fn an_image_beyond_four_gibibytes_becomes_persistent_memory() {
    let manifest = iso(5 * GIB, 40 * MIB, Medium::LiveBoot);
    let plan = check_memory(&manifest, &machine(16 * GIB, 0)).unwrap();
    assert_eq!(plan.placement, Placement::Pmem);
    assert_eq!(plan.methods, [Method::KexecLoad]);
    let range = plan.pmem.unwrap();
    assert_eq!((range.size, range.address % PMEM_ALIGN), (5 * GIB, 0));
    assert!(range.address + range.size <= 16 * GIB + MIB);

    let mut small = iso(100 * MIB + 1, 8 * MIB, Medium::LiveBoot);
    let BootRecipe::Linux(boot) = &mut small.boot;
    boot.placement = Placement::Pmem;
    let plan = check_memory(&small, &machine(GIB, 0)).unwrap();
    assert_eq!(plan.pmem.unwrap().size, 102 * MIB);
}

#[test]
fn sizes_that_cannot_be_are_refused_not_computed() {
    let mut manifest = iso(1 << 40, 1 << 39, Medium::LiveBoot);
    let BootRecipe::Linux(boot) = &mut manifest.boot;
    boot.initrd[0].length = u64::MAX - 5000;
    assert_eq!(
        check_memory(&manifest, &machine(4 * GIB, 0))
            .unwrap_err()
            .limit,
        Limit::Kexec
    );
}
