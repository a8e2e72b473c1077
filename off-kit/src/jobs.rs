//! Runs jobs whose work is slow and happens outside of off, like sending e-mail.
//!
//! A job is a row that a replica leases. If the replica dies, the lease ends and another one runs the job again. A
//! listener of messages does not fit such work: it acknowledges a batch when all of it is done, so that one slow server
//! would hold up hundreds of messages.

use crate::{LogLimit, Tasks, backoff::Backoff, telemetry::Metric};
use metrics::{counter, gauge, histogram};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    task::{JoinError, JoinSet},
    time::Instant,
};
use tracing::warn;

/// The metrics of this module, for the services that use it.
pub const METRICS: [Metric; 3] = [
    Metric::gauge("off_jobs_running", "Jobs outside of off that are running, by queue"),
    Metric::counter("off_jobs_finished_total", "Jobs outside of off that were run, by queue"),
    Metric::histogram("off_job_seconds", "Time that a job outside of off took, by queue"),
];

/// How often the queue is polled, and how often [`Limits::per_second`] is renewed.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// After this many jobs in a row that found the other side unavailable, no job starts for a pause.
const PAUSE_AFTER: u32 = 3;

/// The range of that pause. It is in real time, like everything that others notice.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_mins(1);

/// A queue of jobs in Postgres.
pub trait JobQueue: Send + Sync + 'static {
    /// Its name in logs and metrics.
    const NAME: &'static str;
    /// A job that is leased.
    type Job: Send + 'static;
    /// What became of a job.
    type Outcome: Send + 'static;

    /// Leases at most `limit` jobs that are due, for longer than they can run; none for the destinations `busy`.
    fn lease(&self, limit: usize, busy: &[String]) -> impl Future<Output = anyhow::Result<Vec<Self::Job>>> + Send;

    /// Where the work of a job goes: one destination that is slow must not take the place of all others.
    fn destination(job: &Self::Job) -> &str;

    /// Runs a job, within a time limit.
    fn run(&self, job: &Self::Job) -> impl Future<Output = Attempt<Self::Outcome>> + Send;

    /// Stores outcomes, unless the lease of a job has ended.
    fn record(&self, outcomes: &[(Self::Job, Self::Outcome)]) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Ends the leases of jobs that were not run.
    fn release(&self, jobs: &[Self::Job]) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What a run of a job showed.
#[derive(Debug)]
pub struct Attempt<O> {
    /// What became of the job.
    pub outcome: O,
    /// Whether the other side was unavailable, which probably concerns the next jobs, too; `None` if it was not asked.
    pub is_unavailable: Option<bool>,
}

/// The limits of one replica.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Jobs that run at a time.
    pub at_once: usize,
    /// Jobs for one destination that run at a time.
    pub per_destination: usize,
    /// Jobs that start per second.
    pub per_second: usize,
}

/// Spawns a task that runs the jobs of `queue` until the shutdown.
pub fn run<Q: JobQueue>(tasks: &Tasks, queue: Q, limits: Limits) {
    let runner = Runner {
        queue: Arc::new(queue),
        limits,
        tasks: tasks.clone(),
        running: JoinSet::new(),
        destinations: HashMap::new(),
        finished: Vec::new(),
        unavailable_in_a_row: 0,
        backoff: Backoff::new(MIN_PAUSE, MAX_PAUSE),
        paused_until: None,
        log_limit: LogLimit::default(),
    };
    tasks.spawn(format!("jobs {}", Q::NAME), runner.run());
}

/// How many jobs were leased, and how many of them started.
#[derive(Debug, Default, Clone, Copy)]
struct Started {
    leased: usize,
    started: usize,
}

type Finished<Q> = (<Q as JobQueue>::Job, Attempt<<Q as JobQueue>::Outcome>);

struct Runner<Q: JobQueue> {
    queue: Arc<Q>,
    limits: Limits,
    tasks: Tasks,
    running: JoinSet<Finished<Q>>,
    /// How many jobs run for each destination.
    destinations: HashMap<String, usize>,
    /// Outcomes that are not stored yet.
    finished: Vec<(Q::Job, Q::Outcome)>,
    unavailable_in_a_row: u32,
    backoff: Backoff,
    paused_until: Option<Instant>,
    log_limit: LogLimit,
}

impl<Q: JobQueue> Runner<Q> {
    async fn run(mut self) -> anyhow::Result<()> {
        let tasks = self.tasks.clone();
        let mut polls = tasks.every(POLL_INTERVAL);
        let mut budget = 0;
        // Whether the queue may have more jobs than were leased.
        let mut has_more = false;
        loop {
            tokio::select! {
                biased;
                is_running = polls.tick() => {
                    if !is_running {
                        break;
                    }
                    (budget, has_more) = (self.limits.per_second, true);
                }
                Some(done) = self.running.join_next() => self.finish(done),
            }
            self.finish_all();
            self.record().await;
            let is_paused = self.paused_until.is_some_and(|until| Instant::now() < until);
            let limit = budget.min(self.limits.at_once - self.running.len());
            // While outcomes cannot be stored, the lease of a finished job may end, and it would run again.
            if has_more && limit > 0 && !is_paused && self.finished.is_empty() && !tasks.is_stopping() {
                let Started { leased, started } = self.start_jobs(limit).await;
                budget -= started;
                has_more = leased == limit;
            }
        }
        self.end().await;
        Ok(())
    }

    /// Leases at most `limit` jobs, and starts those whose destination is not full.
    async fn start_jobs(&mut self, limit: usize) -> Started {
        let full = self.destinations.iter().filter(|(_, running)| **running >= self.limits.per_destination);
        let busy: Vec<String> = full.map(|(destination, _)| destination.clone()).collect();
        let jobs = match self.queue.lease(limit, &busy).await {
            Ok(jobs) => jobs,
            Err(error) => {
                self.warn("cannot lease jobs", &error);
                return Started::default();
            }
        };
        let leased = jobs.len();
        let (mut started, mut surplus) = (0, Vec::new());
        for job in jobs {
            let running = self.destinations.entry(Q::destination(&job).to_owned()).or_default();
            if *running >= self.limits.per_destination {
                surplus.push(job);
                continue;
            }
            *running += 1;
            started += 1;
            let queue = self.queue.clone();
            self.running.spawn(async move {
                let started_at = Instant::now();
                let attempt = queue.run(&job).await;
                histogram!("off_job_seconds", "queue" => Q::NAME).record(started_at.elapsed());
                (job, attempt)
            });
        }
        gauge!("off_jobs_running", "queue" => Q::NAME).set(self.running.len() as f64);
        if !surplus.is_empty()
            && let Err(error) = self.queue.release(&surplus).await
        {
            self.warn("cannot release jobs, which wait until their lease ends", &error);
        }
        Started { leased, started }
    }

    fn finish_all(&mut self) {
        while let Some(done) = self.running.try_join_next() {
            self.finish(done);
        }
    }

    fn finish(&mut self, done: Result<Finished<Q>, JoinError>) {
        let (job, attempt) = match done {
            Ok(finished) => finished,
            // Ends the process like a panic of any other task.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return,
        };
        counter!("off_jobs_finished_total", "queue" => Q::NAME).increment(1);
        if let Some(running) = self.destinations.get_mut(Q::destination(&job)) {
            *running -= 1;
            if *running == 0 {
                self.destinations.remove(Q::destination(&job));
            }
        }
        if attempt.is_unavailable == Some(true) {
            self.unavailable_in_a_row += 1;
            // Not for the jobs that began before a pause and failed during it.
            let is_paused = self.paused_until.is_some_and(|until| Instant::now() < until);
            if self.unavailable_in_a_row >= PAUSE_AFTER && !is_paused {
                let pause = self.backoff.pause();
                warn!("{}: the other side is unavailable, pausing for {:.1} s", Q::NAME, pause.as_secs_f64());
                self.paused_until = Some(Instant::now() + pause);
            }
        } else if attempt.is_unavailable == Some(false) {
            self.unavailable_in_a_row = 0;
            self.backoff = Backoff::new(MIN_PAUSE, MAX_PAUSE);
            self.paused_until = None;
        }
        self.finished.push((job, attempt.outcome));
    }

    /// Stores the outcomes. Keeps them if that fails.
    async fn record(&mut self) {
        if self.finished.is_empty() {
            return;
        }
        match self.queue.record(&self.finished).await {
            Ok(()) => self.finished.clear(),
            Err(error) => self.warn("cannot store the outcomes of jobs", &error),
        }
    }

    /// Waits until the running jobs have finished, or the grace period has elapsed. The others run again when their
    /// lease ends.
    async fn end(&mut self) {
        let tasks = self.tasks.clone();
        let finish_all = async {
            while let Some(done) = self.running.join_next().await {
                self.finish(done);
            }
        };
        tokio::select! {
            () = finish_all => {}
            () = tasks.grace_period_elapsed() => {}
        }
        self.running.abort_all();
        self.finish_all();
        self.record().await;
    }

    fn warn(&self, what: &str, error: &anyhow::Error) {
        if let Some(suppressed) = self.log_limit.admit() {
            warn!(suppressed, "{}: {what}, retrying: {error:#}", Q::NAME);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, MutexGuard};
    use tokio::time::sleep;

    /// A queue in memory. A job is its destination and how long it takes, in seconds.
    #[derive(Debug, Default, Clone)]
    struct Queue(Arc<Mutex<State>>);

    #[derive(Debug, Default)]
    struct State {
        waiting: Vec<(&'static str, u64)>,
        running: HashMap<&'static str, usize>,
        most: HashMap<&'static str, usize>,
        done: Vec<&'static str>,
        is_unavailable: bool,
    }

    impl Queue {
        fn of(jobs: &[(&'static str, u64, usize)]) -> Self {
            let queue = Self::default();
            for (destination, seconds, count) in jobs {
                queue.state().waiting.extend(vec![(*destination, *seconds); *count]);
            }
            queue
        }

        fn state(&self) -> MutexGuard<'_, State> {
            self.0.lock().unwrap()
        }

        fn count_done(&self, destination: &str) -> usize {
            self.state().done.iter().filter(|done| **done == destination).count()
        }
    }

    impl JobQueue for Queue {
        const NAME: &'static str = "test";
        type Job = (&'static str, u64);
        type Outcome = ();

        async fn lease(&self, limit: usize, busy: &[String]) -> anyhow::Result<Vec<Self::Job>> {
            let mut state = self.state();
            let waiting = std::mem::take(&mut state.waiting);
            let (mut leased, mut left) = (Vec::new(), Vec::new());
            for job in waiting {
                let is_due = leased.len() < limit && !busy.iter().any(|busy| busy == job.0);
                if is_due { leased.push(job) } else { left.push(job) }
            }
            state.waiting = left;
            Ok(leased)
        }

        fn destination(job: &Self::Job) -> &str {
            job.0
        }

        async fn run(&self, (destination, seconds): &Self::Job) -> Attempt<()> {
            {
                let mut state = self.state();
                let running = state.running.entry(destination).or_default();
                *running += 1;
                let running = *running;
                let most = state.most.entry(destination).or_default();
                *most = running.max(*most);
            }
            sleep(Duration::from_secs(*seconds)).await;
            let mut state = self.state();
            *state.running.entry(destination).or_default() -= 1;
            Attempt { outcome: (), is_unavailable: Some(state.is_unavailable) }
        }

        async fn record(&self, outcomes: &[(Self::Job, ())]) -> anyhow::Result<()> {
            self.state().done.extend(outcomes.iter().map(|(job, ())| job.0));
            Ok(())
        }

        async fn release(&self, jobs: &[Self::Job]) -> anyhow::Result<()> {
            self.state().waiting.extend(jobs);
            Ok(())
        }
    }

    fn start(queue: &Queue, limits: Limits) -> Tasks {
        let tasks = Tasks::new("test");
        run(&tasks, queue.clone(), limits);
        tasks
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_destination_does_not_hold_up_the_others() {
        let queue = Queue::of(&[("slow", 1000, 50), ("fast", 1, 20)]);
        start(&queue, Limits { at_once: 8, per_destination: 2, per_second: 100 });
        sleep(Duration::from_secs(30)).await;
        assert_eq!((queue.count_done("fast"), queue.count_done("slow")), (20, 0));
        assert_eq!(queue.state().most, HashMap::from([("slow", 2), ("fast", 2)]));
    }

    #[tokio::test(start_paused = true)]
    async fn one_destination_gets_its_next_job_when_one_has_finished() {
        let queue = Queue::of(&[("a", 0, 100)]);
        start(&queue, Limits { at_once: 8, per_destination: 2, per_second: 40 });
        sleep(Duration::from_millis(1500)).await;
        assert_eq!(queue.count_done("a"), 80);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_jobs_start_than_the_rate_allows() {
        let queue = Queue::of(&[("a", 0, 100)]);
        start(&queue, Limits { at_once: 50, per_destination: 50, per_second: 10 });
        sleep(Duration::from_millis(4500)).await;
        assert_eq!(queue.count_done("a"), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_pause_while_the_other_side_is_unavailable() {
        let queue = Queue::of(&[("a", 0, 1000)]);
        queue.state().is_unavailable = true;
        start(&queue, Limits { at_once: 1, per_destination: 1, per_second: 100 });
        sleep(Duration::from_mins(10)).await;
        let tried = queue.count_done("a");
        assert!((10..30).contains(&tried), "{tried} jobs were tried in ten minutes");
        queue.state().is_unavailable = false;
        sleep(Duration::from_mins(2)).await;
        assert_eq!(queue.count_done("a"), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn running_jobs_finish_at_the_shutdown_and_no_new_ones_start() {
        let queue = Queue::of(&[("a", 3, 10)]);
        let tasks = start(&queue, Limits { at_once: 2, per_destination: 2, per_second: 100 });
        sleep(Duration::from_secs(1)).await;
        tasks.stop();
        tasks.stopped().await.unwrap();
        assert_eq!((queue.count_done("a"), queue.state().waiting.len()), (2, 8));
    }
}
