//! Boots firmware, stage one and second systems in QEMU.

fn main() {}
