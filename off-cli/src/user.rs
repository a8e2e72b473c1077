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
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Adds a person; reads the password from standard input. A person who exists gets what is asked for here.
    Add(Add),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// The e-mail address by which the person signs in.
    email: String,
    /// An operator reads everything, and repairs.
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
    let Action::Add(person) = action;
    let email = Email::parse(&person.email).map_err(|error| anyhow::anyhow!("{error}"))?;
    let session = home.session().await?;
    let added = add(&session.db, person, &email).await;
    session.end().await?;
    let id = added?;
    let kind = if person.operator { "an operator" } else { "a person" };
    print_line!("{} is {kind}, user {id}", email.as_str());
    Ok(ExitCode::SUCCESS)
}

async fn add(db: &sqlx::PgPool, person: &Add, email: &Email) -> anyhow::Result<i64> {
    if let Some(id) = store::find_account(db, email.as_str()).await? {
        if !person.operator {
            bail!("{} is registered already", email.as_str());
        }
        store::set_operator(db, id).await?;
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
