//! How fast redirected drives are served: `cargo bench --package sparetire --bench ider -- commands|scale [--json]`.
//!
//! Loopback only; what a real PC adds is its own. `commands` has one session and compares with the bare socket in the same
//! run; `scale` has 1,000 sessions in this process, whose other ends live in a second one.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench stops where it fails"
)]

mod commands;
mod firmware;
mod scale;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    // Cargo adds --bench on its own.
    let what = arguments.iter().find(|argument| !argument.starts_with('-'));
    match what.map(String::as_str) {
        Some("commands") => commands::run(json),
        Some("scale") => scale::run(json),
        // The second process of `scale`.
        Some("scale-firmware") => scale::firmware(),
        _ => {
            eprintln!("usage: ider commands|scale [--json]");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
