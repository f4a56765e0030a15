//! Follows one session until it ends, across interruptions of the connection: whatever breaks,
//! the stream is asked for again from the last event that was seen.

use std::time::Duration;

use anyhow::{Context, anyhow};
use boot_api::{Event, ReportKind, State};
use reqwest::Response;
use sparetire_builder::cli::Ui;
use sparetire_builder::exit::{ExitCode, coded, exit_code_of};
use tokio::time::Instant;

use super::FollowArgs;
use super::client::Client;
use super::sse::{Message, Parser};
use super::story::{Story, sentence};
use super::view::View;
use crate::serve::stream::StateChange;

pub(super) async fn follow(client: &Client, args: &FollowArgs, ui: Ui) -> anyhow::Result<()> {
    let mut following = Following {
        view: View::new(ui),
        story: Story::default(),
        after: 0,
        end: None,
        stop_on_failure: args.stop_on_failure,
    };
    let state = following
        .until_end(client, args)
        .await
        .with_context(|| format!("following session {}", args.id))?;
    following.view.outcome(&args.id, &state, &following.story)?;
    match (following.end, state) {
        (Some(End::Failure(sentence)), _) => Err(anyhow!("{sentence}")),
        (_, State::HandedOff) => Ok(()),
        (_, State::Cancelled) => Err(anyhow!("session {} was cancelled", args.id)),
        (_, state) => Err(anyhow!("session {} ended: {state}", args.id)),
    }
}

struct Following {
    view: View,
    story: Story,
    /// Sequence number of the last event seen.
    after: u64,
    end: Option<End>,
    stop_on_failure: bool,
}

/// Why following is over.
enum End {
    State(State),
    /// A failed step, in words.
    Failure(String),
}

impl Following {
    async fn until_end(&mut self, client: &Client, args: &FollowArgs) -> anyhow::Result<State> {
        let patience = Duration::from_secs(args.patience);
        let mut last_heard = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let seen = self.after;
            let result = match client.stream(&args.id, self.after).await {
                // Nothing more will come: the state alone is missing.
                Ok(None) => return Ok(client.show(&args.id).await?.state),
                Ok(Some(response)) => {
                    let result = self.listen(response).await;
                    last_heard = Instant::now();
                    result
                }
                Err(error) => Err(error),
            };
            match &self.end {
                Some(End::State(state)) => return Ok(*state),
                Some(End::Failure(_)) => return Ok(State::Failed),
                None => {}
            }
            if self.after > seen {
                pause = FIRST_PAUSE;
            }
            if let Err(error) = result {
                // A refusal stays one, however often one asks.
                if exit_code_of(&error) != ExitCode::Unreachable {
                    return Err(error);
                }
                if last_heard.elapsed() + pause > patience {
                    return Err(error);
                }
                self.view
                    .remark(&format!("{error:#}; asking again in {} s", pause.as_secs()))?;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn listen(&mut self, mut response: Response) -> anyhow::Result<()> {
        let mut parser = Parser::default();
        while let Some(bytes) = response.chunk().await.map_err(|error| {
            let error = anyhow::Error::new(error.without_url()).context("reading event stream");
            coded(ExitCode::Unreachable, error)
        })? {
            for message in parser.push(&bytes).context("reading event stream")? {
                self.message(&message)?;
                if self.end.is_some() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn message(&mut self, message: &Message) -> anyhow::Result<()> {
        match message.event.as_str() {
            "state" => {
                let StateChange { state } =
                    serde_json::from_str(&message.data).context("understanding state")?;
                self.view.state(&state)?;
                if state.is_final() {
                    self.end = Some(End::State(state));
                }
            }
            "message" => {
                let event: Event =
                    serde_json::from_str(&message.data).context("understanding event")?;
                // Sent twice by a proxy or a server that restarted: heard once.
                if event.seq <= self.after {
                    return Ok(());
                }
                self.after = event.seq;
                self.story.hear(&event);
                self.view.event(&event)?;
                if self.stop_on_failure
                    && matches!(event.report.kind, ReportKind::StepFailed { .. })
                {
                    self.end = Some(End::Failure(sentence(&event.report.kind)));
                }
            }
            // Types of messages that a newer server may send.
            _ => {}
        }
        Ok(())
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
