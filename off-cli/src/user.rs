//! `off user`: adds people without devices, like operators, and makes people operators.

mod store;

use crate::{confirm::confirm, home::Home, password};
use anyhow::{Context, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use clap::Subcommand;
use off_kit::{
    Clock,
    email::Email,
    password::{self as rules, Hasher},
    print_line,
};
use sqlx::PgPool;
use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};
use store::Person;

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Adds a person; reads the password from standard input.
    Add(Add),
    /// Makes a person who is registered an operator, and ends all their sessions. Shows who it is, and asks on a terminal.
    MakeOperator(MakeOperator),
    /// Makes an operator an ordinary person again, and ends all their sessions.
    RemoveOperator {
        /// The e-mail address by which the person signs in.
        email: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct MakeOperator {
    /// The e-mail address by which the person signs in.
    email: String,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// The e-mail address by which the person signs in.
    email: String,
    /// An operator reads all orders, looks after dead letters, runs audits, sets failure switches, and manages signing keys.
    #[arg(long)]
    operator: bool,
    /// The first name.
    #[arg(long, default_value = "Off", value_name = "NAME")]
    first_name: String,
    /// The last name.
    #[arg(long, default_value = "Operator", value_name = "NAME")]
    last_name: String,
}

/// What happened to a person.
enum Outcome {
    Added {
        id: i64,
    },
    Changed {
        id: i64,
        ended_sessions: usize,
    },
    /// The person was an operator before.
    Unchanged {
        id: i64,
    },
    Declined,
}

pub(crate) async fn run(home: &Home, action: &Action) -> anyhow::Result<ExitCode> {
    let (Action::Add(Add { email, .. })
    | Action::MakeOperator(MakeOperator { email, .. })
    | Action::RemoveOperator { email }) = action;
    let email = Email::parse(email).map_err(|error| anyhow::anyhow!("{error}"))?;
    let session = home.session().await?;
    let outcome = match action {
        Action::Add(person) => add(&session.db, person, &email).await,
        Action::MakeOperator(options) => make_operator(&session.db, options, &email).await,
        Action::RemoveOperator { .. } => remove_operator(&session.db, &email).await,
    };
    session.end().await?;
    let kind = match action {
        Action::Add(Add { operator: false, .. }) | Action::RemoveOperator { .. } => "a person",
        Action::Add(_) | Action::MakeOperator(_) => "an operator",
    };
    let email = email.as_str();
    match outcome? {
        Outcome::Added { id } => print_line!("{email} is {kind}, user {id}"),
        Outcome::Changed { id, ended_sessions } => {
            print_line!("{email} is {kind} from now on, user {id}; ended sessions: {ended_sessions}");
        }
        Outcome::Unchanged { id } => print_line!("{email} is {kind} already, user {id}"),
        Outcome::Declined => {
            print_line!("nothing was changed");
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn find(db: &PgPool, email: &Email) -> anyhow::Result<Person> {
    let registered = store::find_registered(db, email.as_str()).await?;
    registered.with_context(|| format!("nobody signs in with {}", email.as_str()))
}

/// Whoever registered the address becomes an operator, so whoever runs the command has to see who that is.
async fn make_operator(db: &PgPool, options: &MakeOperator, email: &Email) -> anyhow::Result<Outcome> {
    let Person { id, registered_at, is_operator } = find(db, email).await?;
    if is_operator {
        return Ok(Outcome::Unchanged { id });
    }
    print_line!("{} is user {id}, registered at {}", email.as_str(), shown(registered_at));
    if !options.yes {
        if !io::stdin().is_terminal() {
            bail!("there is no terminal to ask on: if this is the right person, repeat the command with --yes");
        }
        print_line!("whoever registered this address becomes an operator, and all sessions of theirs end");
        if !confirm()? {
            return Ok(Outcome::Declined);
        }
    }
    let ended_sessions = store::set_operator(db, id, true, Clock::real(1.0).now()).await?;
    Ok(Outcome::Changed { id, ended_sessions })
}

fn shown(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

async fn remove_operator(db: &PgPool, email: &Email) -> anyhow::Result<Outcome> {
    let id = find(db, email).await?.id;
    let ended_sessions = store::set_operator(db, id, false, Clock::real(1.0).now()).await?;
    Ok(Outcome::Changed { id, ended_sessions })
}

async fn add(db: &PgPool, person: &Add, email: &Email) -> anyhow::Result<Outcome> {
    let text = email.as_str();
    if let Some(Person { id, registered_at, .. }) = store::find_registered(db, text).await? {
        let hint = if person.operator {
            format!(". If this is the right person: off user make-operator {text}")
        } else {
            String::new()
        };
        bail!("{text} is registered already, as user {id} at {}{hint}", shown(registered_at));
    }
    let password = password::ask(&format!("new password of {}", email.as_str()))?;
    let password = rules::parse(&password).map_err(|error| anyhow::anyhow!("{error}"))?;
    let hash = Hasher::new().hash(password).await.context("cannot hash the password")?;
    let new = store::NewPerson {
        first_name: &person.first_name,
        last_name: &person.last_name,
        email: email.as_str(),
        password_hash: &hash,
        is_operator: person.operator,
    };
    let id = store::insert_person(db, &new, Clock::real(1.0).now()).await.context("cannot add the person")?;
    Ok(Outcome::Added { id })
}
