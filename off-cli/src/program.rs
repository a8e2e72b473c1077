//! The command line of `off`: its commands, and its exit codes.

use crate::{
    audit, dead, doctor, documents, down, fault, home::Home, keys, migrate, reset, secrets, serve, settings, status,
    token, up, user, watch,
};
use clap::{Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

/// off keeps household shelves stocked without anyone shopping.
#[derive(Debug, Parser)]
#[command(name = "off", version)]
struct Program {
    /// The folder that holds the private servers and all state.
    #[arg(long, env = "OFF_HOME", default_value = ".off", global = true, value_name = "FOLDER")]
    home: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts the whole system and shows its activity until Ctrl-C.
    Up(Box<up::Options>),
    /// Shuts down the system that runs in the folder gracefully.
    Down,
    /// Reports whether the system runs in the folder; exit code 1: a service is not ready, 3: nothing runs.
    Status,
    /// Runs one service in its own process.
    #[command(subcommand)]
    Serve(serve::Options),
    /// Deletes the private servers' data and all state; on a terminal, asks for confirmation first.
    Reset(reset::Options),
    /// Migrates the database, and creates or updates the streams and consumers.
    Migrate(migrate::Options),
    /// Checks the passwords in a folder before they are used.
    Secrets(secrets::Options),
    /// Prints an access token, for curl.
    Token(token::Options),
    /// Adds people, like operators.
    #[command(subcommand)]
    User(user::Action),
    /// Lists, rotates and retires the keys that sign access tokens.
    Keys(keys::Options),
    /// Prints the messages that are published on NATS.
    Watch(watch::Options),
    /// Proves that every order is accounted for; fails with a list of those that are not.
    Audit(audit::Options),
    /// Lists failure switches, and switches failures on and off, to see how the system reacts.
    Fault(fault::Options),
    /// Lists, shows, replays and drops dead letters: messages that could not be handled.
    #[command(subcommand)]
    Dead(dead::Action),
    /// Reports problems of this installation, and how to fix them.
    Doctor(doctor::Options),
    /// Prints the OpenAPI document of a service.
    Openapi(documents::Options),
    /// Prints the AsyncAPI document of all subjects.
    Asyncapi,
    /// Prints every setting of every program, as Markdown.
    Settings,
}

/// Parses the arguments of this process and runs the command; returns its exit code.
pub async fn run() -> ExitCode {
    let Program { home, command } = Program::parse();
    let handles_signals = matches!(command, Command::Up(_) | Command::Serve(_));
    let outcome = tokio::select! {
        outcome = execute(home, command) => outcome,
        // `up` and `serve` handle signals themselves. The others end here, and so do the processes they started.
        _ = tokio::signal::ctrl_c(), if !handles_signals => return ExitCode::from(130),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn execute(home: PathBuf, command: Command) -> anyhow::Result<ExitCode> {
    let home = Home::new(home)?;
    match command {
        Command::Up(options) => Box::pin(up::run(&home, *options)).await,
        Command::Down => down::run(&home).await,
        Command::Status => status::run(&home).await,
        Command::Serve(options) => Ok(Box::pin(serve::run(options)).await),
        Command::Reset(options) => reset::run(&home, &options).await,
        Command::Migrate(options) => migrate::run(&home, &options).await,
        Command::Secrets(options) => secrets::run(&options),
        Command::Token(options) => token::run(&home, &options).await,
        Command::User(action) => user::run(&home, &action).await,
        Command::Keys(options) => keys::run(&home, &options).await,
        Command::Watch(options) => watch::run(&home, options).await,
        Command::Audit(options) => Ok(audit::run(&home, &options).await),
        Command::Fault(options) => fault::run(&home, &options).await,
        Command::Dead(action) => dead::run(&home, action).await,
        Command::Doctor(options) => doctor::run(&home, options).await,
        Command::Openapi(options) => documents::print_openapi(&options),
        Command::Asyncapi => documents::print_asyncapi(),
        Command::Settings => Ok(settings::run()),
    }
}
