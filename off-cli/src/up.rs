//! `off up`: the whole system in one process, beside its two servers.

use crate::{
    home::{Home, Running, RunningService, Servers},
    migrate,
    report::counted,
    system::{System, settings},
    view::{self, Notice, View},
};
use anyhow::Context;
use off_etl::{ApiConfig, Choice, Profile, Report, SourceName, api::Api};
use off_generator::Generator;
use off_kit::{
    Bus, Clock, bus, db, http, print_line,
    service::{START_PATIENCE, parse_speed},
    telemetry,
};
use off_notifications_service::NotificationsService;
use off_orders_service::OrdersService;
use off_users_service::UsersService;
use sqlx::PgPool;
use std::{process::ExitCode, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use url::Url;

/// How often it is looked for streams and consumers that are missing.
const LOOK_FOR_MISSING_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Simulated seconds in a real one; at 60 an order takes seconds instead of minutes.
    #[arg(long, env = "OFF_SPEED", default_value_t = 60.0, value_name = "N", value_parser = parse_speed)]
    speed: f64,
    /// With the same seed and speed the same people register, order and eat the same things in the same order.
    #[arg(long, env = "OFF_SEED", default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Households that register at the start, one after the other, beside everything else.
    #[arg(long, env = "GENERATOR_HOUSEHOLDS", default_value_t = 1000, value_name = "N")]
    households: u32,
    /// Where products come from: `sample`, `api`, `-` for standard input, or the path or address of an export (JSON lines or a
    /// table with tabs, plain or .gz; `off-etl` reads Parquet, too).
    #[arg(long, env = "ETL_SOURCE", default_value = "sample", value_name = "SOURCE")]
    catalogue: SourceName,
    /// Which state tags a record needs.
    #[arg(long, env = "ETL_PROFILE", default_value = "default", value_enum)]
    profile: Profile,
    /// How the log in the folder is written.
    #[arg(long, env = "OFF_LOG_FORMAT", default_value = "json", value_enum)]
    log_format: telemetry::Format,
    /// The collector that traces are sent to, by OTLP over HTTP, like http://localhost:4318; without it they are not sent.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<Url>,
    /// Stops by itself after this time, like 30s or 5m.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    run_for: Option<Duration>,
    /// Plays no households: only real devices take part.
    #[arg(long)]
    no_generator: bool,
    #[command(flatten)]
    keeping: bus::Keeping,
    #[command(flatten)]
    hosts: http::Hosts,
    /// Migrates the database that DATABASE_URL names, even when it holds something else.
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(home: &Home, options: Options) -> anyhow::Result<ExitCode> {
    let _lock = home.lock()?;
    let asked_to_stop = stop_on_signal()?;
    home.keep_last_log()?;
    let log = std::env::var_os("OFF_LOG").and_then(|filter| filter.into_string().ok());
    let log = log.unwrap_or_else(|| "info".to_owned());
    let log = telemetry::Config {
        log_format: Some(options.log_format),
        otlp_endpoint: options.otlp_endpoint.clone(),
        ..telemetry::Config::new(&log, Some(home.log_file()))
    };
    telemetry::init("off", &log)?;
    home.remove_running();

    say(&Servers::announcement()?);
    let mut servers = tokio::select! {
        servers = Servers::start(home) => servers?,
        () = asked_to_stop.cancelled() => return Ok(ExitCode::SUCCESS),
    };
    if let Some(elsewhere) = home.database_elsewhere() {
        let reason = "because Postgres does not run as root and its user cannot get to this folder";
        say(&format!("  the database's files are in {}, {reason}", elsewhere.display()));
    }
    let outcome = run_beside(home, &options, &mut servers, &asked_to_stop).await;
    home.remove_running();
    let stopped = servers.stop().await;
    telemetry::flush().await;
    outcome?;
    stopped?;
    Ok(ExitCode::SUCCESS)
}

/// The first signal asks to stop in order, whatever goes on; a second one ends the process on the spot, and leaves the
/// servers to be found by the next start. A terminal that is closed sends SIGHUP, more than once: it never counts as a second one.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let asked = CancellationToken::new();
    let asking = asked.clone();
    tokio::spawn(async move {
        loop {
            let is_impatient = tokio::select! {
                _ = interrupt.recv() => asking.is_cancelled(),
                _ = terminate.recv() => asking.is_cancelled(),
                _ = hangup.recv() => false,
            };
            if is_impatient {
                #[expect(clippy::disallowed_methods, reason = "asked twice, it does not wait for anything")]
                std::process::exit(130);
            }
            asking.cancel();
        }
    });
    Ok(asked)
}

async fn run_beside(
    home: &Home,
    options: &Options,
    servers: &mut Servers,
    asked_to_stop: &CancellationToken,
) -> anyhow::Result<()> {
    let config = db::Config::at(&servers.database_url, 4);
    let pool = db::lazy_pool(&config, "off-up")?;
    let bus = Bus::connect(&bus::Config::at(&servers.nats_url), "up").await?;
    tokio::select! {
        prepared = prepare(home, options, &pool, &bus) => prepared?,
        () = asked_to_stop.cancelled() => return Ok(()),
    }
    let mut system = System::new(options.hosts.clone());
    let started = start_services(&mut system, options, servers).await;
    let outcome = match started {
        Ok(()) => {
            tokio::select! {
                shown = show(home, options, servers, &system, &pool, &bus) => shown,
                () = asked_to_stop.cancelled() => Ok(()),
            }
        }
        Err(error) => Err(error),
    };
    if outcome.is_err() || system.has_failed() {
        say("something failed; stopping everything in order");
    }
    let stopped = system.stop(|name| say(&format!("stopped {name}"))).await;
    home.note_running();
    let summary = view::summary(&pool).await;
    bus.close().await;
    pool.close().await;
    outcome?;
    stopped?;
    print_line!("{}", summary?);
    Ok(())
}

async fn prepare(home: &Home, options: &Options, pool: &PgPool, bus: &Bus) -> anyhow::Result<()> {
    if let Err(reason) = db::probe(pool).await {
        say(&format!("  {reason} (trying for {} s)", START_PATIENCE.as_secs()));
    }
    migrate::all(pool, bus, options.keeping, options.yes).await?;
    load_catalogue(home, options, pool).await
}

/// Tells the other commands where the system is, and shows what happens until it is time to stop.
async fn show(
    home: &Home,
    options: &Options,
    servers: &mut Servers,
    system: &System,
    pool: &PgPool,
    bus: &Bus,
) -> anyhow::Result<()> {
    home.write_running(&Running {
        pid: std::process::id(),
        database_url: servers.database_url.clone(),
        nats_url: servers.nats_url.clone(),
        services: running_services(system),
    })?;
    let deadline = options.run_for.map(|duration| Instant::now() + duration);
    let time_is_up = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let (notices, noticed) = watch::channel(None);
    let on_restart = |text: &str| {
        warn!("{text}");
        notices.send_replace(Some(Notice { at: Instant::now(), text: text.to_owned() }));
    };
    let view = View::new(pool.clone(), bus.clone(), options.speed, running_services(system), noticed);
    tokio::select! {
        shown = view.run() => shown,
        ended = Box::pin(servers.keep_running(on_restart)) => ended,
        declared = Box::pin(keep_declared(home, bus, options.keeping)) => declared,
        // What failed is said when the services are stopped.
        () = system.stopping() => Ok(()),
        () = time_is_up => Ok(()),
    }
}

/// Notes that the system runs, and recreates streams and consumers that somebody deleted. What stood in them is recovered from
/// Postgres.
async fn keep_declared(home: &Home, bus: &Bus, keeping: bus::Keeping) -> anyhow::Result<()> {
    loop {
        home.note_running();
        tokio::time::sleep(LOOK_FOR_MISSING_EVERY).await;
        if !bus.is_connected() {
            continue;
        }
        let missing = bus::find_missing(bus).await;
        if missing.is_empty() {
            continue;
        }
        warn!("recreating what is missing: {}", missing.join(", "));
        if let Err(error) = bus::declare(bus, keeping).await {
            warn!("cannot recreate what is missing, trying again: {error:#}");
        }
    }
}

async fn load_catalogue(home: &Home, options: &Options, pool: &PgPool) -> anyhow::Result<()> {
    say(&format!("loading the catalogue from {}", options.catalogue));
    let choice = Choice::from(options.profile);
    let report = match &options.catalogue {
        SourceName::Api => {
            let config: ApiConfig = settings(&[])?;
            // The API's patience is measured in real seconds, whatever the speed here.
            let api = Api::new(&config, Clock::real(1.0))?;
            let on_page = |report: &Report| say(&format!("  {} read, {} new so far", report.read, report.loaded));
            api.import(&choice, Some(pool), on_page, |_| {}).await?
        }
        SourceName::Deltas => {
            anyhow::bail!("changes alone are no catalogue: start with an export, and run off-etl deltas beside it")
        }
        source => {
            let imported =
                off_etl::import_and_tell(source, &choice, &home.folder().join("downloads"), Some(pool), |_| {}).await?;
            match imported.damage {
                Some(damage) => return Err(damage.into()),
                None => imported.report,
            }
        }
    };
    let (read, loaded, updated) = (counted(report.read, "record"), report.loaded, report.updated);
    say(&format!("  {read} read: {loaded} new, {updated} updated, {} rejected", report.rejected_total()));
    let is_there = sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM catalog.products) AS "is_there!""#);
    if !is_there.fetch_one(pool).await? {
        say("  warning: the catalogue is empty, so nothing will be ordered: --catalogue names another source");
    }
    Ok(())
}

async fn start_services(system: &mut System, options: &Options, servers: &Servers) -> anyhow::Result<()> {
    say("starting the services");
    let clock = Clock::real(options.speed);
    let database = ("database-url", servers.database_url.clone());
    let broker = ("nats-url", servers.nats_url.clone());
    let seed = ("seed", options.seed.to_string());
    let users = system.start::<UsersService>(settings(&[database.clone(), broker.clone()])?, &clock).await?;
    let orders = system.start::<OrdersService>(settings(&[database, broker.clone()])?, &clock).await?;
    system.start::<NotificationsService>(settings(&[broker.clone(), seed.clone()])?, &clock).await?;
    if !options.no_generator {
        let arguments = [
            broker,
            seed,
            ("users-url", format!("http://{users}")),
            ("orders-url", format!("http://{orders}")),
            ("households", options.households.to_string()),
        ];
        let config = settings(&arguments).context("the generator's settings")?;
        system.start::<Generator>(config, &clock).await?;
    }
    for service in system.services() {
        say(&format!("  {:<14} http://{}/docs", service.name, service.addresses.api));
    }
    Ok(())
}

fn running_services(system: &System) -> Vec<RunningService> {
    let services = system.services().iter().map(|service| RunningService {
        name: service.name.to_owned(),
        url: format!("http://{}", service.addresses.api),
        health_url: format!("http://{}", service.addresses.health),
    });
    services.collect()
}

fn say(text: &str) {
    print_line!("{text}");
}
