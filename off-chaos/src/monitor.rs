//! Polls the system during a run, and waits until it has drained.

use crate::{journal::Journal, parts::Parts, print_progress, store::Left, summary::Observations};
use off_cli::{serve::ServiceName, stalls};
use off_events::streams;
use off_kit::Clock;
use reqwest::Client;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// How long the system may take to drain after all faults are healed. An order that was announced again twice without
/// effect waits 75 seconds for the next announcement, and then for its supplier and its delivery.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_mins(2);

/// Time from a refused or cancelled order to the next `stock.low`, in simulated time, as in the users service.
const ORDER_AGAIN_PAUSE: Duration = Duration::from_hours(6);

/// Minimum of that in real time.
const MIN_ORDER_AGAIN_PAUSE: Duration = Duration::from_secs(10);

/// How often the readiness and the processes of the services are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How often overdue orders are counted.
const COUNT_INTERVAL: Duration = Duration::from_millis(500);

/// How often a run prints its progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Polls the readiness of the services, the number of overdue orders and unexpected exits until it is aborted.
pub(crate) async fn watch(
    parts: Arc<Parts>,
    observations: Arc<Mutex<Observations>>,
    journal: Arc<Journal>,
    started: Instant,
) {
    let Ok(client) = Client::builder().timeout(Duration::from_millis(500)).no_proxy().build() else { return };
    let (mut last_printed, mut last_counted) = (Instant::now(), Instant::now());
    loop {
        let ready = are_all_ready(&client, &parts).await;
        if last_counted.elapsed() >= COUNT_INTERVAL {
            last_counted = Instant::now();
            let overdue = timeout(COUNT_INTERVAL, stalls::count_overdue(&parts.db, Duration::ZERO)).await;
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

async fn are_all_ready(client: &Client, parts: &Parts) -> bool {
    let requests = ServiceName::ALL.map(|name| {
        let url = format!("http://{}/readyz", parts.health_address(name));
        let request = client.get(url).send();
        async move { request.await.is_ok_and(|response| response.status().is_success()) }
    });
    futures::future::join_all(requests).await.into_iter().all(|ready| ready)
}

/// Time from a refused or cancelled order to the next `stock.low`, in real time.
pub(crate) fn order_again_pause(clock: Clock) -> Duration {
    clock.real_wait(ORDER_AGAIN_PAUSE).max(MIN_ORDER_AGAIN_PAUSE)
}

/// Waits until the system has drained: all orders ended, all messages published and handled, no shelf item low, except
/// where an order was refused or cancelled. Returns how long that took, or `None` after [`DRAIN_TIMEOUT`].
pub(crate) async fn wait_until_drained(
    parts: &Parts,
    started: Instant,
    pause: Duration,
) -> anyhow::Result<Option<Duration>> {
    let began = Instant::now();
    let mut last_printed = Instant::now();
    while began.elapsed() < DRAIN_TIMEOUT {
        let Left { orders, unpublished, low } = Left::count(&parts.db, pause).await?;
        let mut unhandled = 0;
        for consumer in &streams::CONSUMERS {
            let backlog = parts.bus.backlog(consumer).await?;
            unhandled += backlog.pending + backlog.unacknowledged;
        }
        if orders == 0 && unpublished == 0 && low == 0 && unhandled == 0 {
            return Ok(Some(began.elapsed()));
        }
        if last_printed.elapsed() >= PROGRESS_INTERVAL {
            last_printed = Instant::now();
            let text = format!(
                "not drained yet: {orders} orders not finished, {unpublished} messages unpublished, {unhandled} \
                 unhandled, {low} shelf items low"
            );
            print_progress(started, &text);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(None)
}
