//! What the view knows at the moment.

use super::{health::Health, snapshot::Snapshot};
use crate::{
    report::{counted, printable_line},
    watch::describe,
};
use chrono::{DateTime, Local, Utc};
use serde_json::Value;
use sqlx::PgPool;
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};
use tokio::time::timeout;

/// The last events that are remembered: more than any terminal has lines for.
const EVENTS: usize = 200;

/// The products whose names are remembered.
const NAMES: usize = 2_000;

/// How long the names of products may take; the view does not wait longer for them.
const NAMES_WITHIN: Duration = Duration::from_millis(100);

/// Something that travelled.
#[derive(Debug, Clone)]
pub(crate) struct SeenEvent {
    pub(crate) at: DateTime<Utc>,
    pub(crate) subject: String,
    text: String,
    /// The product it is about.
    barcode: Option<String>,
}

impl SeenEvent {
    pub(crate) fn new(at: DateTime<Utc>, subject: &str, payload: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(payload).unwrap_or_default();
        let barcode = body["product_id"].as_str().or_else(|| body["barcode"].as_str());
        let text = describe(subject, payload);
        Self { at, subject: printable_line(subject), text, barcode: barcode.map(str::to_owned) }
    }
}

/// See the module.
pub(crate) struct State {
    pub(crate) now: Snapshot,
    /// Orders placed and completed in a second, by the last two looks.
    pub(crate) rates: (f64, f64),
    pub(crate) events: VecDeque<SeenEvent>,
    /// Products by their barcode, as far as they were needed.
    pub(super) names: HashMap<String, String>,
    /// Whether the database did not answer at the last look.
    pub(crate) is_blind: bool,
    pub(crate) health: Health,
}

impl State {
    pub(crate) fn new(now: Snapshot) -> Self {
        Self {
            now,
            rates: (0.0, 0.0),
            events: VecDeque::new(),
            names: HashMap::new(),
            is_blind: false,
            health: Health::default(),
        }
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

    /// Looks up the products of the newest `shown` events; where that fails, their barcodes are shown.
    pub(crate) async fn learn_names(&mut self, db: &PgPool, shown: usize) {
        let barcodes = self.events.iter().take(shown).filter_map(|event| event.barcode.as_ref());
        let unknown: Vec<String> = barcodes.filter(|barcode| !self.names.contains_key(*barcode)).cloned().collect();
        if unknown.is_empty() || self.is_blind {
            return;
        }
        let rows = sqlx::query!("SELECT barcode, name FROM catalog.products WHERE barcode = ANY($1)", &unknown);
        let Ok(Ok(rows)) = timeout(NAMES_WITHIN, rows.fetch_all(db)).await else { return };
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        self.names.extend(rows.into_iter().map(|row| (row.barcode, printable_line(&row.name))));
    }

    /// What an event says, with the product's name where it is known.
    pub(crate) fn text(&self, event: &SeenEvent) -> String {
        match event.barcode.as_ref().and_then(|barcode| Some((barcode, self.names.get(barcode)?))) {
            Some((barcode, name)) => event.text.replacen(barcode, name, 1),
            None => event.text.clone(),
        }
    }

    /// What is wrong, where something is.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.health.notice.as_deref().or_else(|| self.is_blind.then_some("Postgres does not answer"))
    }

    /// All of it in one line.
    pub(crate) fn line(&self, now: DateTime<Utc>) -> String {
        let Snapshot { pending, shipped, completed, low, households, .. } = self.now;
        let last = match (self.trouble(), self.events.front()) {
            (Some(trouble), _) => format!(" | {}", printable_line(trouble)),
            (None, Some(event)) => format!(" | last: {} {}", event.subject, self.text(event)),
            (None, None) => String::new(),
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
