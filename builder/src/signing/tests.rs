//! Our files under Debian's minisign, and minisign's files under ours.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use sparetire_manifest::{Digest, Latest, Timestamp, TrustedKeys, VerifyError, verify_latest};

use super::*;
use crate::exit::exit_code_of;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn password(&self, text: &str) -> Password {
        let path = self.path(&format!("password-{text}"));
        fs::write(&path, format!("{text}\n")).unwrap();
        Password::Ask { file: Some(path) }
    }

    fn minisign(&self, arguments: &[&str], input: &str) -> bool {
        let mut child = Command::new("minisign")
            .args(arguments)
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        child.wait().unwrap().success()
    }
}

fn has_minisign() -> bool {
    let found = Command::new("minisign").arg("-v").output().is_ok();
    if !found {
        eprintln!("SKIPPED: minisign is not installed");
    }
    found
}

const NOW: Timestamp = Timestamp::from_unix(1_795_305_240);

fn latest() -> Latest {
    Latest {
        format: 1,
        name: "small".parse().unwrap(),
        version: 7,
        manifest: Digest::of(b"manifest"),
        issued: NOW,
        expires: Timestamp::from_unix(NOW.unix() + 60),
    }
}

fn check(bytes: &[u8], signature: &str, key: &PublicKey) -> Result<(), VerifyError> {
    let keys = TrustedKeys::parse([key.line.as_str()].into_iter()).unwrap();
    verify_latest(bytes, signature, &keys, NOW, 0).map(drop)
}

#[test]
fn minisign_signs_with_our_keys_and_we_believe_it() {
    if !has_minisign() {
        return;
    }
    let dir = Dir::new();
    let bytes = latest().to_json();
    fs::write(dir.path("latest.json"), &bytes).unwrap();
    let comment = latest().trusted_comment();
    for (name, password, typed) in [
        ("plain.key", Password::None, ""),
        ("locked.key", dir.password("open sesame"), "open sesame\n"),
    ] {
        let (public, public_file) = generate(&dir.path(name), &password).unwrap();
        let mut arguments = vec!["-S", "-s", name, "-m", "latest.json", "-t", &comment];
        if typed.is_empty() {
            arguments.push("-W");
        }
        assert!(dir.minisign(&arguments, typed), "{name}");
        let signature = fs::read_to_string(dir.path("latest.json.minisig")).unwrap();
        check(&bytes, &signature, &public).unwrap();
        assert_eq!(PublicKey::read(&public_file).unwrap(), public);
    }
}

#[test]
fn we_sign_with_minisigns_keys_and_minisign_believes_it() {
    if !has_minisign() {
        return;
    }
    let dir = Dir::new();
    let bytes = latest().to_json();
    fs::write(dir.path("latest.json"), &bytes).unwrap();
    assert!(dir.minisign(&["-G", "-W", "-p", "m.pub", "-s", "m.key"], ""));
    let key = SigningKey::read(&dir.path("m.key"), &Password::None).unwrap();
    assert_eq!(key.public(), &PublicKey::read(&dir.path("m.pub")).unwrap());
    let signature = key.sign(&bytes, &latest().trusted_comment()).unwrap();
    check(&bytes, &signature, key.public()).unwrap();
    fs::write(dir.path("latest.json.minisig"), signature).unwrap();
    let verify = ["-V", "-p", "m.pub", "-m", "latest.json"];
    assert!(dir.minisign(&verify, ""));
    fs::write(dir.path("latest.json"), "something else").unwrap();
    assert!(!dir.minisign(&verify, ""));
}

#[test]
fn a_signature_counts_for_nothing_under_another_purpose() {
    let dir = Dir::new();
    let (public, _) = generate(&dir.path("k.key"), &Password::None).unwrap();
    let key = SigningKey::read(&dir.path("k.key"), &Password::None).unwrap();
    let bytes = latest().to_json();
    let signature = key.sign(&bytes, "sparetire manifest small 7").unwrap();
    let refusal = check(&bytes, &signature, &public).unwrap_err();
    assert!(
        matches!(refusal, VerifyError::WrongComment { .. }),
        "{refusal}"
    );
}

#[test]
fn a_wrong_password_is_refused() {
    let dir = Dir::new();
    let path = dir.path("locked.key");
    let (public, _) = generate(&path, &dir.password("right")).unwrap();
    let key = SigningKey::read(&path, &dir.password("right")).unwrap();
    assert_eq!(key.public(), &public);
    let error = SigningKey::read(&path, &dir.password("wrong")).unwrap_err();
    assert_eq!(exit_code_of(&error), ExitCode::Refused);
    let error = SigningKey::read(&path, &Password::None).unwrap_err();
    assert_eq!(exit_code_of(&error), ExitCode::Usage);
}

#[test]
fn only_its_owner_reads_a_secret_key_and_nobody_overwrites_it() {
    let dir = Dir::new();
    let path = dir.path("keys/default.key");
    generate(&path, &Password::None).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&dir.path("keys")), 0o700);
    let before = fs::read(&path).unwrap();
    let error = generate(&path, &Password::None).unwrap_err();
    assert_eq!(exit_code_of(&error), ExitCode::Refused);
    fs::remove_file(&path).unwrap();
    // The public half alone is enough to refuse: PCs may trust it.
    assert!(generate(&path, &Password::None).is_err());
    assert!(!path.exists());
    assert!(!before.is_empty());
}

#[test]
fn a_damaged_key_without_password_is_refused() {
    use ct_codecs::{Base64, Decoder, Encoder};
    let dir = Dir::new();
    let path = dir.path("k.key");
    generate(&path, &Password::None).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let (comment, line) = text.split_once('\n').unwrap();
    let good = Base64::decode_to_vec(line.trim(), None).unwrap();
    // With the checksum, and without one as minisign leaves it, in the secret half and the public.
    for (at, checksum) in [(70, true), (70, false), (100, true), (100, false)] {
        let mut bytes = good.clone();
        if !checksum {
            bytes[126..].fill(0);
            let whole = Base64::encode_to_string(&bytes).unwrap();
            fs::write(&path, format!("{comment}\n{whole}\n")).unwrap();
            SigningKey::read(&path, &Password::None).unwrap();
        }
        bytes[at] ^= 1;
        let damaged = Base64::encode_to_string(&bytes).unwrap();
        fs::write(&path, format!("{comment}\n{damaged}\n")).unwrap();
        assert!(
            SigningKey::read(&path, &Password::None).is_err(),
            "{at} {checksum}"
        );
    }
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let dir = Dir::new();
    generate(&dir.path("k.key"), &Password::None).unwrap();
    let key = SigningKey::read(&dir.path("k.key"), &Password::None).unwrap();
    let shown = format!("{key:?}");
    assert!(shown.len() < 60, "{shown}");
}

#[test]
fn files_that_are_no_keys_are_refused() {
    let dir = Dir::new();
    for (name, content) in [
        ("empty", String::new()),
        ("text", "untrusted comment: x\nnot base64\n".to_owned()),
        ("short", "untrusted comment: x\nRWRTY0Iy\n".to_owned()),
        ("long", "x".repeat(20_000)),
    ] {
        let path = dir.path(name);
        fs::write(&path, content).unwrap();
        assert!(
            SigningKey::read(&path, &dir.password("p")).is_err(),
            "{name}"
        );
        assert!(PublicKey::read(&path).is_err(), "{name}");
    }
}
