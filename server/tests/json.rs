//! `--json` means that standard output is JSON, one object or list a line, and nothing else. The subcommands
//! run here with it, as far as each gets on a machine without a PC or a network: what it says then is JSON as well.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use clap::CommandFactory;
use serde_json::Value;
use sparetire_server::cli::Cli;
use support::program::{Serving, code, err, folder, json_lines, out, program};

/// How one subcommand is run.
struct Case {
    /// Its words, as a user types them.
    name: &'static str,
    arguments: &'static [&'static str],
    code: i32,
    /// Keys of the last line, without which scripts could do nothing with it.
    keys: &'static [&'static str],
}

const fn case(
    name: &'static str,
    arguments: &'static [&'static str],
    code: i32,
    keys: &'static [&'static str],
) -> Case {
    Case {
        name,
        arguments,
        code,
        keys,
    }
}

/// What an error says.
const ERROR: &[&str] = &["event", "error", "causes", "code"];
/// A port of loopback at which nobody listens, for everything that needs a PC.
const NOBODY: &[&str] = &["127.0.0.1", "--port", "1"];

/// In this order: later ones use what earlier ones made.
const CASES: &[Case] = &[
    case("key generate", &["--no-password"], 0, &["id", "public_key"]),
    case("key show", &[], 0, &["id", "public_key"]),
    case(
        "image import",
        &[
            "--name",
            "small",
            "--kind",
            "linux-netboot",
            "--kernel",
            "kernel",
        ],
        0,
        &["name", "version", "sha256"],
    ),
    case("image list", &[], 0, &[]),
    case("image show", &["small"], 0, &["manifest", "chunks"]),
    case(
        "image verify",
        &["small"],
        0,
        &["name", "version", "sha256"],
    ),
    case(
        "image fetch",
        &["small", "--from", "http://127.0.0.1:1/", "-o", "fetched"],
        5,
        ERROR,
    ),
    case("image build", &["no-recipe"], 2, ERROR),
    case(
        "stage1 build",
        &["-o", "stage1.iso", "--kernel", "kernel"],
        3,
        ERROR,
    ),
    case(
        "stage1 customize",
        &["no.iso", "--image", "small"],
        1,
        ERROR,
    ),
    case("stage1 show", &["no.iso"], 1, ERROR),
    case("stage1 check", &["--loader", "kernel"], 3, ERROR),
    case("serve", &["--config", "no.toml"], 2, ERROR),
    case("doctor", &["--server", "http://127.0.0.1:1"], 1, ERROR),
    case("completions", &["bash"], 0, &["shell", "script"]),
    case("man", &["--out", "man"], 0, &["event", "path"]),
    case("session create", &["--image", "small"], 0, &["id", "token"]),
    case("session list", &[], 0, &["id", "state"]),
    case("session show", &["ID"], 0, &["id", "state"]),
    case("session cancel", &["ID"], 0, &["event", "id"]),
    case("session follow", &["ID"], 1, ERROR),
    case("pc info", NOBODY, 5, ERROR),
    case("pc power", &["127.0.0.1", "on", "--port", "1"], 5, ERROR),
    case(
        "pc consent",
        &["127.0.0.1", "start", "--port", "1"],
        5,
        ERROR,
    ),
    case("pc bios", NOBODY, 5, ERROR),
    case(
        "pc once",
        &["127.0.0.1", "network", "--port", "1"],
        5,
        ERROR,
    ),
    case(
        "pc redirection",
        &["127.0.0.1", "off", "--port", "1"],
        5,
        ERROR,
    ),
    case("pc sol", NOBODY, 5, ERROR),
    // Refused before the PC is asked: there is no stage one in this home.
    case("pc boot", &["127.0.0.1", "--image", "small"], 1, ERROR),
];

/// Subcommands that have none of their own, with all their words.
fn leaves(command: &clap::Command, words: &str, found: &mut BTreeSet<String>) {
    let mut below = command
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
        .peekable();
    if below.peek().is_none() {
        found.insert(words.trim().to_owned());
    }
    for command in below {
        leaves(command, &format!("{words} {}", command.get_name()), found);
    }
}

#[test]
fn every_case_is_a_subcommand_and_the_rest_speak_json_or_ask_for_arguments() {
    let mut all = BTreeSet::new();
    leaves(&Cli::command(), "", &mut all);
    let cases: BTreeSet<String> = CASES.iter().map(|case| case.name.to_owned()).collect();
    let gone: Vec<_> = cases.difference(&all).collect();
    assert!(gone.is_empty(), "no such subcommand: {gone:?}");
    let dir = folder();
    for words in all.difference(&cases) {
        let output = program(dir.path())
            .current_dir(dir.path())
            .args(words.split(' '))
            .arg("--json")
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let context = format!("{words}: {}{}", out(&output), err(&output));
        // What is missing on the command line is said on standard error, as a person reads it.
        let asks = code(&output) == 2 && err(&output).contains("Usage:");
        assert!(asks || !json_lines(&output).is_empty(), "{context}");
    }
}

fn run(dir: &Path, case: &Case, session: &str, server: &str) -> Output {
    let mut command = program(dir);
    command.current_dir(dir).args(case.name.split(' '));
    for argument in case.arguments {
        command.arg(if *argument == "ID" { session } else { argument });
    }
    if case.name.starts_with("session ") {
        command.args(["--server", server]);
    }
    command
        .arg("--json")
        .env("SPARETIRE_AMT_PASSWORD", "P@ssw0rd")
        .output()
        .unwrap()
}

/// Only what `image import` looks at: the setup header of a 64-bit bzImage.
fn kernel() -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&0x020cu16.to_le_bytes());
    bytes[0x236] = 1;
    bytes
}

#[test]
fn with_json_standard_output_is_json_whatever_the_command_and_its_end() {
    let dir = folder();
    let dir = dir.path();
    std::fs::write(dir.join("kernel"), kernel()).unwrap();
    let serving = Serving::start(dir, "127.0.0.1:0");
    let mut session = String::new();
    for case in CASES {
        let output = run(dir, case, &session, &serving.url);
        let context = format!("{}: {}{}", case.name, out(&output), err(&output));
        assert_eq!(code(&output), case.code, "{context}");
        let lines = json_lines(&output);
        let last = lines
            .last()
            .unwrap_or_else(|| panic!("said nothing: {context}"));
        for key in case.keys {
            assert!(last.get(key).is_some(), "no {key}: {context}");
        }
        for line in &lines {
            assert!(line.is_object() || line.is_array(), "{context}");
        }
        if case.name == "session create" {
            session = last["id"].as_str().unwrap().to_owned();
        }
        if case.name == "image list" {
            assert_eq!(last[0]["name"], "small", "{context}");
        }
        if case.code != 0 {
            assert_eq!(last["code"], case.code, "{context}");
        }
    }
    serving.stop();
}

#[test]
fn progress_is_told_as_lines_before_the_result() {
    let dir = folder();
    let dir = dir.path();
    std::fs::write(dir.join("kernel"), kernel()).unwrap();
    for case in &CASES[..3] {
        let output = run(dir, case, "", "");
        assert_eq!(code(&output), 0, "{}", err(&output));
        if case.name == "image import" {
            let lines = json_lines(&output);
            let (result, progress) = lines.split_last().unwrap();
            assert!(!progress.is_empty(), "{lines:?}");
            assert!(
                progress
                    .iter()
                    .all(|line: &Value| line["event"].is_string()),
                "{lines:?}"
            );
            assert!(result.get("event").is_none(), "{lines:?}");
        }
    }
}

#[test]
fn a_version_that_cannot_be_read_is_named_and_hides_no_other() {
    let dir = folder();
    let dir = dir.path();
    std::fs::write(dir.join("kernel"), kernel()).unwrap();
    for case in &CASES[..3] {
        assert_eq!(code(&run(dir, case, "", "")), 0);
    }
    std::fs::create_dir_all(dir.join("store/images/broken/7")).unwrap();
    std::fs::write(dir.join("store/images/broken/7/manifest.json"), "{").unwrap();
    std::fs::write(dir.join("store/images/broken/7/manifest.json.minisig"), "").unwrap();
    let output = program(dir)
        .args(["image", "list", "--json"])
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", err(&output));
    let lines = json_lines(&output);
    let [remark, rows] = lines.as_slice() else {
        panic!("{lines:?}");
    };
    assert_eq!(remark["event"], "unreadable");
    assert_eq!(
        (&remark["name"], &remark["version"]),
        (&"broken".into(), &7.into())
    );
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(rows[0]["name"], "small");
}
