//! Medians, and results in words and as JSON.

use anyhow::{Context, Result};
use serde::Serialize;

/// The middle one; of an even number, the mean of the middle two. 0 of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or_default();
    if values.len().is_multiple_of(2) && !values.is_empty() {
        let lower = values.get(values.len() / 2 - 1).copied().unwrap_or(upper);
        f64::midpoint(lower, upper)
    } else {
        upper
    }
}

/// A target and what was found.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    /// What is compared.
    pub(crate) what: String,
    /// What was found.
    pub(crate) found: f64,
    /// What it should be, at least or at most.
    pub(crate) target: f64,
    /// Whether it is.
    pub(crate) met: bool,
}

impl Verdict {
    /// A ratio or share that should be `target` or more.
    pub(crate) fn at_least(what: impl Into<String>, found: f64, target: f64) -> Self {
        Self {
            what: what.into(),
            found,
            target,
            met: found >= target,
        }
    }

    /// An amount that should be `target` or less.
    pub(crate) fn at_most(what: impl Into<String>, found: f64, target: f64) -> Self {
        Self {
            what: what.into(),
            found,
            target,
            met: found <= target,
        }
    }

    /// One line for people.
    pub(crate) fn print(&self) {
        let verdict = if self.met { "PASS" } else { "FAIL" };
        println!(
            "{verdict}  {}: {:.2} (target {:.2})",
            self.what, self.found, self.target
        );
    }
}

/// Prints the results as one line of JSON.
pub(crate) fn print_json(results: &impl Serialize) -> Result<()> {
    println!(
        "{}",
        serde_json::to_string(results).context("writing the results")?
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }
}
