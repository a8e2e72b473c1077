//! The summary that is printed after a run.

use crate::{
    fault::Fault,
    journal::{Entries, Journal, Outcome},
    reconcile::Verdict,
};
use off_cli::report::{check, table};
use off_kit::print_line;
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use uuid::Uuid;

/// Findings that are shown for one check, at most.
const MAX_FINDINGS_SHOWN: usize = 10;

/// What was observed during a run.
#[derive(Debug, Default)]
pub(crate) struct Observations {
    /// Each fault, with its begin and end.
    pub(crate) faults: Vec<(Fault, Instant, Instant)>,
    /// Whether all services were ready, for each poll.
    pub(crate) ready: Vec<(Instant, bool)>,
    /// Number of overdue orders, for each poll; `None` if Postgres did not respond.
    pub(crate) overdue: Vec<(Instant, Option<i64>)>,
    /// Unexpected exits of services.
    pub(crate) findings: Vec<String>,
    /// Messages that were republished.
    pub(crate) republished: usize,
    /// Junk messages that the broker accepted.
    pub(crate) junk: usize,
}

/// Outcome of a run.
pub(crate) struct Summary {
    pub(crate) seed: u64,
    pub(crate) passed: bool,
    pub(crate) faults: usize,
    pub(crate) accepted: usize,
    /// How long the system took to drain; `None` if it did not.
    pub(crate) drained_after: Option<Duration>,
    /// Names of the failed checks.
    pub(crate) failed: Vec<&'static str>,
}

/// When a run began, how long it was loaded, and its seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunTimes {
    pub(crate) started: Instant,
    pub(crate) length: Duration,
    pub(crate) seed: u64,
}

/// Prints the faults, the load and the result of every check; returns the outcome.
pub(crate) fn print(
    journal: &Journal,
    observations: &Mutex<Observations>,
    times: RunTimes,
    drained_after: Option<Duration>,
    verdicts: &[Verdict],
) -> Summary {
    let mut observations = observations.lock().unwrap_or_else(PoisonError::into_inner);
    let mut entries = journal.lock();
    observations.faults.sort_by_key(|(_, began, _)| *began);
    entries.accepted_at.sort_unstable();
    print_faults(&entries, &observations, times);
    print_load(&entries, &observations, times);
    print_overdue(&observations);
    print_verdicts(verdicts);
    let failed: Vec<_> =
        verdicts.iter().filter(|verdict| !verdict.findings.is_empty()).map(|verdict| verdict.name).collect();
    let passed = failed.is_empty();
    if passed {
        print_line!("not a single order was lost");
    }
    let accepted = count_orders(&entries, |outcome| matches!(outcome, Outcome::Accepted(_)));
    Summary { seed: times.seed, passed, faults: observations.faults.len(), accepted, drained_after, failed }
}

/// Prints when each fault was injected, and when the system worked again.
fn print_faults(entries: &Entries, observations: &Observations, RunTimes { started, length, .. }: RunTimes) {
    print_line!("");
    let mut faults =
        table(&["at", "for", "fault", "next order accepted after", "all ready after", "no order overdue after"]);
    for (fault, began, ended) in &observations.faults {
        let after = |time: Option<Instant>| match time {
            Some(time) => format!("{:.1} s", time.saturating_duration_since(*ended).as_secs_f64()),
            None if *ended >= started + length => "the load had ended".to_owned(),
            None => "never".to_owned(),
        };
        let next_accepted = entries.accepted_at.get(entries.accepted_at.partition_point(|at| at < ended)).copied();
        let mut counts = observations.overdue.iter();
        let none_overdue = counts.find(|(at, overdue)| at > ended && *overdue == Some(0)).map(|(at, _)| *at);
        let next_ready = observations.ready.iter().find(|(at, ready)| at > ended && *ready).map(|(at, _)| *at);
        faults.add_row([
            format!("{:.1} s", (*began - started).as_secs_f64()),
            format!("{:.1} s", (*ended - *began).as_secs_f64()),
            fault.to_string(),
            after(next_accepted),
            after(next_ready),
            after(none_overdue),
        ]);
    }
    print_line!("{faults}\n");
}

fn count_orders(entries: &Entries, kind: fn(&Outcome<Uuid>) -> bool) -> usize {
    entries.orders.values().filter(|(_, outcome)| kind(outcome)).count()
}

/// Prints what clients sent and got.
fn print_load(entries: &Entries, observations: &Observations, RunTimes { started, length, .. }: RunTimes) {
    print_line!(
        "{} faults; {} orders sent, {} answered with 201, {} without a response, {} skipped; {} cancellations and {} \
         deposits sent; {} retries, {} messages republished, {} junk messages sent",
        observations.faults.len(),
        entries.orders.len(),
        count_orders(entries, |outcome| matches!(outcome, Outcome::Accepted(_))),
        count_orders(entries, |outcome| matches!(outcome, Outcome::Unknown)),
        entries.skipped,
        entries.cancellations.len(),
        entries.deposits.len(),
        entries.retries,
        observations.republished,
        observations.junk,
    );
    let ends = [started].into_iter().chain(entries.accepted_at.iter().copied()).chain([started + length]);
    let times: Vec<Instant> = ends.collect();
    let longest = times.windows(2).map(|pair| pair[1].saturating_duration_since(pair[0])).max().unwrap_or_default();
    print_line!("longest time without an accepted order: {:.1} s", longest.as_secs_f64());
}

/// Prints how many orders were overdue, and for how long.
fn print_overdue(observations: &Observations) {
    let max = observations.overdue.iter().filter_map(|(_, overdue)| *overdue).max().unwrap_or_default();
    let periods = observations.overdue.split(|(_, overdue)| *overdue == Some(0));
    let lengths = periods.filter_map(|period| Some(period.last()?.0 - period.first()?.0));
    let longest = lengths.max().unwrap_or_default();
    print_line!(
        "at most {max} orders were overdue at once; the longest time with overdue orders was {:.1} s\n",
        longest.as_secs_f64()
    );
}

/// Prints the result of each check with its first findings.
fn print_verdicts(verdicts: &[Verdict]) {
    for verdict in verdicts {
        print_line!("{}", check(verdict.findings.is_empty().into(), verdict.name, &verdict.claim));
        for finding in verdict.findings.iter().take(MAX_FINDINGS_SHOWN) {
            print_line!("    {finding}");
        }
        if verdict.findings.len() > MAX_FINDINGS_SHOWN {
            print_line!("    … and {} more", verdict.findings.len() - MAX_FINDINGS_SHOWN);
        }
    }
}

/// Prints the outcomes of all runs so far.
pub(crate) fn print_all(summaries: &[Summary]) {
    let mut rows = table(&["seed", "faults", "answered with 201", "drained after", "outcome"]);
    for summary in summaries {
        let drained_after =
            summary.drained_after.map_or_else(|| "never".to_owned(), |after| format!("{:.1} s", after.as_secs_f64()));
        let outcome = if summary.passed {
            "no order was lost".to_owned()
        } else {
            format!("FAILED: {}", summary.failed.join(", "))
        };
        rows.add_row([
            summary.seed.to_string(),
            summary.faults.to_string(),
            summary.accepted.to_string(),
            drained_after,
            outcome,
        ]);
    }
    let failed = summaries.iter().filter(|summary| !summary.passed).count();
    print_line!("\n{rows}\n{} runs, {failed} failed\n", summaries.len());
}
