//! Which exit code a failure ends the program with.
//!
//! The codes are part of the command line's interface and documented there: 0 done, 1 failed,
//! 2 usage, 3 refused by policy, 4 verification failed, 5 peer unreachable. The code travels
//! inside the error, where the failure is known, so that `main` need not guess.

use std::fmt;

/// What the program tells its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything asked for was done.
    Done = 0,
    /// Something failed that has no code of its own.
    Failed = 1,
    /// The command line or a configuration file makes no sense.
    Usage = 2,
    /// A rule forbids it: a file that would be overwritten, a policy, a missing permission.
    Refused = 3,
    /// A signature, digest, expiry date or version order does not hold.
    Verification = 4,
    /// The other side did not answer.
    Unreachable = 5,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// An error that knows its exit code.
#[derive(Debug)]
pub struct Coded {
    /// What to exit with.
    pub code: ExitCode,
    /// What happened.
    pub source: anyhow::Error,
}

// Shows the error it carries, and continues with that one's causes: the code itself must not
// appear as a link of the chain.
impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)
    }
}

impl std::error::Error for Coded {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.chain().nth(1)
    }
}

/// Gives the error of a result its exit code.
pub trait WithCode<T> {
    /// Marks the error, if there is one, with `code`.
    fn code(self, code: ExitCode) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithCode<T> for Result<T, E> {
    fn code(self, code: ExitCode) -> anyhow::Result<T> {
        self.map_err(|error| coded(code, error))
    }
}

/// An error with an exit code, where there is no result to mark.
pub fn coded(code: ExitCode, error: impl Into<anyhow::Error>) -> anyhow::Error {
    anyhow::Error::new(Coded {
        code,
        source: error.into(),
    })
}

/// The exit code an error asks for: the outermost one that was given.
#[must_use]
pub fn exit_code_of(error: &anyhow::Error) -> ExitCode {
    // `downcast_ref` also finds what a later `.context()` was wrapped around.
    if let Some(coded) = error.downcast_ref::<Coded>() {
        return coded.code;
    }
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Coded>())
        .map_or(ExitCode::Failed, |coded| coded.code)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn error_without_a_code_is_a_plain_failure() {
        assert_eq!(exit_code_of(&anyhow!("disk full")), ExitCode::Failed);
    }

    #[test]
    fn code_survives_context_added_later() {
        let error = Err::<(), _>(anyhow!("signature does not match"))
            .code(ExitCode::Verification)
            .context("verifying manifest")
            .context("fetching image")
            .unwrap_err();
        assert_eq!(exit_code_of(&error), ExitCode::Verification);
    }

    #[test]
    fn chain_reads_as_if_the_code_were_not_there() {
        let error = Err::<(), _>(anyhow!("no such key").context("reading key"))
            .code(ExitCode::Usage)
            .context("signing")
            .unwrap_err();
        assert_eq!(format!("{error:#}"), "signing: reading key: no such key");
    }
}
