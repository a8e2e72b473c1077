//! Periodic jobs.

use anyhow::Context;
use std::{fmt, time::Duration};
use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job, JobScheduler};

/// Maximum number of due jobs in the queue; further ones are skipped.
const QUEUE_SIZE: usize = 8;

/// A schedule of jobs. The caller takes due jobs with [`Schedule::next`], so that a slow job never runs twice
/// concurrently.
pub struct Schedule<J> {
    scheduler: JobScheduler,
    sender: mpsc::Sender<J>,
    due: mpsc::Receiver<J>,
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
        let (sender, due) = mpsc::channel(QUEUE_SIZE);
        Ok(Self { scheduler, sender, due })
    }

    /// Makes `job` due every `period`, rounded up to whole seconds, the resolution of the scheduler.
    pub async fn every(&self, period: Duration, job: J) -> anyhow::Result<()> {
        let whole = period.as_secs() + u64::from(period.subsec_nanos() > 0);
        let period = Duration::from_secs(whole.max(1));
        let sender = self.sender.clone();
        let repeated = Job::new_repeated(period, move |_, _| {
            // When the queue is full, the job is late already, and one run is enough to catch up.
            let _ = sender.try_send(job.clone());
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
        self.due.recv().await.context("the schedule has ended")
    }
}

impl<J> Drop for Schedule<J> {
    fn drop(&mut self) {
        let mut scheduler = self.scheduler.clone();
        // The task of the scheduler would continue otherwise.
        tokio::spawn(async move { scheduler.shutdown().await });
    }
}
