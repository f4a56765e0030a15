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

/// Whom what happens in a session is told to.
pub(crate) trait Watch {
    /// The PC reported.
    fn event(&mut self, event: &Event) -> anyhow::Result<()>;
    /// The session moved on.
    fn state(&mut self, state: &State) -> anyhow::Result<()>;
    /// The server is away, or back.
    fn remark(&mut self, text: &str) -> anyhow::Result<()>;
}

/// What to follow, and how long to bear with the server and the PC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The session's ID.
    pub(crate) id: &'a str,
    /// How long an unreachable server is asked again.
    pub(crate) patience: Duration,
    /// Whether a failed step is the end; otherwise the PC's next try is waited for.
    pub(crate) stop_on_failure: bool,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// The session's last state.
    pub(crate) state: State,
    /// The failed step that following stopped at, in words.
    pub(crate) failure: Option<String>,
    /// All that was heard.
    pub(crate) story: Story,
}

impl Ending {
    /// An error unless the PC was handed off.
    pub(crate) fn into_result(self, id: &str) -> anyhow::Result<()> {
        match (self.failure, self.state) {
            (Some(sentence), _) => Err(anyhow!("{sentence}")),
            (None, State::HandedOff) => Ok(()),
            (None, State::Cancelled) => Err(anyhow!("session {id} was cancelled")),
            (None, state) => Err(anyhow!("session {id} ended: {state}")),
        }
    }
}

/// The command: shows a session until it ends.
pub(super) async fn follow(client: &Client, args: &FollowArgs, ui: Ui) -> anyhow::Result<()> {
    let mut view = View::new(ui);
    let subject = Subject {
        id: &args.id,
        patience: Duration::from_secs(args.patience),
        stop_on_failure: args.stop_on_failure,
    };
    let ending = until_end(client, subject, &mut view).await?;
    view.outcome(&args.id, &ending.state, &ending.story)?;
    ending.into_result(&args.id)
}

/// Tells `watcher` what happens until the session is over.
///
/// # Errors
///
/// When the server refuses or stays away for longer than the patience, or when telling fails.
pub(crate) async fn until_end(
    client: &Client,
    subject: Subject<'_>,
    watcher: &mut impl Watch,
) -> anyhow::Result<Ending> {
    let mut following = Following {
        watcher,
        story: Story::default(),
        after: 0,
        end: None,
        stop_on_failure: subject.stop_on_failure,
    };
    let state = following
        .until_end(client, subject)
        .await
        .with_context(|| format!("following session {}", subject.id))?;
    Ok(Ending {
        state,
        failure: match following.end {
            Some(End::Failure(sentence)) => Some(sentence),
            _ => None,
        },
        story: following.story,
    })
}

struct Following<'a, W> {
    watcher: &'a mut W,
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

impl<W: Watch> Following<'_, W> {
    async fn until_end(&mut self, client: &Client, subject: Subject<'_>) -> anyhow::Result<State> {
        let mut last_heard = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let seen = self.after;
            let result = match client.stream(subject.id, self.after).await {
                // Nothing more will come: the state alone is missing.
                Ok(None) => return Ok(client.show(subject.id).await?.state),
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
                if last_heard.elapsed() + pause > subject.patience {
                    return Err(error);
                }
                self.watcher
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
                self.watcher.state(&state)?;
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
                self.watcher.event(&event)?;
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
