//! `off user`: adds people without devices, like operators.

mod store;

use crate::{home::Home, password};
use anyhow::{Context, bail};
use clap::Subcommand;
use off_kit::{
    Clock,
    email::Email,
    password::{self as rules, Hasher},
    print_line,
};
use sqlx::PgPool;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Adds a person; reads the password from standard input. With --operator, a person who exists becomes an operator.
    Add(Add),
    /// Makes an operator an ordinary person again. Their access tokens stay valid for up to ten minutes.
    RemoveOperator {
        /// The e-mail address by which the person signs in.
        email: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// The e-mail address by which the person signs in.
    email: String,
    /// An operator reads all people, devices, shelves and orders, and manages signing keys.
    #[arg(long)]
    operator: bool,
    /// The first name.
    #[arg(long, default_value = "Off", value_name = "NAME")]
    first_name: String,
    /// The last name.
    #[arg(long, default_value = "Operator", value_name = "NAME")]
    last_name: String,
}

pub(crate) async fn run(home: &Home, action: &Action) -> anyhow::Result<ExitCode> {
    let (Action::Add(Add { email, .. }) | Action::RemoveOperator { email }) = action;
    let email = Email::parse(email).map_err(|error| anyhow::anyhow!("{error}"))?;
    let session = home.session().await?;
    let changed = match action {
        Action::Add(person) => add(&session.db, person, &email).await,
        Action::RemoveOperator { .. } => remove_operator(&session.db, &email).await,
    };
    session.end().await?;
    let id = changed?;
    let kind = if matches!(action, Action::Add(person) if person.operator) { "an operator" } else { "a person" };
    print_line!("{} is {kind}, user {id}", email.as_str());
    Ok(ExitCode::SUCCESS)
}

async fn remove_operator(db: &PgPool, email: &Email) -> anyhow::Result<i64> {
    let id = store::find_account(db, email.as_str()).await?;
    let id = id.with_context(|| format!("nobody signs in with {}", email.as_str()))?;
    store::set_operator(db, id, false, Clock::real(1.0).now()).await?;
    Ok(id)
}

async fn add(db: &PgPool, person: &Add, email: &Email) -> anyhow::Result<i64> {
    if let Some(id) = store::find_account(db, email.as_str()).await? {
        if !person.operator {
            bail!("{} is registered already", email.as_str());
        }
        store::set_operator(db, id, true, Clock::real(1.0).now()).await?;
        return Ok(id);
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
    store::insert_person(db, &new, Clock::real(1.0).now()).await.context("cannot add the person")
}
