//! A run: starts the system, loads it, injects faults, heals them and checks the result.

use crate::{
    clients::Clients,
    fault::Link,
    inject::Injector,
    journal::Journal,
    monitor::{DRAIN_TIMEOUT, order_again_pause, wait_until_drained, watch},
    network::RunSettings,
    parts::Parts,
    print_progress,
    reconcile::{self, Verdict},
    schedule::plan,
    store,
    summary::{self, Observations, RunTimes, Summary},
    viewers::Viewers,
};
use anyhow::Context;
use off_cli::{home::Home, reset, serve::ServiceName};
use off_etl::{Choice, Export, ImportOptions, NoObserver, Profile};
use off_kit::{Clock, bus::dead_letters, print_line, service::parse_speed, telemetry};
use std::{
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long the system is loaded, with faults during most of that time.
    #[arg(long = "for", default_value = "5m", value_name = "DURATION", value_parser = parse_length)]
    length: Duration,
    /// Orders per second, sent regardless of outstanding responses.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5000))]
    rate: u32,
    /// Seed of the faults, their times, and the orders.
    #[arg(long, env = "OFF_SEED", default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Number of consecutive runs, each with an empty system and the next seed.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// Simulated seconds per real second. At 60, suppliers and deliveries take one to four seconds each.
    #[arg(long, env = "OFF_SPEED", default_value_t = 60.0, value_name = "N", value_parser = parse_speed)]
    speed: f64,
}

fn parse_length(text: &str) -> Result<Duration, String> {
    let length = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let limits = Duration::from_secs(10)..=Duration::from_hours(24);
    if limits.contains(&length) { Ok(length) } else { Err("from 10s to 24h".to_owned()) }
}

pub(crate) async fn run(home: &Home, options: Options) -> anyhow::Result<ExitCode> {
    // A separate folder, so that the data of `off up` is never touched.
    let home = home.beneath(reset::CHAOS);
    let _lock = home.lock()?;
    reset::clear(&home).await?;
    telemetry::init("off-chaos", &telemetry::Config::new("warn", Some(home.create_log()?)))?;
    let mut summaries = Vec::new();
    for seed in (options.seed..).take(usize::try_from(options.seeds)?) {
        let kept = home.beneath(&format!("seed-{seed}"));
        let folder = if options.seeds > 1 { &kept } else { &home };
        folder.create_folder()?;
        reset::clear(folder).await?;
        summaries.push(run_once(folder, &options, seed).await?);
        if options.seeds > 1 {
            // The data of a failed run is kept for examination.
            if summaries.last().is_some_and(|summary| summary.passed) {
                std::fs::remove_dir_all(folder.folder()).context("cannot delete the data of the run")?;
            }
            summary::print_all(&summaries);
        }
    }
    Ok(if summaries.iter().all(|summary| summary.passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One run, from an empty system to its summary. The data in the folder of `home` is kept if the run failed.
async fn run_once(home: &Home, options: &Options, seed: u64) -> anyhow::Result<Summary> {
    let &Options { length, rate, speed, .. } = options;
    print_line!(
        "chaos with seed {seed}: {rate} orders per second for {}, at speed {speed}",
        humantime::format_duration(length)
    );
    print_line!("starting PostgreSQL, NATS and eight services, with a proxy on every link between them");
    let orders = u64::from(rate) * length.as_secs();
    let settings = RunSettings { speed, seed, orders };
    let journal = Arc::new(Journal::default());
    let parts = Arc::new(Parts::start(home, home.folder(), settings, journal.clone()).await?);
    if !parts.can_fill_postgres() {
        print_line!("PostgreSQL's disk is not filled: its small disk requires root and a shorter run");
    }
    let summary = match load_and_check(home, &parts, journal, options, settings).await {
        Ok(summary) => summary,
        Err(error) => {
            print_line!("the run was aborted: {error:#}");
            let failed = vec!["the run was aborted"];
            Summary { seed, passed: false, faults: 0, accepted: 0, drained_after: None, failed }
        }
    };
    parts.stop(!summary.passed).await?;
    if summary.passed {
        reset::clear(home).await?;
        return Ok(summary);
    }
    print_line!("\nthe databases, streams and logs of this run are in {}", home.folder().display());
    print_line!(
        "repeat it with: ./run chaos --seed {seed} --for {} --rate {rate} --speed {speed}",
        humantime::format_duration(length)
    );
    Ok(summary)
}

async fn load_and_check(
    home: &Home,
    parts: &Arc<Parts>,
    journal: Arc<Journal>,
    &Options { length, rate, .. }: &Options,
    settings: RunSettings,
) -> anyhow::Result<Summary> {
    let RunSettings { speed, seed, .. } = settings;
    let choice = Choice::from(Profile::Default);
    let import_options = ImportOptions { choice: &choice, downloads: Path::new("."), db: Some(&parts.db) };
    off_etl::import(&Export::Sample, import_options, &mut NoObserver)
        .await
        .context("cannot import the sample catalog")?;
    let clock = Clock::real(speed);
    let clients = Clients::register(parts, &home.secrets(), journal.clone(), clock, settings).await?;

    let viewers = Viewers::start(&parts.url(Link::FromClients), &clients.viewers(), clock).await?;

    let observations = Arc::new(Mutex::new(Observations::default()));
    let started = Instant::now();
    let mut monitor = JoinSet::new();
    monitor.spawn(watch(parts.clone(), observations.clone(), journal.clone(), started));
    let mut load = JoinSet::new();
    let sending = clients.clone();
    load.spawn(async move { sending.run_load(f64::from(rate), started + length).await });
    let injector =
        Injector { parts: parts.clone(), clients, journal: journal.clone(), observations: observations.clone(), clock };
    injector.run(plan(seed, length)).await?;
    tokio::time::sleep_until(started + length).await;
    print_progress(started, "all faults are healed; waiting for the last responses");
    while let Some(ended) = load.join_next().await {
        ended?;
    }
    // Its time comes after minutes, so that a short run would see no second attempt.
    store::make_mails_due(&parts.db).await?;
    let pause = order_again_pause(clock);
    let drained_after = wait_until_drained(parts, started, pause).await?;
    anyhow::ensure!(monitor.try_join_next().is_none(), "the monitoring of the services ended early");
    monitor.shutdown().await;
    // A device whose order failed orders again after a pause, even if its shelf has been restocked meanwhile.
    parts.kill(ServiceName::Generator).await?;
    if drained_after.is_some() {
        wait_until_drained(parts, started, pause).await?;
    }
    // E-mails are tried again minutes apart, for days. Their state must not change while it is compared.
    parts.kill(ServiceName::Notifications).await?;

    let verdicts = check_all(parts, &journal, &observations, &viewers, drained_after, pause).await?;
    Ok(summary::print(&journal, &observations, RunTimes { started, length, seed }, drained_after, &verdicts))
}

async fn check_all(
    parts: &Parts,
    journal: &Journal,
    observations: &Mutex<Observations>,
    viewers: &Viewers,
    drained_after: Option<Duration>,
    pause: Duration,
) -> anyhow::Result<Vec<Verdict>> {
    let dead_letters = dead_letters::list(&parts.bus).await?;
    let audit = off_audit::audit(&parts.db, &parts.bus, Duration::from_secs(5), None).await?;
    let (claim, evidence) = match drained_after {
        Some(after) => {
            (format!("all is published and handled {:.1} s after the last response", after.as_secs_f64()), vec![])
        }
        None => (
            "all is published and handled in the end".to_owned(),
            vec![format!("the system had not drained after {}", humantime::format_duration(DRAIN_TIMEOUT))],
        ),
    };
    let mut verdicts = {
        let entries = std::mem::take(&mut *journal.lock());
        let verdicts = reconcile::check_all(&parts.db, &parts.bus, &entries, &dead_letters, pause).await;
        *journal.lock() = entries;
        verdicts?
    };
    verdicts.push(Verdict::new(
        "audit",
        "off audit finds nothing",
        audit.findings.into_iter().map(|finding| finding.text).collect(),
    ));
    verdicts.push(viewers.check(&parts.bus).await?);
    verdicts.push(Verdict::new("drained", claim, evidence));
    let findings = observations.lock().unwrap_or_else(PoisonError::into_inner).findings.clone();
    verdicts.push(Verdict::new("processes", "no service exited unexpectedly", findings));
    verdicts.push(reconcile::check_replay(&parts.db, &parts.bus, &dead_letters).await?);
    Ok(verdicts)
}
