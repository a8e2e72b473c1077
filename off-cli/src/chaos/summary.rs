//! What is said of a run.

use super::{
    journal::{Journal, Outcome},
    reconcile::Verdict,
    schedule::Fault,
};
use crate::report::{check, table};
use off_kit::print_line;
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The most pieces of evidence that are shown for one claim.
const MOST_SHOWN: usize = 10;

/// What was seen while the system was broken.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Each fault, when it began and when it was over.
    pub(super) faults: Vec<(Fault, Instant, Instant)>,
    /// Whether every service was ready, look by look.
    pub(super) ready: Vec<(Instant, bool)>,
    /// How many orders were overdue, look by look; `None` where Postgres did not say.
    pub(super) overdue: Vec<(Instant, Option<i64>)>,
    /// What must never happen.
    pub(super) findings: Vec<String>,
    /// What was done, for the summary.
    pub(super) repeated: usize,
    pub(super) junk: usize,
}

/// What came of a run.
pub(super) struct Summary {
    pub(super) seed: u64,
    pub(super) passed: bool,
    pub(super) faults: usize,
    pub(super) accepted: usize,
    /// Until all was still; `None` where it never was.
    pub(super) still: Option<Duration>,
    /// The claims that do not hold.
    pub(super) failed: Vec<&'static str>,
}

/// Says what happened, and what came of it.
pub(super) fn print(
    journal: &Journal,
    seen: &Mutex<Seen>,
    (started, length, seed): (Instant, Duration, u64),
    still: Option<Duration>,
    verdicts: &[Verdict],
) -> Summary {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let mut pages = journal.lock();
    seen.faults.sort_by_key(|(_, began, _)| *began);
    pages.accepted_at.sort_unstable();
    print_line!("");
    let mut faults =
        table(&["at", "for", "fault", "orders taken again after", "all ready again after", "no order overdue after"]);
    for (fault, began, ended) in &seen.faults {
        let after = |time: Option<Instant>| match time {
            Some(time) => format!("{:.1} s", time.saturating_duration_since(*ended).as_secs_f64()),
            None if *ended >= started + length => "the load had ended".to_owned(),
            None => "never".to_owned(),
        };
        let next_accepted = pages.accepted_at.get(pages.accepted_at.partition_point(|at| at < ended)).copied();
        let in_time = seen.overdue.iter().find(|(at, overdue)| at > ended && *overdue == Some(0)).map(|(at, _)| *at);
        let next_ready = seen.ready.iter().find(|(at, ready)| at > ended && *ready).map(|(at, _)| *at);
        faults.add_row([
            format!("{:.1} s", (*began - started).as_secs_f64()),
            format!("{:.1} s", (*ended - *began).as_secs_f64()),
            fault.to_string(),
            after(next_accepted),
            after(next_ready),
            after(in_time),
        ]);
    }
    print_line!("{faults}\n");
    let count =
        |kind: fn(&Outcome<uuid::Uuid>) -> bool| pages.orders.values().filter(|(_, outcome)| kind(outcome)).count();
    print_line!(
        "{} faults; {} orders sent, {} answered with 201, {} without an answer, {} left out; {} requests repeated, {} \
         messages said again, {} pieces of junk sent",
        seen.faults.len(),
        pages.orders.len(),
        count(|outcome| matches!(outcome, Outcome::Accepted(_))),
        count(|outcome| matches!(outcome, Outcome::Unknown)),
        pages.left_out,
        pages.repeated,
        seen.repeated,
        seen.junk,
    );
    let ends = [started].into_iter().chain(pages.accepted_at.iter().copied()).chain([started + length]);
    let times: Vec<Instant> = ends.collect();
    let longest = times.windows(2).map(|pair| pair[1].saturating_duration_since(pair[0])).max().unwrap_or_default();
    print_line!("the longest time in which no order was answered with 201: {:.1} s", longest.as_secs_f64());
    let most = seen.overdue.iter().filter_map(|(_, overdue)| *overdue).max().unwrap_or_default();
    let spells = seen.overdue.split(|(_, overdue)| *overdue == Some(0));
    let lengths = spells.filter_map(|spell| Some(spell.last()?.0 - spell.first()?.0));
    let longest = lengths.max().unwrap_or_default();
    print_line!(
        "at most {most} orders were overdue at once, and it took at most {:.1} s until none was\n",
        longest.as_secs_f64()
    );
    for verdict in verdicts {
        print_line!("{}", check(verdict.evidence.is_empty().into(), verdict.name, &verdict.claim));
        for piece in verdict.evidence.iter().take(MOST_SHOWN) {
            print_line!("    {piece}");
        }
        if verdict.evidence.len() > MOST_SHOWN {
            print_line!("    … and {} more", verdict.evidence.len() - MOST_SHOWN);
        }
    }
    let failed: Vec<_> =
        verdicts.iter().filter(|verdict| !verdict.evidence.is_empty()).map(|verdict| verdict.name).collect();
    let passed = failed.is_empty();
    if passed {
        print_line!("not a single order was lost");
    }
    let accepted = count(|outcome| matches!(outcome, Outcome::Accepted(_)));
    Summary { seed, passed, faults: seen.faults.len(), accepted, still, failed }
}

/// What came of all runs so far.
pub(super) fn print_all(summaries: &[Summary]) {
    let mut rows = table(&["seed", "faults", "answered with 201", "all still after", "outcome"]);
    for summary in summaries {
        let still = summary.still.map_or_else(|| "never".to_owned(), |after| format!("{:.1} s", after.as_secs_f64()));
        let outcome = if summary.passed {
            "nothing was lost".to_owned()
        } else {
            format!("FAILED: {}", summary.failed.join(", "))
        };
        rows.add_row([
            summary.seed.to_string(),
            summary.faults.to_string(),
            summary.accepted.to_string(),
            still,
            outcome,
        ]);
    }
    let failed = summaries.iter().filter(|summary| !summary.passed).count();
    print_line!("\n{rows}\n{} runs, {failed} of them failed\n", summaries.len());
}
