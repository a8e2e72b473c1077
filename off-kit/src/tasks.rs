//! Supervised tasks: one that panics or ends before it was asked to stops the process with a failing exit code.

mod poll_time;

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

/// How long tasks may take to finish what they hold once they are asked to stop.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// How long a task may go on with what it holds, before it gives that up and ends.
const FINISH_WITHIN: Duration = Duration::from_secs(7);

/// How often the last task looks whether it is the last.
const LAST_LOOK: Duration = Duration::from_millis(10);

/// The tasks of one service. Clones speak of the same tasks.
#[derive(Debug, Clone)]
pub struct Tasks {
    service: &'static str,
    tracker: TaskTracker,
    stop: CancellationToken,
    /// The first failure; what the process ends with.
    failure: Arc<Mutex<Option<anyhow::Error>>>,
}

impl Tasks {
    pub fn new(service: &'static str) -> Self {
        Self { service, tracker: TaskTracker::new(), stop: CancellationToken::new(), failure: Arc::default() }
    }

    /// Runs `task` until it is asked to stop. Whether it fails, panics or just returns before that: all tasks stop.
    pub fn spawn(&self, name: impl Into<String>, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let name = name.into();
        let tasks = self.clone();
        let span = error_span!("task", name);
        let task = PollTime::of(task, self.service, &name);
        let watched = async move {
            let failure = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(Ok(())) if tasks.stop.is_cancelled() => return,
                Ok(Ok(())) => anyhow!("task {name} ended by itself"),
                Ok(Err(error)) => error.context(format!("task {name} failed")),
                Err(panic) => anyhow!("task {name} panicked: {}", panic_message(panic.as_ref())),
            };
            tasks.fail(failure);
        };
        self.tracker.spawn(watched.instrument(span));
    }

    /// Notes a failure and asks all tasks to stop.
    pub fn fail(&self, failure: anyhow::Error) {
        error!("{failure:#}");
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.stop.cancel();
    }

    /// Asks all tasks to stop; [`Tasks::stopped`] waits for it.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Ends when the tasks were asked to stop: every loop of a task selects on this.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Ends some time after the tasks were asked to stop: what has not come to its end by then is to be given up.
    pub async fn out_of_time(&self) {
        self.stopping().await;
        tokio::time::sleep(FINISH_WITHIN).await;
    }

    /// Runs `farewell` once all other tasks have stopped: for what they need until their end. One for each service.
    pub fn spawn_last(&self, farewell: impl Future<Output = ()> + Send + 'static) {
        let tasks = self.clone();
        self.spawn("farewell", async move {
            tasks.stopping().await;
            while tasks.tracker.len() > 1 {
                tokio::time::sleep(LAST_LOOK).await;
            }
            farewell.await;
            Ok(())
        });
    }

    /// Ends when every task has ended after being asked to; fails with what went wrong first.
    pub async fn stopped(&self) -> anyhow::Result<()> {
        self.stopping().await;
        self.tracker.close();
        let in_time = tokio::time::timeout(STOP_WITHIN, self.tracker.wait()).await;
        if let Some(failure) = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(failure);
        }
        in_time.map_err(|_| anyhow!("{} tasks did not stop within {} s", self.tracker.len(), STOP_WITHIN.as_secs()))
    }
}

/// What a panic said, as far as it was text.
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
    async fn a_task_that_panics_stops_the_others_and_is_the_failure() {
        let tasks = Tasks::new("test");
        let waiting = tasks.clone();
        tasks.spawn("patient", async move {
            waiting.stopping().await;
            Ok(())
        });
        tasks.spawn("clumsy", async { panic!("dropped the eggs") });
        let failure = tasks.stopped().await.unwrap_err();
        assert_eq!(failure.to_string(), "task clumsy panicked: dropped the eggs");
    }

    #[tokio::test]
    async fn a_task_that_just_ends_is_a_failure_too() {
        let tasks = Tasks::new("test");
        tasks.spawn("lazy", async { Ok(()) });
        assert_eq!(tasks.stopped().await.unwrap_err().to_string(), "task lazy ended by itself");
    }

    #[tokio::test]
    async fn tasks_that_end_when_asked_end_well() {
        let tasks = Tasks::new("test");
        let waiting = tasks.clone();
        tasks.spawn("patient", async move {
            waiting.stopping().await;
            Ok(())
        });
        tasks.stop();
        tasks.stopped().await.unwrap();
    }
}
