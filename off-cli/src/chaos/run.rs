//! Runs `off chaos`: starts the system, loads it, injects faults, heals them and checks the result.

use super::{
    clients::Clients,
    journal::{Journal, Loss},
    messages,
    parts::{Parts, RunSettings, STREAM_STORAGE_MIB},
    proxy::LinkState,
    reconcile::{self, Verdict},
    schedule::{Fault, Link, Planned, plan},
    summary::{self, Observations, Summary},
};
use crate::{audit, home::Home, reset, serve::Name, stalls};
use anyhow::Context;
use futures::future::try_join_all;
use nix::sys::signal::Signal;
use off_etl::{Choice, Export, ImportOptions, NoObserver, Profile};
use off_events::streams;
use off_kit::{Clock, bus::dead_letters, print_line, service::parse_speed, telemetry};
use reqwest::Client;
use std::{
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, Sleep},
};

/// How long the system may take to drain after all faults are healed. An order that was announced again twice without
/// effect waits 75 seconds for the next announcement, and then for its supplier and its delivery.
const DRAIN_TIMEOUT: Duration = Duration::from_mins(2);

/// Maximum age of unhandled messages when a loss begins. A service that was frozen has the oldest ones.
const MAX_UNHANDLED_AGE: Duration = Duration::from_mins(1);

/// The same if no message was unhandled just before the loss.
const MAX_HANDLED_AGE: Duration = Duration::from_secs(1);

/// How often the readiness and the processes of the services are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How often overdue orders are counted.
const COUNT_INTERVAL: Duration = Duration::from_millis(500);

/// How often a run prints its progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

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
    let home = home.beneath("chaos");
    let _lock = home.lock()?;
    reset::clear(&home).await?;
    telemetry::init("off-chaos", &telemetry::Config::new("warn", Some(home.log_file())))?;
    let mut summaries = Vec::new();
    for seed in (options.seed..).take(usize::try_from(options.seeds)?) {
        let kept = home.beneath(&format!("seed-{seed}"));
        let folder = if options.seeds > 1 { &kept } else { &home };
        std::fs::create_dir_all(folder.folder())
            .with_context(|| format!("cannot create {}", folder.folder().display()))?;
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
    print_line!("starting PostgreSQL, NATS and four services, with a proxy on every link between them");
    let orders = f64::from(rate) * length.as_secs_f64();
    let parts = Arc::new(Parts::start(home, home.folder(), RunSettings { speed, seed, orders }).await?);
    if !parts.can_fill_postgres() {
        print_line!("PostgreSQL's disk is not filled: its small disk requires root and a shorter run");
    }
    let summary = match load_and_check(&parts, options, seed).await {
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
        "repeat it with: off chaos --seed {seed} --for {} --rate {rate} --speed {speed}",
        humantime::format_duration(length)
    );
    Ok(summary)
}

async fn load_and_check(parts: &Arc<Parts>, options: &Options, seed: u64) -> anyhow::Result<Summary> {
    let &Options { length, rate, speed, .. } = options;
    let choice = Choice::from(Profile::Default);
    let import_options = ImportOptions { choice: &choice, downloads: Path::new("."), db: Some(&parts.db) };
    off_etl::import(&Export::Sample, import_options, &mut NoObserver)
        .await
        .context("cannot import the sample catalog")?;
    let clock = Clock::real(speed);
    let journal = Arc::new(Journal::default());
    let clients = Clients::register(parts, journal.clone(), clock, seed).await?;

    let observations = Arc::new(Mutex::new(Observations::default()));
    let started = Instant::now();
    let mut monitor = JoinSet::new();
    monitor.spawn(watch(parts.clone(), observations.clone(), journal.clone(), started));
    let mut load = JoinSet::new();
    let sending = clients.clone();
    load.spawn(async move { sending.run_load(f64::from(rate), started + length).await });
    inject_faults(parts, &clients, &journal, &observations, clock, plan(seed, length)).await?;
    tokio::time::sleep_until(started + length).await;
    print_progress(started, "all faults are healed; waiting for the last responses");
    while let Some(ended) = load.join_next().await {
        ended?;
    }
    let drained_after = wait_until_drained(parts, started).await?;
    anyhow::ensure!(monitor.try_join_next().is_none(), "the monitoring of the services ended early");
    monitor.shutdown().await;
    // A device whose order failed orders again after a pause, even if its shelf has been restocked meanwhile.
    parts.kill(Name::Generator).await?;
    if drained_after.is_some() {
        wait_until_drained(parts, started).await?;
    }

    let verdicts = check_all(parts, &journal, &observations, drained_after).await?;
    Ok(summary::print(&journal, &observations, (started, length, seed), drained_after, &verdicts))
}

fn print_progress(started: Instant, text: &str) {
    let seconds = started.elapsed().as_secs();
    print_line!("{:>4}:{:02}  {text}", seconds / 60, seconds % 60);
}

/// Injects the planned faults; returns when the last one is healed.
async fn inject_faults(
    parts: &Arc<Parts>,
    clients: &Clients,
    journal: &Arc<Journal>,
    observations: &Arc<Mutex<Observations>>,
    clock: Clock,
    plan: Vec<Planned>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut faults = JoinSet::new();
    for (number, planned) in plan.into_iter().enumerate() {
        tokio::time::sleep_until(started + planned.at).await;
        print_progress(started, &planned.fault.to_string());
        let (parts, clients) = (parts.clone(), clients.clone());
        let (journal, observations) = (journal.clone(), observations.clone());
        faults.spawn(async move {
            let began = Instant::now();
            let fault = planned.fault.clone();
            inject(&parts, &clients, &journal, &observations, clock, &planned, number)
                .await
                .with_context(|| format!("cannot inject or heal: {fault}"))?;
            observations.lock().unwrap_or_else(PoisonError::into_inner).faults.push((fault, began, Instant::now()));
            anyhow::Ok(())
        });
        while let Some(done) = faults.try_join_next() {
            done??;
        }
    }
    while let Some(done) = faults.join_next().await {
        done??;
    }
    parts.heal().await?;
    repair_broker(parts).await
}

/// Repairs what an older copy of the broker's store may have restored: filler, and missing streams and consumers.
async fn repair_broker(parts: &Parts) -> anyhow::Result<()> {
    messages::clear_broker(&parts.bus).await?;
    messages::declare(&parts.bus, STREAM_STORAGE_MIB).await?;
    messages::clear_stream(&parts.bus, streams::DEAD_LETTERS.name).await
}

/// Sets the state of a link until `hold` ends, then opens the link.
async fn hold_link(parts: &Parts, link: Link, state: LinkState, hold: Sleep) {
    parts.set_link(link, state);
    hold.await;
    parts.set_link(link, LinkState::Open);
}

/// Injects a fault, waits for its duration and heals it.
async fn inject(
    parts: &Parts,
    clients: &Clients,
    journal: &Journal,
    observations: &Mutex<Observations>,
    clock: Clock,
    planned: &Planned,
    number: usize,
) -> anyhow::Result<()> {
    let hold = tokio::time::sleep(planned.duration);
    match &planned.fault {
        Fault::Kill(names) => {
            try_join_all(names.iter().map(|&name| parts.kill(name))).await?;
            hold.await;
            try_join_all(names.iter().map(|&name| parts.start_service(name))).await?;
        }
        Fault::KillPostgres => parts.kill_postgres(planned.duration).await?,
        Fault::KillNats => parts.kill_nats(planned.duration).await?,
        Fault::Freeze(name) => {
            parts.signal(*name, Signal::SIGSTOP).await?;
            hold.await;
            parts.signal(*name, Signal::SIGCONT).await?;
        }
        Fault::Cut(link) => hold_link(parts, *link, LinkState::Cut, hold).await,
        Fault::Slow(link) => hold_link(parts, *link, LinkState::Slow, hold).await,
        Fault::BlackHole(link) => hold_link(parts, *link, LinkState::BlackHole, hold).await,
        Fault::Republish => {
            let republished = messages::republish(&parts.bus, number as u64).await;
            // Republishes nothing if the broker is unavailable.
            observations.lock().unwrap_or_else(PoisonError::into_inner).republished += republished.unwrap_or_default();
        }
        Fault::Poison => messages::poison(&parts.bus, journal, clock, number).await.map(drop)?,
        Fault::FillBroker => {
            // While the storage is full, dead letters are only logged, so they may be missing later.
            let loss = begin_loss(parts, streams::DEAD_LETTERS.name).await;
            messages::fill_broker(&parts.bus).await?;
            hold.await;
            messages::clear_broker(&parts.bus).await?;
            end_loss(journal, loss);
        }
        Fault::FillStream(name) => {
            let loss = begin_loss(parts, name).await;
            messages::fill_stream(&parts.bus, name, STREAM_STORAGE_MIB).await?;
            hold.await;
            messages::clear_stream(&parts.bus, name).await?;
            end_loss(journal, loss);
        }
        Fault::PurgeSchedules => messages::purge_schedules(&parts.bus).await?,
        Fault::DeleteConsumer(name) => {
            journal.lock().recreated.insert((*name).to_owned());
            messages::delete_consumer(&parts.bus, name).await?;
            hold.await;
            messages::declare(&parts.bus, STREAM_STORAGE_MIB).await?;
        }
        Fault::DeleteStream(name) => {
            let loss = begin_loss(parts, name).await;
            messages::delete_stream(&parts.bus, name).await?;
            hold.await;
            messages::declare(&parts.bus, STREAM_STORAGE_MIB).await?;
            end_loss(journal, loss);
        }
        Fault::RollBackBroker => {
            // Only messages that are newer than the copy are lost.
            let began = Instant::now();
            let copy = format!("older-{number}");
            parts.copy_nats_store(&copy).await?;
            hold.await;
            parts.roll_nats_store_back(&copy).await?;
            for stream in streams::STREAMS {
                // A message may be much older than its dead letter.
                let ago = if stream == streams::DEAD_LETTERS { MAX_UNHANDLED_AGE } else { Duration::ZERO };
                let since = began.checked_sub(ago).unwrap_or(began);
                end_loss(journal, Loss { stream: stream.name, since, during: began..=began, unhandled: Some(0) });
            }
            journal.lock().recreated.extend(streams::CONSUMERS.iter().map(|consumer| consumer.name.to_owned()));
            repair_broker(parts).await?;
        }
        Fault::FillPostgres => parts.fill_postgres(planned.duration).await?,
        Fault::Junk => {
            let stream = streams::STOCK.name;
            let loss = begin_loss(parts, stream).await;
            let first = messages::find_first_sequence(&parts.bus, stream).await;
            let junk = messages::junk(&parts.bus).await;
            observations.lock().unwrap_or_else(PoisonError::into_inner).junk += junk;
            // Much junk pushes older messages out of the stream.
            if first.is_none() || first != messages::find_first_sequence(&parts.bus, stream).await {
                end_loss(journal, loss);
            }
        }
        Fault::DisconnectClients => clients.disconnect(),
        Fault::SkewClocks => {
            clients.skew_clocks(true);
            hold.await;
            clients.skew_clocks(false);
        }
    }
    Ok(())
}

/// Begins to record a loss: the unhandled messages of a stream may be lost from now on.
async fn begin_loss(parts: &Parts, stream: &'static str) -> Loss {
    let now = Instant::now();
    let unhandled = messages::count_unhandled(&parts.bus, stream).await;
    // A message may be much older than its dead letter.
    let is_handled = unhandled == Some(0) && stream != streams::DEAD_LETTERS.name;
    let ago = if is_handled { MAX_HANDLED_AGE } else { MAX_UNHANDLED_AGE };
    Loss { stream, since: now.checked_sub(ago).unwrap_or(now), during: now..=now, unhandled }
}

/// Records a loss that lasted until now.
fn end_loss(journal: &Journal, loss: Loss) {
    let during = *loss.during.start()..=Instant::now();
    journal.lock().losses.push(Loss { during, ..loss });
}

/// Polls the readiness of the services, the number of overdue orders and unexpected exits until it is aborted.
async fn watch(parts: Arc<Parts>, observations: Arc<Mutex<Observations>>, journal: Arc<Journal>, started: Instant) {
    let Ok(client) = Client::builder().timeout(Duration::from_millis(500)).no_proxy().build() else { return };
    let (mut last_printed, mut last_counted) = (Instant::now(), Instant::now());
    loop {
        let requests = Name::ALL.map(|name| {
            let url = format!("http://{}/readyz", parts.health_address(name));
            let request = client.get(url).send();
            async move { request.await.is_ok_and(|response| response.status().is_success()) }
        });
        let ready = futures::future::join_all(requests).await.into_iter().all(|ready| ready);
        if last_counted.elapsed() >= COUNT_INTERVAL {
            last_counted = Instant::now();
            let overdue = tokio::time::timeout(COUNT_INTERVAL, stalls::find_overdue(&parts.db, Duration::ZERO)).await;
            let overdue = overdue.ok().and_then(Result::ok).map(|overdue| overdue.count);
            observations.lock().unwrap_or_else(PoisonError::into_inner).overdue.push((Instant::now(), overdue));
        }
        let exited = parts.restart_exited().await.unwrap_or_else(|error| vec![format!("{error:#}")]);
        {
            let mut observations = observations.lock().unwrap_or_else(PoisonError::into_inner);
            observations.ready.push((Instant::now(), ready));
            observations.findings.extend(exited);
        }
        if last_printed.elapsed() >= PROGRESS_INTERVAL {
            last_printed = Instant::now();
            let entries = journal.lock();
            let (sent, accepted) = (entries.orders.len(), entries.accepted_at.len());
            print_progress(started, &format!("{sent} orders sent, {accepted} answered with 201"));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Waits until the system has drained: all orders delivered, all messages published and handled, no shelf low. Returns
/// how long that took, or `None` after [`DRAIN_TIMEOUT`].
async fn wait_until_drained(parts: &Parts, started: Instant) -> anyhow::Result<Option<Duration>> {
    let began = Instant::now();
    let mut last_printed = Instant::now();
    while began.elapsed() < DRAIN_TIMEOUT {
        let left = sqlx::query!(
            r#"SELECT (SELECT count(*) FROM orders.product_orders
                       WHERE status <> 'completed'
                          OR NOT EXISTS (SELECT FROM users.deliveries WHERE order_id = product_orders.id)) AS "orders!",
                      (SELECT count(*) FROM outbox.messages)
                      + (SELECT count(*) FROM orders.late_orders WHERE unpublished) AS "unpublished!",
                      (SELECT count(*) FROM users.shelf_items WHERE low_since IS NOT NULL) AS "low!""#
        );
        let left = left.fetch_one(&parts.db).await?;
        let mut unhandled = 0;
        for consumer in &streams::CONSUMERS {
            let waiting = parts.bus.waiting(consumer).await?;
            unhandled += waiting.pending + waiting.unacknowledged;
        }
        if left.orders == 0 && left.unpublished == 0 && left.low == 0 && unhandled == 0 {
            return Ok(Some(began.elapsed()));
        }
        if last_printed.elapsed() >= PROGRESS_INTERVAL {
            last_printed = Instant::now();
            let (orders, unpublished, low) = (left.orders, left.unpublished, left.low);
            let text = format!(
                "not drained yet: {orders} orders not delivered, {unpublished} messages unpublished, {unhandled} \
                 unhandled, {low} shelves low"
            );
            print_progress(started, &text);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(None)
}

async fn check_all(
    parts: &Parts,
    journal: &Journal,
    observations: &Mutex<Observations>,
    drained_after: Option<Duration>,
) -> anyhow::Result<Vec<Verdict>> {
    let letters = dead_letters::list(&parts.bus).await?;
    let audit = audit::audit(&parts.db, &parts.bus, Duration::from_secs(5), None).await?;
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
        let verdicts = reconcile::check_all(&parts.db, &parts.bus, &entries, &letters).await;
        *journal.lock() = entries;
        verdicts?
    };
    verdicts.push(Verdict::new(
        "audit",
        "off audit finds nothing",
        audit.findings.into_iter().map(|finding| finding.text).collect(),
    ));
    verdicts.push(Verdict::new("drained", claim, evidence));
    let findings = observations.lock().unwrap_or_else(PoisonError::into_inner).findings.clone();
    verdicts.push(Verdict::new("processes", "no service exited unexpectedly", findings));
    verdicts.push(reconcile::check_replay(&parts.db, &parts.bus, &letters).await?);
    Ok(verdicts)
}
