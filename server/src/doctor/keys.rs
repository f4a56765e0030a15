//! Is there a signing key, whole and private?

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sparetire_builder::cli::default_key_dir;
use sparetire_builder::signing::{PublicKey, public_path};

use super::Findings;

const CHECK: &str = "signing key";

pub(super) fn check(key: Option<&Path>, findings: &mut Findings) {
    let path = match key {
        Some(path) => path.to_owned(),
        None => match default_key_dir() {
            Ok(dir) => dir.join("default.key"),
            Err(error) => {
                findings.fail(
                    CHECK,
                    format!("{error:#}"),
                    "set HOME, or name the key with --key",
                );
                return;
            }
        },
    };
    let meta = match fs::metadata(&path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            findings.warn(
                CHECK,
                format!(
                    "{} is not there; without a key no image can be imported",
                    path.display()
                ),
                "sparetire key generate",
            );
            return;
        }
        Err(error) => {
            findings.fail(
                CHECK,
                format!("{}: {error}", path.display()),
                "make it readable for this user, and for nobody else",
            );
            return;
        }
    };
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        findings.fail(
            CHECK,
            format!(
                "{} is open to other users (mode {mode:04o}): they may sign images",
                path.display()
            ),
            format!(
                "chmod 600 {}; if someone may have copied it, make a new key and trust only that",
                path.display()
            ),
        );
    } else {
        findings.ok(CHECK, format!("{}, mode {mode:04o}", path.display()));
    }
    let public = public_path(&path);
    match PublicKey::read(&public) {
        Ok(key) => findings.ok("public key", format!("{}, id {}", public.display(), key.id)),
        Err(error) => findings.fail(
            "public key",
            format!("{error:#}"),
            format!(
                "restore {}; `minisign -R -s {} -p {}` makes it again from the secret key",
                public.display(),
                path.display(),
                public.display()
            ),
        ),
    }
}
