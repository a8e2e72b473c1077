//! Pays money into the accounts of households: their welcome deposits, and their pay.

use crate::{
    App, Config,
    api::ApiError,
    domain::{Income, PAY, PlannedPay},
    trace::new_span,
};
use off_events::{Money, UserId};
use off_kit::{Clock, LogLimit, Tasks, backoff::Backoff};
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tracing::{Instrument, debug, warn};

/// Maximum number of concurrent deposits.
const MAX_CONCURRENT: usize = 16;

/// Maximum number of deposits that wait while the billing service is slow or unavailable. Further pay is skipped.
const MAX_WAITING: usize = 10_000;

/// Where deposits are sent to be made. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Deposits {
    waiting: mpsc::Sender<Deposit>,
    /// The number of the first pay interval: that of the clock, so that a generator that is started again does not pay
    /// for an interval twice.
    first_day: u64,
}

/// A deposit, before its account is known.
#[derive(Debug)]
struct Deposit {
    household: u32,
    /// The idempotency key.
    key: String,
    amount: Money,
}

/// Makes deposits. Clones share their state.
#[derive(Debug, Clone)]
struct Depositor {
    app: App,
    log_limit: Arc<LogLimit>,
}

impl Deposits {
    /// Starts the tasks that make deposits until shutdown: at first the welcome deposits of `households`.
    pub(crate) fn start(config: &Config, households: u32, app: App, clock: Clock, tasks: &Tasks) -> Self {
        let (waiting, receiver) = mpsc::channel(MAX_WAITING);
        let (welcomes, income, app_of_welcomes) = (waiting.clone(), config.income(), app.clone());
        let stopping = tasks.clone();
        tasks.spawn("welcome", async move {
            tokio::select! {
                () = welcome_all(&app_of_welcomes, income, households, welcomes) => stopping.stopping().await,
                () = stopping.stopping() => {}
            }
            Ok(())
        });
        let (depositor, stopping) = (Depositor { app, log_limit: Arc::default() }, tasks.clone());
        tasks.spawn("deposits", async move {
            tokio::select! {
                made = depositor.make_all(receiver) => made,
                () = stopping.stopping() => Ok(()),
            }
        });
        let now = SystemTime::from(clock.now()).duration_since(UNIX_EPOCH).unwrap_or_default();
        let first_day = now.as_nanos() / clock.real_wait(config.pay_interval).as_nanos().max(1);
        Self { waiting, first_day: u64::try_from(first_day).unwrap_or_default() }
    }

    /// Pays a household. Skips its pay if too many deposits wait.
    pub(crate) fn pay(&self, PlannedPay { household, day, amount }: PlannedPay) {
        let key = format!("pay:{household}:{}", self.first_day + day);
        if self.waiting.try_send(Deposit { household, key, amount }).is_err() {
            debug!("the pay of household {household} is skipped: {MAX_WAITING} deposits wait");
        }
    }
}

/// Sends the welcome deposit of each household after its registration, also of those that an earlier run registered.
async fn welcome_all(app: &App, income: Income, households: u32, waiting: mpsc::Sender<Deposit>) {
    for household in 0..u32::MAX {
        app.households.wait_for_registration(household).await;
        let Some(amount) = income.welcome(household, households) else { continue };
        let key = format!("welcome:{household}");
        if waiting.send(Deposit { household, key, amount }).await.is_err() {
            return;
        }
    }
}

impl Depositor {
    async fn make_all(self, mut waiting: mpsc::Receiver<Deposit>) -> anyhow::Result<()> {
        let mut in_progress = JoinSet::new();
        while let Some(deposit) = waiting.recv().await {
            if in_progress.len() >= MAX_CONCURRENT {
                in_progress.join_next().await.transpose()?;
            }
            let depositor = self.clone();
            in_progress.spawn(async move { depositor.make(deposit).await });
        }
        Ok(())
    }

    /// Makes a deposit, with retries until the billing service answers.
    async fn make(&self, Deposit { household, key, amount }: Deposit) {
        let Some(user) = self.app.households.wait_for_user(household).await else {
            debug!("{key} is skipped: household {household} is not registered");
            return;
        };
        let mut backoff = Backoff::default();
        while let Err(error) = self.attempt(&key, user, amount).instrument(new_span(PAY)).await {
            if let Some(suppressed) = self.log_limit.admit() {
                warn!(suppressed, "{key} failed: {error:#}");
            }
            if let ApiError::Rejected { .. } = error {
                return;
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    async fn attempt(&self, key: &str, user: UserId, amount: Money) -> Result<(), ApiError> {
        let started = Instant::now();
        let outcome = self.app.api.deposit(key, user, amount).await;
        self.app.stats.record(PAY, started.elapsed(), &outcome);
        outcome
    }
}
