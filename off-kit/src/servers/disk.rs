//! A small disk, to see what a server does when it is full.

use anyhow::Context;
use std::{
    fs::File,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What such a disk is called, so that no other is ever unmounted.
const NAME: &str = "off-small-disk";

/// What takes the room that is left.
const FILLER: &str = "filler";

/// A file system in memory, mounted on a folder until this is dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// A disk of so many MiB on `folder`, for its owner; `None` where this user may not mount anything.
    pub fn mount(folder: &Path, mebibytes: u32) -> Option<Self> {
        let owner = std::fs::metadata(folder).ok()?;
        let options = format!("size={mebibytes}m,mode=0700,uid={},gid={}", owner.uid(), owner.gid());
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, NAME]).arg(folder);
        let mounted = command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then(|| Self(folder.to_owned()))
    }

    /// Unmounts what a process left on `folder` that was killed, and nothing else that may be mounted there.
    pub fn unmount_leftover(folder: &Path) {
        // proc_mounts(5): what is mounted, and where; blanks are escaped.
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let place = folder.display().to_string().replace(' ', "\\040");
        let is_ours = |line: &str| line.split(' ').take(2).eq([NAME, place.as_str()]);
        if mounts.lines().any(is_ours) {
            drop(Self(folder.to_owned()));
        }
    }

    /// Leaves on `folder` a copy of what is on the disk, which no server uses any more.
    pub fn keep(self) -> anyhow::Result<()> {
        let folder = self.0.clone();
        let copy = folder.with_extension("copy");
        let run = |command: &mut Command| {
            let done = command.status().with_context(|| format!("cannot keep {}", folder.display()))?;
            anyhow::ensure!(done.success(), "cannot keep {}: {done}", folder.display());
            anyhow::Ok(())
        };
        run(Command::new("cp").arg("--archive").arg(&folder).arg(&copy))?;
        drop(self);
        std::fs::remove_dir(&folder).with_context(|| format!("cannot keep {}", folder.display()))?;
        run(Command::new("mv").arg(&copy).arg(&folder))
    }

    /// Takes all the room that is left.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::create(self.0.join(FILLER)).context("cannot fill the disk")?;
        while file.write_all(&[0; 4096]).is_ok() {}
        Ok(())
    }

    /// Gives it back.
    pub fn free(&self) -> anyhow::Result<()> {
        std::fs::remove_file(self.0.join(FILLER)).context("cannot make room on the disk")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may still be ending.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
