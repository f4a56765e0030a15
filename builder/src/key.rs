//! The subcommand `key`: making and showing the keys that sign images.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::{Ui, default_key_dir};
use crate::signing::{self, Password, PublicKey};

/// Makes, shows and changes the keys that sign images.
#[derive(Debug, clap::Subcommand)]
pub enum KeyCommand {
    /// Make a key pair; existing keys are never overwritten
    ///
    /// The files are minisign's own, so `minisign` reads them. The password that protects the
    /// secret key comes from SPARETIRE_KEY_PASSWORD, from --password-file, or from a prompt.
    Generate(GenerateArgs),
    /// Print the public key, its id and where it is stored
    Show(ShowArgs),
    /// Make a new key in place of the present one, which is kept beside it
    ///
    /// The old key's files get its id into their names: default.ID.key and default.ID.pub. PCs believe the old key until
    /// they are told otherwise, so for a while both sign: `image resign --key NEW --key OLD`, and the same two keys for
    /// every import. docs/store.md has the whole course.
    Rotate(GenerateArgs),
}

/// Arguments of `key generate` and `key rotate`.
#[derive(Debug, clap::Args)]
pub struct GenerateArgs {
    /// Secret key file to write [default: sparetire/keys/default.key in the configuration directory]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE", conflicts_with = "no_password")]
    password_file: Option<PathBuf>,
    /// Store the secret key without a password, protected by file permissions alone
    #[arg(long)]
    no_password: bool,
}

/// Arguments of `key show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Secret key file; its public half is read from the file beside it
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Serialize)]
struct KeyInfo<'a> {
    id: &'a str,
    public_key: &'a str,
    secret_file: &'a std::path::Path,
    public_file: &'a std::path::Path,
}

impl KeyCommand {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What went wrong, with its exit code.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        match self {
            Self::Generate(args) => {
                let path = key_path(args.key.clone())?;
                let (public, public_file) = signing::generate(&path, &args.password())?;
                args.note(ui, &path);
                print(ui, &public, &path, &public_file)
            }
            Self::Rotate(args) => {
                let path = key_path(args.key.clone())?;
                let (public, old) = signing::rotate(&path, &args.password())?;
                args.note(ui, &path);
                ui.note(format!(
                    "The old key is {} now. Until all PCs trust the new one, let both sign:\n  \
                     sparetire image resign --key {} --key {}",
                    old.display(),
                    path.display(),
                    old.display()
                ));
                print(ui, &public, &path, &signing::public_path(&path))
            }
            Self::Show(args) => {
                let path = key_path(args.key)?;
                let public_file = signing::public_path(&path);
                let public = PublicKey::read(&public_file)?;
                print(ui, &public, &path, &public_file)
            }
        }
    }
}

impl GenerateArgs {
    fn password(&self) -> Password {
        if self.no_password {
            return Password::None;
        }
        Password::Ask {
            file: self.password_file.clone(),
        }
    }

    fn note(&self, ui: &Ui, path: &std::path::Path) {
        if self.no_password {
            ui.note(format!(
                "The secret key has no password: whoever can read {} can sign images.",
                path.display()
            ));
        }
    }
}

/// The key named on the command line, or the user's default one.
pub(crate) fn key_path(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    match given {
        Some(path) => Ok(path),
        None => Ok(default_key_dir()?.join("default.key")),
    }
}

fn print(
    ui: &Ui,
    public: &PublicKey,
    secret_file: &std::path::Path,
    public_file: &std::path::Path,
) -> anyhow::Result<()> {
    if ui.json {
        return ui.print_json(&KeyInfo {
            id: &public.id,
            public_key: &public.line,
            secret_file,
            public_file,
        });
    }
    ui.line(format_args!("key id      {}", public.id));
    ui.line(format_args!("public key  {}", public.line));
    ui.line(format_args!("secret file {}", secret_file.display()));
    ui.line(format_args!("public file {}", public_file.display()));
    Ok(())
}
