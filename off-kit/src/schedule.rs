//! Periodic jobs.

use anyhow::Context;
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job, JobScheduler};

/// Maximum number of jobs of a schedule, each of which is due once at most.
const MAX_JOBS: usize = 8;

/// The cron expression of each second.
const EACH_SECOND: &str = "* * * * * *";

/// A second of the scheduler begins at most this much early.
const EARLY: Duration = Duration::from_millis(500);

/// A job that is due, and whether it is still in the queue.
type Due<J> = (J, Arc<AtomicBool>);

/// A schedule of jobs. The caller takes due jobs with [`Schedule::next`], so that a slow job never runs twice
/// concurrently.
pub struct Schedule<J> {
    scheduler: JobScheduler,
    sender: mpsc::Sender<Due<J>>,
    due: mpsc::Receiver<Due<J>>,
}

impl<J> fmt::Debug for Schedule<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule").finish_non_exhaustive()
    }
}

impl<J: Clone + Send + Sync + 'static> Schedule<J> {
    /// A schedule without jobs.
    pub async fn new() -> anyhow::Result<Self> {
        let scheduler = JobScheduler::new().await.context("cannot create the scheduler")?;
        let (sender, due) = mpsc::channel(MAX_JOBS);
        Ok(Self { scheduler, sender, due })
    }

    /// Makes `job` due every `period`, rounded up to whole seconds, the resolution of the scheduler. A job that is due
    /// again before it was taken is due once: after a slow run, one run is enough to catch up.
    pub async fn every(&self, period: Duration, job: J) -> anyhow::Result<()> {
        let whole = period.as_secs() + u64::from(period.subsec_nanos() > 0);
        let period = Duration::from_secs(whole.max(1));
        let (sender, is_queued) = (self.sender.clone(), Arc::new(AtomicBool::new(false)));
        let next = Mutex::new(Instant::now() + period);
        // A repeated job of the scheduler never runs again once a run was late by a whole period (tokio-cron-scheduler
        // 0.15.1). A cron job does: its next run is counted from now.
        let each_second = Job::new(EACH_SECOND, move |_, _| {
            let is_due = is_due(&mut next.lock().unwrap_or_else(PoisonError::into_inner), period, Instant::now());
            if is_due && !is_queued.swap(true, Ordering::Relaxed) {
                let _ = sender.try_send((job.clone(), is_queued.clone()));
            }
        });
        self.scheduler.add(each_second.context("cannot create a job")?).await.context("cannot schedule a job")?;
        Ok(())
    }

    /// Starts the schedule; jobs become due from now on.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.scheduler.start().await.context("cannot start the scheduler")
    }

    /// Waits for the next job that is due.
    pub async fn next(&mut self) -> anyhow::Result<J> {
        let (job, is_queued) = self.due.recv().await.context("the schedule has ended")?;
        is_queued.store(false, Ordering::Relaxed);
        Ok(job)
    }
}

/// Whether a job is due at `now`; then `next` is moved on. Periods that were missed are left out.
fn is_due(next: &mut Instant, period: Duration, now: Instant) -> bool {
    let is_due = now + EARLY >= *next;
    if is_due {
        let was_missed = now > *next + period;
        *next = if was_missed { now } else { *next } + period;
    }
    is_due
}

impl<J> Drop for Schedule<J> {
    fn drop(&mut self) {
        let mut scheduler = self.scheduler.clone();
        // The task of the scheduler would continue otherwise.
        tokio::spawn(async move { scheduler.shutdown().await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    #[test]
    fn a_job_is_due_once_in_each_period() {
        let (start, period) = (Instant::now(), Duration::from_secs(10));
        let mut next = start + period;
        let mut due_at = |seconds: &[u64]| {
            let is_due = |second: &&u64| is_due(&mut next, period, start + Duration::from_secs(**second));
            seconds.iter().filter(is_due).copied().collect::<Vec<_>>()
        };
        assert_eq!(due_at(&[1, 9, 10, 11, 19, 20]), [10, 20]);
        // Nothing ran for a while.
        assert_eq!(due_at(&[65, 66, 67, 75, 76]), [65, 75]);
    }

    #[tokio::test]
    async fn a_process_that_stood_still_goes_on() {
        let mut schedule = Schedule::new().await.unwrap();
        schedule.every(Duration::from_secs(1), ()).await.unwrap();
        schedule.start().await.unwrap();
        schedule.next().await.unwrap();
        // The only thread of this test, like a machine that sleeps.
        std::thread::sleep(Duration::from_millis(4500));
        for _ in 0..3 {
            timeout(Duration::from_secs(5), schedule.next()).await.expect("the schedule goes on").unwrap();
        }
    }
}
