//! The [`Service`] trait, and the `main` function of service programs.

use crate::{
    Clock, Kit, Tasks,
    health::ReadinessChecks,
    http,
    telemetry::{self, Metric},
};
use anyhow::Context;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{ffi::OsString, process::ExitCode, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use utoipa::openapi::OpenApi;

/// The metrics that every service has.
#[cfg(feature = "postgres")]
pub const METRICS: [&[Metric]; 6] = [
    &crate::auth::METRICS,
    &crate::http::METRICS,
    &crate::bus::METRICS,
    &crate::outbox::METRICS,
    &crate::db::METRICS,
    &crate::tasks::METRICS,
];
#[cfg(not(feature = "postgres"))]
pub const METRICS: [&[Metric]; 4] =
    [&crate::auth::METRICS, &crate::http::METRICS, &crate::bus::METRICS, &crate::tasks::METRICS];

/// A part of off that runs as its own process, or together with other services in one process.
pub trait Service: 'static {
    /// Its name in logs, metrics, the outbox and NATS.
    const NAME: &'static str;
    /// A one-line description, for `--help` and the OpenAPI document.
    const ABOUT: &'static str;
    /// The default port of its API.
    const PORT: u16;
    /// The default port of its health and metrics.
    const HEALTH_PORT: u16 = Self::PORT + 1000;
    /// The problem codes of its own API, beside [`http::CommonCode`].
    const PROBLEM_CODES: &'static [&'static str] = &[];
    /// The metrics of its own, beside [`METRICS`].
    const METRICS: &'static [Metric] = &[];
    /// Its specific settings.
    type Config: Args + Send;

    /// The OpenAPI document without its routes.
    fn description() -> http::Description {
        http::Description {
            name: Self::NAME,
            about: Self::ABOUT,
            health_port: Self::HEALTH_PORT,
            problem_codes: Self::PROBLEM_CODES,
        }
    }

    /// The OpenAPI document of its HTTP API.
    fn openapi() -> OpenApi;

    /// Spawns its tasks on `kit` and returns when it serves requests.
    fn start(config: Self::Config, kit: Kit) -> impl Future<Output = anyhow::Result<()>> + Send;
}

impl Kit {
    /// The context of the service `S`.
    pub fn new<S: Service>(http: http::Config, clock: Clock) -> Self {
        METRICS.into_iter().chain([S::METRICS]).for_each(telemetry::describe);
        Self {
            name: S::NAME,
            about: S::ABOUT,
            clock,
            tasks: Tasks::new(S::NAME),
            readiness_checks: ReadinessChecks::new(clock),
            http,
            listeners: Arc::default(),
            addresses: Arc::default(),
        }
    }
}

/// The common settings of all service programs.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Settings {
    /// Addresses and host names.
    #[command(flatten)]
    pub http: http::Config,
    /// Logs and traces.
    #[command(flatten)]
    pub log: telemetry::Config,
    /// Simulated seconds per real second: shortens all simulated waits.
    #[arg(long, env = "OFF_SPEED", default_value_t = 1.0, value_name = "N", value_parser = parse_speed)]
    pub speed: f64,
}

/// Parses a speed: from 0.01 to 86400, one day per second.
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

/// The names of the [`Command`]s. They run before the settings are parsed, because they need few or none of them.
const OPENAPI: &str = "openapi";
const HEALTH: &str = "health";

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the OpenAPI document of the HTTP API.
    Openapi,
    /// Checks whether the service that runs with the same settings is ready; fails with the reason if it is not.
    Health,
}

/// The `main` function of a service: reads the settings, starts the service, and shuts it down gracefully on SIGINT or
/// SIGTERM.
pub async fn run<S: Service>() -> ExitCode {
    run_with::<S>(&format!("off-{}", S::NAME), std::env::args_os().skip(1)).await
}

/// The same as [`run`] with another program name and these arguments.
pub async fn run_with<S: Service>(name: &str, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = Program::<S::Config>::command().bin_name(name).name(name.to_owned()).about(S::ABOUT);
    let arguments = std::iter::once(OsString::from(name)).chain(arguments);
    let matches = command
        .mut_arg("http_service_port", |arg| arg.required(false).default_value(S::PORT.to_string()))
        .mut_arg("health_port", |arg| arg.required(false).default_value(S::HEALTH_PORT.to_string()))
        .get_matches_from(arguments);
    match matches.subcommand_name() {
        Some(OPENAPI) => return finish(print_openapi::<S>()),
        Some(HEALTH) => return finish(print_health(&matches).await),
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

async fn print_health(matches: &ArgMatches) -> anyhow::Result<()> {
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

/// The first signal stops the tasks gracefully; a second one ends the process at once.
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
                #[expect(clippy::disallowed_methods, reason = "the second signal ends the process at once")]
                std::process::exit(1);
            }
            info!("shutting down, finishing work in progress");
            tasks.stop();
        }
    });
    Ok(())
}

#[expect(clippy::print_stderr, reason = "errors are shown to people on standard error, whatever the log format")]
fn finish(ended: anyhow::Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How long commands like `off migrate` wait for a database or a broker that is still starting.
pub const START_PATIENCE: Duration = Duration::from_mins(1);
