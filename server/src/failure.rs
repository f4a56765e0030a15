//! How a failure ends the program: the error, each cause on a line of its own, advice if there
//! is any, and the exit code.

use std::io::Write;

use sparetire_builder::cli::Ui;
use sparetire_builder::exit::{ExitCode, exit_code_of};

use crate::session::client::printable;

/// An error that knows what its reader can do about it.
#[derive(Debug)]
pub struct Advised {
    advice: String,
    source: anyhow::Error,
}

// Transparent like the exit code: the advice is no link of the chain.
impl std::fmt::Display for Advised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.source)
    }
}

impl std::error::Error for Advised {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.chain().nth(1)
    }
}

/// Adds advice to an error. An exit code, if it gets one, goes around it.
pub(crate) fn advise(error: impl Into<anyhow::Error>, advice: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Advised {
        advice: advice.into(),
        source: error.into(),
    })
}

/// Prints the error and says which code to exit with.
#[must_use]
pub fn report(error: &anyhow::Error, ui: Ui) -> ExitCode {
    let code = exit_code_of(error);
    let _ = std::io::stderr().lock().write_all(text(error).as_bytes());
    if ui.json {
        let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        // Printing an error must not end in another one.
        let _ = ui.print_json(&serde_json::json!({
            "event": "error",
            "error": error.to_string(),
            "causes": causes,
            "advice": advice_of(error),
            "code": code as u8,
        }));
    }
    code
}

fn text(error: &anyhow::Error) -> String {
    // What peers said may be part of it.
    let mut text = format!("error: {}\n", printable(&error.to_string()));
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        // Some libraries repeat their cause in their own words.
        let cause = cause.to_string();
        if cause != last {
            text.push_str(&format!("  cause: {}\n", printable(&cause)));
        }
        last = cause;
    }
    if let Some(advice) = advice_of(error) {
        text.push_str(&format!("  advice: {advice}\n"));
    }
    text
}

fn advice_of(error: &anyhow::Error) -> Option<&str> {
    // Direct and wrapped in context; the codes' wrapper hides what it carries from the chain.
    let direct = error.downcast_ref::<Advised>();
    let carried = || {
        let coded = error.downcast_ref::<sparetire_builder::exit::Coded>()?;
        coded.source.downcast_ref::<Advised>()
    };
    direct
        .or_else(carried)
        .map(|advised| advised.advice.as_str())
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};
    use sparetire_builder::exit::coded;

    use super::*;

    #[test]
    fn each_cause_has_a_line_and_advice_comes_last() {
        let error = advise(
            anyhow!("connection refused").context("asking http://server/"),
            "start the server",
        );
        let error = Err::<(), _>(coded(ExitCode::Unreachable, error))
            .context("following session abc")
            .unwrap_err();
        assert_eq!(
            text(&error),
            "error: following session abc\n  \
             cause: asking http://server/\n  \
             cause: connection refused\n  \
             advice: start the server\n"
        );
        assert_eq!(exit_code_of(&error), ExitCode::Unreachable);
    }
}
