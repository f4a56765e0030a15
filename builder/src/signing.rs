//! Signing keys and signatures in minisign's file formats.
//!
//! Secret and public key files are the ones Debian's `minisign` writes and reads; signatures are
//! its prehashed kind (`ED`). The trusted comment, which the signature covers, says what was
//! signed and for which name and version, so that one signed file cannot stand in for another.
//! Checking signatures is not done here but in `sparetire-manifest`, which the loader uses too.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use minisign::{KeyPair, PublicKeyBox, SecretKey, SecretKeyBox};

use crate::exit::{ExitCode, WithCode, coded};

/// The environment variable a key's password may come from.
pub const PASSWORD_VARIABLE: &str = "SPARETIRE_KEY_PASSWORD";

/// Key files are a few hundred bytes; anything longer is some other file.
const MAX_KEY_FILE: u64 = 16 * 1024;

/// Where the password of a secret key comes from.
#[derive(Debug, Clone)]
pub enum Password {
    /// The environment, then the file, then a prompt on the terminal.
    Ask {
        /// A file whose first line is the password.
        file: Option<PathBuf>,
    },
    /// The key is stored without a password.
    None,
}

impl Password {
    /// The password; asked for twice when it is a `new` one.
    fn get(&self, new: bool) -> anyhow::Result<Option<String>> {
        let Self::Ask { file } = self else {
            return Ok(None);
        };
        if let Ok(password) = std::env::var(PASSWORD_VARIABLE) {
            return Ok(Some(password));
        }
        if let Some(file) = file {
            let text = read_small(file)?;
            return Ok(Some(text.lines().next().unwrap_or_default().to_owned()));
        }
        if !std::io::stdin().is_terminal() {
            return Err(coded(
                ExitCode::Usage,
                anyhow!(
                    "the key needs a password: set {PASSWORD_VARIABLE}, name a password file, or run on a terminal"
                ),
            ));
        }
        let password = rpassword::prompt_password("Password of the signing key: ")
            .context("reading the password from the terminal")?;
        if new {
            let again = rpassword::prompt_password("The same once more: ")
                .context("reading the password from the terminal")?;
            if password != again {
                return Err(coded(ExitCode::Usage, anyhow!("the two passwords differ")));
            }
        }
        Ok(Some(password))
    }
}

/// A public key as it stands in a `.pub` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// The base64 line, `RW...`.
    pub line: String,
    /// The key id as minisign prints it: 16 hexadecimal digits.
    pub id: String,
}

impl PublicKey {
    /// Reads a `.pub` file, or a file holding the bare base64 line.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or holds no minisign public key.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = read_small(path)?;
        Self::parse(&text).with_context(|| format!("reading public key {}", path.display()))
    }

    /// Parses the text of a `.pub` file, or the bare base64 line.
    ///
    /// # Errors
    ///
    /// When there is no minisign public key in it.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let line = text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with("untrusted comment:"))
            .ok_or_else(|| anyhow!("there is no key in it"))?;
        let key = minisign::PublicKey::from_base64(line).context("decoding the key")?;
        Ok(Self::of(&key))
    }

    /// Whether a signature names this key; that proves nothing.
    #[must_use]
    pub fn has_signed(&self, signature: &str) -> bool {
        // Both lines begin with two bytes of algorithm, then the eight of the key's id; digits 3 to
        // 12 of the base64 are made of those eight bytes alone.
        let id = |line: &str| line.get(3..13).map(str::to_owned);
        signature
            .lines()
            .nth(1)
            .and_then(id)
            .is_some_and(|found| id(&self.line) == Some(found))
    }

    fn of(key: &minisign::PublicKey) -> Self {
        Self {
            line: key.to_base64(),
            id: key_id(key.keynum()),
        }
    }
}

/// minisign prints the eight bytes as one little-endian number.
fn key_id(bytes: &[u8]) -> String {
    bytes
        .iter()
        .rev()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

/// A secret key ready to sign.
pub struct SigningKey {
    secret: SecretKey,
    public: PublicKey,
    /// Keys that sign as well, while keys change.
    further: Vec<SigningKey>,
}

// The crate's own Debug prints the secret.
impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.public.id)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads a secret key file, asking for its password if it has one.
    ///
    /// # Errors
    ///
    /// When the file is missing, is no minisign secret key, or the password is wrong.
    pub fn read(path: &Path, password: &Password) -> anyhow::Result<Self> {
        let text = read_small(path).map_err(|error| {
            error.context("reading the signing key (`sparetire key generate` makes one)")
        })?;
        Self::parse(&text, password)
            .with_context(|| format!("reading signing key {}", path.display()))
    }

    fn parse(text: &str, password: &Password) -> anyhow::Result<Self> {
        let boxed = SecretKeyBox::from(text.to_owned());
        // Only the key itself knows whether it is encrypted, and asking for a password that is
        // not needed would stop every script.
        let unlocked = match boxed.clone().into_unencrypted_secret_key() {
            Ok(secret) => Ok(secret),
            Err(error) => without_checksum(text).ok_or(error),
        };
        let secret = match unlocked {
            Ok(secret) => secret,
            Err(plain) => {
                if !looks_encrypted(text) {
                    return Err(anyhow::Error::new(plain).context("decoding the key"));
                }
                let password = password
                    .get(false)?
                    .ok_or_else(|| coded(ExitCode::Usage, anyhow!("this key has a password")))?;
                boxed
                    .into_secret_key(Some(password))
                    .context("decrypting the key")
                    .code(ExitCode::Refused)?
            }
        };
        let public =
            minisign::PublicKey::from_secret_key(&secret).context("deriving the public key")?;
        Ok(Self {
            secret,
            public: PublicKey::of(&public),
            further: Vec::new(),
        })
    }

    /// Has `further` keys sign everything as well, so that readers who trust any of them believe it.
    #[must_use]
    pub fn and(mut self, further: Vec<SigningKey>) -> Self {
        self.further.extend(further);
        self
    }

    /// The public halves of all keys that sign.
    pub fn public_keys(&self) -> impl Iterator<Item = &PublicKey> {
        std::iter::once(&self.public).chain(self.further.iter().map(|key| &key.public))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `bytes`; the result is the text of a `.minisig` file, one signature after another
    /// when further keys sign as well.
    ///
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub fn sign(&self, bytes: &[u8], trusted_comment: &str) -> anyhow::Result<String> {
        let signature = minisign::sign(
            None,
            &self.secret,
            bytes,
            Some(trusted_comment),
            Some("signature from sparetire"),
        )
        .context("signing")?;
        let mut text = signature.into_string();
        for key in &self.further {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&key.sign(bytes, trusted_comment)?);
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(text)
    }
}

/// A key that `minisign -G -W` (0.11) made: no password, and zeros where the checksum belongs.
///
/// The crate refuses those. In place of the checksum, the key has to verify its own signature.
fn without_checksum(text: &str) -> Option<SecretKey> {
    use ct_codecs::Decoder;
    // Two bytes each of signature, key derivation and checksum algorithm; salt and limits; key id;
    // secret and public key; checksum. All as one line of base64.
    let bytes = ct_codecs::Base64::decode_to_vec(text.lines().nth(1)?.trim(), None).ok()?;
    let is_plain = bytes.len() == 158 && bytes.get(2..4)? == [0, 0];
    if !is_plain || bytes.get(126..)?.iter().any(|byte| *byte != 0) {
        return None;
    }
    let secret = SecretKey::from_bytes(&bytes).ok()?;
    let public = minisign::PublicKey::from_secret_key(&secret).ok()?;
    minisign::sign(Some(&public), &secret, &b"test"[..], None, None).ok()?;
    Some(secret)
}

/// minisign secret key: `Ed`, then the key derivation, `Sc` (scrypt) or two zero bytes. In base64
/// the first four bytes `45 64 53 63` begin with `RWRTY`.
fn looks_encrypted(text: &str) -> bool {
    text.lines()
        .nth(1)
        .is_some_and(|line| line.starts_with("RWRTY"))
}

/// Makes a key pair: the secret key in `path` (readable by its owner only), the public key beside
/// it with the extension `pub`. Existing files are never replaced.
///
/// # Errors
///
/// When a file exists already or cannot be written.
pub fn generate(path: &Path, password: &Password) -> anyhow::Result<(PublicKey, PathBuf)> {
    let public_path = public_path(path);
    for existing in [path, public_path.as_path()] {
        if existing.exists() {
            return Err(coded(
                ExitCode::Refused,
                anyhow!(
                    "{} exists; a signing key is never overwritten",
                    existing.display()
                ),
            ));
        }
    }
    let pair = match password.get(true)? {
        Some(password) => KeyPair::generate_encrypted_keypair(Some(password)),
        None => KeyPair::generate_unencrypted_keypair(),
    }
    .context("generating a key pair")?;
    let public = PublicKey::of(&pair.pk);
    let secret_text = pair
        .sk
        .to_box(Some("sparetire secret key"))
        .context("encoding the secret key")?
        .into_string();
    let public_text = format!(
        "untrusted comment: sparetire public key {}\n{}\n",
        public.id, public.line
    );
    // Guards against a slip in the line above: what is written must read back as this key.
    PublicKeyBox::from(public_text.clone())
        .into_public_key()
        .context("reading the new public key back")?;

    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        create_private_dir(dir)?;
    }
    write_new(path, secret_text.as_bytes(), 0o600)?;
    write_new(&public_path, public_text.as_bytes(), 0o644)?;
    Ok((public, public_path))
}

/// Makes a key pair in place of the one at `path`, which keeps lying beside it under names with its
/// id. Returns the new public key, and the old secret key's file.
///
/// The old pair has its further names before the first file is replaced, so a key is never lost.
///
/// # Errors
///
/// When there is no key at `path`, or a file cannot be written.
pub fn rotate(path: &Path, password: &Password) -> anyhow::Result<(PublicKey, PathBuf)> {
    let old_public = public_path(path);
    let old = PublicKey::read(&old_public)?;
    let kept = path.with_extension(format!("{}.key", old.id));
    let kept_public = path.with_extension(format!("{}.pub", old.id));
    let new = path.with_extension("new.key");
    let (public, new_public) = generate(&new, password)?;
    for (from, to) in [(path, &kept), (&old_public, &kept_public)] {
        match std::fs::hard_link(from, to) {
            Ok(()) => {}
            // A rotation that was interrupted here.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("keeping the old key as {}", to.display()));
            }
        }
    }
    for (from, to) in [(&new, path), (&new_public, old_public.as_path())] {
        std::fs::rename(from, to).with_context(|| format!("putting {} in place", to.display()))?;
    }
    Ok((public, kept))
}

/// The public key's file beside a secret key's.
#[must_use]
pub fn public_path(secret: &Path) -> PathBuf {
    secret.with_extension("pub")
}

fn create_private_dir(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("creating directory {}", dir.display()))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

fn read_small(path: &Path) -> anyhow::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    file.take(MAX_KEY_FILE + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("reading {}", path.display()))?;
    if text.len() as u64 > MAX_KEY_FILE {
        bail!("{} is too long for a key file", path.display());
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
