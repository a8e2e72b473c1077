//! What a service is, and how it becomes a program.

use crate::{Clock, Tasks, health::Needs, http, telemetry};
use anyhow::Context;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{
    ffi::OsString,
    net::{SocketAddr, TcpListener},
    process::ExitCode,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use utoipa::openapi::OpenApi;

/// A part of off that runs by itself or beside the others in one process.
pub trait Service: 'static {
    /// Its name in logs, metrics, the outbox and on the bus.
    const NAME: &'static str;
    /// What it does, in one line, for `--help` and the API's description.
    const ABOUT: &'static str;
    /// The port of its API unless told otherwise.
    const PORT: u16;
    /// The port of its health and metrics unless told otherwise.
    const HEALTH_PORT: u16 = Self::PORT + 1000;
    /// Its own settings.
    type Config: Args + Send;

    /// The document of its HTTP API.
    fn openapi() -> OpenApi;

    /// Spawns its tasks on `kit` and returns once it serves.
    fn start(config: Self::Config, kit: Kit) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What every service is given.
#[derive(Debug, Clone)]
pub struct Kit {
    pub name: &'static str,
    pub about: &'static str,
    pub clock: Clock,
    pub tasks: Tasks,
    /// What the service needs to be ready.
    pub needs: Needs,
    pub http: http::Config,
    /// Sockets that listen already, for a caller who had to be sure of them; else `http` says where.
    pub listeners: Arc<Mutex<Listeners>>,
    /// Where the service answers, once it does.
    pub addresses: Arc<OnceLock<Addresses>>,
}

/// Sockets for the API and for the health port.
#[derive(Debug, Default)]
pub struct Listeners {
    pub api: Option<TcpListener>,
    pub health: Option<TcpListener>,
}

/// Where a service answers.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub api: SocketAddr,
    pub health: SocketAddr,
}

impl Kit {
    pub fn new<S: Service>(http: http::Config, clock: Clock) -> Self {
        Self {
            name: S::NAME,
            about: S::ABOUT,
            clock,
            tasks: Tasks::new(S::NAME),
            needs: Needs::default(),
            http,
            listeners: Arc::default(),
            addresses: Arc::default(),
        }
    }
}

/// The settings every program has.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Settings {
    #[command(flatten)]
    pub http: http::Config,
    #[command(flatten)]
    pub log: telemetry::Config,
    /// Simulated seconds in a real one: every wait of the simulated world is shortened by it.
    #[arg(long, env = "OFF_SPEED", default_value_t = 1.0, value_name = "N", value_parser = parse_speed)]
    pub speed: f64,
}

/// Reads a speed: more than nothing, at most a day in a second.
pub fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.01..=86_400.0).contains(&speed) => Ok(speed),
        _ => Err("expected a number from 0.01 to 86400".to_owned()),
    }
}

#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true, subcommand_negates_reqs = true)]
struct Program<C: Args> {
    #[command(subcommand)]
    _command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    config: C,
}

/// The names of [`Command`]s. They need few settings or none, and are answered before all are read.
const OPENAPI: &str = "openapi";
const HEALTH: &str = "health";

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the OpenAPI document of its HTTP API and ends.
    Openapi,
    /// Asks the service that runs with the same settings whether it is ready; fails with the reason when it is not.
    Health,
}

/// The whole of a service's `main`: reads its settings, starts it and stops it in order when it is asked to.
pub async fn run<S: Service>() -> ExitCode {
    run_with::<S>(&format!("off-{}", S::NAME), std::env::args_os().skip(1)).await
}

/// The same under another name, with these arguments.
pub async fn run_with<S: Service>(name: &str, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = Program::<S::Config>::command().bin_name(name).name(name.to_owned()).about(S::ABOUT);
    let words = std::iter::once(OsString::from(name)).chain(arguments);
    let matches = command
        .mut_arg("http_service_port", |arg| arg.required(false).default_value(S::PORT.to_string()))
        .mut_arg("health_port", |arg| arg.required(false).default_value(S::HEALTH_PORT.to_string()))
        .get_matches_from(words);
    match matches.subcommand_name() {
        Some(OPENAPI) => return finish(print_openapi::<S>()),
        Some(HEALTH) => return finish(ask_health(&matches).await),
        _ => {}
    }
    let program = match Program::<S::Config>::from_arg_matches(&matches) {
        Ok(program) => program,
        Err(error) => error.exit(),
    };
    finish(serve::<S>(program).await)
}

fn print_openapi<S: Service>() -> anyhow::Result<()> {
    crate::print_line!("{}", S::openapi().to_pretty_json()?);
    Ok(())
}

async fn ask_health(matches: &ArgMatches) -> anyhow::Result<()> {
    let config = http::Config::from_arg_matches(matches)?;
    crate::print_line!("{}", http::ask_whether_ready(config.health_address()).await?);
    Ok(())
}

async fn serve<S: Service>(program: Program<S::Config>) -> anyhow::Result<()> {
    telemetry::init(&format!("off-{}", S::NAME), &program.settings.log)?;
    let kit = Kit::new::<S>(program.settings.http, Clock::real(program.settings.speed));
    let tasks = kit.tasks.clone();
    stop_on_signal(&tasks)?;
    let started = S::start(program.config, kit).await.with_context(|| format!("{} did not start", S::NAME));
    if let Err(error) = started {
        tasks.fail(error);
    }
    let ended = tasks.stopped().await;
    info!("{} has stopped", S::NAME);
    telemetry::flush().await;
    ended
}

/// The first signal asks the tasks to stop, a second one ends the process on the spot.
fn stop_on_signal(tasks: &Tasks) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let tasks = tasks.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if tasks.is_stopping() {
                #[expect(clippy::disallowed_methods, reason = "asked twice, it does not wait for anything")]
                std::process::exit(1);
            }
            info!("asked to stop; finishing what is in hand");
            tasks.stop();
        }
    });
    Ok(())
}

#[expect(clippy::print_stderr, reason = "what went wrong is said where a person looks, whatever the log's format")]
fn finish(ended: anyhow::Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How long `off migrate` and the like wait for a database or a broker that is still starting.
pub const START_PATIENCE: Duration = Duration::from_mins(1);
