//! Imports observed prices: an export of Open Prices, a project of Open Food Facts. The median of what people paid for a
//! product becomes its list price.

mod cents;
mod currency;
mod reader;
mod record;
mod reject;
mod report;

pub(crate) use record::{Price, PriceRecord};
pub use reject::PriceReject;
pub use report::{PriceChanges, PriceReport};

use crate::{
    observer::{Observer, Progress},
    source::Source,
    store::{Catalog, PriceImport},
};
use anyhow::ensure;
use chrono::{NaiveDate, TimeDelta};
use off_kit::Clock;
use reader::PriceReader;
use report::PriceCounts;
use sqlx::PgPool;
use std::path::Path;

/// Prices that are copied into the database at once.
const BATCH_PRICES: usize = 10_000;

/// Imports an export of Open Prices. Replaces the observed prices of its products, and updates the list prices that
/// follow from them, in one transaction. Without a database, the prices are only validated.
///
/// Fails and changes nothing if the export cannot be read to its end or holds no prices, if the database becomes
/// unavailable, and if another importer runs.
pub async fn import_prices(
    path: &Path,
    db: Option<&PgPool>,
    observer: &mut impl Observer,
) -> anyhow::Result<PriceReport> {
    let source = Source::prices(path)?;
    let name = source.name.clone();
    let Some(db) = db else {
        let counts = read(source, None, observer).await?;
        return report(counts, &name);
    };
    let mut catalog = Catalog::open(db).await?;
    let mut import = catalog.begin_prices().await?;
    let counts = read(source, Some(&mut import), observer).await?;
    let first_day = counts.first_day().unwrap_or_default();
    let report = report(counts, &name)?;
    let changes = import.finish(first_day).await?;
    catalog.close().await?;
    Ok(PriceReport { changes: Some(changes), ..report })
}

/// Reads the prices of `source` to its end, and copies the valid ones into the database, if there is one.
async fn read(
    source: Source,
    mut import: Option<&mut PriceImport<'_>>,
    observer: &mut impl Observer,
) -> anyhow::Result<PriceCounts> {
    let (meter, total_bytes) = (source.meter.clone(), source.total_bytes);
    let mut reader = PriceReader::start(source, last_date());
    let (mut counts, mut batch) = (PriceCounts::default(), Vec::new());
    while let Some(part) = reader.next().await {
        for (line, outcome) in part {
            counts.add(line, &outcome);
            batch.extend(outcome);
        }
        if batch.len() >= BATCH_PRICES {
            copy(import.as_deref_mut(), &mut batch).await?;
        }
        observer.on_progress(Progress { read: counts.read(), bytes: meter.bytes(), total_bytes });
    }
    reader.end()?;
    copy(import, &mut batch).await?;
    Ok(counts)
}

/// Copies a batch into the database, if there is one, and empties it.
async fn copy(import: Option<&mut PriceImport<'_>>, batch: &mut Vec<Price>) -> anyhow::Result<()> {
    if let Some(import) = import {
        import.copy(batch).await?;
    }
    batch.clear();
    Ok(())
}

/// The last date that a price may have. A day begins in some countries before it begins in UTC.
fn last_date() -> NaiveDate {
    (Clock::real(1.0).now() + TimeDelta::days(1)).date_naive()
}

/// The report of an export that was read to its end. Fails if none of its records is a price.
fn report(counts: PriceCounts, name: &str) -> anyhow::Result<PriceReport> {
    let is_empty = counts.first_day().is_none();
    let report = counts.report();
    ensure!(report.read > 0, "{name} holds no records");
    ensure!(!is_empty, "{name} is no export of Open Prices: none of its {} records is a price", report.read);
    Ok(report)
}
