//! The state of the view.

use super::{
    health::Health,
    store::{self, Snapshot},
};
use crate::{report::printable_line, watch::describe};
use chrono::{DateTime, Local, Utc};
use off_kit::text::counted;
use serde_json::Value;
use sqlx::PgPool;
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};
use tokio::time::timeout;

/// Maximum number of stored events: more than any terminal has lines for.
const MAX_EVENTS: usize = 200;

/// Maximum number of cached product names.
const MAX_NAMES: usize = 2_000;

/// Timeout of the query for product names, because the view waits for it.
const NAMES_TIMEOUT: Duration = Duration::from_millis(100);

/// An event as it is shown.
#[derive(Debug, Clone)]
pub(crate) struct SeenEvent {
    pub(crate) at: DateTime<Utc>,
    pub(crate) subject: String,
    text: String,
    /// The product of the event, if it has one.
    barcode: Option<String>,
}

impl SeenEvent {
    pub(crate) fn new(at: DateTime<Utc>, subject: &str, payload: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(payload).unwrap_or_default();
        let barcode = body["barcode"].as_str();
        let text = describe(subject, payload);
        Self { at, subject: printable_line(subject), text, barcode: barcode.map(str::to_owned) }
    }
}

/// Everything that the view shows.
pub(crate) struct State {
    pub(crate) snapshot: Snapshot,
    /// Orders placed and completed per second, between the last two snapshots.
    pub(crate) rates: (f64, f64),
    pub(crate) events: VecDeque<SeenEvent>,
    /// Product names by barcode, loaded when they are needed.
    pub(super) names: HashMap<String, String>,
    /// Whether the last snapshot could not be read.
    pub(crate) is_database_down: bool,
    pub(crate) health: Health,
}

impl State {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            rates: (0.0, 0.0),
            events: VecDeque::new(),
            names: HashMap::new(),
            is_database_down: false,
            health: Health::default(),
        }
    }

    /// Adds an event, and drops the oldest one if there are too many.
    pub(crate) fn add_event(&mut self, event: SeenEvent) {
        self.events.push_front(event);
        self.events.truncate(MAX_EVENTS);
    }

    /// Takes over a new snapshot; keeps the last one if the database does not answer.
    pub(crate) fn update(&mut self, snapshot: sqlx::Result<Snapshot>) {
        self.is_database_down = snapshot.is_err();
        let Ok(new) = snapshot else { return };
        let seconds = (new.taken_at - self.snapshot.taken_at).as_secs_f64();
        if seconds > 0.0 {
            let rate = |new: i64, old: i64| (new - old).max(0) as f64 / seconds;
            let old = &self.snapshot;
            self.rates = (rate(new.placed(), old.placed()), rate(new.completed, old.completed));
        }
        self.snapshot = new;
    }

    /// Loads the product names of the newest `shown` events. If that fails, their barcodes are shown.
    pub(crate) async fn load_names(&mut self, db: &PgPool, shown: usize) {
        let barcodes = self.events.iter().take(shown).filter_map(|event| event.barcode.as_ref());
        let unknown: Vec<String> = barcodes.filter(|barcode| !self.names.contains_key(*barcode)).cloned().collect();
        if unknown.is_empty() || self.is_database_down {
            return;
        }
        let Ok(Ok(names)) = timeout(NAMES_TIMEOUT, store::find_names(db, &unknown)).await else { return };
        if self.names.len() >= MAX_NAMES {
            self.names.clear();
        }
        self.names.extend(names.into_iter().map(|(barcode, name)| (barcode, printable_line(&name))));
    }

    /// The text of an event, with the product's name if it is known, else with the barcode.
    pub(crate) fn text(&self, event: &SeenEvent) -> String {
        match event.barcode.as_ref().and_then(|barcode| Some((barcode, self.names.get(barcode)?))) {
            Some((barcode, name)) => event.text.replacen(barcode, name, 1),
            None => event.text.clone(),
        }
    }

    /// The current problem or notice, if there is one.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.health.notice.as_deref().or_else(|| self.is_database_down.then_some("Postgres does not answer"))
    }

    /// The state as one plain line.
    pub(crate) fn line(&self, now: DateTime<Utc>) -> String {
        let Snapshot { pending, paid, shipped, completed, refused, cancelled, low, households, .. } = self.snapshot;
        let last = match (self.problem(), self.events.front()) {
            (Some(problem), _) => format!(" | {}", printable_line(problem)),
            (None, Some(event)) => format!(" | last: {} {}", event.subject, self.text(event)),
            (None, None) => String::new(),
        };
        format!(
            "{} orders: {pending} pending, {paid} paid, {shipped} shipped, {completed} completed, {refused} refused, \
             {cancelled} cancelled | +{:.1}/s, {:.1}/s done | {}, {} low{last}",
            now.with_timezone(&Local).format("%H:%M:%S"),
            self.rates.0,
            self.rates.1,
            counted(households, "household"),
            counted(low, "shelf item"),
        )
    }
}
