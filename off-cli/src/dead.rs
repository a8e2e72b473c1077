//! `off dead`: messages that could not be handled.

use crate::{home::Home, report::table};
use anyhow::Context;
use bytes::Bytes;
use clap::Subcommand;
use off_kit::{Bus, bus::dead};
use std::{path::PathBuf, process::ExitCode};

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Lists all dead letters.
    List,
    /// Shows one, whole.
    Show {
        /// Its number in the list.
        number: u64,
    },
    /// Publishes one on its subject again and takes it out of the list.
    Replay {
        /// Its number in the list.
        number: u64,
        /// A file with the body to send instead, repaired.
        #[arg(long, value_name = "FILE")]
        body: Option<PathBuf>,
    },
}

pub(crate) async fn run(home: &Home, action: Action) -> anyhow::Result<ExitCode> {
    let visit = home.visit().await?;
    let outcome = act(&visit.bus, action).await;
    visit.end().await?;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn act(bus: &Bus, action: Action) -> anyhow::Result<()> {
    match action {
        Action::List => list(bus).await,
        Action::Show { number } => show(bus, number).await,
        Action::Replay { number, body } => {
            let body = match body {
                None => None,
                Some(path) => {
                    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                    Some(Bytes::from(bytes))
                }
            };
            let letter = dead::replay(bus, number, body).await?;
            println!("dead letter {number} is on {} again", letter.subject);
            Ok(())
        }
    }
}

async fn list(bus: &Bus) -> anyhow::Result<()> {
    let letters = dead::list(bus).await?;
    if letters.is_empty() {
        println!("there are no dead letters");
        return Ok(());
    }
    let mut table = table(&["number", "given up", "subject", "consumer", "reason"]);
    for letter in letters {
        let reason: String = letter.reason.chars().take(80).collect();
        table.add_row([letter.number.to_string(), letter.time, letter.subject, letter.consumer, reason]);
    }
    println!("{table}");
    Ok(())
}

async fn show(bus: &Bus, number: u64) -> anyhow::Result<()> {
    let letter = dead::find(bus, number).await?;
    println!("subject     {}", letter.subject);
    println!("consumer    {}", letter.consumer);
    println!("reason      {}", letter.reason);
    println!("sequence    {}", letter.sequence);
    println!("deliveries  {}", letter.deliveries);
    println!("given up    {}", letter.time);
    for (name, value) in &letter.headers {
        println!("header      {name}: {value}");
    }
    println!("\n{}", String::from_utf8_lossy(&letter.body).escape_debug());
    Ok(())
}
