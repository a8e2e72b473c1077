//! `off dead`: messages that could not be handled.

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
    bus::dead::{self, DeadLetter},
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
    /// Shows one, whole.
    Show {
        /// Its number in the list.
        number: u64,
        /// Prints the body alone, byte for byte: what can be repaired and given back with `replay --body`.
        #[arg(long, conflicts_with = "json")]
        body: bool,
        /// Prints it as a JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Publishes one on its subject again and takes it out of the list.
    Replay(Replay),
    /// Takes one out of the list for good.
    Drop {
        /// Its number in the list.
        number: u64,
        /// Why nobody needs it; noted on the subject dead.dropped.
        #[arg(long, value_name = "REASON")]
        why: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// Its number in the list.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    number: Option<u64>,
    /// A file with the body to send instead, repaired.
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    body: Option<PathBuf>,
    /// All of them, or those that the next two options leave.
    #[arg(long)]
    all: bool,
    /// Only what this consumer gave up.
    #[arg(long, value_name = "NAME", requires = "all")]
    consumer: Option<String>,
    /// Only what was given up at this time or later, like 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", requires = "all")]
    since: Option<DateTime<Utc>>,
    /// Says what would be sent, and sends nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(home: &Home, action: Action) -> anyhow::Result<ExitCode> {
    let visit = home.visit().await?;
    let outcome = act(&visit.bus, action).await;
    visit.end().await?;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn act(bus: &Bus, action: Action) -> anyhow::Result<()> {
    match action {
        Action::List { json: true } => {
            print_line!("{}", serde_json::to_string_pretty(&dead::list(bus).await?)?);
            Ok(())
        }
        Action::List { json: false } => list(bus).await,
        Action::Show { number, body: true, .. } => print_body(&dead::find(bus, number).await?),
        Action::Show { number, json: true, .. } => {
            print_line!("{}", serde_json::to_string_pretty(&dead::find(bus, number).await?)?);
            Ok(())
        }
        Action::Show { number, .. } => {
            show(&dead::find(bus, number).await?);
            Ok(())
        }
        Action::Replay(replay) => replay.run(bus).await,
        Action::Drop { number, why } => {
            let letter = dead::drop(bus, number, &why, Clock::real(1.0).now()).await?;
            print_line!("dead letter {number} from {} is dropped", printable(&letter.subject));
            Ok(())
        }
    }
}

async fn list(bus: &Bus) -> anyhow::Result<()> {
    let letters = dead::list(bus).await?;
    if letters.is_empty() {
        print_line!("there are no dead letters");
        return Ok(());
    }
    let mut table = table(&["number", "given up", "subject", "consumer", "reason"]);
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
    print_line!("given up    {}", printable(&letter.time));
    for (name, value) in &letter.headers {
        print_line!("header      {}: {}", printable(name), printable(value));
    }
    if !letter.cut.is_empty() {
        print_line!("cut         {}: it was too large to be kept whole", printable(&letter.cut.join(", ")));
    }
    print_line!("\n{}", printable(&String::from_utf8_lossy(&letter.body)));
}

fn print_body(letter: &DeadLetter) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    let text = std::str::from_utf8(&letter.body);
    if stdout.is_terminal() && text.map_or(true, |text| printable(text) != text) {
        bail!("the body has control characters, which a terminal would obey: write it to a file");
    }
    stdout.write_all(&letter.body)?;
    Ok(stdout.flush()?)
}

impl Replay {
    async fn run(self, bus: &Bus) -> anyhow::Result<()> {
        let letters = match self.number {
            Some(number) => vec![dead::find(bus, number).await?],
            None => dead::list(bus).await?.into_iter().filter(|letter| self.wants(letter)).collect(),
        };
        let body = self.body.as_deref().map(read).transpose()?;
        for letter in &letters {
            if self.number.is_none() && letter.is_body_cut() {
                let number = letter.number;
                print_line!(
                    "dead letter {number} stays: its body was too large to be kept whole; replay it alone, with --body"
                );
            } else if self.dry_run {
                print_line!("dead letter {} would be on {} again", letter.number, printable(&letter.subject));
            } else {
                dead::replay(bus, letter.number, body.clone()).await?;
                print_line!("dead letter {} is on {} again", letter.number, printable(&letter.subject));
            }
        }
        if letters.is_empty() {
            print_line!("there are no such dead letters");
        }
        Ok(())
    }

    fn wants(&self, letter: &DeadLetter) -> bool {
        let given_up = letter.time.parse::<DateTime<Utc>>().ok();
        self.consumer.as_ref().is_none_or(|consumer| *consumer == letter.consumer)
            && self.since.is_none_or(|since| given_up.is_some_and(|given_up| given_up >= since))
    }
}

fn read(path: &Path) -> anyhow::Result<Bytes> {
    Ok(std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?.into())
}
