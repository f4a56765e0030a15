//! What a failed step leaves behind, and the plain screen that shows it: the step, its input,
//! the cause, what to do. Pure.

use std::error::Error;

use crate::sequence::Step;
use crate::text;

/// A step that did not get done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which step.
    pub step: Step,
    /// What it worked on.
    pub input: String,
    /// The cause, then the cause's cause and so on; never empty.
    pub causes: Vec<String>,
    /// What the person in front of the screen can do.
    pub advice: String,
    /// Nothing at the other end answered at all. Decides where a retry starts.
    pub unreachable: bool,
}

impl Failure {
    /// A failure whose cause is an error with its chain of sources.
    pub fn new(
        step: Step,
        input: impl Into<String>,
        cause: &dyn Error,
        advice: impl Into<String>,
    ) -> Self {
        let mut causes = vec![cause.to_string()];
        let mut source = cause.source();
        // A chain is a handful long; a source that names itself must not hang the boot.
        while let Some(cause) = source.filter(|_| causes.len() < 16) {
            causes.push(cause.to_string());
            source = cause.source();
        }
        Self {
            step,
            input: input.into(),
            causes,
            advice: advice.into(),
            unreachable: false,
        }
    }

    /// A failure the loader found out by itself.
    pub fn plain(
        step: Step,
        input: impl Into<String>,
        cause: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            step,
            input: input.into(),
            causes: vec![cause.into()],
            advice: advice.into(),
            unreachable: false,
        }
    }

    /// Marks that nothing answered.
    pub fn unreachable(mut self) -> Self {
        self.unreachable = true;
        self
    }

    /// The causes on one line.
    pub fn cause(&self) -> String {
        self.causes.join(": ")
    }

    /// The screen, without a line break at its end.
    pub fn screen(&self, version: &str) -> String {
        let rule = "=".repeat(79);
        let mut lines = vec![
            String::new(),
            rule.clone(),
            format!(
                "sparetire stage one {version} stopped in step: {}",
                self.step
            ),
            String::new(),
        ];
        let mut field = |name: &str, value: &str| {
            let value = text::printable(value);
            for (at, line) in text::wrap(&value, 68).into_iter().enumerate() {
                let name = if at == 0 { name } else { "" };
                lines.push(format!("  {name:8} {line}").trim_end().to_owned());
            }
        };
        field("input", &self.input);
        for (at, cause) in self.causes.iter().enumerate() {
            field(if at == 0 { "cause" } else { "because" }, cause);
        }
        field("to do", &self.advice);
        lines.push(rule);
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("connecting to 192.0.2.1:8080")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn the_screen_shows_step_input_every_cause_and_advice() {
        let cause = Outer(std::io::Error::other("connection refused"));
        let failure = Failure::new(
            Step::Manifest,
            "image diagnostic from http://192.0.2.1:8080/store",
            &cause,
            "Check that the server runs, and that no firewall stands between it and this PC on its way.",
        );
        assert_eq!(
            failure.screen("1.2.3"),
            "
===============================================================================
sparetire stage one 1.2.3 stopped in step: manifest

  input    image diagnostic from http://192.0.2.1:8080/store
  cause    connecting to 192.0.2.1:8080
  because  connection refused
  to do    Check that the server runs, and that no firewall stands between it
           and this PC on its way.
==============================================================================="
        );
        assert_eq!(
            failure.cause(),
            "connecting to 192.0.2.1:8080: connection refused"
        );
    }

    #[test]
    fn text_from_outside_cannot_draw_on_the_screen() {
        let failure = Failure::plain(Step::Network, "eth0", "NAK: \x1b[2J\x07gone", "");
        let screen = failure.screen("0");
        assert!(screen.contains("NAK: ?[2J?gone"), "{screen}");
    }
}
