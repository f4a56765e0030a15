//! `virtual-pc`: a simulated PC with Intel AMT, around QEMU.

fn main() {}
