//! Jobs that are due again and again.

use anyhow::Context;
use std::{fmt, time::Duration};
use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job, JobScheduler};

/// Jobs that are due and not yet taken up; what more becomes due meanwhile is left out, not piled up.
const WAITING: usize = 8;

/// A schedule. What is due is asked for with [`Schedule::next`], so that a slow job is never run twice at once.
pub struct Schedule<J> {
    scheduler: JobScheduler,
    report: mpsc::Sender<J>,
    due: mpsc::Receiver<J>,
}

impl<J> fmt::Debug for Schedule<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule").finish_non_exhaustive()
    }
}

impl<J: Clone + Send + Sync + 'static> Schedule<J> {
    pub async fn new() -> anyhow::Result<Self> {
        let scheduler = JobScheduler::new().await.context("cannot make a schedule")?;
        let (report, due) = mpsc::channel(WAITING);
        Ok(Self { scheduler, report, due })
    }

    /// Makes `job` due every `period`, which is rounded up to whole seconds: the scheduler knows nothing finer.
    pub async fn every(&self, period: Duration, job: J) -> anyhow::Result<()> {
        let whole = period.as_secs() + u64::from(period.subsec_nanos() > 0);
        let period = Duration::from_secs(whole.max(1));
        let report = self.report.clone();
        let repeated = Job::new_repeated(period, move |_, _| {
            // Full: the job is late already, and once is enough to catch up.
            let _ = report.try_send(job.clone());
        });
        self.scheduler.add(repeated.context("cannot make a job")?).await.context("cannot schedule a job")?;
        Ok(())
    }

    pub async fn start(&self) -> anyhow::Result<()> {
        self.scheduler.start().await.context("the schedule does not start")
    }

    /// Waits for the next job that is due.
    pub async fn next(&mut self) -> anyhow::Result<J> {
        self.due.recv().await.context("the schedule has ended")
    }
}

impl<J> Drop for Schedule<J> {
    fn drop(&mut self) {
        let mut scheduler = self.scheduler.clone();
        // Its own task would tick on without it.
        tokio::spawn(async move { scheduler.shutdown().await });
    }
}
