//! Linker settings of the small, static loader. Builds for the host's own use (tests, clippy)
//! are left alone.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=static.ld");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let is_static = variable("CARGO_CFG_TARGET_FEATURE")
        .split(',')
        .any(|feature| feature == "crt-static");
    // The profile `loader`, which alone aborts on panic: the panic strategy itself is not told
    // to build scripts.
    let small = variable("OPT_LEVEL") == "z";
    let gnu = variable("CARGO_CFG_TARGET_ENV") == "gnu";
    if is_static && small && gnu {
        let script = Path::new(&variable("CARGO_MANIFEST_DIR")).join("static.ld");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    }
}
