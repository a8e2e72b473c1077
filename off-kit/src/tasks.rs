//! Supervised tasks: a task that panics or ends before the shutdown stops the process with a failing exit code.

mod every;
mod poll_time;

pub use every::Every;

use crate::telemetry::Metric;
use anyhow::anyhow;
use futures::FutureExt;
use poll_time::PollTime;
use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, error, error_span};

/// The metrics of this module.
pub(crate) const METRICS: [Metric; 1] =
    [Metric::counter("off_task_busy_microseconds_total", "Time for which a supervised task used a processor")];

/// How long all tasks may take to end after the start of the shutdown.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// The grace period: how long a task may finish its work after the start of the shutdown.
const GRACE_PERIOD: Duration = Duration::from_secs(7);

/// How often the shutdown hook checks whether all other tasks have ended.
const HOOK_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The tasks of one service. Clones share them.
#[derive(Debug, Clone)]
pub struct Tasks {
    service: &'static str,
    tracker: TaskTracker,
    stop: CancellationToken,
    /// The first failure, with which the process ends.
    failure: Arc<Mutex<Option<anyhow::Error>>>,
}

impl Tasks {
    /// No tasks yet. `service` is a label of their metrics.
    pub fn new(service: &'static str) -> Self {
        Self { service, tracker: TaskTracker::new(), stop: CancellationToken::new(), failure: Arc::default() }
    }

    /// Spawns `task`, which must run until the shutdown. If it fails, panics or returns before, all tasks stop.
    pub fn spawn(&self, name: impl Into<String>, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let name = name.into();
        let tasks = self.clone();
        let span = error_span!("task", task = name);
        let task = PollTime::of(task, self.service, &name);
        let watched = async move {
            let failure = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(Ok(())) if tasks.stop.is_cancelled() => return,
                Ok(Ok(())) => anyhow!("task {name} ended unexpectedly"),
                Ok(Err(error)) => error.context(format!("task {name} failed")),
                Err(panic) => anyhow!("task {name} panicked: {}", panic_message(panic.as_ref())),
            };
            tasks.fail(failure);
        };
        self.tracker.spawn(watched.instrument(span));
    }

    /// Records a failure and starts the shutdown.
    pub fn fail(&self, failure: anyhow::Error) {
        error!("{failure:#}");
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.stop.cancel();
    }

    /// Starts the shutdown; [`Tasks::stopped`] waits until it is complete.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether the shutdown has started.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Completes when the shutdown starts. The loops of all tasks select on this.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Completes when the grace period has elapsed: tasks must then cancel unfinished work.
    pub async fn grace_period_elapsed(&self) {
        self.stopping().await;
        tokio::time::sleep(GRACE_PERIOD).await;
    }

    /// Runs `hook` after all other tasks have ended, for resources that they need until then. At most one hook per
    /// service.
    pub fn on_shutdown(&self, hook: impl Future<Output = ()> + Send + 'static) {
        let tasks = self.clone();
        self.spawn("hook", async move {
            tasks.stopping().await;
            while tasks.tracker.len() > 1 {
                tokio::time::sleep(HOOK_POLL_INTERVAL).await;
            }
            hook.await;
            Ok(())
        });
    }

    /// Completes when all tasks have ended after the start of the shutdown.
    ///
    /// # Errors
    /// The first failure of a task, or tasks that did not end within 15 s.
    pub async fn stopped(&self) -> anyhow::Result<()> {
        self.stopping().await;
        self.tracker.close();
        let result = tokio::time::timeout(STOP_TIMEOUT, self.tracker.wait()).await;
        if let Some(failure) = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(failure);
        }
        result.map_err(|_| anyhow!("{} tasks did not stop within {} s", self.tracker.len(), STOP_TIMEOUT.as_secs()))
    }
}

/// The message of a panic, if it is text.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_a_task_stops_the_others_and_is_returned() {
        let tasks = Tasks::new("test");
        let waiting = tasks.clone();
        tasks.spawn("waiting", async move {
            waiting.stopping().await;
            Ok(())
        });
        tasks.spawn("broken", async { panic!("out of range") });
        let failure = tasks.stopped().await.unwrap_err();
        assert_eq!(failure.to_string(), "task broken panicked: out of range");
    }

    #[tokio::test]
    async fn a_task_that_ends_early_is_a_failure() {
        let tasks = Tasks::new("test");
        tasks.spawn("short", async { Ok(()) });
        assert_eq!(tasks.stopped().await.unwrap_err().to_string(), "task short ended unexpectedly");
    }

    #[tokio::test]
    async fn tasks_that_end_on_shutdown_are_no_failure() {
        let tasks = Tasks::new("test");
        let waiting = tasks.clone();
        tasks.spawn("waiting", async move {
            waiting.stopping().await;
            Ok(())
        });
        tasks.stop();
        tasks.stopped().await.unwrap();
    }
}
