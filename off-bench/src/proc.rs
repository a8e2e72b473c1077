//! Measurements of a process, from `/proc`, and of a thread.

use anyhow::Context;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike},
};
use std::time::Duration;

/// Processor time that the process `id` has used, in seconds.
pub fn processor_time_of(id: u32) -> anyhow::Result<f64> {
    Ok(Stat::of(id)?.own)
}

/// Processor time that the process `id` and its children have used, in seconds, including exited children.
pub fn processor_time_of_family(id: u32) -> anyhow::Result<f64> {
    let parent = Stat::of(id)?;
    let mut time = parent.own + parent.ended_children;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(child) = entry.file_name().to_string_lossy().parse() else { continue };
        // The time of a child that exits now is in `ended_children` at the next call.
        time += Stat::of(child).ok().filter(|stat| stat.parent == id).map_or(0.0, |stat| stat.own);
    }
    Ok(time)
}

/// Parent and processor times of a process, in seconds; see proc_pid_stat(5).
struct Stat {
    parent: u32,
    own: f64,
    ended_children: f64,
}

impl Stat {
    fn of(id: u32) -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        // The fields after the name begin with field 3. Times are in hundredths of a second.
        let number = |field: usize| fields.get(field).context("missing field")?.parse::<u32>().context("not a number");
        let seconds = |user: usize, system: usize| anyhow::Ok(f64::from(number(user)? + number(system)?) / 100.0);
        Ok(Self { parent: number(1)?, own: seconds(11, 12)?, ended_children: seconds(13, 14)? })
    }
}

/// Runs `work` on this thread; returns the processor time that the thread used for it, in seconds.
pub fn processor_time_for(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let now = || {
        let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
        let seconds = |time: TimeVal| Duration::from_micros(time.num_microseconds().unsigned_abs()).as_secs_f64();
        anyhow::Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
    };
    let before = now()?;
    work()?;
    Ok(now()? - before)
}

/// Resident memory of the process `id`, in megabytes.
pub fn memory_of(id: u32) -> anyhow::Result<f64> {
    status_of(id, "VmRSS:")
}

/// Peak resident memory of the process `id`, in megabytes.
pub fn highest_memory_of(id: u32) -> anyhow::Result<f64> {
    status_of(id, "VmHWM:")
}

/// A size from proc_pid_status(5), converted from kilobytes to megabytes.
fn status_of(id: u32, name: &'static str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find(|line| line.starts_with(name)).context(name)?;
    let kilobytes: f64 = line.split_whitespace().nth(1).context(name)?.parse()?;
    Ok(kilobytes / 1024.0)
}

/// Number of open files and connections of the process `id`.
pub fn files_of(id: u32) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{id}/fd"))?.count())
}
