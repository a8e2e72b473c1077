//! What processes and their tasks use of the processors.

use crate::{load, program::processor_time_of_family};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tokio::time::Instant;

/// A process that is measured. Several of one name count together.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    pub name: &'static str,
    pub id: u32,
    /// The health port of a service.
    pub health: Option<SocketAddr>,
}

/// Processor time that was used up to a moment, in seconds.
#[derive(Debug)]
pub struct Used {
    at: Instant,
    processes: BTreeMap<&'static str, f64>,
    /// By service and task. What answers requests is spread over a task for each connection, and is not among them.
    tasks: BTreeMap<String, f64>,
}

impl Used {
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

    /// How long it is since `before`.
    pub fn length_since(&self, before: &Self) -> Duration {
        self.at - before.at
    }

    /// What each process used since `before`, in seconds.
    pub fn processes_since(&self, before: &Self) -> Vec<(&'static str, f64)> {
        let used = |(&name, &used): (&&'static str, &f64)| (name, used - before.processes.get(name).unwrap_or(&0.0));
        self.processes.iter().map(used).collect()
    }

    /// The task that used most since `before`, and its share of a core.
    pub fn busiest_task_since(&self, before: &Self) -> Option<(&str, f64)> {
        let length = self.length_since(before).as_secs_f64();
        let share = |(name, used): (&String, &f64)| (used - before.tasks.get(name).unwrap_or(&0.0)) / length;
        let shares = self.tasks.iter().map(|task| (task.0.as_str(), share(task)));
        shares.max_by(|one, other| one.1.total_cmp(&other.1))
    }
}

/// The tasks of a service in its metrics, with the seconds that each was polled.
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
