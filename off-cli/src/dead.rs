//! `off dead`: lists, shows, replays and drops dead letters.

use crate::{
    home::Home,
    report::{printable, table},
};
use anyhow::{Context, bail};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use clap::Subcommand;
use off_kit::{
    Bus, Clock,
    bus::dead_letters::{self, DeadLetter, Filter},
    print_line,
};
use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Lists all dead letters.
    List {
        /// Prints them as one JSON document, with headers and bodies.
        #[arg(long)]
        json: bool,
    },
    /// Shows one dead letter with its headers and body.
    Show {
        /// The number of the dead letter in the list.
        number: u64,
        /// Prints only the body, unchanged, so that it can be repaired and sent with `replay --body`.
        #[arg(long, conflicts_with = "json")]
        body: bool,
        /// Prints the dead letter as a JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Publishes dead letters on their original subjects again and removes them from the list.
    Replay(Replay),
    /// Deletes one dead letter.
    Drop {
        /// The number of the dead letter in the list.
        number: u64,
        /// The reason for dropping it; published on the subject dead.dropped.
        #[arg(long, value_name = "REASON")]
        why: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// The number of the dead letter in the list.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    number: Option<u64>,
    /// A file with a repaired body to publish instead of the original one.
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    body: Option<PathBuf>,
    /// Replays all dead letters that match --consumer and --since.
    #[arg(long)]
    all: bool,
    /// Only dead letters of this consumer.
    #[arg(long, value_name = "NAME", requires = "all")]
    consumer: Option<String>,
    /// Only messages that became dead letters at this time or later, like 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", requires = "all")]
    since: Option<DateTime<Utc>>,
    /// Prints what would be published, and publishes nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(home: &Home, action: Action) -> anyhow::Result<ExitCode> {
    let session = home.session().await?;
    let outcome = execute(&session.bus, action).await;
    session.end().await?;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn execute(bus: &Bus, action: Action) -> anyhow::Result<()> {
    match action {
        Action::List { json: true } => {
            print_line!("{}", serde_json::to_string_pretty(&dead_letters::list(bus).await?)?);
            Ok(())
        }
        Action::List { json: false } => list(bus).await,
        Action::Show { number, body: true, .. } => print_body(&dead_letters::find(bus, number).await?),
        Action::Show { number, json: true, .. } => {
            print_line!("{}", serde_json::to_string_pretty(&dead_letters::find(bus, number).await?)?);
            Ok(())
        }
        Action::Show { number, .. } => {
            show(&dead_letters::find(bus, number).await?);
            Ok(())
        }
        Action::Replay(replay) => replay.run(bus).await,
        Action::Drop { number, why } => {
            let letter = dead_letters::drop(bus, number, &why, Clock::real(1.0).now()).await?;
            print_line!("dropped dead letter {number} of {}", printable(&letter.subject));
            Ok(())
        }
    }
}

async fn list(bus: &Bus) -> anyhow::Result<()> {
    let letters = dead_letters::list(bus).await?;
    if letters.is_empty() {
        print_line!("there are no dead letters");
        return Ok(());
    }
    let mut table = table(&["number", "dead since", "subject", "consumer", "reason"]);
    for letter in letters {
        let reason: String = letter.reason.chars().take(80).collect();
        let columns = [letter.number.to_string(), letter.time, letter.subject, letter.consumer, reason];
        table.add_row(columns.map(|column| printable(&column)));
    }
    print_line!("{table}");
    Ok(())
}

fn show(letter: &DeadLetter) {
    print_line!("subject     {}", printable(&letter.subject));
    print_line!("consumer    {}", printable(&letter.consumer));
    print_line!("reason      {}", printable(&letter.reason));
    print_line!("sequence    {}", printable(&letter.sequence));
    print_line!("deliveries  {}", printable(&letter.deliveries));
    print_line!("dead since  {}", printable(&letter.time));
    for (name, value) in &letter.headers {
        print_line!("header      {}: {}", printable(name), printable(value));
    }
    if !letter.cut.is_empty() {
        print_line!("cut         {}: too large to be stored completely", printable(&letter.cut.join(", ")));
    }
    print_line!("\n{}", printable(&String::from_utf8_lossy(&letter.body)));
}

fn print_body(letter: &DeadLetter) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    let text = std::str::from_utf8(&letter.body);
    if stdout.is_terminal() && text.map_or(true, |text| printable(text) != text) {
        bail!("the body has control characters, which a terminal would interpret: redirect it to a file");
    }
    stdout.write_all(&letter.body)?;
    Ok(stdout.flush()?)
}

impl Replay {
    async fn run(self, bus: &Bus) -> anyhow::Result<()> {
        let letters = if let Some(number) = self.number {
            vec![dead_letters::find(bus, number).await?]
        } else {
            let filter = Filter { consumer: self.consumer, since: self.since, ..Filter::default() };
            dead_letters::list_matching(bus, &filter).await?
        };
        let body = self.body.as_deref().map(read).transpose()?;
        for letter in &letters {
            if self.all && !letter.can_be_replayed() {
                let reason = if letter.is_body_cut() {
                    "its body was truncated; replay it alone, with --body"
                } else {
                    "it does not name the subject of its consumer"
                };
                print_line!("dead letter {} stays: {reason}", letter.number);
            } else if self.dry_run {
                print_line!("dead letter {} would be published on {} again", letter.number, printable(&letter.subject));
            } else {
                dead_letters::replay(bus, letter.number, body.clone()).await?;
                print_line!("dead letter {} was published on {} again", letter.number, printable(&letter.subject));
            }
        }
        if letters.is_empty() {
            print_line!("no dead letter matches");
        }
        Ok(())
    }
}

fn read(path: &Path) -> anyhow::Result<Bytes> {
    Ok(std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?.into())
}
