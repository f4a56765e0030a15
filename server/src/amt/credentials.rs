//! Where AMT's user name and password come from: environment, file or prompt; never the command line, which every user of
//! this machine can read.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use amt_wsman::digest::Credentials;
use anyhow::{Context, anyhow, ensure};
use serde::Deserialize;
use sparetire_builder::exit::{ExitCode, WithCode, coded};
use zeroize::Zeroizing;

/// The environment variable with the user name.
pub const USER_VARIABLE: &str = "SPARETIRE_AMT_USER";
/// The environment variable with the password.
pub const PASSWORD_VARIABLE: &str = "SPARETIRE_AMT_PASSWORD";

const DEFAULT_USER: &str = "admin";
const MAX_FILE: u64 = 64 * 1024;

/// As whom to log in at a PC.
#[derive(Debug, Clone, clap::Args)]
pub struct CredentialArgs {
    /// TOML file with `user` and `password` of an AMT account, readable by you alone [default: ask]
    ///
    /// $SPARETIRE_AMT_PASSWORD, when set, is the password and wins over any file; $SPARETIRE_AMT_USER is the user name then,
    /// "admin" when not set.
    #[arg(long = "credentials", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    user: String,
    password: String,
}

impl CredentialArgs {
    /// The credentials for a PC; asks for the password on the terminal when nothing else has it.
    ///
    /// # Errors
    ///
    /// When they cannot be had, or cannot be sent.
    pub fn get(&self, host: &str) -> anyhow::Result<Credentials> {
        let user = variable(USER_VARIABLE)?;
        if let Some(password) = variable(PASSWORD_VARIABLE)? {
            let user = user.map_or_else(|| DEFAULT_USER.into(), |user| user.to_string());
            return Credentials::new(user, password)
                .with_context(|| format!("reading ${USER_VARIABLE} and ${PASSWORD_VARIABLE}"))
                .code(ExitCode::Usage);
        }
        if let Some(path) = &self.file {
            return read(path)
                .with_context(|| format!("reading credentials from {}", path.display()))
                .code(ExitCode::Usage);
        }
        let user = user.map_or_else(|| DEFAULT_USER.into(), |user| user.to_string());
        if !std::io::stdin().is_terminal() {
            return Err(coded(
                ExitCode::Usage,
                anyhow!(
                    "no password for {user} at {host}: set ${PASSWORD_VARIABLE}, name a file with --credentials, or run on a \
                     terminal"
                ),
            ));
        }
        let password = rpassword::prompt_password(format!("Password of {user} at {host}: "))
            .map(Zeroizing::new)
            .context("reading the password from the terminal")?;
        Credentials::new(user, password).map_err(|error| coded(ExitCode::Usage, error))
    }
}

fn variable(name: &str) -> anyhow::Result<Option<Zeroizing<String>>> {
    let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    match value.into_string() {
        Ok(value) => Ok(Some(Zeroizing::new(value))),
        Err(_) => Err(coded(ExitCode::Usage, anyhow!("${name} is not UTF-8"))),
    }
}

fn read(path: &Path) -> anyhow::Result<Credentials> {
    let about = std::fs::metadata(path)?;
    ensure!(
        about.mode() & 0o007 == 0,
        "it is open to every user of this machine (mode {:03o}); chmod 600 it and change the password",
        about.mode() & 0o777
    );
    ensure!(about.is_file(), "it is no regular file");
    ensure!(
        about.len() <= MAX_FILE,
        "it is longer than {MAX_FILE} bytes"
    );
    let text = std::fs::read_to_string(path).map(Zeroizing::new)?;
    // The parser's own message would quote the line, password and all.
    let file: File = toml::from_str(&text)
        .map_err(|_| anyhow!("it has to be TOML with `user = \"...\"` and `password = \"...\"`"))?;
    Ok(Credentials::new(file.user, Zeroizing::new(file.password))?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read_text(text: &str, mode: u32) -> anyhow::Result<Credentials> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        read(file.path())
    }

    #[test]
    fn a_private_file_gives_both() {
        let read = read_text("user = \"helpdesk\"\npassword = \"Hd!12345\"\n", 0o600).unwrap();
        assert_eq!(read.user(), "helpdesk");
        assert_eq!(read.password().as_str(), "Hd!12345");
    }

    #[test]
    fn a_file_that_everyone_can_read_is_refused() {
        let error = read_text("user = \"a\"\npassword = \"b\"\n", 0o644).unwrap_err();
        assert!(error.to_string().contains("mode 644"), "{error}");
    }

    #[test]
    fn messages_about_a_file_never_quote_it() {
        for text in [
            "password = \"Hd!12345\"",
            "user = \"a\"\npassword = Hd!12345",
            "user = \"a\"\npassword = \"Hd!12345\"\nrealm = 1",
            "user = \"a\\nb\"\npassword = \"Hd!12345\"",
        ] {
            let error = read_text(text, 0o600).unwrap_err();
            assert!(!format!("{error:#}").contains("Hd!"), "{error:#}");
        }
    }
}
