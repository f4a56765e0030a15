//! The scripts of the diagnostic image, run on the building machine with tools that pretend.
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test fail as loudly as the test itself"
)]

mod desk;
mod menu;
mod tools;

use std::path::PathBuf;
use std::process::Command;

use desk::image_dir;

/// Every script is clean under `shellcheck -s sh`. Two warnings are off for all: variables that the
/// sourcing script or a caller sets (SC2154), and files sourced from a path known at run time (SC1091).
#[test]
fn shellcheck_finds_nothing() {
    let mut scripts = Vec::new();
    for dir in ["hooks", "files"] {
        collect(&image_dir().join(dir), &mut scripts);
    }
    assert!(scripts.len() > 20, "only {} scripts found", scripts.len());
    let output = Command::new("shellcheck")
        .args(["-s", "sh", "--exclude=SC2154,SC1091"])
        .args(&scripts)
        .output()
        .expect("shellcheck is installed by `cargo xtask setup`");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// Plain files whose first line names a shell.
fn collect(dir: &std::path::Path, scripts: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            collect(&entry.path(), scripts);
        } else if kind.is_file()
            && std::fs::read(entry.path())
                .unwrap()
                .starts_with(b"#!/bin/sh")
        {
            scripts.push(entry.path());
        }
    }
}
