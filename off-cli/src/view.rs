//! What happens, shown: a live view on a terminal, plain lines elsewhere.

mod screen;
mod snapshot;

use crate::{
    home::RunningService,
    motion,
    report::{counted, printable_line},
    watch::describe,
};
use chrono::{DateTime, Local, Utc};
use futures::{Stream, StreamExt, stream::select_all};
use off_kit::{Bus, Clock, print_line};
use snapshot::Snapshot;
use sqlx::PgPool;
use std::{collections::VecDeque, io::IsTerminal, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// How often the numbers are read; less often where reading them takes long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a plain line is printed.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How often it is looked whether everything moves on.
const MOTION_EVERY: Duration = Duration::from_secs(5);

/// How long a notice is shown.
const NOTICE_FOR: Duration = Duration::from_secs(30);

/// A look may take this part of the time between looks.
const LOOKING_SHARE: u32 = 20;

/// The last events that are remembered.
const EVENTS: usize = 50;

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

/// Something that travelled.
#[derive(Debug, Clone)]
pub(crate) struct SeenEvent {
    pub(crate) at: DateTime<Utc>,
    pub(crate) subject: String,
    pub(crate) text: String,
}

/// What is known at the moment.
pub(crate) struct State {
    pub(crate) now: Snapshot,
    /// Orders placed and completed in a second, by the last two looks.
    pub(crate) rates: (f64, f64),
    pub(crate) events: VecDeque<SeenEvent>,
    /// Whether the database did not answer at the last look.
    pub(crate) is_blind: bool,
    /// What is stuck, and what to do about it.
    pub(crate) stuck: Option<String>,
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
        let (found, stuck) = watch::channel(None);
        let shown = async {
            if std::io::stdout().is_terminal() { screen::run(self, stuck).await } else { self.print_lines(stuck).await }
        };
        tokio::select! {
            shown = shown => shown,
            () = self.watch_motion(found) => Ok(()),
        }
    }

    /// Looks again and again whether everything moves on; tells what is stuck, in one line.
    async fn watch_motion(&self, told: watch::Sender<Option<String>>) {
        while !told.is_closed() {
            let stuck =
                motion::look(&self.pool, &self.bus).await.into_iter().find(|found| found.state == motion::State::Stuck);
            let notice = self.notices.borrow().clone().filter(|notice| notice.at.elapsed() < NOTICE_FOR);
            let stuck = stuck.map(|stuck| format!("{}: {}", stuck.what, stuck.detail));
            told.send_replace(notice.map(|notice| notice.text).or(stuck));
            tokio::time::sleep(MOTION_EVERY).await;
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
        Ok(select_all(subscriptions).map(move |message| SeenEvent {
            at: clock.now(),
            subject: message.subject.to_string(),
            text: describe(&message.subject, &message.payload),
        }))
    }

    async fn print_lines(&self, stuck: watch::Receiver<Option<String>>) -> anyhow::Result<()> {
        let mut events = self.events().await?;
        let mut state = State::new(Snapshot::read(&self.pool).await?);
        let mut next_line = Instant::now();
        loop {
            tokio::select! {
                Some(event) = events.next() => state.remember(event),
                () = sleep_until(next_line) => {
                    state.look(Snapshot::read(&self.pool).await);
                    state.stuck.clone_from(&stuck.borrow());
                    print_line!("{}", state.line(self.clock.now()));
                    next_line = Instant::now() + LINE_EVERY;
                }
            }
        }
    }
}

impl State {
    pub(crate) fn new(now: Snapshot) -> Self {
        Self { now, rates: (0.0, 0.0), events: VecDeque::new(), is_blind: false, stuck: None }
    }

    pub(crate) fn remember(&mut self, event: SeenEvent) {
        self.events.push_front(event);
        self.events.truncate(EVENTS);
    }

    /// Takes over what was counted; while the database does not answer, the last numbers stay.
    pub(crate) fn look(&mut self, counted: sqlx::Result<Snapshot>) {
        self.is_blind = counted.is_err();
        let Ok(now) = counted else { return };
        let seconds = (now.taken - self.now.taken).as_secs_f64();
        if seconds > 0.0 {
            let rate = |new: i64, old: i64| (new - old).max(0) as f64 / seconds;
            self.rates = (rate(now.placed(), self.now.placed()), rate(now.completed, self.now.completed));
        }
        self.now = now;
    }

    fn line(&self, now: DateTime<Utc>) -> String {
        let Snapshot { pending, shipped, completed, low, households, .. } = self.now;
        let last =
            self.events.front().map_or_else(String::new, |event| format!(" | last: {} {}", event.subject, event.text));
        let last = match &self.stuck {
            Some(stuck) => format!(" | {}", printable_line(stuck)),
            _ if self.is_blind => " | Postgres does not answer".to_owned(),
            None => last,
        };
        format!(
            "{} orders: {pending} pending, {shipped} shipped, {completed} completed | +{:.1}/s, {:.1}/s done | \
             {}, {} low{last}",
            now.with_timezone(&Local).format("%H:%M:%S"),
            self.rates.0,
            self.rates.1,
            counted(households, "household"),
            counted(low, "shelf"),
        )
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
