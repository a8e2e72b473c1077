//! Periodic jobs.

use anyhow::Context;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job, JobScheduler};

/// Maximum number of jobs of a schedule, each of which is due once at most.
const MAX_JOBS: usize = 8;

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
        let repeated = Job::new_repeated(period, move |_, _| {
            if !is_queued.swap(true, Ordering::Relaxed) {
                let _ = sender.try_send((job.clone(), is_queued.clone()));
            }
        });
        self.scheduler.add(repeated.context("cannot create a job")?).await.context("cannot schedule a job")?;
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

impl<J> Drop for Schedule<J> {
    fn drop(&mut self) {
        let mut scheduler = self.scheduler.clone();
        // The task of the scheduler would continue otherwise.
        tokio::spawn(async move { scheduler.shutdown().await });
    }
}
