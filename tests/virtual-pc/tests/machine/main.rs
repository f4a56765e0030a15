//! Whole virtual PCs with a real QEMU, each of them for a few seconds. Skipped loudly where QEMU is
//! not installed.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod boot_cd;
mod console;
mod controls;
mod power;
mod redirected_boot;
mod witnesses;

fn qemu_missing() -> bool {
    missing("qemu-system-x86_64")
}

/// Whether a program is not installed; says so.
fn missing(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = !std::env::split_paths(&path).any(|folder| folder.join(program).exists());
    if missing {
        eprintln!("SKIPPED: {program} is not installed");
    }
    missing
}
