//! Injects the planned faults, each for its duration, and heals them.

use crate::{
    broker,
    clients::Clients,
    fault::{Fault, Link},
    journal::{Journal, Loss},
    messages,
    parts::{Parts, STREAM_STORAGE_MIB},
    print_progress,
    proxy::LinkState,
    schedule::Planned,
    summary::Observations,
};
use anyhow::Context;
use futures::future::try_join_all;
use off_cli::serve::ServiceName;
use off_events::streams;
use off_kit::Clock;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, Sleep},
};

/// Maximum age of unhandled messages when a loss begins. A service that was frozen has the oldest ones.
const MAX_UNHANDLED_AGE: Duration = Duration::from_mins(1);

/// Maximum age of the newest handled message that a loss may still take, if all messages were handled just before it.
const MAX_HANDLED_AGE: Duration = Duration::from_secs(1);

/// What faults act on, and where they are recorded. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Injector {
    pub(crate) parts: Arc<Parts>,
    pub(crate) clients: Clients,
    pub(crate) journal: Arc<Journal>,
    pub(crate) observations: Arc<Mutex<Observations>>,
    pub(crate) clock: Clock,
}

impl Injector {
    /// Injects the planned faults; returns when the last one is healed. Fails if a fault cannot be injected or healed.
    pub(crate) async fn run(&self, plan: Vec<Planned>) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut faults = JoinSet::new();
        for (number, planned) in plan.into_iter().enumerate() {
            tokio::time::sleep_until(started + planned.at).await;
            print_progress(started, &planned.fault.to_string());
            let injector = self.clone();
            faults.spawn(async move { injector.inject_and_record(planned, number).await });
            while let Some(done) = faults.try_join_next() {
                done??;
            }
        }
        while let Some(done) = faults.join_next().await {
            done??;
        }
        self.parts.heal().await?;
        self.repair_broker().await
    }

    async fn inject_and_record(&self, planned: Planned, number: usize) -> anyhow::Result<()> {
        let began = Instant::now();
        let fault = planned.fault.clone();
        self.inject(&planned, number).await.with_context(|| format!("cannot inject or heal: {fault}"))?;
        let ended = Instant::now();
        if fault.hides_mail_outcomes() {
            self.journal.lock().mail_outages.push(began..=ended);
        }
        self.observations().faults.push((fault, began, ended));
        Ok(())
    }

    /// Injects a fault, waits for its duration and heals it.
    async fn inject(&self, planned: &Planned, number: usize) -> anyhow::Result<()> {
        let parts = &self.parts;
        let hold = tokio::time::sleep(planned.duration);
        match &planned.fault {
            Fault::Kill(names) => self.kill(names, hold).await?,
            Fault::KillPostgres => parts.kill_postgres(planned.duration).await?,
            Fault::KillNats => parts.kill_nats(planned.duration).await?,
            Fault::KillSmtp => {
                parts.smtp.set_down(true);
                hold.await;
                parts.smtp.set_down(false);
            }
            Fault::Freeze(name) => self.freeze(*name, hold).await?,
            Fault::Cut(link) => self.hold_link(*link, LinkState::Cut, hold).await,
            Fault::Slow(link) => self.hold_link(*link, LinkState::Slow, hold).await,
            Fault::BlackHole(link) => self.hold_link(*link, LinkState::BlackHole, hold).await,
            Fault::Republish => {
                // Republishes nothing if the broker is unavailable.
                let republished = messages::republish(&parts.bus, number as u64).await.unwrap_or_default();
                self.observations().republished += republished;
            }
            Fault::Poison => messages::poison(&parts.bus, &self.journal, self.clock, number).await.map(drop)?,
            Fault::FillBroker => self.fill_broker(hold).await?,
            Fault::FillStream(name) => self.fill_stream(name, hold).await?,
            Fault::PurgeSchedules => broker::purge_schedules(&parts.bus).await?,
            Fault::DeleteConsumer(name) => self.delete_consumer(name, hold).await?,
            Fault::DeleteStream(name) => self.delete_stream(name, hold).await?,
            Fault::RollBackBroker => self.roll_back_broker(number, hold).await?,
            Fault::FillPostgres => parts.fill_postgres(planned.duration).await?,
            Fault::Junk => self.send_junk().await,
            Fault::DisconnectClients => self.clients.disconnect(),
            Fault::SkewClocks => {
                self.clients.skew_clocks(true);
                hold.await;
                self.clients.skew_clocks(false);
            }
        }
        Ok(())
    }

    fn observations(&self) -> MutexGuard<'_, Observations> {
        self.observations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn kill(&self, names: &[ServiceName], hold: Sleep) -> anyhow::Result<()> {
        try_join_all(names.iter().map(|&name| self.parts.kill(name))).await?;
        hold.await;
        try_join_all(names.iter().map(|&name| self.parts.start_service(name))).await?;
        Ok(())
    }

    async fn freeze(&self, name: ServiceName, hold: Sleep) -> anyhow::Result<()> {
        self.parts.freeze(name).await?;
        hold.await;
        self.parts.resume(name).await
    }

    /// Sets the state of a link until `hold` ends, then opens the link.
    async fn hold_link(&self, link: Link, state: LinkState, hold: Sleep) {
        self.parts.set_link(link, state);
        hold.await;
        self.parts.set_link(link, LinkState::Open);
    }

    async fn fill_broker(&self, hold: Sleep) -> anyhow::Result<()> {
        // While the storage is full, dead letters are only logged, so they may be missing later.
        let loss = self.begin_loss(streams::DEAD_LETTERS.name).await;
        broker::fill_broker(&self.parts.bus).await?;
        hold.await;
        broker::clear_broker(&self.parts.bus).await?;
        self.end_loss(loss);
        Ok(())
    }

    async fn fill_stream(&self, name: &'static str, hold: Sleep) -> anyhow::Result<()> {
        let loss = self.begin_loss(name).await;
        broker::fill_stream(&self.parts.bus, name, STREAM_STORAGE_MIB).await?;
        hold.await;
        broker::clear_stream(&self.parts.bus, name).await?;
        self.end_loss(loss);
        Ok(())
    }

    async fn delete_consumer(&self, name: &'static str, hold: Sleep) -> anyhow::Result<()> {
        self.journal.lock().recreated.insert(name.to_owned());
        broker::delete_consumer(&self.parts.bus, name).await?;
        hold.await;
        broker::declare(&self.parts.bus, STREAM_STORAGE_MIB).await
    }

    async fn delete_stream(&self, name: &'static str, hold: Sleep) -> anyhow::Result<()> {
        let loss = self.begin_loss(name).await;
        broker::delete_stream(&self.parts.bus, name).await?;
        hold.await;
        broker::declare(&self.parts.bus, STREAM_STORAGE_MIB).await?;
        self.end_loss(loss);
        Ok(())
    }

    async fn roll_back_broker(&self, number: usize, hold: Sleep) -> anyhow::Result<()> {
        // Only messages that are newer than the copy are lost.
        let began = Instant::now();
        let copy = format!("older-{number}");
        self.parts.copy_nats_store(&copy).await?;
        hold.await;
        self.parts.roll_nats_store_back(&copy).await?;
        for stream in streams::STREAMS {
            // A message may be much older than its dead letter.
            let ago = if stream == streams::DEAD_LETTERS { MAX_UNHANDLED_AGE } else { Duration::ZERO };
            let since = began.checked_sub(ago).unwrap_or(began);
            self.end_loss(Loss { stream: stream.name, since, during: began..=began, unhandled: Some(0) });
        }
        self.journal.lock().recreated.extend(streams::CONSUMERS.iter().map(|consumer| consumer.name.to_owned()));
        self.repair_broker().await
    }

    async fn send_junk(&self) {
        let (bus, stream) = (&self.parts.bus, streams::STOCK.name);
        let loss = self.begin_loss(stream).await;
        let first = broker::find_first_sequence(bus, stream).await;
        let junk = messages::junk(bus).await;
        self.observations().junk += junk;
        // Much junk pushes older messages out of the stream.
        if first.is_none() || first != broker::find_first_sequence(bus, stream).await {
            self.end_loss(loss);
        }
    }

    /// Repairs what an older copy of the broker's store may have restored: filler, and missing streams and consumers.
    async fn repair_broker(&self) -> anyhow::Result<()> {
        let bus = &self.parts.bus;
        broker::clear_broker(bus).await?;
        broker::declare(bus, STREAM_STORAGE_MIB).await?;
        broker::clear_stream(bus, streams::DEAD_LETTERS.name).await
    }

    /// Begins to record a loss: the unhandled messages of a stream may be lost from now on.
    async fn begin_loss(&self, stream: &'static str) -> Loss {
        let now = Instant::now();
        let unhandled = broker::count_unhandled(&self.parts.bus, stream).await;
        // A message may be much older than its dead letter.
        let is_handled = unhandled == Some(0) && stream != streams::DEAD_LETTERS.name;
        let ago = if is_handled { MAX_HANDLED_AGE } else { MAX_UNHANDLED_AGE };
        Loss { stream, since: now.checked_sub(ago).unwrap_or(now), during: now..=now, unhandled }
    }

    /// Records a loss that lasted until now.
    fn end_loss(&self, loss: Loss) {
        let during = *loss.during.start()..=Instant::now();
        self.journal.lock().losses.push(Loss { during, ..loss });
    }
}
