//! `off` as a separate process that can be measured and killed.

use anyhow::Context;
use nix::{sys::signal::Signal, unistd::Pid};
use std::process::Stdio;
use tokio::process::{Child, Command};

/// A running `off` process.
#[derive(Debug)]
pub struct Program(Child);

impl Program {
    /// Starts `off` with these arguments and environment variables. The binary must have been built.
    pub fn start(arguments: &[&str], settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let path = std::env::current_exe()?.with_file_name("off");
        let child = Command::new(&path)
            .args(arguments)
            .envs(settings.iter().copied())
            .env("OFF_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        Ok(Self(child.with_context(|| format!("{} does not exist: ./run doctor builds it", path.display()))?))
    }

    /// Process id; an error after the process has exited.
    pub fn id(&self) -> anyhow::Result<u32> {
        self.0.id().context("the process has exited")
    }

    /// Resident memory, in megabytes.
    pub fn memory(&self) -> anyhow::Result<f64> {
        memory_of(self.id()?)
    }

    /// Processor time used so far, in seconds.
    pub fn processor_time(&self) -> anyhow::Result<f64> {
        processor_time_of(self.id()?)
    }

    /// Number of open files and connections.
    pub fn files(&self) -> anyhow::Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.id()?))?.count())
    }

    /// `kill -9`.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.0.kill().await?)
    }

    /// Sends SIGTERM and waits for a successful exit.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        nix::sys::signal::kill(Pid::from_raw(i32::try_from(self.id()?)?), Signal::SIGTERM)?;
        let status = self.0.wait().await?;
        anyhow::ensure!(status.success(), "the process exited with {status}");
        Ok(())
    }
}

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
