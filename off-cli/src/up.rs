//! `off up`: runs the whole system in one process, with a private Postgres and NATS unless external ones are set.

mod catalog;
mod store;
mod upkeep;

use crate::{
    home::{AUTH_SECRET, Home, RunningSystem, Servers, ServiceAddresses, client_file},
    migrate::{self, ForeignTables},
    system::{System, settings},
    view::{self, Notice, View},
};
use anyhow::Context;
use off_auth_service::AuthService;
use off_billing_service::BillingService;
use off_etl::{Profile, SourceName};
use off_gateway::Gateway;
use off_generator::Generator;
use off_kit::{
    Addresses, Bus, Clock, auth, bus, db, http, print_line,
    service::{START_PATIENCE, parse_speed},
    telemetry,
};
use off_notifications_service::NotificationsService;
use off_operator_service::OperatorService;
use off_orders_service::OrdersService;
use off_users_service::UsersService;
use sqlx::PgPool;
use std::{process::ExitCode, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use url::Url;

/// How long recovery may take to handle the deadlines that passed while off did not run.
const CATCH_UP_TIME: Duration = Duration::from_secs(30);

/// How long the services may take until they are ready. A longer wait would hide from people that something is wrong.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the last queries and the connections may take to end at a shutdown.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Simulated seconds per real second; at 60 an order takes seconds instead of minutes.
    #[arg(long, env = "OFF_SPEED", default_value_t = 60.0, value_name = "N", value_parser = parse_speed)]
    speed: f64,
    /// The random seed: with the same seed and speed, the same events are generated in the same order.
    #[arg(long, env = "OFF_SEED", default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Number of households that register at the start, one after another.
    #[arg(long, env = "GENERATOR_HOUSEHOLDS", default_value_t = 1000, value_name = "N")]
    households: u32,
    /// The source of products: `sample`, `api`, `-` for standard input, or the path or URL of an export (JSON lines or
    /// tab-separated, plain or .gz; `off-etl` also reads Parquet).
    #[arg(long, env = "ETL_SOURCE", default_value = "sample", value_name = "SOURCE")]
    catalog: SourceName,
    /// Which state tags a record needs to be imported.
    #[arg(long, env = "ETL_PROFILE", default_value = "default", value_enum)]
    profile: Profile,
    /// Format of the log file in the folder.
    #[arg(long, env = "OFF_LOG_FORMAT", default_value = "json", value_enum)]
    log_format: telemetry::Format,
    /// The collector for traces (OTLP over HTTP), like http://localhost:4318; if unset, no traces are sent.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<Url>,
    /// Stops after this time, like 30s or 5m.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    run_for: Option<Duration>,
    /// Runs without the generator: only real devices take part.
    #[arg(long)]
    no_generator: bool,
    /// Whether the failure switches of operators have an effect.
    #[arg(long, env = "ALLOW_FAULTS", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    allow_faults: bool,
    #[command(flatten)]
    storage: bus::StreamStorage,
    #[command(flatten)]
    hosts: http::Hosts,
    #[command(flatten)]
    auth: auth::Config,
    /// Migrates the database of DATABASE_URL even if it holds tables of something else.
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(home: &Home, options: Options) -> anyhow::Result<ExitCode> {
    let _lock = home.lock()?;
    let shutdown = stop_on_signal()?;
    home.rotate_log()?;
    let log = std::env::var_os("OFF_LOG").and_then(|filter| filter.into_string().ok());
    let log = log.unwrap_or_else(|| "info".to_owned());
    let log = telemetry::Config {
        log_format: Some(options.log_format),
        otlp_endpoint: options.otlp_endpoint.clone(),
        ..telemetry::Config::new(&log, Some(home.create_log()?))
    };
    telemetry::init("off", &log)?;
    home.remove_running();

    print_status(&Servers::start_line()?);
    let mut servers = tokio::select! {
        servers = Servers::start(home) => servers?,
        () = shutdown.cancelled() => return Ok(ExitCode::SUCCESS),
    };
    if let Some(folder) = home.relocated_database() {
        let reason = "because Postgres does not run as root and its user has no access to this folder";
        print_status(&format!("  the database's files are in {}, {reason}", folder.display()));
    }
    let outcome = Box::pin(run_system(home, &options, &mut servers, &shutdown)).await;
    home.remove_running();
    let stopped = servers.stop().await;
    telemetry::flush().await;
    outcome?;
    stopped?;
    Ok(ExitCode::SUCCESS)
}

/// Returns a token that the first signal cancels, for a graceful shutdown. A second signal ends the process at once;
/// its servers keep running and the next start finds them. A closed terminal sends SIGHUP more than once, so SIGHUP
/// never counts as a second signal.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        loop {
            let is_second_signal = tokio::select! {
                _ = interrupt.recv() => token.is_cancelled(),
                _ = terminate.recv() => token.is_cancelled(),
                _ = hangup.recv() => false,
            };
            if is_second_signal {
                #[expect(clippy::disallowed_methods, reason = "a second signal skips the graceful shutdown")]
                std::process::exit(130);
            }
            token.cancel();
        }
    });
    Ok(shutdown)
}

/// Runs the services on `servers` until shutdown or failure.
async fn run_system(
    home: &Home,
    options: &Options,
    servers: &mut Servers,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let config = db::Config::at(&servers.database_url, 4);
    let pool = db::lazy_pool(&config, "off-up")?;
    let bus = Bus::connect(&bus::Config::at(&servers.nats_url), "up").await?;
    tokio::select! {
        prepared = prepare(home, options, &pool, &bus) => prepared?,
        () = shutdown.cancelled() => return Ok(()),
    }
    let mut system = System::new(options.hosts.clone(), options.auth.clone());
    // Deadlines that passed while off did not run are met within `CATCH_UP_TIME`. Until then the heartbeat stays that
    // of the previous run, so that an audit after an early stop compares with that time.
    let heartbeat_from = if home.has_heartbeat() { Instant::now() + CATCH_UP_TIME } else { Instant::now() };
    let started = Box::pin(start_services(home, &mut system, options, servers)).await;
    let outcome = match started {
        Ok(()) => {
            tokio::select! {
                shown = show(home, options, servers, &system, &pool, &bus, heartbeat_from) => shown,
                () = shutdown.cancelled() => Ok(()),
            }
        }
        Err(error) => Err(error),
    };
    if outcome.is_err() || system.has_stopped_by_itself() {
        print_status("something failed; shutting down");
    }
    let stopped = system.stop(|name| print_status(&format!("stopped {name}"))).await;
    upkeep::write_heartbeat(home, heartbeat_from);
    let summary = timeout(CLOSE_TIMEOUT, view::summary(&pool)).await;
    bus.close().await;
    if timeout(CLOSE_TIMEOUT, pool.close()).await.is_err() {
        print_status("PostgreSQL does not answer; stopping it");
    }
    outcome?;
    stopped?;
    print_line!("{}", summary.context("no summary: PostgreSQL does not answer")??);
    Ok(())
}

/// Migrates the database, declares streams and consumers, and loads the catalog.
async fn prepare(home: &Home, options: &Options, pool: &PgPool, bus: &Bus) -> anyhow::Result<()> {
    if let Err(reason) = db::probe(pool).await {
        print_status(&format!("  {reason} (retrying for {} s)", START_PATIENCE.as_secs()));
    }
    migrate::all(pool, bus, options.storage, ForeignTables::allowed_if(options.yes)).await?;
    home.make_secrets()?;
    migrate::set_clients(pool, &home.secrets()).await?;
    catalog::load(&options.catalog, options.profile, &home.folder().join("downloads"), pool).await?;
    if !store::has_products(pool).await? {
        print_status("  warning: the catalog is empty, so nothing will be ordered; set another source with --catalog");
    }
    Ok(())
}

/// Writes the addresses for the other commands, and shows the live view until the time is up or something fails.
async fn show(
    home: &Home,
    options: &Options,
    servers: &mut Servers,
    system: &System,
    pool: &PgPool,
    bus: &Bus,
    heartbeat_from: Instant,
) -> anyhow::Result<()> {
    home.write_running(&RunningSystem {
        pid: std::process::id(),
        database_url: servers.database_url.clone(),
        nats_url: servers.nats_url.clone(),
        services: running_services(system),
    })?;
    let deadline = options.run_for.map(|duration| Instant::now() + duration);
    let time_limit = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let (notices, notice_receiver) = watch::channel(None);
    let on_restart = |text: &str| {
        warn!("{text}");
        notices.send_replace(Some(Notice { at: Instant::now(), text: text.to_owned() }));
    };
    let view = View::new(pool.clone(), bus.clone(), options.speed, running_services(system), notice_receiver);
    tokio::select! {
        result = view.run() => result,
        result = Box::pin(servers.keep_running(on_restart)) => result,
        never = Box::pin(upkeep::write_heartbeats(home, heartbeat_from)) => match never {},
        never = Box::pin(upkeep::recreate_deleted(bus, options.storage)) => match never {},
        // `System::stop` returns the error of the service that failed.
        () = system.stops_by_itself() => Ok(()),
        () = time_limit => Ok(()),
    }
}

async fn start_services(home: &Home, system: &mut System, options: &Options, servers: &Servers) -> anyhow::Result<()> {
    print_status("starting the services");
    let clock = Clock::real(options.speed);
    let broker = ("nats-url", servers.nats_url.clone());
    let faults = ("allow-faults", options.allow_faults.to_string());
    let shared = [("database-url", servers.database_url.clone()), broker.clone(), faults.clone()];
    let with = |own: &[(&'static str, String)]| [&shared[..], own].concat();
    let seed = ("seed", options.seed.to_string());
    let secret = |name: &str| home.secrets().join(name).to_string_lossy().into_owned();

    let arguments = with(&[("auth-secret-file", secret(AUTH_SECRET))]);
    let auth = system.start::<AuthService>(settings(&arguments)?, &clock).await?;
    system.verify_with(auth.api)?;
    let arguments = with(&[("auth-url", format!("http://{}", auth.api))]);
    let users = system.start::<UsersService>(settings(&arguments)?, &clock).await?;
    let orders = system.start::<OrdersService>(settings(&shared)?, &clock).await?;
    let billing = system.start::<BillingService>(settings(&shared)?, &clock).await?;
    let notifications =
        system.start::<NotificationsService>(settings(&with(std::slice::from_ref(&seed)))?, &clock).await?;
    let operator = system.start::<OperatorService>(settings(&shared)?, &clock).await?;
    let services = [
        ("auth", auth),
        ("users", users),
        ("orders", orders),
        ("billing", billing),
        ("notifications", notifications),
        ("operator", operator),
    ];
    let gateway = system.start::<Gateway>(gateway_config(&broker.1, &services)?, &clock).await?;
    system.wait_until_ready(READY_TIMEOUT).await;
    if !options.no_generator {
        let url = format!("http://{}", gateway.api);
        let arguments = [
            broker,
            faults,
            seed,
            ("auth-token-url", format!("{url}/oauth/token")),
            ("client-secret-file", secret(&client_file("generator"))),
            ("users-url", url.clone()),
            ("orders-url", url.clone()),
            ("billing-url", url),
            ("households", options.households.to_string()),
        ];
        let config = settings(&arguments).context("the generator's settings")?;
        system.start::<Generator>(config, &clock).await?;
    }
    print_status(&format!("  off is at http://{}, its documentation at http://{}/docs", gateway.api, gateway.api));
    Ok(())
}

/// The settings of a gateway to these services.
fn gateway_config(nats_url: &str, services: &[(&str, Addresses)]) -> anyhow::Result<off_gateway::Config> {
    let urls = services.iter().flat_map(|(name, addresses)| {
        let url = |address| format!("http://{address}");
        [(format!("{name}-url"), url(addresses.api)), (format!("{name}-health-url"), url(addresses.health))]
    });
    let urls: Vec<(String, String)> = urls.collect();
    let mut arguments = vec![("nats-url", nats_url.to_owned())];
    arguments.extend(urls.iter().map(|(name, url)| (name.as_str(), url.clone())));
    settings(&arguments).context("the gateway's settings")
}

fn running_services(system: &System) -> Vec<ServiceAddresses> {
    let services = system.services().iter().map(|service| ServiceAddresses {
        name: service.name().to_owned(),
        url: format!("http://{}", service.addresses().api),
        health_url: format!("http://{}", service.addresses().health),
    });
    services.collect()
}

fn print_status(text: &str) {
    print_line!("{text}");
}
