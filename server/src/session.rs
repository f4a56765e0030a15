//! `sparetire session`: makes boot sessions, shows them, follows one live, ends them. Talks to a
//! server through its API, so it works from any machine that has the operator's token.

use std::path::PathBuf;

use anyhow::Context;
use boot_api::{CreateSession, ImageName, Session, Target};
use serde_json::json;
use sparetire_builder::cli::Ui;

use self::client::{Client, ServerArgs, printable};

pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod follow;
mod sse;
pub(crate) mod story;
mod view;

/// What can be done with sessions.
#[derive(Debug, clap::Subcommand)]
pub enum SessionCommand {
    /// Make a session for one boot of one PC
    Create(CreateArgs),
    /// List sessions, newest first
    List {
        /// The server.
        #[command(flatten)]
        server: ServerArgs,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Show one session
    Show {
        /// The server.
        #[command(flatten)]
        server: ServerArgs,
        /// The session's id
        id: String,
    },
    /// Watch a session's boot live, until it ends
    ///
    /// Exits with 0 when the PC was handed off to its image, with 1 when the session expired, was
    /// cancelled, or (with --stop-on-failure) when a step failed, with 5 when the server stayed
    /// away.
    Follow(FollowArgs),
    /// End a session: its token opens nothing any more
    Cancel {
        /// The server.
        #[command(flatten)]
        server: ServerArgs,
        /// The session's id
        id: String,
    },
}

/// Options of `session create`.
#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Image to boot
    #[arg(long, value_name = "NAME")]
    pub image: ImageName,
    /// Version of the image [default: the newest]
    #[arg(long, value_name = "VERSION")]
    pub image_version: Option<u64>,
    /// Where the image goes: ram, usb or disk
    #[arg(long, default_value = "ram", value_parser = target)]
    pub target: Target,
    /// Seconds after which the session ends by itself [default: the server's choice]
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<u64>,
    /// A line for whoever reads the list of sessions
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Write what stage one needs for this session (server, token, image) to a file that only
    /// you can read, for `stage1 customize --config`; the token is not printed then
    #[arg(long, value_name = "FILE")]
    pub config_out: Option<PathBuf>,
    /// URL under which the PC reaches the server, if it differs from --server
    #[arg(long, value_name = "URL", requires = "config_out")]
    pub loader_server: Option<String>,
    /// URL of an image store for the PC; repeatable [default: the server's own]
    #[arg(long, value_name = "URL", requires = "config_out")]
    pub store_url: Vec<String>,
}

/// Options of `session follow`.
#[derive(Debug, clap::Args)]
pub struct FollowArgs {
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// The session's id
    pub id: String,
    /// Stop at the first failed step instead of waiting for the PC's next try
    #[arg(long)]
    pub stop_on_failure: bool,
    /// Seconds for which an unreachable server is asked again
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub patience: u64,
}

/// Runs one of the commands.
///
/// # Errors
///
/// When the server cannot be reached or refuses, or the followed boot did not end well.
pub fn run(command: SessionCommand, ui: Ui) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        match command {
            SessionCommand::Create(args) => create(&args, ui).await,
            SessionCommand::List { server, limit } => list(&connect(&server, ui)?, limit, ui).await,
            SessionCommand::Show { server, id } => show(&connect(&server, ui)?, &id, ui).await,
            SessionCommand::Follow(args) => {
                follow::follow(&connect(&args.server, ui)?, &args, ui).await
            }
            SessionCommand::Cancel { server, id } => {
                connect(&server, ui)?
                    .cancel(&id)
                    .await
                    .with_context(|| format!("cancelling session {id}"))?;
                if ui.json {
                    ui.print_json(&json!({ "event": "cancelled", "id": id }))?;
                }
                ui.line(format!("session {id} is cancelled"));
                Ok(())
            }
        }
    })
}

pub(crate) fn target(text: &str) -> Result<Target, &'static str> {
    text.parse().map_err(|()| "not one of ram, usb, disk")
}

fn connect(args: &ServerArgs, ui: Ui) -> anyhow::Result<Client> {
    let client = Client::new(args)?;
    if let Some(warning) = client.warning() {
        ui.note(warning);
    }
    Ok(client)
}

async fn create(args: &CreateArgs, ui: Ui) -> anyhow::Result<()> {
    let client = connect(&args.server, ui)?;
    let new = CreateSession {
        image: args.image.clone(),
        target: args.target,
        version: args.image_version,
        ttl_seconds: args.ttl,
        note: args.note.clone(),
    };
    // A file that cannot be written should leave no session behind.
    let file = args
        .config_out
        .as_deref()
        .map(config::Reserved::new)
        .transpose()?;
    let created = client.create(&new).await.context("creating session")?;
    let server = match &args.loader_server {
        Some(url) => url.clone(),
        None => client.server().as_str().trim_end_matches('/').to_owned(),
    };
    if let Some(file) = file {
        let config = config::for_loader(&new, &created, &server, &args.store_url);
        file.write(&config::overlay(&config)?)?;
        if ui.json {
            ui.print_json(&json!({
                "id": created.id, "expires": created.expires, "config": args.config_out,
            }))?;
        }
        ui.line(format!("session  {}", created.id));
    } else {
        if ui.json {
            ui.print_json(&created)?;
        }
        ui.line(format!("session  {}", created.id));
        ui.line(format!("token    {}", created.token.reveal()));
    }
    ui.line(format!("expires  {}", created.expires));
    Ok(())
}

async fn list(client: &Client, limit: u32, ui: Ui) -> anyhow::Result<()> {
    let sessions = client.list(limit).await.context("listing sessions")?;
    if ui.json {
        for session in &sessions {
            ui.print_json(session)?;
        }
        return Ok(());
    }
    if sessions.is_empty() {
        ui.note("no sessions");
        return Ok(());
    }
    ui.line(format!(
        "{:12}  {:11}  {:20}  {:24}  NOTE",
        "ID", "STATE", "CREATED", "IMAGE"
    ));
    for session in &sessions {
        let note = session.note.as_deref().unwrap_or_default();
        let line = format!(
            "{:12}  {:11}  {:20}  {:24}  {}",
            session.id,
            session.state.as_str(),
            session.created.to_string(),
            session.image.as_str(),
            printable(note),
        );
        ui.line(line.trim_end());
    }
    Ok(())
}

async fn show(client: &Client, id: &str, ui: Ui) -> anyhow::Result<()> {
    let session = client
        .show(id)
        .await
        .with_context(|| format!("showing session {id}"))?;
    if ui.json {
        return ui.print_json(&session);
    }
    for (name, value) in facts(&session) {
        ui.line(format!("{name:8}  {}", printable(&value)));
    }
    Ok(())
}

fn facts(session: &Session) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("session", session.id.clone()),
        ("state", session.state.to_string()),
        ("image", session.image.to_string()),
        ("target", format!("{:?}", session.target).to_lowercase()),
        ("created", session.created.to_string()),
        ("expires", session.expires.to_string()),
        ("events", session.events_count.to_string()),
    ];
    if let Some(version) = session.version {
        facts.push(("version", version.to_string()));
    }
    if let Some(note) = &session.note {
        facts.push(("note", note.clone()));
    }
    if let Some(last) = &session.last_event {
        let what = story::sentence(&last.report.kind);
        facts.push(("last", format!("{} {what}", last.received)));
    }
    facts
}
