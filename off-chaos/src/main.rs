#![doc = include_str!("../README.md")]
#![expect(clippy::print_stderr, reason = "a command line program reports errors on standard error")]

mod broker;
mod clients;
mod fault;
mod inject;
mod journal;
mod messages;
mod monitor;
mod network;
mod parts;
mod proxy;
mod reconcile;
mod run;
mod schedule;
mod smtp;
mod store;
mod summary;
mod tokens;
mod viewers;

use clap::{Parser, Subcommand};
use off_cli::{home::Home, serve};
use off_kit::print_line;
use std::{path::PathBuf, process::ExitCode};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

#[global_allocator]
static ALLOCATOR: off_kit::Allocator = off_kit::Allocator;

/// Injects faults into a separate system, and checks that no order was lost.
#[derive(Debug, Parser)]
#[command(name = "off-chaos", version, disable_help_subcommand = true)]
struct Program {
    /// The folder of off; the separate system is in its subfolder `chaos`.
    #[arg(long, env = "OFF_HOME", default_value = ".off", value_name = "FOLDER")]
    home: PathBuf,
    #[command(flatten)]
    options: run::Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one service of the separate system.
    #[command(subcommand, hide = true)]
    Serve(serve::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Program { home, options, command } = Program::parse();
    if let Some(Command::Serve(options)) = command {
        return serve::run(options).await;
    }
    let outcome = tokio::select! {
        outcome = run(home, options) => outcome,
        // Dropping the run ends the processes that it started.
        signaled = wait_for_signal() => signaled.map(|()| {
            eprintln!("interrupted");
            ExitCode::from(130)
        }),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for Ctrl-C, SIGTERM, or the end of the terminal.
async fn wait_for_signal() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

async fn run(home: PathBuf, options: run::Options) -> anyhow::Result<ExitCode> {
    run::run(&Home::new(home)?, options).await
}

/// Prints a line with the time since `started`.
fn print_progress(started: Instant, text: &str) {
    let seconds = started.elapsed().as_secs();
    print_line!("{:>4}:{:02}  {text}", seconds / 60, seconds % 60);
}
