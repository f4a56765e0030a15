//! The command line: every subcommand of the one program, noun before verb.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use sparetire_builder::cli::UiArgs;
use sparetire_builder::image::ImageCommand;
use sparetire_builder::key::KeyCommand;
use sparetire_builder::stage1::cli::Stage1Command;

use crate::doctor::DoctorArgs;
use crate::pc::PcCommand;
use crate::serve::ServeArgs;
use crate::session::SessionCommand;

/// Boots a broken PC from far away: a tiny stage one over a slow link, the real image over HTTP.
#[derive(Debug, Parser)]
#[command(version, after_long_help = EXIT_CODES)]
pub struct Cli {
    /// How to talk.
    #[command(flatten)]
    pub ui: UiArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Stage one: the small ISO that crosses the slow link
    #[command(subcommand)]
    Stage1(Stage1Command),
    /// Images: put them into a store, look at them, check them
    #[command(subcommand)]
    Image(ImageCommand),
    /// Signing keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// One PC with Intel AMT: look at it, switch it, start it into its BIOS
    #[command(subcommand)]
    Pc(PcCommand),
    /// Serve an image store and the boot-session API
    Serve(ServeArgs),
    /// Boot sessions: make one, watch its PC boot, end it
    #[command(subcommand)]
    Session(SessionCommand),
    /// Check this machine's set-up: parts, keys, store, disks, ports, clock
    ///
    /// Changes nothing. Ends with 1 when a check failed; warnings do not count.
    Doctor(DoctorArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages, one per subcommand
    Man {
        /// Folder to write them to; created when missing
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line or a configuration file makes no sense
  3  refused by policy
  4  verification failed: signature, digest, expiry or version order
  5  the other side did not answer";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_option_takes_a_secret_as_its_value() {
        fn visit(command: &clap::Command) {
            for argument in command.get_arguments() {
                let name = argument.get_id().as_str();
                let secret = ["token", "password", "secret", "passphrase"];
                assert!(
                    !secret.iter().any(|word| name.ends_with(word))
                        || !argument.get_action().takes_values(),
                    "{} {name}: secrets come from environment, file or prompt",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }

    #[test]
    fn every_exit_code_is_documented() {
        use sparetire_builder::exit::ExitCode;
        for code in [
            ExitCode::Done,
            ExitCode::Failed,
            ExitCode::Usage,
            ExitCode::Refused,
            ExitCode::Verification,
            ExitCode::Unreachable,
        ] {
            assert!(EXIT_CODES.contains(&format!("\n  {}  ", code as u8)));
        }
    }
}
