//! Deltas: files of the records that changed in the last days, published by Open Food Facts. `index.txt` lists them,
//! newest first. The name of a delta has two times: that of the last change before it, and that of the last change in
//! it.

use crate::{
    choice::Choice,
    import::{ImportOptions, import_source},
    observer::{Observer, Progress},
    source::{Freshness, Source, download},
    store::Catalog,
};
use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use off_kit::{Clock, schedule::Schedule};
use sqlx::PgPool;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tracing::{info, warn};
use url::Url;

/// The list of all deltas.
const INDEX: &str = "index.txt";

/// Length of an index that is read, in bytes; a real one lists two weeks.
const MAX_INDEX_SIZE: u64 = 1024 * 1024;

/// Settings for deltas.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct DeltasConfig {
    /// Where the deltas are: a URL that ends with a slash, or a folder.
    #[arg(
        long,
        env = "ETL_DELTAS_FROM",
        default_value = "https://static.openfoodfacts.org/data/delta/",
        value_name = "PLACE"
    )]
    pub deltas_from: String,
    /// Check for new deltas at this interval, such as 24h; once by default.
    #[arg(long, env = "ETL_DELTAS_EVERY", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub deltas_every: Option<Duration>,
}

/// A file of the changes after `from`, up to and including `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Delta {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    name: String,
}

/// Applies the deltas that the catalog does not have yet, oldest first; repeatedly if `deltas_every` is set. Without a
/// database it validates all of them. Reports each delta by the name of its file.
///
/// Fails with [`Damage`] if a delta cannot be read to its end. With `deltas_every` errors are logged, and the next
/// round tries again.
///
/// [`Damage`]: crate::Damage
pub async fn apply_deltas(
    config: &DeltasConfig,
    options: ImportOptions<'_>,
    observer: &mut impl Observer,
) -> anyhow::Result<()> {
    let Some(period) = config.deltas_every else {
        return apply_new_deltas(config, options, observer).await;
    };
    let mut schedule = Schedule::new().await?;
    schedule.every(Clock::real(1.0).real_wait(period), ()).await?;
    schedule.start().await?;
    loop {
        if let Err(error) = apply_new_deltas(config, options, observer).await {
            warn!("cannot apply the deltas, trying again in {}: {error:#}", humantime::format_duration(period));
        }
        schedule.next().await?;
    }
}

/// Applies the deltas that the catalog does not have yet, once.
async fn apply_new_deltas(
    config: &DeltasConfig,
    options: ImportOptions<'_>,
    observer: &mut impl Observer,
) -> anyhow::Result<()> {
    let ImportOptions { downloads, db, .. } = options;
    let place = DeltaPlace::parse(&config.deltas_from)?;
    let index = place.index(downloads).await?;
    let fresh_until = fresh_until(db, options.choice).await?;
    let new = new_since(fresh_until, in_order(&index)?)?;
    if new.is_empty() {
        info!("the catalog has all deltas already");
    }
    let mut choice = options.choice.clone();
    for delta in new {
        let path = place.fetch(&delta.name, downloads, |progress| observer.on_progress(progress)).await?;
        let mut source = Source::file(&path)?;
        source.freshness = Freshness::Until(delta.to);
        let options = ImportOptions { choice: &choice, ..options };
        let report = import_source(source, &delta.name, options, observer).await?.complete()?;
        place.remove(&path).await;
        if let Some(limit) = &mut choice.filter.limit {
            *limit = limit.saturating_sub(report.products);
            if *limit == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// Up to when the catalog has all changes; `None` if unknown.
async fn fresh_until(db: Option<&PgPool>, choice: &Choice) -> anyhow::Result<Option<DateTime<Utc>>> {
    let Some(db) = db else { return Ok(None) };
    let mut catalog = Catalog::open(db).await?;
    let fresh_until = catalog.fresh_until(&choice.stored_rules()).await?;
    catalog.close().await?;
    if fresh_until.is_none() {
        warn!(
            "no export was imported with this profile and filter: the catalog gets only the changes of the last days"
        );
    }
    Ok(fresh_until)
}

/// Where the deltas and their index are.
#[derive(Debug)]
enum DeltaPlace {
    /// A URL that ends with a slash.
    Address(Url),
    /// A local folder.
    Folder(PathBuf),
}

impl DeltaPlace {
    fn parse(text: &str) -> anyhow::Result<Self> {
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => {
                ensure!(url.path().ends_with('/'), "ETL_DELTAS_FROM: {url} must end with a slash");
                Ok(Self::Address(url))
            }
            _ => Ok(Self::Folder(text.into())),
        }
    }

    /// The text of the index.
    async fn index(&self, downloads: &Path) -> anyhow::Result<String> {
        let path = self.fetch(INDEX, downloads, drop).await?;
        let reading = || format!("cannot read {}", path.display());
        let length = tokio::fs::metadata(&path).await.with_context(reading)?.len();
        ensure!(length <= MAX_INDEX_SIZE, "{} has {length} bytes, too many for a list of deltas", path.display());
        let index = tokio::fs::read_to_string(&path).await.with_context(reading)?;
        self.remove(&path).await;
        Ok(index)
    }

    /// The path of a delta or the index, which is downloaded first if it is not in a local folder.
    async fn fetch(
        &self,
        name: &str,
        downloads: &Path,
        mut on_progress: impl FnMut(Progress),
    ) -> anyhow::Result<PathBuf> {
        let on_bytes = |bytes, total_bytes| on_progress(Progress::of_download(bytes, total_bytes));
        match self {
            Self::Address(url) => download::download(&url.join(name)?, downloads, on_bytes).await,
            Self::Folder(folder) => Ok(folder.join(name)),
        }
    }

    /// Removes a downloaded file; files of a local folder stay.
    async fn remove(&self, path: &Path) {
        if let Self::Address(_) = self {
            download::remove(path).await;
        }
    }
}

/// The deltas of an index, oldest first. Fails on a line that is not the name of a delta.
fn in_order(index: &str) -> anyhow::Result<Vec<Delta>> {
    let mut deltas = index
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|name| parse_name(name).with_context(|| format!("{INDEX} lists {name:?}, not the name of a delta")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    deltas.sort_by_key(|delta| delta.to);
    Ok(deltas)
}

/// Parses `openfoodfacts_products_FROM_TO.json.gz`, with UNIX times in seconds.
fn parse_name(name: &str) -> Option<Delta> {
    let times = name.strip_prefix("openfoodfacts_products_")?.strip_suffix(".json.gz")?;
    let (from, to) = times.split_once('_')?;
    let time = |seconds: &str| DateTime::from_timestamp(seconds.parse().ok()?, 0);
    let (from, to) = (time(from)?, time(to)?);
    (from < to).then(|| Delta { from, to, name: name.to_owned() })
}

/// The deltas with changes after `fresh_until`. Fails if changes before or between them are missing.
fn new_since(fresh_until: Option<DateTime<Utc>>, deltas: Vec<Delta>) -> anyhow::Result<Vec<Delta>> {
    let new: Vec<Delta> = deltas.into_iter().filter(|delta| fresh_until.is_none_or(|until| delta.to > until)).collect();
    let mut until = fresh_until.or_else(|| new.first().map(|delta| delta.from));
    for (index, delta) in new.iter().enumerate() {
        // The first may overlap with the catalog, which ignores old records. The others must follow each other exactly.
        let follows =
            if index == 0 { until.is_some_and(|until| delta.from <= until) } else { until == Some(delta.from) };
        if !follows {
            bail!(
                "the changes from {} to {} are missing, before {}: import a whole export, then apply the deltas again",
                until.unwrap_or_default(),
                delta.from,
                delta.name
            );
        }
        until = Some(delta.to);
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(index: &[(i64, i64)]) -> Vec<Delta> {
        let lines: Vec<String> =
            index.iter().map(|(from, to)| format!("openfoodfacts_products_{from}_{to}.json.gz")).collect();
        in_order(&lines.join("\n")).unwrap()
    }

    fn spans(fresh_until: Option<i64>, index: &[(i64, i64)]) -> Option<Vec<(i64, i64)>> {
        let fresh_until = fresh_until.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        let new = new_since(fresh_until, names(index)).ok()?;
        Some(new.into_iter().map(|delta| (delta.from.timestamp(), delta.to.timestamp())).collect())
    }

    #[test]
    fn deltas_are_applied_oldest_first_and_never_over_a_gap() {
        let index = [(30, 40), (20, 30), (10, 20)];
        assert_eq!(spans(None, &index), Some(vec![(10, 20), (20, 30), (30, 40)]));
        assert_eq!(spans(Some(20), &index), Some(vec![(20, 30), (30, 40)]));
        // The newest record of an export changed in the middle of a delta.
        assert_eq!(spans(Some(25), &index), Some(vec![(20, 30), (30, 40)]));
        assert_eq!(spans(Some(40), &index), Some(vec![]));
        assert_eq!(spans(Some(5), &index), None);
        assert_eq!(spans(Some(20), &[(30, 40), (20, 29)]), None);
    }

    #[test]
    fn an_invalid_delta_name_is_refused() {
        for name in
            ["<html>", "openfoodfacts_products_20_10.json.gz", "../../etc/passwd", "openfoodfacts_products_1_x.json.gz"]
        {
            assert!(in_order(name).is_err(), "{name} was accepted");
        }
    }
}
