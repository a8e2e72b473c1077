#![doc = include_str!("../README.md")]
#![expect(clippy::print_stderr, reason = "it talks to a person in a terminal")]

mod audit;
mod chaos;
mod colors;
mod dead;
mod doctor;
mod documents;
mod down;
mod home;
mod migrate;
mod motion;
mod report;
mod reset;
mod secrets;
mod serve;
mod status;
mod system;
mod up;
mod view;
mod watch;

use clap::{Parser, Subcommand};
use home::Home;
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
    /// Starts the whole system and shows what happens, until Ctrl-C.
    Up(Box<up::Options>),
    /// Stops the system that runs in the folder, in order.
    Down,
    /// Says whether the system runs in the folder; ends with 1 when a service is not ready, and with 3 when nothing runs.
    Status,
    /// Runs one service as a process of its own.
    #[command(subcommand)]
    Serve(serve::Options),
    /// Breaks a system of its own in every way it knows, and proves that nothing was lost.
    Chaos(chaos::Options),
    /// Deletes the private servers' data and all state; on a terminal it asks first.
    Reset(reset::Options),
    /// Brings the database, the streams and the consumers up to date.
    Migrate(migrate::Options),
    /// Looks at the passwords in a folder, before anything is set up with them.
    Secrets(secrets::Options),
    /// Shows what travels on NATS.
    Watch(watch::Options),
    /// Proves that every order is accounted for; fails with the list when one is not.
    Audit(audit::Options),
    /// Looks at messages that could not be handled, and sends them again.
    #[command(subcommand)]
    Dead(dead::Action),
    /// Says what is wrong with this installation and what to do.
    Doctor,
    /// Prints the OpenAPI document of a service.
    Openapi(documents::Options),
    /// Prints the AsyncAPI document of all subjects.
    Asyncapi,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Program { home, command } = Program::parse();
    let stops_in_order = matches!(command, Command::Up(_) | Command::Serve(_));
    let outcome = tokio::select! {
        outcome = run(home, command) => outcome,
        // Some stop in order by themselves; the others are left here, and processes they started end with them.
        _ = tokio::signal::ctrl_c(), if !stops_in_order => return ExitCode::from(130),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(home: PathBuf, command: Command) -> anyhow::Result<ExitCode> {
    let home = Home::new(home)?;
    match command {
        Command::Up(options) => up::run(&home, *options).await,
        Command::Down => down::run(&home).await,
        Command::Status => status::run(&home).await,
        Command::Serve(options) => Ok(serve::run(options).await),
        Command::Chaos(options) => chaos::run(&home, options).await,
        Command::Reset(options) => reset::run(&home, &options).await,
        Command::Migrate(options) => migrate::run(&home, &options).await,
        Command::Secrets(options) => secrets::run(&options),
        Command::Watch(options) => watch::run(&home, options).await,
        Command::Audit(options) => Ok(audit::run(&home, &options).await),
        Command::Dead(action) => dead::run(&home, action).await,
        Command::Doctor => doctor::run(&home).await,
        Command::Openapi(options) => documents::print_openapi(&options),
        Command::Asyncapi => documents::print_asyncapi(),
    }
}
