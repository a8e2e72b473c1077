//! Measures how busy a task is. A task runs on one processor at a time, so a task that is busy all the time is a
//! bottleneck that more processors do not remove.

use metrics::{Counter, counter};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// Measures the poll time of a task and counts it in `off_task_busy_microseconds_total`.
pub(super) struct PollTime<F> {
    task: Pin<Box<F>>,
    counter: Counter,
    /// The time that is not counted yet, less than a microsecond.
    remainder: Duration,
}

impl<F> PollTime<F> {
    pub(super) fn of(task: F, service: &'static str, name: &str) -> Self {
        let counter = counter!("off_task_busy_microseconds_total", "service" => service, "task" => name.to_owned());
        Self { task: Box::pin(task), counter, remainder: Duration::ZERO }
    }
}

impl<F: Future> Future for PollTime<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let started = Instant::now();
        let polled = self.task.as_mut().poll(context);
        let busy = self.remainder + started.elapsed();
        self.counter.increment(u64::try_from(busy.as_micros()).unwrap_or(u64::MAX));
        self.remainder = Duration::from_nanos(u64::from(busy.subsec_nanos() % 1000));
        polled
    }
}
