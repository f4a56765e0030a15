//! The operator's token: the one key to the session API.
//!
//! It comes from the environment, from a named file, or from `operator-token` in the state
//! folder, where the first start writes a random one that only the server's user can read.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use zeroize::Zeroizing;

use super::token::Token;

/// The environment variable that carries the token itself, for server and client.
pub const TOKEN_VARIABLE: &str = "SPARETIRE_OPERATOR_TOKEN";

/// Where the token of a server with this state folder lies by default.
#[must_use]
pub fn default_file(state: &Path) -> PathBuf {
    state.join("operator-token")
}

/// Reads a token file: one line, white space around it ignored.
///
/// # Errors
///
/// When the file cannot be read, is readable by everyone, or holds no plausible token.
pub fn read(path: &Path) -> anyhow::Result<Token> {
    let show = path.display();
    let mode = std::fs::metadata(path)
        .with_context(|| format!("reading operator token from {show}"))?
        .mode();
    ensure!(
        mode & 0o007 == 0,
        "operator token {show} is open to every user of this machine (mode {:03o}); chmod 600 it and make a new one",
        mode & 0o777
    );
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .with_context(|| format!("reading operator token from {show}"))?;
    check(text.trim()).with_context(|| format!("reading operator token from {show}"))
}

/// Reads the token from the environment, if it is there.
///
/// # Errors
///
/// When what is there is no plausible token.
pub fn from_environment() -> anyhow::Result<Option<Token>> {
    let Some(text) = std::env::var_os(TOKEN_VARIABLE) else {
        return Ok(None);
    };
    let text = Zeroizing::new(text.into_string().unwrap_or_default());
    let token = check(&text).with_context(|| format!("reading ${TOKEN_VARIABLE}"))?;
    Ok(Some(token))
}

/// Takes a token from text that an operator chose.
///
/// # Errors
///
/// When it is too short to be secret, or cannot stand in a header.
pub fn check(text: &str) -> anyhow::Result<Token> {
    ensure!(
        text.len() >= MIN_LENGTH,
        "the token has {} characters, at least {MIN_LENGTH} are needed",
        text.len()
    );
    ensure!(
        text.bytes().all(|byte| byte.is_ascii_graphic()),
        "the token holds characters other than printable ASCII without spaces"
    );
    Ok(Token::new(text.to_owned()))
}

/// Reads the token file, or writes a new random token there when there is none yet. Two servers
/// starting at once end up with the same token.
///
/// # Errors
///
/// When the file can be neither read nor written.
pub(super) fn read_or_create(path: &Path) -> anyhow::Result<Token> {
    if !path.exists() {
        create(path).with_context(|| format!("writing operator token to {}", path.display()))?;
    }
    read(path)
}

fn create(path: &Path) -> anyhow::Result<()> {
    let token = Token::random().context("making a random token")?;
    let folder = path.parent().unwrap_or(Path::new("."));
    // A named temporary file has mode 0600 from its first moment.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{}", token.reveal())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(lost) if lost.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error.into()),
    }
}

/// 128 bits in hex; ours have 64 characters.
const MIN_LENGTH: usize = 32;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn first_start_writes_a_token_that_later_starts_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = default_file(dir.path());
        let first = read_or_create(&path).unwrap();
        let again = read_or_create(&path).unwrap();
        assert_eq!(first.reveal(), again.reveal());
        let mode = std::fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn refuses_a_token_file_that_everyone_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = default_file(dir.path());
        read_or_create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = format!("{:#}", read_or_create(&path).unwrap_err());
        assert!(error.contains("mode 644"), "{error}");
    }

    #[test]
    fn refuses_tokens_that_are_short_or_unsendable() {
        assert!(check("hunter2").is_err());
        assert!(check(&"x".repeat(32)).is_ok());
        assert!(check(&format!("{}\n", "x".repeat(40))).is_err());
    }
}
