//! `off` as a process of its own, so that it can be measured and killed.

use anyhow::Context;
use nix::{sys::signal::Signal, unistd::Pid};
use std::process::Stdio;
use tokio::process::{Child, Command};

/// A running `off`.
#[derive(Debug)]
pub struct Program(Child);

impl Program {
    /// Starts `off` with these arguments and settings; it has to be built.
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
        Ok(Self(child.with_context(|| format!("{} is not there: ./run doctor builds it", path.display()))?))
    }

    pub fn id(&self) -> anyhow::Result<u32> {
        self.0.id().context("it has ended")
    }

    /// The memory it holds, in megabytes.
    pub fn memory(&self) -> anyhow::Result<f64> {
        memory_of(self.id()?)
    }

    /// The processor time it has used, in seconds.
    pub fn processor_time(&self) -> anyhow::Result<f64> {
        processor_time_of(self.id()?)
    }

    /// The files and connections it has open.
    pub fn files(&self) -> anyhow::Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.id()?))?.count())
    }

    /// `kill -9`.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.0.kill().await?)
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        nix::sys::signal::kill(Pid::from_raw(i32::try_from(self.id()?)?), Signal::SIGTERM)?;
        let status = self.0.wait().await?;
        anyhow::ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

/// The processor time that the process `id` has used, in seconds.
pub fn processor_time_of(id: u32) -> anyhow::Result<f64> {
    Ok(Stat::of(id)?.own)
}

/// The processor time that the process `id` and its children have used, in seconds; also those that have ended.
pub fn processor_time_of_family(id: u32) -> anyhow::Result<f64> {
    let parent = Stat::of(id)?;
    let mut time = parent.own + parent.ended_children;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(child) = entry.file_name().to_string_lossy().parse() else { continue };
        // One that ends meanwhile counts at the next look.
        time += Stat::of(child).ok().filter(|stat| stat.parent == id).map_or(0.0, |stat| stat.own);
    }
    Ok(time)
}

/// What proc_pid_stat(5) tells of a process, in seconds.
struct Stat {
    parent: u32,
    own: f64,
    ended_children: f64,
}

impl Stat {
    fn of(id: u32) -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        // User and system times in hundredths of a second; these fields begin with the third.
        let number = |field: usize| fields.get(field).context("no times")?.parse::<u32>().context("no number");
        let seconds = |user: usize, system: usize| anyhow::Ok(f64::from(number(user)? + number(system)?) / 100.0);
        Ok(Self { parent: number(1)?, own: seconds(11, 12)?, ended_children: seconds(13, 14)? })
    }
}

/// The memory that the process `id` holds, in megabytes.
pub fn memory_of(id: u32) -> anyhow::Result<f64> {
    status_of(id, "VmRSS:")
}

/// The most memory that the process `id` has held so far, in megabytes.
pub fn highest_memory_of(id: u32) -> anyhow::Result<f64> {
    status_of(id, "VmHWM:")
}

/// A size that proc_pid_status(5) gives in kilobytes, in megabytes.
fn status_of(id: u32, name: &'static str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find(|line| line.starts_with(name)).context(name)?;
    let kilobytes: f64 = line.split_whitespace().nth(1).context(name)?.parse()?;
    Ok(kilobytes / 1024.0)
}
