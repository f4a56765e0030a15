//! The subcommand `key`: making and showing the keys that sign images.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::{Ui, default_key_dir};
use crate::signing::{self, Password, PublicKey};

/// Makes and shows the keys that sign images.
#[derive(Debug, clap::Subcommand)]
pub enum KeyCommand {
    /// Make a key pair; existing keys are never overwritten
    ///
    /// The files are minisign's own, so `minisign` reads them. The password that protects the
    /// secret key comes from SPARETIRE_KEY_PASSWORD, from --password-file, or from a prompt.
    Generate(GenerateArgs),
    /// Print the public key, its id and where it is stored
    Show(ShowArgs),
}

/// Arguments of `key generate`.
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
                let path = key_path(args.key)?;
                let password = if args.no_password {
                    Password::None
                } else {
                    Password::Ask {
                        file: args.password_file,
                    }
                };
                let (public, public_file) = signing::generate(&path, &password)?;
                if args.no_password {
                    ui.note(format!(
                        "The secret key has no password: whoever can read {} can sign images.",
                        path.display()
                    ));
                }
                print(ui, &public, &path, &public_file)
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
