//! The course of a run.

use super::{
    journal::{Journal, Loss},
    messages,
    parts::{BROKER_ROOM, Pace, Parts},
    people::People,
    proxy::Way,
    reconcile::{self, Verdict},
    schedule::{Fault, Link, Planned, plan},
    summary::{self, Seen, Summary},
};
use crate::{audit, home::Home, motion, reset, serve::Name};
use anyhow::Context;
use futures::future::try_join_all;
use nix::sys::signal::Signal;
use off_etl::{Choice, Profile, SourceName};
use off_events::streams;
use off_kit::{Clock, bus::dead, print_line, service::parse_speed, telemetry};
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

/// How long it may take until all is still, once everything is healed: an order that was announced again in vain, twice, waits 75
/// seconds for the next time, and then for its supplier and its delivery.
const STILL_WITHIN: Duration = Duration::from_mins(2);

/// How long before a loss the broker may have taken what nobody has handled yet: a frozen service is the slowest.
const UNHANDLED_FOR: Duration = Duration::from_mins(1);

/// The same where everything was handled a moment ago.
const JUST_NOW: Duration = Duration::from_secs(1);

/// How often the services are asked whether they are ready, and whether they live.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often overdue orders are counted.
const COUNT_EVERY: Duration = Duration::from_millis(500);

/// How often a run says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long the system is loaded, most of the time under faults.
    #[arg(long = "for", default_value = "5m", value_name = "DURATION", value_parser = parse_length)]
    length: Duration,
    /// Orders a second, sent whether earlier ones were answered or not.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5000))]
    rate: u32,
    /// With the same seed the same faults happen at the same times, and the same is ordered.
    #[arg(long, env = "OFF_SEED", default_value_t = 0, value_name = "N")]
    seed: u64,
    /// So many runs, one after the other, each from nothing and with the next seed.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// Simulated seconds in a real one; at 60 suppliers and deliveries take one to four seconds each.
    #[arg(long, env = "OFF_SPEED", default_value_t = 60.0, value_name = "N", value_parser = parse_speed)]
    speed: f64,
}

fn parse_length(text: &str) -> Result<Duration, String> {
    let length = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let limits = Duration::from_secs(10)..=Duration::from_hours(24);
    if limits.contains(&length) { Ok(length) } else { Err("from 10s to 24h".to_owned()) }
}

pub(crate) async fn run(home: &Home, options: Options) -> anyhow::Result<ExitCode> {
    // A folder of its own beside those of `off up`, whose data it never touches.
    let home = home.beneath("chaos");
    let _lock = home.lock()?;
    reset::clear(&home).await?;
    telemetry::init("off-chaos", &telemetry::Config::new("warn", Some(home.log_file())))?;
    let mut summaries = Vec::new();
    for seed in (options.seed..).take(usize::try_from(options.seeds)?) {
        let kept = home.beneath(&format!("seed-{seed}"));
        let folder = if options.seeds > 1 { &kept } else { &home };
        std::fs::create_dir_all(folder.folder())
            .with_context(|| format!("cannot make {}", folder.folder().display()))?;
        reset::clear(folder).await?;
        summaries.push(run_once(folder, &options, seed).await?);
        if options.seeds > 1 {
            // One that failed stays for somebody to look at.
            if summaries.last().is_some_and(|summary| summary.passed) {
                std::fs::remove_dir_all(folder.folder()).context("cannot tidy up")?;
            }
            summary::print_all(&summaries);
        }
    }
    Ok(if summaries.iter().all(|summary| summary.passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One run from nothing to the verdict. What it leaves in the folder of `home` stays when it failed.
async fn run_once(home: &Home, options: &Options, seed: u64) -> anyhow::Result<Summary> {
    let &Options { length, rate, speed, .. } = options;
    print_line!(
        "chaos with seed {seed}: {rate} orders a second for {}, at speed {speed}",
        humantime::format_duration(length)
    );
    print_line!("starting PostgreSQL, NATS and four services, with a way that can be cut between any two");
    let orders = f64::from(rate) * length.as_secs_f64();
    let parts = Arc::new(Parts::start(home, home.folder(), Pace { speed, seed, orders }).await?);
    if !parts.can_fill_postgres() {
        print_line!("no small disk for PostgreSQL, which takes root and a shorter run: its disk is not filled");
    }
    let summary = match load_and_judge(&parts, options, seed).await {
        Ok(summary) => summary,
        Err(error) => {
            print_line!("the run broke off: {error:#}");
            Summary { seed, passed: false, faults: 0, accepted: 0, still: None, failed: vec!["the run broke off"] }
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

async fn load_and_judge(parts: &Arc<Parts>, options: &Options, seed: u64) -> anyhow::Result<Summary> {
    let &Options { length, rate, speed, .. } = options;
    let choice = Choice::from(Profile::Default);
    off_etl::import(&SourceName::Sample, &choice, Path::new("."), Some(&parts.db), drop)
        .await
        .context("the sample catalogue")?;
    let clock = Clock::real(speed);
    let journal = Arc::new(Journal::default());
    let people = People::settle(parts, journal.clone(), clock, seed).await?;

    let seen = Arc::new(Mutex::new(Seen::default()));
    let started = Instant::now();
    let mut beside = JoinSet::new();
    beside.spawn(watch(parts.clone(), seen.clone(), journal.clone(), started));
    let (living, everyone) = (people.clone(), people.clone());
    let mut life = JoinSet::new();
    life.spawn(async move { living.live(f64::from(rate), started + length).await });
    break_everything(parts, &everyone, &journal, &seen, clock, plan(seed, length)).await?;
    tokio::time::sleep_until(started + length).await;
    say(started, "everything is healed; the last answers come in");
    while let Some(lived) = life.join_next().await {
        lived?;
    }
    let still = wait_until_still(parts, started).await?;
    anyhow::ensure!(beside.try_join_next().is_none(), "nobody watched the services to the end");
    beside.shutdown().await;
    // A device whose order had failed tries again after a pause, also where its shelf is full meanwhile.
    parts.kill(Name::Generator).await?;
    if still.is_some() {
        wait_until_still(parts, started).await?;
    }

    let verdicts = judge(parts, &journal, &seen, still).await?;
    Ok(summary::print(&journal, &seen, (started, length, seed), still, &verdicts))
}

fn say(started: Instant, text: &str) {
    let seconds = started.elapsed().as_secs();
    print_line!("{:>4}:{:02}  {text}", seconds / 60, seconds % 60);
}

/// Carries out the plan; returns when the last fault is healed.
async fn break_everything(
    parts: &Arc<Parts>,
    people: &People,
    journal: &Arc<Journal>,
    seen: &Arc<Mutex<Seen>>,
    clock: Clock,
    plan: Vec<Planned>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut faults = JoinSet::new();
    for (number, planned) in plan.into_iter().enumerate() {
        tokio::time::sleep_until(started + planned.at).await;
        say(started, &planned.fault.to_string());
        let (parts, people, journal, seen) = (parts.clone(), people.clone(), journal.clone(), seen.clone());
        faults.spawn(async move {
            let began = Instant::now();
            let fault = planned.fault.clone();
            carry_out(&parts, &people, &journal, &seen, clock, &planned, number)
                .await
                .with_context(|| format!("{fault} could not be carried out or healed"))?;
            seen.lock().unwrap_or_else(PoisonError::into_inner).faults.push((fault, began, Instant::now()));
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
    heal_store(parts).await
}

/// Heals what an older store of the broker brought back: what filled it, and streams and consumers that were missing then.
async fn heal_store(parts: &Parts) -> anyhow::Result<()> {
    messages::clear_broker(&parts.bus).await?;
    messages::declare(&parts.bus, BROKER_ROOM).await?;
    messages::clear_stream(&parts.bus, streams::DEAD_LETTERS.name).await
}

/// Keeps a way so until `pass` ends, and opens it.
async fn keep_way_for(parts: &Parts, link: Link, way: Way, pass: Sleep) {
    parts.set(link, way);
    pass.await;
    parts.set(link, Way::Open);
}

/// Does what the fault says, waits, and heals it.
async fn carry_out(
    parts: &Parts,
    people: &People,
    journal: &Journal,
    seen: &Mutex<Seen>,
    clock: Clock,
    planned: &Planned,
    number: usize,
) -> anyhow::Result<()> {
    let pass = tokio::time::sleep(planned.lasts);
    match &planned.fault {
        Fault::Kill(names) => {
            try_join_all(names.iter().map(|&name| parts.kill(name))).await?;
            pass.await;
            try_join_all(names.iter().map(|&name| parts.start_service(name))).await?;
        }
        Fault::KillPostgres => parts.kill_postgres(planned.lasts).await?,
        Fault::KillNats => parts.kill_nats(planned.lasts).await?,
        Fault::Freeze(name) => {
            parts.signal(*name, Signal::SIGSTOP).await?;
            pass.await;
            parts.signal(*name, Signal::SIGCONT).await?;
        }
        Fault::Cut(link) => keep_way_for(parts, *link, Way::Cut, pass).await,
        Fault::Slow(link) => keep_way_for(parts, *link, Way::Slow, pass).await,
        Fault::Silence(link) => keep_way_for(parts, *link, Way::Silent, pass).await,
        Fault::Repeat => {
            let repeated = messages::repeat(&parts.bus, number as u64).await;
            // The broker may be away just now; then nothing is repeated.
            seen.lock().unwrap_or_else(PoisonError::into_inner).repeated += repeated.unwrap_or_default();
        }
        Fault::Poison => messages::poison(&parts.bus, journal, clock, number).await.map(drop)?,
        Fault::FillBroker => {
            // A dead letter that finds no room is logged, and nothing waits for it.
            let loss = begin_loss(parts, streams::DEAD_LETTERS.name).await;
            messages::fill_broker(&parts.bus).await?;
            pass.await;
            messages::clear_broker(&parts.bus).await?;
            end_loss(journal, loss);
        }
        Fault::FillStream(name) => {
            let loss = begin_loss(parts, name).await;
            messages::fill_stream(&parts.bus, name, BROKER_ROOM).await?;
            pass.await;
            messages::clear_stream(&parts.bus, name).await?;
            end_loss(journal, loss);
        }
        Fault::PurgeSchedules => messages::purge_schedules(&parts.bus).await?,
        Fault::DeleteConsumer(name) => {
            journal.lock().recreated.insert((*name).to_owned());
            messages::delete_consumer(&parts.bus, name).await?;
            pass.await;
            messages::declare(&parts.bus, BROKER_ROOM).await?;
        }
        Fault::DeleteStream(name) => {
            let loss = begin_loss(parts, name).await;
            messages::delete_stream(&parts.bus, name).await?;
            pass.await;
            messages::declare(&parts.bus, BROKER_ROOM).await?;
            end_loss(journal, loss);
        }
        Fault::RollBackBroker => {
            // What the copy holds is not lost.
            let began = Instant::now();
            let copy = format!("older-{number}");
            parts.copy_nats_store(&copy).await?;
            pass.await;
            parts.roll_nats_store_back(&copy).await?;
            for stream in streams::STREAMS {
                // What becomes a dead letter may be much older than the letter.
                let ago = if stream == streams::DEAD_LETTERS { UNHANDLED_FOR } else { Duration::ZERO };
                let since = began.checked_sub(ago).unwrap_or(began);
                end_loss(journal, Loss { stream: stream.name, since, during: began..=began, unhandled: Some(0) });
            }
            journal.lock().recreated.extend(streams::CONSUMERS.iter().map(|consumer| consumer.name.to_owned()));
            heal_store(parts).await?;
        }
        Fault::FillPostgres => parts.fill_postgres(planned.lasts).await?,
        Fault::Junk => {
            let stream = streams::STOCK.name;
            let (loss, first) = (begin_loss(parts, stream).await, messages::find_first(&parts.bus, stream).await);
            let junk = messages::junk(&parts.bus).await;
            seen.lock().unwrap_or_else(PoisonError::into_inner).junk += junk;
            // As much of it as a stream has room for pushes out what was there before.
            if first.is_none() || first != messages::find_first(&parts.bus, stream).await {
                end_loss(journal, loss);
            }
        }
        Fault::DropPeople => people.vanish(),
        Fault::SkewClocks => {
            people.skew_clocks(true);
            pass.await;
            people.skew_clocks(false);
        }
    }
    Ok(())
}

/// What a stream that is emptied now may lose: what nobody has handled.
async fn begin_loss(parts: &Parts, stream: &'static str) -> Loss {
    let now = Instant::now();
    let unhandled = messages::count_unhandled(&parts.bus, stream).await;
    // What becomes a dead letter may be much older than the letter.
    let is_handled = unhandled == Some(0) && stream != streams::DEAD_LETTERS.name;
    let ago = if is_handled { JUST_NOW } else { UNHANDLED_FOR };
    Loss { stream, since: now.checked_sub(ago).unwrap_or(now), during: now..=now, unhandled }
}

/// Notes a loss that lasted until now.
fn end_loss(journal: &Journal, loss: Loss) {
    let during = *loss.during.start()..=Instant::now();
    journal.lock().losses.push(Loss { during, ..loss });
}

/// Asks the services again and again whether they are ready, and whether any has ended by itself.
async fn watch(parts: Arc<Parts>, seen: Arc<Mutex<Seen>>, journal: Arc<Journal>, started: Instant) {
    let Ok(client) = Client::builder().timeout(Duration::from_millis(500)).no_proxy().build() else { return };
    let (mut said, mut counted) = (Instant::now(), Instant::now());
    loop {
        let asked = Name::ALL.map(|name| {
            let url = format!("http://{}/readyz", parts.health_address(name));
            let request = client.get(url).send();
            async move { request.await.is_ok_and(|answer| answer.status().is_success()) }
        });
        let ready = futures::future::join_all(asked).await.into_iter().all(|ready| ready);
        if counted.elapsed() >= COUNT_EVERY {
            counted = Instant::now();
            let overdue = tokio::time::timeout(COUNT_EVERY, motion::find_overdue(&parts.db, Duration::ZERO)).await;
            let overdue = overdue.ok().and_then(Result::ok).map(|overdue| overdue.count);
            seen.lock().unwrap_or_else(PoisonError::into_inner).overdue.push((Instant::now(), overdue));
        }
        let dead = parts.find_dead().await.unwrap_or_else(|error| vec![format!("{error:#}")]);
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.ready.push((Instant::now(), ready));
            seen.findings.extend(dead);
        }
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            let pages = journal.lock();
            say(started, &format!("{} orders sent, {} answered with 201", pages.orders.len(), pages.accepted_at.len()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until nothing moves any more; how long that took, or `None` when it never came.
async fn wait_until_still(parts: &Parts, started: Instant) -> anyhow::Result<Option<Duration>> {
    let began = Instant::now();
    let mut said = Instant::now();
    while began.elapsed() < STILL_WITHIN {
        let left = sqlx::query!(
            r#"SELECT (SELECT count(*) FROM orders.product_orders
                       WHERE status <> 'completed'
                          OR NOT EXISTS (SELECT FROM users.deliveries WHERE order_id = product_orders.id)) AS "orders!",
                      (SELECT count(*) FROM outbox.messages)
                      + (SELECT count(*) FROM orders.late_orders WHERE unpublished) AS "unpublished!",
                      (SELECT count(*) FROM users.product_ssds WHERE low_since IS NOT NULL) AS "low!""#
        );
        let left = left.fetch_one(&parts.db).await?;
        let mut unread = 0;
        for consumer in &streams::CONSUMERS {
            let waiting = parts.bus.waiting(consumer).await?;
            unread += waiting.pending + waiting.in_hand;
        }
        if left.orders == 0 && left.unpublished == 0 && left.low == 0 && unread == 0 {
            return Ok(Some(began.elapsed()));
        }
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            let (orders, unpublished, low) = (left.orders, left.unpublished, left.low);
            let text = format!(
                "not still yet: {orders} orders on their way, {unpublished} unpublished, {unread} unread, {low} shelves low"
            );
            say(started, &text);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(None)
}

async fn judge(
    parts: &Parts,
    journal: &Journal,
    seen: &Mutex<Seen>,
    still: Option<Duration>,
) -> anyhow::Result<Vec<Verdict>> {
    let letters = dead::list(&parts.bus).await?;
    let audit = audit::audit(&parts.db, &parts.bus, Duration::from_secs(5), None).await?;
    let (stillness, restless) = match still {
        Some(after) => (
            format!("all is published, all consumers caught up, {:.1} s after the last answer", after.as_secs_f64()),
            vec![],
        ),
        None => (
            "all is still in the end".to_owned(),
            vec![format!("something moves on {} later", humantime::format_duration(STILL_WITHIN))],
        ),
    };
    let mut verdicts = {
        let pages = std::mem::take(&mut *journal.lock());
        let verdicts = reconcile::judge(&parts.db, &parts.bus, &pages, &letters).await;
        *journal.lock() = pages;
        verdicts?
    };
    verdicts.push(Verdict::new(
        "audit",
        "what off audit finds: nothing",
        audit.findings.into_iter().map(|finding| finding.text).collect(),
    ));
    verdicts.push(Verdict::new("stillness", stillness, restless));
    let findings = seen.lock().unwrap_or_else(PoisonError::into_inner).findings.clone();
    verdicts.push(Verdict::new("processes", "no service ended by itself", findings));
    verdicts.push(reconcile::judge_replay(&parts.db, &parts.bus, &letters).await?);
    Ok(verdicts)
}
