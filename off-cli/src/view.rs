//! What happens, shown: a live view on a terminal, plain lines elsewhere.

mod health;
mod screen;
mod snapshot;
mod state;

use crate::{home::RunningService, report::counted};
use futures::{Stream, StreamExt, stream::select_all};
use health::Health;
use off_kit::{Bus, Clock, print_line};
use snapshot::Snapshot;
use sqlx::PgPool;
use state::{SeenEvent, State};
use std::{io::IsTerminal, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// How often the numbers are read; less often where reading them takes long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a plain line is printed.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How often it is looked whether everything is well.
const HEALTH_EVERY: Duration = Duration::from_secs(5);

/// How long a notice is shown.
const NOTICE_FOR: Duration = Duration::from_secs(30);

/// A look may take this part of the time between looks.
const LOOKING_SHARE: u32 = 20;

/// What is shown, and where it comes from.
pub(crate) struct View {
    pool: PgPool,
    bus: Bus,
    clock: Clock,
    speed: f64,
    services: Vec<RunningService>,
    started: Instant,
    notices: watch::Receiver<Option<Notice>>,
}

/// Something that a person should hear of for a while.
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
        services: Vec<RunningService>,
        notices: watch::Receiver<Option<Notice>>,
    ) -> Self {
        Self { pool, bus, clock: Clock::real(1.0), speed, services, started: Instant::now(), notices }
    }

    /// Shows what happens until it is dropped, or the person at the terminal asks to stop.
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let (found, health) = watch::channel(Health::default());
        let shown = async {
            if std::io::stdout().is_terminal() {
                screen::run(self, health).await
            } else {
                self.print_lines(health).await
            }
        };
        tokio::select! {
            shown = shown => shown,
            () = self.watch_health(found) => Ok(()),
        }
    }

    /// Looks again and again how everything is.
    async fn watch_health(&self, found: watch::Sender<Health>) {
        while !found.is_closed() {
            let notice = || {
                let notice = self.notices.borrow().clone().filter(|notice| notice.at.elapsed() < NOTICE_FOR);
                notice.map(|notice| notice.text)
            };
            found.send_replace(Health::look(&self.services, &self.pool, &self.bus, notice).await);
            tokio::time::sleep(HEALTH_EVERY).await;
        }
    }

    async fn events(&self) -> anyhow::Result<impl Stream<Item = SeenEvent> + Unpin> {
        let mut subscriptions = Vec::new();
        for subject in
            ["orders.pending", "orders.shipped", "orders.completed", "stock.low", "users.registered", "dead.>"]
        {
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
                Some(event) = events.next() => state.remember(event),
                () = sleep_until(next_line) => {
                    state.look(Snapshot::read(&self.pool).await);
                    state.health.clone_from(&health.borrow());
                    state.learn_names(&self.pool, 1).await;
                    print_line!("{}", state.line(self.clock.now()));
                    next_line = Instant::now() + LINE_EVERY;
                }
            }
        }
    }
}

/// What the whole run came to, over all runs of this folder.
pub(crate) async fn summary(pool: &PgPool) -> anyhow::Result<String> {
    let now = Snapshot::read(pool).await?;
    Ok(format!(
        "{} placed so far: {} completed, {} shipped, {} pending; what waits goes on at the next `off up`\n\
         {}, {}, {} low; `off audit` accounts for every order",
        counted(now.placed(), "order"),
        now.completed,
        now.shipped,
        now.pending,
        counted(now.households, "household"),
        counted(now.deliveries, "delivery"),
        counted(now.low, "shelf")
    ))
}
