//! Shows the activity of the system: a live view on a terminal, else plain lines.

mod health;
mod screen;
mod state;
mod store;

use crate::home::ServiceAddresses;
use futures::{Stream, StreamExt, stream::select_all};
use health::Health;
use off_events::{OrderStatus, StockLow, UserRegistered, streams::DEAD_LETTERS};
use off_kit::{Bus, Clock, print_line, text::counted};
use sqlx::PgPool;
use state::{SeenEvent, State};
use std::{io::IsTerminal, time::Duration};
use store::Snapshot;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// How often the snapshot is read; less often if reading it takes long, see [`POLL_COST_FACTOR`].
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How often a plain line is printed without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// How often the health is checked.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// How long a notice is shown.
const NOTICE_FOR: Duration = Duration::from_secs(30);

/// The pause between two snapshots is at least this many times as long as reading one takes.
const POLL_COST_FACTOR: u32 = 20;

/// The sources of what is shown.
pub(crate) struct View {
    pool: PgPool,
    bus: Bus,
    clock: Clock,
    speed: f64,
    services: Vec<ServiceAddresses>,
    started: Instant,
    notices: watch::Receiver<Option<Notice>>,
}

/// A message that is shown for [`NOTICE_FOR`].
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    pub(crate) at: Instant,
    pub(crate) text: String,
}

impl View {
    pub(crate) fn new(
        pool: PgPool,
        bus: Bus,
        speed: f64,
        services: Vec<ServiceAddresses>,
        notices: watch::Receiver<Option<Notice>>,
    ) -> Self {
        Self { pool, bus, clock: Clock::real(1.0), speed, services, started: Instant::now(), notices }
    }

    /// Shows the activity until the user quits or the future is dropped.
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let (health_sender, health) = watch::channel(Health::default());
        let view = async {
            if std::io::stdout().is_terminal() {
                screen::run(self, health).await
            } else {
                self.print_lines(health).await
            }
        };
        tokio::select! {
            result = view => result,
            () = self.watch_health(health_sender) => Ok(()),
        }
    }

    /// Checks the health periodically until nobody receives it.
    async fn watch_health(&self, sender: watch::Sender<Health>) {
        while !sender.is_closed() {
            let notice = || {
                let notice = self.notices.borrow().clone().filter(|notice| notice.at.elapsed() < NOTICE_FOR);
                notice.map(|notice| notice.text)
            };
            sender.send_replace(Health::check(&self.services, &self.pool, &self.bus, notice).await);
            tokio::time::sleep(HEALTH_INTERVAL).await;
        }
    }

    /// The most important events, as they are published.
    async fn events(&self) -> anyhow::Result<impl Stream<Item = SeenEvent> + Unpin> {
        let mut subscriptions = Vec::new();
        let orders = OrderStatus::ALL.map(OrderStatus::subject);
        let others = [StockLow::SUBJECT, UserRegistered::SUBJECT];
        for &subject in orders.iter().chain(&others).chain(DEAD_LETTERS.subjects) {
            subscriptions.push(self.bus.client.subscribe(subject).await?);
        }
        let clock = self.clock;
        Ok(select_all(subscriptions)
            .map(move |message| SeenEvent::new(clock.now(), &message.subject, &message.payload)))
    }

    async fn print_lines(&self, health: watch::Receiver<Health>) -> anyhow::Result<()> {
        let mut events = self.events().await?;
        let mut state = State::new(Snapshot::read(&self.pool).await?);
        let mut next_line = Instant::now();
        loop {
            tokio::select! {
                Some(event) = events.next() => state.add_event(event),
                () = sleep_until(next_line) => {
                    state.update(Snapshot::read(&self.pool).await);
                    state.health.clone_from(&health.borrow());
                    state.load_names(&self.pool, 1).await;
                    print_line!("{}", state.line(self.clock.now()));
                    next_line = Instant::now() + LINE_INTERVAL;
                }
            }
        }
    }
}

/// A summary over all runs in this folder, printed at the end of a run.
pub(crate) async fn summary(pool: &PgPool) -> anyhow::Result<String> {
    let snapshot = Snapshot::read(pool).await?;
    Ok(format!(
        "{} placed so far: {} completed, {} shipped, {} paid, {} pending, {} refused, {} cancelled; open orders continue \
         at the next `off up`\n{}, {}, {} low; `off audit` accounts for every order",
        counted(snapshot.placed(), "order"),
        snapshot.completed,
        snapshot.shipped,
        snapshot.paid,
        snapshot.pending,
        snapshot.refused,
        snapshot.cancelled,
        counted(snapshot.households, "household"),
        counted(snapshot.deliveries, "delivery"),
        counted(snapshot.low, "shelf item")
    ))
}
