//! `off audit`: proves from Postgres and JetStream that every order is accounted for.
//!
//! A running system is never still, so one look finds things on their way. What is wrong stays wrong: only what is
//! found at every look until patience ends is reported.

mod books;
mod whereabouts;

use crate::{home::Home, report::check};
use books::Books;
use off_kit::{Bus, bus::dead};
use sqlx::PgPool;
use std::{collections::BTreeSet, process::ExitCode, time::Duration};
use tokio::time::Instant;
use whereabouts::Whereabouts;

/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The most findings that are listed one by one.
const MOST_LISTED: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long something may stay out of order before it counts: what is on its way arrives meanwhile.
    #[arg(long, default_value = "15s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    patience: Duration,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) area: Area,
    pub(crate) text: String,
}

/// What is audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Area {
    Orders,
    History,
    Deliveries,
    Shelves,
    Outbox,
    DeadLetters,
}

/// One look at everything.
#[derive(Debug)]
pub(crate) struct Look {
    books: Books,
    whereabouts: Whereabouts,
    dead_letters: usize,
    pub(crate) findings: BTreeSet<Finding>,
}

pub(crate) async fn run(home: &Home, options: &Options) -> anyhow::Result<ExitCode> {
    let visit = home.visit().await?;
    let look = look_until_still(&visit.db, &visit.bus, options.patience).await;
    visit.end().await?;
    let look = look?;
    print(&look);
    Ok(if look.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Looks until nothing is out of order, or patience ends; what is left was so at every look.
pub(crate) async fn look_until_still(db: &PgPool, bus: &Bus, patience: Duration) -> anyhow::Result<Look> {
    let deadline = Instant::now() + patience;
    let mut look = look(db, bus).await?;
    while !look.findings.is_empty() && Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
        let again = self::look(db, bus).await?;
        let lasting = look.findings.intersection(&again.findings).cloned().collect();
        look = Look { findings: lasting, ..again };
    }
    Ok(look)
}

async fn look(db: &PgPool, bus: &Bus) -> anyhow::Result<Look> {
    // The streams first: an order that moves on between the two looks is then behind where it was seen, not ahead.
    let mut whereabouts = Whereabouts::read(bus).await?;
    let books = Books::read(db).await?;
    let mut findings = books.findings.clone();
    findings.extend(whereabouts.place_all(&books));
    let letters = dead::list(bus).await?;
    findings.extend(letters.iter().map(|letter| Finding {
        area: Area::DeadLetters,
        text: format!("dead letter {} from {}: {}", letter.number, letter.subject, letter.reason),
    }));
    Ok(Look { books, whereabouts, dead_letters: letters.len(), findings })
}

fn print(look: &Look) {
    let Look { books, whereabouts, dead_letters, findings } = look;
    let ok = |area| !findings.iter().any(|finding| finding.area == area);
    let [pending, shipped, completed] = books.by_state;
    println!("{pending} orders are pending, {shipped} shipped, {completed} completed");
    for (place, count) in whereabouts.counts() {
        println!("{count:>8}  {place}");
    }
    println!("{}", check(ok(Area::Orders), "orders", "every unfinished order waits where something will move it on"));
    println!("{}", check(ok(Area::History), "history", "the states of every order follow each other in time"));
    let deliveries = format!("each completed order was delivered once, as ordered: {} deliveries", books.deliveries);
    println!("{}", check(ok(Area::Deliveries), "deliveries", &deliveries));
    let shelves = format!("each of {} shelves holds what was delivered less what was taken", books.shelves);
    println!("{}", check(ok(Area::Shelves), "shelves", &shelves));
    let outbox = format!("nothing is stuck: {} messages on their way out", books.outbox);
    println!("{}", check(ok(Area::Outbox), "outbox", &outbox));
    println!("{}", check(ok(Area::DeadLetters), "dead letters", &dead_letters.to_string()));
    if findings.is_empty() {
        println!("every order is accounted for");
        return;
    }
    println!("\n{} findings:", findings.len());
    for finding in findings.iter().take(MOST_LISTED) {
        println!("  {}", finding.text);
    }
    if findings.len() > MOST_LISTED {
        println!("  … and {} more", findings.len() - MOST_LISTED);
    }
}
