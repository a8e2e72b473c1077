//! Processor time that processes and their tasks use.

use crate::{load, proc::processor_time_of_family};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tokio::time::Instant;

/// A process that is measured. Processes with the same name are added up.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// The name that is printed.
    pub name: &'static str,
    /// The process id.
    pub id: u32,
    /// Health address of a service, which serves the metrics of its tasks.
    pub health: Option<SocketAddr>,
}

/// Processor time that was used so far, in seconds.
#[derive(Debug)]
pub struct Usage {
    at: Instant,
    processes: BTreeMap<&'static str, f64>,
    /// By service and task. HTTP requests are not included: they run in one task per connection.
    tasks: BTreeMap<String, f64>,
}

impl Usage {
    /// Reads the processor time of these processes and their tasks.
    pub async fn now(measured: &[Measured]) -> anyhow::Result<Self> {
        let (mut processes, mut tasks) = (BTreeMap::new(), BTreeMap::new());
        for &Measured { name, id, health } in measured {
            *processes.entry(name).or_insert(0.0) += processor_time_of_family(id)?;
            if let Some(health) = health {
                tasks.extend(busy_tasks(name, &String::from_utf8_lossy(&load::fetch(health, "/metrics").await?)));
            }
        }
        Ok(Self { at: Instant::now(), processes, tasks })
    }

    /// Time since `before`.
    pub fn length_since(&self, before: &Self) -> Duration {
        self.at - before.at
    }

    /// Processor time of each process since `before`, in seconds.
    pub fn processes_since(&self, before: &Self) -> Vec<(&'static str, f64)> {
        let used = |(&name, &used): (&&'static str, &f64)| (name, used - before.processes.get(name).unwrap_or(&0.0));
        self.processes.iter().map(used).collect()
    }

    /// The task that used the most processor time since `before`, and its share of a core.
    pub fn busiest_task_since(&self, before: &Self) -> Option<(&str, f64)> {
        let length = self.length_since(before).as_secs_f64();
        let share = |(name, used): (&String, &f64)| (used - before.tasks.get(name).unwrap_or(&0.0)) / length;
        let shares = self.tasks.iter().map(|task| (task.0.as_str(), share(task)));
        shares.max_by(|one, other| one.1.total_cmp(&other.1))
    }
}

/// The tasks in the metrics of a service, with the seconds for which each was polled.
fn busy_tasks(service: &str, metrics: &str) -> Vec<(String, f64)> {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix("off_task_busy_microseconds_total{"));
    lines
        .filter_map(|line| {
            let (labels, micros) = line.rsplit_once("} ")?;
            let task = labels.split("task=\"").nth(1)?.trim_end_matches('"');
            Some((format!("{service}: {task}"), micros.parse::<f64>().ok()? / 1e6))
        })
        .collect()
}
