//! A small file system, to test what a server does when its disk is full.

use anyhow::Context;
use std::{
    fs::File,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The mount source of such a file system, so that no other is ever unmounted.
const NAME: &str = "off-small-disk";

/// The file that fills the disk.
const FILLER: &str = "filler";

/// A tmpfs, mounted on a folder until this is dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts a tmpfs of `mebibytes` MiB on `folder` for the owner of the folder; `None` if this user may not mount.
    pub fn mount(folder: &Path, mebibytes: u32) -> Option<Self> {
        let owner = std::fs::metadata(folder).ok()?;
        let options = format!("size={mebibytes}m,mode=0700,uid={},gid={}", owner.uid(), owner.gid());
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, NAME]).arg(folder);
        let mounted = command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then(|| Self(folder.to_owned()))
    }

    /// Unmounts the small disk that a killed process left on `folder`. Leaves other mounts alone.
    pub fn unmount_leftover(folder: &Path) {
        // proc_mounts(5): the first two fields are source and mount point; spaces are escaped.
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let mount_point = folder.display().to_string().replace(' ', "\\040");
        let is_ours = |line: &str| line.split(' ').take(2).eq([NAME, mount_point.as_str()]);
        if mounts.lines().any(is_ours) {
            drop(Self(folder.to_owned()));
        }
    }

    /// Unmounts the disk and leaves a copy of its files in `folder`. No server may use it any more.
    pub fn keep(self) -> anyhow::Result<()> {
        let folder = self.0.clone();
        let copy = folder.with_extension("copy");
        let run = |command: &mut Command| {
            let done = command.status().with_context(|| format!("cannot copy {}", folder.display()))?;
            anyhow::ensure!(done.success(), "cannot copy {}: {done}", folder.display());
            anyhow::Ok(())
        };
        run(Command::new("cp").arg("--archive").arg(&folder).arg(&copy))?;
        drop(self);
        std::fs::remove_dir(&folder).with_context(|| format!("cannot copy {}", folder.display()))?;
        run(Command::new("mv").arg(&copy).arg(&folder))
    }

    /// Fills the disk.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::create(self.0.join(FILLER)).context("cannot fill the disk")?;
        while file.write_all(&[0; 4096]).is_ok() {}
        Ok(())
    }

    /// Frees the space that [`Self::fill`] took.
    pub fn free(&self) -> anyhow::Result<()> {
        std::fs::remove_file(self.0.join(FILLER)).context("cannot free space on the disk")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because the server may still be stopping.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
