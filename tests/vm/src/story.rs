//! What the events of one boot add up to: when each step ran, what was fetched, how much
//! memory it took. Pure: JSON as the session API gives it, times of the loader's own clock.

use std::time::Duration;

use serde_json::Value;

/// One finished step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// When it began, since the loader's start.
    pub from: Duration,
    /// When it ended.
    pub to: Duration,
}

/// One boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Story {
    /// Steps in their order. A step that was tried again is there once for each try.
    pub steps: Vec<Step>,
    /// Bytes of the image that arrived.
    pub fetched: u64,
    /// Most memory in use at a time.
    pub peak_memory: Option<u64>,
    /// When the second system was started, and how.
    pub handed_off: Option<(Duration, String)>,
}

impl Story {
    /// Adds up events.
    #[must_use]
    pub fn of(events: &[Value]) -> Self {
        let mut story = Story::default();
        let mut begun: Vec<(String, Duration)> = Vec::new();
        for report in events.iter().map(|event| &event["report"]) {
            let at = Duration::from_millis(report["at_ms"].as_u64().unwrap_or_default());
            let step = report["step"].as_str().unwrap_or_default();
            let mut end = |name: &str| {
                if let Some(index) = begun.iter().rposition(|(begun, _)| begun == name) {
                    let (name, from) = begun.remove(index);
                    story.steps.push(Step { name, from, to: at });
                }
            };
            match report["kind"].as_str().unwrap_or_default() {
                "step-started" => begun.push((step.to_owned(), at)),
                "step-done" | "step-failed" => end(step),
                "hand-off" => {
                    end("hand-off");
                    story.handed_off =
                        Some((at, report["method"].as_str().unwrap_or_default().to_owned()));
                }
                "progress" => story.fetched = report["done"].as_u64().unwrap_or_default(),
                "memory" => story.peak_memory = report["peak_used"].as_u64().max(story.peak_memory),
                _ => {}
            }
        }
        story
    }

    /// How long a step took in all.
    #[must_use]
    pub fn took(&self, name: &str) -> Duration {
        self.steps
            .iter()
            .filter(|step| step.name == name)
            .map(|step| step.to.saturating_sub(step.from))
            .sum()
    }

    /// Bytes per second while fetching.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        let millis = u64::try_from(self.took("fetch").as_millis())
            .ok()
            .filter(|millis| *millis > 0)?;
        Some(self.fetched.saturating_mul(1000) / millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn events() -> Vec<Value> {
        [
            json!({"at_ms": 100, "kind": "step-started", "step": "network"}),
            json!({"at_ms": 3100, "kind": "step-done", "step": "network", "detail": ""}),
            json!({"at_ms": 3100, "kind": "step-started", "step": "fetch"}),
            json!({"at_ms": 4000, "kind": "progress", "phase": "fetch", "done": 500, "total": 1000}),
            json!({"at_ms": 4100, "kind": "step-failed", "step": "fetch", "cause": "x"}),
            json!({"at_ms": 5000, "kind": "step-started", "step": "fetch"}),
            json!({"at_ms": 6000, "kind": "progress", "phase": "fetch", "done": 1000, "total": 1000}),
            json!({"at_ms": 6000, "kind": "step-done", "step": "fetch"}),
            json!({"at_ms": 6000, "kind": "memory", "total": 9, "available": 5, "peak_used": 4}),
            json!({"at_ms": 6000, "kind": "step-started", "step": "hand-off"}),
            json!({"at_ms": 6500, "kind": "new-in-a-later-version"}),
            json!({"at_ms": 7000, "kind": "hand-off", "method": "kexec-load"}),
        ]
        .into_iter()
        .map(|report| json!({"seq": 1, "report": report}))
        .collect()
    }

    #[test]
    fn each_step_ends_where_its_report_says() {
        let story = Story::of(&events());
        assert_eq!(story.took("network"), Duration::from_secs(3));
        assert_eq!(story.took("hand-off"), Duration::from_secs(1));
        assert_eq!(
            story.handed_off,
            Some((Duration::from_secs(7), "kexec-load".to_owned()))
        );
        assert_eq!(story.peak_memory, Some(4));
    }

    #[test]
    fn a_step_tried_twice_counts_both_times() {
        let story = Story::of(&events());
        assert_eq!(story.took("fetch"), Duration::from_secs(2));
        assert_eq!(story.rate(), Some(500));
    }

    #[test]
    fn events_of_another_shape_are_passed_over() {
        assert_eq!(
            Story::of(&[json!(null), json!({"report": 3}), json!([])]),
            Story::default()
        );
    }
}
